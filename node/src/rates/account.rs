//! One bucket's account: its targets, and what it has taken of them, on all cores together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::meter::Meter;
use super::tally::Tally;
use super::targets::{Class, Targets};

/// How a request stands to its bucket's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Within the guaranteed rate; due at that time.
    Committed {
        /// When, in nanoseconds.
        due: u64,
    },
    /// Beyond it.
    Surplus,
    /// Beyond the ceiling.
    Over {
        /// Nanoseconds until one more fits.
        wait: u64,
    },
}

/// The account of a bucket.
#[derive(Debug)]
pub struct Account {
    /// Its place in the queues of the cores: dense, from 0.
    pub slot: usize,
    /// Where its requests are counted.
    pub tally: Arc<Tally>,
    sides: [Side; 2],
}

/// One class. Cores that serve reads and cores that serve writes don't share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Side {
    rate: AtomicU32,
    /// 0: none.
    ceiling: AtomicU32,
    committed: Meter,
    all: Meter,
}

impl Account {
    /// An account with nothing taken.
    pub fn new(slot: usize, targets: &Targets, tally: Arc<Tally>) -> Self {
        let account = Account { slot, tally, sides: Default::default() };
        account.retarget(targets);
        account
    }

    /// Changes the targets, for all cores at once.
    pub fn retarget(&self, targets: &Targets) {
        for class in Class::ALL {
            let side = &self.sides[class.index()];
            let (rate, ceiling) = (targets.rate(class), targets.ceiling(class));
            if side.rate.swap(rate, Ordering::Relaxed) != rate {
                side.committed.reset();
            }
            if side.ceiling.swap(ceiling, Ordering::Relaxed) != ceiling {
                side.all.reset();
            }
        }
    }

    /// Takes account of a request that comes now.
    pub fn enter(&self, class: Class, now: u64) -> Standing {
        let side = &self.sides[class.index()];
        let ceiling = side.ceiling.load(Ordering::Relaxed);
        if ceiling != 0
            && let Err(wait) = side.all.take(ceiling, now)
        {
            return Standing::Over { wait };
        }
        self.commit(class, now).map_or(Standing::Surplus, |due| Standing::Committed { due })
    }

    /// Takes one of the guaranteed rate, if there is one: when it is due.
    pub fn commit(&self, class: Class, now: u64) -> Option<u64> {
        let side = &self.sides[class.index()];
        side.committed.take(side.rate.load(Ordering::Relaxed), now).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn account(targets: &Targets) -> Account {
        Account::new(0, targets, Arc::new(Tally::new("b".into(), 1)))
    }

    #[test]
    fn a_flood_is_committed_to_its_rate_then_surplus_then_over() {
        let targets = Targets { reads: 100, reads_max: NonZeroU32::new(300), ..Targets::default() };
        let account = account(&targets);
        let (mut committed, mut surplus, mut over) = (0, 0, 0);
        for n in 0..100_000u64 {
            match account.enter(Class::Read, n * 100_000) {
                Standing::Committed { .. } => committed += 1,
                Standing::Surplus => surplus += 1,
                Standing::Over { .. } => over += 1,
            }
        }
        assert!((1000..=1011).contains(&committed), "{committed}");
        assert!((3000..=3031).contains(&(committed + surplus)), "{committed} + {surplus}");
        assert_eq!(committed + surplus + over, 100_000);
    }

    #[test]
    fn classes_are_metered_apart() {
        let account = account(&Targets { reads: 1, writes: 1, ..Targets::default() });
        assert_eq!(account.enter(Class::Read, 0), Standing::Committed { due: 0 });
        assert!(account.commit(Class::Read, 0).is_none_or(|due| due > 0));
        assert_eq!(account.enter(Class::Write, 0), Standing::Committed { due: 0 });
    }

    #[test]
    fn new_targets_count_at_once_and_forget_old_debts() {
        let account = account(&Targets { reads_max: NonZeroU32::new(1), reads: 1, ..Targets::default() });
        while !matches!(account.enter(Class::Read, 0), Standing::Over { .. }) {}
        account.retarget(&Targets::default());
        assert_eq!(account.enter(Class::Read, 0), Standing::Committed { due: 0 });
    }
}
