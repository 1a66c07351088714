//! What a full store costs: objects are overwritten again and again while compaction makes room, as it would in a node.
//!
//! `cargo bench -p benches --bench compaction -- --size 1024`, in MiB; `--percent`, `--len`, `--overwrites` (`uniform` or `80/20`)
//! and `--turns` choose one share of the space, one size of objects, one pattern, and how often the live data is overwritten; `--verbose yes` tells every second
//! how it stands. The last turn is measured. Writers write as fast as
//! they can: at most of the time the store is at its reserve, and puts wait for compaction.
//!
//! - Write amplification: bytes written to the device for each byte of records and frames that was accepted. What is above 1 is moved records and frames, runs of
//!   the directory, and the padding of batches, checkpoints and headers.
//! - Space amplification: bytes of segments in use for each live byte.
//!
//! The share is of all segments, the reserve among them, which data never gets: at 85 % of all, data has 88 % of what it may use.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::Error;
use engine::device::DeviceFile;
use engine::format::frame::disk_len;
use support::{DevicePath, Mode, Numbers, OpenStore, Times, say};

const SEGMENT_SIZE: u64 = 1 << 20;

/// Bytes of objects that are being written at a time, and objects at most: each keeps what it has written so far from being freed.
const WRITING_LEN: usize = 4 << 20;
const WRITERS_MAX: usize = 64;

/// Reads that are timed while nothing else happens.
const READS: usize = 2000;

/// The pause between two reads while objects are overwritten.
const READ_PAUSE: Duration = Duration::from_millis(1);

/// How often the space in use is looked at while a turn lasts.
const SAMPLES: u64 = 64;

#[derive(Clone, Copy)]
enum Overwrites {
    Uniform,
    EightyTwenty,
}

impl Overwrites {
    const ALL: [Overwrites; 2] = [Overwrites::Uniform, Overwrites::EightyTwenty];

    fn name(self) -> &'static str {
        match self {
            Overwrites::Uniform => "uniform",
            Overwrites::EightyTwenty => "80/20",
        }
    }
}

/// What is measured in one store.
#[derive(Clone, Copy)]
struct Case {
    /// Bytes of the device.
    size: u64,
    /// Bytes of an object.
    len: usize,
    /// Live bytes of all bytes, in percent.
    percent: u64,
    overwrites: Overwrites,
    /// How often the live data is overwritten.
    turns: u64,
}

impl Case {
    fn writers(&self) -> usize {
        // Never more than a thirty-second of the store.
        (WRITING_LEN.min(self.size as usize / 32) / self.len).clamp(1, WRITERS_MAX)
    }
}

fn main() {
    let Some(mode) = support::mode("compaction") else { return };
    let (size, percents, turns) = match mode {
        Mode::Measure => (1024, vec![50, 70, 85, 90], 4),
        // Smaller, and what 64 writers have under way would be most of the store.
        Mode::Test => (128, vec![50], 2),
    };
    let size = support::number("--size").unwrap_or(size) << 20;
    let turns = support::number("--turns").unwrap_or(turns);
    let percents = support::number("--percent").map_or(percents, |percent| vec![percent]);
    let lens = support::number("--len").map_or(vec![4 << 10, 256 << 10], |len| vec![len as usize]);
    say(&format!(
        "{} MiB in segments of {} MiB, live data overwritten {turns} times; reads in us, p50/p99",
        size >> 20,
        SEGMENT_SIZE >> 20
    ));
    say(
        "objects  full  overwrites   write  (moved, runs)   space    (max)   puts/s  refused     reads alone   meanwhile",
    );
    for len in lens {
        for overwrites in Overwrites::ALL.into_iter().filter(|overwrites| is_wanted(*overwrites)) {
            for percent in &percents {
                support::run(measure(Case { size, len, percent: *percent, overwrites, turns }));
            }
        }
    }
}

fn is_wanted(overwrites: Overwrites) -> bool {
    support::option("--overwrites").is_none_or(|wanted| wanted == overwrites.name())
}

async fn measure(case: Case) {
    let path = DevicePath::new("compaction");
    // Superblocks and the checkpoint area lie before the segments.
    let device = DeviceFile::create(path.path(), case.size + (8 << 20)).expect("a device");
    support::format(&device, 1, Some(SEGMENT_SIZE)).await;
    let mut store = OpenStore::open(&device).await;
    store.begin_upkeep();
    let run = Rc::new(Run::new(store, case));
    if support::option("--verbose").is_some() {
        let run = run.clone();
        compio::runtime::spawn(async move { run.trace().await }).detach();
    }
    run.fill().await;
    let alone = run.read_some().await;
    for _ in 1..case.turns {
        run.overwrite().await;
    }
    let before = run.standing();
    let began = Instant::now();
    run.refused.set(0);
    run.space.take();
    let reader = {
        let run = run.clone();
        compio::runtime::spawn(async move { run.read_meanwhile().await })
    };
    run.overwrite().await;
    let took = began.elapsed();
    let written = run.standing().since(&before);
    run.is_over.set(true);
    reader.await.expect("the reader");
    run.tell(&written, took, alone);
    if support::option("--verbose").is_some() {
        say(&format!("{:?}", run.stand()));
    }
    // A store that was full before it had its share lacks some.
    if run.accepted.get() >= run.count.get() {
        run.check().await;
    }
    if let Some(run) = Rc::into_inner(run) {
        run.store.close().await;
    }
    let store = OpenStore::open(&device).await;
    store.close().await;
}

/// A store that is being overwritten.
struct Run {
    store: OpenStore,
    case: Case,
    /// Objects.
    count: Cell<u64>,
    numbers: RefCell<Numbers>,
    /// Puts that were accepted.
    accepted: Cell<u64>,
    refused: Cell<u64>,
    reads: RefCell<Times>,
    /// Space amplification, as looked at.
    space: RefCell<Vec<f64>>,
    is_over: Cell<bool>,
    /// Puts were refused for so long that there is nothing to hope for.
    is_full: Cell<bool>,
}

/// Counters at one time, or between two.
#[derive(Clone, Copy)]
struct Standing {
    device: u64,
    accepted: u64,
    relocated: u64,
    runs: u64,
    puts: u64,
}

impl Standing {
    fn since(&self, before: &Standing) -> Standing {
        Standing {
            device: self.device - before.device,
            accepted: self.accepted - before.accepted,
            relocated: self.relocated - before.relocated,
            runs: self.runs - before.runs,
            puts: self.puts - before.puts,
        }
    }
}

impl Run {
    fn new(store: OpenStore, case: Case) -> Self {
        Run {
            store,
            case,
            count: Cell::new(0),
            numbers: RefCell::new(Numbers(case.percent)),
            accepted: Cell::new(0),
            refused: Cell::new(0),
            reads: RefCell::default(),
            space: RefCell::default(),
            is_over: Cell::new(false),
            is_full: Cell::new(false),
        }
    }

    // -- writing

    /// Puts objects until so much of the space is live.
    async fn fill(self: &Rc<Self>) {
        let counts = self.store.core.store.table.counts();
        let total = u64::from(counts.free + counts.commit + counts.bulk) * SEGMENT_SIZE;
        let target = total * self.case.percent / 100;
        self.all_writers(|run| async move {
            while run.store.core.store.table.counts().live_bytes < target && !run.is_full.get() {
                let i = run.count.replace(run.count.get() + 1);
                run.put(i).await;
            }
        })
        .await;
    }

    /// One turn: as many puts as there are objects.
    async fn overwrite(self: &Rc<Self>) {
        let left = Rc::new(Cell::new(self.count.get()));
        self.all_writers(|run| {
            let left = left.clone();
            async move {
                while left.get() > 0 && !run.is_full.get() {
                    left.set(left.get() - 1);
                    if left.get().is_multiple_of((run.count.get() / SAMPLES).max(1)) {
                        run.look_at_space();
                    }
                    let i = run.next();
                    run.put(i).await;
                }
            }
        })
        .await;
    }

    async fn all_writers<F: Future<Output = ()> + 'static>(self: &Rc<Self>, writer: impl Fn(Rc<Self>) -> F) {
        let writers: Vec<_> =
            (0..self.case.writers()).map(|_| compio::runtime::spawn(writer(self.clone()))).collect();
        for writer in writers {
            writer.await.expect("a writer");
        }
    }

    /// The next object to be overwritten.
    fn next(&self) -> u64 {
        let (mut numbers, count) = (self.numbers.borrow_mut(), self.count.get());
        let often = (count / 5).max(1);
        match self.case.overwrites {
            Overwrites::Uniform => numbers.below(count),
            Overwrites::EightyTwenty if numbers.below(5) < 4 => numbers.below(often) * 5 % count,
            Overwrites::EightyTwenty => numbers.below(count),
        }
    }

    /// Puts an object, unless the store has turned out to be full.
    async fn put(&self, i: u64) {
        match self.store.put(&key(i), &self.bytes(i)).await {
            Ok(refused) => {
                self.refused.set(self.refused.get() + refused);
                self.accepted.set(self.accepted.get() + 1);
            }
            Err(Error::Full) => self.is_full.set(true),
            Err(error) => panic!("a put failed: {error:?}"),
        }
    }

    fn bytes(&self, i: u64) -> Vec<u8> {
        i.to_le_bytes().iter().copied().cycle().take(self.case.len).collect()
    }

    // -- reading

    async fn read(&self, times: &mut Times) {
        let i = self.numbers.borrow_mut().below(self.count.get());
        let began = Instant::now();
        let bytes = self.store.read(&key(i)).await.expect("read");
        times.add(began.elapsed());
        assert_eq!(bytes, self.bytes(i), "an object holds what was put");
    }

    async fn read_some(&self) -> Times {
        let mut times = Times::default();
        for _ in 0..READS.min(self.count.get() as usize) {
            self.read(&mut times).await;
        }
        times
    }

    async fn read_meanwhile(&self) {
        let mut times = Times::default();
        while !self.is_over.get() {
            self.read(&mut times).await;
            compio::time::sleep(READ_PAUSE).await;
        }
        *self.reads.borrow_mut() = times;
    }

    /// Every object is there.
    async fn check(&self) {
        for i in 0..self.count.get() {
            let bytes = self.store.read(&key(i)).await.expect("read");
            assert_eq!(bytes, self.bytes(i), "an object holds what was put");
        }
    }

    // -- figures

    /// Tells every second how it stands.
    async fn trace(&self) {
        while !self.is_over.get() {
            let counters = &self.store.core.counters;
            say(&format!(
                "  {} of {} puts, {} MiB written, {} MiB moved, {:?}",
                self.accepted.get(),
                self.count.get(),
                counters.device_write_bytes.value() >> 20,
                counters.relocated_bytes.value() >> 20,
                self.stand()
            ));
            compio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn standing(&self) -> Standing {
        let counters = &self.store.core.counters;
        let frames = match self.case.len > self.store.core.store.inline_max {
            true => self.accepted.get() * disk_len(self.case.len as u64),
            false => 0,
        };
        Standing {
            device: counters.device_write_bytes.value(),
            accepted: counters.accepted_bytes.value() + frames,
            relocated: counters.relocated_bytes.value(),
            runs: counters.run_bytes_written.value(),
            puts: self.accepted.get(),
        }
    }

    fn look_at_space(&self) {
        let counts = self.store.core.store.table.counts();
        let used = u64::from(counts.commit + counts.bulk) * SEGMENT_SIZE;
        self.space.borrow_mut().push(used as f64 / counts.live_bytes as f64);
    }

    /// What somebody needs who finds it stuck.
    fn stand(&self) -> impl std::fmt::Debug {
        let counters = &self.store.core.counters;
        (
            self.store.core.store.table.counts(),
            ("merges", counters.merges.value()),
            self.store.home().footprint(),
            ("stuck segments", counters.relocations_stuck.value()),
            ("checkpoints", counters.checkpoints.value()),
        )
    }

    fn tell(&self, written: &Standing, took: Duration, mut alone: Times) {
        let per_accepted = |bytes: u64| bytes as f64 / written.accepted as f64;
        let name = self.case.overwrites.name();
        let case = format!("{:4} KiB {:3} %  {name:10}", self.case.len >> 10, self.case.percent);
        if self.is_full.get() {
            say(&format!(
                "{case} full: half a minute passed without room for an overwrite; {:?}",
                self.stand()
            ));
            return;
        }
        let space = self.space.borrow();
        let mut meanwhile = self.reads.borrow_mut();
        say(&format!(
            "{case} {:7.2}  ({:5.2}, {:4.2}) {:7.3} {:8.3} {:8.0} {:8} {:7.0}/{:7.0} {:5.0}/{:5.0}",
            per_accepted(written.device),
            per_accepted(written.relocated),
            per_accepted(written.runs),
            space.iter().sum::<f64>() / space.len() as f64,
            space.iter().copied().fold(0.0, f64::max),
            written.puts as f64 / took.as_secs_f64(),
            self.refused.get(),
            alone.micros(500),
            alone.micros(990),
            meanwhile.micros(500),
            meanwhile.micros(990),
        ));
    }
}

fn key(i: u64) -> Vec<u8> {
    format!("p{:02}/k{i:08}", i % 100).into_bytes()
}
