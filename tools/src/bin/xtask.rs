//! The repository's own commands: the same verbs at the desk and in continuous integration.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use tools::step::{self, Failure};
use tools::{arrows, bench, clients, format, fuzz, perf, sim, vm, workspace};

/// Checks, tests and exercises the repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Xtask {
    /// Formatting, lints, the arrows between crates, and licenses
    Check,
    /// Write engine/docs/format.md from the sources of the format
    Format {
        /// Only say whether it is up to date
        #[arg(long)]
        check: bool,
    },
    /// Every decoder on bytes that nobody would send, under libFuzzer
    Fuzz(fuzz::Options),
    /// All tests
    Test,
    /// What continuous integration runs: tests, check, fuzz, clients and ten rounds of crash
    Ci,
    /// Load, kill -9 and verification of a node, round after round
    Crash {
        /// How often to kill the node
        #[arg(long, default_value_t = 10)]
        rounds: u32,
        /// More options for `loadtest crash`, after --
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// Simulated lives of the engine: crashes and faults, decided by seeds
    Sim(sim::Options),
    /// Real S3 clients against a node, over HTTPS
    Clients(clients::Options),
    /// Tests of kernel TLS, in a virtual machine whose kernel has it
    Vm(vm::Options),
    /// Benches, in release
    Bench(bench::Options),
    /// Where the node's time goes under load: a flame graph and a table
    Profile(perf::profile::Options),
    /// Basalt beside nginx and fio on this machine: medians of rounds, and which targets are reached
    Perf(perf::Options),
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse() {
        Xtask::Check => check(),
        Xtask::Format { check: true } => check_format(),
        Xtask::Format { check: false } => {
            format::write(&workspace::root()).map_err(|error| Failure::new("format", error))
        }
        Xtask::Fuzz(options) => fuzz::run(&options),
        Xtask::Test => test(),
        Xtask::Ci => ci(),
        Xtask::Crash { rounds, more } => crash(rounds, &more),
        Xtask::Sim(options) => sim::run(&options),
        Xtask::Clients(options) => clients::run(&options),
        Xtask::Vm(options) => vm::run(&options),
        Xtask::Bench(options) => bench::run(&options),
        Xtask::Profile(options) => perf::profile::run(&options),
        Xtask::Perf(options) => perf::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every check, so that one failure does not hide the next.
fn check() -> Result<(), Failure> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let outcomes = [
        step::run("fmt", workspace::cargo().args(["fmt", "--all", "--check"])),
        check_arrows(),
        check_format(),
        step::run("clippy", workspace::cargo().args(clippy)),
        check_dependencies(),
    ];
    let failures: Vec<String> =
        outcomes.into_iter().filter_map(Result::err).map(|failure| failure.to_string()).collect();
    if failures.is_empty() { Ok(()) } else { Err(Failure::new("check", failures.join("\n"))) }
}

fn check_arrows() -> Result<(), Failure> {
    let manifests =
        arrows::read_workspace(&workspace::root()).map_err(|error| Failure::new("arrows", error))?;
    let found: Vec<String> = arrows::violations(&manifests).iter().map(ToString::to_string).collect();
    if !found.is_empty() {
        return Err(Failure::new("arrows", found.join("\n")));
    }
    eprintln!("==> arrows: {} crates keep the rule", manifests.len());
    Ok(())
}

fn check_format() -> Result<(), Failure> {
    format::check(&workspace::root()).map_err(|error| Failure::new("format", error))?;
    eprintln!("==> format: {} is up to date", format::PAGE);
    Ok(())
}

fn check_dependencies() -> Result<(), Failure> {
    if !has_subcommand("deny") {
        eprintln!("==> deny: SKIPPED, cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    step::run(
        "deny",
        workspace::cargo().args(["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]),
    )
}

fn test() -> Result<(), Failure> {
    if !has_subcommand("nextest") {
        return step::run("test", workspace::cargo().args(["test", "--workspace"]));
    }
    step::run("nextest", workspace::cargo().args(["nextest", "run", "--workspace"]))?;
    // nextest leaves these out.
    step::run("documentation tests", workspace::cargo().args(["test", "--workspace", "--doc"]))
}

fn ci() -> Result<(), Failure> {
    let script = workspace::root().join(".ci/run");
    step::run("ci", Command::new(script).current_dir(workspace::root()))
}

fn crash(rounds: u32, more: &[String]) -> Result<(), Failure> {
    workspace::build_binaries("release")?;
    let mut command = Command::new(workspace::binary("release", "loadtest"));
    command.current_dir(workspace::root()).arg("crash");
    command.arg("--node").arg(workspace::binary("release", "basalt-node"));
    if !more.iter().any(|option| option == "--config") {
        command.arg("--basalt").arg(workspace::binary("release", "basalt"));
    }
    command.args(["--rounds", &rounds.to_string()]).args(more);
    if !more.iter().any(|option| option == "--data-dir") {
        let dir: PathBuf = workspace::target().join(format!("crash-{}", std::process::id()));
        command.arg("--data-dir").arg(dir);
    }
    step::run("crash", &mut command)
}

/// Whether `cargo NAME` exists. Asked in the workspace's folder, because the toolchain there decides.
fn has_subcommand(name: &str) -> bool {
    let output = workspace::cargo().args([name, "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}
