//! One measurement of the search, and its verdict.

use std::fmt;

use serde::Serialize;

use super::RateTarget;
use crate::load::failure::Kind;
use crate::load::phase::Outcome;
use crate::load::record::{Cell, FailureCounts};
use crate::load::report::{ClientEffort, FailureRow, WAIT_RATIO_MAX, failure_rows};
use crate::load::scenario::Operation;
use crate::load::target::ServerTime;

/// What is left out at the edges of the measurement is no failure to keep the rate.
const ACHIEVED_MIN: f64 = 0.99;

/// One measurement of the search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// Buckets that had the rate.
    pub buckets: u32,
    /// Whether all of them got it.
    pub holds: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// p99 of GETs on the worst bucket.
    pub get_p99_us: u64,
    /// p99 of PUTs on the worst bucket.
    pub put_p99_us: u64,
    /// Of the set rate, on the worst bucket.
    pub achieved_min: f64,
    /// Operations a second on the flooded bucket.
    pub flood_per_second: f64,
    /// By kind.
    pub failures: Vec<FailureRow>,
    /// What the generator took.
    pub client: ClientEffort,
    /// How long the server's threads were ready and had no CPU, by the time for which they ran; where its processes were named.
    pub server_wait_ratio: Option<f64>,
    /// Wrong data.
    pub verification_failures: u64,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds { "holds" } else { "FAILS" };
        write!(
            f,
            "{:4} buckets {verdict}: worst p99 GET {:.2} ms, PUT {:.2} ms; {:.1} % served on the worst bucket; flood {:.0} op/s; client {:.0} % busy, {:.1} us a request, late {} us at p99",
            self.buckets,
            self.get_p99_us as f64 / 1e3,
            self.put_p99_us as f64 / 1e3,
            self.achieved_min * 100.0,
            self.flood_per_second,
            self.client.busy * 100.0,
            self.client.cpu_us_per_request,
            self.client.lag_p99_us
        )?;
        for reason in &self.reasons {
            write!(f, "\n      {reason}")?;
        }
        Ok(())
    }
}

pub(super) fn judge(outcome: &Outcome, rates: &RateTarget, buckets: u32, threads: u32) -> Probe {
    let operation_count = Operation::ALL.len();
    let (steady, flood) = outcome.cells.split_at(buckets as usize * operation_count);
    let limit_us = rates.p99_max.as_micros() as u64;
    let mut worst = Worst { get_p99_us: 0, put_p99_us: 0, achieved: 1.0, slow_count: 0, late_count: 0 };
    for cells in steady.chunks(operation_count) {
        worst.take(cells, rates, outcome.seconds, limit_us);
    }
    let verification_failures =
        outcome.failures.0.get(&Kind::Verification).map_or(0, |failures| failures.count);
    let client = ClientEffort::new(&outcome.effort, outcome.seconds, threads);
    let mut reasons = worst.reasons(limit_us);
    let steady_failed: u64 = steady.iter().flatten().map(|cell| cell.failed).sum();
    if steady_failed > 0 || verification_failures > 0 {
        reasons.push(format!("{} failed, {verification_failures} wrong", first_failure(&outcome.failures)));
    }
    if let Some(reason) = &outcome.aborted {
        reasons.push(format!("ended early: {}", reason.detail));
    }
    if !reasons.is_empty() && client.lag_p99_us > limit_us / 4 {
        reasons.push(format!(
            "and the client itself sent late by {} us at p99: give it free cores",
            client.lag_p99_us
        ));
    }
    let server_wait_ratio = outcome.server_time.map(ServerTime::wait_ratio);
    if let Some(ratio) = server_wait_ratio.filter(|ratio| !reasons.is_empty() && *ratio > WAIT_RATIO_MAX) {
        reasons.push(format!(
            "and the server waited for a CPU {ratio:.1} times as long as it ran: give it free cores"
        ));
    }
    Probe {
        buckets,
        holds: reasons.is_empty(),
        reasons,
        get_p99_us: worst.get_p99_us,
        put_p99_us: worst.put_p99_us,
        achieved_min: worst.achieved,
        flood_per_second: flood.iter().flatten().map(|cell| cell.completed).sum::<u64>() as f64
            / outcome.seconds.max(1e-9),
        failures: failure_rows(&outcome.failures),
        client,
        server_wait_ratio,
        verification_failures,
    }
}

fn first_failure(failures: &FailureCounts) -> String {
    let mut kinds = failures.0.iter();
    kinds.next().map_or_else(String::new, |(kind, failures)| {
        format!("{} x {kind} ({})", failures.count, failures.example)
    })
}

struct Worst {
    get_p99_us: u64,
    put_p99_us: u64,
    achieved: f64,
    slow_count: u32,
    late_count: u32,
}

impl Worst {
    fn take(&mut self, cells: &[Option<Box<Cell>>], rates: &RateTarget, seconds: f64, limit_us: u64) {
        let p99 = |operation: Operation| {
            cells[operation as usize].as_ref().map_or(0, |cell| cell.latency_us.value_at_quantile(0.99))
        };
        let (get, put) = (p99(Operation::Get), p99(Operation::Put));
        self.get_p99_us = self.get_p99_us.max(get);
        self.put_p99_us = self.put_p99_us.max(put);
        self.late_count += u32::from(get > limit_us || put > limit_us);
        // Random arrivals bring more or less than the rate: what counts is how many of those that came were served. Those that
        // were served too late are a matter of the percentiles.
        let (mut due, mut done) = (0, 0);
        for cell in cells.iter().flatten() {
            done += cell.answered;
            due += cell.answered + cell.slow_down + cell.failed + cell.unsent;
        }
        let expected = (rates.gets + rates.puts) * seconds;
        // A bucket of which next to nothing was seen got nothing.
        let achieved =
            if (due as f64) < expected / 2.0 { done as f64 / expected } else { done as f64 / due as f64 };
        self.achieved = self.achieved.min(achieved);
        self.slow_count += u32::from(achieved < ACHIEVED_MIN);
    }

    fn reasons(&self, limit_us: u64) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.late_count > 0 {
            reasons.push(format!("p99 above {:.1} ms on {} buckets", limit_us as f64 / 1e3, self.late_count));
        }
        if self.slow_count > 0 {
            reasons.push(format!("less than 99 % of the rate on {} buckets", self.slow_count));
        }
        reasons
    }
}
