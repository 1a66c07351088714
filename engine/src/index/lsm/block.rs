//! A place in a block: the entry there, with its whole key.

use std::ops::Range;
use std::rc::Rc;

use crate::format::run::{Block, common_len};

/// Walks the entries of a block, and finds one by halves.
#[derive(Debug)]
pub(super) struct BlockCursor {
    block: Rc<Block>,
    /// The key of the entry that it stands on.
    key: Vec<u8>,
    value: Option<Range<u16>>,
    /// Offset of the entry after it.
    next: usize,
}

impl BlockCursor {
    /// Stands on the first entry; `None` when the block has none.
    pub(super) fn first(block: Rc<Block>) -> Option<Self> {
        let next = block.first();
        let mut cursor = BlockCursor { block, key: Vec::with_capacity(128), value: None, next };
        cursor.advance().then_some(cursor)
    }

    /// The key of the entry.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its value; `None` for a removal.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.value.as_ref().map(|range| self.block.value(range))
    }

    /// Goes to the next entry; `false` after the last.
    #[inline]
    pub(super) fn advance(&mut self) -> bool {
        let Some(entry) = self.block.entry(self.next) else { return false };
        self.key.truncate(entry.shared_len);
        self.key.extend_from_slice(entry.rest);
        self.value = entry.value;
        self.next = entry.next;
        true
    }

    /// Goes to the first entry of another block; `false` when it has none.
    pub(super) fn enter(&mut self, block: Rc<Block>) -> bool {
        self.next = block.first();
        self.block = block;
        self.advance()
    }

    /// Goes to the first entry at or above that key; `false` when there is none.
    ///
    /// What entries share tells most of them from the key without a look at their bytes: one that shares more with the one before it than that
    /// does with the key is below the key too, and one that shares less is above it.
    pub(super) fn seek(&mut self, key: &[u8]) -> bool {
        let restart = self.block.restart_before(key);
        // What it stands on may be nearer than the restart. Above the key lies every restart after that, so that sharing nothing says what it should.
        let is_nearer =
            self.next > restart && self.key.as_slice() < key && self.block.entry(self.next).is_some();
        let mut matched = if is_nearer { common_len(&self.key, key) } else { 0 };
        if !is_nearer {
            self.next = restart;
        }
        while let Some(entry) = self.block.entry(self.next) {
            self.next = entry.next;
            if entry.shared_len > matched {
                continue;
            }
            if entry.shared_len == matched {
                let wanted = &key[matched..];
                let common = common_len(entry.rest, wanted);
                if entry.rest[common..] < wanted[common..] {
                    matched += common;
                    continue;
                }
            }
            self.key.clear();
            self.key.extend_from_slice(&key[..entry.shared_len]);
            self.key.extend_from_slice(entry.rest);
            self.value = entry.value;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::run::{BlockBuilder, BlockKind};
    use crate::limits::RUN_BLOCK_PAYLOAD;

    fn block(count: usize) -> Rc<Block> {
        let mut builder = BlockBuilder::new(BlockKind::Entries);
        (0..count).for_each(|i| assert!(builder.add(key(i * 2).as_bytes(), Some(key(i).as_bytes()))));
        let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
        builder.finish(&mut payload);
        Rc::new(Block::decode(&payload).expect("whole"))
    }

    fn key(i: usize) -> String {
        format!("k{i:04}")
    }

    #[test]
    fn every_seek_finds_the_first_entry_at_or_above_from_wherever_it_stands() {
        let count = 50;
        for from in 0..count {
            for target in 0..2 * count + 2 {
                let mut cursor = BlockCursor::first(block(count)).expect("entries");
                assert!(cursor.seek(key(from * 2).as_bytes()));
                let found = cursor.seek(key(target).as_bytes());
                assert_eq!(found, target <= 2 * (count - 1), "{target} from {from}");
                if found {
                    assert_eq!(cursor.key(), key(target.next_multiple_of(2)).as_bytes());
                    assert_eq!(cursor.value(), Some(key(target.div_ceil(2)).as_bytes()));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_seek_finds_what_a_walk_finds(
            keys in prop::collection::btree_set("[ab]{0,9}", 1..90),
            targets in prop::collection::vec("[abc]{0,9}", 1..8),
        ) {
            let mut builder = BlockBuilder::new(BlockKind::Entries);
            keys.iter().for_each(|key| assert!(builder.add(key.as_bytes(), Some(key.as_bytes()))));
            let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
            builder.finish(&mut payload);
            let block = Rc::new(Block::decode(&payload).expect("whole"));
            let mut cursor = BlockCursor::first(block).expect("entries");
            for target in targets {
                let mut rest = keys.range(target.clone()..);
                let mut is_there = cursor.seek(target.as_bytes());
                // A few steps from there, so that the next seek begins somewhere.
                for _ in 0..3 {
                    let expected = rest.next();
                    prop_assert_eq!(is_there.then(|| cursor.key()), expected.map(|key| key.as_bytes()));
                    if !is_there {
                        break;
                    }
                    prop_assert_eq!(cursor.value(), Some(cursor.key()));
                    is_there = cursor.advance();
                }
            }
        }
    }

    #[test]
    fn a_block_without_entries_has_no_place() {
        assert!(BlockCursor::first(block(0)).is_none());
    }
}
