//! Performance: Basalt beside nginx and fio, on this machine, in one go.
//!
//! Every case is measured in rounds, and in each round Basalt and what it is compared with run right after each other; the
//! tables show medians and how far the rounds lie apart. docs/performance.md says what is measured, and how to read it.

mod cpu;
mod fio;
mod get;
mod hash;
mod lab;
mod nginx;
mod node;
mod objects;
mod outcome;
mod plain;
pub mod profile;
mod program;
mod put;
mod rate;
mod sign;
mod spread;
mod table;
mod target;
mod tls;
mod window;
mod wrk;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::step::{self, Failure};
use crate::workspace;
use cpu::Cpus;
use lab::Lab;
use node::Setup;
use outcome::{Outcome, Work};

/// Options of `cargo xtask perf`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Rounds of every case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of one run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Sizes of the objects to get
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "4K,64K,1M,16M", value_parser = parse_size)]
    sizes: Vec<u64>,
    /// Connections of gets
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "64,256", value_parser = clap::value_parser!(u32).range(1..=4000))]
    connections: Vec<u32>,
    /// Only these scenarios
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Write every figure of every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure this node instead of building one
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Where the data goes, and with it which disk is measured [default: target/perf]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Size of the node's device file
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = parse_size)]
    device_size: u64,
    /// CPU of the server
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the client
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    client_cpu: usize,
    /// A setting of the node in all scenarios, like 'store.inline_max = "8KiB"'
    #[arg(long, value_name = "TOML")]
    setting: Vec<String>,
    /// A setting of the node for get-cache
    #[arg(long, value_name = "TOML")]
    cache_setting: Vec<String>,
    /// A setting of the node for get-device
    #[arg(long, value_name = "TOML")]
    device_setting: Vec<String>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One object again and again, beside nginx
    GetCache,
    /// More objects than are kept in memory, beside nginx
    GetDevice,
    /// 4 KiB, 256 connections, beside fio
    PutSmall,
    /// 16 MiB, 8 connections, beside fio and the hash limit
    PutLarge,
    /// Ten buckets at their rate beside one that floods, and how many would hold
    Rate,
}

impl Options {
    fn wants(&self, scenario: Scenario) -> bool {
        self.only.is_empty() || self.only.contains(&scenario)
    }

    fn check(&self) -> io::Result<()> {
        if self.sizes.is_empty() || self.connections.is_empty() {
            return Err(io::Error::other("--sizes and --connections name one at least"));
        }
        if self.server_cpu == self.client_cpu {
            return Err(io::Error::other("server and client need a CPU each: --server-cpu and --client-cpu"));
        }
        let mut programs = vec!["taskset", "setpriv", "kill", "wrk"];
        if self.wants(Scenario::GetCache) || self.wants(Scenario::GetDevice) {
            programs.extend(["nginx", "openssl"]);
        }
        if self.wants(Scenario::PutSmall) || self.wants(Scenario::PutLarge) {
            programs.push("fio");
        }
        program::require(&programs)
    }
}

/// Measures, and prints the tables.
pub fn run(options: &Options) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("perf", error);
    options.check().map_err(failed)?;
    let binary = build(options)?;
    let home = options.dir.clone().unwrap_or_else(|| workspace::target().join("perf"));
    let cpus = Cpus { server: options.server_cpu, client: options.client_cpu };
    let lab = Lab::open(&home, |work| {
        Lab::new(work, cpus, options.rounds, options.seconds, binary, options.device_size)
    })
    .map_err(failed)?;
    let outcomes = measure(&lab, options).map_err(failed)?;
    eprint!("\n{}", machine());
    if !outcomes.is_empty() {
        eprint!("{}", table::render(&outcomes));
    }
    if let Some(file) = &options.json {
        let all: Vec<_> = outcomes.iter().map(Outcome::to_json).collect();
        let text = json!({ "machine": machine(), "seconds": options.seconds, "cases": all }).to_string();
        fs::write(file, text).map_err(failed)?;
    }
    if options.wants(Scenario::Rate) {
        rate::run(&lab, &options.setting).map_err(failed)?;
    }
    Ok(())
}

/// Builds what is to be measured and what measures it, and says where the node is.
fn build(options: &Options) -> Result<PathBuf, Failure> {
    let loadtest: &[&str] = if options.wants(Scenario::Rate) { &["loadtest"] } else { &[] };
    match &options.node {
        Some(file) if loadtest.is_empty() => Ok(file.clone()),
        Some(file) => build_packages(loadtest).map(|()| file.clone()),
        None => build_node(loadtest),
    }
}

/// Builds the node, and other packages with it, and says where it is.
fn build_node(with: &[&str]) -> Result<PathBuf, Failure> {
    build_packages(&[&["node"], with].concat())?;
    Ok(workspace::binary("release", "basalt-node"))
}

fn build_packages(names: &[&str]) -> Result<(), Failure> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--bins"]);
    build.args(names.iter().flat_map(|name| ["--package", name]));
    step::run("build", &mut build)
}

fn measure(lab: &Lab, options: &Options) -> io::Result<Vec<Outcome>> {
    let store = lab.folder("store")?;
    let all_and = |more: &[String]| [&options.setting, more].concat();
    let fio_file = lab.folder("fio")?.join("file");
    if options.wants(Scenario::PutSmall) || options.wants(Scenario::PutLarge) {
        eprintln!("==> writing the files of the node and of fio once, as blocks of a device are written");
        fio::prepare(&setup(lab, &store, &[]).device(), lab.cpus.server, lab.device_size)?;
        fio::prepare(&fio_file, lab.cpus.server, fio::FILE_SIZE)?;
    }
    if options.wants(Scenario::GetCache) || options.wants(Scenario::GetDevice) {
        get::prepare(&setup(lab, &store, &options.setting), &options.sizes)?;
    }
    let mut outcomes = Vec::new();
    if options.wants(Scenario::GetCache) {
        let settings = all_and(&options.cache_setting);
        outcomes.extend(get::run(
            lab,
            &setup(lab, &store, &settings),
            Work::GetCache,
            &options.sizes,
            &options.connections,
        )?);
    }
    if options.wants(Scenario::GetDevice) {
        let settings = all_and(&options.device_setting);
        outcomes.extend(get::run(
            lab,
            &setup(lab, &store, &settings),
            Work::GetDevice,
            &options.sizes,
            &options.connections,
        )?);
    }
    for (scenario, work) in [(Scenario::PutSmall, Work::PutSmall), (Scenario::PutLarge, Work::PutLarge)] {
        if options.wants(scenario) {
            outcomes.push(put::run(lab, &setup(lab, &store, &options.setting), work, &fio_file)?);
        }
    }
    Ok(outcomes)
}

fn setup<'a>(lab: &'a Lab, folder: &'a Path, settings: &'a [String]) -> Setup<'a> {
    Setup { binary: &lab.binary, cpu: lab.cpus.server, folder, device_size: lab.device_size, settings }
}

/// What the figures were measured on, for whoever reads them later.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown CPU", |(_, name)| name.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{model}, {} CPUs, Linux {}; {}; {}; {}\n",
        std::thread::available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        program::version("nginx", "-v"),
        program::version("wrk", "-v"),
        program::version("fio", "--version"),
    )
}

/// `4K`, `1M`, `8G`
fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text} is not a size like 4K, 1M or 8G");
    let shift = match text.chars().last() {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    let size = number.checked_mul(1 << shift).filter(|&size| size > 0 && size <= 1 << 40);
    size.ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse_size("4K"), Ok(4096));
        assert_eq!(parse_size("16M"), Ok(16 << 20));
        assert_eq!(parse_size("8G"), Ok(8 << 30));
        for bad in ["", "K", "4", "0K", "4k", "4KiB", "99999999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
