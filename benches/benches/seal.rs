//! Frames and records: their seals, encrypted and not, and the encoding of a small record.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::crypto::{FramePosition, Keyring, MasterKey, ObjectKey, SystemRandom};
use engine::format::body::{ETag, VersionBody, VersionMeta};
use engine::format::record::{
    RecordHeader, RecordIdentity, RecordKind, RecordPosition, SealKind, body_checksum,
};
use engine::ids::{
    BucketId, KeyVersion, Lsn, NamespaceId, ObjectId, SegmentId, SegmentIndex, ShardId, StoreId, UnixMillis,
};
use engine::limits::{FRAME_PAYLOAD, SEAL_SIZE};
use zerocopy::IntoBytes;

const NAMESPACE: NamespaceId = NamespaceId(1);

fn keyring() -> Keyring {
    let keyring = Keyring::new(StoreId([1; 16]), MasterKey::new([2; 32]));
    let namespace = keyring.create_namespace(NAMESPACE, "bench", SealKind::Aes256Gcm, &mut SystemRandom);
    keyring.add_namespace(&namespace).expect("a key that was just wrapped");
    keyring
}

fn object_key(keyring: &Keyring, kind: SealKind) -> ObjectKey {
    let object = ObjectId([3; 16]);
    match kind {
        SealKind::Aes256Gcm => {
            keyring.object_key(kind, NAMESPACE, KeyVersion(1), object).expect("known namespace")
        }
        SealKind::Checksum => ObjectKey::Checksum { object },
    }
}

/// Frames of the size that the format has, and of a quarter of it, which is what one TLS record carries. Per byte, so that they can be compared.
fn frames(criterion: &mut Criterion) {
    let keyring = keyring();
    for (len, size) in [(16 * 1024 - SEAL_SIZE, "16 KiB"), (FRAME_PAYLOAD, "64 KiB")] {
        let mut group = criterion.benchmark_group(format!("frame {size}"));
        group.throughput(Throughput::Bytes(len as u64));
        for (name, kind) in [("aes-256-gcm", SealKind::Aes256Gcm), ("xxh3-128", SealKind::Checksum)] {
            let key = object_key(&keyring, kind);
            let mut data = vec![7u8; len];
            group.bench_function(format!("seal {name}"), |b| {
                b.iter(|| key.seal_frame(1, FramePosition::Middle, &mut data));
            });
            let seal = key.seal_frame(1, FramePosition::Middle, &mut data);
            group.bench_function(format!("open {name}"), |b| {
                b.iter_batched_ref(
                    || data.clone(),
                    |sealed| key.open_frame(1, FramePosition::Middle, sealed, &seal).expect("its own seal"),
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

fn identity() -> RecordIdentity {
    RecordIdentity {
        kind: RecordKind::Version,
        seal_kind: SealKind::Aes256Gcm,
        namespace: NAMESPACE,
        key_version: KeyVersion(1),
        bucket: BucketId(1),
        object_id: ObjectId([3; 16]),
    }
}

fn record(criterion: &mut Criterion) {
    let keyring = keyring();
    let identity = identity();
    let mut payload = vec![7u8; 4400];
    criterion.bench_function("record 4 KiB, key derivation and seal", |b| {
        b.iter(|| {
            let key = keyring
                .object_key(SealKind::Aes256Gcm, NAMESPACE, KeyVersion(1), ObjectId([3; 16]))
                .expect("known namespace");
            key.seal_record(&identity, &mut payload)
        });
    });
}

/// The bytes of a record, but for its seal: the payload before it is sealed, the header when its place is known.
fn encode(criterion: &mut Criterion) {
    let pairs = [("content-type", "image/jpeg"), ("x-amz-meta-camera", "nobody's")];
    let meta = VersionMeta {
        size: 4096,
        modified: UnixMillis(1_790_000_000_000),
        etag: ETag { md5: [5; 16], parts: 0 },
        pairs: pairs.map(|(name, value)| (name.into(), value.into())).to_vec(),
        ..VersionMeta::default()
    };
    let (key, inline) = (b"photos/0042/000004711.jpg", vec![7u8; 4096]);
    criterion.bench_function("record 4 KiB, encode payload", |b| {
        b.iter(|| VersionBody::encode(key, &meta, &[], &inline));
    });
    let payload = VersionBody::encode(key, &meta, &[], &inline);
    assert_eq!(VersionBody::decode(&payload).map(|body| body.meta), Ok(meta));
    criterion.bench_function("record 4 KiB, decode payload", |b| {
        b.iter(|| VersionBody::decode(&payload).is_ok());
    });
    criterion.bench_function("record 4 KiB, checksum and header", |b| b.iter(|| header(&payload).encode()));
    let encoded = header(&payload).encode();
    assert_eq!(RecordHeader::decode(encoded.as_bytes()), Some(header(&payload)));
}

fn header(payload: &[u8]) -> RecordHeader {
    RecordHeader {
        identity: identity(),
        position: RecordPosition {
            shard: ShardId(0),
            lsn: Lsn(4711),
            session: 42,
            segment: SegmentId::new(1, SegmentIndex(3)),
            offset: 64 * 1024,
        },
        payload_len: payload.len(),
        payload_checksum: body_checksum(payload),
        order: None,
        settlement_len: 0,
        seal: [9; SEAL_SIZE],
    }
}

criterion_group!(benches, frames, record, encode);
criterion_main!(benches);
