//! The load generator.
//!
//! ```text
//! scenario --> draw, pace --> worker (epoll) --> wire (TLS, HTTP, SigV4) --> server
//!                 ^             |      ^
//!               book <-- job ---+      +--- verify
//!                               v
//!                            record --> phase (collector) --> report --> text, JSON, HdrHistogram log, HTML
//! ```
//!
//! Invariants:
//! - Latency in an open loop counts from the time a request was due, and requests that were never sent are counted.
//! - Nothing is retried in a measurement: every failure is seen, by its kind.
//! - Every body says which write it belongs to, and a read is judged by what was acknowledged before it began.
//! - Everything is bounded: connections, keys, time, rounds, the length of documents.

mod book;
mod compare;
mod draw;
mod failure;
mod job;
mod pace;
mod phase;
mod progress;
mod rate_target;
mod record;
mod report;
mod scenario;
mod session;
mod target;
mod verify;
mod wire;
mod worker;

use std::fmt;

pub use compare::{Comparison, Meaning, Ratio, compare};
pub use draw::{Arrival, KeyOrder, Lognormal, Sizes};
pub use progress::{Progress, Watch};
pub use rate_target::{Goal, Probe, RateTarget, RateTargetReport, search};
pub use report::{ClientEffort, Curve, FailureRow, Latency, Point, PointRow, Report, Round, Row};
pub use scenario::{
    BUCKETS_MAX, CONNECTIONS_MAX, KEYS_MAX, ListOptions, MultipartOptions, Operation, PayloadMode, Prepare,
    Scenario,
};
pub use session::run;
pub use target::Target;

/// Why a run could not be made.
#[derive(Debug)]
pub enum Error {
    /// The scenario asks for what can't be.
    Scenario(String),
    /// The server can't be reached, or does not let us begin.
    Setup(String),
}

impl Error {
    pub(super) fn setup(what: impl Into<String>) -> Self {
        Self::Setup(what.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario(what) => write!(f, "the scenario asks for what can't be:\n{what}"),
            Self::Setup(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<failure::Failure> for Error {
    fn from(failure: failure::Failure) -> Self {
        Self::Setup(format!("{}: {}\n{}", failure.kind, failure.detail, failure.kind.advice()))
    }
}
