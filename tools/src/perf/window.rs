//! The part of a run that counts: after all connections are made, before the client stops.
//!
//! A handshake costs as much as many small requests, and servers differ in it; so what wrk counts from its start to its end
//! is not used for rates. Requests are those that the server itself counts within the window, bytes those that the client's
//! system calls move.

use std::io;
use std::time::{Duration, Instant};

use super::cpu::{self, Cores, Cpus};

/// When the window opens, after the start of the client.
pub(super) const OPENS: Duration = Duration::from_millis(700);

/// Seconds that the client runs longer than the window is open. A server that is busy takes its time to tell its count.
pub(super) const EXTRA_SECONDS: u64 = 2;

/// Watches a run.
pub(super) struct Window<'a> {
    server: Server<'a>,
    cpus: Cpus,
    length: Duration,
    begin: Option<Reading>,
    end: Option<Reading>,
}

/// Whose CPU time counts, and who counts its requests.
#[derive(Clone, Copy)]
pub(super) struct Server<'a> {
    pub pid: u32,
    /// Not asked for when bytes are counted.
    pub requests: &'a dyn Fn() -> io::Result<f64>,
}

/// What happened while the window was open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub wall: Duration,
    /// Answered by the server.
    pub requests: f64,
    /// Of the client's system calls, TLS and heads included.
    pub read_bytes: f64,
    pub written_bytes: f64,
    /// CPU seconds of the processes, user and system.
    pub server_seconds: f64,
    pub client_seconds: f64,
    /// Busy parts of the cores, 0 to 1.
    pub server_core: f64,
    pub client_core: f64,
}

#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    requests: f64,
    bytes: (u64, u64),
    server_seconds: f64,
    client_seconds: f64,
    cores: Cores,
}

impl<'a> Window<'a> {
    pub fn new(server: Server<'a>, cpus: Cpus, seconds: u64) -> Self {
        Self { server, cpus, length: Duration::from_secs(seconds), begin: None, end: None }
    }

    /// To be called again and again while the client runs.
    pub fn look(&mut self, client: u32, elapsed: Duration) -> io::Result<()> {
        match &self.begin {
            None if elapsed >= OPENS => self.begin = Some(self.read(client)?),
            Some(begin) if self.end.is_none() && begin.at.elapsed() >= self.length => {
                self.end = Some(self.read(client)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn read(&self, client: u32) -> io::Result<Reading> {
        Ok(Reading {
            requests: (self.server.requests)()?,
            bytes: cpu::process_bytes(client)?,
            server_seconds: cpu::process_seconds(self.server.pid)?,
            client_seconds: cpu::process_seconds(client)?,
            cores: Cores::read(self.cpus)?,
            at: Instant::now(),
        })
    }

    /// An error when the client ended too early.
    pub fn close(self) -> io::Result<Usage> {
        let (Some(begin), Some(end)) = (self.begin, self.end) else {
            return Err(io::Error::other("the client ended before its time"));
        };
        let (server_core, client_core) = end.cores.busy_since(&begin.cores);
        Ok(Usage {
            wall: end.at - begin.at,
            requests: end.requests - begin.requests,
            read_bytes: end.bytes.0.saturating_sub(begin.bytes.0) as f64,
            written_bytes: end.bytes.1.saturating_sub(begin.bytes.1) as f64,
            server_seconds: end.server_seconds - begin.server_seconds,
            client_seconds: end.client_seconds - begin.client_seconds,
            server_core,
            client_core,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_what_happens_while_it_is_open_counts() {
        let count = Cell::new(0.0);
        let requests = || Ok(count.get());
        let own = std::process::id();
        let cpus = Cpus { server: 0, client: 0 };
        let mut window = Window::new(Server { pid: own, requests: &requests }, cpus, 0);
        for (elapsed_ms, answered) in [(0, 100.0), (699, 150.0), (700, 200.0), (710, 260.0), (720, 900.0)] {
            count.set(answered);
            window.look(own, Duration::from_millis(elapsed_ms)).unwrap();
        }
        assert_eq!(window.close().unwrap().requests, 60.0);
    }

    #[test]
    fn a_client_that_ends_early_gives_no_figures() {
        let requests = || Ok(1.0);
        let cpus = Cpus { server: 0, client: 0 };
        let server = Server { pid: std::process::id(), requests: &requests };
        let mut window = Window::new(server, cpus, 60);
        window.look(std::process::id(), OPENS).unwrap();
        window.look(std::process::id(), OPENS).unwrap();
        assert!(window.close().is_err());
    }
}
