//! What media and people do to a store: unreadable blocks, failed flushes, devices away in turn, clients that go away, forged records, bursts.

mod support;

use std::rc::Rc;
use std::sync::Arc;

use engine::crypto::ObjectKey;
use engine::format::catalog::{AccessKey, CatalogChange};
use engine::format::lease::Lease;
use engine::format::record::{
    HEADER_SIZE, RecordHeader, RecordIdentity, RecordKind, RecordPosition, SealKind, body_checksum,
};
use engine::format::segment::{Place, Predecessor, SegmentHeader, SegmentKind, Temperature};
use engine::format::superblock::{COPY_OFFSETS, Superblock, Verdict};
use engine::ids::*;
use engine::segment::table::{DeviceShape, Purpose, SegmentTable, Wanted};
use engine::{Core, Error, Layout, ObjectWriter, Precondition, Store};
use futures_util::future::join_all;
use support::*;
use zerocopy::IntoBytes;

const MIB: usize = 1 << 20;

#[test]
fn a_batch_larger_than_a_segment_is_split() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let keys: Vec<String> = (0..60).map(|i| format!("k{i}")).collect();
        let value = data(1, 32 * 1024);
        for result in join_all(keys.iter().map(|key| store.put(key, &value))).await {
            result.expect("stored");
        }
    });
}

#[test]
fn a_read_error_is_not_the_end_of_the_log() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for i in 0..20 {
            store.put(&format!("k{i}"), &data(i, 5000)).await.expect("stored");
        }
        // One unreadable block, once: the 10th object or so.
        let header = log_of(&store, &devices[0]);
        let at = position(&store, &header) + 4096 * 20;
        devices[0].fail_reads(at..at + 4096);
        assert!(matches!(TestStore::open(&devices).await.err(), Some(Error::Io { .. })));
        devices[0].heal();
        let again = TestStore::open(&devices).await.expect("opened");
        for i in 0..20 {
            assert_eq!(again.get(&format!("k{i}")).await.map(|b| b.len()), Ok(5000), "k{i} was acknowledged");
        }
    });
}

#[test]
fn two_unreadable_blocks_on_different_copies_do_not_hide_the_records_around_them() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for i in 0..20 {
            store.put(&format!("k{i}"), &data(i, 5000)).await.expect("stored");
        }
        for (device, block) in [(0, 10), (1, 30)] {
            let header = log_of(&store, &devices[device]);
            let at = position_on(&store, &header, device) + 4096 * block;
            devices[device].fail_reads(at..at + 4096);
        }
        let again = TestStore::open(&devices).await.expect("opened");
        for i in 0..20 {
            assert_eq!(again.get(&format!("k{i}")).await.map(|b| b.len()), Ok(5000), "k{i} was acknowledged");
        }
    });
}

#[test]
fn a_delete_that_rests_on_a_failed_delete_is_not_acknowledged() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("k", b"v").await.expect("stored");
        devices[0].fail_writes();
        let (first, second) = futures_util::future::join(store.delete("k"), store.delete("k")).await;
        devices[0].heal();
        let again = TestStore::open(&devices).await.expect("opened");
        let is_there = again.get("k").await.is_ok();
        assert!(first.is_err());
        assert!(!(second.is_ok() && is_there), "second delete: {second:?}, and it is there");
    });
}

#[test]
fn a_delete_after_a_failed_put_is_not_acknowledged_when_the_put_may_come_back() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        devices[1].fail_writes();
        assert!(store.put("k", b"v").await.is_err());
        let deleted = store.delete("k").await;
        devices[1].heal();
        let again = TestStore::open(&devices).await.expect("opened");
        assert!(!(deleted.is_ok() && again.get("k").await.is_ok()), "deleted: {deleted:?}, and it came back");
    });
}

#[test]
fn a_failed_flush_on_one_core_fences_the_device_for_all() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        // Another core, with its own handle, writes the same device; its flush fails once, and the cache is lost with it.
        let other = Core::new(store.core.store.clone(), 1, devices.clone(), Box::new(Seeded(99)));
        let content = async |core: &Rc<Core<MemoryDevice>>, bytes: &[u8]| {
            let mut writer =
                ObjectWriter::new(core.clone(), &store.sealing(), bytes.len() as u64, Layout::Frames)?;
            writer.write(bytes).await?;
            writer.finish().await
        };
        store.put("k", b"v").await.expect("stored");
        content(&other, &data(1, 100_000)).await.expect("an open bulk segment on core 1");
        devices[0].fail_flushes();
        assert!(content(&other, &data(2, 100_000)).await.is_err(), "core 1 sees the failure");
        devices[0].heal();
        // The kernel tells of a failed write-back once. Core 0's flush succeeds, but what the device lost, it lost.
        assert!(store.delete("k").await.is_err(), "core 0 acknowledges on a device that is fenced");
    });
}

#[test]
fn what_a_failed_flush_of_another_core_lost_is_not_acknowledged() {
    run(async {
        for seed in 1..40 {
            let devices = formatted(1, 64 * MIB, 1).await;
            let power = Power::new(seed, u64::MAX);
            devices[0].plug_in(&power);
            let store = TestStore::open(&devices).await.expect("opened");
            store.put("k", b"v").await.expect("stored");
            let other = Core::new(store.core.store.clone(), 1, devices.clone(), Box::new(Seeded(99)));
            let mut writer =
                ObjectWriter::new(other.clone(), &store.sealing(), 100_000, Layout::Frames).expect("writer");
            writer.write(&data(1, 100_000)).await.expect("written");
            let mut finish = Box::pin(writer.finish());
            while !devices[0].is_writing() {
                assert!(futures_util::poll!(finish.as_mut()).is_pending());
            }
            while devices[0].is_writing() {
                devices[0].pass_time().await;
            }
            // Core 0's record is written and its flush not begun when core 1's flush fails.
            let (ended, flushes) = (devices[0].writes_ended(), devices[0].flushes());
            let mut delete = Box::pin(store.delete("k"));
            let _ = futures_util::poll!(delete.as_mut());
            while devices[0].writes_ended() == ended {
                devices[0].pass_time().await;
            }
            if devices[0].flushes() != flushes {
                continue;
            }
            devices[0].fail_next_flush();
            assert!(finish.await.is_err());
            let deleted = delete.await;
            devices[0].crash(Crash::PowerCut, &mut Seeded(1));
            let again = TestStore::open(&devices).await.expect("opened");
            let is_back = again.get("k").await.is_ok();
            assert!(!(deleted.is_ok() && is_back), "deleted: {deleted:?}, and it is back");
        }
    });
}

#[test]
fn a_dropped_flush_that_failed_is_not_forgotten() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let bytes = data(1, 100_000);
        store.content(&bytes, Layout::Frames).await.expect("an open bulk segment");
        let flushes = devices[0].flushes();
        devices[0].fail_next_flush();
        // A client goes away while its flush is under way; that flush fails, and it alone.
        let mut upload = Box::pin(store.content(&bytes, Layout::Frames));
        while devices[0].flushes() == flushes {
            assert!(futures_util::poll!(upload.as_mut()).is_pending());
            futures_util::future::ready(()).await;
        }
        drop(upload);
        assert!(store.put("k", b"v").await.is_err(), "the failure of the dropped flush went unseen");
    });
}

#[test]
fn a_client_that_goes_away_while_a_bulk_segment_is_changed_costs_no_segment() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let free = store.core.store.table.counts().free;
        for i in 0..10 {
            let bytes = data(i, 100_000);
            let mut upload = Box::pin(store.content(&bytes, Layout::Frames));
            let _ = futures_util::poll!(upload.as_mut());
            drop(upload);
        }
        let left = store.core.store.table.counts().free;
        assert!(free - left <= 1, "{} segments are gone", free - left);
    });
}

#[test]
fn a_request_that_is_given_up_leaves_no_lock_behind() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let make = || store.shards[0].create_bucket("new", NAMESPACE, UserId(1), "", UnixMillis(2));
        let mut given_up = Box::pin(make());
        let _ = futures_util::poll!(given_up.as_mut());
        drop(given_up);
        while !store.shards[0].is_idle() {
            devices[0].pass_time().await;
        }
        let catalog = store.shards[0].catalog();
        let id = catalog.buckets["new"].id;
        store.shards[0].change_catalog(vec![CatalogChange::RemoveBucket(id)]).await.expect("removed");
        make().await.expect("the name is free");
    });
}

#[test]
fn a_store_whose_slots_were_all_used_once_opens_for_writing_without_one_device() {
    run(async {
        let devices = formatted(3, 24 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        // Full of small objects and large ones; then the log takes the last segments to delete the small ones.
        let keys: Vec<String> = (0..1200).map(|i| format!("s{i}")).collect();
        let value = data(1, 1000);
        for chunk in keys.chunks(100) {
            for result in join_all(chunk.iter().map(|key| store.put(key, &value))).await {
                result.expect("stored");
            }
        }
        let mut large = Vec::new();
        while store.put(&format!("l{}", large.len()), &data(1, 900_000)).await.is_ok() {
            large.push(format!("l{}", large.len()));
        }
        let mut small = keys.iter();
        let is_left = |counts: engine::segment::table::TableCounts| counts.free > counts.reserve / 2;
        while is_left(store.core.store.table.counts()) {
            store.delete(small.next().expect("enough")).await.expect("deleted");
        }
        for result in join_all(large.iter().map(|key| store.delete(key))).await {
            result.expect("deleted");
        }
        let counts = store.core.store.table.counts();
        assert!(counts.free > 10, "most of the store is free: {counts:?}");
        drop(store);
        for away in 0..3 {
            let mut left: Vec<MemoryDevice> = devices.iter().map(MemoryDevice::copy).collect();
            left.remove(away);
            let degraded = TestStore::open(&left).await.expect("opened");
            let counts = degraded.core.store.table.counts();
            assert_eq!(degraded.put("k", b"v").await, Ok(()), "device {away} is away, {counts:?}");
        }
    });
}

#[test]
fn a_tail_that_one_copy_has_survives_two_devices_being_away_in_turn() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"a").await.expect("stored");
        let places = home_places(&store);
        let (ahead, behind) = (places[0].device.0 as usize, places[1].device.0 as usize);
        let third = 3 - ahead - behind;
        let stale = devices[behind].copy();
        // The crash: this batch reached one copy only, and was not acknowledged.
        store.put("b", b"b").await.expect("stored");
        drop(store);
        let devices = {
            let mut all = devices;
            all[behind] = stale;
            all
        };
        // `behind` is away.
        let one = TestStore::open(&[devices[ahead].clone(), devices[third].clone()]).await.expect("opened");
        assert_eq!(one.get("b").await.expect("seen"), b"b");
        one.put("c", b"c").await.expect("stored on two devices");
        drop(one);
        // It is back, and all are there for a while.
        let all = TestStore::open(&devices).await.expect("opened");
        assert_eq!(all.get("b").await.expect("seen"), b"b");
        drop(all);
        // Now the other one is away: one of three, as promised.
        let other = TestStore::open(&[devices[behind].clone(), devices[third].clone()])
            .await
            .map_err(|e| format!("{e:?}"));
        let other = other.unwrap_or_else(|error| panic!("{error}"));
        for key in ["a", "b", "c"] {
            assert_eq!(other.get(key).await.expect("read"), key.as_bytes());
        }
    });
}

#[test]
fn an_id_that_only_an_absent_device_knows_is_not_given_again() {
    run(async {
        let mut tried = 0;
        for attempt in 0..12 {
            let devices = formatted(3, 64 * MIB, 2).await;
            let store = TestStore::open(&devices).await.expect("opened");
            for i in 0..attempt {
                store.put(&format!("a{i}"), &data(1, 600_000)).await.expect("stored");
            }
            // A crash while a new segment is begun: its header reached device 0 only.
            let next =
                store.core.store.table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
            let Some(x) = next.places.iter().find(|place| place.device == DeviceIndex(0)).copied() else {
                continue;
            };
            tried += 1;
            let header = SegmentHeader {
                id: next.id,
                kind: SegmentKind::Bulk,
                stream: 0,
                sequence: 9,
                first_lsn: Lsn(0),
                temperature: Temperature::Hot,
                predecessor: Predecessor::Settled,
                places: next.places.clone(),
            };
            let at = device_position(&store, x);
            devices[0].with_bytes(|bytes| {
                bytes[at..at + 4096].copy_from_slice(header.encode(store.core.store.id).as_bytes());
            });
            drop(store);
            // That device is away: the same id goes to a segment with data that is acknowledged.
            let degraded = TestStore::open(&devices[1..]).await.expect("opened");
            for i in 0..8 {
                degraded.put(&format!("k{i}"), &data(i, 300_000)).await.expect("stored");
            }
            drop(degraded);
            let all = TestStore::open(&devices).await.unwrap_or_else(|e| panic!("attempt {attempt}: {e:?}"));
            for i in 0..8 {
                all.put(&format!("more{i}"), &data(i, 300_000)).await.expect("stored");
            }
            drop(all);
            let all = TestStore::open(&devices).await.unwrap_or_else(|e| panic!("attempt {attempt}: {e:?}"));
            for i in 0..8 {
                let read = all.get(&format!("k{i}")).await.map(|b| b == data(i, 300_000));
                assert_eq!(read, Ok(true), "attempt {attempt}: k{i}");
            }
        }
        assert!(tried > 0);
    });
}

#[test]
fn who_has_no_key_forges_no_record() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let (_, header, end, lsn, session) = log_end(&store, &devices[0], ShardId(0));
        let key = AccessKey { id: "EVIL".into(), secret: "known".into(), user: UserId(1) };
        let payload = CatalogChange::PutAccessKey(key).encode();
        let identity = RecordIdentity {
            kind: RecordKind::Catalog,
            seal_kind: SealKind::Checksum,
            namespace: engine::crypto::CATALOG_NAMESPACE,
            key_version: KeyVersion(0),
            bucket: BucketId(0),
            object_id: ObjectId([7; 16]),
        };
        let mut sealed = payload.clone();
        let seal = ObjectKey::Checksum { object: identity.object_id }.seal_record(&identity, &mut sealed);
        let record = RecordHeader {
            identity,
            position: RecordPosition {
                shard: ShardId(0),
                lsn: Lsn(lsn.0 + 1),
                session,
                segment: header.id,
                offset: end as u32,
            },
            payload_len: sealed.len(),
            payload_checksum: body_checksum(&sealed),
            order: None,
            settlement_len: 0,
            seal,
        };
        let at = position(&store, &header) + end;
        devices[0].with_bytes(|bytes| {
            bytes[at..at + HEADER_SIZE].copy_from_slice(record.encode().as_bytes());
            bytes[at + HEADER_SIZE..at + HEADER_SIZE + sealed.len()].copy_from_slice(&sealed);
        });
        drop(store);
        let again = TestStore::open(&devices).await;
        let is_in = again.is_ok_and(|again| again.catalog.access_keys.contains_key("EVIL"));
        assert!(!is_in, "an access key that was never created opens the encrypted store");
    });
}

#[test]
fn references_of_a_million_copies_and_more_are_counted() {
    let table = SegmentTable::new(
        &[DeviceShape { slot_count: 8, takes_writes: true, ..DeviceShape::default() }],
        &[],
        Lease(0),
        1,
        1 << 30,
        0,
    );
    table.finish_recovery();
    let segment = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
    for _ in 0..1 << 20 {
        table.add_live(segment.id, 1 << 30, 10);
    }
    assert_ne!(table.live(segment.id), Some(0), "2^20 references to 1 GiB count as none");
    table.sub_live(segment.id, 1 << 30);
}

#[test]
fn a_namespace_is_made_once() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("k", b"v").await.expect("stored");
        let _ = store.shards[0].create_namespace(NAMESPACE, "again", SealKind::Aes256Gcm).await;
        assert_eq!(store.get("k").await, Ok(b"v".to_vec()));
    });
}

#[test]
fn what_cannot_be_read_back_is_not_acknowledged() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let mut new = store.new_version("k", b"v");
        new.meta.pairs = vec![(vec![b'x'; 70_000], b"v".to_vec())];
        let draft = store.core.draft_version(&store.sealing(), new, engine::Content::Inline(b"v".to_vec()));
        if let Ok(draft) = draft {
            store.home().put(draft, Precondition::None).await.expect("acknowledged");
        }
        drop(store);
        assert!(TestStore::open(&devices).await.is_ok(), "one request makes a store that never opens again");
    });
}

#[test]
fn a_burst_of_small_puts_leaves_the_reserve_to_deletes() {
    run(async {
        let devices = vec![MemoryDevice::new(256 * MIB)];
        let options = engine::FormatOptions {
            copies: 1,
            shard_count: 2,
            segment_size: Some(8 << 20),
            inline_max: 32 * 1024,
            tiers: Vec::new(),
        };
        engine::format(&devices, &options, &master(), UnixMillis(1), &mut Seeded(7))
            .await
            .expect("formatted");
        let store = TestStore::open(&devices).await.expect("opened");
        let mut filled = 0;
        while store.core.store.table.counts().free > store.core.store.table.counts().reserve + 1 {
            store.put(&format!("large{filled}"), &data(1, 2_000_000)).await.expect("stored");
            filled += 1;
        }
        let value = data(1, 30_000);
        let keys: Vec<String> = (0..1500).map(|i| format!("burst{i}")).collect();
        let stored = join_all(keys.iter().map(|key| store.put(key, &value))).await;
        assert!(stored.iter().any(Result::is_ok) && stored.contains(&Err(Error::Full)));
        let counts = store.core.store.table.counts();
        assert!(
            counts.free >= counts.reserve,
            "puts took {} of the {} segments kept for deletes",
            counts.reserve - counts.free,
            counts.reserve
        );
    });
}

#[test]
fn a_superblock_copy_that_cannot_be_read_does_not_hide_the_other() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        TestStore::open(&devices).await.expect("opened").put("k", b"v").await.expect("stored");
        devices[0].fail_reads(0..4096);
        assert!(TestStore::open(&devices).await.is_ok());
    });
}

#[test]
fn an_unreadable_slot_header_of_one_copy_does_not_keep_a_store_shut() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("k", b"v").await.expect("stored");
        let layout = store.core.store.devices[0].expect("there");
        let at = layout.segment_offset as usize;
        drop(store);
        devices[0].fail_reads(at..at + 4096);
        let again = TestStore::open(&devices).await;
        assert_eq!(again.err(), None);
    });
}

/// One thread takes the last reference away; another fills the segment up, commits and seals. Whatever the order, it is not freed with data in it.
#[test]
fn a_resumed_segment_is_not_freed_by_one_who_saw_it_dead_before() {
    let segments = 256u32;
    let mut lost = 0;
    for _ in 0..400 {
        let headers: Vec<SegmentHeader> = (0..segments)
            .map(|i| SegmentHeader {
                id: SegmentId::new(u64::from(i) + 1, SegmentIndex(i)),
                kind: SegmentKind::Bulk,
                stream: 0,
                sequence: 0,
                first_lsn: Lsn(0),
                temperature: Temperature::Hot,
                predecessor: Predecessor::Settled,
                places: vec![Place { device: DeviceIndex(0), slot: i }],
            })
            .collect();
        let shape = [DeviceShape { slot_count: segments + 1, takes_writes: true, ..DeviceShape::default() }];
        let table = SegmentTable::new(&shape, &headers, Lease(0), 1, 1 << 20, 0);
        headers.iter().for_each(|header| table.add_live(header.id, 4096, 2));
        table.finish_recovery();
        let start = Arc::new(std::sync::Barrier::new(3));
        let killers: Vec<_> = (0..2usize)
            .map(|part| {
                let (table, start) = (table.clone(), start.clone());
                let ids: Vec<SegmentId> = headers.iter().rev().skip(part).step_by(2).map(|h| h.id).collect();
                std::thread::spawn(move || {
                    start.wait();
                    ids.into_iter().for_each(|id| table.sub_live(id, 4096));
                })
            })
            .collect();
        start.wait();
        let mut committed = Vec::new();
        for _ in 0..segments {
            let Ok(taken) = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)) else { break };
            let pin = table.pin(taken.id).expect("open");
            table.add_live(taken.id, 4096, 3);
            table.seal(taken.id);
            drop(pin);
            committed.push(taken.id);
        }
        killers.into_iter().for_each(|killer| killer.join().expect("joined"));
        lost += committed.iter().filter(|id| table.live(**id).is_none()).count();
    }
    assert_eq!(lost, 0, "segments with committed data were freed");
}

#[test]
fn a_store_that_misses_too_many_devices_does_not_deny_what_it_held() {
    run(async {
        let devices = formatted(2, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for i in 0..150 {
            store.put(&format!("k{i}"), &data(i, 20_000)).await.expect("stored");
        }
        drop(store);
        for survivor in &devices {
            let Ok(store) = TestStore::open(std::slice::from_ref(survivor)).await else { continue };
            for i in 0..150 {
                assert_ne!(store.get(&format!("k{i}")).await, Err(Error::NotFound), "k{i} was acknowledged");
            }
        }
    });
}

#[test]
fn a_header_that_names_a_device_that_does_not_exist_is_passed_over() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let header = SegmentHeader {
            id: SegmentId::new(1000, SegmentIndex(40)),
            kind: SegmentKind::Bulk,
            stream: 0,
            sequence: 9,
            first_lsn: Lsn(0),
            temperature: Temperature::Hot,
            predecessor: Predecessor::Settled,
            places: vec![
                Place { device: DeviceIndex(0), slot: 40 },
                Place { device: DeviceIndex(999), slot: 0 },
            ],
        };
        let at = device_position(&store, header.places[0]);
        let id = store.core.store.id;
        drop(store);
        devices[0].with_bytes(|bytes| bytes[at..at + 4096].copy_from_slice(header.encode(id).as_bytes()));
        TestStore::open(&devices).await.expect("opened");
    });
}

#[test]
fn a_dead_resumable_segment_does_not_hide_the_others() {
    let headers: Vec<SegmentHeader> = (0..3u32)
        .map(|i| SegmentHeader {
            id: SegmentId::new(u64::from(i) + 1, SegmentIndex(i)),
            kind: SegmentKind::Bulk,
            stream: 0,
            sequence: 0,
            first_lsn: Lsn(0),
            temperature: Temperature::Hot,
            predecessor: Predecessor::Settled,
            places: vec![Place { device: DeviceIndex(0), slot: i }],
        })
        .collect();
    let table = SegmentTable::new(
        &[DeviceShape { slot_count: 3, takes_writes: true, ..DeviceShape::default() }],
        &headers,
        Lease(0),
        1,
        1 << 20,
        1,
    );
    headers.iter().for_each(|header| table.add_live(header.id, 4096, 2));
    table.finish_recovery();
    table.sub_live(headers[2].id, 4096);
    let taken = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data));
    assert!(taken.is_ok(), "two segments have room: {taken:?}");
}

fn wanted(kind: SegmentKind, purpose: Purpose) -> Wanted {
    Wanted { kind, temperature: Temperature::Hot, stream: 0, purpose }
}

fn home_places(store: &TestStore) -> Vec<Place> {
    let header = log_of(store, &store.devices[0]);
    store.core.store.table.places(header.id).expect("current").into_vec()
}

/// The log segment of the home shard, as some device tells.
fn log_of(store: &TestStore, _: &MemoryDevice) -> SegmentHeader {
    let home = store.home().id();
    for (i, device) in store.devices.iter().enumerate() {
        let layout = store.core.store.devices[i].expect("there");
        let found = device.with_bytes(|bytes| {
            (0..layout.slot_count).find_map(|slot| {
                let at = (layout.segment_offset + u64::from(slot) * store.core.store.segment_size) as usize;
                SegmentHeader::decode(&bytes[at..], store.core.store.id)
                    .filter(|h| h.kind == SegmentKind::Commit && h.stream == home.0)
            })
        });
        if let Some(found) = found {
            return found;
        }
    }
    panic!("no log")
}

fn device_position(store: &TestStore, place: Place) -> usize {
    let layout = store.core.store.devices[place.device.0 as usize].expect("there");
    (layout.segment_offset + u64::from(place.slot) * store.core.store.segment_size) as usize
}

fn position(store: &TestStore, header: &SegmentHeader) -> usize {
    device_position(store, header.places[0])
}

fn position_on(store: &TestStore, header: &SegmentHeader, device: usize) -> usize {
    let place = header.places.iter().find(|p| p.device.0 as usize == device).expect("a copy");
    device_position(store, *place)
}

/// Of a shard's first log segment: header, end, last LSN, session.
fn log_end(
    store: &TestStore,
    device: &MemoryDevice,
    shard: ShardId,
) -> (usize, SegmentHeader, usize, Lsn, u64) {
    let layout = store.core.store.devices[0].expect("there");
    device.with_bytes(|bytes| {
        for slot in 0..layout.slot_count {
            let at = (layout.segment_offset + u64::from(slot) * store.core.store.segment_size) as usize;
            let Some(header) = SegmentHeader::decode(&bytes[at..], store.core.store.id) else { continue };
            if header.kind != SegmentKind::Commit || header.stream != shard.0 {
                continue;
            }
            let (mut end, mut lsn, mut session) = (4096, Lsn(0), 0);
            let mut offset = 4096;
            while offset < store.core.store.segment_size as usize {
                match RecordHeader::decode(&bytes[at + offset..]) {
                    Some(record) => {
                        lsn = record.position.lsn;
                        session = record.position.session;
                        offset += record.record_len().next_multiple_of(64);
                        end = offset.next_multiple_of(4096);
                    }
                    None if offset % 4096 == 0 => break,
                    None => offset = offset.next_multiple_of(4096),
                }
            }
            return (at, header, end, lsn, session);
        }
        panic!("no log")
    })
}

fn superblock_copies(device: &MemoryDevice) -> [Verdict; 2] {
    COPY_OFFSETS
        .map(|offset| device.with_bytes(|bytes| Superblock::decode(&bytes[offset as usize..][..4096])))
}

fn flip_superblock(device: &MemoryDevice, copy: usize, byte: usize) {
    device.with_bytes(|bytes| bytes[COPY_OFFSETS[copy] as usize + byte] ^= 1);
}

#[test]
fn a_damaged_superblock_copy_is_whole_again_after_an_opening() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        // In the magic, which makes the copy look like none, and elsewhere.
        for (copy, byte) in [(0, 3), (1, 300), (0, 4000), (1, 0)] {
            flip_superblock(&devices[1], copy, byte);
            assert!(!matches!(superblock_copies(&devices[1])[copy], Verdict::Present(_)));
            let store = TestStore::open(&devices).await.expect("the other copy is good");
            assert_eq!(store.core.counters.superblocks_mended.value(), 1);
            let [first, second] = superblock_copies(&devices[1]);
            assert!(matches!(first, Verdict::Present(_)), "copy 0 after {copy}:{byte}: {first:?}");
            assert_eq!(first, second);
            drop(store);
            let store = TestStore::open(&devices).await.expect("opened");
            assert_eq!(store.core.counters.superblocks_mended.value(), 0, "there was nothing to mend");
        }
    });
}

#[test]
fn a_superblock_copy_that_cannot_be_mended_keeps_nobody_from_opening() {
    run(async {
        for fails_flush in [false, true] {
            let devices = formatted(1, 64 * MIB, 1).await;
            flip_superblock(&devices[0], 0, 300);
            if fails_flush {
                devices[0].fail_flushes()
            } else {
                devices[0].fail_writes()
            }
            let store = Store::open(&devices, master()).await.expect("the other copy is good");
            let core = Core::new(store.clone(), 0, devices.clone(), Box::new(Seeded(1)));
            engine::open_shard(core.clone(), ShardId(0), |_| {}).await.expect("a shard");
            assert_eq!(core.counters.superblocks_mended.value(), 0);
            // A failed flush may have been about anything that was written.
            assert_eq!(store.is_fenced(DeviceIndex(0)), fails_flush);
        }
    });
}

#[test]
fn a_check_and_a_look_leave_a_damaged_superblock_copy_as_it_is() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        drop(TestStore::open(&devices).await.expect("opened"));
        flip_superblock(&devices[0], 1, 300);
        let before = devices[0].with_bytes(|bytes| bytes.to_vec());
        engine::fsck::check(devices.clone(), master(), engine::fsck::Depth::Data, &mut |_| {})
            .await
            .expect("checked");
        let opened = engine::inspect::Opened::open(devices.clone(), master()).await.expect("opened");
        let [Verdict::Present(superblock), _] = superblock_copies(&devices[0]) else {
            panic!("copy 0 is good")
        };
        let first = devices[0].with_bytes(|bytes| {
            bytes.chunks(4096).enumerate().find_map(|(block, bytes)| {
                let header = engine::format::segment::SegmentHeader::decode(bytes, superblock.store_id)?;
                (header.kind == SegmentKind::Commit).then_some((block, header.id))
            })
        });
        let (_, segment) = first.expect("a log");
        opened.record(segment, 4096).await.expect("a record");
        assert!(devices[0].with_bytes(|bytes| bytes == before), "the device was changed");
    });
}

#[test]
fn what_one_copy_lacks_and_another_does_not_give_out_is_unreadable_and_not_damaged() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("small", &data(1, 3000)).await.expect("stored");
        store.put("large", &data(2, 200_000)).await.expect("stored");
        for (damaged, unreadable) in [(0, 1), (1, 0)] {
            let whole = devices[damaged].copy();
            // What lies behind the superblocks and checkpoints.
            let layout = store.core.store.devices[damaged].expect("present");
            devices[damaged].with_bytes(|bytes| bytes[layout.segment_offset as usize..].fill(0x5a));
            devices[unreadable].fail_reads(0..64 << 20);
            for key in ["small", "large"] {
                let error = store.get(key).await.expect_err("no copy is there");
                assert!(matches!(error, Error::Io { .. }), "{key}: {error}");
            }
            devices[unreadable].heal();
            assert_eq!(store.get("large").await.expect("a copy is whole"), data(2, 200_000));
            let bytes = whole.with_bytes(|bytes| bytes.to_vec());
            devices[damaged].with_bytes(|there| there.copy_from_slice(&bytes));
        }
    });
}
