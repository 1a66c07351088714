//! Whom the load is put on.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};

use super::failure::{Failure, Kind};
use crate::s3::{Client, Credentials, Endpoint};

/// What the threads of the server's processes got of the CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerTime {
    pub ran_ns: u64,
    /// Ready to run, and without a CPU.
    pub waited_ns: u64,
}

impl ServerTime {
    pub fn add(self, other: Self) -> Self {
        Self { ran_ns: self.ran_ns + other.ran_ns, waited_ns: self.waited_ns + other.waited_ns }
    }

    /// From an earlier look to this one. A thread that has ended takes its time with it.
    pub fn since(self, start: Self) -> Self {
        let ran_ns = self.ran_ns.saturating_sub(start.ran_ns);
        Self { ran_ns, waited_ns: self.waited_ns.saturating_sub(start.waited_ns) }
    }

    /// How long it waited, by the time for which it ran.
    pub fn wait_ratio(self) -> f64 {
        self.waited_ns as f64 / self.ran_ns.max(1) as f64
    }
}

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

    /// Of the server's processes so far, all their threads together.
    pub(super) fn server_time(&self) -> Option<ServerTime> {
        if self.server_pids.is_empty() {
            return None;
        }
        let mut times = self.server_pids.iter().map(|pid| process_time(*pid));
        times.try_fold(ServerTime::default(), |sum, time| Some(sum.add(time?)))
    }
}

/// Adds up the threads' scheduler statistics: they count nanoseconds, where `/proc/PID/stat` counts ticks of 10 ms.
fn process_time(pid: u32) -> Option<ServerTime> {
    let mut total = ServerTime::default();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = task.ok()?.path().join("schedstat");
        // A thread may end between the listing and the look.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let mut fields = text.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(ran_ns)), Some(Ok(waited_ns))) = (fields.next(), fields.next()) else { return None };
        total = total.add(ServerTime { ran_ns, waited_ns });
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_this_process_grows() {
        let before = process_time(std::process::id()).unwrap();
        let mut word = 1_u64;
        while process_time(std::process::id()).unwrap().ran_ns == before.ran_ns {
            word = std::hint::black_box(word.wrapping_mul(3));
        }
        assert_eq!(process_time(u32::MAX), None, "no such process");
    }

    #[test]
    fn a_server_that_got_a_third_of_its_cpu_waited_twice_as_long_as_it_ran() {
        let (start, end) =
            (ServerTime { ran_ns: 5, waited_ns: 7 }, ServerTime { ran_ns: 105, waited_ns: 207 });
        assert_eq!(end.since(start).wait_ratio(), 2.0);
    }
}
