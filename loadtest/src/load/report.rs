//! What a run found: data that is written as JSON and read again by `compare`, with a text and a page made of it.

mod hdr;
mod html;
mod plot;
mod round;
mod text;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::Kind;
use super::phase::Outcome;
use super::record::{Cell, Effort, FailureCounts};
use super::scenario::{Operation, Scenario};
use super::session::Session;
use super::target::ServerTime;
pub use plot::{Curve, Point, PointRow};
use plot::{curves, timeline};
pub(super) use round::failure_rows;
use round::rows;
pub use round::{ClientEffort, FailureRow, Latency, Round, Row};

/// Raised when a field changes its meaning.
pub const VERSION: u32 = 1;

/// A server whose threads waited longer for a CPU, by the time for which they ran, was not alone on it. Its own threads wait for each other, too.
pub(super) const WAIT_RATIO_MAX: f64 = 0.5;

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
        let mut times = outcomes.iter().map(|outcome| outcome.server_time);
        let server_time = times.try_fold(ServerTime::default(), |sum, time| Some(sum.add(time?)));
        let threads = scenario.thread_count();
        let round = |cells: &[Option<Box<Cell>>],
                     effort: &Effort,
                     seconds: f64,
                     server_time: Option<ServerTime>| Round {
            seconds,
            operations: rows(cells, seconds, is_open_loop),
            client: ClientEffort::new(effort, seconds, threads),
            server_cpu_us_per_request: server_time
                .map(|time| time.ran_ns as f64 / 1e3 / effort.requests.max(1) as f64),
            server_wait_ratio: server_time.map(ServerTime::wait_ratio),
        };
        let rounds =
            outcomes.iter().map(|it| round(&it.cells, &it.effort, it.seconds, it.server_time)).collect();
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
            total: round(&cells, &effort, seconds, server_time),
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
