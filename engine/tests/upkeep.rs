//! Upkeep comes to an end, whoever waits for it or goes away, and gives space back, however full the store is.

mod support;

use engine::limits::RELOCATE_RECORDS_LEN_MAX;
use engine::{Content, Error, Layout, Precondition, Upkeep};
use futures_util::future::join;
use support::*;

const MIB: usize = 1 << 20;

#[test]
fn a_checkpoint_that_is_given_up_stops_upkeep_or_not_and_loses_nothing() {
    run(async {
        let mut stopped = 0;
        for polls in 1..200 {
            let devices = formatted(1, 64 * MIB, 1).await;
            let store = TestStore::open(&devices).await.expect("opened");
            store.put("a", b"a").await.expect("stored");
            let mut given_up = Box::pin(store.home().checkpoint());
            let mut is_done = false;
            for _ in 0..polls {
                if futures_util::poll!(&mut given_up).is_ready() {
                    is_done = true;
                    break;
                }
                pause().await;
            }
            drop(given_up);
            // Half-way, there is no going on; the log is whole, and takes changes.
            let next = store.home().checkpoint().await;
            assert!(matches!(next, Ok(()) | Err(Error::Stopped)), "{next:?}");
            stopped += u32::from(next.is_err());
            assert!(!is_done || next == Ok(()));
            store.put("b", b"b").await.expect("stored");
            let again = TestStore::open(&devices).await.expect("opened");
            assert_eq!(again.get("a").await, Ok(b"a".to_vec()));
            assert_eq!(again.get("b").await, Ok(b"b".to_vec()));
            assert_eq!(again.home().footprint().versions, 2);
            again.home().checkpoint().await.expect("another opening makes checkpoints");
            if is_done {
                assert!(stopped > 0, "none was given up half-way");
                return;
            }
        }
        panic!("no checkpoint was ever done");
    });
}

#[test]
fn who_waits_for_a_checkpoint_is_woken_when_another_is_done() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"a").await.expect("stored");
        let mut both = Box::pin(join(store.home().checkpoint(), store.home().checkpoint()));
        // Turns, not time: everything in memory is done in far fewer.
        for _ in 0..100_000 {
            pause().await;
            if let std::task::Poll::Ready((a, b)) = futures_util::poll!(&mut both) {
                assert_eq!((a, b), (Ok(()), Ok(())));
                return;
            }
        }
        panic!("the second checkpoint is never begun");
    });
}

#[test]
fn a_bucket_of_many_large_objects_is_reaped() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let Content::Frames { pieces, pins } =
            store.content(&data(1, 40_000), Layout::Frames).await.expect("written")
        else {
            panic!("in frames")
        };
        // Objects of many extents, such as large uploads and their copies are.
        for i in 0..60 {
            let key = format!("k{i}");
            let pieces = (0..2000).flat_map(|_| pieces.clone()).collect();
            let content = Content::Frames { pieces, pins: pins.clone() };
            let draft = store
                .core
                .draft_version(&store.sealing(), store.new_version(&key, b""), content)
                .expect("drafted");
            store.home().put(draft, Precondition::None).await.expect("stored");
        }
        drop(pins);
        store.home().empty_bucket(store.bucket()).await.expect("emptied");
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < 1000, "upkeep comes to an end");
            match store.home().upkeep().await {
                Ok(Upkeep::Idle) => break,
                Ok(Upkeep::Progressed) => {}
                Err(error) => panic!("upkeep: {error:?}"),
            }
        }
        assert_eq!(store.home().footprint().versions, 0);
    });
}

#[test]
fn a_bucket_that_waits_to_be_dropped_does_not_keep_a_full_store_full() {
    run(async {
        let devices = formatted(1, 24 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let mut count = 0;
        while store.put(&format!("k{count}"), b"small").await != Err(Error::Full) {
            count += 1;
        }
        // As far as the log may go into the reserve.
        let mut deleted = 0;
        while deleted < count && store.delete(&format!("k{deleted}")).await != Err(Error::Full) {
            deleted += 1;
        }
        assert!(deleted < count, "the log has used its part of the reserve");
        store.home().drop_bucket(store.bucket());
        let mut last = Ok(Upkeep::Progressed);
        for _ in 0..1000 {
            last = store.home().upkeep().await;
            if last == Ok(Upkeep::Idle) {
                break;
            }
        }
        let counts = store.core.store.table.counts();
        assert_eq!(last, Ok(Upkeep::Idle), "all that it holds is dead: {counts:?}");
        assert!(counts.free > counts.reserve, "{counts:?}");
    });
}

#[test]
fn a_full_store_that_is_opened_again_gets_its_space_back() {
    run(async {
        for is_opened_again in [false, true] {
            let devices = formatted(1, 24 * MIB, 1).await;
            let mut store = TestStore::open(&devices).await.expect("opened");
            let mut count = 0;
            while store.put(&format!("k{count}"), b"small").await != Err(Error::Full) {
                count += 1;
            }
            // As far as the log may go into the reserve.
            let mut deleted = 0;
            while deleted < count && store.delete(&format!("k{deleted}")).await != Err(Error::Full) {
                deleted += 1;
            }
            assert!(deleted < count, "the log has used its part of the reserve");
            if is_opened_again {
                drop(store);
                store = TestStore::open(&devices).await.expect("opened");
            }
            let mut last = Ok(Upkeep::Progressed);
            for _ in 0..1000 {
                last = store.home().upkeep().await;
                if last == Ok(Upkeep::Idle) {
                    break;
                }
            }
            let counts = store.core.store.table.counts();
            assert_eq!(last, Ok(Upkeep::Idle), "opened again: {is_opened_again}, {counts:?}");
            assert_eq!(store.delete(&format!("k{deleted}")).await, Ok(true), "{counts:?}");
        }
    });
}

/// Lets other tasks run.
#[test]
fn compaction_locks_few_keys_at_a_time_while_there_is_space() {
    run(async {
        let devices = formatted(1, 64 << 20, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for i in 0..600 {
            store.put(&format!("k{i}"), &data(i, 4000)).await.expect("stored");
        }
        for i in (0..600).filter(|i| i % 3 != 0) {
            store.delete(&format!("k{i}")).await.expect("deleted");
        }
        store.home().checkpoint().await.expect("a checkpoint");
        let moved = || store.core.counters.relocated_bytes.value();
        let mut steps = Vec::new();
        loop {
            let before = moved();
            if store.home().upkeep().await.expect("upkeep") == Upkeep::Idle {
                break;
            }
            steps.push(moved() - before);
        }
        let most = *steps.iter().max().expect("something was done");
        // The record that reaches the limit is the last.
        assert!(most > 0 && most < RELOCATE_RECORDS_LEN_MAX + 8192, "{steps:?}");
        assert!(moved() > 2 * RELOCATE_RECORDS_LEN_MAX, "one step could have done it: {steps:?}");
    });
}

async fn pause() {
    let mut is_second = false;
    std::future::poll_fn(|context| {
        if is_second {
            return std::task::Poll::Ready(());
        }
        is_second = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
