//! A run as it is read: fences in memory, blocks from the cache or from the first copy that verifies.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

use futures_util::future::{MaybeDone, maybe_done, try_join};

use super::block::BlockCursor;
use super::cache::{BlockCache, CachedRun};
use super::choose::RunSummary;
use super::outline::Outline;
use crate::core::Core;
use crate::crypto::{CATALOG_NAMESPACE, FramePosition, ObjectKey, Seal};
use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::format::body::Extent;
use crate::format::outline::Stretch;
use crate::format::run::{Block, BlockKind, RunDescriptor};
use crate::limits::{RUN_BLOCK_PAYLOAD, RUN_BLOCK_SIZE, RUN_BLOCKS_PER_IO};
use crate::segment::table::SegmentPin;

/// Device reads of a section that are in flight during a start: enough to keep a device busy, also when one run holds nearly all.
const READS_AHEAD: usize = 4;

/// A sorted run on disk.
///
/// While it lives, its segments are pinned: the blocks stay what they are, also when the run is in no directory any more but somebody reads it.
pub struct Run<D: Device> {
    core: Rc<Core<D>>,
    cache: Rc<BlockCache>,
    cached: CachedRun,
    descriptor: RunDescriptor,
    key: ObjectKey,
    fences: Fences,
    outline: Outline,
    _pins: Vec<SegmentPin>,
}

/// A pair that the hash index gains or loses with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexChange {
    /// It gains this hash and location.
    Added(u64, u64),
    /// It loses them.
    Removed(u64, u64),
}

/// The lowest keys that blocks may hold, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Fences {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl<D: Device> Run<D> {
    /// A run that was just written.
    pub(super) fn written(
        core: Rc<Core<D>>,
        cache: Rc<BlockCache>,
        descriptor: RunDescriptor,
        key: ObjectKey,
        fences: Fences,
        outline: Outline,
        pins: Vec<SegmentPin>,
    ) -> Rc<Self> {
        let cached = cache.register();
        Rc::new(Run { core, cache, cached, descriptor, key, fences, outline, _pins: pins })
    }

    /// Opens a run that a checkpoint names.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a segment of it is gone or its fences do not verify, [`Error::Key`], [`Error::Io`].
    pub(crate) async fn open(
        core: Rc<Core<D>>,
        cache: Rc<BlockCache>,
        descriptor: RunDescriptor,
    ) -> Result<Rc<Self>> {
        let mut pins = Vec::new();
        for (i, extent) in descriptor.extents.iter().enumerate() {
            if descriptor.extents[..i].iter().all(|before| before.segment != extent.segment) {
                pins.push(core.store.table.pin(extent.segment).ok_or(gone(extent))?);
            }
        }
        let key = core.store.keyring.object_key(
            descriptor.seal_kind,
            CATALOG_NAMESPACE,
            descriptor.key_version,
            descriptor.object_id,
        )?;
        let cached = cache.register();
        let (fences, outline) = Default::default();
        let mut run = Run { core, cache, cached, descriptor, key, fences, outline, _pins: pins };
        (run.fences, run.outline) = try_join(run.read_fences(), run.read_outline()).await?;
        Ok(Rc::new(run))
    }

    async fn read_fences(&self) -> Result<Fences> {
        let mut fences = Fences::default();
        let take = |key: &[u8], _: &[u8]| {
            fences.push(key);
            Ok(())
        };
        self.read_section(BlockKind::Fences, take).await?;
        if fences.len() != self.descriptor.entry_blocks {
            return Err(self.contradiction("a run lacks fences"));
        }
        Ok(fences)
    }

    async fn read_outline(&self) -> Result<Outline> {
        let mut outline = Outline::default();
        let take = |mark: &[u8], value: &[u8]| {
            let stretch = Stretch::decode(mark, value).map_err(|malformed| malformed.0)?;
            if outline.len() > 0 && outline.mark(outline.len() - 1) >= mark {
                return Err("the marks of a run do not ascend");
            }
            outline.push(&stretch);
            Ok(())
        };
        self.read_section(BlockKind::Outline, take).await?;
        if (outline.len() == 0) != (self.descriptor.entry_blocks == 0) {
            return Err(self.contradiction("a run lacks its outline"));
        }
        Ok(outline)
    }

    /// Gives each key and value of a section that is kept in memory.
    async fn read_section(
        &self,
        kind: BlockKind,
        mut take: impl FnMut(&[u8], &[u8]) -> std::result::Result<(), &'static str>,
    ) -> Result<()> {
        let mut next = self.descriptor.section(kind);
        while !next.is_empty() {
            let blocks = self.read_blocks(next.clone(), kind).await?;
            next.start += blocks.len() as u32;
            for block in blocks {
                let mut place = BlockCursor::first(block);
                while let Some(cursor) = &mut place {
                    take(cursor.key(), cursor.value().unwrap_or_default())
                        .map_err(|what| self.contradiction(what))?;
                    if !cursor.advance() {
                        place = None;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is kept of it is not what belongs to its blocks.
    fn contradiction(&self, what: &'static str) -> Error {
        let extent = self.descriptor.extents.last();
        extent.map_or(Error::NotFound, |extent| corrupt(extent, 0, what))
    }

    /// Where its blocks lie.
    pub fn extents(&self) -> &[Extent] {
        &self.descriptor.extents
    }

    /// What a checkpoint keeps of it.
    pub fn descriptor(&self) -> &RunDescriptor {
        &self.descriptor
    }

    /// What choosing a merge needs.
    pub fn summary(&self) -> RunSummary {
        RunSummary { id: self.descriptor.id, block_count: self.descriptor.block_count() }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.descriptor.id
    }

    /// Gives all pairs by which the hash index changes with it: first those that it gains, then those that it loses, each in order.
    pub async fn index_changes(&self, mut take: impl FnMut(IndexChange)) -> Result<()> {
        for kind in [BlockKind::Added, BlockKind::Removed] {
            let mut next = self.descriptor.section(kind);
            while !next.is_empty() {
                let blocks = self.read_blocks(next.clone(), kind).await?;
                next.start += blocks.len() as u32;
                for pair in blocks.iter().flat_map(|block| block.pairs()) {
                    let (hash, location) = (pair.hash.get(), pair.location.get());
                    take(match kind {
                        BlockKind::Removed => IndexChange::Removed(hash, location),
                        _ => IndexChange::Added(hash, location),
                    });
                }
            }
        }
        Ok(())
    }

    /// What it says of a key: nothing, removed, or a value.
    pub(super) async fn change(&self, key: &[u8]) -> Result<Option<Option<Vec<u8>>>> {
        let Some(number) = self.fences.block_of(key) else { return Ok(None) };
        let block = match self.cached_block(number) {
            Some(block) => block,
            None => self.fetch(number, 1).await?.swap_remove(0),
        };
        let Some(mut place) = BlockCursor::first(block) else { return Ok(None) };
        let found = place.seek(key) && place.key() == key;
        Ok(found.then(|| place.value().map(<[u8]>::to_vec)))
    }

    /// Memory of its fences and its outline.
    pub(crate) fn fence_bytes(&self) -> usize {
        self.fences.len_bytes() + self.outline.len_bytes()
    }

    pub(super) fn fences(&self) -> &Fences {
        &self.fences
    }

    pub(super) fn outline(&self) -> &Outline {
        &self.outline
    }

    /// An entry block, if the cache has it.
    pub(super) fn cached_block(&self, number: u32) -> Option<Rc<Block>> {
        let block = self.cache.block(self.cached, number);
        let counters = &self.core.counters;
        if block.is_some() { &counters.block_cache_hits } else { &counters.block_cache_misses }.add(1);
        block
    }

    /// Whether the cache has an entry block.
    pub(super) fn is_cached(&self, number: u32) -> bool {
        self.cache.contains(self.cached, number)
    }

    /// Reads entry blocks into the cache: at least one, at most `count`.
    pub(super) async fn fetch(&self, first: u32, count: u32) -> Result<Vec<Rc<Block>>> {
        let wanted = first..first.saturating_add(count).min(self.descriptor.entry_blocks);
        let blocks = self.read_blocks(wanted, BlockKind::Entries).await?;
        for (number, block) in (first..).zip(&blocks) {
            self.cache.insert(self.cached, number, block.clone());
        }
        Ok(blocks)
    }

    /// Reads blocks past the cache: at least one of the wanted, and as many as one device read gives.
    pub(crate) async fn read_blocks(&self, wanted: Range<u32>, kind: BlockKind) -> Result<Vec<Rc<Block>>> {
        let span = self.locate(wanted);
        let mut buffer = AlignedBuffer::zeroed(span.blocks.len() * RUN_BLOCK_SIZE);
        let mut blocks: Vec<Option<Rc<Block>>> = span.blocks.clone().map(|_| None).collect();
        let mut error = corrupt(&span.extent, span.offset, "its segment is gone");
        // Copies may rot in different places: each gives what the ones before did not.
        for place in self.core.places_to_read(span.extent.segment, u64::from(span.blocks.start) >> 4) {
            let (result, back) = self.core.read_copy(place, span.offset, buffer).await;
            buffer = back;
            match result.and_then(|()| self.open_blocks(&span, kind, &mut buffer, &mut blocks)) {
                Ok(()) => return Ok(blocks.into_iter().flatten().collect()),
                Err(failure) => {
                    self.core.counters.copies_skipped.add(1);
                    error = error.or_of_copy(failure);
                }
            }
        }
        Err(error)
    }

    /// Opens the blocks of a buffer that are not open yet; fails when one does not verify.
    fn open_blocks(
        &self,
        span: &Span,
        kind: BlockKind,
        buffer: &mut AlignedBuffer,
        blocks: &mut [Option<Rc<Block>>],
    ) -> Result<()> {
        let mut result = Ok(());
        let numbers = span.blocks.clone();
        for ((number, out), bytes) in numbers.zip(blocks).zip(buffer.chunks_exact_mut(RUN_BLOCK_SIZE)) {
            if out.is_some() {
                continue;
            }
            let opened = self.open_block(number, bytes).filter(|block| block.kind() == kind);
            if opened.is_none() {
                let offset = span.offset + u64::from(number - span.blocks.start) * RUN_BLOCK_SIZE as u64;
                result = Err(corrupt(&span.extent, offset, "a directory block does not verify"));
            }
            *out = opened.map(Rc::new);
        }
        result
    }

    fn open_block(&self, number: u32, bytes: &mut [u8]) -> Option<Block> {
        let (payload, seal) = bytes.split_at_mut(RUN_BLOCK_PAYLOAD);
        let seal: Seal = (&*seal).try_into().ok()?;
        self.key.open_frame(number.into(), FramePosition::Middle, payload, &seal).ok()?;
        Block::decode(payload).ok()
    }

    /// Where blocks lie: those of the wanted that one read of one extent gives.
    fn locate(&self, wanted: Range<u32>) -> Span {
        let mut begin = 0;
        for extent in &self.descriptor.extents {
            let end = begin + (extent.disk_len() / RUN_BLOCK_SIZE as u64) as u32;
            if wanted.start < end {
                let last = wanted.end.min(end).min(wanted.start.saturating_add(RUN_BLOCKS_PER_IO as u32));
                let offset = extent.offset() + u64::from(wanted.start - begin) * RUN_BLOCK_SIZE as u64;
                return Span { extent: *extent, offset, blocks: wanted.start..last };
            }
            begin = end;
        }
        panic!("block {} of a run of {begin}", wanted.start)
    }
}

impl<D: Device> std::fmt::Debug for Run<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// Blocks that lie one after the other.
struct Span {
    extent: Extent,
    /// Byte offset of the first in the segment.
    offset: u64,
    blocks: Range<u32>,
}

fn gone(extent: &Extent) -> Error {
    corrupt(extent, extent.offset(), "its segment is gone")
}

fn corrupt(extent: &Extent, offset: u64, what: &'static str) -> Error {
    Error::Corrupt { segment: extent.segment, offset, what }
}

impl Fences {
    pub(super) fn push(&mut self, fence: &[u8]) {
        self.bytes.extend_from_slice(fence);
        let end = u32::try_from(self.bytes.len()).expect("fences of 2^32 blocks are shorter than 4 GiB");
        self.ends.push(end);
    }

    pub(super) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Memory that they take.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// The fence of a block.
    #[inline]
    pub(super) fn fence(&self, block: u32) -> &[u8] {
        let block = block as usize;
        let begin = if block == 0 { 0 } else { self.ends[block - 1] };
        &self.bytes[begin as usize..self.ends[block] as usize]
    }

    /// The block that holds a key if any does; `None` when the key is below all.
    pub(super) fn block_of(&self, key: &[u8]) -> Option<u32> {
        self.after(key, 0..self.len()).checked_sub(1)
    }

    /// The same, when that block is known not to be before `from`.
    pub(super) fn block_from(&self, key: &[u8], from: u32) -> u32 {
        if from + 1 >= self.len() || self.fence(from + 1) > key {
            return from;
        }
        self.after(key, from + 2..self.len()) - 1
    }

    /// The first block of the range whose fence is above the key.
    fn after(&self, key: &[u8], range: Range<u32>) -> u32 {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.fence(middle).cmp(key) {
                Ordering::Greater => high = middle,
                _ => low = middle + 1,
            }
        }
        low
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|block| self.fence(block))
    }
}

/// How far ahead of its reader a [`BlockStream`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAhead {
    /// A read begins when its blocks are asked for: for work in the background, which leaves the device to others.
    No,
    /// Some reads are under way while blocks are used: for a start, which others wait for.
    Deep,
}

impl ReadAhead {
    /// Device reads in flight.
    fn depth(self) -> usize {
        match self {
            ReadAhead::No => 1,
            ReadAhead::Deep => READS_AHEAD,
        }
    }
}

/// Reads a section of a run from its beginning to its end, with large reads and past the cache.
pub(super) struct BlockStream<D: Device> {
    run: Rc<Run<D>>,
    kind: BlockKind,
    ahead: ReadAhead,
    /// Blocks that no read was begun for.
    next: Range<u32>,
    reads: VecDeque<ReadInFlight>,
    ready: VecDeque<Rc<Block>>,
}

type ReadInFlight = Pin<Box<MaybeDone<Pin<Box<dyn Future<Output = Result<Vec<Rc<Block>>>>>>>>>;

impl<D: Device> BlockStream<D> {
    pub(super) fn new(run: Rc<Run<D>>, kind: BlockKind, ahead: ReadAhead) -> Self {
        let next = run.descriptor.section(kind);
        BlockStream { run, kind, ahead, next, reads: VecDeque::new(), ready: VecDeque::new() }
    }

    /// Whose section it is.
    pub(super) fn run(&self) -> &Run<D> {
        &self.run
    }

    /// Begins as many reads as may be in flight.
    pub(super) async fn begin(&mut self) {
        while self.reads.len() < self.ahead.depth() && !self.next.is_empty() {
            let (run, kind, blocks) =
                (self.run.clone(), self.kind, self.run.locate(self.next.clone()).blocks);
            self.next.start = blocks.end;
            let read: Pin<Box<dyn Future<Output = _>>> =
                Box::pin(async move { run.read_blocks(blocks, kind).await });
            let mut read = Box::pin(maybe_done(read));
            // Futures do nothing until polled: this starts the read.
            let _ = futures_util::poll!(read.as_mut());
            self.reads.push_back(read);
        }
    }

    /// The next block; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Rc<Block>>> {
        if self.ready.is_empty() {
            self.begin().await;
            let Some(mut read) = self.reads.pop_front() else { return Ok(None) };
            read.as_mut().await;
            self.ready = read.as_mut().take_output().expect("it was awaited")?.into();
        }
        Ok(self.ready.pop_front())
    }
}
