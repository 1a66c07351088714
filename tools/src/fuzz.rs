//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer.
//!
//! The pinned toolchain is a stable one, and what `cargo fuzz` needs of nightly is the address sanitizer, which safe code has little use for.
//! Coverage is a pass of LLVM that the stable compiler runs as well; naming a target triple keeps it out of build scripts and macros.

mod corpus;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use clap::Args;

use crate::step::{self, Failure};
use crate::workspace;

/// The coverage that libFuzzer reads, and the cfg that links it in.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Where `fuzz/src/main.rs` looks for the name of its target.
const VARIABLE: &str = "BASALT_FUZZ_TARGET";

/// One input may take this long; the decoders take microseconds.
const TIMEOUT_SECONDS: u32 = 10;

/// How long, and what.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Time for all targets together
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Afterwards, make the corpus in git the few inputs, of all that were found, that reach most
    #[arg(long)]
    keep: bool,
}

/// The folders of a run.
struct Folders {
    /// The corpus in git; a folder per target.
    corpus: PathBuf,
    /// Words of the formats.
    dictionary: PathBuf,
    /// What runs found; it stays for the next run.
    found: PathBuf,
    /// Inputs that failed.
    artifacts: PathBuf,
}

/// Builds the targets, then runs them, as many at a time as there are cores.
pub fn run(options: &Options) -> Result<(), Failure> {
    let target_dir = workspace::target().join("fuzz");
    let folders = Folders {
        corpus: workspace::root().join("fuzz/corpus"),
        dictionary: workspace::root().join("fuzz/dictionary.txt"),
        found: target_dir.join("corpus"),
        artifacts: target_dir.join("artifacts"),
    };
    let targets = choose_targets(&folders.corpus, options.target.as_deref())?;
    let binary = build(&target_dir)?;
    let cores = thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    let seconds = seconds_each(options.seconds, targets.len() as u64, cores as u64);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A target of its own on each core: one process of libFuzzer uses one.
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut outcome = run_target(&binary, target, seconds, &folders);
            if options.keep {
                outcome =
                    outcome.and_then(|summary| corpus::keep(&binary, target, &folders).map(|()| summary));
            }
            match outcome {
                Ok(summary) => eprintln!("==> fuzz {target}: {summary}"),
                Err(failure) => {
                    eprintln!("==> fuzz {target}: FAILED");
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure.to_string());
                }
            }
        }
    };
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failures.is_empty() { Ok(()) } else { Err(Failure::new("fuzz", failures.join("\n"))) }
}

/// libFuzzer counts whole seconds and stops after the last has passed.
fn seconds_each(seconds: u64, targets: u64, cores: u64) -> u64 {
    (seconds / targets.div_ceil(cores)).saturating_sub(1).max(1)
}

/// The targets are the folders of the corpus; a test of `fuzz` holds the two lists together.
fn choose_targets(corpus: &Path, wanted: Option<&str>) -> Result<Vec<String>, Failure> {
    let mut names = list(corpus).map_err(|error| Failure::new("fuzz", error))?;
    names.sort();
    let Some(wanted) = wanted else { return Ok(names) };
    if names.iter().any(|name| name == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    Err(Failure::new("fuzz", format!("no target {wanted}; there are {}", names.join(", "))))
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// In a target folder of its own, so that the other builds keep theirs.
fn build(target_dir: &Path) -> Result<PathBuf, Failure> {
    let host = host_triple()?;
    let mut command = workspace::cargo();
    command.args(["build", "--package", "fuzz", "--profile", "fuzz", "--target", &host]);
    command.arg("--target-dir").arg(target_dir).env("RUSTFLAGS", RUSTFLAGS);
    step::run("build", &mut command)?;
    Ok(target_dir.join(host).join("fuzz/fuzz"))
}

fn host_triple() -> Result<String, Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").current_dir(workspace::root()).output();
    let output = output.map_err(|error| Failure::new("rustc -vV", error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc -vV", "it names no host"))
}

fn run_target(binary: &Path, target: &str, seconds: u64, folders: &Folders) -> Result<String, Failure> {
    let found = folders.found.join(target);
    let artifacts = folders.artifacts.join(target);
    for folder in [&found, &artifacts] {
        fs::create_dir_all(folder).map_err(|error| Failure::new("fuzz", error))?;
    }
    let start = Instant::now();
    let output = Command::new(binary)
        .env(VARIABLE, target)
        .arg(&found)
        .arg(folders.corpus.join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT_SECONDS}"))
        .arg(format!("-dict={}", folders.dictionary.display()))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .output()
        .map_err(|error| Failure::new(target, error))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(format!("{}, {}", summary(&log), step::seconds(start.elapsed())));
    }
    let saved = log.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
    let replay = saved.map_or_else(String::new, |path| {
        format!("\ninput: {path}\nreplay: cargo run -p fuzz -- {target} {path}")
    });
    Err(Failure::new(target, format!("{}\n{}{replay}", output.status, tail(&log))))
}

/// Coverage and number of runs, from libFuzzer's log.
fn summary(log: &str) -> String {
    let word_after = |line: &str, key: &str| {
        let mut words = line.split_whitespace();
        words.find(|word| *word == key)?;
        words.next().map(str::to_owned)
    };
    let covered = log.lines().rev().find_map(|line| word_after(line, "cov:"));
    let runs =
        log.lines().rev().find_map(|line| line.strip_prefix("Done ").and_then(|rest| rest.split(' ').next()));
    format!("{} points covered, {} runs", covered.as_deref().unwrap_or("no"), runs.unwrap_or("no"))
}

/// What a reader needs of a failed run: the panic, and not the input once more.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let begin = panic.unwrap_or(lines.len().saturating_sub(20));
    lines[begin..].iter().take(12).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_the_last_word_of_the_log() {
        let log = "#2\tINITED cov: 17 ft: 17 corp: 1/1b\n#9\tNEW    cov: 105 ft: 106 corp: 4/5b\nDone 1541031 runs in 6 second(s)\n";
        assert_eq!(summary(log), "105 points covered, 1541031 runs");
        assert_eq!(summary(""), "no points covered, no runs");
    }

    #[test]
    fn a_failure_begins_with_its_panic() {
        let log = "#2 INITED\nthread 'main' panicked at fuzz/src/disk.rs:1:\nleft\nright\n";
        assert!(tail(log).starts_with("thread 'main' panicked"));
    }

    #[test]
    fn the_seconds_are_split_among_the_targets() {
        assert_eq!(seconds_each(30, 25, 2), 1);
        assert_eq!(seconds_each(600, 25, 2), 45);
        assert_eq!(seconds_each(60, 1, 1), 59);
        assert_eq!(seconds_each(0, 25, 1), 1);
    }

    #[test]
    fn a_target_must_exist() {
        let corpus = workspace::root().join("fuzz/corpus");
        assert_eq!(choose_targets(&corpus, Some("version")).unwrap(), ["version"]);
        assert!(choose_targets(&corpus, Some("nothing")).is_err());
        assert!(choose_targets(&corpus, None).unwrap().len() > 20);
    }
}
