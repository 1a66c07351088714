//! Counts operations and processor time of one process over a window, tells them, and ends the process.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Operations between two looks at the clock.
const OPERATIONS_PER_LOOK: u64 = 32;

/// One measurement of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Operations that ended in the window.
    pub operations: u64,
    /// Length of the window.
    pub elapsed: Duration,
    /// Time that the process, the kernel's workers for it included, was on a processor.
    pub cpu: Duration,
}

impl Figures {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time per operation, in microseconds.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.operations as f64
    }

    /// The line that a measured process ends with.
    fn line(&self) -> String {
        format!("measured {} {} {}", self.operations, self.elapsed.as_nanos(), self.cpu.as_nanos())
    }

    /// Reads such a line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix("measured ")?.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (operations, elapsed, cpu) = (next()?, next()?, next()?);
        Some(Figures { operations, elapsed: Duration::from_nanos(elapsed), cpu: Duration::from_nanos(cpu) })
    }
}

/// Where the clocks stood.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: Duration,
    operations: u64,
}

/// Counts. Belongs to one thread.
pub struct Meter {
    warm_up: Duration,
    window: Duration,
    operations: Cell<u64>,
    began: Cell<Option<Instant>>,
    mark: Cell<Option<Mark>>,
}

impl Meter {
    /// Measures for `window`, which begins that long after the first operation.
    pub fn new(warm_up: Duration, window: Duration) -> Self {
        let (operations, began, mark) = (Cell::new(0), Cell::new(None), Cell::new(None));
        Meter { warm_up, window, operations, began, mark }
    }

    /// Counts an operation that has ended. After the window, tells the figures and ends the process, whatever is in flight.
    pub fn count(&self) {
        self.operations.set(self.operations.get() + 1);
        if self.operations.get() % OPERATIONS_PER_LOOK == 1
            && let Some(figures) = self.look(Instant::now())
        {
            println!("{}", figures.line());
            std::process::exit(0);
        }
    }

    fn look(&self, now: Instant) -> Option<Figures> {
        let Some(began) = self.began.get() else {
            self.began.set(Some(now));
            return None;
        };
        let Some(mark) = self.mark.get() else {
            if now - began >= self.warm_up {
                self.mark.set(Some(Mark { at: now, cpu: process_cpu(), operations: self.operations.get() }));
            }
            return None;
        };
        let elapsed = now - mark.at;
        let is_over = elapsed >= self.window;
        is_over.then(|| Figures {
            operations: self.operations.get() - mark.operations,
            elapsed,
            cpu: process_cpu() - mark.cpu,
        })
    }
}

/// Time of all threads of this process on a processor.
pub fn process_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// Time of this thread on a processor.
pub fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts() {
        let meter = Meter::new(Duration::from_millis(10), Duration::from_millis(20));
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        assert_eq!(meter.look(at(0)), None);
        meter.operations.set(100);
        assert_eq!(meter.look(at(10)), None);
        meter.operations.set(150);
        assert_eq!(meter.look(at(29)), None);
        meter.operations.set(160);
        let figures = meter.look(at(30)).expect("the window is over");
        assert_eq!((figures.operations, figures.elapsed), (60, Duration::from_millis(20)));
    }

    #[test]
    fn figures_survive_the_pipe() {
        let figures =
            Figures { operations: 7, elapsed: Duration::from_nanos(9), cpu: Duration::from_nanos(4) };
        assert_eq!(Figures::parse(&figures.line()), Some(figures));
        assert_eq!(Figures::parse("port 80"), None);
    }
}
