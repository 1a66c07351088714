//! The node as a child process: start it, wait until it serves, kill it.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::s3::{Client, Credentials, Endpoint, Error, Trust};

/// What every start of the node has in common.
pub(super) struct NodePaths {
    pub binary: PathBuf,
    pub data: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
}

/// A node that serves. Dropping it kills it.
pub(super) struct Node {
    child: Child,
    endpoint: Endpoint,
    credentials: Credentials,
    log: PathBuf,
}

impl Node {
    /// Starts the node on free loopback ports and waits until it answers.
    pub fn start(paths: &NodePaths, patience: Duration) -> io::Result<Self> {
        let (mut child, port) = spawn(paths)?;
        let deadline = Instant::now() + patience;
        loop {
            match try_connect(paths, port) {
                Ok((endpoint, credentials)) => {
                    return Ok(Self { child, endpoint, credentials, log: paths.log.clone() });
                }
                Err(error) => {
                    let exit = child.try_wait()?;
                    if exit.is_none() && Instant::now() < deadline {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    end(&mut child)?;
                    let state = match exit {
                        Some(status) => format!("ended with {status}"),
                        None => format!("does not serve after {} s ({error})", patience.as_secs()),
                    };
                    return Err(io::Error::other(format!("the node {state}; {}", log_tail(&paths.log))));
                }
            }
        }
    }

    /// Starts the node and kills it after `wait`, whatever it is doing by then.
    pub fn start_and_kill(paths: &NodePaths, wait: Duration) -> io::Result<()> {
        let (mut child, _) = spawn(paths)?;
        thread::sleep(wait);
        end(&mut child)
    }

    /// A client with a connection of its own.
    pub fn client(&self) -> Client {
        Client::new(self.endpoint.clone(), self.credentials.clone(), "us-east-1")
    }

    /// Where and as whom to ask, for threads.
    pub fn address(&self) -> (Endpoint, Credentials) {
        (self.endpoint.clone(), self.credentials.clone())
    }

    /// `kill -9`. An error when it had ended by itself.
    pub fn kill(mut self) -> io::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let tail = log_tail(&self.log);
            return Err(io::Error::other(format!("the node ended by itself with {status}; {tail}")));
        }
        end(&mut self.child)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may be gone already, and there is nobody to tell.
        let _ = end(&mut self.child);
    }
}

fn end(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(|_| ())
}

fn spawn(paths: &NodePaths) -> io::Result<(Child, u16)> {
    // Held together, so that they differ; the node takes them an instant after they are let go.
    let (listen, admin) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let (listen, admin) = (listen.local_addr()?, admin.local_addr()?);
    let log = OpenOptions::new().append(true).open(&paths.log)?;
    let child = Command::new(&paths.binary)
        .arg("--data-dir")
        .arg(&paths.data)
        .arg("--config")
        .arg(&paths.config)
        .args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", paths.binary.display())))?;
    Ok((child, listen.port()))
}

fn try_connect(paths: &NodePaths, port: u16) -> Result<(Endpoint, Credentials), Error> {
    let credentials = Credentials::read(&paths.data.join("credentials"), "default")?;
    let trust = paths.data.join("ca.pem");
    let endpoint = Endpoint::new(&format!("https://127.0.0.1:{port}"), Trust::File(&trust))?;
    Client::new(endpoint.clone(), credentials.clone(), "us-east-1").list_buckets()?;
    Ok((endpoint, credentials))
}

fn log_tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    format!("the end of {}:\n{tail}", log.display())
}
