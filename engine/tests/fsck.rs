//! The check of a whole store: clean where nothing is wrong, and naming what is where something is.

mod support;

use std::ops::Range;

use engine::crypto::MasterKey;
use engine::format::body::{Numbering, VersionBody};
use engine::format::checkpoint::{CheckpointBody, Image, Pointer};
use engine::format::frame::frame_payload_len;
use engine::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use engine::format::run::RunDescriptor;
use engine::format::segment::SegmentHeader;
use engine::format::superblock::{CHECKPOINT_OFFSET, COPY_OFFSETS};
use engine::fsck::{Depth, Event, Fault, Finding, Severity, Summary, check};
use engine::ids::*;
use engine::limits::{BLOCK_SIZE, RECORD_ALIGN};
use engine::{Content, Error, Layout, NewVersion, Precondition};
use support::*;

const MIB: usize = 1 << 20;

/// A store of two copies with everything in it that a store can have.
async fn lived_in() -> Vec<MemoryDevice> {
    let devices = formatted(2, 64 * MIB, 2).await;
    let store = TestStore::open(&devices).await.expect("opened");
    for i in 0..60 {
        store.put(&format!("small/{i:03}"), &data(i, 100 * i as usize)).await.expect("stored");
    }
    store.put("large", &data(100, 300_000)).await.expect("stored");
    store.put("large/deleted", &data(101, 200_000)).await.expect("stored");
    multipart(&store, "parts").await;
    store.put("checkpointed", b"1").await.expect("stored");
    for shard in &store.shards {
        shard.checkpoint().await.expect("a checkpoint");
    }
    // Then a second checkpoint with removals, and a log after it.
    store.delete("large/deleted").await.expect("deleted");
    store.delete("small/007").await.expect("deleted");
    for i in 0..5 {
        version(&store, "versions", i).await;
    }
    for shard in &store.shards {
        shard.checkpoint().await.expect("a checkpoint");
    }
    store.put("small/008", b"overwritten").await.expect("stored");
    store.put("logged", &data(102, 150_000)).await.expect("stored");
    version(&store, "versions", 9).await;
    store.delete("small/009").await.expect("deleted");
    let open = store.create_upload("unfinished").await.expect("an upload");
    store.put_part("unfinished", open, 3, &data(103, 90_000)).await.expect("a part");
    store.put_part("unfinished", open, 3, &data(104, 80_000)).await.expect("the part again");
    store.settle().await;
    devices
}

async fn multipart(store: &TestStore, key: &str) {
    let id = store.create_upload(key).await.expect("an upload");
    for number in 1..=12 {
        store.put_part(key, id, number, &data(number.into(), 70_000)).await.expect("a part");
    }
    store.complete(key, id).await.expect("completed");
}

/// A version with an id of its own.
async fn version(store: &TestStore, key: &str, seed: u64) {
    let bytes = data(seed, 1000);
    let mut new: NewVersion = store.new_version(key, &bytes);
    new.meta.numbering = Numbering::Numbered;
    let content: Content = store.content(&bytes, Layout::InlineIfSmall).await.expect("taken in");
    let draft = store.core.draft_version(&store.sealing(), new, content).expect("drafted");
    store.home().put(draft, Precondition::None).await.expect("stored");
}

async fn fsck_with(
    devices: &[MemoryDevice],
    master: MasterKey,
    depth: Depth,
) -> engine::Result<(Summary, Vec<Finding>)> {
    let mut findings = Vec::new();
    let summary = check(devices.to_vec(), master, depth, &mut |event| {
        if let Event::Found(finding) = event {
            findings.push(finding);
        }
    })
    .await?;
    Ok((summary, findings))
}

async fn fsck(devices: &[MemoryDevice]) -> (Summary, Vec<Finding>) {
    fsck_with(devices, master(), Depth::Data).await.expect("the check ran")
}

fn copies(devices: &[MemoryDevice]) -> Vec<MemoryDevice> {
    devices.iter().map(MemoryDevice::copy).collect()
}

/// Where things lie on each device, as byte ranges.
struct Map {
    segment_header: Vec<Range<usize>>,
    pointer: Vec<Range<usize>>,
    record: Vec<Range<usize>>,
    logged_record: Vec<Range<usize>>,
    frame: Vec<Range<usize>>,
    run_block: Vec<Range<usize>>,
    checkpoint_record: Vec<Range<usize>>,
    checkpoint_body: Vec<Range<usize>>,
}

impl Map {
    /// Looks for one of each on the devices of an open store.
    async fn of(devices: &[MemoryDevice]) -> Self {
        let store = TestStore::open(&copies(devices)).await.expect("opened");
        let home = store.home().id();
        let (turn, pointer) = (0..2)
            .filter_map(|turn| Some((turn, pointer_at(&store, &devices[0], home, turn)?)))
            .max_by_key(|(_, pointer)| pointer.lsn)
            .expect("a pointer");
        let at = CHECKPOINT_OFFSET as usize + Pointer::offset(home, turn) as usize;
        let record =
            on_devices(&store, pointer.place.segment, pointer.place.offset.into(), pointer.place.len);
        let (_, payload) = opened(&store, &devices[0], record[0].start);
        let checkpoint = CheckpointBody::decode(&payload).expect("a checkpoint");
        let extent = checkpoint.body.extents[0];
        let body = on_devices(&store, extent.segment, extent.offset(), extent.disk_len() as u32);
        let image = image(&store, &devices[0], &checkpoint, body[0].start);
        let (run, _) = RunDescriptor::decode(&image.runs[0]).expect("a run");
        let run = on_devices(&store, run.extents[0].segment, run.extents[0].offset(), 16 * 1024);
        let find = |key: &[u8]| find_version(&store, &devices[0], home, key);
        let (large_at, large) = find(b"large");
        let piece = large.pieces[0].extents[0];
        let frame = on_devices(&store, piece.segment, piece.offset(), 65_536);
        let segment_header = on_devices(&store, piece.segment, 0, BLOCK_SIZE as u32);
        Map {
            segment_header,
            pointer: vec![at..at + BLOCK_SIZE; devices.len()],
            record: on_devices(&store, large_at.0, large_at.1, large_at.2),
            logged_record: {
                let (at, _) = find(b"small/008");
                on_devices(&store, at.0, at.1, at.2)
            },
            frame,
            run_block: run,
            checkpoint_record: record,
            checkpoint_body: body,
        }
    }
}

fn pointer_at(store: &TestStore, device: &MemoryDevice, shard: ShardId, turn: u64) -> Option<Pointer> {
    let at = CHECKPOINT_OFFSET as usize + Pointer::offset(shard, turn) as usize;
    device.with_bytes(|bytes| Pointer::decode(&bytes[at..at + BLOCK_SIZE], store.core.store.id, shard))
}

fn on_devices(store: &TestStore, segment: SegmentId, offset: u64, len: u32) -> Vec<Range<usize>> {
    let places = store.core.store.table.places(segment).expect("the segment is there");
    let mut ranges = vec![0..0; places.len()];
    for place in places {
        let layout = store.core.store.devices[usize::from(place.device.0)].expect("the device is there");
        let at = layout.segment_offset + u64::from(place.slot) * store.core.store.segment_size + offset;
        ranges[layout.source] = at as usize..at as usize + len as usize;
    }
    ranges
}

/// The record at a place of a device, and its payload in the clear.
fn opened(store: &TestStore, device: &MemoryDevice, at: usize) -> (RecordHeader, Vec<u8>) {
    device.with_bytes(|bytes| {
        let header = RecordHeader::decode(&bytes[at..]).expect("a record");
        let identity = &header.identity;
        let key = store.core.store.keyring.object_key(
            identity.seal_kind,
            identity.namespace,
            identity.key_version,
            identity.object_id,
        );
        let mut payload = bytes[at + HEADER_SIZE..at + HEADER_SIZE + header.payload_len].to_vec();
        key.expect("a key").open_record(identity, &mut payload, &header.seal).expect("it opens");
        (header, payload)
    })
}

/// The body of a checkpoint, of one frame.
fn image(store: &TestStore, device: &MemoryDevice, checkpoint: &CheckpointBody, at: usize) -> Image {
    let body = &checkpoint.body;
    let key =
        store.core.store.keyring.object_key(body.seal_kind, body.namespace, body.key_version, body.object_id);
    let len = frame_payload_len(body.len, 0);
    assert_eq!(len as u64, body.len, "one frame holds it");
    device.with_bytes(|bytes| {
        let mut frame = bytes[at..at + len].to_vec();
        let seal = bytes[at + len..at + len + 16].try_into().expect("16 bytes");
        let position = engine::crypto::FramePosition::Last;
        key.expect("a key").open_frame(0, position, &mut frame, &seal).expect("it opens");
        Image::decode(&frame).expect("a body")
    })
}

/// The newest record of a key: where it is, and what it says.
fn find_version(
    store: &TestStore,
    device: &MemoryDevice,
    shard: ShardId,
    key: &[u8],
) -> ((SegmentId, u64, u32), VersionBody) {
    let layout = store.core.store.devices[0].expect("the device is there");
    let size = store.core.store.segment_size as usize;
    let mut found = None;
    for slot in 0..layout.slot_count as usize {
        let begin = layout.segment_offset as usize + slot * size;
        let block = device.with_bytes(|bytes| bytes[begin..begin + BLOCK_SIZE].to_vec());
        let Some(header) = SegmentHeader::decode(&block, store.core.store.id) else { continue };
        for offset in (BLOCK_SIZE..size - HEADER_SIZE).step_by(RECORD_ALIGN) {
            let decoded =
                device.with_bytes(|bytes| RecordHeader::decode(&bytes[begin + offset..begin + size]));
            let Some(record) = decoded.filter(|record| {
                record.position.segment == header.id
                    && record.position.shard == shard
                    && record.identity.kind == RecordKind::Version
            }) else {
                continue;
            };
            let (_, payload) = opened(store, device, begin + offset);
            let body = VersionBody::decode(&payload).expect("a version");
            if body.key == key && found.as_ref().is_none_or(|(lsn, _, _)| *lsn < record.position.lsn) {
                let len = record.record_len().next_multiple_of(RECORD_ALIGN) as u32;
                found = Some((record.position.lsn, (header.id, offset as u64, len), body));
            }
        }
    }
    let (_, at, body) = found.expect("the key has a record");
    (at, body)
}

/// Damages the byte `at` of those ranges on the first device, and checks; then on all, and checks again.
async fn damaged(
    devices: &[MemoryDevice],
    ranges: &[Range<usize>],
    at: usize,
) -> [(Summary, Vec<Finding>); 2] {
    let one = copies(devices);
    one[0].with_bytes(|bytes| bytes[ranges[0].start + at] ^= 0x40);
    let all = copies(devices);
    for (device, range) in all.iter().zip(ranges) {
        device.with_bytes(|bytes| bytes[range.start + at] ^= 0x40);
    }
    [fsck(&one).await, fsck(&all).await]
}

fn names(findings: &[Finding], fault: Fault, severity: Severity) -> bool {
    findings.iter().any(|finding| (finding.fault, finding.severity) == (fault, severity))
}

/// Damage of one copy is named and repairable, and nothing else is wrong; damage of all is named and not repairable.
async fn is_named(devices: &[MemoryDevice], ranges: &[Range<usize>], at: usize, fault: Fault) {
    let [(one, found_one), (all, found_all)] = damaged(devices, ranges, at).await;
    assert_eq!(one.worst(), Some(Severity::Repairable), "{fault:?} on one copy: {found_one:#?}");
    assert!(found_one.iter().all(|found| found.fault == fault), "{fault:?} on one copy: {found_one:#?}");
    assert!(found_one.iter().all(|found| found.device == Some(0)), "{fault:?} on one copy: {found_one:#?}");
    assert_eq!(all.worst(), Some(Severity::Lost), "{fault:?} on all copies: {found_all:#?}");
    assert!(names(&found_all, fault, Severity::Lost), "{fault:?} on all copies: {found_all:#?}");
}

#[test]
fn a_store_with_everything_in_it_is_clean_and_unchanged_by_the_check() {
    run(async {
        let devices = lived_in().await;
        let before: Vec<Vec<u8>> =
            devices.iter().map(|device| device.with_bytes(|bytes| bytes.to_vec())).collect();
        let (summary, findings) = fsck(&devices).await;
        assert_eq!(findings, []);
        assert_eq!(summary.worst(), None);
        assert!(summary.versions >= 65 && summary.uploads == 1 && summary.run_blocks > 0, "{summary:?}");
        assert!(summary.frames > 10 && summary.log_records > 5 && summary.segments > 3, "{summary:?}");
        for (device, before) in devices.iter().zip(&before) {
            device.with_bytes(|bytes| assert!(bytes == before.as_slice(), "the check wrote something"));
        }
    });
}

#[test]
fn a_store_that_was_just_formatted_is_clean() {
    run(async {
        let devices = formatted(3, 64 * MIB, 2).await;
        assert_eq!(fsck(&devices).await.1, []);
    });
}

#[test]
fn damage_is_named_and_its_severity_depends_on_the_other_copy() {
    run(async {
        let devices = lived_in().await;
        let map = Map::of(&devices).await;
        is_named(&devices, &map.segment_header, 100, Fault::SegmentHeader).await;
        is_named(&devices, &map.record, 40, Fault::Record).await;
        is_named(&devices, &map.record, HEADER_SIZE + 10, Fault::Record).await;
        is_named(&devices, &map.frame, 1000, Fault::Frame).await;
        is_named(&devices, &map.run_block, 1000, Fault::RunBlock).await;
        is_named(&devices, &map.checkpoint_body, 50, Fault::CheckpointBody).await;
        is_named(&devices, &map.checkpoint_record, HEADER_SIZE + 3, Fault::CheckpointRecord).await;
    });
}

#[test]
fn a_superblock_copy_is_made_good_by_the_other_and_a_device_without_any_by_the_others() {
    run(async {
        let devices = lived_in().await;
        let first: Vec<Range<usize>> = vec![COPY_OFFSETS[0] as usize..BLOCK_SIZE; 2];
        let [(one, found_one), (all, found_all)] = damaged(&devices, &first, 200).await;
        assert_eq!((one.worst(), one.repairable), (Some(Severity::Repairable), 1), "{found_one:#?}");
        assert_eq!((all.worst(), all.repairable), (Some(Severity::Repairable), 2), "{found_all:#?}");
        let damaged = copies(&devices);
        for device in &damaged[..1] {
            device.with_bytes(|bytes| COPY_OFFSETS.iter().for_each(|at| bytes[*at as usize + 200] ^= 1));
        }
        let (summary, findings) = fsck(&damaged).await;
        assert_eq!((summary.worst(), summary.repairable), (Some(Severity::Repairable), 2), "{findings:#?}");
        assert!(summary.versions >= 65, "the rest is checked without that device: {summary:?}");
        damaged[1].with_bytes(|bytes| COPY_OFFSETS.iter().for_each(|at| bytes[*at as usize + 200] ^= 1));
        let (summary, findings) = fsck(&damaged).await;
        assert_eq!((summary.worst(), summary.lost), (Some(Severity::Lost), 4), "{findings:#?}");
        assert!(names(&findings, Fault::Superblock, Severity::Lost));
    });
}

#[test]
fn a_pointer_block_is_made_good_by_any_other() {
    run(async {
        let devices = lived_in().await;
        let map = Map::of(&devices).await;
        let [(one, found), _] = damaged(&devices, &map.pointer, 30).await;
        assert_eq!((one.worst(), one.repairable), (Some(Severity::Repairable), 1), "{found:#?}");
        assert!(names(&found, Fault::Pointer, Severity::Repairable));
    });
}

#[test]
fn without_the_newest_pointer_the_store_opens_all_the_same() {
    run(async {
        let devices = lived_in().await;
        let map = Map::of(&devices).await;
        let [_, (all, found)] = damaged(&devices, &map.pointer, 30).await;
        assert_eq!(all.worst(), Some(Severity::Repairable), "{found:#?}");
    });
}

#[test]
fn a_record_of_the_log_that_one_copy_has_is_repairable() {
    run(async {
        let devices = lived_in().await;
        let map = Map::of(&devices).await;
        let [(one, found), _] = damaged(&devices, &map.logged_record, HEADER_SIZE + 1).await;
        assert_eq!((one.worst(), one.repairable), (Some(Severity::Repairable), 1), "{found:#?}");
        assert!(names(&found, Fault::Record, Severity::Repairable));
    });
}

#[test]
fn a_wrong_key_or_a_device_that_is_not_given_keeps_the_check_from_running() {
    run(async {
        let devices = lived_in().await;
        let wrong = fsck_with(&devices, MasterKey::new([1; 32]), Depth::Structure).await;
        assert!(matches!(wrong, Err(Error::Key { .. })));
        let missing = fsck_with(&devices[..1], master(), Depth::Structure).await;
        assert!(matches!(missing, Err(Error::Devices { .. })));
        let blank = [devices[0].clone(), devices[1].clone(), MemoryDevice::new(64 * MIB)];
        let blank = fsck_with(&blank, master(), Depth::Structure).await;
        assert!(matches!(blank, Err(Error::Devices { .. })));
    });
}

#[test]
fn an_unreadable_record_is_as_good_as_a_damaged_one() {
    run(async {
        let devices = lived_in().await;
        let map = Map::of(&devices).await;
        let damaged = copies(&devices);
        damaged[0].fail_reads(map.record[0].clone());
        let (summary, findings) = fsck(&damaged).await;
        assert_eq!(summary.worst(), Some(Severity::Repairable), "{findings:#?}");
        assert!(names(&findings, Fault::Record, Severity::Repairable));
    });
}
