//! What every key may hold: the memory against which reads are judged.
//!
//! A read is right when it gives a write that could be the newest: none that was overwritten, by a write acknowledged
//! before the read began, is. Writes to one key that overlap may take effect in either order, so they form a group
//! whose first generation is the floor of reads once all of the group have ended. A write whose fate is unknown (its
//! connection broke) may take effect at any later time, and its key is believed anything from then on.
//!
//! Each key is written by one thread only, so its counters need no lock; reads come from any thread.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The server acknowledged it.
    Applied,
    /// The server refused it.
    Refused,
    /// There was no answer.
    Unknown,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A body of this run.
    Generation(u64),
    /// A sound body of another run.
    Foreign,
    /// No such key.
    Missing,
}

/// What to think of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is as it may be.
    Right,
    /// Nothing was stored there in this run, so that its absence is no fault of the server.
    NeverStored,
    /// It is not.
    Wrong(String),
}

#[derive(Default)]
struct Key {
    issued: AtomicU32,
    group_first: AtomicU32,
    floor: AtomicU32,
    deleted: AtomicU32,
    group: AtomicU32,
}

/// In `Key::group`, above the count of writes in flight.
const HAS_APPLIED: u32 = 1 << 30;
const IS_UNCERTAIN: u32 = 1 << 31;

pub(super) struct Book {
    keys: Vec<Key>,
}

impl Book {
    pub fn new(key_count: u64) -> Self {
        Self { keys: (0..key_count).map(|_| Key::default()).collect() }
    }

    /// A write to the key begins. Returns its generation. Called by the owner of the key alone.
    pub fn begin(&self, key: u64, is_delete: bool) -> u64 {
        let key = &self.keys[key as usize];
        let generation = key.issued.load(Relaxed) + 1;
        let group = key.group.load(Relaxed);
        if group & !IS_UNCERTAIN & !HAS_APPLIED == 0 {
            key.group_first.store(generation, Relaxed);
        }
        key.group.store(group + 1, Relaxed);
        if is_delete {
            key.deleted.store(generation, Release);
        }
        key.issued.store(generation, Release);
        u64::from(generation)
    }

    /// The write has ended. Called by the owner of the key alone.
    pub fn end(&self, key: u64, fate: Fate) {
        let key = &self.keys[key as usize];
        let mut group = key.group.load(Relaxed) - 1;
        match fate {
            Fate::Applied => group |= HAS_APPLIED,
            Fate::Refused => {}
            Fate::Unknown => group |= IS_UNCERTAIN,
        }
        if group & IS_UNCERTAIN != 0 {
            key.floor.store(0, Release);
        } else if group == HAS_APPLIED {
            key.floor.store(key.group_first.load(Relaxed), Release);
        }
        if group & !IS_UNCERTAIN & !HAS_APPLIED == 0 {
            group &= IS_UNCERTAIN;
        }
        key.group.store(group, Relaxed);
    }

    /// What a read that begins now must not be older than.
    pub fn floor(&self, key: u64) -> u32 {
        self.keys[key as usize].floor.load(Acquire)
    }

    /// Judges a read that began when the floor was `floor`.
    pub fn judge(&self, key: u64, floor: u32, seen: Seen) -> Verdict {
        let key = &self.keys[key as usize];
        let issued = key.issued.load(Acquire);
        match seen {
            Seen::Generation(it) if it > u64::from(issued) => {
                Verdict::Wrong(format!("write {it} was read, and only {issued} were sent"))
            }
            Seen::Generation(it) if it < u64::from(floor) => Verdict::Wrong(format!(
                "write {it} was read, although {floor} or a later one was acknowledged before"
            )),
            Seen::Foreign if floor > 0 => Verdict::Wrong(format!(
                "an object of another run was read, although write {floor} was acknowledged before"
            )),
            Seen::Generation(_) | Seen::Foreign => Verdict::Right,
            Seen::Missing => {
                let deleted = key.deleted.load(Acquire);
                if deleted > 0 && deleted >= floor {
                    Verdict::Right
                } else if floor == 0 {
                    Verdict::NeverStored
                } else {
                    Verdict::Wrong(format!(
                        "it is missing, although write {floor} was acknowledged and nothing deleted it"
                    ))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wrong(book: &Book, floor: u32, seen: Seen) -> bool {
        matches!(book.judge(0, floor, seen), Verdict::Wrong(_))
    }

    #[test]
    fn a_read_older_than_what_was_acknowledged_is_wrong() {
        let book = Book::new(1);
        assert_eq!(book.judge(0, 0, Seen::Missing), Verdict::NeverStored);
        for _ in 0..2 {
            book.begin(0, false);
            book.end(0, Fate::Applied);
        }
        let floor = book.floor(0);
        assert_eq!(floor, 2);
        assert!(is_wrong(&book, floor, Seen::Generation(1)));
        assert!(is_wrong(&book, floor, Seen::Missing));
        assert!(is_wrong(&book, floor, Seen::Foreign));
        assert!(is_wrong(&book, floor, Seen::Generation(3)), "never sent");
        assert_eq!(book.judge(0, floor, Seen::Generation(2)), Verdict::Right);
    }

    #[test]
    fn overlapping_writes_may_take_effect_in_either_order() {
        let book = Book::new(1);
        book.begin(0, false);
        book.begin(0, false);
        book.end(0, Fate::Applied);
        assert_eq!(book.floor(0), 0, "the group is still open");
        book.end(0, Fate::Applied);
        assert_eq!(book.floor(0), 1);
        assert!(!is_wrong(&book, 1, Seen::Generation(1)) && !is_wrong(&book, 1, Seen::Generation(2)));
    }

    #[test]
    fn a_deleted_key_may_be_missing_until_it_is_written_again() {
        let book = Book::new(1);
        for is_delete in [false, true] {
            book.begin(0, is_delete);
            book.end(0, Fate::Applied);
        }
        assert_eq!(book.judge(0, book.floor(0), Seen::Missing), Verdict::Right);
        assert!(is_wrong(&book, book.floor(0), Seen::Generation(1)), "it came back");
        book.begin(0, false);
        book.end(0, Fate::Applied);
        assert!(is_wrong(&book, book.floor(0), Seen::Missing));
    }

    #[test]
    fn a_refused_write_changes_nothing_and_an_unknown_one_ends_all_certainty() {
        let book = Book::new(1);
        book.begin(0, false);
        book.end(0, Fate::Applied);
        book.begin(0, false);
        book.end(0, Fate::Refused);
        assert_eq!(book.floor(0), 1);
        book.begin(0, false);
        book.end(0, Fate::Unknown);
        book.begin(0, false);
        book.end(0, Fate::Applied);
        assert_eq!(book.floor(0), 0);
    }
}
