//! Whom the load is put on.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};

use super::failure::{Failure, Kind};
use crate::s3::{Client, Credentials, Endpoint};

/// The server, and whose requests these are.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whose requests these are.
    pub credentials: Credentials,
    /// Region of the signature.
    pub region: String,
    /// Whether missing buckets are made.
    pub makes_buckets: bool,
    /// Processes on this machine whose CPU time is counted as the server's.
    pub server_pids: Vec<u32>,
}

impl Target {
    pub(super) fn client(&self) -> Client {
        Client::new(self.endpoint.clone(), self.credentials.clone(), &self.region)
    }

    pub(super) fn resolve(&self) -> Result<SocketAddr, Failure> {
        let host = self.endpoint.host.trim_start_matches('[').trim_end_matches(']');
        let failed = |what: String| Failure::new(Kind::Connect, format!("{:?}: {what}", self.endpoint));
        let mut addresses =
            (host, self.endpoint.port).to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        addresses.next().ok_or_else(|| failed("the name has no address".into()))
    }

    /// CPU time of the server's processes so far, all their threads together.
    pub(super) fn server_cpu_ns(&self) -> Option<u64> {
        if self.server_pids.is_empty() {
            return None;
        }
        let times: Option<Vec<u64>> = self.server_pids.iter().map(|pid| process_cpu_ns(*pid)).collect();
        Some(times?.iter().sum())
    }
}

/// Adds up the threads' scheduler statistics: they count nanoseconds, where `/proc/PID/stat` counts ticks of 10 ms.
fn process_cpu_ns(pid: u32) -> Option<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = task.ok()?.path().join("schedstat");
        // A thread may end between the listing and the look.
        let Ok(text) = fs::read_to_string(path) else { continue };
        total += text.split(' ').next()?.trim().parse::<u64>().ok()?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_this_process_grows() {
        let before = process_cpu_ns(std::process::id()).unwrap();
        let mut word = 1_u64;
        while process_cpu_ns(std::process::id()).unwrap() == before {
            word = std::hint::black_box(word.wrapping_mul(3));
        }
        assert_eq!(process_cpu_ns(u32::MAX), None, "no such process");
    }
}
