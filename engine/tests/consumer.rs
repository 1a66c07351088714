//! Log consumers: every event, in order, from a cursor that survives restarts.

mod support;

use engine::format::upkeep::{Phase, Position};
use engine::ids::Lsn;
use engine::{Error, Happened, LogEvent, Meter, Metered};
use support::{NAMESPACE, TestStore, data, formatted, run};

const MIB: usize = 1024 * 1024;

fn keys(events: &[LogEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match &event.what {
            Happened::Put { key, .. } => format!("+{}", String::from_utf8_lossy(key)),
            Happened::Removed { key, .. } => format!("-{}", String::from_utf8_lossy(key)),
            other => format!("{other:?}"),
        })
        .collect()
}

/// A position of a consumer that follows the log.
fn following(next: Lsn) -> engine::Result<Position> {
    Ok(Position { next, phase: Phase::Following })
}

/// Writes some MiB of log, and does what is to be done in the background.
async fn write_much(store: &TestStore) {
    for i in 0..300 {
        store.put(&format!("k{i}"), &data(i, 5000)).await.expect("stored");
    }
    store.home().checkpoint().await.expect("checkpoint");
    store.settle().await;
}

/// All events from a cursor, read a few at a time.
async fn all(store: &TestStore, from: Lsn) -> Vec<LogEvent> {
    let (mut events, mut next) = (Vec::new(), from);
    loop {
        let (some, then) = store.home().events(next, 3).await.expect("events");
        if some.is_empty() {
            return events;
        }
        events.extend(some);
        next = then;
    }
}

#[test]
fn a_consumer_sees_what_happens_after_it_came_in_order() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("before", b"x").await.expect("stored");
        let cursor = store.home().add_consumer("usage").await.expect("added");
        for key in ["a", "b", "c", "d"] {
            store.put(key, b"x").await.expect("stored");
        }
        store.delete("b").await.expect("deleted");
        store.put("a", &data(1, 100_000)).await.expect("stored");
        assert_eq!(keys(&all(&store, cursor).await), ["+a", "+b", "+c", "+d", "-b", "+a"]);
    });
}

#[test]
fn a_cursor_survives_a_restart_and_holds_the_log_through_checkpoints_and_compaction() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.home().set_consumer_log_len_max(64 * MIB as u64);
        let cursor = store.home().add_consumer("usage").await.expect("added");
        let mut expected = Vec::new();
        for round in 0..4 {
            for i in 0..300 {
                store.put(&format!("k{i}"), &data(i, 5000)).await.expect("stored");
                expected.push(format!("+k{i}"));
            }
            store.home().checkpoint().await.expect("checkpoint");
            store.settle().await;
            assert_eq!(keys(&all(&store, cursor).await), expected, "round {round}");
        }
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened");
        assert_eq!(store.home().consumer("usage"), following(cursor));
        let events = all(&store, cursor).await;
        assert_eq!(keys(&events), expected, "after a restart");
        let half = events[expected.len() / 2].lsn;
        store.home().advance_consumer("usage", half).await.expect("advanced");
        assert_eq!(all(&store, half).await.len(), expected.len() / 2);
    });
}

#[test]
fn the_log_is_given_back_once_all_consumers_have_seen_it() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.home().set_consumer_log_len_max(64 * MIB as u64);
        let cursor = store.home().add_consumer("slow").await.expect("added");
        for _ in 0..10 {
            write_much(&store).await;
        }
        let held = store.core.store.table.counts().free;
        let (_, end) = store.home().events(cursor, usize::MAX).await.expect("events");
        store.home().advance_consumer("slow", end).await.expect("advanced");
        store.home().checkpoint().await.expect("checkpoint");
        store.settle().await;
        assert!(store.core.store.table.counts().free > held + 5, "its segments are free");
        assert_eq!(
            store.home().events(cursor, 1).await,
            Err(Error::Behind),
            "the log does not go back so far"
        );
        store.home().remove_consumer("slow").await.expect("removed");
        assert_eq!(store.home().consumer("slow"), Err(Error::NotFound));
        assert_eq!(store.home().remove_consumer("slow").await, Err(Error::NotFound));
    });
}

#[test]
fn a_consumer_that_never_comes_back_falls_behind_and_costs_no_more_than_its_limit() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let gone = store.home().add_consumer("gone").await.expect("added");
        let mut free = Vec::new();
        for _ in 0..40 {
            let quick = store.home().add_consumer("quick").await.expect("it never falls behind");
            write_much(&store).await;
            let (events, end) = store.home().events(quick, usize::MAX).await.expect("events");
            assert_eq!(events.len(), 300);
            store.home().advance_consumer("quick", end).await.expect("advanced");
            free.push(store.core.store.table.counts().free);
        }
        // 60 MB of log went through a store of 64: without a bound it would be full.
        assert!(free.iter().min() > Some(&30), "{free:?}");
        assert_eq!(store.core.counters.consumers_behind.value(), 1);
        assert_eq!(store.home().consumer("gone"), Err(Error::Behind));
        assert_eq!(store.home().events(gone, 10).await, Err(Error::Behind));
        assert_eq!(store.home().advance_consumer("gone", Lsn(u64::MAX)).await, Err(Error::Behind));
        assert_eq!(store.home().add_consumer("gone").await, Err(Error::Behind));
    });
}

#[test]
fn no_consumer_keeps_a_full_store_from_taking_new_data() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.home().set_consumer_log_len_max(u64::MAX);
        store.home().add_consumer("gone").await.expect("added");
        for i in 0..20_000u64 {
            if let Err(error) = store.put(&format!("k{}", i % 300), &data(i, 5000)).await {
                assert_eq!(error, Error::Full);
                store.settle().await;
                store.put("last", b"x").await.expect("the log that nobody reads made room");
                assert_eq!(store.home().consumer("gone"), Err(Error::Behind));
                return;
            }
        }
        panic!("the store never was full");
    });
}

#[test]
fn a_consumer_that_fell_behind_is_told_so_after_a_restart_too_and_starts_over_from_a_snapshot() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.home().set_consumer_log_len_max(MIB as u64);
        let cursor = store.home().add_consumer("c").await.expect("added");
        store.put("rests", &data(1, 5000)).await.expect("stored");
        for _ in 0..3 {
            write_much(&store).await;
        }
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened");
        assert_eq!(store.home().consumer("c"), Err(Error::Behind));
        assert_eq!(store.home().events(cursor, 1).await, Err(Error::Behind), "no log with holes is shown");
        let from = store.home().restart_consumer("c").await.expect("restarted");
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened");
        let starting_over = Position { next: from, phase: Phase::Snapshot };
        assert_eq!(store.home().consumer("c"), Ok(starting_over), "it has not dealt with the snapshot");
        let upload = store.create_upload("u").await.expect("begun");
        store.delete("k7").await.expect("deleted");
        let (mut existing, mut place) = (Vec::new(), Some(Default::default()));
        while let Some(from) = place {
            let (page, next) = store.home().existing(from, 7).await.expect("a page");
            existing.extend(page);
            place = next;
        }
        assert_eq!(existing.len(), 301, "300 keys, \"rests\" and an upload, but for one deleted");
        assert!(existing.iter().any(|of| of.key == b"rests"));
        assert!(matches!(existing[300].what, engine::Standing::Upload { upload: of, .. } if of == upload));
        assert_eq!(all(&store, from).await.len(), 2, "what came meanwhile is in the log");
        store.home().advance_consumer("c", from).await.expect("advanced");
        assert_eq!(store.home().consumer("c"), following(from));
    });
}

#[test]
fn a_meter_sums_what_the_shard_counts_whatever_it_is_shown_twice() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("before", &data(1, 3000)).await.expect("stored");
        let cursor = store.home().add_consumer("meter").await.expect("added");
        let (next, usage) = store.home().usage_snapshot();
        assert_eq!(next.0, cursor.0 + 1, "nothing but the cursor lies between");
        let mut meter = Meter::new(next, &usage, &store.catalog);
        for i in 0..30 {
            store.put(&format!("k{}", i % 20), &data(i, 100 * i as usize)).await.expect("stored");
        }
        store.delete("k3").await.expect("deleted");
        let upload = store.create_upload("u").await.expect("begun");
        store.put_part("u", upload, 1, &data(5, 70_000)).await.expect("a part");
        store.complete("u", upload).await.expect("completed");
        let mut from = cursor;
        // As after crashes: the cursor goes back again and again, the meter does not.
        for back in [0, 3, 7, 1000] {
            let (events, end) = store.home().events(from, 9).await.expect("events");
            events.iter().for_each(|event| meter.count(event));
            from = Lsn(end.0.saturating_sub(back).max(cursor.0));
        }
        all(&store, cursor).await.iter().for_each(|event| meter.count(event));
        let counted = |store: &TestStore| {
            let of = store.home().usage().into_iter().find(|(id, _)| *id == store.bucket()).expect("there").1;
            (of.objects as i64, of.versions as i64, of.numbered as i64, of.bytes as i64)
        };
        let summed = |of: Metered| (of.objects, of.versions, of.numbered, of.bytes);
        let of = meter.bucket(store.bucket());
        assert_eq!(summed(of), counted(&store));
        assert_eq!(of.changes, 34);
        assert_eq!(meter.namespace(NAMESPACE), of, "its only bucket");
        store.home().empty_bucket(store.bucket()).await.expect("emptied");
        store.put("after", b"12345").await.expect("stored");
        store.settle().await;
        all(&store, meter.next()).await.iter().for_each(|event| meter.count(event));
        assert_eq!(summed(meter.bucket(store.bucket())), counted(&store));
        assert_eq!(summed(meter.bucket(store.bucket())), (1, 1, 0, 5));
        assert_eq!(meter.bucket(store.bucket()).changes, 36);
    });
}
