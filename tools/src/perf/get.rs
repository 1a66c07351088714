//! Gets: Basalt's signed ones of encrypted objects beside nginx's unsigned ones of a static file in the page cache.

use std::io;

use super::lab::{Ask, Lab};
use super::nginx::Nginx;
use super::node::{Node, Setup};
use super::objects::{self, Set};
use super::outcome::{Case, Outcome, Round, Sample, Work, size_name};
use super::tls;
use super::window::Server;
use super::wrk::Order;

/// Keys that are asked for when the answer shall come from the cache.
pub(super) const CACHE_KEYS: u64 = 1;

/// Before the first round each server answers some requests, for caches to fill.
const WARM_SECONDS: u64 = 1;

/// Puts the objects that both kinds of get ask for.
pub(super) fn prepare(setup: &Setup<'_>, sizes: &[u64]) -> io::Result<()> {
    let node = setup.start()?;
    objects::make_bucket(node.plain, &node.credentials)?;
    for set in sizes.iter().map(|&size| Set::to_get(size)) {
        eprintln!("==> putting {} objects of {}", set.count, size_name(set.size));
        set.put(node.plain, &node.credentials)?;
    }
    node.stop()
}

/// Runs all rounds of one kind of get.
pub(super) fn run(
    lab: &Lab,
    setup: &Setup<'_>,
    work: Work,
    sizes: &[u64],
    connections: &[u32],
) -> io::Result<Vec<Outcome>> {
    let node = setup.start()?;
    let nginx = Nginx::start(lab.cpus.server, &node.identity, &lab.folder("nginx")?)?;
    eprintln!("==> {}: {}", work.name(), tls::compare(node.host(), &nginx.address.to_string())?);
    for &size in sizes {
        nginx.add_file(size)?;
    }
    let servers = Servers { node: &node, nginx: &nginx };
    let mut outcomes: Vec<Outcome> =
        cases(work, sizes, connections).map(|case| Outcome { case, rounds: Vec::new() }).collect();
    for case in cases(work, sizes, &connections[..1]) {
        servers.round(lab, case, WARM_SECONDS)?;
    }
    for round in 1..=lab.rounds {
        for outcome in &mut outcomes {
            let result = servers.round(lab, outcome.case, lab.seconds)?;
            report(round, lab.rounds, outcome.case, &result);
            outcome.rounds.push(result);
        }
    }
    drop(nginx);
    node.stop()?;
    Ok(outcomes)
}

fn cases(work: Work, sizes: &[u64], connections: &[u32]) -> impl Iterator<Item = Case> {
    sizes
        .iter()
        .flat_map(move |&size| connections.iter().map(move |&connections| Case { work, size, connections }))
}

struct Servers<'a> {
    node: &'a Node,
    nginx: &'a Nginx,
}

impl Servers<'_> {
    fn round(&self, lab: &Lab, case: Case, seconds: u64) -> io::Result<Round> {
        let nginx = self.ask_nginx(lab, case, seconds)?;
        let basalt = self.ask_basalt(lab, case, seconds)?;
        Ok(Round { basalt, nginx: Some(nginx), fio: None, hash_limit: None })
    }

    fn ask_nginx(&self, lab: &Lab, case: Case, seconds: u64) -> io::Result<Sample> {
        let heads = [self.nginx.head(case.size)];
        let host = self.nginx.address.to_string();
        let requests = || self.nginx.requests();
        let server = Server { pid: self.nginx.worker, requests: &requests };
        lab.measure(
            case,
            &Ask { host: &host, heads: &heads, body_len: 0, order: Order::Cycle, server, seconds },
        )
    }

    fn ask_basalt(&self, lab: &Lab, case: Case, seconds: u64) -> io::Result<Sample> {
        let keys = if case.work == Work::GetCache { CACHE_KEYS } else { u64::MAX };
        let heads = self.node.heads("GET", &Set::to_get(case.size).paths(keys), None);
        let requests = || self.node.requests();
        let server = Server { pid: self.node.pid, requests: &requests };
        let ask =
            Ask { host: self.node.host(), heads: &heads, body_len: 0, order: Order::Cycle, server, seconds };
        let before = self.node.counts()?;
        let mut sample = lab.measure(case, &ask)?;
        let after = self.node.counts()?;
        // Of large ones many are half read at the end, and not counted yet.
        let gets = after.gets - before.gets;
        let is_whole = !case.is_counted_in_bytes() && gets > 0.0;
        sample.device_reads = is_whole.then(|| (after.device_reads - before.device_reads) / gets);
        Ok(sample)
    }
}

fn report(round: u32, rounds: u32, case: Case, result: &Round) {
    let show = |name: &str, it: &Sample| {
        format!(
            "{name} {:.0}/s {:.2} us (cores {:.0}/{:.0} %)",
            it.requests_per_second,
            it.cpu_us,
            100.0 * it.server_core,
            100.0 * it.client_core
        )
    };
    let nginx = result.nginx.as_ref().map(|it| show("nginx", it)).unwrap_or_default();
    eprintln!("round {round}/{rounds} {case}: {nginx}, {}", show("basalt", &result.basalt));
}
