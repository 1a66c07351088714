//! The hash index at the sizes of a full node: what an entry costs in memory, how long an operation takes, and how long the slowest one.
//!
//! `cargo bench -p benches --bench index_scale -- --entries 10000000 --passes 3`; without `--entries`, 1, 10 and 30 million one after the other.
//!
//! The slowest of millions of operations says on a busy machine only how long the scheduler let the process wait. But the index is
//! deterministic: the same calls do the same work. So all is done in several passes, and what counts of each operation is its shortest
//! time in any of them: a pause that is the index's own comes at the same operation in all, one of the machine's does not. Each pass is a
//! process of its own, that its memory is as fresh as that of the first: in one process the second would find pages that the first had
//! already faulted in, and hide what they cost. The allocator is that of the node, as its pauses would be pauses of an insertion.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use engine::ids::{BucketId, SegmentId, SegmentIndex};
use engine::index::hash::{HashIndex, Location};
use mimalloc::MiMalloc;
use rustix::time::{ClockId, clock_gettime};
use support::{Mode, mode, number, rss_bytes, say};

mod support;

/// Counts the bytes that are allocated, without what the allocator adds to each block.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the node's allocator, unchanged; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        BLOCKS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        BLOCKS.fetch_sub(1, Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`, and the block came from `MiMalloc`.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size, Relaxed);
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the promises of `realloc`, and the block came from `MiMalloc`.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Passes when none are given: that an operation is interrupted in three, of millions of which some thousands are in one, hardly happens.
const PASSES: u64 = 3;

/// So many entries are looked up.
const PROBES_MAX: usize = 2_000_000;

/// How far apart entries that are probed or removed one after the other lie in the order of insertion: a prime, so that no entry is left out.
const STRIDE: usize = 1_000_003;

/// What a pass measures beside the times of single operations, in the order in which it says them.
const FIGURES: [&str; 11] = [
    "bytes per entry, by its own count",
    "bytes per entry, asked of the allocator",
    "bytes per entry, RSS",
    "blocks per 1000 entries",
    "ns for reading both clocks",
    "ns per hit",
    "ns per miss",
    "ns per insertion in the order of an image, unclocked",
    "ns per hit, hashbrown",
    "ns per miss, hashbrown",
    "bytes per entry when emptied",
];

fn main() {
    let Some(mode) = mode("index_scale") else { return };
    if let Some(entries) = number("--pass") {
        return run_pass(entries as usize);
    }
    let passes = number("--passes").unwrap_or(PASSES);
    let sizes = match (number("--entries"), mode) {
        (Some(entries), _) => vec![entries as usize],
        (None, Mode::Measure) => vec![1_000_000, 10_000_000, 30_000_000],
        (None, Mode::Test) => vec![10_000],
    };
    for entries in sizes {
        measure(entries, passes);
    }
}

fn measure(entries: usize, passes: u64) {
    assert!(!entries.is_multiple_of(STRIDE), "the stride reaches all entries");
    say(&format!("{entries} entries, {passes} passes"));
    let (mut insertions, mut removals) = (Shortest::new(entries), Shortest::new(entries));
    let mut figures = [(f64::INFINITY, 0.0f64); FIGURES.len()];
    for _ in 0..passes {
        let executable = std::env::current_exe().expect("the path of this bench");
        let mut pass = Command::new(executable)
            .args(["--pass", &entries.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process for the pass");
        let mut said = BufReader::with_capacity(1 << 20, pass.stdout.take().expect("a pipe"));
        insertions.read(&mut said);
        removals.read(&mut said);
        for (least, most) in &mut figures {
            let figure = f64::from_le_bytes(read(&mut said));
            (*least, *most) = (least.min(figure), most.max(figure));
        }
        assert!(pass.wait().expect("the pass ends").success(), "a pass failed");
    }
    insertions.report("insert");
    removals.report("remove");
    for (name, (least, most)) in FIGURES.iter().zip(figures) {
        say(&format!("  {least:.2} to {most:.2} {name}"));
    }
}

/// The shortest time of each operation in any pass.
struct Shortest {
    wall: Vec<u32>,
    cpu: Vec<u32>,
    /// Operations longer than [`LONG_NANOS`], pass by pass.
    long: Vec<[usize; 2]>,
}

/// The pause that no operation may make.
const LONG_NANOS: u32 = 1_000_000;

impl Shortest {
    fn new(entries: usize) -> Self {
        Shortest { wall: vec![u32::MAX; entries], cpu: vec![u32::MAX; entries], long: Vec::new() }
    }

    fn read(&mut self, said: &mut impl Read) {
        let mut long = [0; 2];
        for (wall, cpu) in self.wall.iter_mut().zip(&mut self.cpu) {
            for (i, shortest) in [wall, cpu].into_iter().enumerate() {
                let nanos = u32::from_le_bytes(read(said));
                long[i] += usize::from(nanos > LONG_NANOS);
                *shortest = nanos.min(*shortest);
            }
        }
        self.long.push(long);
    }

    fn report(&self, operation: &str) {
        for (i, (clock, times)) in [("wall", &self.wall), ("cpu", &self.cpu)].into_iter().enumerate() {
            let mut order: Vec<usize> = (0..times.len()).collect();
            let count = order.len().min(6);
            order.select_nth_unstable_by_key(count - 1, |at| std::cmp::Reverse(times[*at]));
            order.truncate(count);
            order.sort_unstable_by_key(|at| std::cmp::Reverse(times[*at]));
            let micros = |at: usize| f64::from(times[at]) / 1000.0;
            let next: Vec<String> =
                order[1..].iter().map(|at| format!("{:.0} at {at}", micros(*at))).collect();
            let mean = times.iter().copied().map(f64::from).sum::<f64>() / times.len() as f64;
            let long: Vec<String> = self.long.iter().map(|long| long[i].to_string()).collect();
            say(&format!(
                "  {operation} {clock}: slowest {:.0} us at {} (then {}); mean {mean:.0} ns with clocks; above 1 ms in single passes: {}",
                micros(order[0]),
                order[0],
                next.join(", "),
                long.join(", "),
            ));
        }
    }
}

fn read<const N: usize>(said: &mut impl Read) -> [u8; N] {
    let mut bytes = [0; N];
    said.read_exact(&mut bytes).expect("a pass says all that it measured");
    bytes
}

/// Measures once, and says it on standard output for [`measure`] to read.
fn run_pass(entries: usize) {
    let mut said = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    // Its memory is there before anything is measured, since it is filled with something else than zeros.
    let mut times = vec![[u32::MAX; 2]; entries];
    let mut index = HashIndex::new(42);
    let (allocated, blocks, rss) = (ALLOCATED.load(Relaxed), BLOCKS.load(Relaxed), rss_bytes());
    clocked(&mut times, |i| index.insert(hash_of(&index, i), location(i)));
    let per_entry = |bytes: usize| bytes as f64 / entries as f64;
    let mut figures = vec![
        per_entry(index.allocated_bytes()),
        per_entry(ALLOCATED.load(Relaxed) - allocated),
        per_entry(rss_bytes().saturating_sub(rss) as usize),
        per_entry(BLOCKS.load(Relaxed) - blocks) * 1000.0,
    ];
    tell(&times, &mut said);
    figures.push(timed(entries, 1, |_| {
        black_box((Instant::now(), cpu_nanos()));
        true
    }));
    figures
        .push(timed(entries, STRIDE, |i| index.candidates(hash_of(&index, i)).any(|at| at == location(i))));
    figures.push(timed(entries, STRIDE, |i| index.candidates(hash_of(&index, entries + i)).next().is_none()));
    figures.push(load_image(&index));
    figures.extend(hashbrown(&index, entries));
    clocked(&mut times, |i| {
        let i = i * STRIDE % entries;
        assert!(index.remove(hash_of(&index, i), location(i)), "an entry is removed once");
    });
    assert!(index.is_empty(), "all entries were removed");
    tell(&times, &mut said);
    figures.push(per_entry(index.allocated_bytes()));
    figures.iter().for_each(|figure| said.write_all(&figure.to_le_bytes()).expect("written"));
    said.flush().expect("written");
}

/// Keeps wall and thread time of each operation in nanoseconds: that from the end of the one before it to its own.
fn clocked(times: &mut [[u32; 2]], mut operation: impl FnMut(usize)) {
    let (mut wall, mut cpu) = (Instant::now(), cpu_nanos());
    for (i, time) in times.iter_mut().enumerate() {
        operation(i);
        let (wall_now, cpu_now) = (Instant::now(), cpu_nanos());
        let nanos = [(wall_now - wall).as_nanos() as u64, cpu_now - cpu];
        *time = nanos.map(|nanos| u32::try_from(nanos).unwrap_or(u32::MAX));
        (wall, cpu) = (wall_now, cpu_now);
    }
}

fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn tell(times: &[[u32; 2]], said: &mut impl Write) {
    for nanos in times.iter().flatten() {
        said.write_all(&nanos.to_le_bytes()).expect("written");
    }
}

/// Mean time of an operation, with hashing its key, on the processor. It is to succeed for all entries.
fn timed(entries: usize, stride: usize, mut is_right: impl FnMut(usize) -> bool) -> f64 {
    let count = entries.min(PROBES_MAX);
    let started = cpu_nanos();
    for i in 0..count {
        assert!(black_box(is_right(i * stride % entries)), "a wrong answer for entry {i}");
    }
    (cpu_nanos() - started) as f64 / count as f64
}

fn load_image(index: &HashIndex) -> f64 {
    let image: Vec<(u64, Location)> = index.iter().collect();
    let mut loaded = HashIndex::new(42);
    let started = cpu_nanos();
    loaded.reserve_for(image.len());
    image.iter().for_each(|(hash, location)| loaded.insert(*hash, *location));
    let nanos = (cpu_nanos() - started) as f64 / image.len() as f64;
    assert!(loaded.iter().eq(image), "the image has all entries");
    nanos
}

/// Hits and misses of the standard library's map, which is hashbrown, for comparison. It takes the hashes as they are.
fn hashbrown(index: &HashIndex, entries: usize) -> [f64; 2] {
    let mut map: HashMap<u64, Location, BuildHasherDefault<AsItIs>> = HashMap::default();
    (0..entries).for_each(|i| assert!(map.insert(hash_of(index, i), location(i)).is_none()));
    let hit = timed(entries, STRIDE, |i| map.get(&hash_of(index, i)) == Some(&location(i)));
    [hit, timed(entries, STRIDE, |i| !map.contains_key(&hash_of(index, entries + i)))]
}

/// The hasher of what is a hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash_of(index: &HashIndex, i: usize) -> u64 {
    index.hash(BucketId(1), &(i as u64).to_le_bytes())
}

fn location(i: usize) -> Location {
    Location::new(SegmentId::new(1, SegmentIndex((i >> 18) as u32)), ((i & 0x3_ffff) * 64) as u32, 64)
}
