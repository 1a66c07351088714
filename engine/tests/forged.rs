//! Logs whose checksums are right and whose numbers are not. Settlements and orders are under no key: whoever can write a device can change them. A shard with
//! such a log opens or says what is wrong with it; nothing panics.

mod support;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use engine::format::body::Numbering;
use engine::format::record::{HEADER_SIZE, RecordHeader, RecordKind, body_checksum};
use engine::format::segment::SegmentHeader;
use engine::format::superblock::{COPY_OFFSETS, Superblock, Verdict};
use engine::ids::{Lsn, ShardId};
use engine::limits::{BLOCK_SIZE, RECORD_ALIGN};
use engine::{Core, Error, Layout, Precondition, Store};
use futures_util::FutureExt;
use support::*;
use zerocopy::IntoBytes;

const MIB: usize = 1 << 20;

/// A record of the image: where on the device it begins, and its header.
#[derive(Clone)]
struct Found {
    at: usize,
    header: RecordHeader,
}

/// What is done to a record.
#[derive(Clone, Copy, Debug)]
enum Forgery {
    /// Other bytes at a place of the settlement.
    Bytes { at: usize, value: u32 },
    /// The settlement ends early.
    Cut { len: usize },
    /// Another order.
    Order(u64),
}

impl Forgery {
    fn apply(self, image: &mut [u8], found: &Found) {
        let Some(mut header) = RecordHeader::decode(&image[found.at..]) else { return };
        let settlement = found.at + HEADER_SIZE + header.payload_len;
        match self {
            Forgery::Bytes { at, value } => {
                let at = at.min(header.settlement_len.saturating_sub(4));
                image[settlement + at..][..4].copy_from_slice(&value.to_le_bytes());
            }
            Forgery::Cut { len } => {
                let end = settlement + header.settlement_len;
                header.settlement_len = len.min(header.settlement_len);
                image[settlement + header.settlement_len..end].fill(0);
            }
            Forgery::Order(order) => header.order = Some(Lsn(order)),
        }
        let body = found.at + HEADER_SIZE..found.at + header.record_len();
        header.payload_checksum = body_checksum(&image[body]);
        image[found.at..][..HEADER_SIZE].copy_from_slice(header.encode().as_bytes());
    }
}

/// A store in which something of every kind that has a settlement was done, as its device holds it.
async fn image() -> Vec<u8> {
    let devices = formatted(1, 16 * MIB, 1).await;
    let store = TestStore::open(&devices).await.expect("opened");
    for (i, len) in [700, 100_000, 40_000, 5].into_iter().enumerate() {
        store.put(&format!("k{i}"), &data(i as u64, len)).await.expect("stored");
        store.put(&format!("k{i}"), &data(i as u64 + 9, len)).await.expect("stored");
    }
    store.delete("k0").await.expect("deleted");
    store.delete("k1").await.expect("deleted");
    for i in 0..3 {
        let bytes = data(i, 50_000);
        let content = store.content(&bytes, Layout::InlineIfSmall).await.expect("written");
        let mut new = store.new_version("numbered", &bytes);
        new.meta.numbering = Numbering::Numbered;
        let draft = store.core.draft_version(&store.sealing(), new, content).expect("drafted");
        store.home().put(draft, Precondition::None).await.expect("stored");
    }
    let upload = store.create_upload("big").await.expect("an upload");
    for number in [1, 2, 1] {
        store.put_part("big", upload, number, &data(number.into(), 70_000)).await.expect("a part");
    }
    store.complete("big", upload).await.expect("completed");
    let given_up = store.create_upload("none").await.expect("an upload");
    store.put_part("none", given_up, 1, &data(8, 70_000)).await.expect("a part");
    store.abort("none", given_up).await.expect("aborted");
    store.home().empty_bucket(store.bucket()).await.expect("emptied");
    store.settle().await;
    store.put("k3", &data(3, 100_000)).await.expect("stored");
    store.put("k3", &data(4, 100)).await.expect("stored");
    drop(store);
    devices[0].with_bytes(|bytes| bytes.to_vec())
}

/// The records of all logs.
fn records(image: &[u8]) -> Vec<Found> {
    let Verdict::Present(superblock) = Superblock::decode(&image[COPY_OFFSETS[0] as usize..]) else {
        panic!("it was formatted")
    };
    let (begin, size) = (superblock.segment_offset as usize, superblock.segment_size as usize);
    let mut found = Vec::new();
    for slot in 0..superblock.slot_count as usize {
        let segment = &image[begin + slot * size..][..size];
        let Some(of) = SegmentHeader::decode(segment, superblock.store_id) else { continue };
        let mut at = BLOCK_SIZE;
        while at + HEADER_SIZE <= size {
            let header = RecordHeader::decode(&segment[at..]).filter(|header| {
                header.position.segment == of.id
                    && segment
                        .get(at + HEADER_SIZE..at + header.record_len())
                        .is_some_and(|body| header.matches_body(body))
            });
            match header {
                Some(header) => {
                    found.push(Found { at: begin + slot * size + at, header });
                    at += header.record_len().next_multiple_of(RECORD_ALIGN);
                }
                None => at = (at + 1).next_multiple_of(BLOCK_SIZE),
            }
        }
    }
    found
}

/// One record of each kind and length of settlement: what replay does with the others is the same.
fn of_each_shape(records: &[Found]) -> Vec<Found> {
    let shape = |found: &Found| (found.header.identity.kind.code(), found.header.settlement_len);
    let mut seen = BTreeSet::new();
    records.iter().filter(|found| seen.insert(shape(found))).cloned().collect()
}

/// Opens every shard of an image; `None` when something panicked.
async fn open(image: &[u8], device: &MemoryDevice) -> Option<Result<(), Error>> {
    device.with_bytes(|bytes| bytes.copy_from_slice(image));
    let devices = [device.clone()];
    let opening = async {
        let store = Store::open(&devices, master()).await?;
        let core = Core::new(store, 0, devices.to_vec(), Box::new(Seeded(1)));
        for id in 0..core.store.shard_count {
            engine::open_shard(core.clone(), ShardId(id), |_| {}).await?;
        }
        Ok(())
    };
    AssertUnwindSafe(opening).catch_unwind().await.ok()
}

/// How openings ended.
#[derive(Default)]
struct Tally {
    opened: u64,
    refused: u64,
}

impl Tally {
    fn add(&mut self, result: Option<Result<(), Error>>, case: &dyn Fn() -> String) {
        match result {
            Some(Ok(())) => self.opened += 1,
            Some(Err(Error::Corrupt { .. })) => self.refused += 1,
            Some(Err(error)) => panic!("{}: {error:?} says nothing of the log", case()),
            None => panic!("{}: the opening panicked", case()),
        }
    }
}

/// Everything that is done to one record: each word of its settlement takes values at and around every limit.
fn forgeries(image: &[u8], found: &Found) -> Vec<Forgery> {
    let header = &found.header;
    let settlement = &image[found.at + HEADER_SIZE + header.payload_len..][..header.settlement_len];
    let mut forgeries = Vec::new();
    for (i, word) in settlement.chunks_exact(4).enumerate() {
        let word = u32::from_le_bytes(word.try_into().expect("a word"));
        for value in [0, 1, i32::MAX as u32, i32::MIN as u32, u32::MAX, word.wrapping_add(1), word ^ 0x40] {
            if value != word {
                forgeries.push(Forgery::Bytes { at: i * 4, value });
            }
        }
    }
    forgeries.extend((0..header.settlement_len).step_by(8).map(|len| Forgery::Cut { len }));
    let lsn = header.position.lsn.0;
    forgeries.extend([1, lsn - 1, lsn, lsn + 1, u64::MAX - 1, u64::MAX].map(Forgery::Order));
    forgeries
}

#[test]
fn no_single_forged_number_in_a_log_makes_replay_panic() {
    run(async {
        let image = image().await;
        let records = records(&image);
        let kinds: BTreeSet<u8> = records.iter().map(|found| found.header.identity.kind.code()).collect();
        for kind in [
            RecordKind::Version,
            RecordKind::Tombstone,
            RecordKind::Part,
            RecordKind::UploadEnd,
            RecordKind::RangeTombstone,
            RecordKind::Reap,
        ] {
            assert!(kinds.contains(&kind.code()), "the log has no {kind:?}");
        }
        let device = MemoryDevice::new(image.len());
        assert_eq!(open(&image, &device).await, Some(Ok(())), "it opens as it was left");
        let mut tally = Tally::default();
        for found in &of_each_shape(&records) {
            for forgery in forgeries(&image, found) {
                let mut forged = image.clone();
                forgery.apply(&mut forged, found);
                tally.add(open(&forged, &device).await, &|| format!("{:?}: {forgery:?}", found.header));
            }
        }
        assert!(tally.opened > 100 && tally.refused > 100, "{} and {}", tally.opened, tally.refused);
    });
}

#[test]
fn no_handful_of_forged_numbers_in_a_log_makes_replay_panic() {
    run(async {
        let image = image().await;
        let records = records(&image);
        let device = MemoryDevice::new(image.len());
        let mut tally = Tally::default();
        for seed in 1..300 {
            let mut chance = Seeded(seed);
            let mut forged = image.clone();
            for _ in 0..1 + chance.below(4) {
                let found = &records[chance.below(records.len() as u64) as usize];
                let choices = forgeries(&image, found);
                choices[chance.below(choices.len() as u64) as usize].apply(&mut forged, found);
            }
            tally.add(open(&forged, &device).await, &|| format!("seed {seed}"));
        }
        assert!(tally.opened > 20 && tally.refused > 20, "{} and {}", tally.opened, tally.refused);
    });
}
