//! How operations end: well, badly, or not at all.

use super::{FAILING_TIME_MAX, RETRY_PAUSE, State, Worker};
use crate::load::failure::{Failure, Kind};
use crate::load::job::Success;
use crate::load::phase::{Quota, Times};
use crate::load::record::{Batch, record_ns};

impl Worker<'_> {
    pub(super) fn record(&mut self, id: usize, success: Success, now: u64) {
        self.last_success = now;
        self.failed_since = 0;
        let Some(job) = &self.connections[id].job else { return };
        let (series, intended, sent) = (job.series, job.intended, job.sent);
        let Times { window_start, window_end, .. } = self.times;
        if now < window_start || (intended < window_start && now >= window_end) {
            return;
        }
        let cell = self.batch.cell(series);
        if now < window_end {
            cell.completed += 1;
            cell.bytes += success.bytes;
            cell.missing += u64::from(success.is_missing);
        }
        if intended >= window_start {
            cell.answered += 1;
            record_ns(&mut cell.latency_us, now - intended);
            if intended != sent {
                record_ns(&mut cell.service_us, now - sent);
            }
        }
    }

    pub(super) fn record_failure(&mut self, id: usize, failure: &Failure, now: u64) {
        if self.failed_since == 0 {
            self.failed_since = now;
        }
        let Some(job) = &self.connections[id].job else { return };
        // Wrong data counts whenever it is seen; other failures only in the measurement.
        let is_counted = self.shared.phase.quota != Quota::EachKeyOnce && now >= self.times.window_start;
        if is_counted || failure.kind == Kind::Verification {
            let (series, intended) = (job.series, job.intended);
            let is_open_loop = self.parts[self.connections[id].load].schedule.is_some();
            self.batch.failures.count(failure);
            let cell = self.batch.cell(series);
            match failure.kind {
                Kind::SlowDown => cell.slow_down += 1,
                _ => cell.failed += 1,
            }
            if failure.kind == Kind::Timeout && is_open_loop && intended >= self.times.window_start {
                record_ns(&mut cell.latency_us, now - intended);
            }
        } else if self.shared.phase.quota == Quota::EachKeyOnce {
            let again = job.place();
            let load = self.connections[id].load;
            self.parts[load].again.push(again);
            if now - self.last_success.max(self.times.begin) > FAILING_TIME_MAX {
                self.shared.abort(failure.clone());
            }
        }
    }

    /// The connection is of no more use, and its job, if it has one, has failed.
    pub(super) fn fail(&mut self, id: usize, failure: &Failure, now: u64) {
        if self.connections[id].job.is_some() {
            self.record_failure(id, failure, now);
            if let Some(job) = &mut self.connections[id].job {
                job.abandon(&self.shared.terms);
            }
            self.connections[id].job = None;
            self.busy_count -= 1;
            self.close(id, now);
        } else {
            self.batch.failures.count(failure);
            if self.failed_since == 0 {
                self.failed_since = now;
            }
            self.close(id, now + RETRY_PAUSE);
        }
        if self.failed_since > 0
            && now - self.last_success > FAILING_TIME_MAX
            && now - self.failed_since > FAILING_TIME_MAX
        {
            self.shared.abort(failure.clone());
        }
    }

    /// What is left at the end: requests without an answer, and requests that were due and never sent. In an open loop
    /// they count with the time they had waited: leaving them out would make a stalled server look fast.
    pub(super) fn settle(&mut self) {
        let now = self.now();
        for id in 0..self.connections.len() {
            if self.connections[id].job.is_some() {
                let failure = Failure::new(Kind::Timeout, "no answer until the end of the measurement");
                self.fail(id, &failure, now);
            }
        }
        // A phase may also end early, by its count.
        let waited_until = self.times.window_end.min(now);
        for (number, load) in self.shared.phase.loads.iter().enumerate() {
            let Some(mut schedule) = self.parts[number].schedule.take() else { continue };
            while let Some((intended, ask)) = schedule.take(waited_until) {
                if intended < self.times.window_start {
                    continue;
                }
                let part = &mut self.parts[number];
                let operation = ask.operation.unwrap_or_else(|| load.mix.draw(&mut part.rng));
                let series =
                    part.first_series + load.series(ask.bucket.unwrap_or(load.buckets.start), operation);
                let cell = self.batch.cell(series);
                cell.unsent += 1;
                record_ns(&mut cell.latency_us, waited_until - intended);
            }
        }
        let empty = Batch::new(0, 0);
        let _ = self.batches.send(std::mem::replace(&mut self.batch, empty));
    }

    /// Looks for what takes too long.
    pub(super) fn check(&mut self, now: u64) {
        let timeout = self.shared.terms.scenario.timeout;
        let timeout_ns = timeout.0.as_nanos() as u64;
        for id in 0..self.connections.len() {
            let connection = &self.connections[id];
            let is_waiting = matches!(connection.state, State::Busy | State::Connecting | State::Handshaking);
            if is_waiting && now.saturating_sub(connection.since) > timeout_ns {
                let failure = Failure::new(Kind::Timeout, format!("no answer after {timeout}"));
                self.fail(id, &failure, now);
            }
        }
    }
}
