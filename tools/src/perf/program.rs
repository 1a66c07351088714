//! Programs of others: whether they are there, pinned to a CPU, run to their end within a limit.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{step, workspace};

/// Programs, and the Debian packages that bring them.
const PACKAGES: [(&str, &str); 8] = [
    ("wrk", "wrk"),
    ("nginx", "nginx-light"),
    ("fio", "fio"),
    ("taskset", "util-linux"),
    ("setpriv", "util-linux"),
    ("kill", "procps"),
    ("perf", "linux-perf"),
    ("openssl", "openssl"),
];

const POLL: Duration = Duration::from_millis(10);

/// Fails with the packages to install when one of the programs is missing.
pub(super) fn require(names: &[&str]) -> io::Result<()> {
    let is_missing = |name: &&&str| find(name).is_none();
    let missing: Vec<&str> = names.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let package = |name: &str| {
        PACKAGES
            .iter()
            .find(|(program, _)| *program == name)
            .map_or(name.to_owned(), |(_, it)| (*it).to_owned())
    };
    let mut packages: Vec<String> = missing.iter().map(|name| package(name)).collect();
    packages.dedup();
    let what = format!("not installed: {}; try: apt-get install {}", missing.join(", "), packages.join(" "));
    Err(io::Error::new(io::ErrorKind::NotFound, what))
}

/// Where a program is. Those of administrators are not on every user's `PATH`.
fn find(name: &str) -> Option<PathBuf> {
    let sbin = Path::new("/usr/sbin").join(name);
    workspace::find_program(name).or_else(|| sbin.is_file().then_some(sbin))
}

/// A command on one CPU that ends when we do, even if we are killed. `setpriv` and `taskset` become the program itself.
pub(super) fn pinned(cpu: usize, program: impl AsRef<OsStr>) -> Command {
    let program = program.as_ref();
    let found = program.to_str().and_then(find).map_or(program.to_owned(), Into::into);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "--cpu-list", &cpu.to_string()]).arg(found);
    command
}

/// The first line that a program says of its version, on either output.
pub(super) fn version(name: &str, flag: &str) -> String {
    let output =
        Command::new(find(name).unwrap_or_else(|| name.into())).arg(flag).stdin(Stdio::null()).output();
    let text = output.map(|it| [it.stdout, it.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

/// Runs a command to its end, which must come within `limit`; else it is killed. Returns what it has printed.
pub(super) fn run(command: &mut Command, limit: Duration) -> io::Result<String> {
    run_watched(command, limit, |_, _| Ok(()))
}

/// The same, calling `watch` every few milliseconds with the process and the time since its start.
pub(super) fn run_watched(
    command: &mut Command,
    limit: Duration,
    watch: impl FnMut(u32, Duration) -> io::Result<()>,
) -> io::Result<String> {
    let End { status, output, complaints } = run_to_end(command, limit, watch)?;
    if !status.success() {
        return Err(io::Error::other(format!("{}: {status}\n{output}{complaints}", step::line(command))));
    }
    Ok(output)
}

/// How a program has ended, and what it has printed.
pub(super) struct End {
    pub status: ExitStatus,
    pub output: String,
    pub complaints: String,
}

/// Runs a command to its end, good or bad, which must come within `limit`; else it is killed.
pub(super) fn run_to_end(
    command: &mut Command,
    limit: Duration,
    mut watch: impl FnMut(u32, Duration) -> io::Result<()>,
) -> io::Result<End> {
    let name = step::line(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().map_err(|error| io::Error::other(format!("{name}: {error}")))?);
    let start = Instant::now();
    let output = read_all(child.0.stdout.take());
    let complaints = read_all(child.0.stderr.take());
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            return Err(io::Error::other(format!("{name}: not at its end after {limit:?}")));
        }
        watch(child.0.id(), start.elapsed())?;
        thread::sleep(POLL);
    };
    Ok(End { status, output: join(output), complaints: join(complaints) })
}

/// Ends with its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended already unless its owner fails, and then there is nobody to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads on a thread: a program that is not read stops at a full pipe.
fn read_all(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What came before an error is all there is to show.
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn join(reader: thread::JoinHandle<String>) -> String {
    reader.join().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = require(&["sh", "no-such-program"]).unwrap_err().to_string();
        assert_eq!(error, "not installed: no-such-program; try: apt-get install no-such-program");
        assert!(require(&["sh"]).is_ok());
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("not at its end"), "{error}");
    }

    #[test]
    fn output_of_a_program_that_ends_well_is_kept_and_of_one_that_fails_is_shown() {
        let output = run(Command::new("sh").args(["-c", "echo figures"]), Duration::from_secs(10)).unwrap();
        assert_eq!(output, "figures\n");
        let script = "echo reason >&2; exit 3";
        let error = run(Command::new("sh").args(["-c", script]), Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("reason"), "{error}");
    }
}
