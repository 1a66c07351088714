//! The newest entries of a directory: in memory, in order, until a run holds them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::format::directory::is_object;
use crate::limits::{DIRECTORY_KEY_LEN_MAX, DIRECTORY_VALUE_LEN_MAX};

/// What an entry costs beside its bytes: two fat pointers in a tree whose nodes are two thirds full, and two headers of the allocator.
const ENTRY_OVERHEAD: usize = 80;

/// A value, or that the key is removed.
pub(super) type Change = Option<Box<[u8]>>;

/// An ordered map of keys to changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Memtable {
    map: BTreeMap<Box<[u8]>, Change>,
    len_bytes: usize,
    /// Entries that may hide objects: removals and delete markers.
    hiding_count: u64,
}

impl Memtable {
    /// Puts a change in the place of any before it.
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        assert!(key.len() <= DIRECTORY_KEY_LEN_MAX, "callers make no longer keys");
        assert!(value.is_none_or(|value| value.len() <= DIRECTORY_VALUE_LEN_MAX), "nor longer values");
        let new_len = value.map_or(0, <[u8]>::len);
        let change = value.map(Box::from);
        self.hiding_count += u64::from(hides(&change));
        if let Some(present) = self.map.get_mut(key) {
            self.hiding_count -= u64::from(hides(present));
            self.len_bytes -= present.as_ref().map_or(0, |value| value.len());
            *present = change;
        } else {
            self.len_bytes += key.len() + ENTRY_OVERHEAD;
            self.map.insert(key.into(), change);
        }
        self.len_bytes += new_len;
    }

    /// What it says of a key, if anything.
    pub(super) fn change(&self, key: &[u8]) -> Option<&Change> {
        self.map.get(key)
    }

    /// The first entry from that bound on.
    pub(super) fn first_from(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &Change)> {
        self.map
            .range::<[u8], _>((bound, Bound::Unbounded))
            .next()
            .map(|(key, change)| (key.as_ref(), change))
    }

    /// Entries that may hide objects.
    pub(super) fn hiding_count(&self) -> u64 {
        self.hiding_count
    }

    /// Entries from one key on and below another.
    pub(super) fn range<'a>(
        &'a self,
        from: &'a [u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a Change)> {
        let bounds = (Bound::Included(from), Bound::Excluded(end));
        self.map.range::<[u8], _>(bounds).map(|(key, change)| (key.as_ref(), change))
    }

    /// All entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.map.iter().map(|(key, change)| (key.as_ref(), change.as_deref()))
    }

    /// Memory that it takes, about.
    pub(super) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The same with the changes of a newer one over its own.
    pub(super) fn overlaid(mut self, newer: Memtable) -> Self {
        newer.iter().for_each(|(key, value)| self.put(key, value));
        self
    }
}

/// Whether it may hide an object: a removal or a delete marker.
pub(super) fn hides(change: &Change) -> bool {
    !change.as_deref().is_some_and(is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_length_follows_its_entries() {
        let mut table = Memtable::default();
        table.put(b"abc", Some(b"12345"));
        assert_eq!(table.len_bytes(), 8 + ENTRY_OVERHEAD);
        table.put(b"abc", Some(b"1"));
        assert_eq!(table.len_bytes(), 4 + ENTRY_OVERHEAD);
        table.put(b"abc", None);
        assert_eq!(table.len_bytes(), 3 + ENTRY_OVERHEAD);
    }

    #[test]
    fn a_newer_one_goes_over_and_not_under() {
        let (mut newer, mut older) = (Memtable::default(), Memtable::default());
        older.put(b"a", Some(b"old"));
        older.put(b"b", Some(b"old"));
        newer.put(b"a", None);
        let both = older.overlaid(newer);
        assert_eq!(both.change(b"a"), Some(&None));
        assert_eq!(both.change(b"b"), Some(&Some(b"old".as_slice().into())));
    }
}
