//! `loadtest crash`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use loadtest::crash;
use loadtest::units::Size;

use super::at;

#[derive(clap::Args)]
pub struct Arguments {
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
    /// Configuration of the node [default: two device files of 1 GiB]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bytes of small objects to write in the whole run
    #[arg(long, value_name = "SIZE", default_value = "500MiB")]
    small: Size,
    /// Bytes of large objects and parts to write in the whole run
    #[arg(long, value_name = "SIZE", default_value = "2500MiB")]
    large: Size,
    /// Keep the data directory after a clean run too
    #[arg(long)]
    keep: bool,
}

pub fn run(arguments: Arguments) -> io::Result<ExitCode> {
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
        fs::remove_dir_all(&plan.dir).map_err(|error| at(&plan.dir, &error))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A round's part of what the run may write, enough in any case to have something to kill.
fn per_round(total: Size, rounds: u32) -> u64 {
    (total.0 / u64::from(rounds.max(1))).clamp(1 << 20, 256 << 20)
}

fn seed_from_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}
