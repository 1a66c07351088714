//! The command line of the load generator and the crash tester.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Puts load on an S3 endpoint and tells what it saw, or kills a node again and again; verifies every byte it reads.
///
/// Exit status: 0 all is well; 1 requests failed (503 SlowDown does not count) or the run could not be made; 2 a mistake
/// on the command line; 3 the server gave wrong data; 4 the buckets do not hold their rate (in a search: not even one does).
#[derive(Parser)]
#[command(name = "loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario: a file, or one of those built in (see `loadtest scenarios`)
    Run(Box<cli::run::Arguments>),
    /// List the scenarios that are built in, or print one to start your own from
    Scenarios(cli::run::ScenariosArguments),
    /// Ratios of two reports (--json), and which of them are more than noise
    Compare(cli::compare::Arguments),
    /// How many buckets can count on a rate, optionally beside one that is flooded
    RateTarget(Box<cli::rate_target::Arguments>),
    /// Rounds of load, kill -9, restart and verification on a node of our own
    Crash(cli::crash::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => cli::run::run(*arguments),
        Command::Scenarios(arguments) => cli::run::show(&arguments),
        Command::Compare(arguments) => cli::compare::run(&arguments),
        Command::RateTarget(arguments) => cli::rate_target::run(*arguments),
        Command::Crash(arguments) => cli::crash::run(arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("loadtest: {error}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_run_needs_credentials_in_one_of_the_two_ways() {
        let parse = |more: &[&str]| {
            let fixed = ["loadtest", "run", "get-4k", "--endpoint", "http://h"];
            Arguments::try_parse_from(fixed.iter().chain(more))
        };
        assert!(parse(&[]).is_err());
        assert!(parse(&["--access-key", "a"]).is_err());
        assert!(parse(&["--access-key", "a", "--secret-key", "s"]).is_ok());
        assert!(parse(&["--credentials", "f"]).is_ok());
    }
}
