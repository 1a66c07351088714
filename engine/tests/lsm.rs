//! The ordered map on disk against a map in memory, and on devices that rot, fail and fill up.

mod support;

use std::collections::BTreeMap;
use std::rc::Rc;

use engine::format::body::Extent;
use engine::format::run::RunDescriptor;
use engine::index::lsm::{BlockCache, IndexChange, IndexChanges, Lsm, MergePlan, Run, choose_merge};
use engine::limits::{RUN_BLOCK_SIZE, RUNS_MAX};
use engine::{Core, Error, Result, Store};
use proptest::prelude::*;
use support::{MemoryDevice, Power, Seeded, data, formatted, master, run};

type Map = Lsm<MemoryDevice>;
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const CACHE_BUDGET: usize = 1 << 20;

struct Directory {
    devices: Vec<MemoryDevice>,
    core: Rc<Core<MemoryDevice>>,
    cache: Rc<BlockCache>,
    map: Map,
}

impl Directory {
    async fn new(device_len: usize, cache_budget: usize) -> Self {
        let devices = formatted(2, device_len, 2).await;
        let store = Store::open(&devices, master()).await.expect("a store");
        let core = Core::new(store, 0, devices.clone(), Box::new(Seeded(1)));
        core.store.table.finish_recovery();
        let cache = BlockCache::new(cache_budget);
        let map = Lsm::new(core.clone(), cache.clone());
        Directory { devices, core, cache, map }
    }

    async fn small() -> Self {
        Self::new(64 << 20, CACHE_BUDGET).await
    }

    fn count_live(&self, extents: &[Extent], run_is_new: bool) {
        for extent in extents {
            let table = &self.core.store.table;
            if run_is_new {
                table.add_live(extent.segment, extent.disk_len(), extent.block + extent.block_count);
            } else {
                table.sub_live(extent.segment, extent.disk_len());
            }
        }
    }

    async fn install(&self, changes: IndexChanges) {
        let run = self.map.write_frozen(changes).await.expect("written");
        self.count_live(&run.descriptor().extents, true);
        self.map.install_frozen(Some(run));
    }

    async fn flush(&self) {
        self.map.freeze();
        self.install(IndexChanges::default()).await;
    }

    async fn merge(&self, plan: &MergePlan) -> Rc<Run<MemoryDevice>> {
        let merged = self.map.merge(plan).await.expect("merged");
        self.count_live(&merged.descriptor().extents, true);
        for replaced in self.map.install_merged(plan, merged.clone()) {
            self.count_live(&replaced.descriptor().extents, false);
        }
        merged
    }

    fn plan(&self, begin: usize, end: usize) -> MergePlan {
        let runs = self.map.summaries();
        MergePlan { runs: runs[begin..end].iter().map(|run| run.id).collect(), is_bottom: end == runs.len() }
    }

    /// Takes all space that new data gets.
    fn fill(&self) {
        let table = &self.core.store.table;
        while table.admit_data().is_ok() {
            table
                .allocate(&engine::segment::table::Wanted {
                    kind: engine::format::segment::SegmentKind::Commit,
                    temperature: engine::format::segment::Temperature::Hot,
                    stream: 0,
                    purpose: engine::segment::table::Purpose::Data,
                })
                .expect("admitted");
        }
    }

    /// Flips a bit of a block of the only run in one copy.
    fn rot(&self, copy: usize, block: u32) {
        let mut at = u64::from(block) * RUN_BLOCK_SIZE as u64;
        let run = &self.map.runs()[0];
        let extent = run.extents.iter().find(|extent| {
            let is_here = at < extent.disk_len();
            at -= if is_here { 0 } else { extent.disk_len() };
            is_here
        });
        let extent = extent.expect("a block of the run");
        let store = &self.core.store;
        let place = store.table.places(extent.segment).expect("current")[copy];
        let layout = store.devices[usize::from(place.device.0)].expect("there");
        let slot = layout.segment_offset + u64::from(place.slot) * store.segment_size;
        let at = (slot + extent.offset() + at) as usize;
        self.devices[layout.source].with_bytes(|bytes| bytes[at + 77] ^= 1);
    }

    /// Reads what a checkpoint would keep back into a map with an empty cache.
    async fn reopen(&mut self) {
        let mut kept = Vec::new();
        self.map.runs().iter().for_each(|descriptor| descriptor.encode(&mut kept));
        let (mut runs, mut rest) = (Vec::new(), kept.as_slice());
        while !rest.is_empty() {
            let (descriptor, after) = RunDescriptor::decode(rest).expect("a descriptor");
            runs.push(descriptor);
            rest = after;
        }
        self.cache = BlockCache::new(CACHE_BUDGET);
        self.map = Lsm::open(self.core.clone(), self.cache.clone(), runs).await.expect("opened");
    }
}

async fn scan(map: &Map, from: &[u8], count: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut cursor = map.cursor();
    cursor.seek(from);
    let mut found = Vec::new();
    while found.len() < count
        && let Some((key, value)) = cursor.next().await?
    {
        found.push((key.to_vec(), value.to_vec()));
    }
    Ok(found)
}

fn expected(model: &Model, from: &[u8], count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    model.range(from.to_vec()..).take(count).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Keys that share much, and now and then a very long one.
fn key(i: u16) -> Vec<u8> {
    let mut key = format!("bucket/{:02}/", i % 13).into_bytes();
    key.extend(std::iter::repeat_n(b'x', usize::from(i) % 7 * 20 + usize::from(i.is_multiple_of(41)) * 1900));
    key.extend_from_slice(&i.to_be_bytes());
    key
}

fn value(i: u16, seed: u8) -> Vec<u8> {
    let len = (usize::from(i) * 37 + usize::from(seed)) % 900;
    vec![seed; len]
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, u16, u8),
    Remove(u16, u16),
    Freeze,
    Install,
    Thaw,
    Merge(usize, usize),
    MergeChosen,
    Reopen,
    Get(u16),
    Scan(u16, usize),
    Seek(u16),
    Next(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let i = || 0u16..400;
    prop_oneof![
        6 => (i(), 1u16..120, any::<u8>()).prop_map(|(i, count, seed)| Op::Insert(i, count, seed)),
        3 => (i(), 1u16..60).prop_map(|(i, count)| Op::Remove(i, count)),
        3 => Just(Op::Freeze),
        4 => Just(Op::Install),
        1 => Just(Op::Thaw),
        1 => (0usize..8, 1usize..4).prop_map(|(begin, len)| Op::Merge(begin, len)),
        1 => Just(Op::MergeChosen),
        1 => Just(Op::Reopen),
        3 => i().prop_map(Op::Get),
        2 => (i(), 1usize..200).prop_map(|(i, count)| Op::Scan(i, count)),
        3 => i().prop_map(Op::Seek),
        5 => (1usize..40).prop_map(Op::Next),
    ]
}

async fn check(ops: Vec<Op>) {
    let mut directory = Directory::small().await;
    let mut model = Model::new();
    let mut cursor = directory.map.cursor();
    // What the long-lived cursor comes to next: keys from here on, or after here.
    let (mut at, mut is_passed) = (Vec::new(), false);
    for op in ops {
        match op {
            Op::Insert(first, count, seed) => (first..first + count).for_each(|i| {
                directory.map.insert(&key(i), &value(i, seed));
                model.insert(key(i), value(i, seed));
            }),
            Op::Remove(first, count) => (first..first + count).step_by(2).for_each(|i| {
                directory.map.remove(&key(i));
                model.remove(&key(i));
            }),
            Op::Freeze if !directory.map.is_frozen() => directory.map.freeze(),
            Op::Install if directory.map.is_frozen() => directory.install(IndexChanges::default()).await,
            Op::Thaw => directory.map.thaw(),
            Op::Merge(begin, len) if begin < directory.map.runs().len() => {
                let end = (begin + len).min(directory.map.runs().len());
                directory.merge(&directory.plan(begin, end)).await;
            }
            Op::MergeChosen => {
                while let Some(plan) = choose_merge(&directory.map.summaries()) {
                    directory.merge(&plan).await;
                }
                assert!(directory.map.runs().len() <= RUNS_MAX);
            }
            Op::Reopen => {
                if directory.map.is_frozen() {
                    directory.install(IndexChanges::default()).await;
                }
                directory.flush().await;
                directory.reopen().await;
                cursor = directory.map.cursor();
                (at, is_passed) = (Vec::new(), false);
            }
            Op::Get(i) => {
                assert_eq!(directory.map.get(&key(i)).await, Ok(model.get(&key(i)).cloned()));
            }
            Op::Scan(i, count) => {
                let found = scan(&directory.map, &key(i), count).await.expect("read");
                assert_eq!(found, expected(&model, &key(i), count));
            }
            Op::Seek(i) => {
                cursor.seek(&key(i));
                (at, is_passed) = (key(i), false);
            }
            Op::Next(count) => {
                for _ in 0..count {
                    let next = model.range(at.clone()..).find(|(key, _)| !is_passed || **key > at);
                    let found = cursor.next().await.expect("read");
                    assert_eq!(found, next.map(|(key, value)| (key.as_slice(), value.as_slice())));
                    if let Some((key, _)) = found {
                        (at, is_passed) = (key.to_vec(), true);
                    } else {
                        // It has passed removals, and so what may be inserted before them.
                        cursor.seek(&at);
                        is_passed = false;
                    }
                }
            }
            _ => {}
        }
        assert!(directory.cache.len_bytes() <= CACHE_BUDGET);
    }
    assert_eq!(scan(&directory.map, b"", usize::MAX).await, Ok(expected(&model, b"", usize::MAX)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn it_is_an_ordered_map_whatever_lies_where(ops in prop::collection::vec(op(), 1..60)) {
        run(check(ops));
    }
}

/// Runs of many blocks: `keys` entries of about 150 bytes.
async fn filled(directory: &Directory, keys: u32) -> Model {
    let mut model = Model::new();
    for i in 0..keys {
        let (key, value) = (format!("photos/2024/{i:08}.jpg").into_bytes(), data(i.into(), 120));
        directory.map.insert(&key, &value);
        model.insert(key, value);
    }
    directory.flush().await;
    model
}

#[test]
fn a_page_reads_the_blocks_it_needs_and_a_seek_one() {
    run(async {
        let directory = Directory::small().await;
        let model = filled(&directory, 20_000).await;
        let blocks = u64::from(directory.map.runs()[0].entry_blocks);
        assert!(blocks > 100, "{blocks} blocks");
        let read = |directory: &Directory| directory.core.counters.device_read_bytes.value();
        let middle = b"photos/2024/00010000.jpg";

        let before = read(&directory);
        assert_eq!(scan(&directory.map, middle, 1).await, Ok(expected(&model, middle, 1)));
        assert_eq!(read(&directory) - before, RUN_BLOCK_SIZE as u64);
        scan(&directory.map, middle, 1).await.expect("read");
        assert_eq!(read(&directory) - before, RUN_BLOCK_SIZE as u64, "the cache has it");

        let far = b"photos/2024/00000100.jpg";
        let (before, reads_before) = (read(&directory), directory.core.counters.device_reads.value());
        assert_eq!(scan(&directory.map, far, 1000).await, Ok(expected(&model, far, 1000)));
        let needed = 1000 * blocks / 20_000 + 1;
        let blocks_read = (read(&directory) - before) / RUN_BLOCK_SIZE as u64;
        assert!((needed..=2 * needed + 1).contains(&blocks_read), "{blocks_read} for {needed}");
        let reads = directory.core.counters.device_reads.value() - reads_before;
        assert!(reads <= 4, "{reads} reads: 1, 2, 4 and 8 blocks");
    });
}

#[test]
fn a_run_that_begins_above_what_is_read_is_not_read() {
    run(async {
        let directory = Directory::small().await;
        directory.map.insert(b"z", b"1");
        directory.flush().await;
        directory.map.insert(b"a", b"2");
        directory.flush().await;
        let before = directory.core.counters.device_reads.value();
        assert_eq!(scan(&directory.map, b"a", 1).await, Ok(vec![(b"a".to_vec(), b"2".to_vec())]));
        assert_eq!(directory.core.counters.device_reads.value() - before, 1);
    });
}

#[test]
fn rot_in_different_blocks_of_the_copies_is_survived() {
    run(async {
        let mut directory = Directory::small().await;
        let model = filled(&directory, 3000).await;
        // Of one large read: each copy gives what the other lacks.
        directory.rot(0, 3);
        directory.rot(1, 4);
        directory.reopen().await;
        assert_eq!(scan(&directory.map, b"", usize::MAX).await, Ok(expected(&model, b"", usize::MAX)));
        assert!(directory.core.counters.copies_skipped.value() > 0);
    });
}

#[test]
fn rot_of_a_block_in_all_copies_is_an_error_and_no_wrong_answer() {
    run(async {
        let mut directory = Directory::small().await;
        let model = filled(&directory, 3000).await;
        directory.rot(0, 3);
        directory.rot(1, 3);
        directory.reopen().await;
        let segment = directory.map.runs()[0].extents[0].segment;
        let error = scan(&directory.map, b"", usize::MAX).await.expect_err("rotten");
        assert!(matches!(error, Error::Corrupt { segment: at, .. } if at == segment), "{error:?}");
        let after = b"photos/2024/00002000.jpg";
        assert_eq!(scan(&directory.map, after, 10).await, Ok(expected(&model, after, 10)));
        let merged = directory.map.merge(&directory.plan(0, 1)).await;
        assert!(matches!(merged, Err(Error::Corrupt { .. })));
    });
}

#[test]
fn a_rotten_fence_is_an_error_when_the_run_is_opened() {
    run(async {
        let directory = Directory::small().await;
        filled(&directory, 3000).await;
        let last = directory.map.runs()[0].block_count() - 1;
        directory.rot(0, last);
        directory.rot(1, last);
        let opened = Lsm::open(directory.core.clone(), directory.cache.clone(), directory.map.runs()).await;
        assert!(matches!(opened.err(), Some(Error::Corrupt { .. })));
    });
}

async fn changes_of(run: &Run<MemoryDevice>) -> IndexChanges {
    let mut changes = IndexChanges::default();
    run.index_changes(|change| match change {
        IndexChange::Added(hash, location) => changes.added.push((hash, location)),
        IndexChange::Removed(hash, location) => changes.removed.push((hash, location)),
    })
    .await
    .expect("read");
    changes
}

#[test]
fn index_changes_net_out_over_merges() {
    run(async {
        let directory = Directory::small().await;
        let flush = async |added: Vec<(u64, u64)>, removed: Vec<(u64, u64)>| {
            directory.map.freeze();
            directory.install(IndexChanges { added, removed }).await;
        };
        flush(vec![(9, 9), (1, 1)], vec![(1, 1)]).await;
        // Enough for several blocks.
        flush((0..5000).rev().map(|i| (i * 10, i)).collect(), vec![(9, 9)]).await;
        flush(vec![(7, 7)], (0..4999).map(|i| (i * 10, i)).collect()).await;
        flush(vec![(10, 1)], vec![(7, 7)]).await;

        let merged = directory.merge(&directory.plan(0, 3)).await;
        let expected = IndexChanges { added: vec![(10, 1), (49_990, 4999)], removed: vec![(9, 9)] };
        assert_eq!(changes_of(&merged).await, expected);
        let bottom = directory.merge(&directory.plan(0, 2)).await;
        assert_eq!(changes_of(&bottom).await, IndexChanges { removed: vec![], ..expected });
    });
}

#[test]
fn removals_are_kept_above_the_bottom_and_dropped_in_it() {
    run(async {
        let directory = Directory::small().await;
        directory.map.remove(b"never there");
        directory.map.insert(b"a", b"1");
        directory.flush().await;
        assert_eq!(directory.map.runs()[0].removal_count, 0, "the first run is the bottom");
        directory.map.remove(b"a");
        directory.flush().await;
        directory.map.insert(b"b", b"2");
        directory.flush().await;
        let kept = directory.merge(&directory.plan(0, 2)).await;
        assert_eq!((kept.descriptor().entry_count, kept.descriptor().removal_count), (2, 1));
        let bottom = directory.merge(&directory.plan(0, 2)).await;
        assert_eq!((bottom.descriptor().entry_count, bottom.descriptor().removal_count), (1, 0));

        directory.map.remove(b"b");
        directory.flush().await;
        directory.merge(&directory.plan(0, 2)).await;
        assert_eq!(directory.map.runs(), [], "what holds nothing is no run");
    });
}

#[test]
fn a_memtable_is_frozen_and_installed_while_a_merge_runs() {
    run(async {
        let directory = Directory::small().await;
        let mut model = filled(&directory, 4000).await;
        directory.map.remove(b"photos/2024/00000001.jpg");
        model.remove(b"photos/2024/00000001.jpg".as_slice());
        directory.flush().await;
        let plan = directory.plan(0, 2);
        let mut cursor = directory.map.cursor();
        let (key, _) = cursor.next().await.expect("read").expect("an entry");
        assert_eq!(key, b"photos/2024/00000000.jpg");
        let meanwhile = async {
            directory.map.remove(b"photos/2024/00000002.jpg");
            directory.map.insert(b"photos/2024/00000003.jpg", b"new");
            directory.flush().await;
        };
        let (_, ()) = futures_util::future::join(directory.merge(&plan), meanwhile).await;
        model.remove(b"photos/2024/00000002.jpg".as_slice());
        model.insert(b"photos/2024/00000003.jpg".to_vec(), b"new".to_vec());

        assert_eq!(directory.map.runs().len(), 2);
        let next = cursor.next().await.expect("read");
        assert_eq!(next, Some((b"photos/2024/00000003.jpg".as_slice(), b"new".as_slice())));
        assert_eq!(scan(&directory.map, b"", usize::MAX).await, Ok(expected(&model, b"", usize::MAX)));
    });
}

/// Changes the odd keys, now and then into runs that are merged, while others have their turn at every device operation.
async fn change_odd_keys(directory: &Directory, model: &std::cell::RefCell<Model>, seed: u64) {
    let mut random = Seeded(seed);
    for _ in 0..60 {
        for _ in 0..50 {
            let i = random.below(200) as u16 * 2 + 1;
            if random.below(3) == 0 {
                directory.map.remove(&key(i));
                model.borrow_mut().remove(&key(i));
            } else {
                let value = value(i, random.below(256) as u8);
                directory.map.insert(&key(i), &value);
                model.borrow_mut().insert(key(i), value);
            }
        }
        directory.flush().await;
        if let Some(plan) = choose_merge(&directory.map.summaries()) {
            directory.merge(&plan).await;
        }
    }
}

#[test]
fn what_a_cursor_gives_is_right_when_it_gives_it_and_nothing_that_stays_is_missed() {
    run(async {
        for seed in 0..4 {
            // No cache: every block is read while the map changes.
            let directory = Directory::new(64 << 20, 0).await;
            let model = std::cell::RefCell::new(Model::new());
            for i in (0..400).step_by(2) {
                directory.map.insert(&key(i), &value(i, 1));
                model.borrow_mut().insert(key(i), value(i, 1));
            }
            directory.flush().await;
            let is_over = std::cell::Cell::new(false);
            let changes = async {
                change_odd_keys(&directory, &model, seed).await;
                is_over.set(true);
            };
            let scans = async {
                let mut scans = 0;
                while !is_over.get() {
                    let mut cursor = directory.map.cursor();
                    let (mut last, mut stayed) = (Vec::new(), 0);
                    while let Some((key, value)) = cursor.next().await.expect("read") {
                        assert!(last.as_slice() < key, "keys ascend");
                        last = key.to_vec();
                        assert_eq!(model.borrow().get(key).map(Vec::as_slice), Some(value), "it is current");
                        stayed += usize::from(key[key.len() - 1].is_multiple_of(2));
                    }
                    assert_eq!(stayed, 200);
                    scans += 1;
                }
                scans
            };
            let (scans, ()) = futures_util::future::join(scans, changes).await;
            assert!(scans > 3, "{scans} scans while it changed");
        }
    });
}

#[test]
fn a_cursor_gives_what_changes_under_it_as_it_is_then() {
    run(async {
        let directory = Directory::small().await;
        for key in ["a", "b", "c", "d"] {
            directory.map.insert(key.as_bytes(), b"old");
        }
        let mut cursor = directory.map.cursor();
        assert_eq!(cursor.next().await, Ok(Some((b"a".as_slice(), b"old".as_slice()))));
        directory.map.remove(b"b");
        directory.map.insert(b"c", b"new");
        directory.flush().await;
        assert_eq!(cursor.next().await, Ok(Some((b"c".as_slice(), b"new".as_slice()))));
        directory.map.insert(b"cc", b"newer");
        assert_eq!(cursor.next().await, Ok(Some((b"cc".as_slice(), b"newer".as_slice()))));
        directory.map.remove(b"d");
        assert_eq!(cursor.next().await, Ok(None));
        directory.map.insert(b"e", b"late");
        assert_eq!(cursor.next().await, Ok(Some((b"e".as_slice(), b"late".as_slice()))));
    });
}

#[test]
fn a_run_that_can_not_be_written_leaves_the_map_as_it_was() {
    run(async {
        let directory = Directory::small().await;
        directory.map.insert(b"a", b"1");
        directory.map.freeze();
        directory.map.insert(b"a", b"2");
        directory.map.insert(b"b", b"3");
        directory.devices.iter().for_each(MemoryDevice::fail_writes);
        assert!(directory.map.write_frozen(IndexChanges::default()).await.is_err());
        directory.map.thaw();
        assert!(!directory.map.is_frozen());
        let left = scan(&directory.map, b"", 9).await.expect("in memory");
        assert_eq!(left, [(b"a".to_vec(), b"2".to_vec()), (b"b".to_vec(), b"3".to_vec())]);
    });
}

#[test]
fn the_space_of_replaced_runs_is_free_once_nobody_reads_them() {
    run(async {
        let directory = Directory::small().await;
        let model = filled(&directory, 20_000).await;
        let mut cursor = directory.map.cursor();
        cursor.next().await.expect("read").expect("an entry");
        let used = directory.core.store.table.counts().bulk;
        let plan = directory.plan(0, 1);
        for _ in 0..3 {
            directory.merge(&directory.plan(0, 1)).await;
        }
        let counts = directory.core.store.table.counts();
        assert!(counts.bulk <= 2 * used + 2, "{} segments, {used} for one run", counts.bulk);
        // The cursor still stands in the run of the first plan; its next step leaves it.
        assert_ne!(directory.map.summaries()[0].id, plan.runs[0]);
        assert!(cursor.next().await.expect("read").is_some());
        let after = directory.core.store.table.counts();
        assert!(after.bulk < counts.bulk && after.bulk <= used + 2, "{} segments", after.bulk);
        let blocks: u64 = directory.map.runs().iter().map(|run| u64::from(run.block_count())).sum();
        assert_eq!(after.live_bytes, blocks * RUN_BLOCK_SIZE as u64);
        assert_eq!(scan(&directory.map, b"", usize::MAX).await, Ok(expected(&model, b"", usize::MAX)));
    });
}

#[test]
fn a_written_run_survives_a_power_cut_on_every_copy() {
    run(async {
        let directory = Directory::small().await;
        let power = Power::new(1, u64::MAX);
        directory.devices.iter().for_each(|device| device.plug_in(&power));
        let model = filled(&directory, 3000).await;
        for lost in 0..2 {
            // A copy has what is durable.
            let devices: Vec<MemoryDevice> = directory.devices.iter().map(MemoryDevice::copy).collect();
            let store = Store::open(&devices, master()).await.expect("a store");
            devices[lost].fail_reads(0..64 << 20);
            let core = Core::new(store, 0, devices, Box::new(Seeded(2)));
            let cache = BlockCache::new(CACHE_BUDGET);
            let map = Lsm::open(core, cache, directory.map.runs()).await.expect("opened");
            assert_eq!(scan(&map, b"", usize::MAX).await, Ok(expected(&model, b"", usize::MAX)));
        }
    });
}

#[test]
fn a_small_run_takes_no_more_of_a_segment_than_its_blocks() {
    run(async {
        let directory = Directory::small().await;
        for i in 0..10u8 {
            directory.map.insert(&[i], b"value");
            directory.flush().await;
        }
        let runs = directory.map.runs();
        let end = |extent: &Extent| extent.block + extent.block_count;
        for pair in runs.windows(2) {
            assert_eq!(
                pair[0].extents[0].block,
                end(&pair[1].extents[0]),
                "each begins where the last ended"
            );
        }
        assert_eq!(runs[0].block_count(), 3);
    });
}

#[test]
fn a_frozen_memtable_may_use_the_reserve_and_a_merge_may_not() {
    run(async {
        let directory = Directory::new(16 << 20, CACHE_BUDGET).await;
        let table = &directory.core.store.table;
        directory.fill();
        directory.map.insert(b"a", b"1");
        directory.flush().await;
        assert_eq!(directory.map.get(b"a").await, Ok(Some(b"1".to_vec())));
        let before = table.counts().free;
        for i in 0..4000u32 {
            directory.map.insert(&i.to_be_bytes(), &[1; 500]);
        }
        directory.flush().await;
        assert!(table.counts().free < before, "more than the open segment held");
        let merged = directory.map.merge(&directory.plan(0, 2)).await;
        assert_eq!(merged.err(), Some(Error::Full), "a merge can wait");
    });
}

#[test]
fn a_merge_that_outgrows_what_was_expected_changes_nothing_and_is_not_begun_again() {
    run(async {
        let directory = Directory::new(24 << 20, CACHE_BUDGET).await;
        let mut model = Model::new();
        // The pairs say that nothing is left of the first run; its entries say otherwise.
        let pairs: Vec<(u64, u64)> = (0..1000).map(|i| (i, i)).collect();
        let all = [
            IndexChanges { added: pairs.clone(), removed: Vec::new() },
            IndexChanges { added: Vec::new(), removed: pairs },
        ];
        for (half, changes) in all.into_iter().enumerate() {
            for i in 0..6000u32 {
                let (key, value) = ([&[half as u8][..], &i.to_be_bytes()].concat(), data(i.into(), 600));
                directory.map.insert(&key, &value);
                model.insert(key, value);
            }
            directory.map.freeze();
            directory.install(changes).await;
        }
        directory.fill();
        let plan = directory.plan(0, 2);
        let writes = || directory.devices.iter().map(MemoryDevice::writes).sum::<u64>();
        let (before, written) = (directory.core.store.table.counts(), writes());
        assert_eq!(directory.map.merge(&plan).await.err(), Some(Error::Full));
        assert!(writes() > written, "it was begun");
        // Of what it wrote one segment may still be open.
        let after = directory.core.store.table.counts();
        assert!(after.free + 1 >= before.free, "{before:?}, then {after:?}");
        assert_eq!(scan(&directory.map, b"", usize::MAX).await, Ok(expected(&model, b"", usize::MAX)));
        let written = writes();
        assert_eq!(directory.map.merge(&plan).await.err(), Some(Error::Full));
        assert_eq!(writes(), written, "it is known now what it may need");
        // Other runs are another question.
        directory.map.insert(b"z", b"1");
        directory.flush().await;
        let written = writes();
        assert_eq!(directory.map.merge(&directory.plan(0, 3)).await.err(), Some(Error::Full));
        assert!(writes() > written);
    });
}

#[test]
fn the_cache_stays_within_its_budget_and_answers_stay_right() {
    run(async {
        let budget = 20 * RUN_BLOCK_SIZE;
        let directory = Directory::new(64 << 20, budget).await;
        let model = filled(&directory, 20_000).await;
        for i in 0..2000u32 {
            let from = format!("photos/2024/{:08}", i * 7919 % 20_000).into_bytes();
            let count = if i % 100 == 0 { 500 } else { 1 };
            assert_eq!(scan(&directory.map, &from, count).await, Ok(expected(&model, &from, count)));
            assert!(directory.cache.len_bytes() <= budget);
        }
        assert!(directory.cache.len_bytes() > budget / 2);
        let counters = &directory.core.counters;
        assert!(counters.block_cache_hits.value() > 0 && counters.block_cache_misses.value() > 0);
    });
}
