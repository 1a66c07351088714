//! Log consumers: every event, in order, from a cursor that survives restarts.

mod support;

use engine::ids::Lsn;
use engine::{Error, Happened, LogEvent};
use support::{TestStore, data, formatted, run};

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
        assert_eq!(store.home().consumer("usage"), Some(cursor));
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
        let cursor = store.home().add_consumer("slow").await.expect("added");
        for _ in 0..10 {
            for i in 0..300 {
                store.put(&format!("k{i}"), &data(i, 5000)).await.expect("stored");
            }
            store.home().checkpoint().await.expect("checkpoint");
            store.settle().await;
        }
        let held = store.core.store.table.counts().free;
        let (_, end) = store.home().events(cursor, usize::MAX).await.expect("events");
        store.home().advance_consumer("slow", end).await.expect("advanced");
        store.home().checkpoint().await.expect("checkpoint");
        store.settle().await;
        assert!(store.core.store.table.counts().free > held + 5, "its segments are free");
        assert_eq!(
            store.home().events(cursor, 1).await,
            Err(Error::NotFound),
            "the log does not go back so far"
        );
        store.home().remove_consumer("slow").await.expect("removed");
        assert_eq!(store.home().consumer("slow"), None);
        assert_eq!(store.home().remove_consumer("slow").await, Err(Error::NotFound));
    });
}
