//! A store that is dropped is gone, with its handles on devices.

mod support;

use std::rc::{Rc, Weak};

use engine::{Core, Shard};
use futures_util::poll;
use support::*;

const MIB: usize = 1 << 20;

#[test]
fn a_store_that_is_dropped_while_it_flushes_gives_its_memory_back() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let before = devices[0].handles();
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", &data(1, 100_000)).await.expect("stored");
        store.settle().await;
        for shard in &store.shards {
            shard.checkpoint().await.expect("a checkpoint");
        }
        {
            let flushes = devices[0].flushes();
            let bytes = data(2, 100_000);
            let mut given_up = Box::pin(store.put("b", &bytes));
            // The one who asked for the flush goes away while it is under way.
            while devices[0].flushes() == flushes {
                assert!(poll!(&mut given_up).is_pending(), "it has to flush");
                pause().await;
            }
        }
        let core: Weak<Core<MemoryDevice>> = Rc::downgrade(&store.core);
        let shards: Vec<Weak<Shard<MemoryDevice>>> = store.shards.iter().map(Rc::downgrade).collect();
        store.shards.iter().for_each(|shard| shard.stop());
        drop(store);
        // Their work in the background ends by itself.
        for _ in 0..1000 {
            pause().await;
        }
        assert!(shards.iter().all(|shard| shard.strong_count() == 0), "a shard is left");
        assert_eq!(core.strong_count(), 0, "a core is left");
        assert_eq!(devices[0].handles(), before, "a handle on a device is left");
    });
}

/// Lets other tasks run.
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
