//! The command line of the load generator and the crash tester.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand, ValueEnum};
use loadtest::body::HEADER_LEN;
use loadtest::s3::{Credentials, Endpoint, Trust};
use loadtest::{crash, load};

/// Puts load on an S3 endpoint, or kills a node again and again, and verifies every byte it reads.
#[derive(Parser)]
#[command(name = "loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Closed-loop load on any S3 endpoint
    Run(RunArguments),
    /// Rounds of load, kill -9, restart and verification on a node of our own
    Crash(CrashArguments),
}

#[derive(Args)]
struct RunArguments {
    /// Like https://127.0.0.1:9000
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Access key; with --secret-key
    #[arg(long, value_name = "KEY", requires = "secret_key", required_unless_present = "credentials")]
    access_key: Option<String>,
    /// Secret of the access key
    #[arg(long, value_name = "SECRET", requires = "access_key")]
    secret_key: Option<String>,
    /// Read both from this file in the AWS shared-credentials format
    #[arg(long, value_name = "FILE", conflicts_with = "access_key")]
    credentials: Option<PathBuf>,
    /// The profile in that file
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,
    /// Region of the signature
    #[arg(long, value_name = "NAME", default_value = "us-east-1")]
    region: String,
    /// Trust the certificate authorities in this PEM file [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Made when it does not exist; objects in it stay
    #[arg(long, value_name = "NAME")]
    bucket: String,
    /// What to ask for
    #[arg(long, value_enum)]
    operation: OperationName,
    /// Length of every object, like 4096, 64KiB or 1MiB
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    size: Size,
    /// Connections, each with one request in flight
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=4096))]
    threads: u64,
    /// Keys in use
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// End after this time, like 30s, 500ms or 2m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// End after so many operations
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    count: Option<u64>,
    /// Decides the choice of keys and the content of bodies [default: from the clock, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Write the report to this file as JSON as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct CrashArguments {
    /// The basalt-node binary
    #[arg(long, value_name = "BINARY")]
    node: PathBuf,
    /// The basalt binary: checks the store after each kill
    #[arg(long, value_name = "BINARY")]
    basalt: Option<PathBuf>,
    /// How often to kill it
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,
    /// Decides what is asked and when the kill comes [default: from the clock, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Empty or absent directory for the data; removed after a clean run [default: target/crash-SEED]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration of the node [default: two device files of 4 GiB]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bytes of small objects to write in the whole run; a log that is not compacted keeps them all
    #[arg(long, value_name = "SIZE", default_value = "500MiB")]
    small: Size,
    /// Bytes of large objects and parts to write in the whole run
    #[arg(long, value_name = "SIZE", default_value = "2500MiB")]
    large: Size,
    /// Keep the data directory after a clean run too
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum OperationName {
    Get,
    Put,
    Mixed,
}

/// Bytes, as people write them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            unit => return Err(format!("the unit {unit:?} is none of B, KiB, MiB, GiB")),
        };
        let count: u64 = digits.parse().map_err(|_| format!("{text:?} is not a size like 64KiB"))?;
        count.checked_mul(1 << shift).map(Size).ok_or_else(|| format!("{text:?} is too large"))
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().map_err(|_| format!("{text:?} is not a time like 30s"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(60 * count)),
        unit => Err(format!("the unit {unit:?} is none of ms, s, m")),
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Crash(arguments) => run_crash(arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("loadtest: {error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: RunArguments) -> io::Result<ExitCode> {
    let plan = load_plan(&arguments)?;
    let report = load::run(&plan, &mut io::stderr()).map_err(io::Error::other)?;
    write!(io::stdout(), "{report}")?;
    if let Some(path) = arguments.json {
        fs::write(&path, report.to_json() + "\n").map_err(|error| at(&path, error))?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn load_plan(arguments: &RunArguments) -> io::Result<load::Plan> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    if arguments.size.0 < HEADER_LEN as u64 {
        return Err(invalid(format!(
            "--size: a body that says what it is takes {HEADER_LEN} bytes at least"
        )));
    }
    if arguments.keys < arguments.threads {
        return Err(invalid("--keys: each thread needs a key of its own".into()));
    }
    let trust = match (&arguments.ca, arguments.insecure) {
        (Some(path), _) => Trust::File(path),
        (None, true) => Trust::Anyone,
        (None, false) => Trust::System,
    };
    let credentials = match (&arguments.credentials, &arguments.access_key, &arguments.secret_key) {
        (Some(path), ..) => Credentials::read(path, &arguments.profile)?,
        (None, Some(access_key), Some(secret_key)) => {
            Credentials { access_key: access_key.clone(), secret_key: secret_key.clone() }
        }
        _ => return Err(invalid("give --credentials FILE, or --access-key and --secret-key".into())),
    };
    Ok(load::Plan {
        endpoint: Endpoint::new(&arguments.endpoint, trust)?,
        credentials,
        region: arguments.region.clone(),
        bucket: arguments.bucket.clone(),
        operation: match arguments.operation {
            OperationName::Get => load::Operation::Get,
            OperationName::Put => load::Operation::Put,
            OperationName::Mixed => load::Operation::Mixed,
        },
        object_len: arguments.size.0,
        thread_count: arguments.threads,
        key_count: arguments.keys,
        limit: match arguments.count {
            Some(count) => load::Limit::Count(count),
            None => load::Limit::Duration(arguments.duration.unwrap_or(Duration::from_secs(10))),
        },
        seed: arguments.seed.unwrap_or_else(seed_from_clock),
    })
}

fn run_crash(arguments: CrashArguments) -> io::Result<ExitCode> {
    let seed = arguments.seed.unwrap_or_else(seed_from_clock);
    let default_dir = || PathBuf::from(format!("target/crash-{seed}"));
    let plan = crash::Plan {
        binary: arguments.node,
        basalt: arguments.basalt,
        rounds: arguments.rounds,
        seed,
        dir: arguments.data_dir.unwrap_or_else(default_dir),
        config: arguments.config,
        small_bytes_max: per_round(arguments.small, arguments.rounds),
        large_bytes_max: per_round(arguments.large, arguments.rounds),
    };
    let mut out = io::stdout();
    writeln!(out, "seed {seed}, data in {}", plan.dir.display())?;
    let kept = format!("seed {seed}; the data is kept in {}", plan.dir.display());
    let report = crash::run(&plan, &mut out)
        .map_err(|error| io::Error::new(error.kind(), format!("{error}\n{kept}")))?;
    write!(out, "{report}")?;
    if !report.is_clean() {
        writeln!(out, "FAILED: {kept}")?;
        return Ok(ExitCode::FAILURE);
    }
    if !arguments.keep {
        fs::remove_dir_all(&plan.dir).map_err(|error| at(&plan.dir, error))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A round's part of what the run may write, enough in any case to have something to kill.
fn per_round(total: Size, rounds: u32) -> u64 {
    (total.0 / u64::from(rounds.max(1))).clamp(1 << 20, 256 << 20)
}

fn at(path: &std::path::Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn seed_from_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("40".parse(), Ok(Size(40)));
        assert!("1kB".parse::<Size>().is_err() && "x".parse::<Size>().is_err());
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("2").is_err());
    }

    #[test]
    fn a_run_needs_credentials_in_one_of_the_two_ways() {
        let parse = |more: &[&str]| {
            let fixed = ["loadtest", "run", "--endpoint", "http://h", "--bucket", "b", "--operation", "get"];
            Arguments::try_parse_from(fixed.iter().chain(more))
        };
        assert!(parse(&[]).is_err());
        assert!(parse(&["--access-key", "a"]).is_err());
        assert!(parse(&["--access-key", "a", "--secret-key", "s"]).is_ok());
        assert!(parse(&["--credentials", "f"]).is_ok());
    }
}
