//! What was measured: per series and interval, from each thread, added up by the collector.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::failure::{Failure, Kind};

/// Significant digits of every histogram.
const DIGITS: u8 = 3;

/// A histogram of microseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("three digits are within 0 to 5")
}

/// Records nanoseconds as microseconds, rounded up, so that nothing becomes faster than it was.
pub(super) fn record_ns(into: &mut Histogram<u64>, nanoseconds: u64) {
    into.record(nanoseconds.div_ceil(1000).max(1)).expect("a histogram that grows takes every value");
}

/// One series: an operation, or an operation on one bucket.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// From the intended start to the last byte of the answer.
    pub latency_us: Histogram<u64>,
    /// From the real start. Only in an open loop, where the two differ.
    pub service_us: Histogram<u64>,
    /// Operations that ended well within the measurement.
    pub completed: u64,
    /// Operations that were due within the measurement and ended well, if later.
    pub answered: u64,
    /// Bodies of the completed.
    pub bytes: u64,
    /// Reads of keys that were rightly missing.
    pub missing: u64,
    /// 503 `SlowDown`.
    pub slow_down: u64,
    /// Other failures.
    pub failed: u64,
    /// Due, and never sent. They are in `latency_us` with the time they had waited.
    pub unsent: u64,
}

impl Cell {
    pub fn new() -> Self {
        let (latency_us, service_us) = (histogram(), histogram());
        Self {
            latency_us,
            service_us,
            completed: 0,
            answered: 0,
            bytes: 0,
            missing: 0,
            slow_down: 0,
            failed: 0,
            unsent: 0,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("a histogram that grows takes every value");
        self.service_us.add(&other.service_us).expect("a histogram that grows takes every value");
        self.completed += other.completed;
        self.answered += other.answered;
        self.bytes += other.bytes;
        self.missing += other.missing;
        self.slow_down += other.slow_down;
        self.failed += other.failed;
        self.unsent += other.unsent;
    }
}

/// Failures of a kind: how many, and the first of them.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    pub count: u64,
    pub example: String,
}

/// Failures by kind.
#[derive(Clone, Debug, Default)]
pub(super) struct FailureCounts(pub BTreeMap<Kind, Failures>);

impl FailureCounts {
    pub fn count(&mut self, failure: &Failure) {
        let entry = self.0.entry(failure.kind.clone());
        entry.or_insert_with(|| Failures { count: 0, example: failure.detail.clone() }).count += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, failures) in &other.0 {
            let entry = self.0.entry(kind.clone());
            entry.or_insert_with(|| Failures { count: 0, example: failures.example.clone() }).count +=
                failures.count;
        }
    }
}

/// What a thread saw in one interval.
pub(super) struct Batch {
    pub interval: usize,
    /// By series; `None` where nothing happened.
    pub cells: Vec<Option<Box<Cell>>>,
    pub failures: FailureCounts,
}

impl Batch {
    pub fn new(interval: usize, series_count: usize) -> Self {
        let cells = std::iter::repeat_with(|| None).take(series_count).collect();
        Self { interval, cells, failures: FailureCounts::default() }
    }

    pub fn cell(&mut self, series: usize) -> &mut Cell {
        self.cells[series].get_or_insert_with(|| Box::new(Cell::new()))
    }
}

/// What a thread knows of itself at the end.
#[derive(Clone, Debug)]
pub(super) struct Effort {
    /// CPU time within the measurement.
    pub cpu_ns: u64,
    /// HTTP requests answered within the measurement.
    pub requests: u64,
    /// How late requests of an open loop were sent although a connection was free: the generator's own fault.
    pub lag_us: Histogram<u64>,
    /// Connections opened after the start.
    pub reconnects: u64,
    /// Version and cipher suite of the first connection.
    pub protocol: String,
}

impl Effort {
    pub fn new() -> Self {
        Self { cpu_ns: 0, requests: 0, lag_us: histogram(), reconnects: 0, protocol: String::new() }
    }

    pub fn add(&mut self, other: &Self) {
        self.cpu_ns += other.cpu_ns;
        self.requests += other.requests;
        self.lag_us.add(&other.lag_us).expect("a histogram that grows takes every value");
        self.reconnects += other.reconnects;
        if self.protocol.is_empty() {
            self.protocol.clone_from(&other.protocol);
        }
    }
}
