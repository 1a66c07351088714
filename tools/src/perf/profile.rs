//! Where the node's time goes under one of the loads: `perf record` on its process, drawn as a flame graph, and a table.
//!
//! Stacks are unwound by DWARF tables, since release builds keep no frame pointers; calls that the compiler has inlined are
//! part of their caller.

mod stacks;

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;

use super::cpu::Cpus;
use super::lab::{Ask, Lab};
use super::node::{Node, Setup};
use super::objects::{self, Set};
use super::outcome::{Case, Sample, Work};
use super::window::{self, Server};
use super::wrk::Order;
use super::{fio, get, parse_size, program, put};
use crate::step::Failure;
use crate::workspace;

/// Samples in a second: not a divisor of what the node does regularly.
const FREQUENCY: &str = "499";

/// Bytes of the stack that are kept for unwinding; what is deeper is cut off.
const CALL_GRAPH: &str = "dwarf,16384";

/// The load runs that long before sampling starts, as it does before it is measured.
const WARM: Duration = window::OPENS;

const GRACE: Duration = Duration::from_secs(60);

/// Sorting out samples takes its time.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(600);

/// Lines of the table.
const TOP: usize = 30;

/// Options of `cargo xtask profile`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The load
    #[arg(value_enum, default_value = "get-device")]
    scenario: Scenario,
    /// Size of the objects to get
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = parse_size)]
    size: u64,
    /// Connections of gets
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4000))]
    connections: u32,
    /// Seconds to sample
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Where the flame graph goes [default: target/profile/flame.svg]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Profile this node instead of building one
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Where the data goes [default: target/profile]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Size of the node's device file
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_size)]
    device_size: u64,
    /// CPU of the node
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the client
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    client_cpu: usize,
    /// A setting of the node, like 'store.inline_max = "8KiB"'
    #[arg(long, value_name = "TOML")]
    setting: Vec<String>,
}

/// What the node does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One object again and again
    GetCache,
    /// More objects than are kept in memory
    GetDevice,
    /// 4 KiB, 256 connections
    PutSmall,
    /// 16 MiB, 8 connections
    PutLarge,
}

impl Options {
    fn case(&self) -> Case {
        let get = |work| Case { work, size: self.size, connections: self.connections };
        match self.scenario {
            Scenario::GetCache => get(Work::GetCache),
            Scenario::GetDevice => get(Work::GetDevice),
            Scenario::PutSmall => put::SMALL,
            Scenario::PutLarge => put::LARGE,
        }
    }
}

/// Runs the load, samples the node, and writes the flame graph and the table.
pub fn run(options: &Options) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("profile", error);
    check_programs(options).map_err(failed)?;
    let binary = options.node.clone().map_or_else(|| super::build_node(&[]), Ok)?;
    let home = options.dir.clone().unwrap_or_else(|| workspace::target().join("profile"));
    let out = options.out.clone().unwrap_or_else(|| workspace::target().join("profile/flame.svg"));
    let cpus = Cpus { server: options.server_cpu, client: options.client_cpu };
    let lab = Lab::open(&home, |work| Lab::new(work, cpus, 1, options.seconds, binary, options.device_size))
        .map_err(failed)?;
    let (sample, data) = record(&lab, options).map_err(failed)?;
    let folded = fold(&data).map_err(failed)?;
    let title = format!("basalt-node, {}", options.case());
    draw(&folded, &title, &out).map_err(failed)?;
    eprint!("\n{}", stacks::render(&folded, TOP));
    eprintln!(
        "\nwhile sampled: {:.0} requests/s, {:.1} us of CPU each (sampling included)\n==> {}",
        sample.requests_per_second,
        sample.cpu_us,
        out.display()
    );
    Ok(())
}

/// Also whether this user may sample: the kernel says so only when asked.
fn check_programs(options: &Options) -> io::Result<()> {
    program::require(&["taskset", "setpriv", "kill", "wrk", "perf"])?;
    if !options.case().work.is_get() {
        program::require(&["fio"])?;
    }
    let mut probe = Command::new("perf");
    probe.args(["record", "--quiet", "--output", "/dev/null", "--", "true"]);
    let output = probe.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "perf may not record here; run as root, or set the sysctl kernel.perf_event_paranoid to 1 or less. It says:\n{}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// Samples the node under load, into a file.
fn record(lab: &Lab, options: &Options) -> io::Result<(Sample, PathBuf)> {
    let folder = lab.folder("store")?;
    let setup = Setup {
        binary: &lab.binary,
        cpu: lab.cpus.server,
        folder: &folder,
        device_size: lab.device_size,
        settings: &options.setting,
    };
    let case = options.case();
    if case.work.is_get() {
        get::prepare(&setup, &[case.size])?;
    } else {
        fio::prepare(&setup.device(), lab.cpus.server, lab.device_size)?;
    }
    let node = setup.start()?;
    objects::make_bucket(node.plain, &node.credentials)?;
    let data = lab.folder("perf")?.join("perf.data");
    let sample = thread::scope(|scope| {
        let load = scope.spawn(|| put_load(lab, case, &node, options.seconds));
        thread::sleep(WARM);
        let recorded = run_perf(&node, &data, options.seconds);
        let sample = load.join().expect("the load does not panic");
        recorded.and(sample)
    })?;
    node.stop()?;
    Ok((sample, data))
}

fn put_load(lab: &Lab, case: Case, node: &Node, seconds: u64) -> io::Result<Sample> {
    let (paths, method, order) = match case.work {
        Work::GetCache => (Set::to_get(case.size).paths(get::CACHE_KEYS), "GET", Order::Cycle),
        Work::GetDevice => (Set::to_get(case.size).paths(u64::MAX), "GET", Order::Cycle),
        Work::PutSmall | Work::PutLarge => (put::set(case).paths(u64::MAX), "PUT", put::order(case)),
    };
    let body_len = if case.work.is_get() { 0 } else { case.size as usize };
    let heads = node.heads(method, &paths, (body_len > 0).then_some(body_len));
    let requests = || node.requests();
    let server = Server { pid: node.pid, requests: &requests };
    lab.measure(case, &Ask { host: node.host(), heads: &heads, body_len, order, server, seconds })
}

fn run_perf(node: &Node, data: &Path, seconds: u64) -> io::Result<()> {
    let mut command = Command::new("perf");
    command.args(["record", "--quiet", "--call-graph", CALL_GRAPH, "--freq", FREQUENCY, "--output"]);
    command.arg(data).args(["--pid", &node.pid.to_string(), "--", "sleep", &seconds.to_string()]);
    program::run(&mut command, Duration::from_secs(seconds) + GRACE).map(|_| ())
}

/// One line for each stack that was seen, with the number of times.
fn fold(data: &Path) -> io::Result<String> {
    let text = data.with_extension("txt");
    let mut command = Command::new("perf");
    // Inlined calls would be asked of addr2line, one process and seconds for each address.
    // Without the period among the fields each sample counts as one.
    command
        .args(["script", "--no-inline", "--fields", "comm,pid,tid,time,event,ip,sym,dso", "--input"])
        .arg(data);
    let output = program::run(&mut command, SCRIPT_TIME_MAX)?;
    fs::write(&text, output)?;
    let mut folded = Vec::new();
    Folder::default().collapse(BufReader::new(File::open(&text)?), &mut folded)?;
    Ok(String::from_utf8_lossy(&folded).into_owned())
}

fn draw(folded: &str, title: &str, out: &Path) -> io::Result<()> {
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = flamegraph::Options::default();
    title.clone_into(&mut options.title);
    flamegraph::from_lines(&mut options, folded.lines(), File::create(out)?)
}
