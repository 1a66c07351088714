//! The binary: what it prints, how it ends, and how it starts again.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::support::get;

/// A running `basalt-node`; killed when dropped.
struct Process {
    child: Child,
    banner: String,
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn wait(&mut self) -> ExitStatus {
        for _ in 0..200 {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("it didn't end within ten seconds");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(directory: &Path, listen: SocketAddr, admin: SocketAddr) -> Command {
    let config = directory.join("basalt.toml");
    std::fs::write(&config, "[store]\ndevice_size = \"1GiB\"\n[log]\nformat = \"json\"\n").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_basalt-node"));
    command
        .arg("--config")
        .arg(config)
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()])
        .env_remove("RUST_LOG");
    command
}

/// Starts the binary and reads its banner.
fn start(directory: &Path, listen: SocketAddr, admin: SocketAddr) -> Process {
    let mut child = command(directory, listen, admin).stdout(Stdio::piped()).spawn().expect("it starts");
    let stdout = child.stdout.take().expect("piped");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut process = Process { child, banner: String::new() };
    while !process.banner.contains("curl") {
        let line = lines.recv_timeout(Duration::from_secs(30)).expect("the banner comes");
        process.banner += &format!("{line}\n");
    }
    process
}

/// Two ports that were free a moment ago.
fn free_ports() -> [SocketAddr; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback is free"));
    sockets.map(|socket| socket.local_addr().expect("bound"))
}

#[test]
fn it_says_how_to_reach_it_and_ends_with_0_on_sigterm_and_sigint() {
    let directory = tempfile::tempdir().expect("a directory");
    for signal in [Signal::TERM, Signal::INT] {
        let [listen, admin] = free_ports();
        let mut process = start(directory.path(), listen, admin);
        assert!(process.banner.contains(&format!("https://{listen}")), "{}", process.banner);
        assert_eq!(get(admin, "/healthz"), (200, "ok\n".to_owned()));
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(0));
    }
}

#[test]
fn it_starts_again_right_after_kill_9_on_the_same_port() {
    let directory = tempfile::tempdir().expect("a directory");
    let [listen, admin] = free_ports();
    for _ in 0..3 {
        let mut process = start(directory.path(), listen, admin);
        assert_eq!(get(admin, "/healthz").0, 200);
        process.signal(Signal::KILL);
        process.wait();
    }
}

#[test]
fn a_reload_signal_does_not_end_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let [listen, admin] = free_ports();
    let process = start(directory.path(), listen, admin);
    process.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(get(admin, "/healthz").0, 200);
}

#[test]
fn an_address_in_use_is_named_and_ends_it_with_1() {
    let directory = tempfile::tempdir().expect("a directory");
    let holder = TcpListener::bind("127.0.0.1:0").expect("loopback is free");
    let address = holder.local_addr().expect("bound");
    let output = command(directory.path(), address, free_ports()[0]).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains(&format!("cannot listen on {address}")) && error.contains("--listen"), "{error}");
}

#[test]
fn a_wrong_setting_is_named_with_file_and_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("wrong.toml");
    std::fs::write(&path, "[node]\n\nlisen = []\n").expect("written");
    let output =
        Command::new(env!("CARGO_BIN_EXE_basalt-node")).arg("--config").arg(&path).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains(&format!("{}:3: ", path.display())) && error.contains("`listen`"), "{error}");
}

#[test]
fn help_and_version_are_answered() {
    let output = |flag: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_basalt-node")).arg(flag).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(output("--help").contains("Examples:"));
    assert_eq!(output("--version").trim(), format!("basalt-node {}", env!("CARGO_PKG_VERSION")));
}
