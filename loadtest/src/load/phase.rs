//! A phase: loads that run side by side for a time, on threads of their own, and what came of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Barrier, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{net, thread};

use super::Target;
use super::draw::{Arrival, KeyOrder, Mix};
use super::failure::Failure;
use super::job::Terms;
use super::pace::Stream;
use super::record::{Batch, Cell, Effort, FailureCounts};
use super::scenario::Operation;
use super::worker::Worker;

/// How requests of a load follow each other.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// Each connection asks again when it has its answer.
    Closed,
    /// Requests are due on schedule.
    Open(Vec<Stream>, Arrival),
}

/// How results of a load are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    /// By operation.
    Operation,
    /// By bucket and operation.
    Bucket,
}

/// Connections that do the same.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub connections: u32,
    pub mix: Mix,
    pub buckets: Range<u32>,
    pub key_order: KeyOrder,
    pub pace: Pace,
    pub grouping: Grouping,
}

impl Load {
    fn series_count(&self) -> usize {
        let groups = match self.grouping {
            Grouping::Operation => 1,
            Grouping::Bucket => self.buckets.len(),
        };
        groups * Operation::ALL.len()
    }

    /// Where a result is counted, from the first series of this load on.
    pub fn series(&self, bucket: u32, operation: Operation) -> usize {
        let group = match self.grouping {
            Grouping::Operation => 0,
            Grouping::Bucket => (bucket - self.buckets.start) as usize,
        };
        group * Operation::ALL.len() + operation as usize
    }
}

/// What ends a phase besides its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quota {
    /// Nothing.
    Time,
    /// So many operations.
    Count(u64),
    /// Every key of the first load is written once, and failures are tried again.
    EachKeyOnce,
}

#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub loads: Vec<Load>,
    pub warm_up: Duration,
    pub duration: Duration,
    pub interval: Duration,
    pub quota: Quota,
    pub thread_count: u32,
    /// Tells this phase's choices from another's.
    pub number: u64,
}

impl Phase {
    /// Where each load's series begin, and their number.
    pub fn first_series(&self) -> (Vec<usize>, usize) {
        let mut total = 0;
        let firsts = self.loads.iter().map(|load| {
            let first = total;
            total += load.series_count();
            first
        });
        (firsts.collect(), total)
    }

    pub fn interval_count(&self) -> usize {
        self.duration.as_nanos().div_ceil(self.interval.as_nanos()) as usize
    }
}

/// The times of a phase in nanoseconds from [`Clock::base`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub begin: u64,
    pub window_start: u64,
    pub window_end: u64,
}

/// What the threads of a phase share.
pub(super) struct Shared<'a> {
    pub target: &'a Target,
    pub address: net::SocketAddr,
    pub terms: Terms<'a>,
    pub phase: &'a Phase,
    pub clock: Clock,
    pub connected: Barrier,
    pub times: OnceLock<Times>,
    /// Operations still to be begun, with [`Quota::Count`].
    pub rest: AtomicU64,
    pub is_aborted: AtomicBool,
    pub abort_reason: Mutex<Option<Failure>>,
}

impl Shared<'_> {
    /// Ends the phase early, for the first reason that is given.
    pub fn abort(&self, reason: Failure) {
        let mut slot = self.abort_reason.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(reason);
        self.is_aborted.store(true, Ordering::Release);
    }
}

/// Time as the worker sees it: nanoseconds since the base.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    base: Instant,
    base_since_epoch: Duration,
}

impl Clock {
    pub fn start() -> Self {
        let base_since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { base: Instant::now(), base_since_epoch }
    }

    pub fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    /// Second of the Unix era.
    pub fn second(&self, at: u64) -> i64 {
        (self.base_since_epoch + Duration::from_nanos(at)).as_secs() as i64
    }

    pub fn since_epoch(&self, at: u64) -> Duration {
        self.base_since_epoch + Duration::from_nanos(at)
    }
}

/// One interval, of all threads.
pub(super) struct Interval {
    pub cells: Vec<Option<Box<Cell>>>,
    pub failures: FailureCounts,
}

/// What a phase gave.
pub(super) struct Outcome {
    /// By series, over all intervals.
    pub cells: Vec<Option<Box<Cell>>>,
    pub intervals: Vec<Interval>,
    pub failures: FailureCounts,
    pub effort: Effort,
    pub seconds: f64,
    pub started_at: Duration,
    pub aborted: Option<Failure>,
    /// CPU time of the processes that were named, in the measurement.
    pub server_cpu_ns: Option<u64>,
}

/// What the collector tells whoever watches.
pub(super) struct Progress<'a> {
    pub at: Duration,
    /// In the warm-up or the measurement.
    pub is_measuring: bool,
    pub last: Option<&'a Interval>,
    pub completed: u64,
}

/// Runs a phase to its end.
pub(super) fn run(
    target: &Target,
    terms: Terms<'_>,
    phase: &Phase,
    watch: &mut dyn FnMut(&Progress<'_>),
) -> Result<Outcome, Failure> {
    let rest = match phase.quota {
        Quota::Count(count) => count,
        Quota::Time | Quota::EachKeyOnce => u64::MAX,
    };
    let shared = Shared {
        target,
        address: target.resolve()?,
        terms,
        phase,
        clock: Clock::start(),
        connected: Barrier::new(phase.thread_count as usize),
        times: OnceLock::new(),
        rest: AtomicU64::new(rest),
        is_aborted: AtomicBool::new(false),
        abort_reason: Mutex::new(None),
    };
    let (sender, receiver) = mpsc::channel();
    // Made before the first thread starts: each waits for all the others, so none may be missing.
    let workers: Vec<Worker<'_>> = (0..phase.thread_count)
        .map(|index| Worker::new(&shared, index, sender.clone()))
        .collect::<Result<_, Failure>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(move || worker.run())).collect();
        drop(sender);
        let mut collector = Collector::new(&shared);
        collector.run(&receiver, watch);
        let mut effort = Effort::new();
        for thread in threads {
            effort.add(&thread.join().expect("a worker thread does not panic")?);
        }
        Ok(collector.finish(effort))
    })
}

struct Collector<'a> {
    shared: &'a Shared<'a>,
    intervals: Vec<Interval>,
    completed: u64,
    server_cpu: (Option<u64>, Option<u64>),
}

impl<'a> Collector<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        Self { shared, intervals: Vec::new(), completed: 0, server_cpu: (None, None) }
    }

    fn run(&mut self, receiver: &Receiver<Batch>, watch: &mut dyn FnMut(&Progress<'_>)) {
        loop {
            match receiver.recv_timeout(self.tick()) {
                Ok(batch) => self.take(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.sample_server();
            if let Some(times) = self.shared.times.get() {
                let now = self.shared.clock.now();
                let progress = Progress {
                    at: Duration::from_nanos(now.saturating_sub(times.begin)),
                    is_measuring: now >= times.window_start,
                    last: self.intervals.iter().rev().nth(1).or(self.intervals.last()),
                    completed: self.completed,
                };
                watch(&progress);
            }
        }
        self.sample_server();
        // A phase that ends with its work did not reach the end of its window.
        self.server_cpu.1 = self.server_cpu.1.or_else(|| self.shared.target.server_cpu_ns());
    }

    /// Wakes at the ends of the measurement, and often enough for progress.
    fn tick(&self) -> Duration {
        let longest = Duration::from_millis(250);
        let Some(times) = self.shared.times.get() else { return Duration::from_millis(5) };
        let now = self.shared.clock.now();
        let next = [times.window_start, times.window_end].into_iter().find(|at| *at > now);
        next.map_or(longest, |at| Duration::from_nanos(at - now).min(longest))
    }

    fn sample_server(&mut self) {
        let Some(times) = self.shared.times.get() else { return };
        let now = self.shared.clock.now();
        if self.server_cpu.0.is_none() && now >= times.window_start {
            self.server_cpu.0 = self.shared.target.server_cpu_ns();
        }
        if self.server_cpu.1.is_none() && now >= times.window_end {
            self.server_cpu.1 = self.shared.target.server_cpu_ns();
        }
    }

    fn take(&mut self, batch: Batch) {
        let series_count = batch.cells.len();
        while self.intervals.len() <= batch.interval {
            let cells = std::iter::repeat_with(|| None).take(series_count).collect();
            self.intervals.push(Interval { cells, failures: FailureCounts::default() });
        }
        let interval = &mut self.intervals[batch.interval];
        interval.failures.add(&batch.failures);
        for (sum, cell) in interval.cells.iter_mut().zip(batch.cells) {
            let Some(cell) = cell else { continue };
            self.completed += cell.completed;
            match sum {
                Some(sum) => sum.add(&cell),
                None => *sum = Some(cell),
            }
        }
    }

    fn finish(self, effort: Effort) -> Outcome {
        let series_count = self.shared.phase.first_series().1;
        let mut cells: Vec<Option<Box<Cell>>> = std::iter::repeat_with(|| None).take(series_count).collect();
        let mut failures = FailureCounts::default();
        for interval in &self.intervals {
            failures.add(&interval.failures);
            for (sum, cell) in cells.iter_mut().zip(&interval.cells) {
                if let Some(cell) = cell {
                    sum.get_or_insert_with(|| Box::new(Cell::new())).add(cell);
                }
            }
        }
        let times = self.shared.times.get().copied();
        let times = times.unwrap_or(Times { begin: 0, window_start: 0, window_end: 0 });
        // A phase that ends with its work, not its time, is as long as it took.
        let end = times.window_end.min(self.shared.clock.now());
        let mut reason = self.shared.abort_reason.lock().unwrap_or_else(PoisonError::into_inner);
        Outcome {
            cells,
            intervals: self.intervals,
            failures,
            effort,
            seconds: end.saturating_sub(times.window_start) as f64 / 1e9,
            started_at: self.shared.clock.since_epoch(times.window_start),
            aborted: reason.take(),
            server_cpu_ns: self
                .server_cpu
                .0
                .zip(self.server_cpu.1)
                .map(|(start, end)| end.saturating_sub(start)),
        }
    }
}
