//! The whole comparison, on a tiny file and for moments.

use std::process::Command;

#[test]
fn every_contender_is_measured_under_every_load() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runtimes"));
    command.args(["--rounds", "1", "--seconds", "0.05", "--file-mib", "4", "--client-cpu", "0", "--dir"]);
    let output = command.arg(env!("CARGO_TARGET_TMPDIR")).output().expect("started");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    for contender in ["io-uring", "compio", "monoio", "tokio-uring", "glommio"] {
        let rows = told.lines().filter(|line| line.starts_with(&format!("| {contender} ")));
        let measured = rows.filter(|row| !row.contains("not measured"));
        assert_eq!(measured.count(), 3, "{contender} in\n{told}");
    }
}
