//! A rate, metered: the generic cell rate algorithm (ITU-T I.371) in one word that all cores share.
//!
//! The word is the time at which all that was taken is paid for at the rate. Over any time `t`, at most `rate * (t + BURST) + 1` are taken, by all cores
//! together.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a meter may be ahead: requests come in bunches, and a bunch of this length counts as even.
pub const BURST_NS: u64 = 100_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// One rate's state.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// Takes one at `rate` per second. Answers when it is due: `now`, or later within a bunch.
    ///
    /// # Errors
    /// The time from now until one can be taken; `u64::MAX` at rate 0.
    pub fn take(&self, rate: u32, now: u64) -> Result<u64, u64> {
        if rate == 0 {
            return Err(u64::MAX);
        }
        let step = SECOND_NS / u64::from(rate);
        // Relaxed: the word stands for itself.
        let mut paid_until = self.0.load(Ordering::Relaxed);
        loop {
            if paid_until > now + BURST_NS {
                return Err(paid_until - now - BURST_NS);
            }
            let due = paid_until.max(now);
            match self.0.compare_exchange_weak(paid_until, due + step, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(due),
                Err(seen) => paid_until = seen,
            }
        }
    }

    /// Forgets what was taken, for a new rate: a debt made at a low rate is no debt at a high one.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the attempts, one every `interval`, are granted.
    fn granted(rate: u32, attempts: u64, interval: u64) -> u64 {
        let meter = Meter::default();
        (0..attempts).map(|n| u64::from(meter.take(rate, n * interval).is_ok())).sum()
    }

    #[test]
    fn a_flood_gets_its_rate_and_one_bunch() {
        for rate in [1, 7, 300, 20_000] {
            let in_ten_seconds = granted(rate, 1_000_000, 10_000);
            let most = u64::from(rate) * 101 / 10 + 1;
            assert!((u64::from(rate) * 10..=most).contains(&in_ten_seconds), "{rate}: {in_ten_seconds}");
        }
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused() {
        assert_eq!(granted(300, 30_000, SECOND_NS / 300 + 1), 30_000);
    }

    #[test]
    fn a_bunch_is_due_at_the_rate() {
        let meter = Meter::default();
        let due: Vec<u64> = (0..4).filter_map(|_| meter.take(100, SECOND_NS).ok()).collect();
        assert_eq!(due, [0, 1, 2, 3].map(|n| SECOND_NS + n * SECOND_NS / 100));
    }

    #[test]
    fn a_refusal_says_when_to_come_again_and_costs_nothing() {
        let meter = Meter::default();
        while meter.take(10, 0).is_ok() {}
        let wait = meter.take(10, 0).expect_err("still refused");
        assert_eq!(meter.take(10, 0), Err(wait));
        assert!(meter.take(10, wait - 1).is_err());
        assert!(meter.take(10, wait).is_ok());
        assert_eq!(meter.take(0, 0), Err(u64::MAX));
    }

    #[test]
    fn threads_together_get_one_rate() {
        let meter = Meter::default();
        let count = |_| (0..10_000u64).filter(|n| meter.take(1000, n * 100_000).is_ok()).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || count(n))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        // The last word is at most a bunch and a step ahead of the last time.
        assert!((1..=1101).contains(&total), "{total}");
    }
}
