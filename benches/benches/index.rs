//! The hash index, at a size that a test can bear; `BASALT_BENCH_KEYS` makes it larger. Pages of the key directory are in `directory.rs`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "support/tiny.rs"]
mod tiny;

use criterion::{Criterion, criterion_group, criterion_main};
use engine::ids::{BucketId, SegmentId, SegmentIndex};
use engine::index::hash::{HashIndex, Location};
use tiny::is_test;

fn key_count() -> usize {
    let count = std::env::var("BASALT_BENCH_KEYS").ok().and_then(|n| n.parse().ok());
    count.unwrap_or(if is_test() { 1_000 } else { 100_000 })
}

fn key(i: usize) -> Vec<u8> {
    format!("photos/{:04}/{i:09}.jpg", i % 1000).into_bytes()
}

fn location(i: usize) -> Location {
    Location::new(SegmentId::new(1, SegmentIndex((i >> 18) as u32)), ((i & 0x3_ffff) * 64) as u32, 64)
}

fn hash(criterion: &mut Criterion) {
    let mut index = HashIndex::new(42);
    for i in 0..key_count() {
        let hash = index.hash(BucketId(1), &key(i));
        index.insert(hash, location(i));
    }
    let mut i = 0;
    criterion.bench_function("hash index lookup", |b| {
        b.iter(|| {
            i = (i + 7919) % key_count();
            let hash = index.hash(BucketId(1), &key(i));
            index.candidates(hash).next()
        });
    });
    criterion.bench_function("hash index insert and remove", |b| {
        b.iter(|| {
            i += 1;
            let hash = index.hash(BucketId(2), &key(i));
            index.insert(hash, location(i));
            index.remove(hash, location(i))
        });
    });
}

criterion_group!(benches, hash);
criterion_main!(benches);
