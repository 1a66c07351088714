//! The due-time index: which versions and uploads become due for something by a time, without a walk through the keys.
//!
//! A consumer of the log (lifecycle) computes from events when something is due and says so here; the engine knows no clock and no rules.
//! The index lies in the directory ([`crate::format::due`]), so that it takes no memory of its own, and is in checkpoints with it.
//!
//! - [`Shard::change_due`] writes changes and the consumer's cursor as one record: after a crash both are there or neither.
//! - What is in the index is what its consumer said last. A version that is gone is in it until the consumer has seen that; whoever acts on an entry looks at
//!   the version first.
//! - When the rules change, or the consumer fell behind: [`Shard::restart_consumer`], [`Shard::clear_due`] until nothing is left (of the buckets concerned),
//!   [`Shard::existing`] through [`Shard::change_due`], and then events as before. An item has one time: setting another takes the first one out.

use std::collections::BTreeMap;

use super::{Shard, State};
use crate::device::Device;
use crate::draft::Effect;
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::directory::{Entry, EntryKind, Listed, parse_version_key, version_prefix};
use crate::format::due::{
    DueBody, DueChange, DueItem, decode_due_time, due_key, due_prefix, item_key, item_prefix, parse_due_key,
    parse_item_key,
};
use crate::format::upkeep::Phase;
use crate::ids::{BucketId, Lsn, SegmentId, UnixMillis, UploadId};
use crate::limits::{DUE_CHANGES_MAX, KEY_LEN_MAX, PAGE_MAX};

/// When an item is to be due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTime {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Vec<u8>,
    /// The version or upload.
    pub item: DueItem,
    /// The time; `None` for never.
    pub due: Option<UnixMillis>,
}

/// An item that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Since when.
    pub due: UnixMillis,
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Vec<u8>,
    /// The version or upload.
    pub item: DueItem,
}

/// A version or upload that is there: what a consumer starts over from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Vec<u8>,
    /// The LSN that it was first committed with: of a key's versions the highest is current.
    pub order: Lsn,
    /// What it is.
    pub what: Standing,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A version or delete marker.
    Version {
        /// Which.
        version: crate::ids::VersionId,
        /// Object or delete marker.
        kind: EntryKind,
        /// What a listing shows of it.
        listed: Listed,
    },
    /// An upload that is neither completed nor aborted.
    Upload {
        /// Which.
        upload: UploadId,
        /// When it began.
        initiated: UnixMillis,
    },
}

/// Where a walk through what is there goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExistingPlace(Walked);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Walked {
    #[default]
    Nothing,
    /// Versions up to that key of the directory.
    Versions(Vec<u8>),
    /// All versions, and uploads up to that one.
    Uploads(Option<(BucketId, Vec<u8>, UploadId)>),
}

type Item = (BucketId, Vec<u8>, DueItem);

impl<D: Device> Shard<D> {
    /// Sets and clears times, and moves the consumer's cursor to `seen` with them if that is given: all of it, or after a crash the first of it without the cursor.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Behind`] of the consumer; [`Error::Full`] when times are set and there is no room for new data.
    pub async fn change_due(&self, consumer: &str, times: Vec<DueTime>, seen: Option<Lsn>) -> Result<()> {
        // Of several times of one item the last counts.
        let wanted: BTreeMap<Vec<u8>, (Item, Option<UnixMillis>)> = times
            .into_iter()
            .map(|of| (item_key(of.bucket, &of.key, of.item), ((of.bucket, of.key, of.item), of.due)))
            .collect();
        if wanted.values().any(|((_, key, _), _)| key.len() > KEY_LEN_MAX) {
            return Err(Error::TooLarge { what: "the key" });
        }
        let wanted: Vec<(Item, Option<UnixMillis>)> = wanted.into_values().collect();
        let mut chunks = wanted.chunks(DUE_CHANGES_MAX).peekable();
        if chunks.peek().is_none() {
            return self.change_some_due(consumer, &[], seen).await;
        }
        while let Some(chunk) = chunks.next() {
            let seen = seen.filter(|_| chunks.peek().is_none());
            self.change_some_due(consumer, chunk, seen).await?;
        }
        Ok(())
    }

    /// One record of changes. From the look at what an item's time is to the moment when the new one is applied nobody else changes any.
    async fn change_some_due(
        &self,
        consumer: &str,
        wanted: &[(Item, Option<UnixMillis>)],
        seen: Option<Lsn>,
    ) -> Result<()> {
        let lock = self.locks.lock(BucketId(0), DUE_LOCK).await;
        let mut changes = Vec::new();
        for ((bucket, key, item), after) in wanted {
            let before = self.due_time(*bucket, key, *item).await?;
            if before != *after {
                changes.push(DueChange {
                    bucket: *bucket,
                    key: key.clone(),
                    item: *item,
                    before,
                    after: *after,
                });
            }
        }
        let position = self.consumer(consumer)?;
        let end = self.state.borrow().next_lsn();
        let seen = seen.map(|seen| seen.min(end).max(position.next));
        let seen = seen.filter(|seen| *seen != position.next || position.phase != Phase::Following);
        if changes.is_empty() && seen.is_none() {
            return Ok(());
        }
        let is_data = changes.iter().any(|change| change.after.is_some());
        let body = DueBody { consumer: consumer.to_owned(), seen, changes };
        let draft = self.core.draft_upkeep(BucketId(0), Effect::Due(Box::new(body)))?;
        if is_data {
            self.log.admit_data(&self.core, draft.record.record_len())?;
        }
        self.commit(draft, None, vec![lock])?.wait().await?;
        self.consumer(consumer).map(|_| ())
    }

    /// When an item is due; `None` when it never is.
    pub async fn due_time(&self, bucket: BucketId, key: &[u8], item: DueItem) -> Result<Option<UnixMillis>> {
        let directory = self.state.borrow().directory.clone();
        match directory.get(&item_key(bucket, key, item)).await? {
            Some(value) => decode_due_time(&value).map(Some).map_err(corrupt),
            None => Ok(None),
        }
    }

    /// What is due at that time or was before, the earliest first, at most `max` and [`PAGE_MAX`] of it, only what comes after `after`.
    pub async fn due(&self, until: UnixMillis, max: usize, after: Option<&Due>) -> Result<Vec<Due>> {
        let mut cursor = self.state.borrow().directory.cursor();
        match after {
            Some(Due { due, bucket, key, item }) => {
                cursor.seek(&following(due_key(*due, *bucket, key, *item)))
            }
            None => cursor.seek(&due_prefix(UnixMillis(0))),
        }
        let mut page = Vec::new();
        while page.len() < max.min(PAGE_MAX)
            && let Some((place, _)) = cursor.next().await?
            && let Some((due, (bucket, key, item))) = parse_due_key(place)
            && due <= until
        {
            page.push(Due { due, bucket, key, item });
        }
        Ok(page)
    }

    /// Takes some times out, of that bucket or of all; whether there may be more.
    pub async fn clear_due(&self, consumer: &str, bucket: Option<BucketId>) -> Result<bool> {
        let mut cursor = self.state.borrow().directory.cursor();
        cursor.seek(&item_prefix(bucket.unwrap_or(BucketId(0))));
        let mut times = Vec::new();
        while times.len() < DUE_CHANGES_MAX
            && let Some((place, _)) = cursor.next().await?
            && let Some((of, key, item)) = parse_item_key(place)
            && bucket.is_none_or(|bucket| bucket == of)
        {
            times.push(DueTime { bucket: of, key, item, due: None });
        }
        let is_more = times.len() == DUE_CHANGES_MAX;
        self.change_due(consumer, times, None).await?;
        Ok(is_more)
    }

    /// What is there: versions by bucket and key, of a key the `null` version first and then the others from the newest on, and after all versions the uploads. At
    /// most `max` and [`PAGE_MAX`] of it, and where to go on if there may be more. What comes or goes during the walk may be in it or not: it is in the log.
    pub async fn existing(
        &self,
        place: ExistingPlace,
        max: usize,
    ) -> Result<(Vec<Existing>, Option<ExistingPlace>)> {
        let max = max.clamp(1, PAGE_MAX);
        let uploads_after = match place.0 {
            Walked::Uploads(after) => after,
            Walked::Nothing => return self.existing_versions(None, max).await,
            Walked::Versions(after) => return self.existing_versions(Some(after), max).await,
        };
        let state = self.state.borrow();
        let page = existing_uploads(&state, uploads_after, max);
        let last = page.last().filter(|_| page.len() == max).and_then(|last| match last.what {
            Standing::Upload { upload, .. } => Some((last.bucket, last.key.clone(), upload)),
            Standing::Version { .. } => None,
        });
        Ok((page, last.map(|last| ExistingPlace(Walked::Uploads(Some(last))))))
    }

    async fn existing_versions(
        &self,
        after: Option<Vec<u8>>,
        max: usize,
    ) -> Result<(Vec<Existing>, Option<ExistingPlace>)> {
        let mut cursor = self.state.borrow().directory.cursor();
        cursor.seek(&after.map_or_else(|| version_prefix(BucketId(0), b""), following));
        let mut page = Vec::new();
        while let Some((place, value)) = cursor.next().await? {
            let Some((bucket, key, _)) = parse_version_key(place) else { break };
            let entry = Entry::decode(value).map_err(corrupt)?;
            // A range tombstone removed it.
            if entry.order < self.state.borrow().floor(bucket) {
                continue;
            }
            let what = Standing::Version { version: entry.version(), kind: entry.kind, listed: entry.listed };
            page.push(Existing { bucket, key, order: entry.order, what });
            if page.len() == max {
                return Ok((page, Some(ExistingPlace(Walked::Versions(place.to_vec())))));
            }
        }
        Ok((page, Some(ExistingPlace(Walked::Uploads(None)))))
    }
}

fn existing_uploads<D: Device>(
    state: &State<D>,
    after: Option<(BucketId, Vec<u8>, UploadId)>,
    max: usize,
) -> Vec<Existing> {
    let existing = |(bucket, upload): (BucketId, &super::uploads::Upload)| Existing {
        bucket,
        key: upload.body.key.clone(),
        order: upload.order,
        what: Standing::Upload { upload: upload.body.upload_id, initiated: upload.body.initiated },
    };
    state.uploads_after(after).take(max).map(existing).collect()
}

/// The name under which changes of the index come one at a time.
const DUE_LOCK: &[u8] = b"due times";

/// The place after a key.
fn following(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn corrupt(malformed: Malformed) -> Error {
    Error::Corrupt { segment: SegmentId(0), offset: 0, what: malformed.0 }
}
