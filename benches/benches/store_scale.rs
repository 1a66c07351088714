//! A store with many small versions, made, shut down, killed and opened again: how long it takes to start, what a version costs in memory, and what pages and
//! reads cost.
//!
//! All lies in one bucket, so in one shard, which one core opens: the worst case of a start. A node opens shard 0 first, and then the shards of each core side
//! by side with those of the others; the bench opens its two shards one after the other, as a node with two cores does.
//!
//! `cargo bench -p benches --bench store_scale -- --entries 10000000`. The store lies in a file in the target folder, about 1 KiB per entry, and goes away
//! again. Each step is a process of its own: the memory of one says nothing about another, and one ends as if killed.

mod support;

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::device::{DeviceFile, UringDevice};
use engine::index::directory::{After, PageQuery};
use engine::{Footprint, Shard};
use support::{DevicePath, Mode, Numbers, OpenStore, Times, mib, rss_bytes, say};

/// Puts in flight.
const IN_FLIGHT: usize = 1024;

const PREFIXES: u64 = 1000;
const BYTES_LEN: usize = 16;

/// Pages of each kind that are timed, and reads.
const PAGES: usize = 41;
const READS: usize = 20_000;

fn main() {
    let Some(mode) = support::mode("store_scale") else { return };
    let entries = support::number("--entries").unwrap_or(match mode {
        Mode::Measure => 1_000_000,
        Mode::Test => 3_000,
    });
    if let Some(step) = support::option("--step") {
        let path = support::option("--device").expect("a step is told its device");
        let device = DeviceFile::open(Path::new(&path)).expect("a device");
        return match step.as_str() {
            "fill" => support::run(fill(&device, entries)),
            "read" => support::run(read(&device, entries)),
            _ => support::run(replay(&device, entries)),
        };
    }
    say(&format!("{entries} versions of {BYTES_LEN} bytes in one bucket"));
    let device = DevicePath::new("store_scale");
    drop(DeviceFile::create(device.path(), (entries * 1000).max(96 << 20)).expect("a device"));
    for step in ["fill", "read", "replay"] {
        let mut command = Command::new(std::env::current_exe().expect("the bench's own path"));
        command.args(["--step", step, "--entries", &entries.to_string(), "--device"]).arg(device.path());
        assert!(command.status().expect("started").success(), "the step {step} failed");
    }
}

// -- steps

/// Makes the store and closes it in order.
async fn fill(device: &DeviceFile, entries: u64) {
    support::format(device, 2, None).await;
    let mut store = OpenStore::open(device).await;
    store.begin_upkeep();
    let began = Instant::now();
    let mut store = put_all(store, 0..entries).await;
    let took = began.elapsed().as_secs_f64();
    say(&format!("  put       {:.0} per second, {IN_FLIGHT} in flight", entries as f64 / took));
    let began = Instant::now();
    store.settle().await;
    say(&format!("  settled   {:.1} s later", began.elapsed().as_secs_f64()));
    tell_disk(&store, entries);
    let began = Instant::now();
    store.close().await;
    say(&format!("  close     {:.3} s", began.elapsed().as_secs_f64()));
}

/// Opens it as it was closed, measures, puts some more and ends without a word.
async fn read(device: &DeviceFile, entries: u64) {
    let store = open_measured("closed", device, entries).await;
    assert_eq!(store.home().footprint().versions as u64, entries, "all versions are there");
    pages(&store, entries).await;
    gets(&store, entries).await;
    let more = later(entries);
    let _store = put_all(store, more).await;
    std::process::exit(0);
}

/// Opens it as it was left: with a log after the checkpoint.
async fn replay(device: &DeviceFile, entries: u64) {
    let store = open_measured("killed", device, entries).await;
    let last = later(entries).end;
    assert_eq!(store.home().footprint().versions as u64, last, "all versions are there");
    assert_eq!(store.read(&key(last - 1)).await.expect("read"), bytes(last - 1), "the last put is there");
}

/// Puts that come after the checkpoint: a hundredth, which at ten million is about as much as a memtable takes.
fn later(entries: u64) -> std::ops::Range<u64> {
    entries..entries + (entries / 100).max(1)
}

// -- what is stored

/// Each prefix gets one key after the other, in no order: every memtable and so every run spans them all.
fn key(i: u64) -> Vec<u8> {
    let number = i / PREFIXES * 7919 % 100_000_007;
    format!("p{:04}/k{number:08}", i % PREFIXES).into_bytes()
}

fn bytes(i: u64) -> [u8; BYTES_LEN] {
    std::array::from_fn(|at| i.to_le_bytes()[at % 8])
}

async fn put_all(store: OpenStore, range: std::ops::Range<u64>) -> OpenStore {
    let (store, next) = (Rc::new(store), Rc::new(Cell::new(range.start)));
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (store, next, end) = (store.clone(), next.clone(), range.end);
            compio::runtime::spawn(async move {
                while next.get() < end {
                    let i = next.replace(next.get() + 1);
                    store.put(&key(i), &bytes(i)).await.expect("put");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    Rc::into_inner(store).expect("the workers are done")
}

// -- figures

fn tell_disk(store: &OpenStore, entries: u64) {
    let counts = store.core.store.table.counts();
    let (counters, segment) = (&store.core.counters, store.core.store.segment_size);
    let used = u64::from(counts.commit + counts.bulk) * segment;
    let Footprint { run_count, run_bytes, .. } = store.home().footprint();
    say(&format!(
        "  disk      {:.0} MiB in {} segments of {:.0} MiB, {:.0} MiB live; {:.0} bytes per version in the log, {:.0} in the directory",
        mib(used),
        counts.commit + counts.bulk,
        mib(segment),
        mib(counts.live_bytes),
        counters.accepted_bytes.value() as f64 / entries as f64,
        run_bytes as f64 / entries as f64,
    ));
    say(&format!(
        "  runs      {run_count}; {} merges, {} checkpoints; {:.0} MiB of runs written, {:.0} MiB of all",
        counters.merges.value(),
        counters.checkpoints.value(),
        mib(counters.run_bytes_written.value()),
        mib(counters.device_write_bytes.value()),
    ));
}

async fn open_measured(how: &str, device: &DeviceFile, entries: u64) -> OpenStore {
    let before = rss_bytes();
    let store = OpenStore::open(device).await;
    let rss = rss_bytes().saturating_sub(before);
    let counters = &store.core.counters;
    let footprints: Vec<Footprint> =
        store.shards.iter().map(|shard: &Rc<Shard<UringDevice>>| shard.footprint()).collect();
    let sum = |of: fn(&Footprint) -> usize| footprints.iter().map(of).sum::<usize>();
    let per_version = |bytes: usize| bytes as f64 / entries as f64;
    say(&format!(
        "  start     {:.3} s after it was {how}, {:.3} s on the processor; {} records replayed, {} reads of {:.0} MiB",
        store.opened_in.as_secs_f64(),
        store.opened_cpu.as_secs_f64(),
        store.replayed,
        counters.device_reads.value(),
        mib(counters.device_read_bytes.value()),
    ));
    say(&format!(
        "  memory    {:.0} MiB RSS before, {:.0} MiB more after: {:.1} bytes per version; index {:.2}, fences {:.2}; memtable {:.1} MiB",
        mib(before),
        mib(rss),
        per_version(rss as usize),
        per_version(sum(|footprint| footprint.index_bytes)),
        per_version(sum(|footprint| footprint.fence_bytes)),
        mib(sum(|footprint| footprint.memtable_bytes) as u64),
    ));
    store
}

async fn pages(store: &OpenStore, entries: u64) {
    let of = |after, delimiter: &[u8]| PageQuery {
        delimiter: delimiter.into(),
        after,
        max: 1000,
        ..PageQuery::default()
    };
    let mut numbers = Numbers(1);
    for (what, is_cold) in [("cold", true), ("warm", false)] {
        page(store, &format!("first page of keys, {what}"), is_cold, || of(After::Nothing, b"")).await;
        let middle = After::Key(key(entries / 2));
        page(store, &format!("one page in the middle, {what}"), is_cold, || of(middle.clone(), b"")).await;
        page(store, &format!("page of common prefixes, {what}"), is_cold, || of(After::Nothing, b"/")).await;
    }
    page(store, "pages anywhere", false, || of(After::Key(key(numbers.below(entries))), b"")).await;
}

async fn page(store: &OpenStore, what: &str, is_cold: bool, mut query: impl FnMut() -> PageQuery) {
    let (mut times, mut found, mut cpu) = (Times::default(), 0, Duration::ZERO);
    let mut reads = 0;
    for round in 0..=PAGES {
        if is_cold {
            store.core.block_cache.clear();
        }
        let query = query();
        let (began, cpu_before) = (Instant::now(), support::cpu_time());
        let before = store.core.counters.device_reads.value();
        let page = store.home().page(store.bucket(), &query).await.expect("a page");
        // The first warms up.
        if round > 0 {
            times.add(began.elapsed());
            cpu += support::cpu_time() - cpu_before;
            reads += store.core.counters.device_reads.value() - before;
            found += page.entries.len() + page.common_prefixes.len();
        }
    }
    say(&format!(
        "  LIST      {what}: {:.2} ms, at most {:.2}, on the processor {:.2}; {:.1} device reads, {} found",
        times.micros(500) / 1e3,
        times.micros(1000) / 1e3,
        cpu.as_secs_f64() * 1e3 / PAGES as f64,
        reads as f64 / PAGES as f64,
        found / PAGES,
    ));
}

async fn gets(store: &OpenStore, entries: u64) {
    let (mut times, mut numbers) = (Times::default(), Numbers(2));
    let count = READS.min(entries as usize);
    let before = store.core.counters.device_reads.value();
    for _ in 0..count {
        let i = numbers.below(entries);
        let key = key(i);
        let began = Instant::now();
        let found = store.read(&key).await.expect("read");
        times.add(began.elapsed());
        assert_eq!(found, bytes(i), "a version holds what was put");
    }
    let reads = store.core.counters.device_reads.value() - before;
    say(&format!(
        "  GET       {:.1} us, p99 {:.1}, one after the other; {:.4} device reads",
        times.micros(500),
        times.micros(990),
        reads as f64 / count as f64,
    ));
}
