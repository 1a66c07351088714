//! The program as it is called: its exit status and its files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::path::Path;
use std::process::{Command, Output};

use fake::{FakeS3, Faults};

fn loadtest(server: &FakeS3, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.current_dir(server.dir.path());
    command.args([
        "run",
        "get-4k",
        "--endpoint",
        &server.url,
        "--access-key",
        "ak",
        "--secret-key",
        "sk",
        "--ca",
        "ca.pem",
    ]);
    command.args([
        "--keys",
        "20",
        "--connections",
        "2",
        "--count",
        "100",
        "--warm-up",
        "0s",
        "--rounds",
        "1",
        "--threads",
        "1",
    ]);
    command.args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_clean_run_ends_with_0_and_writes_its_reports() {
    let server = FakeS3::start(Faults::default());
    let output = loadtest(&server, &["--json", "a.json", "--hdr", "a.hlog", "--html", "a.html"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(server.objects.lock().unwrap().len(), 20, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("failures: none"), "{}", text(&output.stdout));
    for name in ["a.json", "a.hlog", "a.html"] {
        assert!(std::fs::metadata(server.dir.path().join(name)).unwrap().len() > 200, "{name}");
    }
    let compared = compare(server.dir.path(), "a.json", "a.json");
    assert!(compared.status.success());
    assert!(text(&compared.stdout).contains("get op/s"), "{}", text(&compared.stdout));
    assert!(!compare(server.dir.path(), "a.json", "a.html").status.success());
}

fn compare(dir: &Path, a: &str, b: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).current_dir(dir).args(["compare", a, b]).output().unwrap()
}

#[test]
fn wrong_data_ends_with_3_and_failures_with_1() {
    let server = FakeS3::start(Faults { corrupt_every: 10, ..Faults::default() });
    assert_eq!(loadtest(&server, &[]).status.code(), Some(3));
    let server = FakeS3::start(Faults { close_every: 10, ..Faults::default() });
    assert_eq!(loadtest(&server, &[]).status.code(), Some(1));
    let server = FakeS3::start(Faults { slow_down_every: 10, ..Faults::default() });
    assert_eq!(loadtest(&server, &[]).status.code(), Some(0), "a server may shed load");
}

#[test]
fn a_scenario_that_is_not_there_is_named_with_those_that_are() {
    let server = FakeS3::start(Faults::default());
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["run", "get-5k", "--endpoint", &server.url, "--access-key", "a", "--secret-key", "s"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("get-5k is no file") && text(&output.stderr).contains("get-4k"));
}
