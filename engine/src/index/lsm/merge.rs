//! Many runs into one: the newest of each key, and of each pair what is left of its gains and losses.
//!
//! Memory is bounded by the number of runs: each is read 256 KiB at a time, past the cache.

use std::cmp::Ordering;
use std::rc::Rc;

use super::block::BlockCursor;
use super::build::RunWriter;
use super::pairs::NetPairs;
use super::run::{BlockStream, ReadAhead, Run};
use crate::device::Device;
use crate::error::Result;
use crate::format::run::{BlockKind, pair_order};

/// How a hash index changes: the pairs (hash, location) that it gains and loses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexChanges {
    /// Gained.
    pub added: Vec<(u64, u64)>,
    /// Lost.
    pub removed: Vec<(u64, u64)>,
}

impl IndexChanges {
    /// The same in order, without what is both gained and lost.
    pub(super) fn netted(mut self) -> Self {
        self.added.sort_unstable_by_key(pair_order);
        self.removed.sort_unstable_by_key(pair_order);
        let mut netted = IndexChanges::default();
        let (mut added, mut removed) = (self.added.iter().peekable(), self.removed.iter().peekable());
        while let (Some(gain), Some(loss)) = (added.peek(), removed.peek()) {
            match pair_order(gain).cmp(&pair_order(loss)) {
                Ordering::Less => netted.added.extend(added.next()),
                Ordering::Greater => netted.removed.extend(removed.next()),
                Ordering::Equal => {
                    added.next();
                    removed.next();
                }
            }
        }
        netted.added.extend(added);
        netted.removed.extend(removed);
        netted
    }
}

/// Writes the entries of runs, the newest first. In the bottom run there is nothing left for a removal to hide.
pub(super) async fn merge_entries<D: Device>(
    writer: &mut RunWriter<D>,
    runs: &[Rc<Run<D>>],
    is_bottom: bool,
) -> Result<()> {
    let mut inputs = Vec::with_capacity(runs.len());
    for run in runs {
        let mut input = EntryInput {
            stream: BlockStream::new(run.clone(), BlockKind::Entries, ReadAhead::No),
            place: None,
        };
        input.next_block().await?;
        inputs.push(input);
    }
    let mut key = Vec::new();
    loop {
        let places = inputs.iter().filter_map(|input| input.place.as_ref());
        // Of equal keys `min_by` gives the first: the newest.
        let Some(newest) = places.min_by(|a, b| a.key().cmp(b.key())) else { return Ok(()) };
        key.clear();
        key.extend_from_slice(newest.key());
        let value = newest.value();
        if value.is_some() || !is_bottom {
            writer.add(&key, value).await?;
        }
        for input in &mut inputs {
            input.pass(&key).await?;
        }
    }
}

struct EntryInput<D: Device> {
    stream: BlockStream<D>,
    /// `None` at the end.
    place: Option<BlockCursor>,
}

impl<D: Device> EntryInput<D> {
    /// Goes on if it stands on that key.
    async fn pass(&mut self, key: &[u8]) -> Result<()> {
        match &mut self.place {
            Some(place) if place.key() == key => {
                if !place.advance() {
                    self.next_block().await?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn next_block(&mut self) -> Result<()> {
        self.place = None;
        while self.place.is_none()
            && let Some(block) = self.stream.next().await?
        {
            self.place = BlockCursor::first(block);
        }
        Ok(())
    }
}

/// Writes the pairs of runs that are gained, or those that are lost, once gains and losses are netted.
pub(super) async fn merge_pairs<D: Device>(
    writer: &mut RunWriter<D>,
    runs: &[Rc<Run<D>>],
    kind: BlockKind,
) -> Result<()> {
    let mut pairs = NetPairs::of(runs, ReadAhead::No).await;
    while let Some(batch) = pairs.next().await? {
        for (pair, net) in batch {
            let left = if kind == BlockKind::Added { *net } else { -net };
            for _ in 0..left {
                writer.add_pair(kind, *pair).await?;
            }
        }
    }
    writer.end_pairs(kind).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gained_and_lost_is_neither() {
        let changes = IndexChanges {
            added: vec![(3, 1), (1, 1), (2, 2), (2, 2)],
            removed: vec![(2, 2), (0, 9), (3, 1), (4, 4)],
        };
        let netted = changes.netted();
        assert_eq!(netted.added, [(2, 2), (1, 1)]);
        assert_eq!(netted.removed, [(0, 9), (4, 4)]);
    }
}
