//! The state of a shard: what its log, applied in order, makes of it.
//!
//! [`State::apply`] is the only way it changes, for a commit and for replay alike: records carry in their settlement what they take away, so that applying
//! one needs neither the past nor a device. A reference is counted before the one that it replaces is taken away.
//!
//! What was read from a log need not fit what came before it: a settlement is under a checksum and no seal. Then applying fails, half-way, and the state is
//! good for nothing any more. What was decided here fits.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::ledger::Ledger;
use super::uploads::{Part, Upload, UploadPage, UploadPageQuery, Uploads};
use super::{ChosenPart, PartPage, UploadView};
use crate::catalog::Catalog;
use crate::device::Device;
use crate::draft::{Effect, EntryMeta};
use crate::error::{self, Error};
use crate::format::Malformed;
use crate::format::body::{Extent, PartBody, UploadBody};
use crate::format::catalog::CatalogChange;
use crate::format::checkpoint::{BucketImage, Image, UploadImage};
use crate::format::directory::{EntryKind, extent_key, version_key};
use crate::format::due::{DueBody, DueChange, due_key, encode_due_time, item_key};
use crate::format::settlement::{RecordPlace, Released, Settlement, UsageChange};
use crate::format::upkeep::{CursorBody, Phase, Position, ReapBody, Scope};
use crate::ids::{BucketId, Lsn, SegmentId, UploadId};
use crate::index::hash::{HashIndex, Location};
use crate::index::lsm::{IndexChanges, Lsm};
use crate::limits::BLOCK_SIZE;
use crate::object::{Lookup, Pins};
use crate::segment::table::{SegmentPin, SegmentTable};
use crate::sim::bugs::{self, Bug};

const UNSETTLED: Malformed = Malformed("a record without the settlement that its kind has");

/// Everything that a shard knows.
pub(crate) struct State<D: Device> {
    pub(super) index: HashIndex,
    /// How the index changed since the directory's memtable was last frozen.
    index_changes: IndexChanges,
    pub(super) directory: Rc<Lsm<D>>,
    pub(super) ledger: Ledger,
    buckets: BTreeMap<BucketId, BucketState>,
    /// Buckets that take no more changes.
    closed: HashSet<BucketId>,
    /// Uploads whose end is queued.
    ending: HashSet<UploadId>,
    pub(super) catalog: Arc<Catalog>,
    /// Names of buckets whose creation is queued.
    pub(super) names_in_making: HashSet<String>,
    last_reserved_bucket: BucketId,
    /// Log consumers, and where each is.
    pub(super) cursors: BTreeMap<String, Position>,
    /// The LSN of the next record to apply.
    next_lsn: Lsn,
    /// The session of the last record applied; 0 before the first.
    session: u64,
}

#[derive(Default)]
struct BucketState {
    usage: BucketUsage,
    /// Versions of a lower order are gone; those that are not reaped still lie in directory and index.
    floor: Lsn,
    uploads: Uploads,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketUsage {
    /// Keys whose current version is an object.
    pub objects: u64,
    /// Versions, delete markers included.
    pub versions: u64,
    /// Versions with an id of their own, delete markers included.
    pub numbered: u64,
    /// Bytes of all versions.
    pub bytes: u64,
    /// Uploads that are neither completed nor aborted.
    pub uploads: u64,
    /// Bytes of their parts.
    pub upload_bytes: u64,
}

/// What became of closing a bucket.
pub(super) enum Closing {
    /// It takes no more changes.
    Closed,
    /// Changes of it are under way: ask again when they are done.
    Unsettled,
}

/// A record as the log has it, ready to be applied.
pub(crate) struct Applied<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) session: u64,
    /// The LSN that it was first committed with.
    pub(crate) order: Lsn,
    pub(crate) bucket: BucketId,
    pub(crate) effect: &'a Effect,
    pub(crate) settlement: Option<&'a Settlement>,
    pub(crate) place: RecordPlace,
}

impl<D: Device> State<D> {
    /// An empty state.
    pub(crate) fn new(seed: u64, directory: Rc<Lsm<D>>) -> Self {
        State {
            index: HashIndex::new(seed),
            index_changes: IndexChanges::default(),
            directory,
            ledger: Ledger::default(),
            buckets: BTreeMap::new(),
            closed: HashSet::new(),
            ending: HashSet::new(),
            catalog: Arc::default(),
            names_in_making: HashSet::new(),
            last_reserved_bucket: BucketId(0),
            cursors: BTreeMap::new(),
            next_lsn: Lsn(1),
            session: 0,
        }
    }

    // -- changing

    /// Applies a record: the whole meaning of the log.
    ///
    /// # Errors
    /// [`Malformed`] when the record does not fit what came before it.
    pub(crate) fn apply(&mut self, table: &SegmentTable, record: &Applied<'_>) -> Result<(), Malformed> {
        let bucket = record.bucket;
        match record.effect {
            Effect::Open | Effect::Checkpoint(_) => {}
            Effect::Version { key, kind, meta } => self.put_version(table, record, key, *kind, meta)?,
            Effect::Tombstone { key, .. } => {
                let settlement = record.settlement.ok_or(UNSETTLED)?;
                self.settle(table, bucket, std::iter::repeat(key.as_ref()), settlement)?;
            }
            Effect::RangeTombstone(scope) => self.empty(table, record, *scope)?,
            Effect::Reap(body) => self.reap(table, record, body)?,
            Effect::Upload(body) => self.put_upload(table, record, body)?,
            Effect::Part(body) => self.put_part(table, record, body)?,
            Effect::UploadEnd { key, upload } => self.end_upload(table, bucket, key, *upload)?,
            Effect::Catalog(change) => {
                if let CatalogChange::PutBucket(bucket) = change.as_ref() {
                    self.names_in_making.remove(&bucket.name);
                }
                Arc::make_mut(&mut self.catalog).apply(change.as_ref().clone());
            }
            Effect::Cursor(CursorBody { name, position }) => self.move_cursor(name, *position),
            Effect::Due(body) => self.change_due(body),
        }
        self.next_lsn = Lsn(record.lsn.0 + 1);
        self.session = record.session;
        Ok(())
    }

    fn put_version(
        &mut self,
        table: &SegmentTable,
        record: &Applied<'_>,
        key: &[u8],
        kind: EntryKind,
        meta: &EntryMeta,
    ) -> Result<(), Malformed> {
        let settlement = record.settlement.ok_or(UNSETTLED)?;
        let upload = meta.meta().upload_id;
        let extents = meta.extents().to_vec();
        self.ledger.add_record(table, &record.place);
        if !bugs::is_planted(Bug::SharedBytesUncounted) || extents.len() < 2 {
            self.ledger.add_extents(table, &extents)?;
        }
        self.settle(table, record.bucket, std::iter::repeat(key), settlement)?;
        let entry = meta.clone().entry(kind, record.order, &record.place);
        for extent in &extents {
            self.directory.insert(&extent_key(extent, record.bucket, key, entry.slot()), &[]);
        }
        self.directory.insert(&version_key(record.bucket, key, entry.slot()), &entry.encode());
        self.insert_hash(settlement.own_hash, Location::from(&record.place));
        // A version that compaction moved ended its upload when it was made.
        if upload != UploadId::NONE && record.order == record.lsn {
            self.end_upload(table, record.bucket, key, upload)?;
        }
        Ok(())
    }

    /// Takes away what a record settles; `keys` are those of the released versions.
    fn settle<'a>(
        &mut self,
        table: &SegmentTable,
        bucket: BucketId,
        keys: impl Iterator<Item = &'a [u8]>,
        settlement: &Settlement,
    ) -> Result<(), Malformed> {
        for (released, key) in settlement.released.iter().zip(keys) {
            self.release(table, bucket, key, released)?;
        }
        for rehashed in &settlement.rehashed {
            let location = self.remove_hash(rehashed.from, &rehashed.place)?;
            self.insert_hash(rehashed.to, location);
        }
        let mut usage = settlement.usage;
        if bugs::is_planted(Bug::UsageNotReduced) {
            usage.objects = usage.objects.max(0);
        }
        self.buckets.entry(bucket).or_default().usage.change(&usage)
    }

    fn release(
        &mut self,
        table: &SegmentTable,
        bucket: BucketId,
        key: &[u8],
        released: &Released,
    ) -> Result<(), Malformed> {
        self.remove_hash(released.hash, &released.place)?;
        self.directory.remove(&version_key(bucket, key, released.slot));
        for extent in &released.extents {
            self.directory.remove(&extent_key(extent, bucket, key, released.slot));
        }
        self.ledger.sub_record(table, &released.place)?;
        self.ledger.sub_extents(table, &released.extents)
    }

    fn insert_hash(&mut self, hash: u64, location: Location) {
        self.index.insert(hash, location);
        self.index_changes.added.push((hash, location.raw()));
    }

    fn remove_hash(&mut self, hash: u64, place: &RecordPlace) -> Result<Location, Malformed> {
        let location =
            Location::checked(place).ok_or(Malformed("a settlement names no place of a record"))?;
        if bugs::is_planted(Bug::StaleHashEntry) {
            return Ok(location);
        }
        if !self.index.remove(hash, location) {
            return Err(Malformed("a settlement takes away what the index does not have"));
        }
        self.index_changes.removed.push((hash, location.raw()));
        Ok(location)
    }

    fn empty(&mut self, table: &SegmentTable, record: &Applied<'_>, scope: Scope) -> Result<(), Malformed> {
        let of = self.buckets.entry(record.bucket).or_default();
        of.floor = record.order;
        of.usage = BucketUsage {
            uploads: of.usage.uploads,
            upload_bytes: of.usage.upload_bytes,
            ..BucketUsage::default()
        };
        if scope == Scope::Bucket {
            self.closed.insert(record.bucket);
            let ended: Vec<Upload> = of.uploads.drain().collect();
            of.usage = BucketUsage::default();
            ended.iter().try_for_each(|upload| self.release_upload(table, upload))?;
        }
        Ok(())
    }

    fn reap(&mut self, table: &SegmentTable, record: &Applied<'_>, body: &ReapBody) -> Result<(), Malformed> {
        let settlement = record.settlement.ok_or(UNSETTLED)?;
        if settlement.released.len() != body.keys.len() {
            return Err(Malformed("a reap settles other versions than it names"));
        }
        self.settle(table, record.bucket, body.keys.iter().map(Vec::as_slice), settlement)?;
        if let Some(of) = self.buckets.get_mut(&record.bucket)
            && body.is_last
            && of.floor == body.floor
        {
            of.floor = Lsn(0);
            if self.closed.contains(&record.bucket) {
                self.buckets.remove(&record.bucket);
            }
        }
        Ok(())
    }

    fn put_upload(
        &mut self,
        table: &SegmentTable,
        record: &Applied<'_>,
        body: &UploadBody,
    ) -> Result<(), Malformed> {
        let of = self.buckets.entry(record.bucket).or_default();
        if record.order != record.lsn {
            // Compaction moved it; it may have ended meanwhile.
            let Some(upload) = of.uploads.upload_mut(&body.key, body.upload_id) else { return Ok(()) };
            let old = std::mem::replace(&mut upload.record, record.place);
            self.ledger.add_record(table, &record.place);
            return self.ledger.sub_record(table, &old);
        }
        of.usage.uploads += 1;
        let upload =
            Upload { record: record.place, order: record.order, body: body.clone(), parts: BTreeMap::new() };
        // Upload ids are random.
        if of.uploads.insert(upload).is_some() {
            return Err(Malformed("an upload begins twice"));
        }
        self.ledger.add_record(table, &record.place);
        Ok(())
    }

    fn put_part(
        &mut self,
        table: &SegmentTable,
        record: &Applied<'_>,
        body: &PartBody,
    ) -> Result<(), Malformed> {
        let Some(of) = self.buckets.get_mut(&record.bucket) else { return Ok(()) };
        let Some(upload) = of.uploads.upload_mut(&body.key, body.upload_id) else { return Ok(()) };
        let number = body.summary.number;
        let is_moved = record.order != record.lsn;
        // What compaction moved counts only if it is still what is there.
        if is_moved && upload.parts.get(&number).is_none_or(|part| part.order != record.order) {
            return Ok(());
        }
        let part = Part { record: record.place, order: record.order, body: body.clone() };
        self.ledger.add_record(table, &part.record);
        self.ledger.add_extents(table, part.extents())?;
        let bytes = of.usage.upload_bytes.checked_add(body.summary.size);
        of.usage.upload_bytes = bytes.ok_or(Malformed("a part larger than anything"))?;
        if let Some(old) = upload.parts.insert(number, part) {
            of.usage.upload_bytes -= old.body.summary.size;
            self.ledger.sub_record(table, &old.record)?;
            self.ledger.sub_extents(table, old.extents())?;
        }
        Ok(())
    }

    fn end_upload(
        &mut self,
        table: &SegmentTable,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
    ) -> Result<(), Malformed> {
        self.ending.remove(&upload);
        if bugs::is_planted(Bug::UploadKept) {
            return Ok(());
        }
        let Some(of) = self.buckets.get_mut(&bucket) else { return Ok(()) };
        if let Some(ended) = of.uploads.remove(key, upload) {
            of.usage.uploads -= 1;
            of.usage.upload_bytes -= ended.parts.values().map(|part| part.body.summary.size).sum::<u64>();
            self.release_upload(table, &ended)?;
        }
        Ok(())
    }

    fn release_upload(&mut self, table: &SegmentTable, upload: &Upload) -> Result<(), Malformed> {
        self.ledger.sub_record(table, &upload.record)?;
        for part in upload.parts.values() {
            self.ledger.sub_record(table, &part.record)?;
            self.ledger.sub_extents(table, part.extents())?;
        }
        Ok(())
    }

    fn change_due(&mut self, body: &DueBody) {
        for DueChange { bucket, key, item, before, after } in &body.changes {
            if let Some(before) = before {
                self.directory.remove(&due_key(*before, *bucket, key, *item));
            }
            match after {
                Some(after) => {
                    self.directory.insert(&due_key(*after, *bucket, key, *item), &[]);
                    self.directory.insert(&item_key(*bucket, key, *item), &encode_due_time(*after));
                }
                None => self.directory.remove(&item_key(*bucket, key, *item)),
            }
        }
        if let Some(next) = body.seen.filter(|_| self.cursors.contains_key(&body.consumer)) {
            self.move_cursor(&body.consumer, Some(Position { next, phase: Phase::Following }));
        }
    }

    fn move_cursor(&mut self, name: &str, position: Option<Position>) {
        let Some(position) = position else {
            self.cursors.remove(name);
            return;
        };
        // What a consumer had on its way when it fell behind comes too late: its log may be gone.
        let is_behind = self.cursors.get(name).is_some_and(|of| of.phase == Phase::Behind);
        if !is_behind || position.phase != Phase::Following {
            self.cursors.insert(name.to_owned(), position);
        }
    }

    /// All that was queued has failed.
    pub(super) fn forget_queued(&mut self) {
        self.ending.clear();
        self.names_in_making.clear();
    }

    // -- checkpoints

    /// Goes on after a record as if it had not been there.
    pub(crate) fn pass_over(&mut self, lsn: Lsn) {
        self.next_lsn = Lsn(lsn.0 + 1);
    }

    /// What a checkpoint stores, but for the runs.
    pub(super) fn image(&self) -> Image {
        let bucket_image = |(bucket, of): (&BucketId, &BucketState)| BucketImage {
            bucket: *bucket,
            objects: of.usage.objects,
            versions: of.usage.versions,
            numbered: of.usage.numbered,
            bytes: of.usage.bytes,
            floor: of.floor,
        };
        Image {
            catalog: self.catalog.changes(),
            last_bucket: self.catalog.last_bucket(),
            runs: Vec::new(),
            buckets: self.buckets.iter().map(bucket_image).collect(),
            liveness: self.ledger.image(),
            uploads: self
                .buckets
                .iter()
                .flat_map(|(bucket, of)| of.uploads.iter().map(|upload| upload.image(*bucket)))
                .collect(),
            cursors: self.cursors.iter().map(|(name, position)| (name.clone(), *position)).collect(),
        }
    }

    /// The state of a checkpoint whose runs are open; `index_changes` of the runs come separately.
    pub(crate) fn restore(&mut self, table: &SegmentTable, image: Image, next_lsn: Lsn, session: u64) {
        self.ledger = Ledger::restore(table, &image.liveness);
        self.catalog = Arc::new(Catalog::restore(image.catalog, image.last_bucket));
        self.cursors = image.cursors.into_iter().collect();
        for of in image.buckets {
            let bucket = self.buckets.entry(of.bucket).or_default();
            bucket.floor = of.floor;
            bucket.usage = BucketUsage {
                objects: of.objects,
                versions: of.versions,
                numbered: of.numbered,
                bytes: of.bytes,
                ..BucketUsage::default()
            };
        }
        for upload in image.uploads {
            let of = self.buckets.entry(upload.bucket).or_default();
            of.usage.uploads += 1;
            let parts = upload
                .parts
                .into_iter()
                .map(|(record, order, body)| (body.summary.number, Part { record, order, body }))
                .inspect(|(_, part)| of.usage.upload_bytes += part.body.summary.size)
                .collect();
            of.uploads.insert(Upload { record: upload.place, order: upload.order, body: upload.body, parts });
        }
        (self.next_lsn, self.session) = (next_lsn, session);
    }

    /// How the index changed since the last call: what goes with the frozen memtable.
    pub(super) fn take_index_changes(&mut self) -> IndexChanges {
        std::mem::take(&mut self.index_changes)
    }

    /// Gives back what could not be written.
    pub(super) fn put_back_index_changes(&mut self, mut changes: IndexChanges) {
        changes.added.append(&mut self.index_changes.added);
        changes.removed.append(&mut self.index_changes.removed);
        self.index_changes = changes;
    }

    /// The cursor of the slowest log consumer that the log is kept for.
    pub(crate) fn slowest_cursor(&self) -> Option<Lsn> {
        self.cursors.values().filter(|of| of.phase != Phase::Behind).map(|of| of.next).min()
    }

    /// The LSN of the next record to apply.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// The session of the last record applied; 0 before the first.
    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    /// The index, while runs are loaded into it.
    pub(crate) fn index_mut(&mut self) -> &mut HashIndex {
        &mut self.index
    }

    // -- deciding

    pub(super) fn check_open(&self, bucket: BucketId) -> error::Result<()> {
        if self.closed.contains(&bucket) { Err(Error::BucketNotFound) } else { Ok(()) }
    }

    pub(super) fn check_upload(&self, bucket: BucketId, key: &[u8], upload: UploadId) -> error::Result<()> {
        self.check_open(bucket)?;
        if self.ending.contains(&upload) {
            return Err(Error::UploadNotFound);
        }
        self.upload_ref(bucket, key, upload).map(|_| ())
    }

    /// From here on the upload takes no more parts and no other end.
    pub(super) fn begin_ending(
        &mut self,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
    ) -> error::Result<()> {
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
    ) -> error::Result<()> {
        self.check_upload(bucket, key, upload)?;
        let upload = self.upload_ref(bucket, key, upload)?;
        let is_current =
            |part: &ChosenPart| upload.parts.get(&part.number).is_some_and(|p| p.order == part.lsn);
        if chosen.iter().all(is_current) { Ok(()) } else { Err(Error::Conflict) }
    }

    pub(super) fn close_if_empty(&mut self, bucket: BucketId, is_busy: bool) -> error::Result<Closing> {
        self.check_open(bucket)?;
        if is_busy {
            return Ok(Closing::Unsettled);
        }
        if self.bucket_usage(bucket).versions > 0 {
            return Err(Error::BucketNotEmpty);
        }
        self.closed.insert(bucket);
        Ok(Closing::Closed)
    }

    pub(super) fn close(&mut self, bucket: BucketId) {
        self.closed.insert(bucket);
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

    /// What finds the current version of a key.
    pub(super) fn current_hash(&self, bucket: BucketId, key: &[u8]) -> u64 {
        self.index.hash(bucket, key)
    }

    /// Places of records that may be found by that hash, pinned.
    pub(super) fn lookup(&self, table: &Arc<SegmentTable>, bucket: BucketId, hash: u64) -> Lookup {
        let candidates: SmallVec<[(SegmentId, Location); 2]> = self
            .index
            .candidates(hash)
            .filter_map(|location| Some((table.id_at(location.segment_index())?, location)))
            .collect();
        let mut pins: Pins = candidates.iter().filter_map(|(segment, _)| table.pin(*segment)).collect();
        if bugs::is_planted(Bug::UnpinnedRead) {
            pins.clear();
        }
        Lookup { candidates, floor: self.floor(bucket), version: None, pins }
    }

    /// Versions of a lower order are gone.
    pub(super) fn floor(&self, bucket: BucketId) -> Lsn {
        self.buckets.get(&bucket).map_or(Lsn(0), |of| of.floor)
    }

    /// Buckets with versions to be reaped.
    pub(super) fn floors(&self) -> Vec<(BucketId, Lsn)> {
        self.buckets.iter().filter(|(_, of)| of.floor != Lsn(0)).map(|(id, of)| (*id, of.floor)).collect()
    }

    pub(super) fn upload(
        &self,
        table: &Arc<SegmentTable>,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
    ) -> error::Result<UploadView> {
        self.check_upload(bucket, key, upload)?;
        let upload = self.upload_ref(bucket, key, upload)?;
        let extents: Vec<Extent> = upload.parts.values().flat_map(|part| part.extents().copied()).collect();
        Ok(UploadView {
            upload: upload.body.clone(),
            parts: upload.parts.values().map(|part| (part.order, part.body.clone())).collect(),
            pins: pins(table, &extents)?,
        })
    }

    pub(super) fn upload_ref(
        &self,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
    ) -> error::Result<&Upload> {
        let of = self.buckets.get(&bucket).ok_or(Error::UploadNotFound)?;
        of.uploads.upload(key, upload).ok_or(Error::UploadNotFound)
    }

    /// All uploads, with their buckets.
    pub(super) fn uploads(&self) -> impl Iterator<Item = (BucketId, &Upload)> {
        self.buckets.iter().flat_map(|(bucket, of)| of.uploads.iter().map(|upload| (*bucket, upload)))
    }

    /// Uploads after that one, by bucket, key and id.
    pub(super) fn uploads_after(
        &self,
        after: Option<(BucketId, Vec<u8>, UploadId)>,
    ) -> impl Iterator<Item = (BucketId, &Upload)> {
        let first = after.as_ref().map_or(BucketId(0), |(bucket, ..)| *bucket);
        self.buckets.range(first..).flat_map(move |(bucket, of)| {
            let after =
                after.as_ref().filter(|(of, ..)| of == bucket).map(|(_, key, id)| (key.as_slice(), *id));
            of.uploads.after(after).map(|upload| (*bucket, upload))
        })
    }

    pub(super) fn part_page(
        &self,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> error::Result<PartPage> {
        self.check_upload(bucket, key, upload)?;
        let upload = self.upload_ref(bucket, key, upload)?;
        let mut rest = upload.parts.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let parts =
            rest.by_ref().take(max).map(|(_, part)| (part.body.summary, part.body.modified)).collect();
        Ok(PartPage { upload: upload.body.clone(), parts, is_truncated: rest.next().is_some() })
    }

    pub(super) fn upload_page(&self, bucket: BucketId, query: &UploadPageQuery) -> error::Result<UploadPage> {
        self.check_open(bucket)?;
        Ok(self.buckets.get(&bucket).map_or_else(UploadPage::default, |of| of.uploads.page(query)))
    }

    pub(super) fn bucket_usage(&self, bucket: BucketId) -> BucketUsage {
        self.buckets.get(&bucket).map_or_else(BucketUsage::default, |of| of.usage)
    }

    pub(super) fn usage(&self) -> Vec<(BucketId, BucketUsage)> {
        let is_open = |(id, _): &(&BucketId, &BucketState)| !self.closed.contains(id);
        self.buckets.iter().filter(is_open).map(|(id, of)| (*id, of.usage)).collect()
    }

    pub(super) fn bucket_ids(&self) -> impl Iterator<Item = BucketId> + '_ {
        self.buckets.keys().copied()
    }
}

impl BucketUsage {
    pub(super) fn change(&mut self, by: &UsageChange) -> Result<(), Malformed> {
        let changed =
            |value: u64, by: i64| value.checked_add_signed(by).ok_or(Malformed("more goes than was counted"));
        self.objects = changed(self.objects, i64::from(by.objects))?;
        self.versions = changed(self.versions, i64::from(by.versions))?;
        self.numbered = changed(self.numbered, i64::from(by.numbered))?;
        self.bytes = changed(self.bytes, by.bytes)?;
        Ok(())
    }
}

impl Upload {
    fn image(&self, bucket: BucketId) -> UploadImage {
        UploadImage {
            bucket,
            place: self.record,
            order: self.order,
            body: self.body.clone(),
            parts: self.parts.values().map(|part| (part.record, part.order, part.body.clone())).collect(),
        }
    }
}

/// A pin for each segment that those extents lie in.
pub(super) fn pins(table: &Arc<SegmentTable>, extents: &[Extent]) -> error::Result<Vec<SegmentPin>> {
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
