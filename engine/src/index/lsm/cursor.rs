//! Walking a directory in order: memtables and runs as one, the newest of each key, without what is removed.
//!
//! Every entry was current when it was given out, whatever changed since the cursor was made: before each step it looks whether the memtables
//! or the runs are others than it knows, and goes on from its position in what there is now.

use std::ops::Bound;
use std::rc::Rc;

use futures_util::future::join_all;

use super::Shared;
use super::source::{MemorySource, Position, RunSource};
use crate::device::Device;
use crate::error::Result;
use crate::event::yield_now;

/// Removals that are passed over before others get their turn: a tenth of a millisecond.
const REMOVALS_PER_TURN: usize = 1000;

/// A place in a directory.
pub struct Cursor<D: Device> {
    pub(super) shared: Rc<Shared<D>>,
    pub(super) position: Position,
    value: Vec<u8>,
    pub(super) memory: MemorySource,
    /// The newest first.
    pub(super) runs: Vec<RunSource<D>>,
    /// How the position changed since the sources of runs were told.
    pub(super) lag: Lag,
    /// State of the directory that the sources follow: see [`Shared`].
    seen_changes: u64,
    seen_installs: u64,
}

/// How a position changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lag {
    /// Not at all.
    None,
    /// It is not before where it was.
    Forward,
    /// It may be.
    Any,
}

/// The source of the least key.
#[derive(Clone, Copy)]
enum Least {
    Memory,
    Run(usize),
}

impl<D: Device> Cursor<D> {
    pub(super) fn new(shared: Rc<Shared<D>>) -> Self {
        let position = Position::default();
        let runs = shared.runs.borrow().iter().map(|run| RunSource::new(run.clone(), &position)).collect();
        Cursor {
            position,
            value: Vec::new(),
            memory: MemorySource { is_stale: true, ..MemorySource::default() },
            runs,
            lag: Lag::None,
            seen_changes: shared.changes.get(),
            seen_installs: shared.installs.get(),
            shared,
        }
    }

    /// The next entry is the first whose key is `key` or above. Reads nothing yet.
    pub fn seek(&mut self, key: &[u8]) {
        let from = self.position.key.as_slice();
        let is_forward = if self.position.is_passed { key > from } else { key >= from };
        self.position.key.clear();
        self.position.key.extend_from_slice(key);
        self.position.is_passed = false;
        if is_forward {
            self.memory.seek_forward(key);
        } else {
            self.memory.is_stale = true;
        }
        self.lag = if is_forward && self.lag != Lag::Any { Lag::Forward } else { Lag::Any };
    }

    /// Tells the sources of runs where the position is.
    pub(super) fn catch_up(&mut self) {
        if self.lag != Lag::None {
            self.runs.iter_mut().for_each(|source| source.seek(&self.position, self.lag == Lag::Forward));
            self.lag = Lag::None;
        }
    }

    /// The next entry, key and value; `None` at the end. What is inserted later among removed keys before the end is behind the cursor.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when no copy of a block verifies, [`crate::Error::Io`] when none can be read. The cursor stays where it was.
    pub async fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let mut removals = 0;
        loop {
            self.follow();
            self.catch_up();
            let least = self.least();
            if self.want_blocks(least) {
                self.load().await?;
                continue;
            }
            match least {
                None => return Ok(None),
                Some(least) if self.take(least) => break,
                Some(_) => removals += 1,
            }
            if removals == REMOVALS_PER_TURN {
                removals = 0;
                yield_now().await;
            }
        }
        Ok(Some((&self.position.key, &self.value)))
    }

    /// Takes notice of what has changed.
    pub(super) fn follow(&mut self) {
        if self.seen_installs != self.shared.installs.get() {
            self.seen_installs = self.shared.installs.get();
            let mut before = std::mem::take(&mut self.runs);
            for run in self.shared.runs.borrow().iter() {
                let known = before.iter().position(|source| Rc::ptr_eq(&source.run, run));
                self.runs.push(match known {
                    Some(at) => before.swap_remove(at),
                    None => RunSource::new(run.clone(), &self.position),
                });
            }
        }
        if self.memory.is_stale || self.seen_changes != self.shared.changes.get() {
            self.seen_changes = self.shared.changes.get();
            let key = self.position.key.as_slice();
            let bound = if self.position.is_passed { Bound::Excluded(key) } else { Bound::Included(key) };
            self.shared.place_in_memory(bound, &mut self.memory);
        }
    }

    /// The source with the least key; of equal ones the newest.
    fn least(&self) -> Option<Least> {
        let mut least = self.memory.key().map(|key| (key, Least::Memory));
        for (i, source) in self.runs.iter().enumerate() {
            if let Some(key) = source.key()
                && least.is_none_or(|(least, _)| key < least)
            {
                least = Some((key, Least::Run(i)));
            }
        }
        least.map(|(_, source)| source)
    }

    /// Marks the sources whose next block could hold a lesser or newer entry than the least known: all that may begin at the position, or
    /// else the one that begins first, since what it holds may make the others needless.
    fn want_blocks(&mut self, least: Option<Least>) -> bool {
        let mut first: Option<(&[u8], usize)> = None;
        let mut is_any = false;
        for (i, source) in self.runs.iter().enumerate() {
            let Some(fence) = source.pending() else { continue };
            is_any |= fence <= self.position.key.as_slice();
            if first.is_none_or(|(first, _)| fence < first) {
                first = Some((fence, i));
            }
        }
        let Some((fence, i)) = first else { return false };
        let least = match least {
            Some(Least::Memory) => self.memory.key(),
            Some(Least::Run(of)) => self.runs[of].key(),
            None => None,
        };
        if least.is_some_and(|least| least < fence) {
            return false;
        }
        let key = self.position.key.as_slice();
        for (of, source) in self.runs.iter_mut().enumerate() {
            let is_at_position = source.pending().is_some_and(|fence| fence <= key);
            source.is_wanted = if is_any { is_at_position } else { of == i };
        }
        true
    }

    /// Loads what is wanted, from the cache or from all runs at once.
    pub(super) async fn load(&mut self) -> Result<()> {
        let position = &self.position;
        let missing = |source: &&mut RunSource<D>| source.is_wanted;
        let mut reads = Vec::new();
        for source in self.runs.iter_mut().filter(missing) {
            if !source.load_cached(position) {
                reads.push(source.load(position));
            }
        }
        if reads.is_empty() {
            return Ok(());
        }
        join_all(reads).await.into_iter().collect()
    }

    /// Steps over the least key; whether it is an entry and not a removal.
    fn take(&mut self, least: Least) -> bool {
        let (key, value) = match least {
            Least::Memory => {
                let value = (!self.memory.is_removal).then_some(self.memory.value.as_slice());
                (self.memory.key(), value)
            }
            Least::Run(i) => (self.runs[i].key(), self.runs[i].value()),
        };
        self.position.key.clear();
        self.position.key.extend_from_slice(key.unwrap_or_default());
        self.position.is_passed = true;
        self.value.clear();
        self.value.extend_from_slice(value.unwrap_or_default());
        let is_entry = value.is_some();
        let key = self.position.key.as_slice();
        self.memory.is_stale |= self.memory.key() == Some(key);
        for source in self.runs.iter_mut().filter(|source| source.key() == Some(key)) {
            source.advance();
        }
        is_entry
    }
}

impl<D: Device> std::fmt::Debug for Cursor<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("position", &self.position).finish_non_exhaustive()
    }
}
