//! Whether a bucket shares a core with others that count on their rate.

use std::cell::Cell;

/// How long after a committed request its bucket still counts as a neighbour: much longer than between two requests of one that uses its rate.
const NEIGHBOUR_NS: u64 = 1_000_000_000;

/// When buckets last had committed requests: the last of them, and the last other one.
#[derive(Debug, Default)]
pub struct Neighbours {
    last: Cell<Option<Seen>>,
    other: Cell<Option<Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    slot: usize,
    at: u64,
}

impl Neighbours {
    /// The bucket of that account has a committed request now.
    pub fn note(&self, slot: usize, now: u64) {
        let last = self.last.replace(Some(Seen { slot, at: now }));
        if last.is_some_and(|last| last.slot != slot) {
            self.other.set(last);
        }
    }

    /// Whether another bucket than that one has had one lately.
    pub fn has(&self, slot: usize, now: u64) -> bool {
        let last = self.last.get();
        let seen = if last.is_some_and(|last| last.slot != slot) { last } else { self.other.get() };
        seen.is_some_and(|seen| now < seen.at.saturating_add(NEIGHBOUR_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_no_neighbour_of_its_own_and_others_are_for_a_second() {
        let neighbours = Neighbours::default();
        assert!(!neighbours.has(1, 0));
        neighbours.note(1, 0);
        assert!(!neighbours.has(1, 1) && neighbours.has(2, 1));
        neighbours.note(2, 10);
        assert!(neighbours.has(1, 11) && neighbours.has(2, 11));
        (0..100).for_each(|n| neighbours.note(2, 20 + n));
        assert!(neighbours.has(2, NEIGHBOUR_NS - 1) && !neighbours.has(2, NEIGHBOUR_NS), "1 was there at 0");
        assert!(neighbours.has(1, 119 + NEIGHBOUR_NS - 1) && !neighbours.has(1, 119 + NEIGHBOUR_NS));
    }
}
