//! A phase: loads that run side by side for a time, on threads of their own, and what came of them.

mod collector;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Barrier, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{net, thread};

use super::Target;
use super::draw::{Arrival, KeyOrder, Mix};
use super::failure::Failure;
use super::job::Terms;
use super::pace::Stream;
use super::record::Effort;
use super::scenario::Operation;
use super::worker::Worker;
use collector::Collector;
pub(super) use collector::{Outcome, Progress};

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
