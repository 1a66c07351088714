//! The loops that a node spends its time in, on the runtimes that it could be built on: direct reads, direct appends with flushes, and requests over TCP.
//!
//! Each contender runs in a process of its own, pinned to one core, in rounds that take turns. What counts is processor time per operation of that process;
//! rates depend on the disk and on the client as well. See README.md.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod client;
mod contender;
mod load;
mod meter;
mod ring;
mod rounds;
mod table;

use contender::Contender;
use load::{Bench, Load};
use meter::Meter;
use rounds::{Runner, Scratch};
use table::Outcome;

/// Time between the first operation and the window, at most.
const WARM_UP_MAX: Duration = Duration::from_millis(300);

/// The same loops on several runtimes, side by side
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    step: Option<Step>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// Rounds; each contender runs once in each
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Folder for the file that is read and written, on a file system with O_DIRECT
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Size of that file, in MiB
    #[arg(long, default_value_t = 1024)]
    file_mib: u64,
    /// Only these contenders
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contender>,
    /// Only these loads
    #[arg(long, value_delimiter = ',')]
    load: Vec<Load>,
    /// The processor of the measured process
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// The processor of the client of the TCP load
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
}

#[derive(Subcommand)]
enum Step {
    /// Measures one contender once, in this process
    #[command(hide = true)]
    Measure {
        contender: Contender,
        load: Load,
        #[arg(long)]
        file: PathBuf,
        #[arg(long)]
        seconds: f64,
        #[arg(long)]
        cpu: usize,
    },
}

fn main() -> ExitCode {
    let Arguments { step, options } = Arguments::parse();
    match step {
        Some(Step::Measure { contender, load, file, seconds, cpu }) => {
            rounds::pin(cpu).expect("a processor of this machine");
            let len = std::fs::metadata(&file).expect("the file was made for this").len();
            let window = Duration::from_secs_f64(seconds);
            let meter = Meter::new(WARM_UP_MAX.min(window), window);
            contender.run(load, Bench::new(file, len, meter));
            unreachable!("the meter ends the process")
        }
        None => compare(&options),
    }
}

fn compare(options: &Options) -> ExitCode {
    let scratch = match Scratch::create(&options.dir, options.file_mib << 20) {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("no file for direct I/O in {}: {error}", options.dir.display());
            return ExitCode::FAILURE;
        }
    };
    let runner = Runner {
        file: scratch.path().to_owned(),
        seconds: options.seconds,
        cpu: options.cpu,
        client_cpu: options.client_cpu,
    };
    println!("{} rounds of {} s, medians (least..greatest)\n", options.rounds, options.seconds);
    for load in chosen(&options.load) {
        println!("{}", table::render(load, &measure(&runner, load, options)));
    }
    ExitCode::SUCCESS
}

fn measure(runner: &Runner, load: Load, options: &Options) -> Vec<(Contender, Outcome)> {
    let contenders = chosen(&options.only).into_iter();
    let mut outcomes: Vec<_> =
        contenders.map(|contender| (contender, Outcome::Measured(Vec::new()))).collect();
    for _ in 0..options.rounds {
        for (contender, outcome) in &mut outcomes {
            let Outcome::Measured(samples) = outcome else { continue };
            match runner.sample(*contender, load) {
                Ok(sample) => samples.push(sample),
                Err(why) => *outcome = Outcome::Failed(why),
            }
        }
    }
    outcomes
}

/// Those that were named, or all.
fn chosen<T: ValueEnum + Clone>(named: &[T]) -> Vec<T> {
    if named.is_empty() { T::value_variants().to_vec() } else { named.to_vec() }
}
