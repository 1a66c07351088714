//! How much CPU time a process took, and how busy a core was: from `/proc`, as proc(5) describes it.

use std::fs;
use std::io;

/// Ticks of `/proc` in a second. A constant of the kernel's interface on x86-64 and AArch64, whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// Which CPU is whose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpus {
    pub server: usize,
    pub client: usize,
}

/// The cores of server and client, since the start of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    server: CoreTime,
    client: CoreTime,
}

impl Cores {
    pub fn read(cpus: Cpus) -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let core = |cpu: usize| {
            CoreTime::find(&text, cpu).ok_or_else(|| io::Error::other(format!("/proc/stat has no CPU {cpu}")))
        };
        Ok(Self { server: core(cpus.server)?, client: core(cpus.client)? })
    }

    /// Busy parts of the server's and of the client's core, 0 to 1.
    pub fn busy_since(&self, begin: &Self) -> (f64, f64) {
        (self.server.busy_since(begin.server), self.client.busy_since(begin.client))
    }
}

/// Ticks of one core since the start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CoreTime {
    busy: u64,
    all: u64,
}

impl CoreTime {
    /// The line of that CPU in `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what follows counts
    /// twice.
    fn find(stat: &str, cpu: usize) -> Option<Self> {
        let name = format!("cpu{cpu}");
        let line = stat.lines().find(|line| line.split(' ').next() == Some(&name))?;
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let idle = ticks.get(3)? + ticks.get(4)?;
        let all = ticks.iter().sum();
        Some(Self { busy: all - idle, all })
    }

    fn busy_since(self, begin: Self) -> f64 {
        // Ticks of an idle core may go back by one or two.
        let all = self.all.saturating_sub(begin.all);
        if all == 0 { 0.0 } else { self.busy.saturating_sub(begin.busy) as f64 / all as f64 }
    }
}

/// CPU seconds that a process has taken, with those of its threads that have ended.
pub(super) fn process_seconds(pid: u32) -> io::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
    parse_process(&text)
        .map(|it| it.seconds)
        .ok_or_else(|| io::Error::other(format!("{path}: not understood")))
}

/// Bytes that a process has read and written by system calls, sockets included.
pub(super) fn process_bytes(pid: u32) -> io::Result<(u64, u64)> {
    let path = format!("/proc/{pid}/io");
    let text = fs::read_to_string(&path).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
    parse_bytes(&text).ok_or_else(|| io::Error::other(format!("{path}: not understood")))
}

fn parse_bytes(text: &str) -> Option<(u64, u64)> {
    let value = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((value("rchar:")?, value("wchar:")?))
}

/// The child of a process that has exactly one: nginx's worker.
pub(super) fn only_child(parent: u32) -> io::Result<Option<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended since the folder was read.
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if parse_process(&text).is_some_and(|process| process.parent == parent) {
            children.push(pid);
        }
    }
    Ok(if let [child] = children[..] { Some(child) } else { None })
}

#[derive(Debug, PartialEq)]
struct Process {
    parent: u32,
    seconds: f64,
}

/// `/proc/PID/stat`: the second field, the name, may hold anything, brackets and spaces too.
fn parse_process(text: &str) -> Option<Process> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // State is field 3, so that field n is at n - 3: parent 4, user ticks 14, system ticks 15.
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let seconds = (ticks(14)? + ticks(15)?) as f64 / TICKS_PER_SECOND;
    Some(Process { parent: fields.get(1)?.parse().ok()?, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 150 50 9 9 20 0 6 0 100 1 1";
        assert_eq!(parse_process(text), Some(Process { parent: 7, seconds: 2.0 }));
        assert_eq!(parse_process("42 (a) S 7"), None);
    }

    #[test]
    fn waiting_for_a_device_is_idle_and_stolen_time_is_not() {
        let before = "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 10 0 0 0 0 0 0 0 0 0\n";
        let after = "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 10 5 5 30 30 5 5 10 99 99\ncpu1 10 0 0 100 0 0 0 0 0 0\n";
        let busy = |cpu| CoreTime::find(after, cpu).unwrap().busy_since(CoreTime::find(before, cpu).unwrap());
        assert_eq!(busy(0), 0.4);
        assert_eq!(busy(1), 0.0);
        assert_eq!(CoreTime::find(after, 10), None, "cpu1 is not cpu10");
    }

    #[test]
    fn bytes_of_system_calls_are_not_those_of_the_disk() {
        let text = "rchar: 12\nwchar: 34\nsyscr: 1\nsyscw: 1\nread_bytes: 56\nwrite_bytes: 78\n";
        assert_eq!(parse_bytes(text), Some((12, 34)));
        assert_eq!(parse_bytes("read_bytes: 56"), None);
    }

    #[test]
    fn this_process_takes_cpu_time_and_has_a_parent() {
        let pid = std::process::id();
        let before = process_seconds(pid).unwrap();
        let mut x = 1_u64;
        while process_seconds(pid).unwrap() == before {
            for _ in 0..1_000_000 {
                x = std::hint::black_box(x.wrapping_mul(3));
            }
        }
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(parse_process(&text).unwrap().parent, std::os::unix::process::parent_id());
    }
}
