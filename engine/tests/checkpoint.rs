//! Checkpoints, compaction and what they promise: a start that reads little, a log that is not kept for ever, space that comes back.

mod support;

use engine::format::superblock::CHECKPOINT_OFFSET;
use engine::ids::ShardId;
use engine::{Core, Error, Progress, Stage, Store};
use futures_util::future::join_all;
use support::{MemoryDevice, Seeded, TestStore, data, formatted, master, run};

const MIB: usize = 1024 * 1024;

/// Opens all shards without running them; gives back what was reported of each.
async fn reports(devices: &[MemoryDevice]) -> Vec<Progress> {
    let store = Store::open(devices, master()).await.expect("opened");
    let core = Core::new(store, 0, devices.to_vec(), Box::new(Seeded(99)));
    let mut reports = Vec::new();
    for id in 0..core.store.shard_count {
        engine::open_shard(core.clone(), ShardId(id), |progress| reports.push(progress))
            .await
            .expect("a shard");
    }
    reports
}

async fn fill(store: &TestStore, count: u64) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(50) {
        let puts = chunk.iter().map(|i| async move {
            let len = if i % 7 == 0 { 100_000 } else { 700 };
            store.put(&format!("k{i:05}"), &data(*i, len)).await
        });
        join_all(puts).await.into_iter().for_each(|result| result.expect("stored"));
    }
}

async fn check(store: &TestStore, count: u64) {
    for i in 0..count {
        let len = if i % 7 == 0 { 100_000 } else { 700 };
        assert_eq!(store.get(&format!("k{i:05}")).await, Ok(data(i, len)), "k{i:05}");
    }
}

#[test]
fn a_start_after_a_checkpoint_applies_only_what_came_after_it() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        fill(&store, 300).await;
        for shard in &store.shards {
            shard.checkpoint().await.expect("a checkpoint");
        }
        store.put("after", b"x").await.expect("stored");
        drop(store);
        let records: u64 = reports(&devices).await.iter().map(|report| report.records).sum();
        // The checkpoint records themselves and one put.
        assert!(records <= 4, "{records} records were applied");
        let store = TestStore::open(&devices).await.expect("opened");
        check(&store, 300).await;
        assert_eq!(store.get("after").await, Ok(b"x".to_vec()));
    });
}

#[test]
fn with_every_pointer_destroyed_the_log_leads_to_the_same_state_and_says_that_it_searches() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        fill(&store, 300).await;
        for shard in &store.shards {
            shard.checkpoint().await.expect("a checkpoint");
        }
        store.delete("k00003").await.expect("deleted");
        let usage = store.home().usage();
        drop(store);
        for device in &devices {
            let area = CHECKPOINT_OFFSET as usize..CHECKPOINT_OFFSET as usize + MIB;
            device.with_bytes(|bytes| bytes[area].fill(0x5a));
        }
        let reports = reports(&devices).await;
        assert!(reports.iter().any(|report| report.stage == Stage::Search && report.segments > 0));
        let store = TestStore::open(&devices).await.expect("opened");
        assert_eq!(store.home().usage(), usage);
        assert_eq!(store.get("k00003").await, Err(Error::NotFound));
        assert_eq!(store.get("k00004").await, Ok(data(4, 700)));
    });
}

#[test]
fn of_two_checkpoints_the_newer_counts_though_every_pointer_leads_to_the_older() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        fill(&store, 100).await;
        checkpoint_all(&store).await;
        let area = CHECKPOINT_OFFSET as usize..CHECKPOINT_OFFSET as usize + MIB;
        let older: Vec<Vec<u8>> =
            devices.iter().map(|device| device.with_bytes(|bytes| bytes[area.clone()].to_vec())).collect();
        fill(&store, 200).await;
        checkpoint_all(&store).await;
        drop(store);
        // A crash between the record of a checkpoint and its pointers.
        for (device, older) in devices.iter().zip(&older) {
            device.with_bytes(|bytes| bytes[area.clone()].copy_from_slice(older));
        }
        let records: u64 = reports(&devices).await.iter().map(|report| report.records).sum();
        assert!(records <= 4, "{records} records were applied: those after the older checkpoint too");
        let store = TestStore::open(&devices).await.expect("opened");
        check(&store, 200).await;
    });
}

#[test]
fn a_device_that_missed_a_checkpoint_does_not_lead_to_the_one_before() {
    run(async {
        for away in 0..3 {
            let devices = formatted(3, 64 * MIB, 2).await;
            let store = TestStore::open(&devices).await.expect("opened");
            fill(&store, 100).await;
            checkpoint_all(&store).await;
            drop(store);
            let others: Vec<MemoryDevice> =
                devices.iter().enumerate().filter(|(i, _)| *i != away).map(|(_, d)| d.clone()).collect();
            let store = TestStore::open(&others).await.expect("opened");
            fill(&store, 200).await;
            checkpoint_all(&store).await;
            // What the older one refers to is given back, and used again.
            fill(&store, 200).await;
            store.settle().await;
            drop(store);
            for missing in 0..3 {
                let some: Vec<MemoryDevice> = devices
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| *i == away || *i != missing)
                    .map(|(_, device)| device.copy())
                    .collect();
                let store = TestStore::open(&some).await.expect("opened");
                check(&store, 200).await;
            }
        }
    });
}

async fn checkpoint_all(store: &TestStore) {
    for shard in &store.shards {
        shard.checkpoint().await.expect("a checkpoint");
    }
}

#[test]
fn a_checkpoint_body_that_no_copy_has_whole_is_an_error_and_one_bad_copy_is_none() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        fill(&store, 50).await;
        let before: Vec<Vec<u8>> =
            devices.iter().map(|device| device.with_bytes(|bytes| bytes.to_vec())).collect();
        store.home().checkpoint().await.expect("a checkpoint");
        drop(store);
        // Everything in segments that the checkpoint changed is flipped, but for the log: what remains is body and runs.
        let flip = |device: &MemoryDevice, before: &[u8]| {
            device.with_bytes(|bytes| {
                for (block, old) in bytes.chunks_mut(4096).zip(before.chunks(4096)).skip(2 * MIB / 4096) {
                    let is_log = block.starts_with(b"BREC") || block.starts_with(b"BSEG");
                    if *block != *old && !is_log {
                        block[77] ^= 1;
                    }
                }
            });
        };
        flip(&devices[0], &before[0]);
        let store = TestStore::open(&devices).await.expect("the other copy is good");
        check(&store, 50).await;
        drop(store);
        flip(&devices[1], &before[1]);
        let error = TestStore::open(&devices).await.err();
        assert!(matches!(error, Some(Error::Corrupt { .. })), "{error:?}");
    });
}

#[test]
fn a_store_that_was_filled_and_emptied_takes_the_same_amount_again() {
    run(async {
        // Some segments more or less in use are the streams' open ones: in a store of 190 segments, within 5 %.
        for len in [20_000, 200_000] {
            let devices = formatted(1, 192 * MIB, 1).await;
            let store = TestStore::open(&devices).await.expect("opened");
            let mut first = 0;
            for round in 0..4 {
                let mut count = 0;
                let mut refused = 0;
                // When nothing fits, what is to be done in the background may make room.
                while refused < 2 {
                    match store.put(&format!("k{count:05}"), &data(count, len)).await {
                        Ok(()) => (count, refused) = (count + 1, 0),
                        Err(Error::Full) => {
                            refused += 1;
                            store.settle().await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                if round == 0 {
                    first = count;
                }
                assert!(
                    count * 100 >= first * 95,
                    "round {round} of {len}: {count} objects, at first {first}"
                );
                assert_eq!(store.get(&format!("k{:05}", count - 1)).await, Ok(data(count - 1, len)));
                for i in 0..count {
                    let deleted = store.delete(&format!("k{i:05}")).await;
                    assert_eq!(deleted, Ok(true), "round {round} of {len}: k{i:05} of {count}");
                    if i % 200 == 0 {
                        store.settle().await;
                    }
                }
                store.settle().await;
            }
        }
    });
}

#[test]
fn a_bucket_is_emptied_by_one_record_and_its_space_comes_back() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        fill(&store, 200).await;
        store.settle().await;
        let records = store.core.counters.log_records.value();
        store.home().empty_bucket(store.bucket()).await.expect("emptied");
        assert_eq!(store.core.counters.log_records.value(), records + 1);
        assert_eq!(store.get("k00001").await, Err(Error::NotFound));
        store.put("k00001", b"again").await.expect("stored");
        store.settle().await;
        assert_eq!(store.get("k00001").await, Ok(b"again".to_vec()));
        assert_eq!(store.home().footprint().versions, 1, "the others are reaped");
        let usage = store.home().usage();
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened");
        assert_eq!(store.get("k00001").await, Ok(b"again".to_vec()));
        assert_eq!(store.home().usage(), usage);
    });
}
