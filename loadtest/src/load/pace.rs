//! When requests are due.
//!
//! In a closed loop the next request follows the answer, so that a server that stalls is asked less while it stalls, and
//! the stall is seen in one request per connection only ("coordinated omission"). In an open loop requests are due at
//! times that nothing moves, and their latency counts from then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::draw::Arrival;
use super::scenario::Operation;
use crate::rng::Rng;

/// What a stream asks for; what it leaves open is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub bucket: Option<u32>,
    pub operation: Option<Operation>,
}

/// Requests at a rate.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub ask: Ask,
    /// A second, over all threads.
    pub rate: f64,
}

struct Line {
    ask: Ask,
    period_ns: f64,
    start: f64,
    count: u64,
    poisson_at: f64,
}

/// The due times of one thread: its part of all streams.
pub(super) struct Schedule {
    lines: Vec<Line>,
    next: BinaryHeap<Reverse<(u64, usize)>>,
    arrival: Arrival,
    rng: Rng,
    end: u64,
}

impl Schedule {
    /// The part of thread `index` of `thread_count` in streams that run from `start` until `end`, in nanoseconds.
    pub fn new(
        streams: &[Stream],
        arrival: Arrival,
        (index, thread_count): (u32, u32),
        rng: Rng,
        span: (u64, u64),
    ) -> Self {
        let stream_count = streams.len() as f64;
        let lines = streams.iter().enumerate().map(|(number, stream)| {
            let period_ns = 1e9 * f64::from(thread_count) / stream.rate;
            // Threads take turns, and streams are spread over the period, so that nothing comes in bursts.
            let phase = f64::from(index) / f64::from(thread_count)
                + number as f64 / stream_count / f64::from(thread_count);
            let start = span.0 as f64 + period_ns * phase;
            Line { ask: stream.ask, period_ns, start, count: 0, poisson_at: start }
        });
        let lines: Vec<Line> = lines.collect();
        let mut schedule = Self { lines, next: BinaryHeap::new(), arrival, rng, end: span.1 };
        (0..schedule.lines.len()).for_each(|line| schedule.plan(line));
        schedule
    }

    fn plan(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let at = match self.arrival {
            // From the count, so that errors of rounding do not add up.
            Arrival::Steady => line.start + line.count as f64 * line.period_ns,
            Arrival::Poisson => {
                line.poisson_at -= self.rng.unit().ln() * line.period_ns;
                line.poisson_at
            }
        };
        line.count += 1;
        if at < self.end as f64 {
            self.next.push(Reverse((at as u64, index)));
        }
    }

    /// When the next request is due; `None` when none is any more.
    pub fn next_due(&self) -> Option<u64> {
        self.next.peek().map(|Reverse((at, _))| *at)
    }

    /// The next request, if it is due.
    pub fn take(&mut self, now: u64) -> Option<(u64, Ask)> {
        let Reverse((at, index)) = *self.next.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.next.pop();
        self.plan(index);
        Some((at, self.lines[index].ask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Ask = Ask { bucket: None, operation: None };

    fn times(arrival: Arrival, threads: u32, rate: f64, seconds: u64) -> Vec<u64> {
        let streams = [Stream { ask: ANY, rate }];
        let mut all = Vec::new();
        for index in 0..threads {
            let span = (0, seconds * 1_000_000_000);
            let mut schedule =
                Schedule::new(&streams, arrival, (index, threads), Rng::new(u64::from(index)), span);
            all.extend(std::iter::from_fn(|| schedule.take(u64::MAX)).map(|(at, _)| at));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn threads_together_keep_a_steady_rate() {
        let all = times(Arrival::Steady, 3, 300.0, 10);
        assert_eq!(all.len(), 3000);
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] > 3_000_000), "evenly spread");
    }

    #[test]
    fn random_arrivals_keep_the_rate_on_average() {
        let count = times(Arrival::Poisson, 2, 1000.0, 10).len();
        assert!((9_500..10_500).contains(&count), "{count}");
    }

    #[test]
    fn a_request_keeps_its_time_however_late_it_is_taken() {
        let mut schedule = Schedule::new(
            &[Stream { ask: ANY, rate: 1000.0 }],
            Arrival::Steady,
            (0, 1),
            Rng::new(1),
            (0, u64::MAX / 4),
        );
        assert_eq!(schedule.take(0).map(|(at, _)| at), Some(0));
        assert_eq!(schedule.take(999_999), None);
        let late: Vec<u64> = (0..3).map(|_| schedule.take(1_000_000_000).unwrap().0).collect();
        assert_eq!(late, [1_000_000, 2_000_000, 3_000_000]);
    }
}
