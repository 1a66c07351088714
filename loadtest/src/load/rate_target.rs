//! How many buckets can count on their rate: the largest number that gets so many GETs and PUTs a second each, open loop,
//! within a limit of p99 on every single bucket, optionally while another bucket is flooded.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::draw::{Arrival, KeyOrder, Mix};
use super::failure::Kind;
use super::pace::{Ask, Stream};
use super::phase::{Grouping, Load, Outcome, Pace, Quota};
use super::progress::Watch;
use super::record::{Cell, FailureCounts};
use super::report::{ClientEffort, FailureRow, failure_rows};
use super::scenario::{BUCKETS_MAX, CONNECTIONS_MAX, Operation, Scenario};
use super::session::Session;
use super::{Error, Target};

/// What is left out at the edges of the measurement is no failure to keep the rate.
const ACHIEVED_MIN: f64 = 0.99;

/// What every bucket is to get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateTarget {
    /// GETs a second on each bucket.
    pub gets: f64,
    /// PUTs a second on each bucket.
    pub puts: f64,
    /// Of each bucket's GETs, and of its PUTs.
    pub p99_max: Duration,
    /// The search stops here.
    pub buckets_max: u32,
    /// Connections per bucket.
    pub connections_per_bucket: u32,
    /// Connections in a closed loop on one more bucket.
    pub flood_connections: u32,
}

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
    /// Wrong data.
    pub verification_failures: u64,
}

/// The whole search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateTargetReport {
    /// What was asked for.
    pub target: RateTarget,
    /// URL of the server.
    pub endpoint: String,
    /// Objects and times.
    pub scenario: Scenario,
    /// In the order in which they were made.
    pub probes: Vec<Probe>,
    /// The largest number of buckets that held; 0 when one was too many.
    pub buckets_held: u32,
}

impl RateTarget {
    fn check(&self) -> Result<(), Error> {
        let connections = self.connections_per_bucket.saturating_mul(self.buckets_max);
        let rules = [
            (
                self.gets >= 0.0 && self.puts >= 0.0 && self.gets + self.puts > 0.0,
                "--gets, --puts: one of them above 0",
            ),
            (self.gets <= 1e6 && self.puts <= 1e6, "--gets, --puts: 1000000 at most"),
            (!self.p99_max.is_zero(), "--p99: above 0"),
            ((1..BUCKETS_MAX).contains(&self.buckets_max), "--max-buckets: 1 to 999"),
            (self.connections_per_bucket > 0, "--connections-per-bucket: at least 1"),
            (
                connections.saturating_add(self.flood_connections) <= CONNECTIONS_MAX,
                "more than 4096 connections: lower --max-buckets, --connections-per-bucket or --flood",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(Error::Scenario((*what).into())),
            None => Ok(()),
        }
    }

    fn loads(&self, buckets: u32) -> Vec<Load> {
        let streams = (0..buckets).flat_map(|bucket| {
            let stream = move |operation, rate| Stream {
                ask: Ask { bucket: Some(bucket), operation: Some(operation) },
                rate,
            };
            [stream(Operation::Get, self.gets), stream(Operation::Put, self.puts)]
        });
        let mix = Mix::new([(Operation::Get, 3), (Operation::Put, 2)]);
        let steady = Load {
            connections: self.connections_per_bucket * buckets,
            mix: mix.clone(),
            buckets: 0..buckets,
            key_order: KeyOrder::Uniform,
            // Buckets are many independent clients.
            pace: Pace::Open(streams.filter(|stream| stream.rate > 0.0).collect(), Arrival::Poisson),
            grouping: Grouping::Bucket,
        };
        let flood = Load {
            connections: self.flood_connections,
            mix,
            buckets: self.buckets_max..self.buckets_max + 1,
            key_order: KeyOrder::Uniform,
            pace: Pace::Closed,
            grouping: Grouping::Operation,
        };
        if self.flood_connections > 0 { vec![steady, flood] } else { vec![steady] }
    }
}

/// Searches for the largest number of buckets that hold: doubles it until one does not, then halves the gap.
pub fn search(
    target: &Target,
    rates: &RateTarget,
    scenario: &Scenario,
    watch: &mut Watch,
) -> Result<RateTargetReport, Error> {
    rates.check()?;
    // The last bucket is the flooded one.
    let bucket_count = rates.buckets_max + u32::from(rates.flood_connections > 0);
    let scenario = Scenario {
        buckets: bucket_count,
        operations: [(Operation::Get, 3), (Operation::Put, 2)].into(),
        ..scenario.clone()
    };
    let mut session = Session::open(target, &scenario, watch)?;
    if rates.flood_connections > 0 {
        session.fill(rates.buckets_max..bucket_count, watch)?;
    }
    let mut filled = 0;
    let mut probes: Vec<Probe> = Vec::new();
    let (mut held, mut broken) = (0, None);
    while let Some(next) = choose_next(held, broken, rates.buckets_max) {
        if next > filled {
            session.fill(filled..next, watch)?;
            filled = next;
        }
        let probe = run_probe(&mut session, rates, next, watch)?;
        watch.say(&probe.to_string());
        if probe.holds {
            held = next
        } else {
            broken = Some(next)
        }
        let is_wrong = probe.verification_failures > 0;
        probes.push(probe);
        if is_wrong {
            break;
        }
    }
    let endpoint = format!("{:?}", target.endpoint);
    Ok(RateTargetReport {
        target: rates.clone(),
        endpoint,
        buckets_held: held,
        probes,
        scenario: scenario.clone(),
    })
}

/// The next number to try, between what held and what did not.
fn choose_next(held: u32, broken: Option<u32>, buckets_max: u32) -> Option<u32> {
    let next = match broken {
        None => (held * 2).clamp(1, buckets_max),
        Some(broken) => held + (broken - held) / 2,
    };
    (next > held).then_some(next)
}

fn run_probe(
    session: &mut Session<'_>,
    rates: &RateTarget,
    buckets: u32,
    watch: &mut Watch,
) -> Result<Probe, Error> {
    let (warm_up, duration) = (session.scenario.warm_up.0, session.scenario.duration.0);
    let name = format!("{buckets} buckets");
    let outcome = session.run(&name, rates.loads(buckets), warm_up, duration, Quota::Time, watch)?;
    Ok(judge(&outcome, rates, buckets, session.scenario.thread_count()))
}

fn judge(outcome: &Outcome, rates: &RateTarget, buckets: u32, threads: u32) -> Probe {
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

impl RateTargetReport {
    /// As one JSON document.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text have a JSON form")
    }

    /// Wrong data over all probes.
    pub fn verification_failures(&self) -> u64 {
        self.probes.iter().map(|probe| probe.verification_failures).sum()
    }
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

impl fmt::Display for RateTargetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateTarget { gets, puts, p99_max, flood_connections, buckets_max, .. } = &self.target;
        writeln!(
            f,
            "{}: {gets} GET/s and {puts} PUT/s on each bucket, p99 within {:.1} ms, {flood_connections} connections flood another",
            self.endpoint,
            p99_max.as_secs_f64() * 1e3
        )?;
        for probe in &self.probes {
            writeln!(f, "{probe}")?;
        }
        let bound =
            if self.buckets_held == *buckets_max { ", the most that was tried (--max-buckets)" } else { "" };
        writeln!(f, "{} buckets can count on it{bound}", self.buckets_held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_every_limit() {
        for (buckets_max, limit) in (1..40).flat_map(|max| (0..=max).map(move |limit| (max, limit))) {
            let (mut held, mut broken, mut probes) = (0, None, 0);
            while let Some(next) = choose_next(held, broken, buckets_max) {
                if next <= limit {
                    held = next
                } else {
                    broken = Some(next)
                }
                probes += 1;
            }
            assert_eq!(held, limit, "of {buckets_max}");
            assert!(probes <= 13, "{probes} probes for {limit} of {buckets_max}");
        }
    }
}
