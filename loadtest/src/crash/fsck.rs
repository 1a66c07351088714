//! `basalt fsck` on a store whose node was just killed: nothing is lost, and all counts are right, before anybody opens it again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Report;
use super::node::NodePaths;

/// The exit status of a check that could not run.
const FAILED: i32 = 3;

/// How long the kernel may take to give the devices of a killed process back.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a crash leaves where there are copies, on some of them: the end of the log and the last pointer. The next start makes them the same on all.
const LEFT_BY_CRASH: [&str; 3] = ["record", "checkpoint-record", "pointer"];

/// Checks the store; what is wrong with it goes to the report.
pub(super) fn check(basalt: &Path, paths: &NodePaths, report: &mut Report) -> io::Result<()> {
    let devices = device_files(&paths.data)?;
    let deadline = Instant::now() + PATIENCE;
    let output = loop {
        let output = Command::new(basalt)
            .arg("fsck")
            .arg("--json")
            .arg("--key-file")
            .arg(paths.data.join("key"))
            .arg("--device")
            .args(&devices)
            .output()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", basalt.display())))?;
        if output.status.code() != Some(FAILED) || Instant::now() > deadline {
            break output;
        }
        thread::sleep(Duration::from_millis(100));
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Vec<&str> = text.lines().filter(|line| !is_expected(line)).collect();
    if !found.is_empty() {
        let faults = found.iter().map(|line| format!("fsck: {line}"));
        report.findings.faults.extend(faults);
    } else if matches!(output.status.code(), Some(0 | 1)) {
        report.clean_checks += 1;
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        report.findings.faults.push(format!("fsck ended with {}: {error}", output.status));
    }
    Ok(())
}

/// The device files in the data directory, where they are unless the configuration names others.
fn device_files(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "basalt") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let what = format!("{} has no device files to check: leave --basalt out", data.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    Ok(files)
}

/// Whether a line is the summary, or a finding that a crash explains.
fn is_expected(line: &str) -> bool {
    let Ok(finding) = serde_json::from_str::<Value>(line) else { return false };
    let is_of_crash = || LEFT_BY_CRASH.iter().any(|fault| finding["fault"] == *fault);
    finding.get("summary").is_some() || (finding["severity"] == "repairable" && is_of_crash())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_findings_only_what_a_crash_leaves_on_a_copy_is_expected() {
        assert!(is_expected(r#"{"summary":{"segments":3,"lost":0}}"#));
        assert!(is_expected(r#"{"severity":"repairable","fault":"record","what":"torn"}"#));
        assert!(!is_expected(r#"{"severity":"lost","fault":"record","what":"torn"}"#));
        assert!(!is_expected(r#"{"severity":"repairable","fault":"segment-header"}"#));
        assert!(!is_expected("no finding at all"));
    }
}
