//! The bins of the hash index: which entries each hash value is to be looked for among.
//!
//! A bin is a head of 8 bytes and a block of entries, of the smallest multiple of [`STEP`] that holds them; blocks of one length lie side by side
//! in [`Blocks`], where the last fills the place of any that is given up. Whose the last one was, its entries say: their hashes name their bin.
//! So nothing is ever fragmented, whatever the order of insertions and removals.
//!
//! Invariants:
//! - The entries of a bin are in ascending order of hash. Hashes are uniform, so where one must lie is computed from its value, and a search touches
//!   about one cache line of the bin, whatever the bin's length.
//! - A bin of no entries has no block; one of more than [`LONG`] has an array of its own.

use std::collections::BTreeMap;

use super::blocks::{Blocks, heap_block_bytes};
use super::location::Location;

/// Blocks hold multiples of this. It is a cache line; larger steps leave more unused, smaller ones move entries more often.
const STEP: usize = 4;

/// Bins get as long as this by chance only once in a universe: a longer one has many entries under one hash.
const LONG: usize = 256;

/// One entry of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) location: Location,
}

/// Bytes of an entry.
const ENTRY: usize = 16;

const _: () = assert!(size_of::<Entry>() == ENTRY);

/// Where the entries of a bin are.
#[derive(Clone, Copy, Default)]
struct Head {
    /// In the blocks of its class; of no meaning when there are no entries or more than [`LONG`].
    block: u32,
    len: u32,
}

/// Bytes that an operation moved in memory: the measure of its work, for those who promise a bound.
pub(super) type Moved = usize;

/// The bins.
pub(super) struct Bins {
    heads: Blocks<Head>,
    /// By length in steps, less one.
    classes: Vec<Blocks<Entry>>,
    long: BTreeMap<usize, Vec<Entry>>,
}

impl Bins {
    /// No bins.
    pub(super) fn new() -> Self {
        Bins { heads: Blocks::new(1), classes: Vec::new(), long: BTreeMap::new() }
    }

    /// Adds an entry to its bin, before those of equal hash.
    pub(super) fn insert(&mut self, entry: Entry) -> Moved {
        let bin = self.bin_of(entry.hash).expect("an index that takes entries has a bin");
        let entries = self.entries(bin);
        let (len, position) = (entries.len(), lower_bound(entries, entry.hash));
        if len < LONG && !len.is_multiple_of(STEP) {
            let block = self.block_mut(bin);
            block.copy_within(position..len, position + 1);
            block[position] = entry;
            self.head_mut(bin).len += 1;
            return (len - position + 1) * ENTRY;
        }
        if let Some(long) = self.long.get_mut(&bin) {
            long.insert(position, entry);
            return (len - position + 1) * ENTRY;
        }
        let (mut entries, moved) = self.take(bin);
        entries.insert(position, entry);
        moved + self.store(bin, &entries)
    }

    /// Removes one such entry; whether there was one.
    pub(super) fn remove(&mut self, entry: Entry) -> bool {
        let Some((bin, position)) = self.find(entry) else { return false };
        let len = self.entries(bin).len();
        if len <= LONG && len % STEP != 1 {
            self.block_mut(bin).copy_within(position + 1..len, position);
            self.head_mut(bin).len -= 1;
            return true;
        }
        if len > LONG + 1 {
            let long = self.long.get_mut(&bin).expect("a bin of that length has its own array");
            long.remove(position);
            if long.capacity() >= 2 * long.len() {
                long.shrink_to_fit();
            }
            return true;
        }
        let (mut entries, _) = self.take(bin);
        entries.remove(position);
        self.store(bin, &entries);
        true
    }

    /// Gives one such entry another location; whether there was one.
    pub(super) fn replace(&mut self, entry: Entry, location: Location) -> bool {
        let Some((bin, position)) = self.find(entry) else { return false };
        match self.long.get_mut(&bin) {
            Some(long) => long[position].location = location,
            None => self.block_mut(bin)[position].location = location,
        }
        true
    }

    /// Adds a bin, and gives it what is its own of the entries of the one that stood in for it.
    pub(super) fn split(&mut self) -> Moved {
        let new = self.count();
        let Some(bit) = highest_bit(new) else { return self.heads.push(&[Head::default()]).1 };
        let (mut staying, mut moved) = self.take(new ^ bit);
        let leaving: Vec<Entry> = staying.extract_if(.., |entry| entry.hash & bit as u64 != 0).collect();
        moved += self.store(new ^ bit, &staying);
        moved += self.heads.push(&[Head::default()]).1;
        moved + self.store(new, &leaving)
    }

    /// Undoes the last split.
    pub(super) fn merge(&mut self) {
        let last = self.count() - 1;
        let bit = highest_bit(last).expect("there is more than one bin");
        let theirs = self.take(last).0;
        let ours = self.take(last ^ bit).0;
        self.heads.pop();
        self.store(last ^ bit, &merged(&ours, &theirs));
    }

    /// Bins.
    pub(super) fn count(&self) -> usize {
        self.heads.count()
    }

    /// The entries of that hash.
    pub(super) fn matching(&self, hash: u64) -> &[Entry] {
        let Some(bin) = self.bin_of(hash) else { return &[] };
        let entries = self.entries(bin);
        let matching = &entries[lower_bound(entries, hash)..];
        let len = matching.iter().take_while(|entry| entry.hash == hash).count();
        &matching[..len]
    }

    /// All entries, bin by bin, each in order of hashes.
    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.count()).flat_map(|bin| self.entries(bin)).copied()
    }

    /// Bytes on the heap, with what the allocator spends on each block.
    pub(super) fn heap_bytes(&self) -> usize {
        let classes: usize = self.classes.iter().map(Blocks::heap_bytes).sum();
        let bytes_of = |entries: &Vec<Entry>| heap_block_bytes(entries.capacity() * size_of::<Entry>());
        // A node of the map has 11 places and may be half full.
        let long: usize = self.long.values().map(|entries| bytes_of(entries) + 128).sum();
        let arrays = heap_block_bytes(self.classes.capacity() * size_of::<Blocks<Entry>>());
        self.heads.heap_bytes() + classes + long + arrays
    }

    /// The bin of a hash: that of its low bits, one fewer of them where the bin that they name is still to be split off.
    pub(super) fn bin_of(&self, hash: u64) -> Option<usize> {
        let bit = highest_bit(self.count())?;
        let bin = hash as usize & (bit << 1).wrapping_sub(1);
        Some(if bin < self.count() { bin } else { bin ^ bit })
    }

    fn find(&self, entry: Entry) -> Option<(usize, usize)> {
        let bin = self.bin_of(entry.hash)?;
        let entries = self.entries(bin);
        let first = lower_bound(entries, entry.hash);
        let matching = entries[first..].iter().take_while(|found| found.hash == entry.hash);
        matching.enumerate().find(|(_, found)| **found == entry).map(|(i, _)| (bin, first + i))
    }

    pub(super) fn entries(&self, bin: usize) -> &[Entry] {
        let Head { block, len } = self.heads.block(bin)[0];
        match len as usize {
            0 => &[],
            len @ 1..=LONG => &self.classes[class_of(len)].block(block as usize)[..len],
            _ => &self.long[&bin],
        }
    }

    fn head_mut(&mut self, bin: usize) -> &mut Head {
        &mut self.heads.block_mut(bin)[0]
    }

    /// The block of a bin that has one.
    fn block_mut(&mut self, bin: usize) -> &mut [Entry] {
        let Head { block, len } = self.heads.block(bin)[0];
        self.classes[class_of(len as usize)].block_mut(block as usize)
    }

    /// Takes out all entries of a bin, which then has none.
    fn take(&mut self, bin: usize) -> (Vec<Entry>, Moved) {
        let mut entries = Vec::with_capacity(self.entries(bin).len() + 1);
        entries.extend_from_slice(self.entries(bin));
        let Head { block, len } = std::mem::take(self.head_mut(bin));
        let mut moved = entries.len() * ENTRY;
        match len as usize {
            0 => {}
            len @ 1..=LONG => {
                let class = &mut self.classes[class_of(len)];
                if class.swap_remove(block as usize) {
                    let hash = class.block(block as usize)[0].hash;
                    let owner = self.bin_of(hash).expect("entries are in bins");
                    self.head_mut(owner).block = block;
                    moved += len * ENTRY;
                }
            }
            _ => drop(self.long.remove(&bin)),
        }
        (entries, moved)
    }

    /// Gives entries to a bin that has none.
    pub(super) fn store(&mut self, bin: usize, entries: &[Entry]) -> Moved {
        let len = entries.len();
        let mut head = Head { block: 0, len: u32::try_from(len).expect("a bin is shorter than the index") };
        let mut moved = len * ENTRY;
        match len {
            0 => {}
            1..=LONG => {
                while self.classes.len() <= class_of(len) {
                    self.classes.reserve_exact(1);
                    self.classes.push(Blocks::new((self.classes.len() + 1) * STEP));
                }
                let (block, moved_by_growth) = self.classes[class_of(len)].push(entries);
                head.block = u32::try_from(block).expect("fewer blocks than entries of 2^32 bins");
                moved += moved_by_growth;
            }
            _ => drop(self.long.insert(bin, entries.to_vec())),
        }
        *self.head_mut(bin) = head;
        moved
    }
}

/// How many entries have a smaller hash.
fn lower_bound(entries: &[Entry], hash: u64) -> usize {
    if entries.len() > LONG {
        return entries.partition_point(|entry| entry.hash < hash);
    }
    // Where it would be if the hashes were spread evenly; then step by step to where it is.
    let mut position = ((u128::from(hash) * entries.len() as u128) >> 64) as usize;
    while position > 0 && entries[position - 1].hash >= hash {
        position -= 1;
    }
    while position < entries.len() && entries[position].hash < hash {
        position += 1;
    }
    position
}

/// All entries of two bins, in order.
fn merged(mut ours: &[Entry], mut theirs: &[Entry]) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(ours.len() + theirs.len());
    while let (Some((our, our_rest)), Some((their, their_rest))) = (ours.split_first(), theirs.split_first())
    {
        if our.hash <= their.hash {
            merged.push(*our);
            ours = our_rest;
        } else {
            merged.push(*their);
            theirs = their_rest;
        }
    }
    merged.extend_from_slice(ours);
    merged.extend_from_slice(theirs);
    merged
}

/// The class whose blocks hold that many entries.
fn class_of(len: usize) -> usize {
    len.div_ceil(STEP) - 1
}

/// The highest bit that is set.
fn highest_bit(n: usize) -> Option<usize> {
    n.checked_ilog2().map(|log| 1 << log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: u64, location: u64) -> Entry {
        Entry { hash, location: Location::from_raw(location) }
    }

    fn bins_of(count: usize) -> Bins {
        let mut bins = Bins::new();
        (0..count).for_each(|_| {
            bins.split();
        });
        bins
    }

    #[test]
    fn a_hash_is_found_wherever_the_others_lie() {
        // The estimate of the place is far off in each of these: all small, all large, all at both ends, more than LONG.
        let small: Vec<u64> = (0..100).collect();
        let large: Vec<u64> = (0..100).map(|i| u64::MAX - i).collect();
        let ends: Vec<u64> = (0..100).map(|i| if i % 2 == 0 { i } else { u64::MAX - i }).collect();
        let long: Vec<u64> = (0..1000).map(|i| i * 3).collect();
        for hashes in [small, large, ends, long] {
            let mut bins = bins_of(1);
            for hash in &hashes {
                bins.insert(entry(*hash, hash.wrapping_mul(5)));
            }
            assert!(bins.entries(0).is_sorted_by_key(|entry| entry.hash));
            for hash in hashes {
                assert_eq!(bins.matching(hash), [entry(hash, hash.wrapping_mul(5))]);
            }
        }
    }

    #[test]
    fn a_split_that_is_undone_leaves_what_was() {
        let mut bins = bins_of(5);
        for i in 0..400u64 {
            bins.insert(entry(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i));
        }
        let before: Vec<Entry> = bins.iter().collect();
        bins.split();
        assert!(!bins.entries(5).is_empty() && bins.entries(5).iter().all(|entry| entry.hash & 7 == 5));
        assert!(!bins.entries(1).is_empty() && bins.entries(1).iter().all(|entry| entry.hash & 7 == 1));
        bins.merge();
        assert!(bins.iter().eq(before));
    }

    #[test]
    fn many_entries_under_one_hash_come_and_go() {
        let mut bins = bins_of(3);
        for i in 0..2000 {
            bins.insert(entry(2, i));
            assert_eq!(bins.matching(2).len() as u64, i + 1);
        }
        bins.split();
        assert!(bins.replace(entry(2, 1500), Location::from_raw(5000)));
        assert!(!bins.remove(entry(2, 1500)));
        assert!(bins.remove(entry(2, 5000)));
        bins.merge();
        for i in (0..2000).filter(|i| *i != 1500) {
            assert!(bins.remove(entry(2, i)));
        }
        assert!(bins.long.is_empty() && bins.iter().next().is_none());
    }
}
