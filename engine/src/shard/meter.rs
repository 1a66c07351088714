//! Metering as a consumer of the log: what each bucket and namespace holds, and how often it was changed, summed from events.
//!
//! A meter begins with what the buckets hold at an LSN and counts each event once, whatever it is shown twice: it knows how far it is. Whoever keeps a meter
//! elsewhere keeps that LSN with it, and sums exactly.

use std::collections::BTreeMap;

use super::consumer::{Event, Happened};
use super::state::BucketUsage;
use crate::catalog::Catalog;
use crate::ids::{BucketId, Lsn, NamespaceId};

/// What one bucket holds, and how often it was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// Keys whose current version is an object.
    pub objects: i64,
    /// Versions, delete markers included.
    pub versions: i64,
    /// Versions with an id of their own.
    pub numbered: i64,
    /// Bytes of all versions.
    pub bytes: i64,
    /// Changes: each object, delete marker, removal, upload, part and abort, since the meter began.
    pub changes: u64,
}

/// The sums of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    next: Lsn,
    buckets: BTreeMap<BucketId, (Option<NamespaceId>, Metered)>,
}

impl Meter {
    /// What a shard held at that LSN ([`super::Shard::usage_snapshot`]). The catalog tells whose buckets they are.
    pub fn new(next: Lsn, usage: &[(BucketId, BucketUsage)], catalog: &Catalog) -> Self {
        let namespaces: BTreeMap<BucketId, NamespaceId> =
            catalog.buckets.values().map(|bucket| (bucket.id, bucket.namespace)).collect();
        let metered = |(bucket, of): &(BucketId, BucketUsage)| {
            let metered = Metered {
                objects: of.objects as i64,
                versions: of.versions as i64,
                numbered: of.numbered as i64,
                bytes: of.bytes as i64,
                changes: 0,
            };
            (*bucket, (namespaces.get(bucket).copied(), metered))
        };
        Meter { next, buckets: usage.iter().map(metered).collect() }
    }

    /// Counts an event, if it has not counted it before. Events come in order, and none is left out.
    pub fn count(&mut self, event: &Event) {
        if event.lsn < self.next {
            return;
        }
        self.next = Lsn(event.lsn.0 + 1);
        let (namespace, of) = self.buckets.entry(event.bucket).or_default();
        *namespace = namespace.or(event.namespace);
        if matches!(event.what, Happened::Emptied { .. }) {
            *of = Metered { changes: of.changes, ..Metered::default() };
        }
        of.objects += i64::from(event.usage.objects);
        of.versions += i64::from(event.usage.versions);
        of.numbered += i64::from(event.usage.numbered);
        of.bytes += event.usage.bytes;
        of.changes += 1;
    }

    /// The first LSN that it has not counted: what is kept with the sums.
    pub fn next(&self) -> Lsn {
        self.next
    }

    /// A bucket.
    pub fn bucket(&self, bucket: BucketId) -> Metered {
        self.buckets.get(&bucket).map_or_else(Metered::default, |(_, of)| *of)
    }

    /// All buckets of a namespace together.
    pub fn namespace(&self, namespace: NamespaceId) -> Metered {
        let of_it = self.buckets.values().filter(|(of, _)| *of == Some(namespace));
        of_it.fold(Metered::default(), |sum, (_, of)| Metered {
            objects: sum.objects + of.objects,
            versions: sum.versions + of.versions,
            numbered: sum.numbered + of.numbered,
            bytes: sum.bytes + of.bytes,
            changes: sum.changes + of.changes,
        })
    }
}
