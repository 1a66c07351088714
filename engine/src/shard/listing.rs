//! Listings: pages of a bucket's keys, and of its versions, read in order from the key directory.
//!
//! A page costs what it returns: a common prefix is passed over by seeking to its end, and the older versions of a key likewise.

use super::state::State;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::directory::{
    Entry, EntryKind, Listed, NULL_SLOT, after_versions, parse_version_key, version_key, version_prefix,
};
use crate::ids::{BucketId, Lsn, SegmentId, VersionId};
use crate::index::directory::{
    After, Page, PageQuery, VersionAfter, VersionListed, VersionPage, VersionPageQuery, common_prefix,
    successor,
};
use crate::index::lsm::Cursor;
use crate::limits::PAGE_MAX;

/// Walks the versions of a bucket in the directory's order: by key, of a key the `null` version first, then the others from the newest on.
pub(super) struct VersionWalk<D: Device> {
    cursor: Cursor<D>,
    bucket: BucketId,
    /// Versions of a lower order are gone.
    floor: Lsn,
    /// Read, and not taken yet.
    ahead: Option<(Vec<u8>, Entry)>,
}

impl<D: Device> VersionWalk<D> {
    pub(super) fn new(state: &State<D>, bucket: BucketId) -> Self {
        VersionWalk { cursor: state.directory.cursor(), bucket, floor: state.floor(bucket), ahead: None }
    }

    /// The same, with the versions that a range tombstone removed.
    pub(super) fn with_dead(state: &State<D>, bucket: BucketId) -> Self {
        VersionWalk { floor: Lsn(0), ..Self::new(state, bucket) }
    }

    /// Goes on with what is at or after that place of the directory.
    pub(super) async fn seek(&mut self, place: &[u8]) -> Result<()> {
        self.ahead = None;
        self.cursor.seek(place);
        Ok(())
    }

    /// The next version that is there, left in place.
    pub(super) async fn peek(&mut self) -> Result<Option<&(Vec<u8>, Entry)>> {
        while self.ahead.is_none() {
            let Some((place, value)) = self.cursor.next().await? else { return Ok(None) };
            let Some((bucket, key, _)) = parse_version_key(place) else { return Ok(None) };
            if bucket != self.bucket {
                return Ok(None);
            }
            let entry = Entry::decode(value).map_err(|malformed| Error::Corrupt {
                segment: SegmentId(0),
                offset: 0,
                what: malformed.0,
            })?;
            if entry.order >= self.floor {
                self.ahead = Some((key, entry));
            }
        }
        Ok(self.ahead.as_ref())
    }

    pub(super) async fn next(&mut self) -> Result<Option<(Vec<u8>, Entry)>> {
        self.peek().await?;
        Ok(self.ahead.take())
    }

    /// The next key and its current version, which may be a delete marker.
    async fn next_key(&mut self) -> Result<Option<(Vec<u8>, Entry)>> {
        let Some((key, mut current)) = self.next().await? else { return Ok(None) };
        if current.version() == VersionId::Null
            && self.peek().await?.is_some_and(|(next, _)| *next == key)
            && let Some((_, numbered)) = self.next().await?
            && numbered.order > current.order
        {
            current = numbered;
        }
        if self.peek().await?.is_some_and(|(next, _)| *next == key) {
            let end = after_versions(self.bucket, &key);
            self.seek(&end).await?;
        }
        Ok(Some((key, current)))
    }
}

/// A page of keys.
pub(super) async fn page<D: Device>(mut walk: VersionWalk<D>, query: &PageQuery) -> Result<Page<Listed>> {
    let mut page = Page::default();
    let max = query.max.min(PAGE_MAX);
    let bucket = walk.bucket;
    let from = match &query.after {
        After::Key(key) if *key >= query.prefix => after_versions(bucket, key),
        After::CommonPrefix(prefix) if *prefix >= query.prefix => match successor(prefix) {
            Some(end) => version_prefix(bucket, &end),
            None => return Ok(page),
        },
        _ => version_prefix(bucket, &query.prefix),
    };
    if max == 0 {
        return Ok(page);
    }
    walk.seek(&from).await?;
    let mut last = After::Nothing;
    while let Some((key, entry)) = walk.next_key().await? {
        if !key.starts_with(&query.prefix) {
            return Ok(page);
        }
        if entry.kind == EntryKind::Marker {
            continue;
        }
        if page.entries.len() + page.common_prefixes.len() == max {
            page.next_after = Some(last);
            return Ok(page);
        }
        match common_prefix(&key, &query.prefix, &query.delimiter) {
            Some(prefix) => {
                page.common_prefixes.push(prefix.to_vec());
                last = After::CommonPrefix(prefix.to_vec());
                let Some(end) = successor(prefix) else { return Ok(page) };
                walk.seek(&version_prefix(bucket, &end)).await?;
            }
            None => {
                last = After::Key(key.clone());
                page.entries.push((key, entry.listed));
            }
        }
    }
    Ok(page)
}

/// A page of versions, of each key from the newest on.
pub(super) async fn version_page<D: Device>(
    mut walk: VersionWalk<D>,
    query: &VersionPageQuery,
) -> Result<VersionPage> {
    let mut page = VersionPage::default();
    let max = query.max.min(PAGE_MAX);
    let bucket = walk.bucket;
    let from = match &query.after {
        VersionAfter::Version(key, _) if *key >= query.prefix => version_prefix(bucket, key),
        VersionAfter::Key(key) if *key >= query.prefix => after_versions(bucket, key),
        VersionAfter::CommonPrefix(prefix) if *prefix >= query.prefix => match successor(prefix) {
            Some(end) => version_prefix(bucket, &end),
            None => return Ok(page),
        },
        _ => version_prefix(bucket, &query.prefix),
    };
    if max == 0 {
        return Ok(page);
    }
    walk.seek(&from).await?;
    let mut last = VersionAfter::Nothing;
    while let Some((key, _)) = walk.peek().await?.cloned() {
        if !key.starts_with(&query.prefix) {
            return Ok(page);
        }
        if let Some(prefix) = common_prefix(&key, &query.prefix, &query.delimiter) {
            if page.versions.len() + page.common_prefixes.len() == max {
                page.next_after = Some(last);
                return Ok(page);
            }
            page.common_prefixes.push(prefix.to_vec());
            last = VersionAfter::CommonPrefix(prefix.to_vec());
            let Some(end) = successor(prefix) else { return Ok(page) };
            walk.seek(&version_prefix(bucket, &end)).await?;
            continue;
        }
        let below = match &query.after {
            VersionAfter::Version(of, order) if *of == key => Some(*order),
            _ => None,
        };
        let mut versions = KeyVersions::begin(&mut walk, &key, below).await?;
        while let Some(entry) = versions.next(&mut walk).await? {
            if page.versions.len() + page.common_prefixes.len() == max {
                page.next_after = Some(last);
                return Ok(page);
            }
            last = VersionAfter::Version(key.clone(), entry.order);
            page.versions.push(VersionListed {
                key: key.clone(),
                version: entry.version(),
                kind: entry.kind,
                is_latest: versions.given == 1 && below.is_none(),
                listed: entry.listed,
            });
        }
    }
    Ok(page)
}

/// The versions of one key from the newest on: the `null` version comes where its order belongs.
struct KeyVersions {
    key: Vec<u8>,
    null: Option<Entry>,
    given: usize,
}

impl KeyVersions {
    /// The versions of the key that the walk is at, only those of a lower order than `below`.
    async fn begin<D: Device>(walk: &mut VersionWalk<D>, key: &[u8], below: Option<Lsn>) -> Result<Self> {
        let mut null = None;
        if walk.peek().await?.is_some_and(|(next, entry)| next == key && entry.slot() == NULL_SLOT) {
            null = walk.next().await?.map(|(_, entry)| entry);
        }
        if let Some(below) = below {
            null = null.filter(|entry| entry.order < below);
            // The slot of an order is its complement: the next one is that of the next lower order.
            walk.seek(&version_key(walk.bucket, key, !below.0 + 1)).await?;
        }
        Ok(KeyVersions { key: key.to_vec(), null, given: 0 })
    }

    async fn next<D: Device>(&mut self, walk: &mut VersionWalk<D>) -> Result<Option<Entry>> {
        let numbered = match walk.peek().await? {
            Some((key, entry)) if *key == self.key => Some(entry.order),
            _ => None,
        };
        self.given += 1;
        match (&self.null, numbered) {
            (Some(null), numbered) if numbered.is_none_or(|order| order < null.order) => Ok(self.null.take()),
            (_, Some(_)) => Ok(walk.next().await?.map(|(_, entry)| entry)),
            _ => Ok(None),
        }
    }
}
