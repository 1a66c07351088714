//! Adds up what the threads of a phase hand over, and tells whoever watches.

use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Shared, Times};
use crate::load::failure::Failure;
use crate::load::record::{Batch, Cell, Effort, FailureCounts};
use crate::load::target::ServerTime;

/// One interval, of all threads.
pub(in crate::load) struct Interval {
    pub cells: Vec<Option<Box<Cell>>>,
    pub failures: FailureCounts,
}

/// What a phase gave.
pub(in crate::load) struct Outcome {
    /// By series, over all intervals.
    pub cells: Vec<Option<Box<Cell>>>,
    pub intervals: Vec<Interval>,
    pub failures: FailureCounts,
    pub effort: Effort,
    pub seconds: f64,
    pub started_at: Duration,
    pub aborted: Option<Failure>,
    /// Of the processes that were named, in the measurement.
    pub server_time: Option<ServerTime>,
}

/// What the collector tells whoever watches.
pub(in crate::load) struct Progress<'a> {
    pub at: Duration,
    /// In the warm-up or the measurement.
    pub is_measuring: bool,
    pub last: Option<&'a Interval>,
    pub completed: u64,
}

pub(super) struct Collector<'a> {
    shared: &'a Shared<'a>,
    intervals: Vec<Interval>,
    completed: u64,
    server_time: (Option<ServerTime>, Option<ServerTime>),
}

impl<'a> Collector<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        Self { shared, intervals: Vec::new(), completed: 0, server_time: (None, None) }
    }

    pub(super) fn run(&mut self, receiver: &Receiver<Batch>, watch: &mut dyn FnMut(&Progress<'_>)) {
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
        self.server_time.1 = self.server_time.1.or_else(|| self.shared.target.server_time());
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
        if self.server_time.0.is_none() && now >= times.window_start {
            self.server_time.0 = self.shared.target.server_time();
        }
        if self.server_time.1.is_none() && now >= times.window_end {
            self.server_time.1 = self.shared.target.server_time();
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

    pub(super) fn finish(self, effort: Effort) -> Outcome {
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
            server_time: self.server_time.0.zip(self.server_time.1).map(|(start, end)| end.since(start)),
        }
    }
}
