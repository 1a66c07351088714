//! The state of a shard: what its log, applied in order, makes of it.
//!
//! [`State::apply`] is the only way it changes, for a commit and for replay alike. Live bytes are counted here: a reference is added before the
//! one that it replaces is taken away.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::{ChosenPart, PartPage, UploadView};
use crate::catalog::Catalog;
use crate::draft::{Effect, RecordPlace};
use crate::error::{Error, Result};
use crate::format::body::{ETag, Extent, PartBody, UploadBody};
use crate::format::catalog::CatalogChange;
use crate::ids::{BucketId, Lsn, SegmentId, UnixMillis, UploadId, UserId};
use crate::index::directory::{Directory, Entry, Listed, Page, PageQuery, successor};
use crate::index::hash::HashIndex;
use crate::limits::{BLOCK_SIZE, PAGE_MAX};
use crate::log::Committed;
use crate::object::Lookup;
use crate::segment::table::{SegmentPin, SegmentTable};

/// Everything that a shard knows.
pub(crate) struct State {
    index: HashIndex,
    buckets: HashMap<BucketId, BucketState>,
    /// Buckets that take no more changes.
    closed: HashSet<BucketId>,
    /// Keys with queued changes: the last of them, and the ETag that it leaves.
    pending: HashMap<(BucketId, Box<[u8]>), PendingKey>,
    /// Queued changes of each bucket.
    pending_counts: HashMap<BucketId, usize>,
    pending_count: usize,
    /// Uploads whose end is queued.
    ending: HashSet<UploadId>,
    pub(super) catalog: Arc<Catalog>,
    /// Names of buckets whose creation is queued.
    pub(super) names_in_making: HashSet<String>,
    last_reserved_bucket: BucketId,
}

/// The last queued change of a key, and the ETag that it leaves.
type PendingKey = (Lsn, Option<ETag>);

#[derive(Default)]
struct BucketState {
    directory: Directory,
    uploads: BTreeMap<(Box<[u8]>, UploadId), Upload>,
    usage: BucketUsage,
}

struct Upload {
    record: RecordPlace,
    body: UploadBody,
    parts: BTreeMap<u16, Part>,
}

struct Part {
    lsn: Lsn,
    record: RecordPlace,
    body: PartBody,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketUsage {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that are neither completed nor aborted.
    pub uploads: u64,
}

/// What page of a listing of uploads is wanted.
#[derive(Clone, Debug, Default)]
pub struct UploadPageQuery {
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// Keys that share what comes before this are shown as one; empty for none.
    pub delimiter: Vec<u8>,
    /// Only keys after this; or this key with upload ids after `after_upload`.
    pub after_key: Vec<u8>,
    /// See `after_key`.
    pub after_upload: Option<UploadId>,
    /// Uploads and common prefixes at most.
    pub max: usize,
}

/// An upload as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// Its key.
    pub key: Vec<u8>,
    /// Its id.
    pub upload_id: UploadId,
    /// When it began.
    pub initiated: UnixMillis,
    /// Who began it.
    pub owner: UserId,
    /// Storage class.
    pub class: u8,
    /// Checksum algorithm and kind.
    pub checksum: (u8, u8),
}

/// A page of a listing of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// Uploads, by key and id.
    pub uploads: Vec<ListedUpload>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<Vec<u8>>,
    /// Where the next page begins, when more follow: a key (or common prefix) and an upload of it.
    pub next: Option<(Vec<u8>, Option<UploadId>)>,
}

/// What became of closing a bucket.
pub(super) enum Closing {
    /// It takes no more changes.
    Closed,
    /// Changes of it are queued: ask again when they are done.
    Unsettled,
}

/// What a queued change means for later decisions.
pub(super) struct Pending {
    bucket: BucketId,
    key: Option<(Box<[u8]>, Option<ETag>)>,
}

/// What that change leaves of its key.
pub(super) fn pending_of(bucket: BucketId, effect: &Effect) -> Pending {
    let key = match effect {
        Effect::Version { key, meta } => Some((key.clone(), Some(meta.meta().etag))),
        Effect::Tombstone { key } => Some((key.clone(), None)),
        _ => None,
    };
    Pending { bucket, key }
}

impl State {
    /// An empty state; the seed is random.
    pub(crate) fn new(seed: u64) -> Self {
        State {
            index: HashIndex::new(seed),
            buckets: HashMap::new(),
            closed: HashSet::new(),
            pending: HashMap::new(),
            pending_counts: HashMap::new(),
            pending_count: 0,
            ending: HashSet::new(),
            catalog: Arc::default(),
            names_in_making: HashSet::new(),
            last_reserved_bucket: BucketId(0),
        }
    }

    // -- changing

    /// Applies a durable record that was queued here.
    pub(super) fn commit(&mut self, table: &SegmentTable, record: &Committed) {
        self.apply(table, record.lsn, record.bucket, &record.effect, &record.place);
        self.pending_count -= 1;
        if let Some(count) = self.pending_counts.get_mut(&record.bucket) {
            *count -= 1;
            if *count == 0 {
                self.pending_counts.remove(&record.bucket);
            }
        }
        if let Some((key, _)) = pending_of(record.bucket, &record.effect).key {
            let at = (record.bucket, key);
            if self.pending.get(&at).is_some_and(|(lsn, _)| *lsn == record.lsn) {
                self.pending.remove(&at);
            }
        }
    }

    /// Applies a record: the whole meaning of the log.
    pub(crate) fn apply(
        &mut self,
        table: &SegmentTable,
        lsn: Lsn,
        bucket: BucketId,
        effect: &Effect,
        place: &RecordPlace,
    ) {
        match effect {
            Effect::Open => {}
            Effect::Version { key, meta } => {
                self.put(table, bucket, key, meta.as_ref().clone().entry(place));
                if meta.meta().upload_id != UploadId::NONE {
                    self.end_upload(table, bucket, key, meta.meta().upload_id);
                }
            }
            Effect::Tombstone { key } => self.remove(table, bucket, key),
            Effect::Upload(body) => self.begin_upload(table, bucket, body, place),
            Effect::Part(body) => self.put_part(table, bucket, lsn, body, place),
            Effect::UploadEnd { key, upload } => self.end_upload(table, bucket, key, *upload),
            Effect::Catalog(change) => {
                if let CatalogChange::PutBucket(bucket) = change.as_ref() {
                    self.names_in_making.remove(&bucket.name);
                }
                Arc::make_mut(&mut self.catalog).apply(change.as_ref().clone());
            }
        }
    }

    fn put(&mut self, table: &SegmentTable, bucket: BucketId, key: &[u8], entry: Entry) {
        add_record(table, entry.segment, entry.record_len);
        add_extents(table, &entry.extents);
        let hash = self.index.hash(bucket, key);
        let (location, size) = (entry.location, entry.listed.size);
        let of = self.buckets.entry(bucket).or_default();
        of.usage.objects += 1;
        of.usage.bytes += size;
        let old = of.directory.insert(key, entry);
        if let Some(old) = old {
            self.release(table, bucket, hash, &old);
        }
        self.index.insert(hash, location);
    }

    fn remove(&mut self, table: &SegmentTable, bucket: BucketId, key: &[u8]) {
        let Some(of) = self.buckets.get_mut(&bucket) else { return };
        if let Some(old) = of.directory.remove(key) {
            let hash = self.index.hash(bucket, key);
            self.release(table, bucket, hash, &old);
        }
    }

    /// What a replaced or removed entry held is dead.
    fn release(&mut self, table: &SegmentTable, bucket: BucketId, hash: u64, old: &Entry) {
        assert!(self.index.remove(hash, old.location), "every directory entry is in the hash index");
        if let Some(of) = self.buckets.get_mut(&bucket) {
            of.usage.objects -= 1;
            of.usage.bytes -= old.listed.size;
        }
        table.sub_live(old.segment, u64::from(old.record_len));
        sub_extents(table, &old.extents);
    }

    fn begin_upload(
        &mut self,
        table: &SegmentTable,
        bucket: BucketId,
        body: &UploadBody,
        place: &RecordPlace,
    ) {
        add_record(table, place.segment, place.len);
        let of = self.buckets.entry(bucket).or_default();
        of.usage.uploads += 1;
        let upload = Upload { record: *place, body: body.clone(), parts: BTreeMap::new() };
        of.uploads.insert((body.key.as_slice().into(), body.upload_id), upload);
    }

    fn put_part(
        &mut self,
        table: &SegmentTable,
        bucket: BucketId,
        lsn: Lsn,
        body: &PartBody,
        place: &RecordPlace,
    ) {
        let Some(upload) = self.upload_mut(bucket, &body.key, body.upload_id) else { return };
        add_record(table, place.segment, place.len);
        add_extents(table, body.pieces.iter().flat_map(|piece| &piece.extents));
        let part = Part { lsn, record: *place, body: body.clone() };
        if let Some(old) = upload.parts.insert(body.summary.number, part) {
            release_part(table, &old);
        }
    }

    fn end_upload(&mut self, table: &SegmentTable, bucket: BucketId, key: &[u8], upload: UploadId) {
        self.ending.remove(&upload);
        let Some(of) = self.buckets.get_mut(&bucket) else { return };
        if let Some(ended) = of.uploads.remove(&(key.into(), upload)) {
            of.usage.uploads -= 1;
            release_upload(table, &ended);
        }
    }

    /// Forgets a bucket, and counts as dead what it held.
    pub(super) fn drop_bucket(&mut self, table: &SegmentTable, bucket: BucketId) {
        self.closed.insert(bucket);
        let Some(dropped) = self.buckets.remove(&bucket) else { return };
        for (key, entry) in dropped.directory.iter() {
            let hash = self.index.hash(bucket, key);
            self.release(table, bucket, hash, entry);
        }
        dropped.uploads.values().for_each(|upload| release_upload(table, upload));
    }

    // -- what is queued

    pub(super) fn queued(&mut self, lsn: Lsn, pending: Pending) {
        self.pending_count += 1;
        *self.pending_counts.entry(pending.bucket).or_default() += 1;
        if let Some((key, etag)) = pending.key {
            self.pending.insert((pending.bucket, key), (lsn, etag));
        }
    }

    /// All that was queued has failed.
    pub(super) fn forget_pending(&mut self) {
        self.ending.clear();
        self.names_in_making.clear();
        self.pending.clear();
        self.pending_counts.clear();
        self.pending_count = 0;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending_count == 0
    }

    /// The ETag that a key has once everything queued is applied, and the queued change that makes it so.
    pub(super) fn current(&self, bucket: BucketId, key: &[u8]) -> (Option<ETag>, Option<Lsn>) {
        if !self.pending.is_empty()
            && let Some((lsn, etag)) = self.pending.get(&(bucket, Box::from(key)))
        {
            return (*etag, Some(*lsn));
        }
        (self.entry(bucket, key).map(|entry| entry.listed.etag), None)
    }

    // -- deciding

    pub(super) fn check_open(&self, bucket: BucketId) -> Result<()> {
        if self.closed.contains(&bucket) { Err(Error::BucketNotFound) } else { Ok(()) }
    }

    pub(super) fn check_upload(&self, bucket: BucketId, key: &[u8], upload: UploadId) -> Result<()> {
        self.check_open(bucket)?;
        if self.ending.contains(&upload) {
            return Err(Error::UploadNotFound);
        }
        self.upload_ref(bucket, key, upload).map(|_| ())
    }

    /// From here on the upload takes no more parts and no other end.
    pub(super) fn begin_ending(&mut self, bucket: BucketId, key: &[u8], upload: UploadId) -> Result<()> {
        self.check_upload(bucket, key, upload)?;
        self.ending.insert(upload);
        Ok(())
    }

    /// Whether an end of that upload is queued.
    pub(super) fn is_ending(&self, upload: UploadId) -> bool {
        self.ending.contains(&upload)
    }

    pub(super) fn cancel_ending(&mut self, upload: UploadId) {
        self.ending.remove(&upload);
    }

    pub(super) fn check_parts(
        &self,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
        chosen: &[ChosenPart],
    ) -> Result<()> {
        self.check_upload(bucket, key, upload)?;
        let upload = self.upload_ref(bucket, key, upload)?;
        let is_current =
            |part: &ChosenPart| upload.parts.get(&part.number).is_some_and(|p| p.lsn == part.lsn);
        if chosen.iter().all(is_current) { Ok(()) } else { Err(Error::Conflict) }
    }

    pub(super) fn close_if_empty(&mut self, bucket: BucketId) -> Result<Closing> {
        self.check_open(bucket)?;
        if self.pending_counts.contains_key(&bucket) {
            return Ok(Closing::Unsettled);
        }
        if self.buckets.get(&bucket).is_some_and(|of| !of.directory.is_empty()) {
            return Err(Error::BucketNotEmpty);
        }
        self.closed.insert(bucket);
        Ok(Closing::Closed)
    }

    pub(super) fn reopen(&mut self, bucket: BucketId) {
        self.closed.remove(&bucket);
    }

    /// An id that no bucket has or is about to have.
    pub(super) fn reserve_bucket_id(&mut self) -> BucketId {
        let next = self.catalog.next_bucket_id().max(BucketId(self.last_reserved_bucket.0 + 1));
        self.last_reserved_bucket = next;
        next
    }

    // -- reading

    pub(super) fn entry(&self, bucket: BucketId, key: &[u8]) -> Option<&Entry> {
        self.buckets.get(&bucket)?.directory.entry(key)
    }

    pub(super) fn lookup(&self, table: &Arc<SegmentTable>, bucket: BucketId, key: &[u8]) -> Result<Lookup> {
        self.check_open(bucket)?;
        let entry = self.entry(bucket, key).ok_or(Error::NotFound)?;
        let hash = self.index.hash(bucket, key);
        let candidates = self
            .index
            .candidates(hash)
            .filter_map(|location| Some((table.id_at(location.segment_index())?, location)))
            .collect();
        let mut pins = pins(table, &entry.extents)?;
        pins.extend(table.pin(entry.segment));
        Ok(Lookup { candidates, pins })
    }

    pub(super) fn page(&self, bucket: BucketId, query: &PageQuery) -> Result<Page<Listed>> {
        self.check_open(bucket)?;
        Ok(self.buckets.get(&bucket).map_or_else(Page::default, |of| of.directory.page(query)))
    }

    pub(super) fn upload(
        &self,
        table: &Arc<SegmentTable>,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
    ) -> Result<UploadView> {
        self.check_upload(bucket, key, upload)?;
        let upload = self.upload_ref(bucket, key, upload)?;
        let extents: Vec<Extent> = upload
            .parts
            .values()
            .flat_map(|part| &part.body.pieces)
            .flat_map(|piece| piece.extents.iter().copied())
            .collect();
        Ok(UploadView {
            upload: upload.body.clone(),
            parts: upload.parts.values().map(|part| (part.lsn, part.body.clone())).collect(),
            pins: pins(table, &extents)?,
        })
    }

    pub(super) fn upload_body(&self, bucket: BucketId, key: &[u8], upload: UploadId) -> Result<UploadBody> {
        self.check_upload(bucket, key, upload)?;
        Ok(self.upload_ref(bucket, key, upload)?.body.clone())
    }

    pub(super) fn part_page(
        &self,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<PartPage> {
        self.check_upload(bucket, key, upload)?;
        let upload = self.upload_ref(bucket, key, upload)?;
        let mut rest = upload.parts.range((Bound::Excluded(after), Bound::Unbounded));
        let parts =
            rest.by_ref().take(max).map(|(_, part)| (part.body.summary, part.body.modified)).collect();
        Ok(PartPage { upload: upload.body.clone(), parts, is_truncated: rest.next().is_some() })
    }

    pub(super) fn upload_page(&self, bucket: BucketId, query: &UploadPageQuery) -> Result<UploadPage> {
        self.check_open(bucket)?;
        Ok(self.buckets.get(&bucket).map_or_else(UploadPage::default, |of| of.upload_page(query)))
    }

    pub(super) fn usage(&self) -> Vec<(BucketId, BucketUsage)> {
        self.buckets.iter().map(|(id, of)| (*id, of.usage)).collect()
    }

    pub(super) fn version_count(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bucket_ids(&self) -> impl Iterator<Item = BucketId> + '_ {
        self.buckets.keys().copied()
    }

    fn upload_ref(&self, bucket: BucketId, key: &[u8], upload: UploadId) -> Result<&Upload> {
        let of = self.buckets.get(&bucket).ok_or(Error::UploadNotFound)?;
        of.uploads.get(&(key.into(), upload)).ok_or(Error::UploadNotFound)
    }

    fn upload_mut(&mut self, bucket: BucketId, key: &[u8], upload: UploadId) -> Option<&mut Upload> {
        self.buckets.get_mut(&bucket)?.uploads.get_mut(&(key.into(), upload))
    }
}

impl BucketState {
    fn upload_page(&self, query: &UploadPageQuery) -> UploadPage {
        let mut page = UploadPage::default();
        let max = query.max.min(PAGE_MAX);
        let mut from = match query.after_upload {
            Some(id) if !query.after_key.is_empty() => {
                Bound::Excluded((Box::from(query.after_key.as_slice()), id))
            }
            _ if query.after_key.is_empty() => Bound::Unbounded,
            // All uploads of that key are passed over.
            _ => Bound::Excluded((Box::from(query.after_key.as_slice()), UploadId([0xff; 16]))),
        };
        let prefix_start: Box<[u8]> = query.prefix.as_slice().into();
        if query.after_key < query.prefix {
            from = Bound::Included((prefix_start, UploadId::NONE));
        } else if ends_with_delimiter(&query.after_key, query) {
            match successor(&query.after_key) {
                Some(end) => from = Bound::Included((end.into(), UploadId::NONE)),
                None => return page,
            }
        }
        let mut last = None;
        while max > 0
            && let Some(((key, id), upload)) = self.uploads.range((from.clone(), Bound::Unbounded)).next()
            && key.starts_with(&query.prefix)
        {
            if page.uploads.len() + page.common_prefixes.len() == max {
                page.next = last;
                return page;
            }
            match common_prefix(key, query) {
                Some(prefix) => {
                    page.common_prefixes.push(prefix.to_vec());
                    last = Some((prefix.to_vec(), None));
                    let Some(end) = successor(prefix) else { return page };
                    from = Bound::Included((end.into(), UploadId::NONE));
                }
                None => {
                    page.uploads.push(listed_upload(&upload.body));
                    last = Some((key.to_vec(), Some(*id)));
                    from = Bound::Excluded((key.clone(), *id));
                }
            }
        }
        page
    }
}

fn common_prefix<'a>(key: &'a [u8], query: &UploadPageQuery) -> Option<&'a [u8]> {
    crate::index::directory::common_prefix(key, &query.prefix, &query.delimiter)
}

/// Whether a marker is itself a common prefix, so that all keys under it were shown.
fn ends_with_delimiter(marker: &[u8], query: &UploadPageQuery) -> bool {
    common_prefix(marker, query).is_some_and(|prefix| prefix == marker)
}

fn listed_upload(body: &UploadBody) -> ListedUpload {
    ListedUpload {
        key: body.key.clone(),
        upload_id: body.upload_id,
        initiated: body.initiated,
        owner: body.owner,
        class: body.class,
        checksum: (body.checksum_algorithm, body.checksum_kind),
    }
}

fn add_record(table: &SegmentTable, segment: SegmentId, len: u32) {
    table.add_live(segment, u64::from(len), 0);
}

fn add_extents<'a>(table: &SegmentTable, extents: impl IntoIterator<Item = &'a Extent>) {
    for extent in extents {
        table.add_live(extent.segment, extent.disk_len(), extent.block + extent.block_count);
    }
}

fn sub_extents<'a>(table: &SegmentTable, extents: impl IntoIterator<Item = &'a Extent>) {
    for extent in extents {
        table.sub_live(extent.segment, extent.disk_len());
    }
}

fn release_part(table: &SegmentTable, part: &Part) {
    table.sub_live(part.record.segment, u64::from(part.record.len));
    sub_extents(table, part.body.pieces.iter().flat_map(|piece| &piece.extents));
}

fn release_upload(table: &SegmentTable, upload: &Upload) {
    table.sub_live(upload.record.segment, u64::from(upload.record.len));
    upload.parts.values().for_each(|part| release_part(table, part));
}

/// A pin for each segment that those extents lie in.
fn pins(table: &Arc<SegmentTable>, extents: &[Extent]) -> Result<Vec<SegmentPin>> {
    let mut segments: Vec<SegmentId> = extents.iter().map(|extent| extent.segment).collect();
    segments.sort_unstable();
    segments.dedup();
    segments
        .into_iter()
        .map(|segment| {
            let gone = Error::Corrupt {
                segment,
                offset: BLOCK_SIZE as u64,
                what: "a live object's segment is gone",
            };
            table.pin(segment).ok_or(gone)
        })
        .collect()
}
