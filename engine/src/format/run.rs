//! A sorted run of the key directory: blocks of 16 KiB on disk, and the descriptor that a checkpoint keeps of it.
//!
//! ```text
//! | entry blocks | added pairs | removed pairs | fence blocks | outline blocks |     block n is frame n of the run's object id
//! block (16 368 bytes): head, entries, restart offsets, zeroes        or: head, pairs, zeroes
//! entry: shared, rest, value lengths, rest of the key, value
//! ```
//! - Keys ascend strictly. A key shares its first bytes with the one before it in its block; every [`RESTART_INTERVAL`]th shares none, and its
//!   offset is in the restart table, so that a block is searched by halves.
//! - A fence is an entry without a value: fence `n` is at most the first key of entry block `n`, and above the last key before it.
//! - The outline tells which directories of keys the run holds, as entries: see [`super::outline`].
//! - A pair is how a hash index changes with the run: hash and location. Pairs are in order of the bits of the hash from the lowest on and then of the location
//!   ([`pair_order`]), within a block and from block to block.
//! - No block says that it is the last: how many there are is in the descriptor.

use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::body::{Extent, ExtentLayout};
use super::cursor::Cursor;
use super::record::SealKind;
use crate::ids::{KeyVersion, ObjectId, SegmentId};
use crate::limits::{
    BLOCK_SIZE, DIRECTORY_KEY_LEN_MAX, DIRECTORY_VALUE_LEN_MAX, RUN_BLOCK_PAYLOAD, RUN_BLOCK_SIZE,
};

/// Entries from one key that is whole to the next.
pub const RESTART_INTERVAL: usize = 16;

/// Pairs of a full block.
pub const PAIRS_PER_BLOCK: usize = (RUN_BLOCK_PAYLOAD - HEAD_SIZE) / size_of::<PairLayout>();

const HEAD_SIZE: usize = size_of::<BlockLayout>();
const ENTRY_HEAD_SIZE: usize = size_of::<EntryLayout>();

/// The value length that says "removed".
const REMOVED: u16 = u16::MAX;

/// Head of a block.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BlockLayout {
    /// See [`BlockKind`].
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// Entries or pairs.
    pub count: U16,
    /// Bytes of them.
    pub data_len: U16,
    /// Restart offsets after them.
    pub restart_count: U16,
}

const _: () = assert!(size_of::<BlockLayout>() == 8);

/// Head of an entry; the rest of the key and the value follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryLayout {
    /// Bytes that the key shares with the one before.
    pub shared_len: U16,
    /// Bytes of the key after them.
    pub rest_len: U16,
    /// Bytes of the value; 0xffff: the key is removed.
    pub value_len: U16,
}

const _: () = assert!(size_of::<EntryLayout>() == 6);

/// How a hash index changes: a location of a hash.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PairLayout {
    /// The hash.
    pub hash: U64,
    /// The location.
    pub location: U64,
}

const _: () = assert!(size_of::<PairLayout>() == 16);

impl PairLayout {
    /// Hash and location.
    #[inline]
    pub fn get(&self) -> (u64, u64) {
        (self.hash.get(), self.location.get())
    }
}

/// Fixed part of a descriptor; the extents follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RunLayout {
    /// Its id.
    pub id: U64,
    /// What its key is derived from.
    pub object_id: [u8; 16],
    /// Entries, removals included.
    pub entry_count: U64,
    /// Of those, removals.
    pub removal_count: U64,
    /// Pairs that the hash index gains.
    pub added_count: U64,
    /// Pairs that it loses.
    pub removed_count: U64,
    /// Generation of the catalog's key.
    pub key_version: U32,
    /// Entry blocks.
    pub entry_blocks: U32,
    /// Blocks of fences.
    pub fence_blocks: U32,
    /// Extents.
    pub extent_count: U32,
    /// See [`SealKind`].
    pub seal_kind: u8,
    /// Zeroes.
    pub reserved: [u8; 3],
    /// Blocks of the outline.
    pub outline_blocks: U32,
}

const _: () = assert!(size_of::<RunLayout>() == 80);

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Keys with their values or removals.
    Entries,
    /// Keys that blocks begin at.
    Fences,
    /// Pairs that the hash index gains.
    Added,
    /// Pairs that it loses.
    Removed,
    /// Stretches of keys of one directory.
    Outline,
}

impl BlockKind {
    const ALL: [BlockKind; 5] =
        [BlockKind::Entries, BlockKind::Fences, BlockKind::Added, BlockKind::Removed, BlockKind::Outline];

    /// The byte on disk.
    pub fn code(self) -> u8 {
        match self {
            BlockKind::Entries => 1,
            BlockKind::Fences => 2,
            BlockKind::Added => 3,
            BlockKind::Removed => 4,
            BlockKind::Outline => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    fn is_pairs(self) -> bool {
        matches!(self, BlockKind::Added | BlockKind::Removed)
    }
}

/// A block whose every length, offset and order was checked: reading it cannot fail.
#[derive(Debug)]
pub struct Block {
    kind: BlockKind,
    count: usize,
    data_end: usize,
    /// The used part of the payload.
    bytes: Box<[u8]>,
}

/// An entry as it lies in a block.
#[derive(Clone, Debug)]
pub(crate) struct RawEntry<'a> {
    pub(crate) shared_len: usize,
    pub(crate) rest: &'a [u8],
    /// Where in the block the value is; `None` for a removal.
    pub(crate) value: Option<Range<u16>>,
    /// Offset of the next entry.
    pub(crate) next: usize,
}

impl Block {
    /// Reads a block's payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        if payload.len() > RUN_BLOCK_PAYLOAD {
            return Err(Malformed("block: longer than allowed"));
        }
        let mut cursor = Cursor(payload);
        let head: &BlockLayout = cursor.fixed("block")?;
        let kind = BlockKind::from_code(head.kind).ok_or(Malformed("block kind"))?;
        let (count, data_len) = (usize::from(head.count.get()), usize::from(head.data_len.get()));
        cursor.bytes(data_len, "block data")?;
        let restarts = cursor.slice::<U16>(head.restart_count.get().into(), "restart offsets")?;
        let data_end = HEAD_SIZE + data_len;
        let block =
            Block { kind, count, data_end, bytes: payload[..data_end + size_of_val(restarts)].into() };
        if kind.is_pairs() {
            block.check_pairs()?
        } else {
            block.check_entries()?
        }
        Ok(block)
    }

    fn check_pairs(&self) -> Result<(), Malformed> {
        if self.data_end != HEAD_SIZE + self.count * size_of::<PairLayout>()
            || self.bytes.len() != self.data_end
        {
            return Err(Malformed("block of pairs: length"));
        }
        // The same pair may be there more than once: so often it counts.
        if !self.pairs().is_sorted_by_key(|pair| pair_order(&pair.get())) {
            return Err(Malformed("block of pairs: order"));
        }
        Ok(())
    }

    fn check_entries(&self) -> Result<(), Malformed> {
        let mut key: Vec<u8> = Vec::with_capacity(256);
        let mut at = HEAD_SIZE;
        let mut restarts = self.restarts().iter();
        for i in 0..self.count {
            let entry = self.parse(at).ok_or(Malformed("entry: lengths"))?;
            let is_restart = i % RESTART_INTERVAL == 0;
            if is_restart && (entry.shared_len != 0 || restarts.next().map(|r| r.get().into()) != Some(at)) {
                return Err(Malformed("block: restart offsets"));
            }
            let common = key.get(entry.shared_len..).ok_or(Malformed("entry: shared length"))?;
            if i > 0 && entry.rest <= common {
                return Err(Malformed("block: keys do not ascend"));
            }
            key.truncate(entry.shared_len);
            key.extend_from_slice(entry.rest);
            let value_len = entry.value.map_or(0, |value| value.len());
            if key.len() > DIRECTORY_KEY_LEN_MAX || value_len > DIRECTORY_VALUE_LEN_MAX {
                return Err(Malformed("entry: longer than allowed"));
            }
            at = entry.next;
        }
        if at != self.data_end || restarts.next().is_some() {
            return Err(Malformed("block of entries: length"));
        }
        Ok(())
    }

    /// What it holds.
    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// Entries or pairs.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes that it takes in memory.
    pub fn memory_len(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// The pairs; none in a block of entries.
    pub fn pairs(&self) -> &[PairLayout] {
        let count = if self.kind.is_pairs() { self.count } else { 0 };
        let (pairs, _) = <[PairLayout]>::ref_from_prefix_with_elems(&self.bytes[HEAD_SIZE..], count)
            .expect("the length was checked when the block was read");
        pairs
    }

    /// Where its first entry is.
    pub(crate) fn first(&self) -> usize {
        HEAD_SIZE
    }

    /// The entry at that offset; `None` after the last.
    #[inline]
    pub(crate) fn entry(&self, at: usize) -> Option<RawEntry<'_>> {
        if at == self.data_end || self.kind.is_pairs() {
            return None;
        }
        Some(self.parse(at).expect("entries were checked when the block was read"))
    }

    /// A value that an entry of this block named.
    pub(crate) fn value(&self, range: &Range<u16>) -> &[u8] {
        &self.bytes[usize::from(range.start)..usize::from(range.end)]
    }

    /// The offset of the last entry with a whole key that is at most that key; that of the first entry when there is none.
    pub(crate) fn restart_before(&self, key: &[u8]) -> usize {
        let after = self.restarts().partition_point(|restart| {
            self.entry(restart.get().into()).is_some_and(|entry| entry.rest <= key)
        });
        match after.checked_sub(1) {
            Some(at) => self.restarts()[at].get().into(),
            None => HEAD_SIZE,
        }
    }

    fn restarts(&self) -> &[U16] {
        <[U16]>::ref_from_bytes(&self.bytes[self.data_end..])
            .expect("the block ends after a whole number of offsets")
    }

    #[inline]
    fn parse(&self, at: usize) -> Option<RawEntry<'_>> {
        let (head, after) = EntryLayout::ref_from_prefix(self.bytes.get(at..self.data_end)?).ok()?;
        let rest = after.get(..head.rest_len.get().into())?;
        let value_at = at + ENTRY_HEAD_SIZE + rest.len();
        let value_len = if head.value_len == REMOVED { 0 } else { head.value_len.get() };
        let next = value_at + usize::from(value_len);
        if next > self.data_end {
            return None;
        }
        let value = (head.value_len != REMOVED).then_some(value_at as u16..next as u16);
        Some(RawEntry { shared_len: head.shared_len.get().into(), rest, value, next })
    }
}

/// Fills blocks with entries.
#[derive(Debug)]
pub struct BlockBuilder {
    kind: BlockKind,
    count: usize,
    data: Vec<u8>,
    restarts: Vec<U16>,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    /// An empty block of entries or fences.
    pub fn new(kind: BlockKind) -> Self {
        assert!(!kind.is_pairs(), "pairs are not built entry by entry");
        let data = Vec::with_capacity(RUN_BLOCK_PAYLOAD);
        BlockBuilder { kind, count: 0, data, restarts: Vec::new(), last_key: Vec::new() }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The last key added.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Adds an entry, above all before it; `false`, and nothing changed, when the block is full. No value is a removal.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> bool {
        assert!(key.len() <= DIRECTORY_KEY_LEN_MAX, "the directory makes no longer keys");
        assert!(value.is_none_or(|v| v.len() <= DIRECTORY_VALUE_LEN_MAX), "nor longer values");
        assert!(self.is_empty() || key > self.last_key.as_slice(), "keys ascend");
        let is_restart = self.count.is_multiple_of(RESTART_INTERVAL);
        let shared_len = if is_restart { 0 } else { common_len(&self.last_key, key) };
        let rest = &key[shared_len..];
        let value_bytes = value.unwrap_or_default();
        let restarts_len = (self.restarts.len() + usize::from(is_restart)) * size_of::<U16>();
        let entry_len = ENTRY_HEAD_SIZE + rest.len() + value_bytes.len();
        if HEAD_SIZE + self.data.len() + entry_len + restarts_len > RUN_BLOCK_PAYLOAD {
            return false;
        }
        if is_restart {
            self.restarts.push(U16::new((HEAD_SIZE + self.data.len()) as u16));
        }
        let head = EntryLayout {
            shared_len: U16::new(shared_len as u16),
            rest_len: U16::new(rest.len() as u16),
            value_len: U16::new(value.map_or(REMOVED, |value| value.len() as u16)),
        };
        self.data.extend_from_slice(head.as_bytes());
        self.data.extend_from_slice(rest);
        self.data.extend_from_slice(value_bytes);
        self.last_key.truncate(shared_len);
        self.last_key.extend_from_slice(rest);
        self.count += 1;
        true
    }

    /// Lays the block out in a zeroed payload and begins the next.
    pub fn finish(&mut self, payload: &mut [u8]) {
        let head = head(self.kind, self.count, self.data.len(), self.restarts.len());
        write_parts(payload, &[head.as_bytes(), &self.data, self.restarts.as_bytes()]);
        self.count = 0;
        self.data.clear();
        self.restarts.clear();
    }
}

/// Lays out a block of at most [`PAIRS_PER_BLOCK`] pairs in a zeroed payload.
pub fn encode_pairs(kind: BlockKind, pairs: &[(u64, u64)], payload: &mut [u8]) {
    assert!(kind.is_pairs() && pairs.len() <= PAIRS_PER_BLOCK, "a block holds so many pairs");
    let layouts: Vec<PairLayout> = pairs
        .iter()
        .map(|(hash, location)| PairLayout { hash: U64::new(*hash), location: U64::new(*location) })
        .collect();
    let head = head(kind, pairs.len(), size_of_val(layouts.as_slice()), 0);
    write_parts(payload, &[head.as_bytes(), layouts.as_bytes()]);
}

/// What the pairs of a run are in order of: the bits of the hash from the lowest on, then the location. Those of one bin of a hash index follow each other
/// then, however many bins it has, and a whole index is filled bin by bin from several runs at once.
#[inline]
pub fn pair_order(pair: &(u64, u64)) -> (u64, u64) {
    (pair.0.reverse_bits(), pair.1)
}

/// The pair that stands there in the order.
#[inline]
pub fn pair_of(order: &(u64, u64)) -> (u64, u64) {
    (order.0.reverse_bits(), order.1)
}

/// Blocks that so many pairs take.
pub fn pair_blocks(count: u64) -> u64 {
    count.div_ceil(PAIRS_PER_BLOCK as u64)
}

/// Bytes that two keys begin with alike.
pub(crate) fn common_len(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = size_of::<u64>();
    // Keys of a block share tens of bytes: eight at a time.
    let words = a.as_chunks::<WORD>().0.iter().zip(b.as_chunks::<WORD>().0);
    let whole = WORD * words.take_while(|(a, b)| a == b).count();
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

fn head(kind: BlockKind, count: usize, data_len: usize, restart_count: usize) -> BlockLayout {
    BlockLayout {
        kind: kind.code(),
        reserved: 0,
        count: U16::new(count as u16),
        data_len: U16::new(data_len as u16),
        restart_count: U16::new(restart_count as u16),
    }
}

fn write_parts(mut out: &mut [u8], parts: &[&[u8]]) {
    for part in parts {
        let (here, rest) = out.split_at_mut(part.len());
        here.copy_from_slice(part);
        out = rest;
    }
}

/// What is kept of a run to find it again. The catalog's key seals it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDescriptor {
    /// Its id: no other run of its directory has it.
    pub id: u64,
    /// What its key is derived from.
    pub object_id: ObjectId,
    /// Generation of the catalog's key.
    pub key_version: KeyVersion,
    /// How its blocks are sealed.
    pub seal_kind: SealKind,
    /// Entries, removals included.
    pub entry_count: u64,
    /// Of those, removals.
    pub removal_count: u64,
    /// Pairs that the hash index gains with it.
    pub added_count: u64,
    /// Pairs that it loses.
    pub removed_count: u64,
    /// Entry blocks.
    pub entry_blocks: u32,
    /// Fence blocks.
    pub fence_blocks: u32,
    /// Blocks of the outline.
    pub outline_blocks: u32,
    /// Where its blocks lie, in order; each holds whole blocks.
    pub extents: Vec<Extent>,
}

impl RunDescriptor {
    /// The block numbers of a section.
    pub fn section(&self, kind: BlockKind) -> Range<u32> {
        let added = pair_blocks(self.added_count) as u32;
        let removed = pair_blocks(self.removed_count) as u32;
        let (begin, len) = match kind {
            BlockKind::Entries => (0, self.entry_blocks),
            BlockKind::Added => (self.entry_blocks, added),
            BlockKind::Removed => (self.entry_blocks + added, removed),
            BlockKind::Fences => (self.entry_blocks + added + removed, self.fence_blocks),
            BlockKind::Outline => {
                (self.entry_blocks + added + removed + self.fence_blocks, self.outline_blocks)
            }
        };
        begin..begin + len
    }

    /// Blocks in all sections.
    pub fn block_count(&self) -> u32 {
        self.section(BlockKind::Outline).end
    }

    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let fixed = RunLayout {
            id: U64::new(self.id),
            object_id: self.object_id.0,
            entry_count: U64::new(self.entry_count),
            removal_count: U64::new(self.removal_count),
            added_count: U64::new(self.added_count),
            removed_count: U64::new(self.removed_count),
            key_version: U32::new(self.key_version.0),
            entry_blocks: U32::new(self.entry_blocks),
            fence_blocks: U32::new(self.fence_blocks),
            extent_count: U32::new(self.extents.len() as u32),
            seal_kind: self.seal_kind.code(),
            reserved: [0; 3],
            outline_blocks: U32::new(self.outline_blocks),
        };
        out.extend_from_slice(fixed.as_bytes());
        for extent in &self.extents {
            let layout = ExtentLayout {
                segment_id: U64::new(extent.segment.0),
                block: U32::new(extent.block),
                block_count: U32::new(extent.block_count),
            };
            out.extend_from_slice(layout.as_bytes());
        }
    }

    /// Reads one from the beginning of `bytes`; gives back what follows it.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut cursor = Cursor(bytes);
        let fixed: &RunLayout = cursor.fixed("run")?;
        let extents: Vec<Extent> = cursor
            .slice::<ExtentLayout>(fixed.extent_count.get() as usize, "extents")?
            .iter()
            .map(|extent| Extent {
                segment: SegmentId(extent.segment_id.get()),
                block: extent.block.get(),
                block_count: extent.block_count.get(),
            })
            .collect();
        let descriptor = RunDescriptor {
            id: fixed.id.get(),
            object_id: ObjectId(fixed.object_id),
            key_version: KeyVersion(fixed.key_version.get()),
            seal_kind: SealKind::from_code(fixed.seal_kind).ok_or(Malformed("run: seal kind"))?,
            entry_count: fixed.entry_count.get(),
            removal_count: fixed.removal_count.get(),
            added_count: fixed.added_count.get(),
            removed_count: fixed.removed_count.get(),
            entry_blocks: fixed.entry_blocks.get(),
            fence_blocks: fixed.fence_blocks.get(),
            outline_blocks: fixed.outline_blocks.get(),
            extents,
        };
        descriptor.check()?;
        Ok((descriptor, cursor.0))
    }

    fn check(&self) -> Result<(), Malformed> {
        let blocks = pair_blocks(self.added_count)
            .saturating_add(pair_blocks(self.removed_count))
            .saturating_add(self.entry_blocks.into())
            .saturating_add(self.fence_blocks.into())
            .saturating_add(self.outline_blocks.into());
        let extent_blocks: u64 = self.extents.iter().map(|extent| u64::from(extent.block_count)).sum();
        let per_block = (RUN_BLOCK_SIZE / BLOCK_SIZE) as u64;
        if blocks > u64::from(u32::MAX) || extent_blocks != blocks * per_block {
            return Err(Malformed("run: extents do not add up to its blocks"));
        }
        let is_whole = |e: &Extent| e.block_count > 0 && u64::from(e.block_count).is_multiple_of(per_block);
        if !self.extents.iter().all(is_whole) {
            return Err(Malformed("run: an extent does not hold whole blocks"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn built(entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut builder = BlockBuilder::new(BlockKind::Entries);
        for (key, value) in entries {
            assert!(builder.add(key, value.as_deref()));
        }
        let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
        builder.finish(&mut payload);
        payload
    }

    fn pairs_payload(pairs: &[(u64, u64)]) -> Vec<u8> {
        let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
        encode_pairs(BlockKind::Added, pairs, &mut payload);
        payload
    }

    fn entries(block: &Block) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let (mut at, mut key, mut found) = (block.first(), Vec::new(), Vec::new());
        while let Some(entry) = block.entry(at) {
            key.truncate(entry.shared_len);
            key.extend_from_slice(entry.rest);
            found.push((key.clone(), entry.value.map(|value| block.value(&value).to_vec())));
            at = entry.next;
        }
        found
    }

    fn some_entries(count: usize) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        (0..count)
            .map(|i| (format!("key/{i:05}").into_bytes(), (i % 7 != 0).then(|| vec![i as u8; i % 50])))
            .collect()
    }

    #[test]
    fn a_block_refuses_what_no_longer_fits_and_stays_what_it_was() {
        let mut builder = BlockBuilder::new(BlockKind::Entries);
        let mut count = 0;
        while builder.add(format!("{count:05}").as_bytes(), Some(&[7; 100])) {
            count += 1;
        }
        let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
        builder.finish(&mut payload);
        assert_eq!(entries(&Block::decode(&payload).expect("whole")).len(), count);
        assert!(builder.is_empty());
    }

    #[test]
    fn keys_that_do_not_ascend_are_refused() {
        let mut payload = built(&some_entries(20));
        // The last key differs from the one before in its last digit: 00019 becomes 00010.
        let at = payload.iter().rposition(|byte| *byte == b'9').expect("the last key");
        payload[at] = b'0';
        assert_eq!(Block::decode(&payload).err(), Some(Malformed("block: keys do not ascend")));
    }

    #[test]
    fn pairs_fill_a_block_to_its_end() {
        let mut pairs: Vec<(u64, u64)> = (0..PAIRS_PER_BLOCK as u64).map(|i| (i, i * 2)).collect();
        pairs.sort_by_key(pair_order);
        let block = Block::decode(&pairs_payload(&pairs)).expect("whole");
        assert_eq!(block.pairs().iter().map(PairLayout::get).collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn pairs_out_of_order_are_refused() {
        // The lowest bit counts most: 2 comes before 1, and 3 after both. Of equal hashes the lower location comes first, and the same may come again.
        let in_order = [(2, 9), (1, 5), (1, 5), (1, 6), (3, 0)];
        assert!(Block::decode(&pairs_payload(&in_order)).is_ok());
        for i in [0, 2, 3] {
            let mut pairs = in_order;
            pairs.swap(i, i + 1);
            let refused = Block::decode(&pairs_payload(&pairs)).err();
            assert_eq!(refused, Some(Malformed("block of pairs: order")), "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn a_block_gives_back_its_entries(
            entries_in in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 0..40),
                prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
                0..120,
            )
        ) {
            let entries_in: Vec<_> = entries_in.into_iter().collect();
            let block = Block::decode(&built(&entries_in)).expect("whole");
            prop_assert_eq!(entries(&block), entries_in);
        }

        #[test]
        fn any_bytes_are_a_block_or_malformed(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            damage in prop::collection::vec((0usize..600, any::<u8>()), 0..4),
            len in 0usize..RUN_BLOCK_PAYLOAD,
        ) {
            if let Ok(block) = Block::decode(&bytes) {
                entries(&block);
            }
            let mut payload = built(&some_entries(40));
            for (at, byte) in damage {
                payload[at] = byte;
            }
            for payload in [&payload[..], &payload[..len]] {
                if let Ok(block) = Block::decode(payload) {
                    entries(&block);
                    block.pairs();
                    block.restart_before(b"key/00020");
                }
            }
        }

        #[test]
        fn any_bytes_are_a_descriptor_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RunDescriptor::decode(&bytes);
        }
    }
}
