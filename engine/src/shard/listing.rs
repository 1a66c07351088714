//! Listings: pages of a bucket's keys, and of its versions, read in order from the key directory.
//!
//! A page costs what it returns: a common prefix is passed over by seeking to its end, and the older versions of a key likewise. Which common prefixes there are
//! for the delimiter that is usual, the directory tells from memory, but where removals or a range tombstone leave it in doubt.

use super::state::State;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::directory::{
    DIRECTORY_DELIMITER, Entry, EntryKind, Listed, NULL_SLOT, after_versions, parse_version_key,
    parse_version_prefix, version_key, version_prefix,
};
use crate::ids::{BucketId, Lsn, SegmentId, VersionId};
use crate::index::directory::{
    After, Page, PageQuery, VersionAfter, VersionListed, VersionPage, VersionPageQuery, common_prefix,
    successor,
};
use crate::index::lsm::{Cursor, Following};
use crate::limits::PAGE_MAX;

/// Walks the versions of a bucket in the directory's order: by key, of a key the `null` version first, then the others from the newest on.
pub(super) struct VersionWalk<D: Device> {
    cursor: Cursor<D>,
    bucket: BucketId,
    /// Versions of a lower order are gone.
    floor: Lsn,
    /// Read, and not taken yet.
    ahead: Option<(Vec<u8>, Entry)>,
    /// Whether nothing was read since the last seek to another key.
    is_at_seek: bool,
}

impl<D: Device> VersionWalk<D> {
    pub(super) fn new(state: &State<D>, bucket: BucketId) -> Self {
        VersionWalk {
            cursor: state.directory.cursor(),
            bucket,
            floor: state.floor(bucket),
            ahead: None,
            is_at_seek: false,
        }
    }

    /// The same, with the versions that a range tombstone removed.
    pub(super) fn with_dead(state: &State<D>, bucket: BucketId) -> Self {
        VersionWalk { floor: Lsn(0), ..Self::new(state, bucket) }
    }

    /// Goes on with what is at or after that place of the directory.
    pub(super) async fn seek(&mut self, place: &[u8]) -> Result<()> {
        self.ahead = None;
        self.is_at_seek = true;
        self.cursor.seek(place);
        Ok(())
    }

    /// The next version that is there, left in place.
    pub(super) async fn peek(&mut self) -> Result<Option<&(Vec<u8>, Entry)>> {
        self.is_at_seek = false;
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

    /// What follows below a prefix, if nothing was read since the last seek and the outlines of the directory tell: the common prefix of a key whose current
    /// version is an object, or nothing. They know directories alone, and not which versions a range tombstone removed.
    async fn following(&mut self, prefix: &[u8], delimiter: &[u8]) -> Result<Following> {
        if !self.is_at_seek || delimiter != [DIRECTORY_DELIMITER] || self.floor != Lsn(0) {
            return Ok(Following::Unknown);
        }
        let base = version_prefix(self.bucket, prefix);
        Ok(match self.cursor.following(&base).await? {
            Following::Group(group) => {
                parse_version_prefix(&group).map_or(Following::Unknown, Following::Group)
            }
            other => other,
        })
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
            // After a key comes another, most times.
            self.is_at_seek = false;
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
    while let Some(shown) = next_shown(&mut walk, query).await? {
        if page.entries.len() + page.common_prefixes.len() == max {
            page.next_after = Some(last);
            break;
        }
        match shown {
            Shown::CommonPrefix(prefix) => {
                last = After::CommonPrefix(prefix.clone());
                let end = successor(&prefix);
                page.common_prefixes.push(prefix);
                let Some(end) = end else { break };
                walk.seek(&version_prefix(bucket, &end)).await?;
            }
            Shown::Key(key, listed) => {
                last = After::Key(key.clone());
                page.entries.push((key, listed));
            }
        }
    }
    Ok(page)
}

/// What a page of keys shows as one.
enum Shown {
    CommonPrefix(Vec<u8>),
    Key(Vec<u8>, Listed),
}

/// What is shown next of a bucket.
async fn next_shown<D: Device>(walk: &mut VersionWalk<D>, query: &PageQuery) -> Result<Option<Shown>> {
    match walk.following(&query.prefix, &query.delimiter).await? {
        Following::Group(prefix) => return Ok(Some(Shown::CommonPrefix(prefix))),
        Following::Nothing => return Ok(None),
        Following::Unknown => {}
    }
    while let Some((key, entry)) = walk.next_key().await?
        && key.starts_with(&query.prefix)
    {
        if entry.kind == EntryKind::Object {
            let prefix = common_prefix(&key, &query.prefix, &query.delimiter).map(<[u8]>::to_vec);
            return Ok(Some(prefix.map_or_else(|| Shown::Key(key, entry.listed), Shown::CommonPrefix)));
        }
    }
    Ok(None)
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
    while let Some((key, prefix)) = next_of_versions(&mut walk, query).await? {
        if let Some(prefix) = prefix {
            if page.versions.len() + page.common_prefixes.len() == max {
                page.next_after = Some(last);
                return Ok(page);
            }
            last = VersionAfter::CommonPrefix(prefix.clone());
            let end = successor(&prefix);
            page.common_prefixes.push(prefix);
            let Some(end) = end else { return Ok(page) };
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

/// The next key that has versions, left in place, or the common prefix of some.
async fn next_of_versions<D: Device>(
    walk: &mut VersionWalk<D>,
    query: &VersionPageQuery,
) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>> {
    match walk.following(&query.prefix, &query.delimiter).await? {
        // A key with an object has a version.
        Following::Group(prefix) => return Ok(Some((Vec::new(), Some(prefix)))),
        Following::Nothing => return Ok(None),
        Following::Unknown => {}
    }
    let Some((key, _)) = walk.peek().await?.filter(|(key, _)| key.starts_with(&query.prefix)) else {
        return Ok(None);
    };
    let prefix = common_prefix(key, &query.prefix, &query.delimiter).map(<[u8]>::to_vec);
    Ok(Some((key.clone(), prefix)))
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
            walk.seek(&version_key(walk.bucket, key, (!below.0).saturating_add(1))).await?;
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
