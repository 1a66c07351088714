//! Puts, flushed, beside what fio writes to the same device in the same round.

use std::io;
use std::path::Path;

use super::lab::{Ask, Lab};
use super::node::Setup;
use super::objects::{self, Set};
use super::outcome::{Case, Outcome, Round, Work};
use super::window::Server;
use super::wrk::Order;
use super::{fio, hash};

/// One flush carries many.
pub(super) const SMALL: Case = Case { work: Work::PutSmall, size: 4 << 10, connections: 256 };
/// As many as one core's hashing can keep apart.
pub(super) const LARGE: Case = Case { work: Work::PutLarge, size: 16 << 20, connections: 8 };

/// Keys of small puts: many, so that they don't wait for one another; wrk holds a body for each.
const SMALL_KEYS: u64 = 4096;

/// Runs all rounds of one kind of put.
pub(super) fn run(lab: &Lab, setup: &Setup<'_>, work: Work, fio_file: &Path) -> io::Result<Outcome> {
    let (case, job) = match work {
        Work::PutSmall => (SMALL, fio::Job::Small),
        _ => (LARGE, fio::Job::Sequential),
    };
    let (set, order) = (set(case), order(case));
    let node = setup.start()?;
    objects::make_bucket(node.plain, &node.credentials)?;
    let mut outcome = Outcome { case, rounds: Vec::new() };
    for round in 1..=lab.rounds {
        let written = job.run(fio_file, lab.cpus.server, lab.seconds)?;
        let hash_limit = if work == Work::PutLarge {
            Some(hash::bytes_per_second(lab.cpus.server, case.connections as usize)?)
        } else {
            None
        };
        let body_len = case.size as usize;
        let heads = node.heads("PUT", &set.paths(u64::MAX), Some(body_len));
        let requests = || node.requests();
        let server = Server { pid: node.pid, requests: &requests };
        let ask = Ask { host: node.host(), heads: &heads, body_len, order, server, seconds: lab.seconds };
        let basalt = lab.measure(case, &ask)?;
        eprintln!(
            "round {round}/{} {case}: fio {:.0}/s {:.0} MB/s, basalt {:.0}/s {:.0} MB/s {:.1} us (cores {:.0}/{:.0} %)",
            lab.rounds,
            written.writes_per_second,
            written.bytes_per_second / 1e6,
            basalt.requests_per_second,
            basalt.bytes_per_second / 1e6,
            basalt.cpu_us,
            100.0 * basalt.server_core,
            100.0 * basalt.client_core
        );
        outcome.rounds.push(Round { basalt, nginx: None, fio: Some(written), hash_limit });
    }
    node.stop()?;
    Ok(outcome)
}

/// The objects that are put, again and again.
pub(super) fn set(case: Case) -> Set {
    let count = if case.work == Work::PutSmall { SMALL_KEYS } else { u64::from(case.connections) };
    Set { purpose: "put", size: case.size, count }
}

/// Large bodies don't fit into a socket at once.
pub(super) fn order(case: Case) -> Order {
    if case.work == Work::PutSmall { Order::Cycle } else { Order::OneEach }
}
