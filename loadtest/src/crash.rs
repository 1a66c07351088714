//! The crash tester: real requests over HTTPS, `kill -9` at a random moment, restart, and a look at everything.
//!
//! Each key belongs to one client thread, which does one thing at a time, so what every key must hold is known: what
//! was acknowledged last or, for the one request in flight at the kill, that or what the request would have made.
//! A key holds the one or the other, whole, and LIST agrees; the state is carried from round to round, so an early loss
//! is found however late it shows.

mod choose;
mod etag;
mod findings;
mod fsck;
mod model;
mod node;
mod round;
mod upload;
mod verify;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::rng::Rng;
pub use findings::Findings;
use model::Slot;
use node::{Node, NodePaths};
use worker::Worker;

/// Two devices that fit everywhere, and small enough that a long run has to compact them.
const CONFIG: &str = "[store]\ndevice_size = \"1GiB\"\n";
/// Objects of neighbouring keys lie in different buckets, and so in different cores' logs.
const BUCKETS: [&str; 3] = ["crash-a", "crash-b", "crash-c"];
const THREAD_COUNT: u64 = 4;
const KEYS_PER_THREAD: u64 = 24;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The node's binary.
    pub binary: PathBuf,
    /// The `basalt` binary, to check the store after each kill; `None` leaves that out.
    pub basalt: Option<PathBuf>,
    /// How often to kill it.
    pub rounds: u32,
    /// Decides what is asked and when it is killed.
    pub seed: u64,
    /// An empty or absent directory for data, configuration and log.
    pub dir: PathBuf,
    /// The node's configuration; `None` is two devices of 1 GiB.
    pub config: Option<PathBuf>,
    /// Bytes of small objects per round at most.
    pub small_bytes_max: u64,
    /// Bytes of large objects per round at most.
    pub large_bytes_max: u64,
}

/// What was seen over all rounds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills that were followed by a verification.
    pub rounds: u32,
    /// Kills while the node was starting, before it served.
    pub kills_at_start: u32,
    /// Acknowledged operations by kind.
    pub acknowledged: BTreeMap<&'static str, u64>,
    /// Requests that a kill cut off.
    pub in_flight: u64,
    /// Of those that changed a key, how many had taken effect.
    pub in_flight_applied: u64,
    /// Objects read back and compared, over all verifications.
    pub verified: u64,
    /// Kills after which `basalt fsck` found nothing wrong.
    pub clean_checks: u64,
    /// What should not be.
    pub findings: Findings,
}

impl Report {
    /// Nothing was lost, torn or otherwise wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_clean()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rounds: {} (and {} kills during start-up)", self.rounds, self.kills_at_start)?;
        let total: u64 = self.acknowledged.values().sum();
        let kinds: Vec<String> =
            self.acknowledged.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(f, "acknowledged operations: {total} ({})", kinds.join(", "))?;
        writeln!(
            f,
            "in flight at a kill: {}, of which {} had taken effect",
            self.in_flight, self.in_flight_applied
        )?;
        writeln!(f, "objects read back and compared: {}", self.verified)?;
        writeln!(f, "clean checks by fsck: {}", self.clean_checks)?;
        let Findings { losses, torn, faults } = &self.findings;
        for (name, list) in [("losses", losses), ("torn", torn), ("other faults", faults)] {
            writeln!(f, "{name}: {}", list.len())?;
            for what in list {
                writeln!(f, "  {what}")?;
            }
        }
        Ok(())
    }
}

/// Runs the rounds. An error means that the node could not be started or asked at all; its log is named.
pub fn run(plan: &Plan, out: &mut dyn Write) -> io::Result<Report> {
    let paths = prepare(plan)?;
    let rng = Rng::new(plan.seed);
    let mut report = Report::default();
    let mut workers: Vec<Worker> =
        (0..THREAD_COUNT).map(|thread| Worker::new(plan.seed, rng.fork(1 + thread), slots(thread))).collect();
    let mut kill_rng = rng.fork(0);
    let mut node = Node::start(&paths, Duration::from_secs(120))?;
    let mut client = node.client();
    BUCKETS.iter().try_for_each(|bucket| client.create_bucket(bucket)).map_err(io::Error::other)?;
    for number in 1..=plan.rounds {
        let start = Instant::now();
        let ending = round::load_and_kill(plan, node, &mut workers, &mut kill_rng, &mut report)?;
        check(plan, &paths, &mut report)?;
        let killed_at = Instant::now();
        node = restart(plan, &paths, &mut kill_rng, &mut report)?;
        let downtime = killed_at.elapsed();
        verify::verify_all(&node, &mut workers, &BUCKETS, &mut report);
        report.rounds = number;
        writeln!(
            out,
            "round {number}/{}: killed after {:.0} ms with {} acknowledged and {} in flight; serving again after \
             {:.0} ms; {} keys verified; {:.1} s",
            plan.rounds,
            ending.load_time.as_secs_f64() * 1e3,
            ending.acknowledged,
            ending.in_flight,
            downtime.as_secs_f64() * 1e3,
            THREAD_COUNT * KEYS_PER_THREAD,
            start.elapsed().as_secs_f64()
        )?;
        if !report.is_clean() {
            break;
        }
    }
    node.kill()?;
    check(plan, &paths, &mut report)?;
    Ok(report)
}

fn check(plan: &Plan, paths: &NodePaths, report: &mut Report) -> io::Result<()> {
    plan.basalt.as_ref().map_or(Ok(()), |basalt| fsck::check(basalt, paths, report))
}

fn prepare(plan: &Plan) -> io::Result<NodePaths> {
    fs::create_dir_all(&plan.dir)?;
    if fs::read_dir(&plan.dir)?.next().is_some() {
        let what = format!("{} is not empty; name a directory that is", plan.dir.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let config = plan.dir.join("basalt.toml");
    match &plan.config {
        Some(given) => fs::copy(given, &config).map(|_| ())?,
        None => fs::write(&config, CONFIG)?,
    }
    let log = plan.dir.join("node.log");
    File::create(&log)?;
    Ok(NodePaths { binary: plan.binary.clone(), data: plan.dir.join("data"), config, log })
}

/// Starts the node, and one time in eight kills it once more while it recovers.
fn restart(plan: &Plan, paths: &NodePaths, rng: &mut Rng, report: &mut Report) -> io::Result<Node> {
    if rng.below(8) == 0 {
        let wait = Duration::from_millis(rng.between(1, 100));
        Node::start_and_kill(paths, wait)?;
        report.kills_at_start += 1;
        check(plan, paths, report)?;
    }
    Node::start(paths, Duration::from_secs(60))
}

/// The keys of a thread. Some have names that are awkward in a URL, in XML and in an ordered index.
fn slots(thread: u64) -> Vec<Slot> {
    (0..KEYS_PER_THREAD)
        .map(|index| {
            let bucket = BUCKETS[((thread + index) % BUCKETS.len() as u64) as usize];
            let key = match index % 6 {
                0 => format!("t{thread}/plain-{index}"),
                1 => format!("t{thread}/a b+c&<{index}>"),
                2 => format!("t{thread}//{index}"),
                3 => format!("t{thread}/größe-{index}-€"),
                4 => format!("t{thread}/{index}/"),
                _ => format!("t{thread}-%2F-{index}"),
            };
            Slot::new(bucket, key)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_threads_own_the_same_key() {
        let all: Vec<Slot> = (0..THREAD_COUNT).flat_map(slots).collect();
        let distinct: BTreeSet<(&str, &str)> =
            all.iter().map(|slot| (slot.bucket, slot.key.as_str())).collect();
        assert_eq!(distinct.len() as u64, THREAD_COUNT * KEYS_PER_THREAD);
    }

    #[test]
    fn a_report_with_a_loss_is_not_clean_and_shows_it() {
        let mut report = Report { rounds: 3, ..Report::default() };
        assert!(report.is_clean() && report.to_string().contains("losses: 0"));
        report.findings.losses.push("bucket/key: gone".into());
        assert!(!report.is_clean() && report.to_string().contains("bucket/key: gone"));
    }
}
