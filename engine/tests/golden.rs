//! Images of everything that goes to disk. An image that changes is a change of the format: it takes a new format version.
//!
//! `BASALT_BLESS=1 cargo test -p engine --test golden` writes images that are missing; it never replaces one.

use std::path::PathBuf;

use engine::crypto::{FramePosition, Keyring, MasterKey, ObjectKey, Random};
use engine::format::body::{
    Checksum, ETag, Extent, PartBody, PartSummary, Piece, TombstoneBody, UploadBody, UploadEndBody,
    VersionBody, VersionMeta,
};
use engine::format::catalog::{AccessKey, Bucket, CatalogChange, Namespace, User, WrappedKey};
use engine::format::record::{
    RecordHeader, RecordIdentity, RecordKind, RecordPosition, SealKind, payload_checksum,
};
use engine::format::segment::{Place, Predecessor, SegmentHeader, SegmentKind};
use engine::format::superblock::{Superblock, Tier, Verdict};
use engine::ids::*;
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
        version_id: 0,
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
}

#[test]
fn a_segment_header_is_what_it_was() {
    let header = SegmentHeader {
        id: SegmentId::new(5, SegmentIndex(6)),
        kind: SegmentKind::Commit,
        stream: 3,
        sequence: 11,
        first_lsn: Lsn(1234),
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
        payload_checksum: payload_checksum(b"hello"),
        seal: [0xaa; 16],
    };
    let image = matches_image("record_header", header.encode().as_bytes());
    assert_eq!(RecordHeader::decode(&image), Some(header));
    assert!(header.matches_payload(b"hello") && !header.matches_payload(b"hellp"));
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

    let tombstone = TombstoneBody { key: b"a/key".to_vec(), modified: UnixMillis(12) };
    let image = matches_image("tombstone", &tombstone.encode());
    assert_eq!(TombstoneBody::decode(&image), Ok(tombstone));

    let upload = UploadBody {
        upload_id: UploadId([7; 16]),
        key: b"a/key".to_vec(),
        initiated: UnixMillis(12),
        owner: UserId(1),
        class: 0,
        checksum_algorithm: 1,
        checksum_kind: 2,
        pairs: meta(0).pairs,
    };
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
