//! A run from its first bucket to its report.

use std::time::{Duration, SystemTime};

use super::book::Book;
use super::draw::{KeyOrder, Mix};
use super::job::Terms;
use super::pace::{Ask, Stream};
use super::phase::{self, Grouping, Load, Outcome, Pace, Phase, Quota};
use super::progress::{Progress, Watch};
use super::record::histogram;
use super::report::Report;
use super::scenario::{Operation, Scenario};
use super::{Error, Target};

/// Intervals of the timeline of a measurement, at most; they are not shorter than a second for long ones.
const INTERVALS_MAX: u32 = 600;
const INTERVAL_MIN: Duration = Duration::from_millis(250);
/// Of progress, while objects are stored.
const FILL_INTERVAL: Duration = Duration::from_secs(2);
/// Storing the objects may take so long.
const FILL_TIME_MAX: Duration = Duration::from_secs(4 * 3600);

/// What the phases of a run have in common.
pub(super) struct Session<'a> {
    pub target: &'a Target,
    pub scenario: &'a Scenario,
    pub seed: u64,
    buckets: Vec<String>,
    book: Book,
    next_phase: u64,
}

impl<'a> Session<'a> {
    /// Checks the scenario and makes its buckets.
    pub fn open(target: &'a Target, scenario: &'a Scenario, watch: &mut Watch) -> Result<Self, Error> {
        scenario.check().map_err(Error::Scenario)?;
        let seed = scenario.seed.unwrap_or_else(seed_from_clock);
        let buckets: Vec<String> = (0..scenario.buckets).map(|index| scenario.bucket(index)).collect();
        let book = Book::new(scenario.key_count());
        let session = Self { target, scenario, seed, buckets, book, next_phase: 0 };
        if target.makes_buckets {
            session.make_buckets(watch)?;
        }
        Ok(session)
    }

    fn make_buckets(&self, watch: &mut Watch) -> Result<(), Error> {
        let mut client = self.target.client();
        for bucket in &self.buckets {
            client.create_bucket(bucket).map_err(|error| {
                Error::setup(format!(
                    "could not make bucket {bucket}: {error}\n\
                     check --endpoint, the keys, and --ca or --insecure; give --no-create-buckets where the buckets exist"
                ))
            })?;
        }
        watch.say(&format!("{} buckets {}-N are there", self.buckets.len(), self.scenario.bucket_prefix));
        Ok(())
    }

    /// Stores every key of these buckets once.
    pub fn fill(&mut self, buckets: std::ops::Range<u32>, watch: &mut Watch) -> Result<(), Error> {
        let key_count = self.scenario.keys * buckets.len() as u64;
        watch.say(&format!("storing {key_count} objects"));
        let load = Load {
            connections: self.scenario.connections.min(256),
            mix: Mix::new([(Operation::Put, 1)]),
            buckets,
            key_order: KeyOrder::Sequential,
            pace: Pace::Closed,
            grouping: Grouping::Operation,
        };
        let outcome =
            self.run("storing", vec![load], Duration::ZERO, FILL_TIME_MAX, Quota::EachKeyOnce, watch)?;
        if let Some(failure) = outcome.aborted {
            let Error::Setup(what) = failure.into() else { unreachable!("a failure is one of the set-up") };
            return Err(Error::setup(format!("could not store the objects to read: {what}")));
        }
        Ok(())
    }

    /// Runs loads side by side.
    pub fn run(
        &mut self,
        name: &str,
        loads: Vec<Load>,
        warm_up: Duration,
        duration: Duration,
        quota: Quota,
        watch: &mut Watch,
    ) -> Result<Outcome, Error> {
        let connections: u32 = loads.iter().map(|load| load.connections).sum();
        let interval = if quota == Quota::EachKeyOnce { FILL_INTERVAL } else { interval(duration) };
        self.next_phase += 1;
        let phase = Phase {
            loads,
            warm_up,
            duration,
            interval,
            quota,
            thread_count: self.scenario.thread_count().min(connections),
            number: self.next_phase,
        };
        let terms =
            Terms { scenario: self.scenario, book: &self.book, buckets: &self.buckets, seed: self.seed };
        watch.start_phase();
        let outcome = phase::run(self.target, terms, &phase, &mut |progress| {
            if watch.is_due() {
                watch.show(&describe(name, &phase, progress));
            }
        });
        watch.close_line();
        Ok(outcome?)
    }
}

/// Runs a scenario.
pub fn run(target: &Target, name: &str, scenario: &Scenario, watch: &mut Watch) -> Result<Report, Error> {
    let mut session = Session::open(target, scenario, watch)?;
    if scenario.fills() {
        session.fill(0..scenario.buckets, watch)?;
    }
    let quota = scenario.count.map_or(Quota::Time, Quota::Count);
    let mut outcomes = Vec::new();
    for round in 1..=scenario.rounds {
        let phase_name = format!("round {round}/{}", scenario.rounds);
        let loads = vec![load(scenario)];
        let outcome =
            session.run(&phase_name, loads, scenario.warm_up.0, scenario.duration.0, quota, watch)?;
        let is_aborted = outcome.aborted.is_some();
        outcomes.push(outcome);
        if is_aborted {
            break;
        }
    }
    Ok(Report::new(&session, name, outcomes))
}

fn load(scenario: &Scenario) -> Load {
    let ask = Ask { bucket: None, operation: None };
    Load {
        connections: scenario.connections,
        mix: Mix::new(scenario.operations.iter().map(|(operation, weight)| (*operation, *weight))),
        buckets: 0..scenario.buckets,
        key_order: scenario.key_order,
        pace: match scenario.rate {
            Some(rate) => Pace::Open(vec![Stream { ask, rate }], scenario.arrival),
            None => Pace::Closed,
        },
        grouping: Grouping::Operation,
    }
}

/// A second, unless the measurement is too short or too long for that.
pub(super) fn interval(duration: Duration) -> Duration {
    (duration / 20).clamp(INTERVAL_MIN, Duration::from_secs(1)).max(duration / INTERVALS_MAX)
}

fn describe(name: &str, phase: &Phase, progress: &phase::Progress<'_>) -> Progress {
    let mut latency = histogram();
    let (mut per_second, mut failed) = (0.0, 0);
    for cell in progress.last.iter().flat_map(|interval| interval.cells.iter().flatten()) {
        latency.add(&cell.latency_us).expect("a histogram that grows takes every value");
        per_second += cell.completed as f64 / phase.interval.as_secs_f64();
        failed += cell.failed + cell.slow_down;
    }
    let is_timed = phase.quota == Quota::Time;
    let state = if is_timed && !progress.is_measuring { " (warm-up)" } else { "" };
    Progress {
        phase: format!("{name}{state}"),
        at: progress.at,
        of: is_timed.then_some(phase.warm_up + phase.duration),
        completed: progress.completed,
        per_second,
        p99_us: latency.value_at_quantile(0.99),
        failed,
    }
}

fn seed_from_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}
