//! The due-time index: what becomes due by a time, in order, through crashes and restarts, and with the consumer's cursor.

mod support;

use engine::format::due::DueItem;
use engine::ids::{BucketId, Lsn, UnixMillis, UploadId, VersionId};
use engine::{Due, DueTime, Error, Happened, Standing};
use support::{TestStore, data, formatted, run};

const MIB: usize = 1024 * 1024;
const NULL: DueItem = DueItem::Version(VersionId::Null);

fn time(bucket: BucketId, key: &str, item: DueItem, due: Option<u64>) -> DueTime {
    DueTime { bucket, key: key.into(), item, due: due.map(UnixMillis) }
}

/// Everything that is due by then, three at a time.
async fn due(store: &TestStore, until: u64) -> Vec<(u64, String)> {
    let mut all: Vec<Due> = Vec::new();
    loop {
        let page = store.home().due(UnixMillis(until), 3, all.last()).await.expect("a page");
        if page.is_empty() {
            return all.into_iter().map(|of| (of.due.0, String::from_utf8_lossy(&of.key).into())).collect();
        }
        assert!(page.len() <= 3);
        all.extend(page);
    }
}

fn pairs(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
    pairs.iter().map(|(time, key)| (*time, (*key).to_owned())).collect()
}

#[test]
fn what_is_due_comes_in_order_of_time_and_only_until_the_time_that_was_asked_for() {
    run(async {
        let store = TestStore::open(&formatted(1, 64 * MIB, 1).await).await.expect("opened");
        let bucket = store.bucket();
        store.home().add_consumer("lifecycle").await.expect("added");
        let upload = DueItem::Upload(UploadId([7; 16]));
        let times = vec![
            time(bucket, "c", NULL, Some(30)),
            time(bucket, "a", NULL, Some(20)),
            time(bucket, "b", NULL, Some(20)),
            time(bucket, "a", DueItem::Version(VersionId::Number(Lsn(9))), Some(5)),
            time(bucket, "z", upload, Some(10)),
            time(bucket, "zero\0", NULL, Some(0)),
            time(bucket, "late", NULL, Some(u64::MAX)),
        ];
        store.home().change_due("lifecycle", times, None).await.expect("set");
        let until_20 = pairs(&[(0, "zero\0"), (5, "a"), (10, "z"), (20, "a"), (20, "b")]);
        assert_eq!(due(&store, 20).await, until_20);
        assert_eq!(due(&store, 19).await, until_20[..3]);
        assert_eq!(due(&store, u64::MAX).await.len(), 7);
        assert_eq!(store.home().due_time(bucket, b"z", upload).await, Ok(Some(UnixMillis(10))));
    });
}

#[test]
fn an_item_has_one_time_and_the_last_that_was_set_counts() {
    run(async {
        let store = TestStore::open(&formatted(1, 64 * MIB, 1).await).await.expect("opened");
        let bucket = store.bucket();
        store.home().add_consumer("lifecycle").await.expect("added");
        for due in [Some(20), Some(40), Some(10)] {
            let times = vec![time(bucket, "a", NULL, Some(99)), time(bucket, "a", NULL, due)];
            store.home().change_due("lifecycle", times, None).await.expect("set");
            store.home().checkpoint().await.expect("in a run of the directory");
        }
        assert_eq!(due(&store, 1000).await, pairs(&[(10, "a")]));
        let records = store.core.counters.log_records.value();
        let again = vec![time(bucket, "a", NULL, Some(10)), time(bucket, "never", NULL, None)];
        store.home().change_due("lifecycle", again, None).await.expect("nothing to do");
        assert_eq!(store.core.counters.log_records.value(), records, "nothing was written");
        let cleared = vec![time(bucket, "a", NULL, None)];
        store.home().change_due("lifecycle", cleared, None).await.expect("cleared");
        assert_eq!(due(&store, 1000).await, []);
    });
}

#[test]
fn times_set_at_once_by_many_leave_one_time_for_each_item() {
    run(async {
        let store = TestStore::open(&formatted(1, 64 * MIB, 1).await).await.expect("opened");
        let bucket = store.bucket();
        store.home().add_consumer("lifecycle").await.expect("added");
        let set = |due| store.home().change_due("lifecycle", vec![time(bucket, "a", NULL, Some(due))], None);
        for result in futures_util::future::join_all((0..20).map(set)).await {
            result.expect("set");
        }
        assert_eq!(due(&store, 1000).await.len(), 1);
    });
}

#[test]
fn the_index_survives_a_restart_from_the_log_and_from_a_checkpoint() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let mut store = TestStore::open(&devices).await.expect("opened");
        let bucket = store.bucket();
        store.home().add_consumer("lifecycle").await.expect("added");
        // More than a record holds.
        let times = (0..1000).map(|i| time(bucket, &format!("k{i:04}"), NULL, Some(i))).collect();
        store.home().change_due("lifecycle", times, None).await.expect("set");
        for round in 0..2 {
            drop(store);
            store = TestStore::open(&devices).await.expect("opened");
            let all = due(&store, 5000).await;
            assert_eq!(all.len(), 1000, "round {round}");
            assert!(all.iter().enumerate().all(|(i, (time, key))| {
                (*time, key.as_str()) == (i as u64, format!("k{i:04}").as_str())
            }));
            store.home().checkpoint().await.expect("checkpoint");
            store.settle().await;
        }
    });
}

#[test]
fn times_and_the_cursor_that_they_came_from_are_one_record() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let bucket = store.bucket();
        let cursor = store.home().add_consumer("lifecycle").await.expect("added");
        store.put("a", b"x").await.expect("stored");
        let (_, next) = store.home().events(cursor, 100).await.expect("events");
        let records = store.core.counters.log_records.value();
        let times = vec![time(bucket, "a", NULL, Some(5))];
        store.home().change_due("lifecycle", times, Some(next)).await.expect("set");
        assert_eq!(store.core.counters.log_records.value(), records + 1);
        assert_eq!(store.home().consumer("lifecycle").expect("there").next, next);
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened");
        assert_eq!(store.home().consumer("lifecycle").expect("there").next, next);
        assert_eq!(due(&store, 5).await, pairs(&[(5, "a")]));
        let nobody = store.home().change_due("nobody", vec![time(bucket, "a", NULL, None)], None).await;
        assert_eq!(nobody, Err(Error::NotFound));
        assert_eq!(due(&store, 5).await.len(), 1, "nobody changed nothing");
    });
}

/// Due so long after it was made: the rule of a test.
const AGE: u64 = 100;

/// What a lifecycle worker does with events: all of them are seen when this returns.
async fn follow(store: &TestStore) -> engine::Result<()> {
    let mut from = store.home().consumer("lifecycle")?.next;
    loop {
        let (events, next) = store.home().events(from, 10).await?;
        if events.is_empty() {
            return Ok(());
        }
        let times = events.into_iter().filter_map(|event| match event.what {
            Happened::Put { key, version, listed, .. } => Some(DueTime {
                bucket: event.bucket,
                key,
                item: DueItem::Version(version),
                due: Some(UnixMillis(listed.modified.0 + AGE)),
            }),
            Happened::Removed { key, version } => {
                Some(DueTime { bucket: event.bucket, key, item: DueItem::Version(version), due: None })
            }
            _ => None,
        });
        store.home().change_due("lifecycle", times.collect(), Some(next)).await?;
        from = next;
    }
}

#[test]
fn a_worker_that_lost_its_log_rebuilds_the_same_index_from_what_is_there() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.home().set_consumer_log_len_max(MIB as u64);
        store.home().add_consumer("lifecycle").await.expect("added");
        for i in 0..50 {
            store.put(&format!("k{i}"), &data(i, 5000)).await.expect("stored");
        }
        store.delete("k7").await.expect("deleted");
        follow(&store).await.expect("followed");
        assert_eq!(due(&store, 1000).await.len(), 49);
        // It is away for long; what it knows grows stale.
        for i in 50..1200 {
            store.put(&format!("k{}", i % 300), &data(i, 5000)).await.expect("stored");
        }
        store.delete("k8").await.expect("deleted");
        store.home().checkpoint().await.expect("checkpoint");
        store.settle().await;
        assert_eq!(follow(&store).await, Err(Error::Behind));
        store.home().restart_consumer("lifecycle").await.expect("restarted");
        store.put("k9", b"meanwhile").await.expect("stored");
        store.delete("k10").await.expect("deleted");
        while store.home().clear_due("lifecycle", None).await.expect("cleared") {}
        assert_eq!(due(&store, 1000).await, []);
        let mut place = Some(Default::default());
        while let Some(from) = place {
            let (page, next) = store.home().existing(from, 40).await.expect("a page");
            let times = page.into_iter().filter_map(|of| match of.what {
                Standing::Version { version, listed, .. } => Some(DueTime {
                    bucket: of.bucket,
                    key: of.key,
                    item: DueItem::Version(version),
                    due: Some(UnixMillis(listed.modified.0 + AGE)),
                }),
                Standing::Upload { .. } => None,
            });
            store.home().change_due("lifecycle", times.collect(), None).await.expect("set");
            place = next;
        }
        follow(&store).await.expect("followed");
        let mut keys: Vec<String> =
            (0..300).filter(|i| ![8, 10].contains(i)).map(|i| format!("k{i}")).collect();
        keys.sort_unstable();
        let mut found: Vec<String> = due(&store, 1000).await.into_iter().map(|(_, key)| key).collect();
        found.sort_unstable();
        assert_eq!(found, keys);
        assert_eq!(due(&store, 104).await, [], "all were made at 5");
    });
}

#[test]
fn the_times_of_one_bucket_go_and_those_of_others_stay() {
    run(async {
        let store = TestStore::open(&formatted(1, 64 * MIB, 1).await).await.expect("opened");
        store.home().add_consumer("lifecycle").await.expect("added");
        let times = (0..600).map(|i| time(BucketId(1 + i % 3), &format!("k{i}"), NULL, Some(i))).collect();
        store.home().change_due("lifecycle", times, None).await.expect("set");
        while store.home().clear_due("lifecycle", Some(BucketId(2))).await.expect("cleared") {}
        let left = due(&store, 1000).await;
        assert_eq!(left.len(), 400);
        assert!(left.iter().all(|(time, _)| time % 3 != 1));
    });
}

#[test]
fn a_check_of_a_store_with_due_times_finds_nothing_wrong() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let bucket = store.bucket();
        store.put("large", &data(1, 200_000)).await.expect("stored");
        store.home().add_consumer("lifecycle").await.expect("added");
        for due in [7, 9] {
            let times = (0..300).map(|i| time(bucket, &format!("k{i}"), NULL, Some(i * due))).collect();
            store.home().change_due("lifecycle", times, None).await.expect("set");
            store.home().checkpoint().await.expect("checkpoint");
        }
        drop(store);
        let mut findings = Vec::new();
        let depth = engine::fsck::Depth::Structure;
        let mut tell = |event| match event {
            engine::fsck::Event::Found(finding) => findings.push(finding),
            engine::fsck::Event::Progress(_) => {}
        };
        engine::fsck::check(devices, support::master(), depth, &mut tell).await.expect("checked");
        assert_eq!(findings, []);
    });
}
