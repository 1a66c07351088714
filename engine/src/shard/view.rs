//! What is known of a key when a change of it is decided, and what the change settles.
//!
//! The index finds the current version of a key by the hash of bucket and key, every other one by the hash of bucket, key and slot. So a change that makes
//! another version the current one moves an entry from one hash to the other.

use crate::format::body::{ETag, Extent, Numbering};
use crate::format::directory::{Entry, EntryExtents, EntryKind};
use crate::format::settlement::{Rehashed, Released, Settlement, UsageChange};
use crate::ids::VersionId;

/// A version that a range tombstone or nothing has removed, with what finds it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) entry: Entry,
    /// What the index finds it by.
    pub(crate) hash: u64,
}

/// The versions of a key that a decision needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyView {
    /// Versions that are there, the newest first: at least the two newest and the one that was asked for.
    pub(crate) versions: Vec<Known>,
    /// The `null` version, if a range tombstone removed it and it is not reaped.
    pub(crate) dead_null: Option<Known>,
}

/// What a new version is, as far as its settlement goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry {
    pub(crate) kind: EntryKind,
    pub(crate) numbering: Numbering,
    pub(crate) size: u64,
}

impl KeyView {
    /// The current version, delete markers included.
    pub(crate) fn current(&self) -> Option<&Known> {
        self.versions.first()
    }

    /// The ETag of the current version; `None` when there is no object.
    pub(crate) fn etag(&self) -> Option<ETag> {
        self.current().filter(|known| known.is_object()).map(|known| known.entry.listed.etag)
    }

    /// That version.
    pub(crate) fn version(&self, version: VersionId) -> Option<&Known> {
        self.versions.iter().find(|known| known.entry.version() == version)
    }

    /// What a new current version settles. `current_hash` finds current versions of the key, `slot_hash` others by their slot.
    pub(crate) fn settle_put(
        &self,
        new: NewEntry,
        current_hash: u64,
        slot_hash: impl Fn(u64) -> u64,
    ) -> Settlement {
        let replaced = match new.numbering {
            Numbering::Null => self.version(VersionId::Null),
            Numbering::Numbered => None,
        };
        let mut usage = UsageChange {
            objects: i32::from(new.kind == EntryKind::Object) - self.object_count(),
            versions: 1,
            numbered: i32::from(new.numbering == Numbering::Numbered),
            bytes: new.size as i64,
        };
        let mut released = Vec::new();
        if let Some(known) = replaced {
            usage.versions -= 1;
            usage.bytes -= known.entry.listed.size as i64;
            released.push(known.release());
        }
        if new.numbering == Numbering::Null {
            released.extend(self.dead_null.as_ref().map(Known::release));
        }
        let demoted =
            self.current().filter(|known| known.entry.version() != VersionId::Null || replaced.is_none());
        let rehashed = demoted.map(|known| known.rehash(slot_hash(known.entry.slot()))).into_iter().collect();
        Settlement { own_hash: current_hash, usage, released, rehashed }
    }

    /// What the removal of a version settles; `None` when it is not there.
    pub(crate) fn settle_removal(&self, version: VersionId, current_hash: u64) -> Option<Settlement> {
        let known = self.version(version)?;
        let is_current = self.current().is_some_and(|current| current.entry.version() == version);
        let promoted = if is_current { self.versions.get(1) } else { None };
        let objects_after = match is_current {
            true => promoted.map_or(0, |next| i32::from(next.is_object())),
            false => self.object_count(),
        };
        let usage = UsageChange {
            objects: objects_after - self.object_count(),
            versions: -1,
            numbered: -i32::from(known.entry.numbering == Numbering::Numbered),
            bytes: -(known.entry.listed.size as i64),
        };
        Some(Settlement {
            own_hash: 0,
            usage,
            released: vec![known.release()],
            rehashed: promoted.map(|next| next.rehash(current_hash)).into_iter().collect(),
        })
    }

    fn object_count(&self) -> i32 {
        i32::from(self.current().is_some_and(Known::is_object))
    }
}

impl Known {
    pub(crate) fn is_object(&self) -> bool {
        self.entry.kind == EntryKind::Object
    }

    /// Its extents, which were looked up if the directory does not hold them.
    pub(crate) fn extents(&self) -> &[Extent] {
        match &self.entry.extents {
            EntryExtents::Here(extents) => extents,
            EntryExtents::InRecord => unreachable!("what may be released was looked up with its extents"),
        }
    }

    /// It dies.
    pub(crate) fn release(&self) -> Released {
        Released {
            hash: self.hash,
            slot: self.entry.slot(),
            place: self.entry.place,
            extents: self.extents().to_vec(),
        }
    }

    fn rehash(&self, to: u64) -> Rehashed {
        Rehashed { from: self.hash, to, place: self.entry.place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::directory::Listed;
    use crate::format::settlement::RecordPlace;
    use crate::ids::Lsn;

    const CURRENT: u64 = 1000;

    fn known(numbering: Numbering, order: u64, kind: EntryKind, hash: u64) -> Known {
        let listed = Listed { size: order, ..Listed::default() };
        let place = RecordPlace { offset: order as u32 * 64, ..RecordPlace::default() };
        let extents = EntryExtents::Here(Box::default());
        Known { entry: Entry { listed, kind, numbering, order: Lsn(order), place, extents }, hash }
    }

    fn put(view: &KeyView, numbering: Numbering, kind: EntryKind) -> Settlement {
        view.settle_put(NewEntry { kind, numbering, size: 7 }, CURRENT, |slot| slot)
    }

    #[test]
    fn an_overwrite_of_the_null_version_releases_it_and_counts_one_object() {
        let view = KeyView {
            versions: vec![known(Numbering::Null, 5, EntryKind::Object, CURRENT)],
            dead_null: None,
        };
        let settlement = put(&view, Numbering::Null, EntryKind::Object);
        assert_eq!(settlement.usage, UsageChange { bytes: 2, ..UsageChange::default() });
        assert_eq!((settlement.released.len(), settlement.rehashed.len()), (1, 0));
    }

    #[test]
    fn a_numbered_version_moves_the_one_before_it_to_its_slot() {
        let view = KeyView {
            versions: vec![known(Numbering::Null, 5, EntryKind::Object, CURRENT)],
            dead_null: None,
        };
        let settlement = put(&view, Numbering::Numbered, EntryKind::Marker);
        assert_eq!(settlement.usage, UsageChange { objects: -1, versions: 1, numbered: 1, bytes: 7 });
        assert!(settlement.released.is_empty());
        assert_eq!((settlement.rehashed[0].from, settlement.rehashed[0].to), (CURRENT, 0));
    }

    #[test]
    fn removing_the_current_version_brings_the_one_before_back() {
        let versions = vec![
            known(Numbering::Numbered, 9, EntryKind::Marker, CURRENT),
            known(Numbering::Null, 5, EntryKind::Object, 0),
        ];
        let view = KeyView { versions, dead_null: None };
        let settlement = view.settle_removal(VersionId::Number(Lsn(9)), CURRENT).expect("it is there");
        assert_eq!(settlement.usage, UsageChange { objects: 1, versions: -1, numbered: -1, bytes: -9 });
        assert_eq!((settlement.rehashed[0].from, settlement.rehashed[0].to), (0, CURRENT));
        let other = view.settle_removal(VersionId::Null, CURRENT).expect("it is there");
        assert_eq!((other.usage.objects, other.rehashed.len()), (0, 0));
        assert_eq!(view.settle_removal(VersionId::Number(Lsn(1)), CURRENT), None);
    }
}
