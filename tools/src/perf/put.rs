//! Puts, flushed, beside what fio writes to the same device in the same round.

use std::io;
use std::path::Path;

use super::lab::{Ask, Lab};
use super::node::Setup;
use super::objects::{self, Set};
use super::outcome::{Case, Outcome, Round, Work};
use super::wrk::Order;
use super::{fio, hash};

const SMALL: Case = Case { work: Work::PutSmall, size: 4 << 10, connections: 256 };
const LARGE: Case = Case { work: Work::PutLarge, size: 16 << 20, connections: 8 };

/// Keys of small puts: many, so that they don't wait for one another; wrk holds a body for each.
const SMALL_KEYS: u64 = 4096;

/// Runs all rounds of one kind of put.
pub(super) fn run(lab: &Lab, setup: &Setup<'_>, work: Work, fio_file: &Path) -> io::Result<Outcome> {
    let case = if work == Work::PutSmall { SMALL } else { LARGE };
    let set = match work {
        Work::PutSmall => Set { purpose: "put", size: case.size, count: SMALL_KEYS },
        _ => Set { purpose: "put", size: case.size, count: u64::from(case.connections) },
    };
    let (order, job) = match work {
        Work::PutSmall => (Order::Cycle, fio::Job::Small),
        _ => (Order::OneEach, fio::Job::Sequential),
    };
    let node = setup.start()?;
    objects::make_bucket(node.plain, &node.credentials)?;
    let mut outcome = Outcome { case, rounds: Vec::new() };
    for round in 1..=lab.rounds {
        let written = job.run(fio_file, lab.cpus.server, lab.seconds)?;
        let hash_limit =
            if work == Work::PutLarge { Some(hash::bytes_per_second(lab.cpus.server)?) } else { None };
        let body_len = case.size as usize;
        let heads = node.heads("PUT", &set.paths(u64::MAX), Some(body_len));
        let ask =
            Ask { host: node.host(), heads: &heads, body_len, order, pid: node.pid, seconds: lab.seconds };
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
