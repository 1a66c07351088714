//! What the plots show: latency by percentile, and the measurement over time.

use serde::{Deserialize, Serialize};

use super::named;
use crate::load::phase::Outcome;
use crate::load::record::Cell;
use crate::load::scenario::Scenario;
use crate::load::session;

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

pub(super) fn curves(cells: &[Option<Box<Cell>>]) -> Vec<Curve> {
    let curve = |(name, cell): (&str, &Cell)| {
        // Five points in each halving of the distance to 100 %, as far as there are operations to tell.
        let steps = cell.latency_us.iter_quantiles(5).map(|it| (it.quantile(), it.value_iterated_to()));
        Curve { operation: name.to_owned(), points: steps.filter(|(quantile, _)| *quantile < 1.0).collect() }
    };
    named(cells).map(curve).collect()
}

pub(super) fn timeline(outcomes: &[Outcome], scenario: &Scenario) -> Vec<Point> {
    let mut points = Vec::new();
    for (round, outcome) in (1..).zip(outcomes) {
        let interval = session::interval(scenario.duration.0).as_secs_f64();
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
