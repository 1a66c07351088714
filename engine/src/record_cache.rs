//! Hot small records in the clear, within a budget of bytes: what spares a GET its device read.
//!
//! A record is known by its place. Places are never used twice (a segment that is filled again has another id), and which place a key's record is at is
//! asked of the index each time: so a cached record can be of no use any more, but never stale.
//!
//! A record is admitted when it is read for the second time within a while: a scan, or a store much larger than the cache, costs nothing but a
//! fingerprint each. What is seen once leaves before what is seen again (quick_cache's S3-FIFO kin).

use std::cell::RefCell;
use std::rc::Rc;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use crate::format::body::{Piece, VersionMeta};
use crate::format::directory::EntryKind;
use crate::ids::{BucketId, Lsn, SegmentId};

/// Longest inline data of a record that is kept: longer ones are read at the device's speed anyway.
const INLINE_LEN_MAX: usize = 64 * 1024;

/// What a record takes beside its bytes, about.
const OVERHEAD: usize = 400;

/// Fingerprints of records read once: 256 KiB. A record's own stays until another one of 65 536 takes its slot.
const SEEN_COUNT: usize = 1 << 16;

/// Where a record lies: a segment, and the offset in it.
pub(crate) type Place = (SegmentId, u64);

/// A version's record, opened and decoded.
#[derive(Debug)]
pub(crate) struct VersionRecord {
    pub(crate) kind: EntryKind,
    pub(crate) bucket: BucketId,
    pub(crate) order: Lsn,
    pub(crate) key: Vec<u8>,
    pub(crate) meta: Rc<VersionMeta>,
    pub(crate) pieces: Rc<Vec<Piece>>,
    /// Empty when the bytes are in pieces.
    pub(crate) inline: Rc<[u8]>,
}

/// The cache of one core. Without a budget it keeps nothing.
pub struct RecordCache {
    inner: RefCell<Option<Inner>>,
}

struct Inner {
    records: Cache<Place, Rc<VersionRecord>, ByMemory>,
    seen: Box<[u32]>,
}

#[derive(Clone)]
struct ByMemory;

impl Weighter<Place, Rc<VersionRecord>> for ByMemory {
    fn weight(&self, _: &Place, record: &Rc<VersionRecord>) -> u64 {
        record.memory_len() as u64
    }
}

impl VersionRecord {
    fn memory_len(&self) -> usize {
        let pairs: usize = self.meta.pairs.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
        let pieces: usize =
            self.pieces.iter().map(|piece| size_of::<Piece>() + size_of_val(&piece.extents[..])).sum();
        OVERHEAD + self.key.len() + pairs + size_of_val(&self.meta.parts[..]) + pieces + self.inline.len()
    }
}

impl RecordCache {
    /// One that keeps nothing.
    pub(crate) fn new() -> Self {
        RecordCache { inner: RefCell::new(None) }
    }

    /// From now on it keeps that many bytes; what it has it forgets.
    pub fn set_budget(&self, budget: usize) {
        *self.inner.borrow_mut() = (budget > 0).then(|| Inner {
            records: Cache::with_weighter(budget / (OVERHEAD + 4096) + 1, budget as u64, ByMemory),
            seen: vec![0; SEEN_COUNT].into(),
        });
    }

    /// Bytes that it holds.
    pub fn len_bytes(&self) -> usize {
        self.inner.borrow().as_ref().map_or(0, |inner| inner.records.weight() as usize)
    }

    pub(crate) fn record(&self, place: Place) -> Option<Rc<VersionRecord>> {
        self.inner.borrow().as_ref()?.records.get(&place).cloned()
    }

    /// Whether a record of that length, which was just read, is to be kept.
    pub(crate) fn admits(&self, place: Place, inline_len: usize) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Some(inner) = inner.as_mut().filter(|_| inline_len <= INLINE_LEN_MAX) else { return false };
        let hash = (place.0.0 ^ place.1.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // 0 is "nothing yet"; a record whose fingerprint it is waits for another one to be admitted in its place, for ever.
        let fingerprint = (hash >> 32) as u32;
        std::mem::replace(&mut inner.seen[(hash >> 8) as usize % SEEN_COUNT], fingerprint) == fingerprint
    }

    pub(crate) fn insert(&self, place: Place, record: Rc<VersionRecord>) {
        if let Some(inner) = self.inner.borrow_mut().as_mut() {
            inner.records.insert(place, record);
        }
    }
}

impl std::fmt::Debug for RecordCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecordCache({} bytes)", self.len_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(inline_len: usize) -> Rc<VersionRecord> {
        Rc::new(VersionRecord {
            kind: EntryKind::Object,
            bucket: BucketId(1),
            order: Lsn(1),
            key: b"key".to_vec(),
            meta: Rc::default(),
            pieces: Rc::default(),
            inline: vec![0; inline_len].into(),
        })
    }

    fn place(n: u64) -> Place {
        (SegmentId(7), n * 64)
    }

    #[test]
    fn what_is_read_again_is_admitted() {
        let cache = RecordCache::new();
        cache.set_budget(1 << 20);
        assert!(!cache.admits(place(1), 4096));
        assert!(cache.admits(place(1), 4096));
        assert!(!cache.admits(place(2), 4096));
    }

    #[test]
    fn it_stays_within_its_budget() {
        let cache = RecordCache::new();
        cache.set_budget(1 << 20);
        (0..1000).for_each(|n| cache.insert(place(n), record(4096)));
        assert!(cache.len_bytes() <= 1 << 20 && cache.len_bytes() > 1 << 19, "{}", cache.len_bytes());
    }

    #[test]
    fn a_long_record_is_not_kept_nor_any_without_a_budget() {
        let cache = RecordCache::new();
        assert!(!cache.admits(place(1), 1) && !cache.admits(place(1), 1));
        cache.insert(place(1), record(1));
        assert!(cache.record(place(1)).is_none());
        cache.set_budget(1 << 20);
        assert!(!cache.admits(place(1), INLINE_LEN_MAX + 1) && !cache.admits(place(1), INLINE_LEN_MAX + 1));
    }
}
