//! The hash index of a shard: 64 bits of hash to the place of a record.
//!
//! It holds neither keys nor buckets: whoever follows an entry reads the record and compares the key in it, so that a collision costs a
//! second read and never gives a wrong answer.
//!
//! Linear hashing (Litwin, VLDB 1980): entries lie in bins of about [`LOAD_MAX`]; when there are more on average, one bin is split in two,
//! in a fixed order, and when there are fewer than [`LOAD_MIN`], the last split is undone.
//!
//! ```text
//!      bins that were split          not yet          their other halves
//! [ 0 | 1 | 2 | .. | next - 1 ][ next | .. ][ 2^k | 2^k + 1 | .. | count - 1 ]
//! ```
//! Invariants:
//! - An insertion or removal splits or merges at most one bin, and moves a few pages of 8 KiB at most, at any size.
//! - At most 24 bytes per entry, all included, from a thousand entries on, whether it grew or shrank to its size. An entry is 16 bytes; the
//!   rest is its share of the bin's head (8 bytes), of a block that is not full and of a page that is not.
//! - The same calls in the same order make the same index: nothing is random but the seed.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::bins::{Bins, Entry, Moved};
pub use super::location::Location;
use crate::ids::BucketId;

/// Entries per bin above which a bin is split: fewer cost more memory each, more cost more copying.
const LOAD_MAX: usize = 24;

/// Entries per bin below which two bins are merged: far enough below [`LOAD_MAX`] that no bin is split and merged in turns, and near enough
/// that an index that shrinks is hardly dearer.
const LOAD_MIN: usize = 18;

/// The index.
pub struct HashIndex {
    seed: u64,
    bins: Bins,
    len: usize,
}

impl HashIndex {
    /// An empty index. The seed is random, so that nobody can choose keys that collide.
    pub fn new(seed: u64) -> Self {
        HashIndex { seed, bins: Bins::new(), len: 0 }
    }

    /// Makes room for that many entries in all, in one step: for loading many at once, where a pause does no harm.
    pub fn reserve_for(&mut self, count: usize) {
        while self.bins.count() < count.div_ceil(LOAD_MAX) {
            self.bins.split();
        }
    }

    /// Fills an empty index with about so many entries, bin by bin.
    pub fn load(&mut self, count: usize) -> Load<'_> {
        assert!(self.is_empty(), "only an empty index is loaded");
        self.reserve_for(count.max(1));
        Load { index: self, bin: 0, entries: Vec::new() }
    }

    /// Adds an entry. Entries that are equal in both count one by one.
    pub fn insert(&mut self, hash: u64, location: Location) {
        self.insert_counted(hash, location);
    }

    /// Removes an entry; whether it was there.
    pub fn remove(&mut self, hash: u64, location: Location) -> bool {
        if !self.bins.remove(Entry { hash, location }) {
            return false;
        }
        self.len -= 1;
        if self.len == 0 {
            self.bins = Bins::new();
        } else if self.bins.count() > 1 && self.len < self.bins.count() * LOAD_MIN {
            self.bins.merge();
        }
        true
    }

    /// Gives an entry another location, for a record that was moved; whether it was there.
    pub fn replace(&mut self, hash: u64, old: Location, new: Location) -> bool {
        self.bins.replace(Entry { hash, location: old }, new)
    }

    /// The hash of a key.
    pub fn hash(&self, bucket: BucketId, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed ^ bucket.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The hash of one version of a key, which its slot tells from the others.
    pub fn hash_version(&self, bucket: BucketId, key: &[u8], slot: u64) -> u64 {
        xxh3_64_with_seed(&slot.to_le_bytes(), self.hash(bucket, key))
    }

    /// Places of records whose key may be that one.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = Location> + '_ {
        self.bins.matching(hash).iter().map(|entry| entry.location)
    }

    /// All entries, in an order in which [`insert`](Self::insert) takes them fastest: bin by bin, after [`reserve_for`](Self::reserve_for) of
    /// their number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Location)> + '_ {
        self.bins.iter().map(|entry| (entry.hash, entry.location))
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap, with what the allocator spends on each block.
    pub fn allocated_bytes(&self) -> usize {
        self.bins.heap_bytes()
    }

    fn insert_counted(&mut self, hash: u64, location: Location) -> Moved {
        let mut moved = 0;
        if self.len >= self.bins.count() * LOAD_MAX {
            moved += self.bins.split();
        }
        self.len += 1;
        moved + self.bins.insert(Entry { hash, location })
    }
}

/// Filling an index. Entries whose hashes ascend by their bits from the lowest on ([`crate::format::run::pair_order`]) come bin by bin, and each bin is written
/// once: at tens of millions of entries that is many times as fast as inserting them, which finds none of its memory in the cache.
pub struct Load<'a> {
    index: &'a mut HashIndex,
    /// Whose entries are being collected.
    bin: usize,
    entries: Vec<Entry>,
}

impl Load<'_> {
    /// The next entry. Out of order it costs as much as an insertion.
    pub fn push(&mut self, hash: u64, location: Location) {
        let bin = self.index.bins.bin_of(hash).expect("an index that is loaded has a bin");
        if bin != self.bin {
            self.store();
            self.bin = bin;
        }
        self.entries.push(Entry { hash, location });
    }

    /// There are no more.
    pub fn finish(mut self) {
        self.store();
    }

    fn store(&mut self) {
        if self.index.bins.entries(self.bin).is_empty() {
            self.index.len += self.entries.len();
            self.entries.sort_by_key(|entry| entry.hash);
            self.index.bins.store(self.bin, &self.entries);
        } else {
            self.entries.iter().for_each(|entry| self.index.insert(entry.hash, entry.location));
        }
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// splitmix64: hashes as uniform as those of keys.
    fn uniform(i: u64) -> u64 {
        let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn insert(index: &mut HashIndex, i: u64) -> Moved {
        index.insert_counted(uniform(i), Location::from_raw(i))
    }

    fn remove(index: &mut HashIndex, i: u64) {
        assert!(index.remove(uniform(i), Location::from_raw(i)));
    }

    fn bytes_per_entry(index: &HashIndex) -> f64 {
        index.allocated_bytes() as f64 / index.len() as f64
    }

    #[test]
    fn entries_of_one_hash_live_side_by_side() {
        let mut index = HashIndex::new(1);
        let at = Location::from_raw;
        index.insert(42, at(0));
        index.insert(42, at(64));
        assert_eq!(index.candidates(42).count(), 2);
        assert!(index.remove(42, at(0)));
        assert!(!index.remove(42, at(0)));
        assert_eq!(index.candidates(42).collect::<Vec<_>>(), [at(64)]);
    }

    #[test]
    fn an_entry_moves_to_another_location_in_place() {
        let mut index = HashIndex::new(1);
        assert!(!index.replace(42, Location::from_raw(1), Location::from_raw(2)));
        index.insert(42, Location::from_raw(1));
        assert!(index.replace(42, Location::from_raw(1), Location::from_raw(2)));
        assert!(!index.replace(42, Location::from_raw(1), Location::from_raw(3)));
        assert_eq!(index.candidates(42).collect::<Vec<_>>(), [Location::from_raw(2)]);
    }

    #[test]
    fn a_hash_depends_on_seed_bucket_key_and_slot() {
        let (one, two) = (HashIndex::new(1), HashIndex::new(2));
        let hashes = [
            one.hash(BucketId(1), b"a"),
            one.hash(BucketId(1), b"b"),
            one.hash(BucketId(2), b"a"),
            two.hash(BucketId(1), b"a"),
            one.hash_version(BucketId(1), b"a", 0),
            one.hash_version(BucketId(1), b"a", 1),
            one.hash_version(BucketId(1), b"b", 1),
            two.hash_version(BucketId(1), b"a", 1),
        ];
        let distinct: std::collections::BTreeSet<u64> = hashes.into();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn no_insertion_moves_more_than_a_few_pages() {
        let mut index = HashIndex::new(1);
        let moved: Vec<Moved> = (0..400_000).map(|i| insert(&mut index, i)).collect();
        let most = moved.iter().copied().max().unwrap_or(0);
        // A bin is split and another takes the entry: in the worst case four pages grow, of 8 KiB each, for both halves, the entry's new
        // block and the new head. The bins themselves have twice the load on average before they are split, and more by chance.
        assert!(most <= 36 * 1024, "{most} bytes moved by one insertion");
        assert!(most >= LOAD_MAX * 16, "splits are counted");
        let mean = moved.iter().sum::<Moved>() / moved.len();
        assert!(mean < 1024, "{mean} bytes moved per insertion");
    }

    #[test]
    fn an_entry_costs_at_most_24_bytes_at_every_size_from_a_thousand_on() {
        let mut index = HashIndex::new(1);
        for i in 0..400_000 {
            insert(&mut index, i);
            if index.len() >= 1000 {
                let bytes = bytes_per_entry(&index);
                assert!(bytes <= 24.0, "{bytes} at {}", index.len());
                assert!(bytes <= 18.0 || index.len() < 200_000, "{bytes} at {}", index.len());
            }
        }
    }

    #[test]
    fn an_entry_costs_at_most_24_bytes_while_the_index_shrinks_and_when_it_grows_again() {
        let mut index = HashIndex::new(1);
        for i in 0..200_000 {
            insert(&mut index, i);
        }
        for i in 0..199_000 {
            remove(&mut index, i);
            assert!(bytes_per_entry(&index) <= 24.0, "{} at {}", bytes_per_entry(&index), index.len());
        }
        for i in 0..50_000 {
            insert(&mut index, i);
            assert!(bytes_per_entry(&index) <= 24.0, "{} at {}", bytes_per_entry(&index), index.len());
        }
    }

    #[test]
    fn an_index_of_constant_size_keeps_its_bound_under_turnover() {
        let mut index = HashIndex::new(1);
        for i in 0..300_000 {
            insert(&mut index, i);
            if i >= 10_000 {
                remove(&mut index, i - 10_000);
            }
            assert!(index.len() < 1000 || bytes_per_entry(&index) <= 24.0);
        }
        assert_eq!(index.len(), 10_000);
        assert!(index.iter().map(|(_, location)| location.raw()).all(|i| i >= 290_000));
    }

    #[test]
    fn an_index_that_empties_gives_everything_back() {
        let mut index = HashIndex::new(1);
        for i in 0..10_000 {
            insert(&mut index, i);
        }
        for i in 0..10_000 {
            remove(&mut index, i);
        }
        assert!(index.is_empty());
        assert_eq!(index.allocated_bytes(), 0);
    }

    #[test]
    fn a_loaded_index_holds_what_an_index_holds_into_which_the_same_was_inserted() {
        for count in [0, 1, 5, 1000, 20_000] {
            let mut hashes: Vec<u64> = (0..count).map(uniform).collect();
            // Some hashes are there more often, one so often that its bin has an array of its own.
            hashes.extend((0..count / 10).map(uniform));
            hashes.extend((0..count / 3).map(|_| uniform(0)));
            let pairs = || hashes.iter().zip(0u64..);
            let mut inserted = HashIndex::new(1);
            pairs().for_each(|(hash, i)| inserted.insert(*hash, Location::from_raw(i)));
            let mut ordered: Vec<(u64, u64)> = pairs().map(|(hash, i)| (*hash, i)).collect();
            let mut loaded = [HashIndex::new(1), HashIndex::new(1), HashIndex::new(1)];
            // In no order, in order, and with too little room made.
            for (n, index) in loaded.iter_mut().enumerate() {
                let mut load = index.load(if n == 2 { 1 } else { ordered.len() });
                ordered.iter().for_each(|(hash, i)| load.push(*hash, Location::from_raw(*i)));
                load.finish();
                ordered.sort_unstable_by_key(crate::format::run::pair_order);
            }
            for index in loaded {
                assert_eq!(index.len(), hashes.len());
                for hash in &hashes {
                    let sorted = |index: &HashIndex| {
                        let mut found: Vec<u64> = index.candidates(*hash).map(Location::raw).collect();
                        found.sort_unstable();
                        found
                    };
                    assert_eq!(sorted(&index), sorted(&inserted));
                }
            }
        }
    }

    #[test]
    fn room_made_beforehand_is_as_much_as_growth_makes() {
        let (mut grown, mut loaded) = (HashIndex::new(1), HashIndex::new(1));
        for i in 0..50_000 {
            insert(&mut grown, i);
        }
        loaded.reserve_for(grown.len());
        let mut moved = 0;
        for (hash, location) in grown.iter() {
            moved += loaded.insert_counted(hash, location);
        }
        assert!(loaded.iter().eq(grown.iter()));
        assert_eq!(loaded.bins.count(), grown.bins.count());
        assert!(loaded.allocated_bytes() <= grown.allocated_bytes());
        assert!(
            moved < 24 * 16 * loaded.len(),
            "{moved}: an image in order shifts nothing and splits nothing"
        );
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64, u64),
        Remove(u64, u64),
        Replace(u64, u64, u64),
        InsertMany(u64, u16),
        RemoveMany(u64, u16),
        ReserveFor(u16),
    }

    fn op() -> impl Strategy<Value = Op> {
        // Few hashes and locations, so that they meet; hashes of which some differ in low bits only and some in high bits only.
        let hash = prop_oneof![0..4u64, (0..4u64).prop_map(|i| i << 62), (0..400u64).prop_map(uniform)];
        let location = 0..4u64;
        prop_oneof![
            4 => (hash.clone(), location.clone()).prop_map(|(hash, location)| Op::Insert(hash, location)),
            4 => (hash.clone(), location.clone()).prop_map(|(hash, location)| Op::Remove(hash, location)),
            2 => (hash, location.clone(), location).prop_map(|(hash, old, new)| Op::Replace(hash, old, new)),
            1 => (0..400u64, 0..400u16).prop_map(|(from, count)| Op::InsertMany(from, count)),
            1 => (0..400u64, 0..400u16).prop_map(|(from, count)| Op::RemoveMany(from, count)),
            1 => (0..2000u16).prop_map(Op::ReserveFor),
        ]
    }

    /// What the index should hold: how often each pair.
    #[derive(Default)]
    struct Model(BTreeMap<(u64, u64), usize>);

    impl Model {
        fn insert(&mut self, hash: u64, location: u64) {
            *self.0.entry((hash, location)).or_default() += 1;
        }

        fn remove(&mut self, hash: u64, location: u64) -> bool {
            let Some(count) = self.0.get_mut(&(hash, location)) else { return false };
            *count -= 1;
            if *count == 0 {
                self.0.remove(&(hash, location));
            }
            true
        }

        fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
            self.0.iter().flat_map(|(pair, count)| std::iter::repeat_n(*pair, *count))
        }

        fn locations(&self, hash: u64) -> Vec<u64> {
            self.pairs().filter(|(found, _)| *found == hash).map(|(_, location)| location).collect()
        }
    }

    fn apply(index: &mut HashIndex, model: &mut Model, op: &Op) {
        let at = Location::from_raw;
        match *op {
            Op::Insert(hash, location) => {
                index.insert(hash, at(location));
                model.insert(hash, location);
            }
            Op::Remove(hash, location) => {
                assert_eq!(index.remove(hash, at(location)), model.remove(hash, location));
            }
            Op::Replace(hash, old, new) => {
                let was_there = model.remove(hash, old);
                if was_there {
                    model.insert(hash, new);
                }
                assert_eq!(index.replace(hash, at(old), at(new)), was_there);
            }
            Op::InsertMany(from, count) => {
                (from..from + u64::from(count)).for_each(|i| apply(index, model, &Op::Insert(uniform(i), 0)));
            }
            Op::RemoveMany(from, count) => {
                (from..from + u64::from(count)).for_each(|i| apply(index, model, &Op::Remove(uniform(i), 0)));
            }
            Op::ReserveFor(count) => index.reserve_for(usize::from(count)),
        }
    }

    proptest! {
        #[test]
        fn the_index_holds_what_a_multiset_of_pairs_holds(ops in prop::collection::vec(op(), 1..60)) {
            let (mut index, mut model) = (HashIndex::new(7), Model::default());
            for op in &ops {
                apply(&mut index, &mut model, op);
            }
            let mut held: Vec<(u64, u64)> = index.iter().map(|(hash, location)| (hash, location.raw())).collect();
            held.sort_unstable();
            prop_assert!(held.iter().copied().eq(model.pairs()));
            prop_assert_eq!(index.len(), held.len());
            for hash in (0..4).chain((0..4).map(|i| i << 62)).chain((0..400).map(uniform)) {
                let mut found: Vec<u64> = index.candidates(hash).map(Location::raw).collect();
                found.sort_unstable();
                prop_assert_eq!(found, model.locations(hash));
            }
        }
    }
}
