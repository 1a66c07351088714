//! The client: wrk, with a script that sends requests made beforehand.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::program;

const SCRIPT: &str = include_str!("wrk.lua");

/// Beyond the time it shall take: connecting, and requests in flight at the end.
const GRACE: Duration = Duration::from_secs(60);

/// How requests are shared among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One thread sends them one after the other, again and again.
    Cycle,
    /// A thread for each, which sends it alone.
    OneEach,
}

/// A load of one run.
pub(super) struct Load<'a> {
    pub url: String,
    pub heads: &'a [String],
    pub body_len: usize,
    pub order: Order,
    pub connections: u32,
    pub seconds: u64,
}

/// What only the client sees. Its counts of requests and bytes begin with the first handshake, and are not used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Answers other than 2xx and 3xx, connections that failed, and requests without an answer in time.
    pub errors: u64,
}

impl Load<'_> {
    /// Runs wrk on one CPU, calling `watch` all the while. Its files go to `work`.
    pub fn run(
        &self,
        cpu: usize,
        work: &Path,
        watch: impl FnMut(u32, Duration) -> io::Result<()>,
    ) -> io::Result<Figures> {
        let (script, heads) = (work.join("wrk.lua"), work.join("requests"));
        fs::write(&script, SCRIPT)?;
        fs::write(&heads, self.heads.join("\0"))?;
        let (threads, order) = match self.order {
            Order::Cycle => (1, "cycle"),
            Order::OneEach => (self.heads.len(), "one-each"),
        };
        let mut command = program::pinned(cpu, "wrk");
        command.args(["-t", &threads.to_string(), "-c", &self.connections.to_string()]);
        command.args(["-d", &format!("{}s", self.seconds), "--timeout", "30s", "-s"]).arg(&script);
        command.arg(&self.url).arg("--").arg(&heads).args([&self.body_len.to_string(), order]);
        let limit = Duration::from_secs(self.seconds) + GRACE;
        let output = program::run_watched(&mut command, limit, watch)?;
        parse(&output).ok_or_else(|| io::Error::other(format!("wrk's output is not understood:\n{output}")))
    }
}

/// The line that the script writes at the end.
fn parse(output: &str) -> Option<Figures> {
    let line = output.lines().find_map(|line| line.strip_prefix("figures "))?;
    let value = |name: &str| {
        line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    Some(Figures {
        p50_ms: value("p50_us")? as f64 / 1e3,
        p99_ms: value("p99_us")? as f64 / 1e3,
        errors: value("bad_status")? + value("bad_socket")? + value("timeouts")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 4s test @ https://127.0.0.1:1/\n  1 threads and 64 connections\n\
        Requests/sec:  1.00\n\nfigures p50_us=1500 p99_us=2500 \
        bad_status=1 bad_socket=2 timeouts=3\n";

    #[test]
    fn the_line_of_the_script_is_found_among_what_wrk_says() {
        let expected = Figures { p50_ms: 1.5, p99_ms: 2.5, errors: 6 };
        assert_eq!(parse(OUTPUT), Some(expected));
    }

    #[test]
    fn output_without_a_figure_is_not_taken_for_zero() {
        assert_eq!(parse("Running 4s test"), None);
        assert_eq!(parse(&OUTPUT.replace("timeouts=3", "timeouts=-1")), None);
    }

    #[test]
    fn the_script_writes_the_line_that_is_read() {
        for name in ["p50_us=", "p99_us=", "bad_status=", "bad_socket=", "timeouts="] {
            assert!(SCRIPT.contains(&format!("{name}%d")), "{name}");
        }
    }
}
