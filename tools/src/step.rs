//! A step of a longer job: a command with a name, whose time is told.

use std::fmt;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

/// A step that did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// What it was called.
    pub step: String,
    /// What went wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.what)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Names the step that failed.
    pub fn new(step: &str, what: impl fmt::Display) -> Self {
        Self { step: step.to_owned(), what: what.to_string() }
    }
}

/// Runs a command whose output is for the reader.
pub fn run(name: &str, command: &mut Command) -> Result<(), Failure> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let status = command.status().map_err(|error| Failure::new(name, explain(command, &error)))?;
    if !status.success() {
        return Err(Failure::new(name, format!("{status}, of: {}", line(command))));
    }
    eprintln!("==> {name}: {}", seconds(start.elapsed()));
    Ok(())
}

/// Runs a command silently; its output appears only in the failure.
pub fn run_quietly(name: &str, command: &mut Command) -> Result<(), Failure> {
    let output = command.output().map_err(|error| Failure::new(name, explain(command, &error)))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    Err(Failure::new(name, format!("{}, of: {}\n{text}", output.status, line(command))))
}

/// A time to the tenth of a second.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn explain(command: &Command, error: &io::Error) -> String {
    format!("{} can't be started: {error}", command.get_program().to_string_lossy())
}

/// A command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_shows_its_output() {
        let failure =
            run_quietly("a step", Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err();
        let text = failure.to_string();
        assert!(text.starts_with("a step: ") && text.contains("sh -c") && text.contains("reason"), "{text}");
        assert!(run("a step", &mut Command::new("/no/such/program")).is_err());
    }
}
