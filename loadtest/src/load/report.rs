//! What a run found, as text for people and JSON for programs.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::worker::{Kind, Tally};
use super::{Operation, Plan};

/// Times in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean: f64,
    /// Half of the operations were faster.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

/// One kind of operation.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `get` or `put`.
    pub operation: &'static str,
    /// Those that succeeded, with their bodies verified.
    pub count: u64,
    /// Those that did not.
    pub failed: u64,
    /// Operations per second.
    pub per_second: f64,
    /// Payload, in units of 2^20 bytes per second.
    pub mib_per_second: f64,
    /// From the start of the request to the last byte of the answer, in a closed loop.
    pub latency_us: Latency,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Length of the objects.
    pub object_len: u64,
    /// Requests in flight.
    pub threads: u64,
    /// Length of the measurement.
    pub seconds: f64,
    /// Repeats the choice of keys and the bodies.
    pub seed: u64,
    /// Per kind of operation.
    pub operations: Vec<Row>,
    /// Bodies that were torn, of another write, or older than what was acknowledged.
    pub wrong_bodies: u64,
    /// The first thing that went wrong.
    pub first_failure: Option<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan, elapsed: Duration, tally: &Tally) -> Self {
        let seconds = elapsed.as_secs_f64();
        let mut operations = Vec::new();
        if plan.operation != Operation::Put {
            operations.push(Row::new("get", &tally.get, seconds));
        }
        if plan.operation != Operation::Get {
            operations.push(Row::new("put", &tally.put, seconds));
        }
        Self {
            object_len: plan.object_len,
            threads: plan.thread_count,
            seconds,
            seed: plan.seed,
            operations,
            wrong_bodies: tally.wrong_bodies,
            first_failure: tally.first_failure.clone(),
        }
    }

    /// Every operation succeeded and every body was right.
    pub fn is_clean(&self) -> bool {
        self.wrong_bodies == 0 && self.operations.iter().all(|row| row.failed == 0)
    }

    /// The report as one JSON document.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text have a JSON form")
    }
}

impl Row {
    fn new(operation: &'static str, kind: &Kind, seconds: f64) -> Self {
        let count = kind.latency_us.len();
        Self {
            operation,
            count,
            failed: kind.failed,
            per_second: count as f64 / seconds,
            mib_per_second: kind.bytes as f64 / f64::from(1 << 20) / seconds,
            latency_us: Latency::new(&kind.latency_us),
        }
    }
}

impl Latency {
    fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (mean, max) = (histogram.mean(), histogram.max());
        Self { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} threads in a closed loop, objects of {} bytes, {:.1} s, seed {}",
            self.threads, self.object_len, self.seconds, self.seed
        )?;
        writeln!(
            f,
            "         count   failed      op/s     MiB/s | us: p50      p90      p99    p99.9      max"
        )?;
        for row in &self.operations {
            let Latency { p50, p90, p99, p999, max, .. } = row.latency_us;
            writeln!(
                f,
                "{:4} {:9} {:8} {:9.0} {:9.1} | {p50:7} {p90:8} {p99:8} {p999:8} {max:8}",
                row.operation, row.count, row.failed, row.per_second, row.mib_per_second
            )?;
        }
        writeln!(f, "bodies that were wrong: {}", self.wrong_bodies)?;
        match &self.first_failure {
            Some(failure) => writeln!(f, "first failure: {failure}"),
            None => Ok(()),
        }
    }
}
