//! The ordered map on disk, from a warm cache: seeks, scans and walks over common prefixes. `BASALT_BENCH_KEYS` makes it larger.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

#[path = "support/memory.rs"]
mod memory;
#[path = "support/tiny.rs"]
mod tiny;

use std::rc::Rc;

use criterion::{Criterion, criterion_group, criterion_main};
use engine::crypto::{MasterKey, SystemRandom};
use engine::format::superblock::Tier;
use engine::ids::UnixMillis;
use engine::index::lsm::{BlockCache, Cursor, IndexChanges, Lsm};
use engine::{Core, FormatOptions, Store};
use memory::{MemoryDevice, block_on};
use tiny::is_test;

/// Keys of one common prefix.
const PER_PREFIX: usize = 200;

const RUNS: usize = 3;

fn key_count() -> usize {
    let count = std::env::var("BASALT_BENCH_KEYS").ok().and_then(|n| n.parse().ok());
    count.unwrap_or(if is_test() { 2_000 } else { 200_000 })
}

fn prefix(i: usize) -> Vec<u8> {
    format!("bucket01/photos/{i:06}/").into_bytes()
}

fn key(i: usize) -> Vec<u8> {
    [prefix(i / PER_PREFIX), format!("holiday-{:04}.jpg", i % PER_PREFIX).into_bytes()].concat()
}

/// The keys lie in all runs in turn, so that every step is one of another run.
async fn filled(cache_budget: usize) -> (Rc<Core<MemoryDevice>>, Lsm<MemoryDevice>) {
    let len = (256 << 20) + key_count() * 1024;
    let devices = [MemoryDevice::new(len)];
    let options = FormatOptions {
        copies: 1,
        shard_count: 1,
        segment_size: Some(16 << 20),
        inline_max: 0,
        tiers: vec![Tier::Nvme],
    };
    let master = || MasterKey::new([1; 32]);
    engine::format(&devices, &options, &master(), UnixMillis(1), &mut SystemRandom).await.expect("formatted");
    let store = Store::open(&devices, master()).await.expect("opened");
    store.table.finish_recovery();
    let core = Core::new(store, 0, devices.to_vec(), Box::new(SystemRandom));
    let map = Lsm::new(core.clone(), BlockCache::new(cache_budget));
    for run in 0..RUNS {
        for i in (run..key_count()).step_by(RUNS) {
            map.insert(&key(i), &[i as u8; 90]);
        }
        map.freeze();
        let run = map.write_frozen(IndexChanges::default()).await.expect("written");
        map.install_frozen(Some(run));
    }
    (core, map)
}

/// Up to 1000 entries from a key on; how many there were.
async fn page(cursor: &mut Cursor<MemoryDevice>, from: &[u8]) -> usize {
    cursor.seek(from);
    let mut count = 0;
    while count < 1000 && cursor.next().await.expect("read").is_some() {
        count += 1;
    }
    count
}

/// Up to 1000 common prefixes, each found by a seek past the one before.
async fn walk(cursor: &mut Cursor<MemoryDevice>) -> usize {
    let mut count = 0;
    let mut next = prefix(0);
    while count < 1000 {
        cursor.seek(&next);
        let Some((key, _)) = cursor.next().await.expect("read") else { break };
        next.clear();
        next.extend_from_slice(&key[..prefix(0).len()]);
        *next.last_mut().expect("a prefix ends with its delimiter") += 1;
        count += 1;
    }
    count
}

fn directory(criterion: &mut Criterion) {
    let (_core, map) = block_on(filled(1 << 30));
    let count = key_count();
    let mut cursor = map.cursor();
    let mut warm = map.cursor();
    while block_on(warm.next()).expect("read").is_some() {}

    let mut i = 0;
    criterion.bench_function("directory get", |b| {
        b.iter(|| {
            i = (i + 7919) % count;
            block_on(map.get(&key(i)))
        });
    });
    criterion.bench_function("directory seek", |b| {
        b.iter(|| {
            i = (i + 7919) % count;
            cursor.seek(&key(i));
            block_on(cursor.next()).expect("read").map(|(_, value)| value.len())
        });
    });
    criterion.bench_function("directory page of 1000 keys", |b| {
        b.iter(|| {
            i = (i + 7919) % count;
            block_on(page(&mut cursor, &key(i)))
        });
    });
    criterion.bench_function("directory page of 1000 common prefixes", |b| {
        b.iter(|| block_on(walk(&mut cursor)));
    });
    criterion.bench_function("directory page of 1000 keys while keys are inserted", |b| {
        b.iter(|| {
            i = (i + 7919) % count;
            cursor.seek(&key(i));
            for _ in 0..1000 {
                map.remove(b"another bucket");
                if block_on(cursor.next()).expect("read").is_none() {
                    break;
                }
            }
        });
    });
}

fn cold(criterion: &mut Criterion) {
    let (_core, map) = block_on(filled(0));
    let count = key_count();
    let mut i = 0;
    criterion.bench_function("directory page of 1000 keys, nothing cached", |b| {
        b.iter(|| {
            i = (i + 7919) % count;
            block_on(page(&mut map.cursor(), &key(i)))
        });
    });
    let runs = map.summaries();
    let plan =
        engine::index::lsm::MergePlan { runs: runs.iter().map(|run| run.id).collect(), is_bottom: true };
    criterion.bench_function("directory merge of all runs", |b| {
        b.iter(|| block_on(map.merge(&plan)).expect("merged").summary());
    });
}

criterion_group!(benches, directory, cold);
criterion_main!(benches);
