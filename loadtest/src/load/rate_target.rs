//! How many buckets can count on their rate: the largest number that gets so many GETs and PUTs a second each, open loop,
//! within a limit of p99 on every single bucket, optionally while another bucket is flooded.

mod probe;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::draw::{Arrival, KeyOrder, Mix};
use super::pace::{Ask, Stream};
use super::phase::{Grouping, Load, Pace, Quota};
use super::progress::Watch;
use super::scenario::{BUCKETS_MAX, CONNECTIONS_MAX, Operation, Scenario};
use super::session::Session;
use super::{Error, Target};
pub use probe::Probe;
use probe::judge;

/// Which numbers of buckets are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// The largest that holds, up to this one.
    Most(u32),
    /// This one alone.
    Exactly(u32),
}

/// What every bucket is to get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateTarget {
    /// GETs a second on each bucket.
    pub gets: f64,
    /// PUTs a second on each bucket.
    pub puts: f64,
    /// Of each bucket's GETs, and of its PUTs.
    pub p99_max: Duration,
    /// Which numbers of buckets are tried.
    pub goal: Goal,
    /// Connections per bucket.
    pub connections_per_bucket: u32,
    /// Connections in a closed loop on one more bucket.
    pub flood_connections: u32,
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

impl Goal {
    /// The most buckets that it may try.
    pub fn buckets_max(self) -> u32 {
        match self {
            Self::Most(buckets) | Self::Exactly(buckets) => buckets,
        }
    }

    /// The next number to try, between what held and what did not: doubled until one does not hold, then half the gap.
    fn choose_next(self, held: u32, broken: Option<u32>) -> Option<u32> {
        let next = match (self, broken) {
            (Self::Exactly(buckets), None) => buckets,
            (Self::Exactly(_), Some(_)) => return None,
            (Self::Most(max), None) => (held * 2).clamp(1, max),
            (Self::Most(_), Some(broken)) => held + (broken - held) / 2,
        };
        (next > held).then_some(next)
    }
}

impl RateTarget {
    fn check(&self) -> Result<(), Error> {
        let connections = self.connections_per_bucket.saturating_mul(self.goal.buckets_max());
        let rules = [
            (
                self.gets >= 0.0 && self.puts >= 0.0 && self.gets + self.puts > 0.0,
                "--gets, --puts: one of them above 0",
            ),
            (self.gets <= 1e6 && self.puts <= 1e6, "--gets, --puts: 1000000 at most"),
            (!self.p99_max.is_zero(), "--p99: above 0"),
            ((1..BUCKETS_MAX).contains(&self.goal.buckets_max()), "--max-buckets, --buckets: 1 to 999"),
            (self.connections_per_bucket > 0, "--connections-per-bucket: at least 1"),
            (
                connections.saturating_add(self.flood_connections) <= CONNECTIONS_MAX,
                "more than 4096 connections: lower --max-buckets or --buckets, --connections-per-bucket or --flood",
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
            buckets: self.goal.buckets_max()..self.goal.buckets_max() + 1,
            key_order: KeyOrder::Uniform,
            pace: Pace::Closed,
            grouping: Grouping::Operation,
        };
        if self.flood_connections > 0 { vec![steady, flood] } else { vec![steady] }
    }
}

/// Tries numbers of buckets as the goal says.
pub fn search(
    target: &Target,
    rates: &RateTarget,
    scenario: &Scenario,
    watch: &mut Watch,
) -> Result<RateTargetReport, Error> {
    rates.check()?;
    // The last bucket is the flooded one.
    let buckets_max = rates.goal.buckets_max();
    let bucket_count = buckets_max + u32::from(rates.flood_connections > 0);
    let scenario = Scenario {
        buckets: bucket_count,
        operations: [(Operation::Get, 3), (Operation::Put, 2)].into(),
        ..scenario.clone()
    };
    let mut session = Session::open(target, &scenario, watch)?;
    if rates.flood_connections > 0 {
        session.fill(buckets_max..bucket_count, watch)?;
    }
    let mut filled = 0;
    let mut probes: Vec<Probe> = Vec::new();
    let (mut held, mut broken) = (0, None);
    while let Some(next) = rates.goal.choose_next(held, broken) {
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

impl fmt::Display for RateTargetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateTarget { gets, puts, p99_max, flood_connections, goal, .. } = &self.target;
        writeln!(
            f,
            "{}: {gets} GET/s and {puts} PUT/s on each bucket, p99 within {:.1} ms, {flood_connections} connections flood another",
            self.endpoint,
            p99_max.as_secs_f64() * 1e3
        )?;
        for probe in &self.probes {
            writeln!(f, "{probe}")?;
        }
        match goal {
            Goal::Exactly(buckets) if self.buckets_held < *buckets => {
                writeln!(f, "{buckets} buckets can NOT count on it")
            }
            Goal::Most(max) if self.buckets_held == *max => {
                writeln!(f, "{max} buckets can count on it, the most that was tried (--max-buckets)")
            }
            _ => writeln!(f, "{} buckets can count on it", self.buckets_held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_every_limit() {
        for (buckets_max, limit) in (1..40).flat_map(|max| (0..=max).map(move |limit| (max, limit))) {
            let (goal, mut held, mut broken, mut probes) = (Goal::Most(buckets_max), 0, None, 0);
            while let Some(next) = goal.choose_next(held, broken) {
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

    #[test]
    fn a_single_number_is_tried_once() {
        let goal = Goal::Exactly(10);
        assert_eq!(goal.choose_next(0, None), Some(10));
        assert_eq!(goal.choose_next(10, None), None, "it holds");
        assert_eq!(goal.choose_next(0, Some(10)), None, "it does not");
    }
}
