//! Where the time of a request goes.
//!
//! A connection has one [`Stopwatch`]. From the head of a request to the last byte of its response it is in exactly one [`Stage`] at any moment, so
//! that the stages never add up to more than the whole. Going from one stage to another costs one look at the clock; staying costs none, and neither does a
//! wait that turns out to be none. While no request is under way it stands still, and costs nothing.
//!
//! ```text
//!   begin ─> Crypto (signature) ─> Other ─> Queue (its turn) ─> Other ─> Device (a read) ─> Crypto (opened) ─> Other ─> Crypto (sealed) ─> Network (sent) ─> stop
//! ```
//! The engine knows no clock, and needs none: what it waits for are devices, and what it does once they have answered is opening and sealing. So a
//! call of it is watched from outside ([`Stopwatch::wait`]). A call on another core is watched there, by a stopwatch of its own, and what that
//! says comes home with the answer.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

/// What a request is doing, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// None of the others: parsing, routing, looking up, rendering.
    Other,
    /// Waiting for its turn: at the gate, for memory, for space in the store, for another core.
    Queue,
    /// Waiting for devices: reads, writes, flushes. Also until the core has time again for what they answered.
    Device,
    /// Sealing and opening, at rest and for TLS, signatures, digests; with the copying that goes along.
    Crypto,
    /// Waiting for the client: for bytes of its body, and until it has taken those of the response.
    Network,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Stage; 5] = [Stage::Other, Stage::Queue, Stage::Device, Stage::Crypto, Stage::Network];

    /// What metrics and headers call it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Other => "other",
            Stage::Queue => "queue",
            Stage::Device => "device",
            Stage::Crypto => "crypto",
            Stage::Network => "network",
        }
    }

    fn is_waiting(self) -> bool {
        matches!(self, Stage::Queue | Stage::Device | Stage::Network)
    }
}

/// How long a request was in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times([u64; Stage::ALL.len()]);

impl Times {
    /// Nanoseconds in that stage.
    pub fn nanos(&self, stage: Stage) -> u64 {
        self.0[stage as usize]
    }

    /// All stages together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.iter().sum())
    }
}

/// As the value of `Server-Timing` (W3C): what is known by now, in milliseconds.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded down, each and the total: so they keep adding up to no more than it.
        let metric = |f: &mut fmt::Formatter<'_>, name: &str, nanos: u64| {
            let us = nanos / 1000;
            write!(f, "{name};dur={}.{:03}", us / 1000, us % 1000)
        };
        for stage in [Stage::Queue, Stage::Device, Stage::Crypto, Stage::Network] {
            metric(f, stage.name(), self.nanos(stage))?;
            f.write_str(", ")?;
        }
        metric(f, "total", self.0.iter().sum())
    }
}

/// The stopwatch of a connection, or of a call on another core.
#[derive(Debug)]
pub struct Stopwatch {
    times: Cell<Times>,
    stage: Cell<Stage>,
    since: Cell<Instant>,
    is_running: Cell<bool>,
}

impl Stopwatch {
    /// One that stands still.
    pub fn new() -> Self {
        Stopwatch {
            times: Cell::default(),
            stage: Cell::new(Stage::Other),
            since: Cell::new(Instant::now()),
            is_running: Cell::new(false),
        }
    }

    /// One that runs.
    pub fn begun() -> Self {
        let watch = Self::new();
        watch.is_running.set(true);
        watch
    }

    /// Begins anew, in that stage; answers when that is.
    pub fn begin(&self, stage: Stage) -> Instant {
        let now = Instant::now();
        self.times.set(Times::default());
        self.stage.set(stage);
        self.since.set(now);
        self.is_running.set(true);
        now
    }

    /// From now on it is that stage; answers which it was.
    pub fn enter(&self, stage: Stage) -> Stage {
        let former = self.stage.get();
        if former != stage && self.is_running.get() {
            self.settle();
            self.stage.set(stage);
        }
        former
    }

    /// The stage that it is in.
    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// How it stands now.
    pub fn times(&self) -> Times {
        if self.is_running.get() {
            self.settle();
        }
        self.times.get()
    }

    /// Stands still from the last change of stage on, which for a request is the moment when its last byte was taken.
    pub fn stop(&self) -> Times {
        self.is_running.set(false);
        self.stage.set(Stage::Other);
        self.times.get()
    }

    /// Watches over a call: while it waits, that is `waits`, unless something within it knows better; once it has waited, what it does is `works`; in the
    /// end all is as before. A large call is better given pinned, since it is moved otherwise.
    pub async fn wait<F: Future>(&self, waits: Stage, works: Stage, call: F) -> F::Output {
        let mut call = pin!(call);
        let former = self.stage.get();
        let mut has_waited = false;
        poll_fn(|context| {
            if has_waited {
                self.enter(works);
            }
            let poll = call.as_mut().poll(context);
            if poll.is_pending() {
                has_waited = true;
                if !self.stage.get().is_waiting() {
                    self.enter(waits);
                }
            } else if has_waited {
                self.enter(former);
            }
            poll
        })
        .await
    }

    /// Time that was counted to `from` was spent in `to` instead, as far as there is any.
    pub fn recount(&self, from: Stage, to: Stage, nanos: u64) {
        let mut times = self.times.get();
        let nanos = nanos.min(times.nanos(from));
        times.0[from as usize] -= nanos;
        times.0[to as usize] += nanos;
        self.times.set(times);
    }

    /// Counts the time since the last look.
    fn settle(&self) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.since.replace(now));
        let mut times = self.times.get();
        times.0[self.stage.get() as usize] += u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.times.set(times);
    }
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(2);

    fn pause() {
        std::thread::sleep(PAUSE);
    }

    /// Waits twice, and works for a moment after each time.
    async fn call() -> u8 {
        for _ in 0..2 {
            futures_util::pending!();
            pause();
        }
        7
    }

    #[test]
    fn the_stages_are_the_whole() {
        let watch = Stopwatch::new();
        let begun = watch.begin(Stage::Other);
        for stage in Stage::ALL {
            watch.enter(stage);
            pause();
        }
        watch.enter(Stage::Other);
        let (times, elapsed) = (watch.stop(), begun.elapsed());
        assert!(Stage::ALL.iter().all(|stage| times.nanos(*stage) >= PAUSE.as_nanos() as u64), "{times:?}");
        assert!(times.total() <= elapsed, "{times:?} in {elapsed:?}");
        assert!(times.total() >= PAUSE * 5);
    }

    #[test]
    fn one_that_stands_still_counts_nothing() {
        let watch = Stopwatch::new();
        watch.enter(Stage::Network);
        pause();
        watch.enter(Stage::Crypto);
        assert_eq!(watch.times(), Times::default());
        watch.begin(Stage::Other);
        watch.enter(Stage::Crypto);
        let times = watch.stop();
        pause();
        watch.enter(Stage::Network);
        assert_eq!((watch.times(), times.nanos(Stage::Crypto)), (times, 0));
    }

    #[test]
    fn what_a_call_does_once_it_has_waited_is_its_work() {
        let watch = Stopwatch::begun();
        let mut waited = pin!(watch.wait(Stage::Device, Stage::Crypto, call()));
        assert!((&mut waited).now_or_never().is_none());
        pause();
        assert!((&mut waited).now_or_never().is_none());
        assert_eq!((&mut waited).now_or_never(), Some(7));
        assert_eq!(watch.enter(Stage::Other), Stage::Other);
        let times = watch.times();
        assert!(times.nanos(Stage::Device) >= PAUSE.as_nanos() as u64);
        assert!(times.nanos(Stage::Crypto) >= 2 * PAUSE.as_nanos() as u64);
        assert_eq!(times.nanos(Stage::Queue) + times.nanos(Stage::Network), 0);
    }

    #[test]
    fn a_call_that_need_not_wait_leaves_the_stage_alone() {
        let watch = Stopwatch::begun();
        let answer = watch.wait(Stage::Queue, Stage::Crypto, async { pause() }).now_or_never();
        assert!(answer.is_some());
        let times = watch.times();
        assert_eq!(Stage::ALL.map(|stage| times.nanos(stage) > 0), [true, false, false, false, false]);
    }

    #[test]
    fn the_innermost_says_what_is_waited_for() {
        let watch = Stopwatch::begun();
        let inner = async {
            watch.wait(Stage::Device, Stage::Other, call()).await;
            // For this the outer one has the word.
            futures_util::pending!();
        };
        let mut outer = pin!(watch.wait(Stage::Queue, Stage::Other, inner));
        for stage in [Stage::Device, Stage::Device, Stage::Queue] {
            assert!((&mut outer).now_or_never().is_none());
            assert_eq!(watch.enter(stage), stage);
        }
        assert!((&mut outer).now_or_never().is_some());
        assert_eq!(watch.enter(Stage::Other), Stage::Other);
    }

    #[test]
    fn no_more_is_recounted_than_there_is() {
        let watch = Stopwatch::begun();
        watch.enter(Stage::Queue);
        pause();
        watch.enter(Stage::Other);
        let before = watch.stop();
        watch.recount(Stage::Queue, Stage::Device, u64::MAX);
        let after = watch.times();
        assert_eq!((after.nanos(Stage::Queue), after.nanos(Stage::Device)), (0, before.nanos(Stage::Queue)));
        assert_eq!(after.total(), before.total());
    }

    #[test]
    fn a_header_has_every_stage_in_milliseconds_and_adds_up_to_no_more_than_its_total() {
        let times = Times([1, 1_999, 12_000_999, 999, 3_000_000]);
        let text =
            "queue;dur=0.001, device;dur=12.000, crypto;dur=0.000, network;dur=3.000, total;dur=15.003";
        assert_eq!(times.to_string(), text);
    }
}
