//! `loadtest run` and `loadtest scenarios`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use loadtest::load::{self, Report, Scenario, Sizes, Watch};
use loadtest::units::{Size, Time};

use super::server::ServerArguments;
use super::{EXIT_WRONG_DATA, invalid, write_file};

const BUILT_IN: [(&str, &str); 9] = [
    ("get-4k", include_str!("../../scenarios/get-4k.toml")),
    ("head", include_str!("../../scenarios/head.toml")),
    ("put-4k", include_str!("../../scenarios/put-4k.toml")),
    ("large", include_str!("../../scenarios/large.toml")),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
    ("open-loop", include_str!("../../scenarios/open-loop.toml")),
    ("list", include_str!("../../scenarios/list.toml")),
    ("multipart", include_str!("../../scenarios/multipart.toml")),
    ("delete", include_str!("../../scenarios/delete.toml")),
];

#[derive(Args)]
pub struct Arguments {
    /// A TOML file, or the name of a scenario that is built in
    scenario: String,
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    changes: Changes,
    /// Write the report to this file as JSON, for `loadtest compare`
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    json: Option<PathBuf>,
    /// Write a log of HdrHistogram, one line per interval and operation
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    hdr: Option<PathBuf>,
    /// Write one page with plots that needs no other file
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    html: Option<PathBuf>,
    /// Show no progress
    #[arg(long, help_heading = "Reports")]
    quiet: bool,
}

/// What is said here wins over the scenario.
#[derive(Args)]
#[command(next_help_heading = "Changes to the scenario")]
struct Changes {
    /// Requests in flight at most
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Threads that drive them
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Operations a second, in an open loop
    #[arg(long, value_name = "N", conflicts_with = "closed_loop")]
    rate: Option<f64>,
    /// No rate: as fast as the connections get answers
    #[arg(long)]
    closed_loop: bool,
    /// Length of a measurement, like 30s or 2m
    #[arg(long, value_name = "TIME")]
    duration: Option<Time>,
    /// Load before it that isn't counted
    #[arg(long, value_name = "TIME")]
    warm_up: Option<Time>,
    /// Measurements; five tell differences from noise
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Operations of a measurement at most
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Length of every object
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,
    /// Keys per bucket
    #[arg(long, value_name = "N")]
    keys: Option<u64>,
    /// How many buckets
    #[arg(long, value_name = "N")]
    buckets: Option<u32>,
    /// Buckets are called this, a dash and a number
    #[arg(long, value_name = "NAME")]
    bucket_prefix: Option<String>,
    /// The part of bodies that is compared byte by byte, 0 to 1
    #[arg(long, value_name = "RATIO")]
    verify: Option<f64>,
    /// Do not store objects first: they are there from an earlier run
    #[arg(long)]
    no_prepare: bool,
    /// Repeats the choice of keys and the content of bodies [default: from the clock, and reported]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Args)]
pub struct ScenariosArguments {
    /// Print this one
    name: Option<String>,
}

impl Changes {
    fn apply(&self, scenario: &mut Scenario) {
        fn set<T: Clone>(slot: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                slot.clone_from(value);
            }
        }
        set(&mut scenario.connections, self.connections.as_ref());
        set(&mut scenario.threads, self.threads.as_ref());
        set(&mut scenario.duration, self.duration.as_ref());
        set(&mut scenario.warm_up, self.warm_up.as_ref());
        set(&mut scenario.rounds, self.rounds.as_ref());
        set(&mut scenario.keys, self.keys.as_ref());
        set(&mut scenario.buckets, self.buckets.as_ref());
        set(&mut scenario.bucket_prefix, self.bucket_prefix.as_ref());
        set(&mut scenario.verify, self.verify.as_ref());
        set(&mut scenario.size, self.size.map(Sizes::Fixed).as_ref());
        scenario.rate = if self.closed_loop { None } else { self.rate.or(scenario.rate) };
        scenario.count = self.count.or(scenario.count);
        scenario.seed = self.seed.or(scenario.seed);
        if self.no_prepare {
            scenario.prepare = Some(load::Prepare::None);
        }
    }
}

pub fn run(arguments: Arguments) -> io::Result<ExitCode> {
    let (name, mut scenario) = find(&arguments.scenario)?;
    arguments.changes.apply(&mut scenario);
    let mut watch = if arguments.quiet { Watch::silent() } else { Watch::on_stderr() };
    let report = load::run(&arguments.server.target()?, &name, &scenario, &mut watch)
        .map_err(|error| invalid(error.to_string()))?;
    write!(io::stdout(), "{report}")?;
    if let Some(path) = &arguments.json {
        write_file(path, (report.to_json() + "\n").as_bytes())?;
    }
    if let Some(path) = &arguments.hdr {
        write_file(path, &report.hdr_log)?;
    }
    if let Some(path) = &arguments.html {
        write_file(path, report.to_html().as_bytes())?;
    }
    Ok(exit_code(&report))
}

fn exit_code(report: &Report) -> ExitCode {
    if report.verification_failures > 0 {
        return ExitCode::from(EXIT_WRONG_DATA);
    }
    if report.failed() > 0 || report.aborted.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A name without a dot and a slash is built in; all else is a file.
fn find(name: &str) -> io::Result<(String, Scenario)> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok((name.to_owned(), Scenario::parse(text).map_err(invalid)?));
    }
    let path = Path::new(name);
    if !path.exists() {
        let known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
        return Err(invalid(format!("{name} is no file, and none of those built in: {}", known.join(", "))));
    }
    let stem = path.file_stem().map_or(name.into(), |stem| stem.to_string_lossy().into_owned());
    Ok((stem, Scenario::read(path).map_err(invalid)?))
}

pub fn show(arguments: &ScenariosArguments) -> io::Result<ExitCode> {
    let mut out = io::stdout();
    match &arguments.name {
        Some(name) => {
            let found = BUILT_IN.iter().find(|(known, _)| known == name);
            let (_, text) =
                found.ok_or_else(|| invalid(format!("{name} is not built in: see loadtest scenarios")))?;
            out.write_all(text.as_bytes())?;
        }
        None => {
            for (name, text) in BUILT_IN {
                writeln!(out, "{name:12} {}", Scenario::parse(text).map_err(invalid)?.about.trim())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_is_built_in_can_be_run_and_says_what_it_is_for() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(scenario.check(), Ok(()), "{name}");
            assert!(!scenario.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_scenario_in_the_folder_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let count = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(count, BUILT_IN.len());
    }
}
