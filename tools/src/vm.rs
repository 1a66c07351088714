//! Tests of what a kernel must offer, in a virtual machine with a kernel of Debian that offers it (`tools/vm/vm-run`).
//!
//! The kernel is a package that apt downloads and nobody installs; it lies unpacked under `target/vm/`. The machine runs the test binaries that are built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::step::{self, Failure};
use crate::workspace;

/// The package of Debian that names the present kernel.
const NEWEST: &str = "linux-image-amd64";

/// Options of `cargo xtask vm`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Packages that hold the kernel and its modules, instead of the one that linux-image-amd64 depends on
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    packages: Vec<String>,
    /// Only tests of that name
    #[arg(long, default_value = "")]
    filter: String,
    /// Seconds that the machine may take
    #[arg(long, default_value_t = 1800)]
    timeout: u32,
}

/// Fetches the kernel, builds the tests of kernel TLS, and runs them in the machine.
pub fn run(options: &Options) -> Result<(), Failure> {
    let packages = if options.packages.is_empty() { vec![newest()?] } else { options.packages.clone() };
    let kernel = fetch(&packages)?;
    let binaries = build()?;
    // The node wants O_DIRECT, which the machine's own files lack.
    let scratch = workspace::target().join("tmp");
    let mut command = Command::new(workspace::root().join("tools/vm/vm-run"));
    command.current_dir(workspace::root()).arg("-v").arg("--kernel").arg(kernel);
    command.args(["--module", "tls", "--timeout", &options.timeout.to_string(), "--disk"]).arg(scratch);
    command.args(["--", "sh", "-ec", &script(&binaries, &options.filter)]);
    step::run("tests in the machine", &mut command)
}

/// Runs each binary; one test at a time, since the machine is slow.
fn script(binaries: &[PathBuf], filter: &str) -> String {
    let mut script = "uname -r\n".to_owned();
    for binary in binaries {
        // Of the library the machine need only see what touches sockets.
        let is_library = binary.file_name().is_some_and(|name| name.to_string_lossy().starts_with("node-"));
        let filter = if is_library && filter.is_empty() { "stream::" } else { filter };
        script.push_str(&format!("'{}' --test-threads=1 --nocapture '{filter}'\n", binary.display()));
    }
    script
}

/// The package of the newest kernel.
fn newest() -> Result<String, Failure> {
    let output = Command::new("apt-cache").args(["depends", NEWEST]).output();
    let output =
        output.map_err(|error| Failure::new("kernel", format!("apt-cache can't be started: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    dependency(&text).ok_or_else(|| {
        Failure::new("kernel", format!("apt knows no {NEWEST}; run apt-get update, or name --packages"))
    })
}

fn dependency(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
}

/// Downloads and unpacks packages into one folder, if they aren't there.
fn fetch(packages: &[String]) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::new("kernel", error);
    let folder = workspace::target().join("vm").join(packages.join("+"));
    let mark = folder.join("unpacked");
    if mark.exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).map_err(failed)?;
    let mut download = Command::new("apt-get");
    step::run("download", download.current_dir(&folder).arg("download").args(packages))?;
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let package = entry.map_err(failed)?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            step::run_quietly("unpack", Command::new("dpkg").arg("-x").arg(&package).arg(&folder))?;
            fs::remove_file(package).map_err(failed)?;
        }
    }
    fs::write(mark, "").map_err(failed)?;
    Ok(folder)
}

/// Builds the tests, and answers where cargo has put them.
fn build() -> Result<Vec<PathBuf>, Failure> {
    let mut command = workspace::cargo();
    command.args(["test", "--package", "node", "--no-run", "--lib", "--test", "kernel_tls"]);
    command.arg("--message-format=json").stderr(Stdio::inherit());
    let output = command.output().map_err(|error| Failure::new("build", error))?;
    if !output.status.success() {
        return Err(Failure::new("build", output.status));
    }
    let binaries = executables(&String::from_utf8_lossy(&output.stdout));
    if binaries.len() != 2 {
        return Err(Failure::new("build", format!("2 test binaries are expected, not {binaries:?}")));
    }
    Ok(binaries)
}

/// The test binaries that cargo's messages name.
fn executables(messages: &str) -> Vec<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| message["executable"].as_str().map(|path| Path::new(path).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_kernel_is_what_the_metapackage_depends_on() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(dependency(text).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(dependency("N: Unable to locate package\n"), None);
    }

    #[test]
    fn only_test_binaries_are_run_and_each_with_its_filter() {
        let messages = r#"{"executable":"/t/basalt-node","profile":{"test":false}}
{"executable":"/t/node-1","profile":{"test":true}}
{"executable":null,"profile":{"test":true}}
not json
{"executable":"/t/kernel_tls-2","profile":{"test":true}}"#;
        let binaries = executables(messages);
        assert_eq!(binaries, [PathBuf::from("/t/node-1"), PathBuf::from("/t/kernel_tls-2")]);
        let all = script(&binaries, "");
        assert!(all.contains("'/t/node-1' --test-threads=1 --nocapture 'stream::'\n"), "{all}");
        assert!(all.contains("'/t/kernel_tls-2' --test-threads=1 --nocapture ''\n"), "{all}");
    }
}
