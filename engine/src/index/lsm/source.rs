//! What a cursor draws from: the memtables, and each run.
//!
//! A source stands on its first entry at or after the cursor's position, or knows the block where that is. Blocks are loaded only when an
//! entry in them could be the next.

use std::collections::VecDeque;
use std::rc::Rc;

use super::block::BlockCursor;
use super::outline::Ahead;
use super::run::Run;
use crate::device::Device;
use crate::error::Result;
use crate::format::run::Block;
use crate::limits::RUN_BLOCKS_PER_IO;

/// Where a cursor is: before or after a key.
#[derive(Debug, Default)]
pub(super) struct Position {
    pub(super) key: Vec<u8>,
    /// Whether the key itself was passed.
    pub(super) is_passed: bool,
}

impl Position {
    fn is_before(&self, key: &[u8]) -> bool {
        if self.is_passed { self.key.as_slice() < key } else { self.key.as_slice() <= key }
    }
}

/// The next entry of the memtables, copied: they may change at any time.
#[derive(Debug, Default)]
pub(super) struct MemorySource {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) is_removal: bool,
    /// Whether there is an entry at all.
    pub(super) is_placed: bool,
    /// Whether it must be looked up anew.
    pub(super) is_stale: bool,
}

impl MemorySource {
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.is_placed.then_some(&self.key)
    }

    /// After a seek from a position that is not after the key.
    pub(super) fn seek_forward(&mut self, key: &[u8]) {
        self.is_stale |= self.is_placed && self.key.as_slice() < key;
    }
}

/// The next entry of a run.
#[derive(Debug)]
pub(super) struct RunSource<D: Device> {
    pub(super) run: Rc<Run<D>>,
    /// The block that it stands in or would load; the number of blocks at the end.
    number: u32,
    /// Where it stands, or last stood.
    place: Option<BlockCursor>,
    is_placed: bool,
    /// Blocks after the present one that were read with it.
    ahead: VecDeque<Rc<Block>>,
    /// Blocks that the next read fetches.
    window: u32,
    pub(super) is_wanted: bool,
    /// A stretch of the outline that is not after the position, if one is not.
    pub(super) near: u32,
    /// What is ahead in the outline: for the search of a group.
    pub(super) ahead_in_outline: Ahead,
}

impl<D: Device> RunSource<D> {
    pub(super) fn new(run: Rc<Run<D>>, position: &Position) -> Self {
        let number = run.fences().block_of(&position.key).unwrap_or(0);
        RunSource {
            run,
            number,
            place: None,
            is_placed: false,
            ahead: VecDeque::new(),
            window: 1,
            is_wanted: false,
            near: 0,
            ahead_in_outline: Ahead::End,
        }
    }

    /// The key that it stands on.
    #[inline]
    pub(super) fn key(&self) -> Option<&[u8]> {
        if self.is_placed { self.place.as_ref().map(BlockCursor::key) } else { None }
    }

    /// The value there; `None` for a removal.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.place.as_ref().and_then(BlockCursor::value)
    }

    /// When a block must be loaded to know the next entry: a key that no entry in it is below.
    #[inline]
    pub(super) fn pending(&self) -> Option<&[u8]> {
        (!self.is_placed && self.number < self.run.fences().len())
            .then(|| self.run.fences().fence(self.number))
    }

    /// Goes to the next entry, or to the beginning of a block that is not there yet.
    #[inline]
    pub(super) fn advance(&mut self) {
        if !self.place.as_mut().is_some_and(BlockCursor::advance) {
            self.leave();
        }
    }

    /// Goes to the first entry at or above the key, or to the block where that is. `is_forward`: the position before was not after it.
    pub(super) fn seek(&mut self, position: &Position, is_forward: bool) {
        let key = &position.key;
        let number = if is_forward {
            let bound = if self.is_placed { self.key() } else { self.pending() };
            if bound.is_none_or(|bound| bound >= key.as_slice()) {
                return;
            }
            self.run.fences().block_from(key, self.number)
        } else {
            self.near = 0;
            self.run.fences().block_of(key).unwrap_or(0)
        };
        if number == self.number && self.is_placed {
            if !self.place.as_mut().is_some_and(|place| place.seek(key)) {
                self.leave();
            }
            return;
        }
        if number == self.number {
            return;
        }
        let step = number.checked_sub(self.number + 1).map(|skipped| skipped as usize);
        let ready =
            step.and_then(|skipped| self.ahead.drain(..(skipped + 1).min(self.ahead.len())).nth(skipped));
        self.number = number;
        self.is_placed = false;
        match ready {
            Some(block) => self.enter(block, position),
            None => {
                self.ahead.clear();
                // Who goes to the next block may well want the one after it.
                self.window = if step == Some(0) { self.window } else { 1 };
            }
        }
    }

    /// Takes the pending block from the cache, if it is there.
    pub(super) fn load_cached(&mut self, position: &Position) -> bool {
        let Some(block) = self.run.cached_block(self.number) else { return false };
        self.enter(block, position);
        true
    }

    /// Reads the pending block, and some after it when the ones before were walked through.
    pub(super) async fn load(&mut self, position: &Position) -> Result<()> {
        let missing = (self.number + 1..self.run.fences().len())
            .take(self.window as usize - 1)
            .take_while(|number| !self.run.is_cached(*number))
            .count();
        let mut blocks = self.run.fetch(self.number, missing as u32 + 1).await?.into_iter();
        let first = blocks.next().expect("a read gives at least one block");
        self.ahead = blocks.collect();
        self.window = (self.window * 2).min(RUN_BLOCKS_PER_IO as u32);
        self.enter(first, position);
        Ok(())
    }

    fn enter(&mut self, block: Rc<Block>, position: &Position) {
        let is_placed = match &mut self.place {
            Some(place) => place.enter(block),
            None => {
                self.place = BlockCursor::first(block);
                self.place.is_some()
            }
        };
        self.is_placed = is_placed && self.place.as_mut().is_some_and(|place| reach(place, position));
        if !self.is_placed {
            self.leave();
        }
    }

    /// The present block is used up.
    fn leave(&mut self) {
        self.is_placed = false;
        self.number += 1;
        // Blocks are never empty, so whatever follows begins with the next entry.
        if let Some(block) = self.ahead.pop_front() {
            self.is_placed = self.place.as_mut().is_some_and(|place| place.enter(block));
        }
    }
}

/// Goes to the first entry after the position; `false` when there is none.
fn reach(place: &mut BlockCursor, position: &Position) -> bool {
    if position.is_before(place.key()) {
        return true;
    }
    place.seek(&position.key) && (position.is_before(place.key()) || place.advance())
}
