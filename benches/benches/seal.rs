//! Seals: a full frame and a small record, encrypted and not.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::crypto::{FramePosition, Keyring, MasterKey, ObjectKey, SystemRandom};
use engine::format::record::{RecordIdentity, RecordKind, SealKind};
use engine::ids::{BucketId, KeyVersion, NamespaceId, ObjectId, StoreId};
use engine::limits::FRAME_PAYLOAD;

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

fn frames(criterion: &mut Criterion) {
    let keyring = keyring();
    let mut group = criterion.benchmark_group("frame 64 KiB");
    group.throughput(Throughput::Bytes(FRAME_PAYLOAD as u64));
    for (name, kind) in [("aes-256-gcm", SealKind::Aes256Gcm), ("xxh3-128", SealKind::Checksum)] {
        let key = object_key(&keyring, kind);
        let mut data = vec![7u8; FRAME_PAYLOAD];
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

fn record(criterion: &mut Criterion) {
    let keyring = keyring();
    let identity = RecordIdentity {
        kind: RecordKind::Version,
        seal_kind: SealKind::Aes256Gcm,
        namespace: NAMESPACE,
        key_version: KeyVersion(1),
        bucket: BucketId(1),
        object_id: ObjectId([3; 16]),
    };
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

criterion_group!(benches, frames, record);
criterion_main!(benches);
