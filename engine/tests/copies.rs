//! Copies that differ: what a crash left on one of them only, what one has lost, and devices that are away in turn.

mod support;

use engine::format::record::{HEADER_SIZE, RecordHeader};
use engine::format::segment::{Place, SegmentHeader, SegmentKind, Temperature};
use engine::format::superblock::{Superblock, Verdict};
use engine::ids::{DeviceIndex, StoreId, UnixMillis, UserId};
use engine::{Content, Error, Layout, Precondition, Store, Upkeep};
use futures_util::future::join_all;
use support::*;
use zerocopy::IntoBytes;

const MIB: usize = 1 << 20;

/// Three devices and two copies after a crash: the last batch of a log reached one copy only, and was not acknowledged.
struct Torn {
    devices: Vec<MemoryDevice>,
    /// The device that has the batch.
    ahead: usize,
    /// The one that lacks it.
    behind: usize,
}

impl Torn {
    /// The batch is that of this put, at the end of the log that was written last.
    async fn by_put(store: TestStore, mut devices: Vec<MemoryDevice>, key: &str, bytes: &[u8]) -> Self {
        let header = records(&store).pop().expect("records").0;
        let (ahead, behind) = (header.places[0].device.0 as usize, header.places[1].device.0 as usize);
        let stale = devices[behind].copy();
        store.put(key, bytes).await.expect("stored");
        drop(store);
        devices[behind] = stale;
        Torn { devices, ahead, behind }
    }

    fn without_ahead(&self) -> [MemoryDevice; 2] {
        [self.devices[self.behind].clone(), self.third()]
    }

    fn without_behind(&self) -> [MemoryDevice; 2] {
        [self.devices[self.ahead].clone(), self.third()]
    }

    fn third(&self) -> MemoryDevice {
        self.devices[3 - self.ahead - self.behind].clone()
    }
}

#[test]
fn a_record_header_of_zeroes_in_one_copy_is_not_the_end_of_the_log() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        let keys: Vec<String> = (0..8).map(|i| format!("k{i}")).collect();
        store.put("first", b"v").await.expect("stored");
        // One batch, so that records lie within a block.
        let results = join_all(keys.iter().map(|key| store.put(key, b"value"))).await;
        assert!(results.iter().all(Result::is_ok));
        let all = records(&store);
        let (header, offset) = all[all.len() - 3].clone();
        assert_ne!(offset % 4096, 0, "the record lies within a block");
        let copies: Vec<(usize, usize)> =
            header.places.iter().map(|place| position(&store, *place)).collect();
        drop(store);
        for which in [1, 0] {
            let damaged: Vec<MemoryDevice> = devices.iter().map(MemoryDevice::copy).collect();
            let (device, at) = copies[which];
            damaged[device].with_bytes(|bytes| bytes[at + offset..at + offset + 64].fill(0));
            let again = TestStore::open(&damaged).await.map_err(|e| format!("{e:?}")).expect("opened");
            for key in &keys {
                assert_eq!(again.get(key).await, Ok(b"value".to_vec()), "{key}, copy {which} damaged");
            }
        }
    });
}

#[test]
fn a_tail_that_one_copy_has_is_completed_though_a_checkpoint_came_between() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"acknowledged").await.expect("stored");
        let torn = Torn::by_put(store, devices, "a", b"in flight").await;
        // `behind` is away, and a checkpoint is made.
        let one = TestStore::open(&torn.without_behind()).await.expect("opened");
        assert_eq!(one.get("a").await.expect("seen"), b"in flight");
        for shard in &one.shards {
            shard.checkpoint().await.expect("a checkpoint");
        }
        drop(one);
        // It is back, and all are there for a while.
        let all = TestStore::open(&torn.devices).await.expect("opened");
        assert_eq!(all.get("a").await.expect("seen"), b"in flight");
        drop(all);
        // Now the other one is away: one of three, as promised.
        let other = TestStore::open(&torn.without_ahead()).await.expect("opened");
        let found = other.get("a").await;
        assert!(found == Ok(b"in flight".to_vec()) || found == Ok(b"acknowledged".to_vec()), "{found:?}");
    });
}

#[test]
fn a_tail_that_one_copy_has_is_completed_where_writes_are_taken_before_the_log_goes_on() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"acknowledged").await.expect("stored");
        let torn = Torn::by_put(store, devices, "a", b"in flight").await;
        // The device that has it gives it out, and takes no more writes.
        torn.devices[torn.ahead].fail_writes();
        let store = TestStore::open(&torn.devices).await.expect("opened");
        assert_eq!(store.get("a").await.expect("seen"), b"in flight");
        store.put("b", b"after it").await.expect("two devices take writes");
        drop(store);
        // Now it is gone.
        let rest = TestStore::open(&torn.without_ahead()).await.expect("opened");
        assert_eq!(rest.get("a").await.expect("it was seen"), b"in flight");
        assert_eq!(rest.get("b").await.expect("it was acknowledged"), b"after it");
    });
}

#[test]
fn moves_that_one_copy_has_are_completed_though_a_checkpoint_came_between() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        // One segment and a bit, of which most dies: what is left is moved to the cold strand.
        for i in 0..60 {
            store.put(&format!("k{i}"), &data(i, 30_000)).await.expect("stored");
        }
        for i in 1..60 {
            store.delete(&format!("k{i}")).await.expect("deleted");
        }
        store.home().checkpoint().await.expect("a checkpoint");
        let before: Vec<MemoryDevice> = devices.iter().map(MemoryDevice::copy).collect();
        while store.core.counters.relocated_bytes.value() == 0 {
            assert_eq!(store.home().upkeep().await, Ok(Upkeep::Progressed));
        }
        let cold: Vec<SegmentHeader> = records(&store)
            .into_iter()
            .map(|(header, _)| header)
            .filter(|header| header.temperature == Temperature::Cold)
            .collect();
        let header = cold.last().expect("something was moved").clone();
        assert_eq!(store.get("k0").await, Ok(data(0, 30_000)));
        drop(store);
        let (ahead, behind) = (header.places[0].device.0 as usize, header.places[1].device.0 as usize);
        let third = 3 - ahead - behind;
        // The crash: the header is on both, the batch of moves reached one copy only.
        let mut devices = devices;
        let with_header = before[behind].copy();
        {
            let layout =
                Store::open(&devices, master()).await.expect("opened").devices[behind].expect("there");
            let at = (layout.segment_offset + u64::from(header.places[1].slot) * MIB as u64) as usize;
            let block = devices[behind].with_bytes(|bytes| bytes[at..at + 4096].to_vec());
            with_header.with_bytes(|bytes| bytes[at..at + 4096].copy_from_slice(&block));
        }
        devices[behind] = with_header;
        let one = TestStore::open(&[devices[ahead].clone(), devices[third].clone()]).await.expect("opened");
        for shard in &one.shards {
            shard.checkpoint().await.expect("a checkpoint");
        }
        assert_eq!(one.get("k0").await, Ok(data(0, 30_000)));
        drop(one);
        let all = TestStore::open(&devices).await.expect("opened");
        assert_eq!(all.get("k0").await, Ok(data(0, 30_000)));
        drop(all);
        let other = TestStore::open(&[devices[behind].clone(), devices[third].clone()]).await;
        let other = other.map_err(|e| format!("{e:?}")).expect("one of three is away");
        let found = other.get("k0").await.map(|bytes| bytes == data(0, 30_000));
        assert_eq!(found, Ok(true), "it was acknowledged, and on two devices");
    });
}

#[test]
fn a_tail_that_one_copy_has_is_not_denied_while_both_of_its_devices_are_away_in_turn() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"a").await.expect("stored");
        let torn = Torn::by_put(store, devices, "b", b"not acknowledged").await;
        let one = TestStore::open(&torn.without_behind()).await.expect("opened");
        one.put("c", b"c").await.expect("stored on two devices");
        drop(one);
        // What came in between is on the device that is away now: the shard stays shut rather than without "c".
        let other = TestStore::open(&torn.without_ahead()).await;
        assert!(matches!(other.err(), Some(Error::Corrupt { .. })));
        let all = TestStore::open(&torn.devices).await.expect("all are there again");
        assert_eq!(all.get("a").await, Ok(b"a".to_vec()));
        assert_eq!(all.get("b").await, Ok(b"not acknowledged".to_vec()));
        assert_eq!(all.get("c").await, Ok(b"c".to_vec()));
    });
}

#[test]
fn what_the_end_of_a_log_that_is_away_refers_to_is_not_given_away_by_another_shard() {
    run(async {
        let devices = formatted_with(3, 24 * MIB, 2, 2).await;
        let mut store = TestStore::open(&devices).await.expect("opened");
        // A bucket at home in the other shard, which fills the store.
        let home = store.catalog.buckets["b"].home;
        let mut number = 0;
        let other = loop {
            let name = format!("other{number}");
            let made = store.shards[0].create_bucket(&name, NAMESPACE, UserId(1), "", UnixMillis(1)).await;
            if made.expect("made").buckets[&name].home != home {
                break name;
            }
            number += 1;
        };
        store.catalog = store.shards[0].catalog();
        store.shards.iter().for_each(|shard| shard.retain_buckets(&store.catalog));
        store.put("k", &data(1, 700_000)).await.expect("stored");
        let torn = Torn::by_put(store, devices, "k", &data(2, 700_000)).await;
        // The device with the end of the log is away while the other shard takes all space there is.
        let mut degraded = TestStore::open(&torn.without_ahead()).await.expect("opened");
        degraded.bucket_name = other.leak();
        let mut stored = 0;
        while degraded.put(&format!("o{stored}"), &data(3, 700_000)).await.is_ok() {
            stored += 1;
        }
        assert!(stored > 5, "the store was filled: {stored}");
        drop(degraded);
        let all = TestStore::open(&torn.devices).await.expect("opened");
        let read = all.get("k").await;
        assert!(read == Ok(data(1, 700_000)) || read == Ok(data(2, 700_000)), "{:?}", read.map(|b| b.len()));
    });
}

#[test]
fn a_key_whose_record_is_damaged_on_all_copies_can_be_overwritten_and_deleted() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        for key in ["overwritten", "deleted", "whole"] {
            store.put(key, b"value").await.expect("stored");
        }
        let all = records(&store);
        for (header, offset) in &all[all.len() - 3..all.len() - 1] {
            for place in &header.places {
                let (device, at) = position(&store, *place);
                devices[device].with_bytes(|bytes| bytes[at + offset + HEADER_SIZE + 9] ^= 1);
            }
        }
        // From here on the directory is on the devices, and nothing is in memory.
        store.home().checkpoint().await.expect("a checkpoint");
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened");
        for key in ["overwritten", "deleted"] {
            assert!(matches!(store.get(key).await, Err(Error::Corrupt { .. })), "{key}");
        }
        store.put("overwritten", b"again").await.expect("stored");
        assert_eq!(store.delete("deleted").await, Ok(true));
        assert_eq!(store.get("overwritten").await, Ok(b"again".to_vec()));
        assert_eq!(store.get("deleted").await, Err(Error::NotFound));
        assert_eq!(store.get("whole").await, Ok(b"value".to_vec()));
        drop(store);
        let store = TestStore::open(&devices).await.expect("opened");
        assert_eq!(store.get("overwritten").await, Ok(b"again".to_vec()));
        assert_eq!(store.get("deleted").await, Err(Error::NotFound));
        let usage = store.home().usage().into_iter().find(|(bucket, _)| *bucket == store.bucket());
        assert_eq!(usage.expect("it holds something").1.objects, 2);
    });
}

#[test]
fn with_a_third_device_a_failed_write_of_a_segment_header_costs_nothing() {
    run(async {
        for failing in 0..3 {
            let devices = formatted(3, 64 * MIB, 2).await;
            let store = TestStore::open(&devices).await.expect("opened");
            store.put("a", b"a").await.expect("stored");
            // Up to the end of the segment: the next batch needs a new one.
            for i in 0.. {
                let (_, last) = records(&store).pop().expect("records");
                if last > MIB - 2 * 36_864 {
                    break;
                }
                store.put(&format!("k{i}"), &data(i, 30_000)).await.expect("stored");
            }
            devices[failing].fail_writes();
            let result = store.put("z", &data(99, 32_000)).await;
            let after = store.put("y", &data(98, 32_000)).await;
            assert_eq!((result, after), (Ok(()), Ok(())), "device {failing} fails");
        }
    });
}

#[test]
fn the_bytes_of_a_put_that_failed_and_may_come_back_are_given_to_nobody_else() {
    run(async {
        let devices = formatted(2, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        // More than a segment: nothing is appended to the first any more.
        let content = store.content(&data(1, 3 * MIB / 2), Layout::Frames).await.expect("written");
        let Content::Frames { pieces, .. } = &content else { panic!("in frames") };
        let first = pieces[0].extents[0].segment;
        let draft = store
            .core
            .draft_version(&store.sealing(), store.new_version("k", b""), content)
            .expect("drafted");
        devices[1].fail_writes();
        assert_eq!(store.home().put(draft, Precondition::None).await, Err(Error::ReadOnly));
        assert!(store.core.store.table.places(first).is_some(), "one copy of the log refers to it");
        devices[1].heal();
        drop(store);
        let again = TestStore::open(&devices).await.expect("opened");
        assert_eq!(again.get("k").await, Ok(data(1, 3 * MIB / 2)), "it came back, whole");
    });
}

#[test]
fn an_id_that_only_a_device_out_of_sight_knows_is_not_given_again() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"a").await.expect("stored");
        store.settle().await;
        drop(store);
        let before: Vec<Vec<u8>> =
            devices.iter().map(|device| device.with_bytes(|bytes| bytes.to_vec())).collect();
        for alone in 0..3 {
            let devices: Vec<MemoryDevice> = devices.iter().map(MemoryDevice::copy).collect();
            let known = headers(&devices);
            let store = TestStore::open(&devices).await.expect("opened");
            for i in 0..4 {
                store.put(&format!("of the first {i}"), &data(i, 2 * MIB)).await.expect("stored");
            }
            let segments = store.core.store.devices[0].expect("there").segment_offset as usize;
            drop(store);
            let mut of_the_first = headers(&devices[alone..=alone]);
            of_the_first.retain(|header| !known.contains(header));
            assert!(of_the_first.len() > 2, "{} new segments on device {alone}", of_the_first.len());
            // The power went before the others had any of it in their segments.
            let mut left = devices.clone();
            left.remove(alone);
            for (i, device) in devices.iter().enumerate().filter(|(i, _)| *i != alone) {
                device.with_bytes(|bytes| bytes[segments..].copy_from_slice(&before[i][segments..]));
            }
            let store = TestStore::open(&left).await.expect("two of three are there");
            for i in 0..8 {
                store.put(&format!("of the second {i}"), &data(i, 2 * MIB)).await.expect("stored");
            }
            drop(store);
            let mut of_the_second = headers(&left);
            of_the_second.retain(|header| !known.contains(header));
            assert!(of_the_second.len() > 4);
            for header in of_the_second {
                assert!(
                    of_the_first.iter().all(|first| first.id != header.id),
                    "{:?} was given twice",
                    header.id
                );
            }
        }
    });
}

#[test]
fn a_header_that_only_a_device_out_of_sight_has_takes_nothing_from_the_segment_before_it() {
    run(async {
        let devices = formatted(3, 16 * MIB, 2).await;
        let store = TestStore::open(&devices).await.expect("opened");
        store.put("a", b"a").await.expect("stored");
        // Up to the end of the segment: the next batch of such a size needs a new one.
        let (mut before, mut next) = (Vec::new(), None);
        for i in 0.. {
            let (header, offset) = records(&store).pop().expect("records");
            if offset > MIB - 3 * 36_864 {
                before = devices.iter().map(MemoryDevice::copy).collect();
            }
            store.put(&format!("k{i}"), &data(i, 30_000)).await.expect("stored");
            let (last, _) = records(&store).pop().expect("records");
            if last.id != header.id {
                next = Some(last);
                break;
            }
        }
        drop(store);
        let next = next.expect("the log went on in another segment");
        for place in &next.places {
            let devices: Vec<MemoryDevice> = before.iter().map(MemoryDevice::copy).collect();
            let alone = usize::from(place.device.0);
            let all = TestStore::open(&devices).await.expect("opened");
            let (_, at) = position(&all, *place);
            drop(all);
            // The power goes when the header is durable on one device.
            let devices: Vec<MemoryDevice> = before.iter().map(MemoryDevice::copy).collect();
            let header = next.encode(devices_store_id(&devices));
            devices[alone].with_bytes(|bytes| bytes[at..at + 4096].copy_from_slice(header.as_bytes()));
            let mut left = devices.clone();
            left.remove(alone);
            let store = TestStore::open(&left).await.expect("two of three are there");
            store.put("b", b"acknowledged").await.expect("stored");
            store.delete("a").await.expect("deleted");
            drop(store);
            let all = TestStore::open(&devices).await.expect("all are there");
            assert_eq!(all.get("b").await, Ok(b"acknowledged".to_vec()), "device {alone} has the header");
            assert_eq!(all.get("a").await, Err(Error::NotFound));
        }
    });
}

fn devices_store_id(devices: &[MemoryDevice]) -> StoreId {
    devices[0].with_bytes(|bytes| match Superblock::decode(bytes) {
        Verdict::Present(superblock) => superblock.store_id,
        _ => panic!("it was formatted"),
    })
}

/// The headers of all segments on those devices.
fn headers(devices: &[MemoryDevice]) -> Vec<SegmentHeader> {
    let mut found = Vec::new();
    for device in devices {
        device.with_bytes(|bytes| {
            let Verdict::Present(superblock) = Superblock::decode(bytes) else { panic!("it was formatted") };
            for slot in 0..superblock.slot_count as usize {
                let at = superblock.segment_offset as usize + slot * superblock.segment_size as usize;
                found.extend(SegmentHeader::decode(&bytes[at..], superblock.store_id));
            }
        });
    }
    found
}

/// The records of the home shard's log in order: segment, and offset in it.
fn records(store: &TestStore) -> Vec<(SegmentHeader, usize)> {
    let home = store.home().id();
    let mut found = Vec::new();
    for (i, device) in store.devices.iter().enumerate() {
        let layout = store.core.store.devices[i].expect("there");
        device.with_bytes(|bytes| {
            for slot in 0..layout.slot_count {
                let at = (layout.segment_offset + u64::from(slot) * store.core.store.segment_size) as usize;
                let header = SegmentHeader::decode(&bytes[at..], store.core.store.id)
                    .filter(|h| h.kind == SegmentKind::Commit && h.stream == home.0)
                    .filter(|h| h.places[0] == Place { device: DeviceIndex(i as u16), slot });
                let Some(header) = header else { continue };
                for offset in (4096..MIB).step_by(64) {
                    let Some(record) = RecordHeader::decode(&bytes[at + offset..]) else { continue };
                    if record.position.segment == header.id && record.position.offset as usize == offset {
                        found.push((record.position.lsn, header.clone(), offset));
                    }
                }
            }
        });
    }
    found.sort_by_key(|(lsn, ..)| *lsn);
    found.into_iter().map(|(_, header, offset)| (header, offset)).collect()
}

/// Where a copy of a segment begins on its device.
fn position(store: &TestStore, place: Place) -> (usize, usize) {
    let layout = store.core.store.devices[place.device.0 as usize].expect("there");
    let at = layout.segment_offset + u64::from(place.slot) * store.core.store.segment_size;
    (usize::from(place.device.0), at as usize)
}
