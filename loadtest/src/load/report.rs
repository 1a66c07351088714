//! What a run found: data that is written as JSON and read again by `compare`, with a text and a page made of it.

mod hdr;
mod html;
mod text;

use hdrhistogram::Histogram;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::Kind;
use super::phase::Outcome;
use super::record::{Cell, Effort, FailureCounts};
use super::scenario::{Operation, Scenario};
use super::session::Session;

/// Raised when a field changes its meaning.
pub const VERSION: u32 = 1;

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

/// A percentile plot of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Its name.
    pub operation: String,
    /// Quantile from 0 to 1, and microseconds.
    pub points: Vec<(f64, u64)>,
}

/// One interval of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// From 1.
    pub round: u32,
    /// Its start in the measurement.
    pub at_seconds: f64,
    /// Its length.
    pub seconds: f64,
    /// Per operation that ended in it.
    pub operations: Vec<PointRow>,
}

/// One operation in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointRow {
    /// Its name.
    pub operation: String,
    /// A second.
    pub per_second: f64,
    /// Of those that ended in the interval.
    pub p50_us: u64,
    /// Of those that ended in the interval.
    pub p99_us: u64,
    /// Of those that ended in the interval.
    pub max_us: u64,
    /// Failures, SlowDown among them.
    pub failed: u64,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of this format.
    pub version: u32,
    /// Name of the scenario.
    pub name: String,
    /// When the first measurement began, in UTC.
    pub started_at: String,
    /// URL of the server.
    pub endpoint: String,
    /// TLS version and cipher suite.
    pub protocol: String,
    /// Threads of the generator.
    pub threads: u32,
    /// Repeats the choice of keys and the bodies.
    pub seed: u64,
    /// What was asked for.
    pub scenario: Scenario,
    /// All rounds together.
    pub total: Round,
    /// Each by itself.
    pub rounds: Vec<Round>,
    /// By kind; empty is best.
    pub failures: Vec<FailureRow>,
    /// Wrong data.
    pub verification_failures: u64,
    /// Why the run ended early.
    pub aborted: Option<String>,
    /// For the percentile plot.
    pub curves: Vec<Curve>,
    /// For the plots over time.
    pub timeline: Vec<Point>,
    /// In the format of HdrHistogram's logs, a line per interval and operation.
    #[serde(skip)]
    pub hdr_log: Vec<u8>,
}

impl Report {
    pub(super) fn new(session: &Session<'_>, name: &str, outcomes: Vec<Outcome>) -> Self {
        let scenario = session.scenario.clone();
        let is_open_loop = scenario.rate.is_some();
        let mut cells: Vec<Option<Box<Cell>>> = vec![None; Operation::ALL.len()];
        let (mut failures, mut effort, mut seconds) = (FailureCounts::default(), Effort::new(), 0.0);
        for outcome in &outcomes {
            add_cells(&mut cells, &outcome.cells);
            failures.add(&outcome.failures);
            effort.add(&outcome.effort);
            seconds += outcome.seconds;
        }
        let server_cpu_ns = outcomes.iter().map(|outcome| outcome.server_cpu_ns).sum();
        let threads = scenario.thread_count();
        let round =
            |cells: &[Option<Box<Cell>>], effort: &Effort, seconds: f64, server_cpu_ns: Option<u64>| Round {
                seconds,
                operations: rows(cells, seconds, is_open_loop),
                client: ClientEffort::new(effort, seconds, threads),
                server_cpu_us_per_request: server_cpu_ns
                    .map(|ns| ns as f64 / 1e3 / effort.requests.max(1) as f64),
            };
        let rounds =
            outcomes.iter().map(|it| round(&it.cells, &it.effort, it.seconds, it.server_cpu_ns)).collect();
        let started = outcomes.first().map_or(0, |outcome| outcome.started_at.as_secs() as i64);
        let aborted = outcomes.iter().find_map(|outcome| outcome.aborted.as_ref());
        Self {
            version: VERSION,
            name: name.to_owned(),
            started_at: Timestamp::from_second(started).unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
            endpoint: format!("{:?}", session.target.endpoint),
            protocol: effort.protocol.clone(),
            threads,
            seed: session.seed,
            total: round(&cells, &effort, seconds, server_cpu_ns),
            rounds,
            verification_failures: failures.0.get(&Kind::Verification).map_or(0, |failures| failures.count),
            failures: failure_rows(&failures),
            aborted: aborted
                .map(|failure| format!("{}: {}\n{}", failure.kind, failure.detail, failure.kind.advice())),
            curves: curves(&cells),
            timeline: timeline(&outcomes, &scenario),
            hdr_log: hdr::log(&outcomes, &scenario),
            scenario,
        }
    }

    /// Reads a report that was written as JSON.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let report: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match report.version {
            VERSION => Ok(report),
            other => Err(format!("a report of version {other}; this program reads version {VERSION}")),
        }
    }

    /// As one JSON document.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text have a JSON form")
    }

    /// As one HTML page that needs nothing else.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// Failures but `SlowDown`, which is a server's right.
    pub fn failed(&self) -> u64 {
        self.total.operations.iter().map(|row| row.failed).sum()
    }
}

impl Latency {
    pub(super) fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (count, mean, max) = (histogram.len(), histogram.mean(), histogram.max());
        Self { count, mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl ClientEffort {
    pub(super) fn new(effort: &Effort, seconds: f64, threads: u32) -> Self {
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

fn add_cells(sum: &mut [Option<Box<Cell>>], cells: &[Option<Box<Cell>>]) {
    for (sum, cell) in sum.iter_mut().zip(cells) {
        if let Some(cell) = cell {
            sum.get_or_insert_with(|| Box::new(Cell::new())).add(cell);
        }
    }
}

fn named(cells: &[Option<Box<Cell>>]) -> impl Iterator<Item = (&'static str, &Cell)> {
    Operation::ALL
        .iter()
        .zip(cells)
        .filter_map(|(operation, cell)| Some((operation.name(), cell.as_deref()?)))
}

fn rows(cells: &[Option<Box<Cell>>], seconds: f64, is_open_loop: bool) -> Vec<Row> {
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

pub(super) fn failure_rows(failures: &FailureCounts) -> Vec<FailureRow> {
    let row = |(kind, failures): (&Kind, &super::record::Failures)| FailureRow {
        kind: kind.to_string(),
        count: failures.count,
        example: failures.example.clone(),
        advice: kind.advice().to_owned(),
    };
    failures.0.iter().map(row).collect()
}

fn curves(cells: &[Option<Box<Cell>>]) -> Vec<Curve> {
    let curve = |(name, cell): (&str, &Cell)| {
        // Five points in each halving of the distance to 100 %, as far as there are operations to tell.
        let steps = cell.latency_us.iter_quantiles(5).map(|it| (it.quantile(), it.value_iterated_to()));
        Curve { operation: name.to_owned(), points: steps.filter(|(quantile, _)| *quantile < 1.0).collect() }
    };
    named(cells).map(curve).collect()
}

fn timeline(outcomes: &[Outcome], scenario: &Scenario) -> Vec<Point> {
    let mut points = Vec::new();
    for (round, outcome) in (1..).zip(outcomes) {
        let interval = super::session::interval(scenario.duration.0).as_secs_f64();
        for (index, it) in outcome.intervals.iter().enumerate() {
            let at_seconds = index as f64 * interval;
            let seconds = interval.min(outcome.seconds - at_seconds);
            // The rest of a measurement that is no whole number of intervals: too short for a rate.
            if seconds <= 0.0 || (index > 0 && seconds < interval / 10.0) {
                continue;
            }
            let row = |(name, cell): (&str, &Cell)| PointRow {
                operation: name.to_owned(),
                per_second: cell.completed as f64 / seconds,
                p50_us: cell.latency_us.value_at_quantile(0.5),
                p99_us: cell.latency_us.value_at_quantile(0.99),
                max_us: cell.latency_us.max(),
                failed: cell.failed + cell.slow_down,
            };
            points.push(Point {
                round,
                at_seconds,
                seconds,
                operations: named(&it.cells).map(row).collect(),
            });
        }
    }
    points
}
