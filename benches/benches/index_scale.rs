//! The hash index at the sizes of a full node: what an entry costs in memory, and how long an operation takes.
//!
//! `cargo bench -p benches --bench index_scale -- --entries 10000000`; without `--entries`, 1, 10 and 30 million one after the other. The memory of
//! a process is measured once per size, so each size should run alone where RSS matters: freed memory is not always given back to the system.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use engine::ids::{BucketId, SegmentId, SegmentIndex};
use engine::index::hash::{HashIndex, Location};

/// Counts the bytes that are allocated, without what the allocator adds to each block.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator, unchanged; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        BLOCKS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        BLOCKS.fetch_sub(1, Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`, and the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size, Relaxed);
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the promises of `realloc`, and the block came from `System`.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of every operation but insertion so many are measured.
const PROBES_MAX: usize = 2_000_000;

/// How far apart entries that are probed one after the other lie in the order of insertion: a prime, so that no entry is left out.
const STRIDE: usize = 1_000_003;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen =
        arguments.iter().position(|argument| argument == "--entries").and_then(|i| arguments.get(i + 1));
    let sizes = match chosen.map(|text| text.parse::<usize>()) {
        Some(Ok(entries)) if entries > 0 => vec![entries],
        Some(_) => usage(),
        None if arguments.iter().any(|argument| argument == "--bench") => {
            vec![1_000_000, 10_000_000, 30_000_000]
        }
        // Run as a test.
        None => vec![10_000],
    };
    for entries in sizes {
        measure(entries);
    }
}

#[expect(clippy::print_stderr, reason = "a command line answers on standard error")]
fn usage() -> ! {
    eprintln!("--entries takes a number from 1 on");
    std::process::exit(2);
}

#[expect(clippy::print_stdout, reason = "figures are what a bench is for")]
fn measure(entries: usize) {
    println!("{entries} entries");
    let (allocated, rss) = (ALLOCATED.load(Relaxed), rss_bytes());
    let blocks = BLOCKS.load(Relaxed);
    let mut index = HashIndex::new(42);
    let (insert, slowest) = insert_all(&mut index, entries);
    let per_entry = |bytes: usize| bytes as f64 / entries as f64;
    println!(
        "  memory    {:.2} bytes per entry by its own count, {:.2} allocated in {:.4} blocks, {:.2} RSS",
        per_entry(index.allocated_bytes()),
        per_entry(ALLOCATED.load(Relaxed) - allocated),
        per_entry(BLOCKS.load(Relaxed) - blocks),
        per_entry(rss_bytes().saturating_sub(rss)),
    );
    println!("  insert    {insert:.0} ns; slowest {} us", slowest.as_micros());
    let probes = entries.min(PROBES_MAX);
    let hits = timed(probes, |i| {
        index.candidates(hash_of(&index, i * STRIDE % entries)).any(|at| at == location(i * STRIDE % entries))
    });
    println!("  hit       {:.0} ns", hits.expect(probes));
    let misses = timed(probes, |i| index.candidates(hash_of(&index, entries + i)).next().is_some());
    println!("  miss      {:.0} ns", misses.expect(0));
    let image: Vec<(u64, Location)> = index.iter().collect();
    let mut loaded = HashIndex::new(42);
    let started = Instant::now();
    loaded.reserve_for(image.len());
    image.iter().for_each(|(hash, location)| loaded.insert(*hash, *location));
    println!(
        "  load      {:.0} ns, in the order of an image",
        started.elapsed().as_nanos() as f64 / entries as f64
    );
    assert!(loaded.iter().eq(image), "the image has all entries");
    drop(loaded);
    let removed = timed(probes, |i| {
        let i = i * STRIDE % entries;
        let hash = hash_of(&index, i);
        index.remove(hash, location(i))
    });
    println!("  remove    {:.0} ns", removed.expect(probes));
    (0..entries).for_each(|i| {
        let hash = hash_of(&index, i);
        index.remove(hash, location(i));
    });
    assert!(index.is_empty(), "all entries were removed");
    println!("  emptied   {} bytes allocated", index.allocated_bytes());
}

/// Mean and longest time of an insertion. Reading the clock is in the mean; it takes about 20 ns.
fn insert_all(index: &mut HashIndex, entries: usize) -> (f64, Duration) {
    let mut slowest = Duration::ZERO;
    let started = Instant::now();
    let mut last = started;
    for i in 0..entries {
        let hash = hash_of(index, i);
        index.insert(hash, location(i));
        let now = Instant::now();
        slowest = slowest.max(now - last);
        last = now;
    }
    (started.elapsed().as_nanos() as f64 / entries as f64, slowest)
}

struct Timed {
    nanos: f64,
    true_count: usize,
}

impl Timed {
    fn expect(&self, true_count: usize) -> f64 {
        assert_eq!(self.true_count, true_count, "the index answers wrongly");
        self.nanos
    }
}

/// Mean time of an operation, with hashing its key.
fn timed(count: usize, mut operation: impl FnMut(usize) -> bool) -> Timed {
    let started = Instant::now();
    let true_count = (0..count).filter(|i| black_box(operation(*i))).count();
    Timed { nanos: started.elapsed().as_nanos() as f64 / count as f64, true_count }
}

fn hash_of(index: &HashIndex, i: usize) -> u64 {
    index.hash(BucketId(1), &(i as u64).to_le_bytes())
}

fn location(i: usize) -> Location {
    Location::new(SegmentId::new(1, SegmentIndex((i >> 18) as u32)), ((i & 0x3_ffff) * 64) as u32, 64)
}

fn rss_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
