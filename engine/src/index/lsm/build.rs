//! Writing a run: entries in order, then the pairs, then the fences, all durable before the run exists.

use std::rc::Rc;

use zerocopy::IntoBytes;

use super::cache::BlockCache;
use super::outline::Outline;
use super::run::{Fences, Run};
use super::sink::BlockSink;
use crate::core::Core;
use crate::crypto::Sealing;
use crate::device::Device;
use crate::error::Result;
use crate::format::outline::OutlineBuilder;
use crate::format::run::{BlockBuilder, BlockKind, PAIRS_PER_BLOCK, RunDescriptor, common_len, encode_pairs};
use crate::segment::table::Purpose;

/// Takes the content of a new run in order: entries, pairs gained, pairs lost.
pub(super) struct RunWriter<D: Device> {
    core: Rc<Core<D>>,
    descriptor: RunDescriptor,
    sink: BlockSink<D>,
    block: BlockBuilder,
    fences: Fences,
    outline: OutlineBuilder,
    pairs: Vec<(u64, u64)>,
}

impl<D: Device> RunWriter<D> {
    /// A run of about `expected` blocks.
    pub(super) fn new(core: Rc<Core<D>>, id: u64, purpose: Purpose, expected: u32) -> Result<Self> {
        let sealing = Sealing::catalog();
        let object_id = core.new_object_id();
        let key = core.store.keyring.object_key(
            sealing.seal_kind,
            sealing.namespace,
            sealing.key_version,
            object_id,
        )?;
        let descriptor = RunDescriptor {
            id,
            object_id,
            key_version: sealing.key_version,
            seal_kind: sealing.seal_kind,
            entry_count: 0,
            removal_count: 0,
            added_count: 0,
            removed_count: 0,
            entry_blocks: 0,
            fence_blocks: 0,
            outline_blocks: 0,
            extents: Vec::new(),
        };
        Ok(RunWriter {
            core: core.clone(),
            descriptor,
            sink: BlockSink::new(core, key, purpose, expected),
            block: BlockBuilder::new(BlockKind::Entries),
            fences: Fences::default(),
            outline: OutlineBuilder::default(),
            pairs: Vec::with_capacity(PAIRS_PER_BLOCK),
        })
    }

    /// Adds an entry above all before it; no value is a removal.
    pub(super) async fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if self.descriptor.entry_count == 0 {
            self.fences.push(key);
        }
        if !self.block.add(key, value) {
            // The shortest key that is above the block before and not above this one.
            let shared = common_len(self.block.last_key(), key);
            self.fences.push(&key[..shared + 1]);
            self.end_block().await?;
            assert!(self.block.add(key, value), "an empty block takes any entry");
        }
        self.outline.add(key, value);
        self.descriptor.entry_count += 1;
        self.descriptor.removal_count += u64::from(value.is_none());
        Ok(())
    }

    /// Adds a pair, not below the one before of its kind. All that are gained come before those that are lost.
    pub(super) async fn add_pair(&mut self, kind: BlockKind, pair: (u64, u64)) -> Result<()> {
        let count = match kind {
            BlockKind::Removed => &mut self.descriptor.removed_count,
            _ => &mut self.descriptor.added_count,
        };
        *count += 1;
        self.pairs.push(pair);
        if self.pairs.len() == PAIRS_PER_BLOCK { self.end_pairs(kind).await } else { Ok(()) }
    }

    /// All pairs of that kind were added, and all entries.
    pub(super) async fn end_pairs(&mut self, kind: BlockKind) -> Result<()> {
        if !self.block.is_empty() {
            self.end_block().await?;
        }
        if !self.pairs.is_empty() {
            self.sink.push(|payload| encode_pairs(kind, &self.pairs, payload)).await?;
            self.pairs.clear();
        }
        Ok(())
    }

    /// Makes the run durable.
    pub(super) async fn finish(mut self, cache: Rc<BlockCache>) -> Result<Rc<Run<D>>> {
        assert!(self.pairs.is_empty(), "the last pairs were ended");
        if !self.block.is_empty() {
            self.end_block().await?;
        }
        let fences = self.fences.iter().map(|fence| (fence, &[][..]));
        self.descriptor.fence_blocks = push_section(&mut self.sink, BlockKind::Fences, fences).await?;
        let stretches: Vec<_> = self.outline.finish().into_iter().map(|s| (s.encode(), s)).collect();
        let marks = stretches.iter().map(|(layout, stretch)| (stretch.mark.as_slice(), layout.as_bytes()));
        self.descriptor.outline_blocks = push_section(&mut self.sink, BlockKind::Outline, marks).await?;
        let mut outline = Outline::default();
        stretches.iter().for_each(|(_, stretch)| outline.push(stretch));
        let sunk = self.sink.finish().await?;
        self.descriptor.extents = sunk.extents;
        Ok(Run::written(self.core, cache, self.descriptor, sunk.key, self.fences, outline, sunk.pins))
    }

    async fn end_block(&mut self) -> Result<()> {
        self.descriptor.entry_blocks += 1;
        self.outline.end_block();
        self.sink.push(|payload| self.block.finish(payload)).await
    }
}

/// Writes a section that is kept in memory when the run is open; gives how many blocks it takes.
async fn push_section<'a, D: Device>(
    sink: &mut BlockSink<D>,
    kind: BlockKind,
    entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<u32> {
    let before = sink.block_count();
    let mut block = BlockBuilder::new(kind);
    for (key, value) in entries {
        if !block.add(key, Some(value)) {
            sink.push(|payload| block.finish(payload)).await?;
            assert!(block.add(key, Some(value)), "an empty block takes any entry");
        }
    }
    if !block.is_empty() {
        sink.push(|payload| block.finish(payload)).await?;
    }
    Ok(sink.block_count() - before)
}
