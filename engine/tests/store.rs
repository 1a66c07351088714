//! The engine as its users see it: what was acknowledged is there, whatever happened meanwhile.

mod support;

use engine::format::FORMAT_VERSION;
use engine::format::record::SealKind;
use engine::format::superblock::{COPY_OFFSETS, Superblock};
use engine::ids::{UnixMillis, UploadId, UserId};
use engine::index::directory::PageQuery;
use engine::limits::BLOCK_SIZE;
use engine::{Content, Error, Layout, Precondition, shared_content};
use support::{MemoryDevice, NAMESPACE, TestStore, data, etag, formatted, run};

const MIB: usize = 1 << 20;

/// Sizes around every boundary: empty, inline, one frame, one write, one segment.
const SIZES: [usize; 12] =
    [0, 1, 4096, 32_768, 32_769, 65_519, 65_520, 65_521, 262_080, 262_144, 1_000_000, 3_000_000];

#[test]
fn objects_of_every_size_survive_a_restart() {
    run(async {
        let devices = formatted(2, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for (i, size) in SIZES.into_iter().enumerate() {
            store.put(&format!("key-{size}"), &data(i as u64, size)).await.expect("stored");
        }
        let again = TestStore::open(&devices).await.expect("opened again");
        for (i, size) in SIZES.into_iter().enumerate() {
            let version = again.version(&format!("key-{size}")).await.expect("there");
            assert_eq!(version.meta.pairs[0].1, b"text/plain");
            assert_eq!(
                again.get(&format!("key-{size}")).await.expect("read"),
                data(i as u64, size),
                "{size}"
            );
        }
    });
}

#[test]
fn the_last_write_of_a_key_counts_after_a_restart_too() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for (key, sizes) in [("small", [10, 20]), ("large", [100_000, 300_000]), ("shrunk", [300_000, 5])] {
            for size in sizes {
                store.put(key, &data(size as u64, size)).await.expect("stored");
            }
        }
        store.put("gone", b"x").await.expect("stored");
        assert!(store.delete("gone").await.expect("deleted"));
        assert!(!store.delete("gone").await.expect("deleted twice"));
        for store in [store, TestStore::open(&devices).await.expect("opened again")] {
            for (key, size) in [("small", 20), ("large", 300_000), ("shrunk", 5)] {
                assert_eq!(store.get(key).await.expect("read"), data(size as u64, size));
            }
            assert_eq!(store.get("gone").await, Err(Error::NotFound));
            let page =
                store.home().page(store.bucket(), &PageQuery { max: 10, ..PageQuery::default() }).await;
            let keys: Vec<Vec<u8>> = page.expect("listed").entries.into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [b"large".to_vec(), b"shrunk".to_vec(), b"small".to_vec()]);
        }
    });
}

#[test]
fn with_two_copies_either_device_may_be_lost() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for (i, size) in SIZES.into_iter().enumerate() {
            store.put(&format!("key-{size}"), &data(i as u64, size)).await.expect("stored");
        }
        for survivor in &devices {
            let degraded = TestStore::open(&[survivor.copy()]).await.expect("opened with one device");
            assert_eq!(degraded.core.store.missing_devices().len(), 1);
            for (i, size) in SIZES.into_iter().enumerate() {
                assert_eq!(degraded.get(&format!("key-{size}")).await.expect("read"), data(i as u64, size));
            }
            assert_eq!(degraded.put("new", b"x").await, Err(Error::ReadOnly));
            assert!(matches!(degraded.delete("key-1").await, Err(Error::ReadOnly)));
        }
    });
}

#[test]
fn devices_may_come_in_any_order_and_must_be_of_one_store() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        TestStore::open(&devices).await.expect("opened").put("k", b"v").await.expect("stored");
        let shuffled = [devices[2].clone(), devices[0].clone(), devices[1].clone()];
        assert_eq!(TestStore::open(&shuffled).await.expect("opened").get("k").await.expect("read"), b"v");
        let twice = [devices[0].clone(), devices[0].copy()];
        assert!(matches!(TestStore::open(&twice).await.err(), Some(Error::Devices { .. })));
        let blank = [devices[0].clone(), MemoryDevice::new(MIB)];
        assert!(matches!(TestStore::open(&blank).await.err(), Some(Error::Devices { .. })));
    });
}

#[test]
fn rot_in_one_copy_is_passed_over_and_in_the_only_copy_is_told() {
    run(async {
        for copies in [1u8, 2] {
            let devices = formatted(2, 64 * MIB, copies).await;
            let store = TestStore::open(&devices).await.expect("opened");
            store.put("k", &data(1, 200_000)).await.expect("stored");
            // All bulk data of one device rots: everything behind the first records.
            let extent = store.version("k").await.expect("there").pieces[0].extents[0];
            let place = store.core.store.table.places(extent.segment).expect("current")[0];
            let layout = store.core.store.devices[usize::from(place.device.0)].expect("present");
            let at = layout.segment_offset
                + u64::from(place.slot) * store.core.store.segment_size
                + extent.offset();
            devices[usize::from(place.device.0)].with_bytes(|bytes| bytes[at as usize + 70_000] ^= 0x10);
            match store.get("k").await {
                Ok(bytes) => assert!(copies == 2 && bytes == data(1, 200_000)),
                Err(error) => assert!(copies == 1 && matches!(error, Error::Corrupt { .. }), "{error}"),
            }
        }
    });
}

#[test]
fn a_torn_last_record_is_forgotten_and_the_log_goes_on() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("kept", b"kept").await.expect("stored");
        let before = devices[0].copy();
        store.put("torn", &data(3, 20_000)).await.expect("stored");
        // Of the last batch only the first block arrived.
        let after = devices[0].with_bytes(|bytes| bytes.to_vec());
        let torn = before.copy();
        torn.with_bytes(|bytes| {
            let first = bytes.iter().zip(&after).position(|(a, b)| a != b).expect("something was written");
            let block = first / 4096 * 4096;
            bytes[block..block + 4096].copy_from_slice(&after[block..block + 4096]);
        });
        let devices = [torn];
        let store = TestStore::open(&devices).await.expect("opened");
        assert_eq!(store.get("kept").await.expect("read"), b"kept");
        assert_eq!(store.get("torn").await, Err(Error::NotFound));
        store.put("later", b"later").await.expect("stored");
        let store = TestStore::open(&devices).await.expect("opened again");
        assert_eq!(store.get("later").await.expect("read"), b"later");
        assert_eq!(store.get("torn").await, Err(Error::NotFound));
    });
}

#[test]
fn a_log_end_that_reached_one_copy_only_is_completed_on_the_other() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"a").await.expect("stored");
        let behind = devices[1].copy();
        store.put("b", b"b").await.expect("stored");
        // The second device lost what it had not flushed; either answer would do for "b", but it must be the same for ever.
        let store = TestStore::open(&[devices[0].clone(), behind.clone()]).await.expect("opened");
        assert_eq!(store.get("b").await.expect("read"), b"b");
        drop(store);
        let alone = TestStore::open(&[behind]).await.expect("opened with the healed copy");
        assert_eq!(alone.get("b").await.expect("read"), b"b");
    });
}

#[test]
fn a_lost_segment_in_the_middle_of_the_log_is_an_error_not_an_end() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for i in 0..150 {
            store.put(&format!("k{i}"), &data(i, 20_000)).await.expect("stored");
        }
        let first = store.version("k0").await.expect("there").pins;
        assert!(!first.is_empty());
        let home = store.home().id();
        let layout = store.core.store.devices[0].expect("present");
        // The first data record of the home shard's first segment rots: later segments exist, so the log can't end there.
        devices[0].with_bytes(|bytes| {
            for slot in 0..layout.slot_count {
                let at = (layout.segment_offset + u64::from(slot) * store.core.store.segment_size) as usize;
                let header =
                    engine::format::segment::SegmentHeader::decode(&bytes[at..], store.core.store.id);
                if header.is_some_and(|h| h.stream == home.0 && h.sequence == 0) {
                    bytes[at + 8 * 4096..at + 40 * 4096].fill(0xee);
                }
            }
        });
        assert!(matches!(TestStore::open(&devices).await.err(), Some(Error::Corrupt { .. })));
    });
}

#[test]
fn one_small_put_is_one_append_and_concurrent_ones_share_flushes() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("first of the session", b"x").await.expect("stored");
        let (writes, flushes) = (devices[0].writes(), devices[0].flushes());
        store.put("one", &data(1, 4096)).await.expect("stored");
        assert_eq!((devices[0].writes() - writes, devices[0].flushes() - flushes), (1, 1));

        let (writes, flushes) = (devices[0].writes(), devices[0].flushes());
        let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
        let value = data(2, 1000);
        let puts = keys.iter().map(|key| store.put(key, &value));
        futures_util::future::join_all(puts)
            .await
            .into_iter()
            .collect::<engine::Result<()>>()
            .expect("stored");
        assert!(devices[0].flushes() - flushes <= 3, "{} flushes", devices[0].flushes() - flushes);
        assert!(devices[0].writes() - writes <= 3, "{} writes", devices[0].writes() - writes);
    });
}

#[test]
fn a_small_get_is_one_device_read() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for i in 0..20 {
            store.put(&format!("k{i}"), &data(i, 4096)).await.expect("stored");
        }
        let reads = devices[0].reads();
        for i in 0..20 {
            assert_eq!(store.get(&format!("k{i}")).await.expect("read"), data(i, 4096));
        }
        assert_eq!(devices[0].reads() - reads, 20);
    });
}

#[test]
fn preconditions_see_what_is_queued() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let racers = (0..8u8)
            .map(|i| store.put_if("k", std::slice::from_ref(Box::leak(Box::new(i))), Precondition::Absent));
        let outcomes = futures_util::future::join_all(racers).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(outcomes.iter().flatten().count() == 1 && outcomes.contains(&Err(Error::PreconditionFailed)));

        let current = store.version("k").await.expect("there").meta.etag;
        let stale = Precondition::ETag(etag(b"something else"));
        assert_eq!(store.put_if("k", b"new", stale).await, Err(Error::PreconditionFailed));
        store.put_if("k", b"new", Precondition::ETag(current)).await.expect("matched");
        assert_eq!(store.put_if("none", b"x", Precondition::ETag(current)).await, Err(Error::NotFound));
        assert_eq!(store.put_if("none", b"x", Precondition::Present).await, Err(Error::NotFound));
        store.put_if("k", b"newer", Precondition::Present).await.expect("present");
    });
}

#[test]
fn an_upload_becomes_an_object_without_copying() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let upload = store.create_upload("big").await.expect("created");
        for (number, seed) in [(2, 20u64), (1, 9), (1, 10), (3, 30)] {
            store.put_part("big", upload, number, &data(seed, 300_000)).await.expect("part");
        }
        let store = TestStore::open(&devices).await.expect("parts survive a restart");
        store.put("first of the session", b"x").await.expect("stored");
        let writes = devices[0].writes();
        store.complete("big", upload).await.expect("completed");
        assert_eq!(devices[0].writes() - writes, 1, "completion is one record");
        let expected = [data(10, 300_000), data(20, 300_000), data(30, 300_000)].concat();
        assert_eq!(store.get("big").await.expect("read"), expected);
        assert_eq!(store.complete("big", upload).await, Err(Error::UploadNotFound));
        let again = TestStore::open(&devices).await.expect("opened again");
        assert_eq!(again.get("big").await.expect("read"), expected);
        assert!(again.home().upload(again.bucket(), b"big", upload).await.is_err());
    });
}

#[test]
fn who_repeats_a_completion_that_is_under_way_finds_the_object() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let upload = store.create_upload("k").await.expect("created");
        store.put_part("k", upload, 1, &data(1, 1000)).await.expect("part");
        let repeat = async {
            let outcome = store.complete("k", upload).await;
            assert_eq!(outcome, Err(Error::UploadNotFound));
            store.get("k").await
        };
        let (first, second) = futures_util::join!(store.complete("k", upload), repeat);
        first.expect("completed");
        assert_eq!(second.expect("there by then"), data(1, 1000));
    });
}

#[test]
fn a_part_replaced_during_completion_is_a_conflict() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let upload = store.create_upload("k").await.expect("created");
        store.put_part("k", upload, 1, &data(1, 1000)).await.expect("part");
        let view = store.home().upload(store.bucket(), b"k", upload).await.expect("there");
        store.put_part("k", upload, 1, &data(2, 1000)).await.expect("replaced");
        let chosen = [engine::ChosenPart { number: 1, lsn: view.parts[0].0 }];
        let mut new = store.new_version("k", b"");
        new.meta.upload_id = upload;
        let content = Content::Frames { pieces: view.parts[0].1.pieces.clone(), pins: view.pins };
        let draft = store.core.draft_version(&store.sealing(), new, content).expect("drafted");
        let outcome = store.home().complete_upload(draft, &chosen, Precondition::None).await;
        assert_eq!(outcome, Err(Error::Conflict));
        store.complete("k", upload).await.expect("the second look");
        assert_eq!(store.get("k").await.expect("read"), data(2, 1000));
    });
}

#[test]
fn a_copy_shares_bytes_and_outlives_its_source() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("source", &data(1, 500_000)).await.expect("stored");
        let source = store.version("source").await.expect("there");
        let content = shared_content(&source.pieces, &source.pins);
        let new = store.new_version("copy", b"");
        let written = store.core.counters.frames_written.value();
        let draft = store.core.draft_version(&store.sealing(), new, content).expect("drafted");
        store.home().put(draft, Precondition::None).await.expect("copied");
        assert_eq!(store.core.counters.frames_written.value(), written);
        drop(source);
        assert!(store.delete("source").await.expect("deleted"));
        // Whatever is freed is overwritten.
        for i in 0..20 {
            store.put("churn", &data(i, 900_000)).await.expect("stored");
        }
        assert_eq!(store.get("copy").await.expect("read"), data(1, 500_000));
        assert_eq!(
            TestStore::open(&devices).await.expect("opened").get("copy").await.expect("read"),
            data(1, 500_000)
        );
    });
}

#[test]
fn what_failed_or_was_abandoned_leaves_nothing_and_its_space_comes_back() {
    run(async {
        let devices = formatted(1, 32 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        // Ten times the device in abandoned writers, aborted uploads and overwrites.
        for i in 0..80 {
            drop(store.content(&data(i, 1_500_000), Layout::Frames).await.expect("written"));
            let upload = store.create_upload("up").await.expect("created");
            store.put_part("up", upload, 1, &data(i, 1_500_000)).await.expect("part");
            store.abort("up", upload).await.expect("aborted");
            store.put("k", &data(i, 1_500_000)).await.expect("stored");
        }
        assert_eq!(store.get("k").await.expect("read"), data(79, 1_500_000));
        let listed = store.home().page(store.bucket(), &PageQuery { max: 10, ..PageQuery::default() }).await;
        assert_eq!(listed.expect("listed").entries.len(), 1);
        let usage = store.home().usage();
        assert_eq!((usage[0].1.objects, usage[0].1.bytes, usage[0].1.uploads), (1, 1_500_000, 0));
    });
}

#[test]
fn a_full_store_says_so_reads_on_and_takes_again_after_deletes() {
    run(async {
        let devices = formatted(1, 32 * MIB, 1).await;
        let mut store = TestStore::open(&devices).await.expect("opened");
        for round in 0..3 {
            let mut stored = Vec::new();
            loop {
                let key = format!("k{}", stored.len());
                match store.put(&key, &data(stored.len() as u64, 400_000)).await {
                    Ok(()) => stored.push(key),
                    Err(error) => {
                        assert_eq!(error, Error::Full);
                        break;
                    }
                }
            }
            assert!(stored.len() > 40, "round {round}: only {} objects", stored.len());
            assert_eq!(store.put("tiny", b"x").await, Err(Error::Full), "small ones are refused too");
            store = TestStore::open(&devices).await.expect("a full store opens");
            for (i, key) in stored.iter().enumerate() {
                assert_eq!(store.get(key).await.expect("read"), data(i as u64, 400_000));
            }
            for key in &stored {
                assert!(store.delete(key).await.expect("a delete is always admitted"));
            }
        }
    });
}

#[test]
fn nothing_readable_lies_on_an_encrypted_device() {
    run(async {
        for (seal_kind, is_readable) in [(SealKind::Aes256Gcm, false), (SealKind::Checksum, true)] {
            let devices = formatted(1, 64 * MIB, 1).await;
            let store = TestStore::open_with(&devices, seal_kind).await.expect("opened");
            let marker = "MARKER-IN-THE-CLEAR";
            store.put(marker, &marker.repeat(10).into_bytes()).await.expect("stored");
            store.put("large", &marker.repeat(10_000).into_bytes()).await.expect("stored");
            assert_eq!(store.get("large").await.expect("read"), marker.repeat(10_000).into_bytes());
            assert_eq!(devices[0].contains(marker.as_bytes()), is_readable);
            assert!(!devices[0].contains(b"default"), "the catalog is always encrypted");
        }
    });
}

#[test]
fn another_key_source_opens_nothing() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let wrong = engine::crypto::MasterKey::new([1; 32]);
        assert_eq!(engine::Store::open(&devices, wrong).await.err(), Some(Error::Key { what: "the store" }));
    });
}

#[test]
fn a_store_of_another_format_version_is_refused_with_what_to_do() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        devices[0].with_bytes(|bytes| {
            for copy in COPY_OFFSETS.map(|at| at as usize) {
                let block = &mut bytes[copy..copy + BLOCK_SIZE];
                block[8..12].copy_from_slice(&(FORMAT_VERSION - 1).to_le_bytes());
                let checksum = xxhash_rust::xxh3::xxh3_128(&block[..BLOCK_SIZE - 16]);
                block[BLOCK_SIZE - 16..].copy_from_slice(&checksum.to_le_bytes());
            }
        });
        let refused = engine::Store::open(&devices, support::master()).await.err();
        assert_eq!(refused, Some(Error::Devices { what: Superblock::OTHER_VERSION }));
    });
}

#[test]
fn a_store_is_not_formatted_over() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let options = engine::FormatOptions {
            copies: 1,
            shard_count: 1,
            segment_size: None,
            inline_max: 1024,
            tiers: Vec::new(),
        };
        let outcome =
            engine::format(&devices, &options, &support::master(), UnixMillis(1), &mut support::Seeded(1))
                .await;
        assert_eq!(outcome, Err(Error::AlreadyExists));
    });
}

#[test]
fn a_bucket_with_objects_is_not_closed_and_a_deleted_one_stays_away() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("k", &data(1, 200_000)).await.expect("stored");
        let bucket = store.bucket();
        assert_eq!(store.home().close_bucket_if_empty(bucket).await, Err(Error::BucketNotEmpty));
        store.delete("k").await.expect("deleted");
        let upload = store.create_upload("pending").await.expect("created");
        store.put_part("pending", upload, 1, &data(1, 200_000)).await.expect("part");
        store.home().close_bucket_if_empty(bucket).await.expect("closed");
        assert_eq!(store.put("late", b"x").await, Err(Error::BucketNotFound));
        let removed = engine::format::catalog::CatalogChange::RemoveBucket(bucket);
        let catalog = store.shards[0].change_catalog(vec![removed]).await.expect("removed");
        assert!(!catalog.has_bucket(bucket));
        store.home().drop_bucket(bucket);
        store.settle().await;
        let live = store.core.store.table.counts().live_bytes;
        assert_eq!(live, 0, "uploads die with their bucket");
        let again = store.shards[0].create_bucket("b", NAMESPACE, UserId(1), "", UnixMillis(2)).await;
        assert_ne!(again.expect("made again").buckets["b"].id, bucket);
        let reopened = TestStore::open(&devices).await.expect("opened");
        assert_eq!(reopened.get("k").await, Err(Error::NotFound));
        assert_eq!(reopened.core.store.table.counts().live_bytes, live);
    });
}

#[test]
fn a_bucket_name_is_taken_once() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let make = || store.shards[0].create_bucket("new", NAMESPACE, UserId(1), "", UnixMillis(2));
        let outcomes = futures_util::future::join_all([make(), make(), make()]).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert_eq!(make().await.err(), Some(Error::AlreadyExists));
    });
}

#[test]
fn a_failed_flush_fences_the_device_and_nothing_is_acknowledged() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("before", b"before").await.expect("stored");
        devices[1].fail_flushes();
        assert!(matches!(store.put("during", b"during").await, Err(Error::ReadOnly | Error::Fenced { .. })));
        devices[1].heal();
        // A flush error is never forgiven, whatever the device says later.
        assert_eq!(store.put("after", b"after").await, Err(Error::ReadOnly));
        assert_eq!(store.get("before").await.expect("read"), b"before");
        assert_eq!(store.get("during").await, Err(Error::NotFound));
    });
}

#[test]
fn with_a_third_device_a_failed_write_costs_nothing() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for i in 0..10 {
            store.put(&format!("k{i}"), &data(i, 5000)).await.expect("stored");
        }
        devices[0].fail_writes();
        let mut failures = 0;
        for i in 10..40 {
            // An object in flight on the device may fail; what is acknowledged is not lost.
            if store.put(&format!("k{i}"), &data(i, 5000)).await.is_err() {
                failures += 1;
            }
        }
        assert!(failures <= 1, "{failures} puts failed");
        store.put("large", &data(77, 500_000)).await.expect("stored on the other two");
        let reopened = TestStore::open(&devices[1..]).await.expect("opened without it");
        for i in (0..10).chain(12..40) {
            assert_eq!(reopened.get(&format!("k{i}")).await.expect("read"), data(i, 5000));
        }
        assert_eq!(reopened.get("large").await.expect("read"), data(77, 500_000));
    });
}

#[test]
fn with_too_many_devices_missing_no_segment_id_is_given_twice() {
    run(async {
        let devices = formatted(2, 64 * MIB, 1).await;
        TestStore::open(&devices).await.expect("opened").put("k", b"v").await.expect("stored");
        for survivor in &devices {
            // Whether the log survives depends on where it lies; nothing is written either way.
            let writes = survivor.writes();
            if let Ok(store) = TestStore::open(std::slice::from_ref(survivor)).await {
                assert_eq!(store.put("new", b"x").await, Err(Error::ReadOnly));
            }
            assert_eq!(survivor.writes(), writes);
        }
    });
}

#[test]
fn uploads_are_listed_by_key_and_age() {
    run(async {
        let devices = formatted(1, 64 * MIB, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let mut ids: Vec<UploadId> = Vec::new();
        for key in ["a", "a", "d/x", "d/y", "z"] {
            ids.push(store.create_upload(key).await.expect("created"));
        }
        let mut query = engine::UploadPageQuery { delimiter: b"/".to_vec(), max: 1, ..Default::default() };
        let (mut seen, mut prefixes) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let page = store.home().upload_page(store.bucket(), &query).expect("listed");
            seen.extend(page.uploads.iter().map(|upload| upload.upload_id));
            prefixes.extend(page.common_prefixes);
            let Some((key, upload)) = page.next else { break };
            query.after_key = key;
            query.after_upload = upload;
        }
        let mut expected = vec![ids[0], ids[1]];
        expected.sort();
        expected.push(ids[4]);
        assert_eq!((seen, prefixes), (expected, vec![b"d/".to_vec()]));
    });
}

#[test]
fn a_bucket_is_emptied_before_parts_that_come_later() {
    run(async {
        let devices = formatted(1, 64 << 20, 1).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let upload = store.create_upload("k").await.expect("an upload");
        let mut drafts = Vec::new();
        for number in [1, 2] {
            let content = store.content(&data(number, 100_000), Layout::Frames).await.expect("written");
            let mut new = engine::NewPart {
                bucket: store.bucket(),
                key: b"k".to_vec(),
                upload_id: upload,
                ..engine::NewPart::default()
            };
            new.summary.number = number as u16;
            drafts.push(store.core.draft_part(&store.sealing(), new, content).expect("drafted"));
        }
        let second = drafts.pop().expect("two");
        let first = drafts.pop().expect("two");
        let mut first = Box::pin(store.home().put_part(first));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let mut emptied = Box::pin(store.home().empty_bucket(store.bucket()));
        assert!(futures_util::poll!(emptied.as_mut()).is_pending());
        let mut second = Box::pin(store.home().put_part(second));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        let (first, emptied, second) = futures_util::join!(first, emptied, second);
        assert_eq!((first, emptied, second), (Ok(()), Ok(()), Ok(())));
        let view = store.home().upload(store.bucket(), b"k", upload).await.expect("it goes on");
        let lsns: Vec<u64> = view.parts.iter().map(|(lsn, _)| lsn.0).collect();
        assert_eq!(lsns[1] - lsns[0], 2, "the record that empties the bucket lies between them");
    });
}
