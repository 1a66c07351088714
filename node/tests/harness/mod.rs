//! A real node for tests: the binary itself, on free loopback ports, with a data directory of its own that vanishes with it.
//!
//! Beside it: a client that speaks raw bytes ([`raw`]), for what no SDK would send.

// Every test binary uses its own part of this.
#![allow(dead_code, reason = "shared by several test binaries, none of which uses all of it")]

pub mod raw;
pub mod sign;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a node may take to start or to end; far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings of every test node: small devices, and a log that tells.
const SETTINGS: &str =
    "[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n[log]\nlevel = \"info,node::s3=debug\"\n";

/// A running node.
pub struct Node {
    directory: TempDir,
    process: Child,
    endpoint: SocketAddr,
    admin: SocketAddr,
    starts: usize,
}

/// An access key and its secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The public half.
    pub access_key: String,
    /// The other.
    pub secret: String,
}

impl Node {
    /// A fresh node with small devices.
    pub fn start() -> Node {
        Node::start_with(SETTINGS)
    }

    /// A fresh node with those settings.
    pub fn start_with(settings: &str) -> Node {
        // Not in /tmp, which may be a tmpfs that has no O_DIRECT.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        fs::write(directory.path().join("basalt.toml"), settings).expect("writing the settings");
        let (process, endpoint, admin) = spawn(directory.path(), 0);
        Node { directory, process, endpoint, admin, starts: 1 }
    }

    /// Ends it at once, as a crash does, and starts it again on the same data.
    pub fn kill_and_restart(&mut self) {
        self.process.kill().expect("killing the node");
        self.process.wait().expect("waiting for the node");
        self.start_again();
    }

    /// Ends it in order, and starts it again on the same data.
    pub fn restart(&mut self) {
        assert!(self.terminate().success(), "the node ends in order\n{}", self.log());
        self.start_again();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalling the node");
        self.process.wait().expect("waiting for the node")
    }

    /// Starts it after [`Node::terminate`].
    pub fn start_ended(&mut self) {
        self.start_again();
    }

    /// Gives it other settings, for its next start.
    pub fn configure(&self, settings: &str) {
        fs::write(self.directory.path().join("basalt.toml"), settings).expect("writing the settings");
    }

    /// What it says when it is started after [`Node::terminate`] and does not come up.
    pub fn refusal(&self) -> String {
        let output = command(self.directory.path()).output().expect("starting the node");
        assert!(!output.status.success(), "the node ends with a failure");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn start_again(&mut self) {
        (self.process, self.endpoint, self.admin) = spawn(self.directory.path(), self.starts);
        self.starts += 1;
    }

    /// Where it serves S3.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.endpoint)
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The certificate of its authority, PEM.
    pub fn ca(&self) -> Vec<u8> {
        fs::read(self.data_dir().join("ca.pem")).expect("reading ca.pem")
    }

    /// Its first access key.
    pub fn credentials(&self) -> Credentials {
        let text = fs::read_to_string(self.data_dir().join("credentials")).expect("reading credentials");
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect(name);
            line.split_once('=').expect("a setting").1.trim().to_owned()
        };
        Credentials { access_key: value("aws_access_key_id"), secret: value("aws_secret_access_key") }
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(self.directory.path(), self.starts - 1)).unwrap_or_default()
    }

    /// The sum over all cores of a metric, by its name and, if need be, some of its labels as they are written.
    pub fn metric(&self, name: &str) -> f64 {
        let text = http_get(self.admin, "/metrics").expect("asking for metrics");
        let values =
            text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    }

    /// Asks the admin listener: status and body of its answer.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("connecting");
        let len = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: {len}\r\n\r\n{body}")
            .expect("sending");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// The values of a metric on each core.
    pub fn metric_per_core(&self, name: &str) -> Vec<f64> {
        let text = http_get(self.admin, "/metrics").expect("asking for metrics");
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{core=")));
        lines.map(|line| line.rsplit_once(' ').expect("a sample").1.parse().expect("a number")).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("-- the node's last words:");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn log_path(directory: &Path, start: usize) -> PathBuf {
    directory.join(format!("node-{start}.log"))
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basalt-node"));
    command
        .args([
            "--data-dir",
            "data",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--config",
            "basalt.toml",
        ])
        .current_dir(directory)
        .stdin(Stdio::null());
    command
}

fn spawn(directory: &Path, start: usize) -> (Child, SocketAddr, SocketAddr) {
    let log = File::create(log_path(directory, start)).expect("creating the log");
    let mut process = command(directory)
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("starting the node");
    let begun = Instant::now();
    loop {
        let log = fs::read_to_string(log_path(directory, start)).unwrap_or_default();
        if let Some((endpoint, admin)) = addresses(&log)
            && http_get(admin, "/healthz").is_some()
        {
            return (process, endpoint, admin);
        }
        let ended = process.try_wait().expect("looking at the node");
        assert!(ended.is_none() && begun.elapsed() < PATIENCE, "the node does not start ({ended:?}):\n{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where a node says that it serves.
fn addresses(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = log.lines().find(|line| line.contains("serving cores="))?;
    let endpoint = line.split_once("addresses=[")?.1.split_once(']')?.0;
    let admin = line.split_once("admin=")?.1.trim();
    Some((endpoint.parse().ok()?, admin.parse().ok()?))
}

/// The body of a successful answer of the admin listener.
fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// Bytes that look random and are the same for the same seed.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}
