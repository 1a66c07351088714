//! Images of everything that goes to disk. An image that changes is a change of the format: it takes a new format version.
//!
//! `BASALT_BLESS=1 cargo test -p engine --test golden` writes images that are missing; it never replaces one.

use std::path::PathBuf;

use engine::crypto::{FramePosition, Keyring, MasterKey, ObjectKey, Random};
use engine::format::body::{
    Checksum, ETag, Extent, Numbering, PartBody, PartSummary, Piece, TombstoneBody, UploadBody,
    UploadEndBody, VersionBody, VersionMeta,
};
use engine::format::catalog::{AccessKey, Bucket, CatalogChange, Namespace, User, WrappedKey};
use engine::format::checkpoint::{BucketImage, CheckpointBody, Image, LivenessImage, Pointer, UploadImage};
use engine::format::directory::{
    Entry, EntryExtents, EntryKind, Listed, extent_key, parse_extent_key, parse_version_key, version_key,
};
use engine::format::due::{
    DueBody, DueChange, DueItem, decode_due_time, due_key, encode_due_time, item_key, parse_due_key,
    parse_item_key,
};
use engine::format::lease::Lease;
use engine::format::outline::{OutlineBuilder, Stretch};
use engine::format::record::{
    RecordHeader, RecordIdentity, RecordKind, RecordPosition, SealKind, body_checksum,
};
use engine::format::run::{Block, BlockBuilder, BlockKind, RunDescriptor, encode_pairs};
use engine::format::segment::{Place, Predecessor, SegmentHeader, SegmentKind, Temperature};
use engine::format::settlement::{RecordPlace, Rehashed, Released, Settlement, UsageChange};
use engine::format::superblock::{Superblock, Tier, Verdict};
use engine::format::upkeep::{CursorBody, Phase, Position, ReapBody, Scope};
use engine::ids::*;
use engine::limits::RUN_BLOCK_PAYLOAD;
use zerocopy::IntoBytes;

fn matches_image(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"));
    if !path.exists() && std::env::var_os("BASALT_BLESS").is_some() {
        std::fs::write(&path, bytes).expect("written");
    }
    let image =
        std::fs::read(&path).unwrap_or_else(|_| panic!("no image {name}: make it with BASALT_BLESS=1"));
    assert!(image == bytes, "{name}: the bytes on disk have changed; that takes a new format version");
    image
}

fn superblock() -> Superblock {
    Superblock {
        store_id: StoreId([1; 16]),
        device_id: DeviceId([3; 16]),
        device_index: DeviceIndex(1),
        device_ids: vec![DeviceId([2; 16]), DeviceId([3; 16])],
        sequence: 2,
        created_ms: 1_700_000_000_000,
        capacity: 64 << 20,
        checkpoint_size: 1 << 20,
        segment_offset: 2 << 20,
        segment_size: 1 << 20,
        slot_count: 62,
        inline_max: 32_768,
        shard_count: 4,
        copies: 2,
        tier: Tier::Ssd,
        key_check: [9; 32],
    }
}

fn identity(kind: RecordKind) -> RecordIdentity {
    RecordIdentity {
        kind,
        seal_kind: SealKind::Aes256Gcm,
        namespace: NamespaceId(1),
        key_version: KeyVersion(1),
        bucket: BucketId(7),
        object_id: ObjectId([8; 16]),
    }
}

fn checksum() -> Checksum {
    let mut value = [0; 32];
    value[..4].copy_from_slice(&[0xcb, 0xf4, 0x39, 0x26]);
    Checksum { algorithm: 1, kind: 2, len: 4, value }
}

fn pieces() -> Vec<Piece> {
    vec![Piece {
        object_id: ObjectId([4; 16]),
        namespace: NamespaceId(1),
        key_version: KeyVersion(1),
        seal_kind: SealKind::Aes256Gcm,
        len: 70_000,
        extents: vec![
            Extent { segment: SegmentId::new(5, SegmentIndex(6)), block: 1, block_count: 16 },
            Extent { segment: SegmentId::new(7, SegmentIndex(8)), block: 9, block_count: 2 },
        ],
    }]
}

fn part() -> PartSummary {
    PartSummary { number: 1, size: 70_000, md5: [5; 16], checksum: checksum() }
}

fn meta(size: u64) -> VersionMeta {
    VersionMeta {
        size,
        etag: ETag { md5: [6; 16], parts: 1 },
        modified: UnixMillis(1_700_000_000_123),
        owner: UserId(1),
        class: 0,
        numbering: Numbering::Numbered,
        upload_id: UploadId([7; 16]),
        checksum: checksum(),
        pairs: vec![(b"content-type".to_vec(), b"text/plain".to_vec())],
        parts: vec![part()],
    }
}

#[test]
fn a_superblock_is_what_it_was() {
    let image = matches_image("superblock", superblock().encode().as_bytes());
    assert_eq!(Superblock::decode(&image), Verdict::Present(Box::new(superblock())));
    for at in [0usize, 100, 2000, 4095] {
        let mut damaged = image.clone();
        damaged[at] ^= 1;
        assert!(!matches!(Superblock::decode(&damaged), Verdict::Present(_)), "byte {at}");
    }
    assert_eq!(Superblock::decode(&[0; 4096]), Verdict::Empty);
    // A whole superblock of an older release: where the version lies and how it is checked is the same in all.
    let mut older = image;
    older[8..12].copy_from_slice(&2u32.to_le_bytes());
    let checksum = xxhash_rust::xxh3::xxh3_128(&older[..4080]).to_le_bytes();
    older[4080..].copy_from_slice(&checksum);
    assert_eq!(Superblock::decode(&older), Verdict::Unreadable(Superblock::OTHER_VERSION));
}

#[test]
fn a_segment_header_is_what_it_was() {
    let header = SegmentHeader {
        id: SegmentId::new(5, SegmentIndex(6)),
        kind: SegmentKind::Commit,
        stream: 3,
        sequence: 11,
        first_lsn: Lsn(1234),
        temperature: Temperature::Cold,
        predecessor: Predecessor::Settled,
        places: vec![Place { device: DeviceIndex(0), slot: 4 }, Place { device: DeviceIndex(1), slot: 5 }],
    };
    let image = matches_image("segment_header", header.encode(StoreId([1; 16])).as_bytes());
    assert_eq!(SegmentHeader::decode(&image, StoreId([1; 16])), Some(header));
    assert_eq!(SegmentHeader::decode(&image, StoreId([2; 16])), None, "of another store");
}

#[test]
fn a_record_header_is_what_it_was() {
    let header = RecordHeader {
        identity: identity(RecordKind::Version),
        position: RecordPosition {
            shard: ShardId(1),
            lsn: Lsn(99),
            session: 0x1122_3344,
            segment: SegmentId::new(5, SegmentIndex(6)),
            offset: 8192,
        },
        payload_len: 5,
        payload_checksum: body_checksum(b"hello+"),
        order: Some(Lsn(77)),
        settlement_len: 1,
        seal: [0xaa; 16],
    };
    let image = matches_image("record_header", header.encode().as_bytes());
    assert_eq!(RecordHeader::decode(&image), Some(header));
    assert!(header.matches_body(b"hello+") && !header.matches_body(b"hellp+"));
    for at in 0..image.len() {
        let mut damaged = image.clone();
        damaged[at] ^= 1;
        assert_eq!(RecordHeader::decode(&damaged), None, "byte {at}");
    }
}

#[test]
fn record_bodies_are_what_they_were() {
    let inline = VersionBody::encode(b"a/key", &meta(5), &[], b"hello");
    let image = matches_image("version_inline", &inline);
    let body = VersionBody::decode(&image).expect("decodes");
    assert_eq!(
        (body.key.as_slice(), &body.meta, &image[body.inline.clone()]),
        (&b"a/key"[..], &meta(5), &b"hello"[..])
    );

    let framed = VersionBody::encode(b"a/key", &meta(70_000), &pieces(), b"");
    let image = matches_image("version_frames", &framed);
    let body = VersionBody::decode(&image).expect("decodes");
    assert_eq!((body.meta, body.pieces), (meta(70_000), pieces()));

    let tombstone = TombstoneBody {
        key: b"a/key".to_vec(),
        version: VersionId::Number(Lsn(40)),
        modified: UnixMillis(12),
    };
    let image = matches_image("tombstone", &tombstone.encode());
    assert_eq!(TombstoneBody::decode(&image), Ok(tombstone));

    let upload = upload();
    let image = matches_image("upload", &upload.encode());
    assert_eq!(UploadBody::decode(&image), Ok(upload));

    let part = PartBody {
        upload_id: UploadId([7; 16]),
        key: b"a/key".to_vec(),
        summary: part(),
        modified: UnixMillis(13),
        pieces: pieces(),
    };
    let image = matches_image("part", &part.encode());
    assert_eq!(PartBody::decode(&image), Ok(part));

    let end = UploadEndBody { upload_id: UploadId([7; 16]), key: b"a/key".to_vec() };
    let image = matches_image("upload_end", &end.encode());
    assert_eq!(UploadEndBody::decode(&image), Ok(end));
}

#[test]
fn catalog_changes_are_what_they_were() {
    let changes = [
        (
            "catalog_namespace",
            CatalogChange::PutNamespace(Namespace {
                id: NamespaceId(1),
                name: "default".into(),
                seal_kind: SealKind::Aes256Gcm,
                keys: vec![WrappedKey { version: KeyVersion(1), nonce: [1; 12], sealed: [2; 48] }],
            }),
        ),
        (
            "catalog_user",
            CatalogChange::PutUser(User {
                id: UserId(1),
                namespace: NamespaceId(1),
                name: "admin".into(),
                canonical_id: "0123".into(),
            }),
        ),
        (
            "catalog_access_key",
            CatalogChange::PutAccessKey(AccessKey {
                id: "BSLT".into(),
                secret: "secret".into(),
                user: UserId(1),
            }),
        ),
        (
            "catalog_bucket",
            CatalogChange::PutBucket(Bucket {
                id: BucketId(7),
                name: "bucket".into(),
                namespace: NamespaceId(1),
                owner: UserId(1),
                home: ShardId(3),
                created: UnixMillis(12),
                location: "eu-central-1".into(),
            }),
        ),
        ("catalog_bucket_removed", CatalogChange::RemoveBucket(BucketId(7))),
    ];
    for (name, change) in changes {
        let image = matches_image(name, &change.encode());
        assert_eq!(CatalogChange::decode(&image), Ok(change));
    }
}

#[test]
fn the_blocks_of_a_run_are_what_they_were() {
    let mut builder = BlockBuilder::new(BlockKind::Entries);
    for i in 0..40u8 {
        let value = [i; 100];
        let value = (i % 5 != 0).then_some(&value[..i.into()]);
        assert!(builder.add(format!("photos/{i:03}").as_bytes(), value));
    }
    let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
    builder.finish(&mut payload);
    let image = matches_image("run_entries", &payload);
    let block = Block::decode(&image).expect("a block");
    assert_eq!((block.kind(), block.count()), (BlockKind::Entries, 40));

    let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
    encode_pairs(BlockKind::Removed, &[(6, 2), (1, 3), (3, 4)], &mut payload);
    let image = matches_image("run_pairs", &payload);
    let block = Block::decode(&image).expect("a block");
    assert_eq!((block.kind(), block.pairs()[2].location.get()), (BlockKind::Removed, 4));
}

#[test]
fn the_outline_of_a_run_is_what_it_was() {
    let mut outline = OutlineBuilder::default();
    let mut block = BlockBuilder::new(BlockKind::Outline);
    for (i, key) in ["a/1", "a/2", "a/b/1", "a/b/2", "a/c/1", "a/d", "b/1"].into_iter().enumerate() {
        let value = entry(Vec::new()).encode();
        outline.add(&version_key(BucketId(7), key.as_bytes(), 0), (i != 1).then_some(&value));
    }
    outline.end_block();
    let stretches = outline.finish();
    for stretch in &stretches {
        assert!(block.add(&stretch.mark, Some(stretch.encode().as_bytes())));
    }
    let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
    block.finish(&mut payload);
    let image = matches_image("run_outline", &payload);
    let block = Block::decode(&image).expect("a block");
    assert_eq!((block.kind(), block.count()), (BlockKind::Outline, 5));
    let layout = stretches[0].encode();
    assert_eq!(Stretch::decode(&stretches[0].mark, layout.as_bytes()), Ok(stretches[0].clone()));
    assert!(Stretch::decode(&stretches[0].mark, &layout.as_bytes()[1..]).is_err());
    assert!(Stretch::decode(b"", layout.as_bytes()).is_err(), "a directory is no longer than the mark");
}

#[test]
fn a_run_descriptor_is_what_it_was() {
    let descriptor = RunDescriptor {
        id: 12,
        object_id: ObjectId([4; 16]),
        key_version: KeyVersion(0),
        seal_kind: SealKind::Aes256Gcm,
        entry_count: 1000,
        removal_count: 10,
        added_count: 1023,
        removed_count: 1,
        entry_blocks: 10,
        fence_blocks: 1,
        outline_blocks: 2,
        extents: vec![
            Extent { segment: SegmentId::new(5, SegmentIndex(6)), block: 1, block_count: 40 },
            Extent { segment: SegmentId::new(7, SegmentIndex(8)), block: 9, block_count: 24 },
        ],
    };
    let mut encoded = Vec::new();
    descriptor.encode(&mut encoded);
    let image = matches_image("run_descriptor", &encoded);
    assert_eq!(RunDescriptor::decode(&image), Ok((descriptor, &[][..])));
    for len in 0..image.len() {
        assert!(RunDescriptor::decode(&image[..len]).is_err(), "{len}");
    }
}

fn place(offset: u32) -> RecordPlace {
    RecordPlace { segment: SegmentId::new(5, SegmentIndex(6)), offset, len: 512 }
}

fn upload() -> UploadBody {
    UploadBody {
        upload_id: UploadId([7; 16]),
        key: b"a/key".to_vec(),
        initiated: UnixMillis(12),
        owner: UserId(1),
        class: 0,
        checksum_algorithm: 1,
        checksum_kind: 2,
        pairs: meta(0).pairs,
    }
}

#[test]
fn a_checkpoint_is_what_it_was() {
    let lease = Lease::of(70_000);
    let image = matches_image("lease", lease.encode(StoreId([1; 16])).as_bytes());
    assert_eq!(Lease::decode(&image, StoreId([1; 16])), Some(lease));
    let pointer = Pointer { shard: ShardId(3), lsn: Lsn(500), place: place(8192) };
    let image = matches_image("checkpoint_pointer", pointer.encode(StoreId([1; 16])).as_bytes());
    assert_eq!(Pointer::decode(&image, StoreId([1; 16]), ShardId(3)), Some(pointer));
    assert_eq!(Pointer::decode(&image, StoreId([2; 16]), ShardId(3)), None, "of another store");
    assert_eq!(Pointer::decode(&image, StoreId([1; 16]), ShardId(2)), None, "of another shard");
    for at in [0usize, 4, 24, 40, 2000, 4095] {
        let mut damaged = image.clone();
        damaged[at] ^= 1;
        assert_eq!(Pointer::decode(&damaged, StoreId([1; 16]), ShardId(3)), None, "byte {at}");
    }

    let record = CheckpointBody {
        next_lsn: Lsn(499),
        session: 0x1122_3344,
        next_sequence: 12,
        strands: [Some((SegmentId::new(5, SegmentIndex(6)), 16_384)), None],
        body: pieces().remove(0),
    };
    let image = matches_image("checkpoint_record", &record.encode());
    assert_eq!(CheckpointBody::decode(&image), Ok(record));

    let part = PartBody {
        upload_id: UploadId([7; 16]),
        key: b"a/key".to_vec(),
        summary: part(),
        modified: UnixMillis(13),
        pieces: pieces(),
    };
    let body = Image {
        catalog: vec![CatalogChange::RemoveBucket(BucketId(6))],
        last_bucket: BucketId(9),
        runs: vec![b"a run".to_vec(), b"an older run".to_vec()],
        buckets: vec![BucketImage {
            bucket: BucketId(7),
            objects: 1,
            versions: 2,
            numbered: 3,
            bytes: 4,
            floor: Lsn(5),
        }],
        liveness: vec![LivenessImage {
            segment: SegmentId::new(5, SegmentIndex(6)),
            live: 70_000,
            end_block: 19,
        }],
        uploads: vec![UploadImage {
            bucket: BucketId(7),
            place: place(12_288),
            order: Lsn(400),
            body: upload(),
            parts: vec![(place(16_384), Lsn(401), part)],
        }],
        cursors: vec![
            ("replication".into(), Position { next: Lsn(450), phase: Phase::Following }),
            ("usage".into(), Position { next: Lsn(2), phase: Phase::Behind }),
        ],
    };
    let image = matches_image("checkpoint_body", &body.encode());
    assert_eq!(Image::decode(&image), Ok(body));
    for len in 0..image.len() {
        assert!(Image::decode(&image[..len]).is_err(), "{len}");
    }
}

#[test]
fn a_settlement_is_what_it_was() {
    let settlement = Settlement {
        own_hash: 0x1111_2222_3333_4444,
        usage: UsageChange { objects: -1, versions: 1, numbered: 2, bytes: -70_000 },
        released: vec![Released {
            hash: 5,
            slot: 6,
            place: place(4096),
            extents: pieces().remove(0).extents,
        }],
        rehashed: vec![Rehashed { from: 7, to: 8, place: place(4608) }],
    };
    let image = matches_image("settlement", &settlement.encode());
    assert_eq!(Settlement::decode(&image), Ok(settlement));
    for len in 0..image.len() {
        assert!(Settlement::decode(&image[..len]).is_err(), "{len}");
    }
}

#[test]
fn what_keeps_a_shard_in_order_is_what_it_was() {
    for (name, scope) in [("range_tombstone", Scope::Versions), ("range_tombstone_bucket", Scope::Bucket)] {
        let image = matches_image(name, &scope.encode());
        assert_eq!(Scope::decode(&image), Ok(scope));
    }
    let reap =
        ReapBody { floor: Lsn(300), keys: vec![b"a/key".to_vec(), b"another".to_vec()], is_last: true };
    let image = matches_image("reap", &reap.encode());
    assert_eq!(ReapBody::decode(&image), Ok(reap));
    let position = Some(Position { next: Lsn(450), phase: Phase::Snapshot });
    let cursor = CursorBody { name: "replication".into(), position };
    let image = matches_image("cursor", &cursor.encode());
    assert_eq!(CursorBody::decode(&image), Ok(cursor));
}

#[test]
fn a_delete_marker_is_what_it_was() {
    let marker = VersionMeta { parts: Vec::new(), pairs: Vec::new(), ..meta(0) };
    let image = matches_image("delete_marker", &VersionBody::encode(b"a/key", &marker, &[], b""));
    let body = VersionBody::decode(&image).expect("decodes");
    assert_eq!((body.key.as_slice(), body.meta, body.inline.len()), (&b"a/key"[..], marker, 0));
}

fn entry(extents: Vec<Extent>) -> Entry {
    Entry {
        listed: Listed {
            size: 70_000,
            etag: ETag { md5: [6; 16], parts: 1 },
            modified: UnixMillis(1_700_000_000_123),
            owner: UserId(1),
            class: 0,
            checksum: (1, 2),
        },
        kind: EntryKind::Object,
        numbering: Numbering::Numbered,
        order: Lsn(99),
        place: place(8192),
        extents: EntryExtents::Here(extents.into()),
    }
}

#[test]
fn the_directory_is_what_it_was() {
    let extents = pieces().remove(0).extents;
    let image = matches_image("directory_entry", &entry(extents.clone()).encode());
    assert_eq!(Entry::decode(&image), Ok(entry(extents.clone())));
    let image = matches_image("directory_entry_spilled", &entry(extents.repeat(5)).encode());
    let spilled = Entry { extents: EntryExtents::InRecord, ..entry(Vec::new()) };
    assert_eq!(Entry::decode(&image), Ok(spilled));

    let slot = entry(Vec::new()).slot();
    let image = matches_image("directory_version_key", &version_key(BucketId(7), b"a\0key", slot));
    assert_eq!(parse_version_key(&image), Some((BucketId(7), b"a\0key".to_vec(), slot)));
    let key = extent_key(&extents[0], BucketId(7), b"a\0key", slot);
    let image = matches_image("directory_extent_key", &key);
    let owner = (BucketId(7), b"a\0key".to_vec(), slot);
    assert_eq!(parse_extent_key(&image), Some((extents[0].segment, extents[0].block, owner)));
}

#[test]
fn the_due_time_index_is_what_it_was() {
    let change =
        |item, before, after| DueChange { bucket: BucketId(7), key: b"a\0key".to_vec(), item, before, after };
    let (early, late) = (UnixMillis(1_700_000_000_123), UnixMillis(1_800_000_000_000));
    let version = DueItem::Version(VersionId::Number(Lsn(99)));
    let upload = DueItem::Upload(UploadId([7; 16]));
    let body = DueBody {
        consumer: "lifecycle".into(),
        seen: Some(Lsn(500)),
        changes: vec![
            change(version, Some(early), Some(late)),
            change(upload, None, Some(early)),
            change(DueItem::Version(VersionId::Null), Some(late), None),
        ],
    };
    let image = matches_image("due", &body.encode());
    assert_eq!(DueBody::decode(&image), Ok(body));
    for len in 0..image.len() {
        assert!(DueBody::decode(&image[..len]).is_err(), "{len}");
    }
    for (name, item) in [("version", version), ("upload", upload)] {
        let owner = (BucketId(7), b"a\0key".to_vec(), item);
        let image =
            matches_image(&format!("directory_due_key_{name}"), &due_key(early, owner.0, &owner.1, item));
        assert_eq!(parse_due_key(&image), Some((early, owner.clone())));
        let image = matches_image(&format!("directory_item_key_{name}"), &item_key(owner.0, &owner.1, item));
        assert_eq!(parse_item_key(&image), Some(owner));
    }
    let image = matches_image("directory_due_time", &encode_due_time(early));
    assert_eq!(decode_due_time(&image), Ok(early));
}

struct Ones;

impl Random for Ones {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(1);
    }
}

#[test]
fn seals_are_what_they_were() {
    let keyring = Keyring::new(StoreId([1; 16]), MasterKey::new([2; 32]));
    let namespace = keyring.create_namespace(NamespaceId(1), "default", SealKind::Aes256Gcm, &mut Ones);
    keyring.add_namespace(&namespace).expect("unwraps");
    let mut out = MasterKey::new([2; 32]).check_value(StoreId([1; 16])).to_vec();
    out.extend_from_slice(&namespace.keys[0].sealed);
    for seal_kind in [SealKind::Aes256Gcm, SealKind::Checksum] {
        let object = ObjectId([8; 16]);
        let key = match seal_kind {
            SealKind::Aes256Gcm => {
                keyring.object_key(seal_kind, NamespaceId(1), KeyVersion(1), object).expect("known")
            }
            SealKind::Checksum => ObjectKey::Checksum { object },
        };
        let mut data = *b"sixteen byte msg";
        out.extend_from_slice(&key.seal_frame(3, FramePosition::Last, &mut data));
        out.extend_from_slice(&data);
        let identity = RecordIdentity { seal_kind, ..identity(RecordKind::Version) };
        out.extend_from_slice(&key.seal_record(&identity, &mut data));
        out.extend_from_slice(&data);
    }
    matches_image("seals", &out);
}

#[test]
fn no_prefix_of_a_body_decodes() {
    let framed = VersionBody::encode(b"a/key", &meta(70_000), &pieces(), b"");
    for len in 0..framed.len() {
        assert!(VersionBody::decode(&framed[..len]).is_err(), "{len}");
    }
}
