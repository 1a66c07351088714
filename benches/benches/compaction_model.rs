//! Write amplification of compaction's choice of victims, in a model of a log-structured store: how many bytes are written for each byte that a
//! client writes, once the store has been overwritten many times.
//!
//! `cargo bench -p benches --bench compaction_model`. The model has records of one size, a stream of new records, one of those that
//! compaction moves for the first time and one of those that it moves again, and overwrites records at random: each alike, or four fifths of the writes to one fifth of the records. It
//! is driven by a fixed seed, so the same choice gives the same figures.

use engine::compaction::choose::{Candidate, Situation, choose_victims};
use engine::format::segment::SegmentKind;
use engine::ids::{SegmentId, SegmentIndex};

/// Records of a segment.
const SEGMENT_RECORDS: u32 = 128;

/// Victims of a plan.
const VICTIMS_MAX: usize = 8;

/// The bound that the choice is held to, at 85 % and uniform overwrites.
const AMPLIFICATION_MAX: f64 = 4.0;

#[derive(Clone, Copy, PartialEq)]
enum Overwrites {
    Uniform,
    EightyTwenty,
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Chooser,
    /// The chooser as if space were always critical.
    Greedy,
}

#[expect(clippy::print_stdout, reason = "figures are what a bench is for")]
fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    // Run as a test it is small, and has less time to settle.
    let (segments, rounds) = if is_bench { (1000, 12) } else { (200, 4) };
    println!("bytes written per byte of a client; {segments} segments, overwritten {rounds} times");
    println!("full     uniform   (greedy)     80/20   (greedy)");
    for percent in [50, 70, 85, 90] {
        let run = |overwrites, policy| Store::new(segments, percent, policy).run(overwrites, rounds);
        let uniform = run(Overwrites::Uniform, Policy::Chooser);
        let skewed = run(Overwrites::EightyTwenty, Policy::Chooser);
        println!(
            "{percent:3} % {uniform:10.2} {:10.2} {skewed:10.2} {:10.2}",
            run(Overwrites::Uniform, Policy::Greedy),
            run(Overwrites::EightyTwenty, Policy::Greedy),
        );
        assert!(percent != 85 || uniform < AMPLIFICATION_MAX, "{uniform} at 85 %");
    }
}

/// A segment of the model.
#[derive(Clone, Default)]
struct Segment {
    /// The records written to it; those that are elsewhere by now are dead.
    records: Vec<u32>,
    live: u32,
    /// 0 while it is free.
    id: SegmentId,
    /// Count of allocations when it was sealed.
    sealed_at: Option<u64>,
    is_cold: bool,
}

struct Store {
    segments: Vec<Segment>,
    free: Vec<u32>,
    /// Segment and position of each record.
    places: Vec<(u32, u32)>,
    /// Being appended to, by stream.
    open: [Option<u32>; 3],
    allocated: u64,
    free_target: u64,
    policy: Policy,
    written: u64,
    random: u64,
}

/// Streams.
const NEW: usize = 0;
const MOVED: usize = 1;
const MOVED_AGAIN: usize = 2;

impl Store {
    /// A store in which every record was written once.
    fn new(segment_count: u32, percent_full: u64, policy: Policy) -> Self {
        let records = u64::from(segment_count) * u64::from(SEGMENT_RECORDS) * percent_full / 100;
        let mut store = Store {
            segments: vec![Segment::default(); segment_count as usize],
            free: (0..segment_count).rev().collect(),
            places: vec![(u32::MAX, 0); records as usize],
            open: [None; 3],
            allocated: 0,
            free_target: u64::from(segment_count / 100).max(4),
            policy,
            written: 0,
            random: 42,
        };
        (0..records as u32).for_each(|record| store.append(record, NEW));
        store
    }

    /// Overwrites as many records as there are, so many times; the amplification in the latter half.
    fn run(mut self, overwrites: Overwrites, rounds: u64) -> f64 {
        let count = self.places.len() as u64 * rounds;
        let mut written_before = 0;
        for i in 0..count {
            if i == count / 2 {
                written_before = self.written;
            }
            let record = self.choose_record(overwrites);
            self.append(record, NEW);
            self.compact();
        }
        (self.written - written_before) as f64 / (count - count / 2) as f64
    }

    fn choose_record(&mut self, overwrites: Overwrites) -> u32 {
        let count = self.places.len() as u64;
        let fifth = count / 5;
        let record = match overwrites {
            Overwrites::Uniform => self.next_random() % count,
            Overwrites::EightyTwenty if self.next_random() % 5 < 4 => self.next_random() % fifth,
            Overwrites::EightyTwenty => fifth + self.next_random() % (count - fifth),
        };
        record as u32
    }

    fn append(&mut self, record: u32, stream: usize) {
        let index = match self.open[stream] {
            Some(index) => index,
            None => self.allocate(stream),
        };
        let (old, _) = self.places[record as usize];
        if old != u32::MAX {
            self.segments[old as usize].live -= 1;
        }
        let segment = &mut self.segments[index as usize];
        self.places[record as usize] = (index, segment.records.len() as u32);
        segment.records.push(record);
        segment.live += 1;
        if segment.records.len() == SEGMENT_RECORDS as usize {
            segment.sealed_at = Some(self.allocated);
            self.open[stream] = None;
        }
        self.written += 1;
    }

    fn allocate(&mut self, stream: usize) -> u32 {
        let index = self.free.pop().expect("compaction keeps segments free");
        self.allocated += 1;
        let id = SegmentId::new(self.allocated, SegmentIndex(index));
        self.segments[index as usize] = Segment { id, is_cold: stream != NEW, ..Segment::default() };
        self.open[stream] = Some(index);
        index
    }

    /// Empties segments until enough is free, if the stream of new records needs one.
    fn compact(&mut self) {
        while self.open[NEW].is_none() && (self.free.len() as u64) < self.free_target {
            let situation = self.situation();
            let plan = choose_victims(&self.candidates(), &situation);
            assert!(!plan.victims.is_empty(), "there is always something to gain");
            for victim in plan.victims {
                self.empty(victim.index().0);
            }
        }
    }

    fn empty(&mut self, index: u32) {
        let stream = if self.segments[index as usize].is_cold { MOVED_AGAIN } else { MOVED };
        let records = std::mem::take(&mut self.segments[index as usize].records);
        for (position, record) in (0u32..).zip(records) {
            if self.places[record as usize] == (index, position) {
                self.append(record, stream);
            }
        }
        assert_eq!(self.segments[index as usize].live, 0, "what is live was moved");
        self.segments[index as usize] = Segment::default();
        self.free.push(index);
    }

    fn situation(&self) -> Situation {
        let free = self.free.len() as u64;
        Situation {
            segment_size: u64::from(SEGMENT_RECORDS),
            free,
            reserve: if self.policy == Policy::Greedy { self.free_target } else { self.free_target / 4 },
            free_target: self.free_target,
            garbage_percent_max: 100,
            victims_max: VICTIMS_MAX,
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let sealed = self.segments.iter().filter_map(|segment| Some((segment, segment.sealed_at?)));
        sealed
            .map(|(segment, sealed_at)| Candidate {
                segment: segment.id,
                kind: SegmentKind::Bulk,
                capacity: u64::from(SEGMENT_RECORDS),
                live: u64::from(segment.live),
                age: self.allocated - sealed_at,
                is_cold: segment.is_cold,
            })
            .collect()
    }

    /// splitmix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
