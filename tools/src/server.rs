//! The node under test: started on free loopback ports with a fresh data directory, stopped by SIGTERM.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::step::Failure;

const START_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// A server that clients can use.
pub(crate) struct Server {
    pub endpoint: String,
    pub credentials: PathBuf,
    pub ca: PathBuf,
    /// Of `/healthz` and `/metrics`, when we started it.
    pub admin: Option<SocketAddr>,
    /// Ours to stop, unless the server ran before.
    child: Option<Child>,
    log: PathBuf,
}

impl Server {
    /// One that runs already.
    pub fn running(endpoint: &str, credentials: &Path, ca: &Path) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            credentials: absolute(credentials),
            ca: absolute(ca),
            admin: None,
            child: None,
            log: PathBuf::new(),
        }
    }

    /// Starts a node by a command that still lacks its data directory, `work/data`, and its addresses, and waits until
    /// it is healthy.
    pub fn start(command: Command, work: &Path) -> Result<Self, Failure> {
        Self::try_start(command, work).map_err(|error| Failure::new("start the node", error))
    }

    fn try_start(mut command: Command, work: &Path) -> io::Result<Self> {
        let (data, log) = (work.join("data"), work.join("node.log"));
        let [listen, admin] = free_ports()?;
        let output = File::create(&log)?;
        let child = command
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let (credentials, ca) = (data.join("credentials"), data.join("ca.pem"));
        let endpoint = format!("https://{listen}");
        let mut server = Self { endpoint, credentials, ca, admin: Some(admin), child: Some(child), log };
        server.wait_until_healthy(admin)?;
        Ok(server)
    }

    fn wait_until_healthy(&mut self, admin: SocketAddr) -> io::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        while !(is_healthy(admin) && self.credentials.is_file() && self.ca.is_file()) {
            let exit = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if exit.is_some() || Instant::now() > deadline {
                let state = exit.map_or("is not healthy in time".to_owned(), |it| format!("ended: {it}"));
                return Err(io::Error::other(format!("the node {state}\n{}", self.log_tail())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The process, when it is ours.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGTERM, and an orderly end.
    pub fn stop(mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let failure = |what: String| Failure::new("stop the node", what);
        let term = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let deadline = Instant::now() + STOP_TIME_MAX;
        let outcome = loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => break failure(format!("{status}\n{}", self.log_tail())),
                Ok(None) if Instant::now() < deadline && term.is_ok() => {
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(None) => break failure(format!("does not end on SIGTERM\n{}", self.log_tail())),
                Err(error) => break failure(error.to_string()),
            }
        };
        self.child = Some(child);
        Err(outcome)
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the end of {}:\n{}", self.log.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already, and there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The scripts run in folders of their own.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Loopback addresses with ports that are free now. All are held at once, so that they differ.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(addresses)
}

fn is_healthy(admin: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut connection = TcpStream::connect(admin)?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(connection, "GET /healthz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        connection.read_exact(&mut start)?;
        Ok(start == *b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_is_healthy() {
        for (answer, expected) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || {
                let (mut connection, _) = listener.accept().unwrap();
                connection.read_exact(&mut [0; 12]).unwrap();
                write!(connection, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
                // Closing with something unread would reset the connection, and the answer might be lost.
                // The client may have gone away by then, with all that it wanted.
                let _ = connection.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut connection, &mut std::io::sink());
            });
            assert_eq!(is_healthy(address), expected, "{answer}");
            server.join().unwrap();
            assert!(!is_healthy(address), "nobody listens any more");
        }
    }

    #[test]
    fn a_node_that_ends_at_once_is_reported_with_its_log() {
        let work = std::env::temp_dir().join(format!("clients-server-{}", std::process::id()));
        fs::create_dir_all(&work).unwrap();
        let script = work.join("node");
        fs::write(&script, "#!/bin/sh\necho out of devices >&2\nexit 7\n").unwrap();
        let made = Command::new("chmod").arg("+x").arg(&script).status().unwrap();
        assert!(made.success());
        let error = Server::start(Command::new(&script), &work)
            .err()
            .map(|failure| failure.to_string())
            .unwrap_or_default();
        assert!(error.contains("out of devices") && error.contains('7'), "{error}");
        fs::remove_dir_all(&work).unwrap();
    }
}
