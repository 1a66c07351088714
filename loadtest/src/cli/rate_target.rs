//! `loadtest rate-target`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadtest::load::{self, Goal, RateTarget, Scenario, Sizes, Watch};
use loadtest::units::{Size, Time};

use super::server::ServerArguments;
use super::{EXIT_RATE_MISSED, EXIT_WRONG_DATA, invalid, write_file};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    /// GETs a second on each bucket
    #[arg(long, value_name = "N", default_value_t = 300.0)]
    gets: f64,
    /// PUTs a second on each bucket
    #[arg(long, value_name = "N", default_value_t = 200.0)]
    puts: f64,
    /// 99 % of the GETs, and of the PUTs, of every bucket have to be faster
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    p99: Time,
    /// Search for the largest number of buckets that holds, up to this one
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_buckets: u32,
    /// Judge this number of buckets, and search for no other
    #[arg(long, value_name = "N", conflicts_with = "max_buckets")]
    buckets: Option<u32>,
    /// Connections per bucket
    #[arg(long, value_name = "N", default_value_t = 10)]
    connections_per_bucket: u32,
    /// Flood one more bucket with this many connections in a closed loop
    #[arg(long, value_name = "N", default_value_t = 0, default_missing_value = "32", num_args = 0..=1)]
    flood: u32,
    /// Threads of the generator [default: half of the processors]
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: u32,
    /// Length of the objects
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    size: Size,
    /// Keys per bucket
    #[arg(long, value_name = "N", default_value_t = 1000)]
    keys: u64,
    /// Length of each measurement
    #[arg(long, value_name = "TIME", default_value = "10s")]
    duration: Time,
    /// Load before each measurement that isn't counted
    #[arg(long, value_name = "TIME", default_value = "2s")]
    warm_up: Time,
    /// Buckets are called this, a dash and a number
    #[arg(long, value_name = "NAME", default_value = "loadtest-rate")]
    bucket_prefix: String,
    /// Repeats the choice of keys and times
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the report to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

pub fn run(arguments: Arguments) -> io::Result<ExitCode> {
    let rates = RateTarget {
        gets: arguments.gets,
        puts: arguments.puts,
        p99_max: arguments.p99.0,
        goal: arguments.buckets.map_or(Goal::Most(arguments.max_buckets), Goal::Exactly),
        connections_per_bucket: arguments.connections_per_bucket,
        flood_connections: arguments.flood,
    };
    let scenario = Scenario {
        threads: arguments.threads,
        size: Sizes::Fixed(arguments.size),
        keys: arguments.keys,
        duration: arguments.duration,
        warm_up: arguments.warm_up,
        bucket_prefix: arguments.bucket_prefix,
        seed: arguments.seed,
        timeout: Time(Duration::from_secs(10)),
        ..Scenario::default()
    };
    let mut watch = if arguments.quiet { Watch::silent() } else { Watch::on_stderr() };
    let report = load::search(&arguments.server.target()?, &rates, &scenario, &mut watch)
        .map_err(|error| invalid(error.to_string()))?;
    write!(io::stdout(), "{report}")?;
    if let Some(path) = &arguments.json {
        write_file(path, (report.to_json() + "\n").as_bytes())?;
    }
    Ok(match (report.verification_failures(), report.buckets_held) {
        (1.., _) => ExitCode::from(EXIT_WRONG_DATA),
        (0, 0) => ExitCode::from(EXIT_RATE_MISSED),
        (0, _) => ExitCode::SUCCESS,
    })
}
