//! Simulated lives of the engine. The simulator is an example of the engine's, built with a feature that no node has.

use std::thread;

use clap::Args;

use crate::step::{self, Failure};
use crate::workspace;

/// How `cargo xtask sim` is called.
#[derive(Args)]
pub struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, value_parser = parse_seed)]
    start: u64,
    /// Replays that seed alone and tells what came of it; with SIM_TRACE=1 set, everything that happened
    #[arg(long, value_parser = parse_seed, conflicts_with_all = ["seeds", "start", "bugs", "bug"])]
    seed: Option<u64>,
    /// Plants each known bug in the engine, and fails when one is not caught
    #[arg(long, conflicts_with = "seeds")]
    bugs: bool,
    /// Plants that bug alone; a name that does not exist tells those that do
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seeds", "bugs", "jobs"])]
    bug: Option<String>,
    /// Threads; as many as there are cores, if not said
    #[arg(long)]
    jobs: Option<usize>,
}

/// Seeds in which a planted bug must be caught.
const BUG_SEEDS: u64 = 400;

/// Builds and runs the simulator.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "--profile", "sim", "--package", "engine"]);
    command.args(["--features", "sim", "--example", "sim", "--"]).args(words(options));
    step::run("sim", &mut command)
}

fn words(options: &Options) -> Vec<String> {
    if let Some(seed) = options.seed {
        return vec!["seed".to_owned(), seed.to_string()];
    }
    if let Some(name) = &options.bug {
        return vec!["bug".to_owned(), name.clone(), options.start.to_string(), BUG_SEEDS.to_string()];
    }
    let jobs = options.jobs.or(thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let (verb, count) = if options.bugs { ("bugs", BUG_SEEDS) } else { ("seeds", options.seeds) };
    vec![verb.to_owned(), options.start.to_string(), count.to_string(), jobs.to_string()]
}

/// A seed as it is printed, in decimal or hexadecimal.
fn parse_seed(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn words_of(line: &[&str]) -> Vec<String> {
        let line = std::iter::once(&"sim").chain(line);
        words(&Line::try_parse_from(line).expect("a valid line").options)
    }

    #[test]
    fn a_seed_is_replayed_as_it_was_printed() {
        assert_eq!(words_of(&["--seed", "0x1f"]), ["seed", "31"]);
    }

    #[test]
    fn seeds_and_bugs_begin_where_they_are_told() {
        assert_eq!(words_of(&["--seeds", "5", "--start", "7", "--jobs", "2"]), ["seeds", "7", "5", "2"]);
        assert_eq!(words_of(&["--bugs", "--jobs", "1"]), ["bugs", "0", "400", "1"]);
        assert_eq!(words_of(&["--bug", "HealSkipped"]), ["bug", "HealSkipped", "0", "400"]);
    }
}
