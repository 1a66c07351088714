//! What a run tells while it runs: one line that is rewritten on a terminal, a line every few seconds elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);
const TERMINAL_PAUSE: Duration = Duration::from_millis(250);

/// What is happening.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Like `round 2/3`.
    pub phase: String,
    /// Time in it so far.
    pub at: Duration,
    /// Its whole length, if it ends by time.
    pub of: Option<Duration>,
    /// Operations that ended well, so far.
    pub completed: u64,
    /// In the last whole interval.
    pub per_second: f64,
    /// In the last whole interval, of all operations.
    pub p99_us: u64,
    /// So far.
    pub failed: u64,
}

/// Where it is told.
pub struct Watch {
    out: Option<Box<dyn Write>>,
    is_terminal: bool,
    last: Option<Instant>,
    has_open_line: bool,
}

impl Watch {
    /// On standard error.
    pub fn on_stderr() -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { out: Some(Box::new(io::stderr())), is_terminal, last: None, has_open_line: false }
    }

    /// Nowhere.
    pub fn silent() -> Self {
        Self { out: None, is_terminal: false, last: None, has_open_line: false }
    }

    /// Says something once.
    pub fn say(&mut self, what: &str) {
        self.close_line();
        if let Some(out) = &mut self.out {
            // Progress that can't be shown is no reason to end a measurement.
            let _ = writeln!(out, "{what}");
        }
    }

    pub(super) fn is_due(&self) -> bool {
        let pause = if self.is_terminal { TERMINAL_PAUSE } else { PLAIN_PAUSE };
        self.out.is_some() && self.last.is_none_or(|last| last.elapsed() >= pause)
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        self.last = Some(Instant::now());
        let Some(out) = &mut self.out else { return };
        let Progress { phase, at, of, completed, per_second, p99_us, failed } = progress;
        let of = of.map_or(String::new(), |of| format!(" of {:.0}", of.as_secs_f64()));
        let p99_ms = *p99_us as f64 / 1e3;
        let line = format!(
            "{phase}  {:.0}{of} s  {completed} done  {per_second:.0}/s  p99 {p99_ms:.2} ms  {failed} failed",
            at.as_secs_f64()
        );
        if self.is_terminal {
            let _ = write!(out, "\r\x1b[2K{line}");
            self.has_open_line = true;
        } else {
            let _ = writeln!(out, "{line}");
        }
        let _ = out.flush();
    }

    /// Begins a phase: its first line comes after a pause.
    pub(super) fn start_phase(&mut self) {
        self.last = Some(Instant::now());
    }

    pub(super) fn close_line(&mut self) {
        if let Some(out) = self.out.as_mut().filter(|_| self.has_open_line) {
            let _ = write!(out, "\r\x1b[2K");
            let _ = out.flush();
        }
        self.has_open_line = false;
    }
}
