//! The hash index of a shard: 64 bits of hash to the place of a record.
//!
//! It holds neither keys nor buckets: whoever follows an entry reads the record and compares the key in it, so that a collision costs a
//! second read and never gives a wrong answer.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::{BucketId, SegmentId, SegmentIndex};
use crate::limits::RECORD_ALIGN;

/// Where a record lies, in 64 bits: segment index (24), offset in units of 64 bytes (24), length in units of 64 bytes (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location(u64);

impl Location {
    /// The length that says "longer: read the header first".
    const LONG: u64 = 0xffff;

    /// The place of a record of `len` bytes.
    pub fn new(segment: SegmentId, offset: u32, len: usize) -> Self {
        let units = len.div_ceil(RECORD_ALIGN) as u64;
        let offset_units = u64::from(offset) / RECORD_ALIGN as u64;
        assert!(offset_units < 1 << 24 && u64::from(offset).is_multiple_of(RECORD_ALIGN as u64));
        Location(u64::from(segment.index().0) << 40 | offset_units << 16 | units.min(Self::LONG))
    }

    /// The segment's position in the table.
    pub fn segment_index(self) -> SegmentIndex {
        SegmentIndex((self.0 >> 40) as u32)
    }

    /// Byte offset in the segment.
    pub fn offset(self) -> u64 {
        (self.0 >> 16 & 0xff_ffff) * RECORD_ALIGN as u64
    }

    /// Bytes of the record, rounded up; `None` when it is too long to be said here.
    pub fn record_len(self) -> Option<usize> {
        let units = self.0 & 0xffff;
        (units < Self::LONG).then_some(units as usize * RECORD_ALIGN)
    }
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    location: Location,
}

/// The index.
pub struct HashIndex {
    seed: u64,
    table: HashTable<Entry>,
}

impl HashIndex {
    /// An empty index. The seed is random, so that nobody can choose keys that collide.
    pub fn new(seed: u64) -> Self {
        HashIndex { seed, table: HashTable::new() }
    }

    /// The hash of a key.
    pub fn hash(&self, bucket: BucketId, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed ^ bucket.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Adds an entry.
    pub fn insert(&mut self, hash: u64, location: Location) {
        self.table.insert_unique(hash, Entry { hash, location }, |entry| entry.hash);
    }

    /// Removes an entry; whether it was there.
    pub fn remove(&mut self, hash: u64, location: Location) -> bool {
        match self.table.find_entry(hash, |entry| entry.hash == hash && entry.location == location) {
            Ok(occupied) => {
                occupied.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Places of records whose key may be that one.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = Location> + '_ {
        self.table.iter_hash(hash).filter(move |entry| entry.hash == hash).map(|entry| entry.location)
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_gives_back_its_parts() {
        let segment = SegmentId::new(9, SegmentIndex(0xff_fff0));
        let location = Location::new(segment, 1024 * 1024 * 1024 - 64, 1000);
        assert_eq!(location.segment_index(), SegmentIndex(0xff_fff0));
        assert_eq!((location.offset(), location.record_len()), ((1 << 30) - 64, Some(1024)));
        assert_eq!(Location::new(segment, 0, 8 * 1024 * 1024).record_len(), None);
    }

    #[test]
    fn entries_of_one_hash_live_side_by_side() {
        let mut index = HashIndex::new(1);
        let at = |offset| Location::new(SegmentId::new(1, SegmentIndex(1)), offset, 64);
        index.insert(42, at(0));
        index.insert(42, at(64));
        assert_eq!(index.candidates(42).count(), 2);
        assert!(index.remove(42, at(0)));
        assert!(!index.remove(42, at(0)));
        assert_eq!(index.candidates(42).collect::<Vec<_>>(), [at(64)]);
    }
}
