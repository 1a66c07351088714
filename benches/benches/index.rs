//! The hash index and a page of the key directory, at a size that a test can bear; `BASALT_BENCH_KEYS` makes it larger.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use engine::format::body::ETag;
use engine::ids::{BucketId, SegmentId, SegmentIndex, UnixMillis, UserId};
use engine::index::directory::{Directory, Entry, Listed, PageQuery};
use engine::index::hash::{HashIndex, Location};

fn key_count() -> usize {
    std::env::var("BASALT_BENCH_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000)
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
}

fn directory(criterion: &mut Criterion) {
    let mut directory = Directory::default();
    for i in 0..key_count() {
        let listed = Listed {
            size: 1,
            etag: ETag::default(),
            modified: UnixMillis(1),
            owner: UserId(1),
            class: 0,
            checksum: (0, 0),
        };
        let entry = Entry {
            listed,
            location: location(i),
            segment: SegmentId::new(1, SegmentIndex(0)),
            record_len: 64,
            extents: Box::default(),
        };
        directory.insert(&key(i), entry);
    }
    let plain = PageQuery { max: 1000, ..PageQuery::default() };
    criterion.bench_function("page of 1000 keys", |b| b.iter(|| directory.page(&plain)));
    let folded = PageQuery { prefix: b"photos/".to_vec(), delimiter: b"/".to_vec(), ..plain };
    criterion.bench_function("page of 1000 common prefixes", |b| b.iter(|| directory.page(&folded)));
}

criterion_group!(benches, hash, directory);
criterion_main!(benches);
