//! The figures of one measurement, or of several together.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::named;
use crate::load::failure::Kind;
use crate::load::record::{Cell, Effort, FailureCounts, Failures};

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its length.
    pub seconds: f64,
    /// Per operation.
    pub operations: Vec<Row>,
    /// What the generator took.
    pub client: ClientEffort,
    /// CPU time of the server per request, where its processes were named.
    pub server_cpu_us_per_request: Option<f64>,
    /// How long the server's threads were ready and had no CPU, by the time for which they ran.
    pub server_wait_ratio: Option<f64>,
}

/// One kind of operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub operation: String,
    /// Those that ended well within the measurement.
    pub completed: u64,
    /// Of them, a second.
    pub per_second: f64,
    /// Their bodies (of LIST the documents), in units of 2^20 bytes a second.
    pub mib_per_second: f64,
    /// From the time a request was due (open loop) or sent (closed loop) to the last byte of the answer.
    pub latency_us: Latency,
    /// From the time it was really sent; in an open loop only. What a tool that omits stalls would show.
    pub service_us: Option<Latency>,
    /// Reads of keys that a DELETE of this run had rightly removed; they are among the completed.
    pub missing: u64,
    /// 503 SlowDown.
    pub slow_down: u64,
    /// Other failures.
    pub failed: u64,
    /// Due and never sent; they are in the latency with the time they had waited until the end.
    pub unsent: u64,
}

/// Times in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many operations these are.
    pub count: u64,
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

/// What the generator itself took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientEffort {
    /// Answered in the measurement.
    pub requests: u64,
    /// Its own, per request.
    pub cpu_us_per_request: f64,
    /// The part of their time for which its threads ran; near 1 the client is what was measured.
    pub busy: f64,
    /// How late requests of an open loop were sent although a connection was free: 99 % were less late.
    pub lag_p99_us: u64,
    /// The latest.
    pub lag_max_us: u64,
    /// Connections opened anew.
    pub reconnects: u64,
}

/// A kind of failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureRow {
    /// `connect`, `tls`, `timeout`, `closed`, `protocol`, `http STATUS CODE`, `503 SlowDown` or `verification`.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub example: String,
    /// What to do.
    pub advice: String,
}

impl Latency {
    pub(in crate::load) fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (count, mean, max) = (histogram.len(), histogram.mean(), histogram.max());
        Self { count, mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl ClientEffort {
    pub(in crate::load) fn new(effort: &Effort, seconds: f64, threads: u32) -> Self {
        Self {
            requests: effort.requests,
            cpu_us_per_request: effort.cpu_ns as f64 / 1e3 / effort.requests.max(1) as f64,
            busy: if seconds > 0.0 { effort.cpu_ns as f64 / 1e9 / seconds / f64::from(threads) } else { 0.0 },
            lag_p99_us: effort.lag_us.value_at_quantile(0.99),
            lag_max_us: effort.lag_us.max(),
            reconnects: effort.reconnects,
        }
    }
}

pub(super) fn rows(cells: &[Option<Box<Cell>>], seconds: f64, is_open_loop: bool) -> Vec<Row> {
    let seconds = seconds.max(1e-9);
    let row = |(name, cell): (&str, &Cell)| Row {
        operation: name.to_owned(),
        completed: cell.completed,
        per_second: cell.completed as f64 / seconds,
        mib_per_second: cell.bytes as f64 / f64::from(1 << 20) / seconds,
        latency_us: Latency::new(&cell.latency_us),
        service_us: is_open_loop.then(|| Latency::new(&cell.service_us)),
        missing: cell.missing,
        slow_down: cell.slow_down,
        failed: cell.failed,
        unsent: cell.unsent,
    };
    named(cells).map(row).collect()
}

pub(in crate::load) fn failure_rows(failures: &FailureCounts) -> Vec<FailureRow> {
    let row = |(kind, failures): (&Kind, &Failures)| FailureRow {
        kind: kind.to_string(),
        count: failures.count,
        example: failures.example.clone(),
        advice: kind.advice().to_owned(),
    };
    failures.0.iter().map(row).collect()
}
