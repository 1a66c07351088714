//! A shard: the home of some of the buckets, with their index, their uploads and their commit log.
//!
//! A decision on a key is made by one at a time ([`locks`]): look at what is durable ([`view`]), decide, queue the record. The state changes when the record
//! is durable, in LSN order; until then readers see what was before.
//!
//! | file | noun |
//! |---|---|
//! | `state` | what the log, applied in order, makes of the shard |
//! | `view`, `locks` | what a decision on a key sees; one decision at a time |
//! | `ledger`, `uploads`, `listing` | live bytes by segment; multipart uploads; pages |
//! | `consumer`, `meter` | events of the log, from durable cursors; usage summed from them |
//! | `due` | which versions and uploads become due by a time |
//! | `audit` | what a check of the store holds against the devices |
//! | `upkeep`, `relocation` | checkpoints, merges of directory runs, reaping; compaction: the work in the background |
//! | `footprint` | memory and runs that it takes |

mod audit;
mod consumer;
mod due;
mod footprint;
mod ledger;
mod listing;
mod locks;
mod meter;
mod relocation;
mod state;
mod upkeep;
mod uploads;
mod view;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::{Catalog, choose_home};
use crate::core::Core;
use crate::crypto::Sealing;
use crate::device::Device;
use crate::draft::{Draft, Effect, EntryMeta, entry_kind};
use crate::error::{Error, Result};
use crate::event::{Completion, Event};
use crate::format::body::{ETag, PartBody, PartSummary, UploadBody, VersionBody};
use crate::format::catalog::{Bucket, CatalogChange};
use crate::format::directory::{Entry, EntryExtents, Listed, NULL_SLOT, version_key, version_prefix};
use crate::format::record::{RecordKind, SealKind};
use crate::format::segment::Temperature;
use crate::format::settlement::{RecordPlace, Settlement};
use crate::format::upkeep::Scope;
use crate::ids::{BucketId, Lsn, NamespaceId, ShardId, UnixMillis, UploadId, UserId, VersionId};
use crate::index::directory::{Page, PageQuery, VersionPage, VersionPageQuery};
use crate::index::hash::Location;
use crate::log::{Change, Committed, Log, Receipt, Resume};
use crate::object::{Lookup, OpenedRecord};
use crate::segment::table::{Purpose, SegmentPin};
use crate::sim::bugs::{self, Bug};
use listing::VersionWalk;
use locks::Locks;
use view::{KeyView, Known, NewEntry};

pub(crate) use audit::Books;
pub use consumer::{Event as LogEvent, Happened};
pub use due::{Due, DueTime, Existing, ExistingPlace, Standing};
pub use footprint::Footprint;
pub(crate) use locks::KeyLock;
pub use meter::{Meter, Metered};
pub use state::BucketUsage;
pub(crate) use state::{Applied, State};
pub use upkeep::Upkeep;
pub(crate) use upkeep::{Desk, add_live};
pub use uploads::{ListedUpload, UploadPage, UploadPageQuery};

/// What must hold of a key for a change to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// It has no object.
    Absent,
    /// It has an object.
    Present,
    /// It has an object with this ETag.
    ETag(ETag),
}

impl Precondition {
    /// Whether a key whose object has that ETag (`None`: that has no object) fulfils it.
    fn check(self, etag: Option<ETag>) -> Result<()> {
        match (self, etag) {
            (Precondition::None, _) | (Precondition::Absent, None) | (Precondition::Present, Some(_)) => {
                Ok(())
            }
            (Precondition::ETag(wanted), Some(etag)) if wanted == etag => Ok(()),
            (Precondition::Absent | Precondition::ETag(_), Some(_)) => Err(Error::PreconditionFailed),
            (Precondition::Present | Precondition::ETag(_), None) => Err(Error::NotFound),
        }
    }
}

/// A part that an upload is completed with: the one that was looked at, not one that came later under the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenPart {
    /// Its number.
    pub number: u16,
    /// Which upload of it.
    pub lsn: Lsn,
}

/// An upload and its parts.
#[derive(Debug)]
pub struct UploadView {
    /// What it was created with.
    pub upload: UploadBody,
    /// Its parts by number.
    pub parts: Vec<(Lsn, PartBody)>,
    /// Keep the parts' bytes.
    pub pins: Vec<SegmentPin>,
}

/// A page of an upload's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPage {
    /// What the upload was created with.
    pub upload: UploadBody,
    /// Number, size, digests and time of each part, by number.
    pub parts: Vec<(PartSummary, UnixMillis)>,
    /// Whether more follow.
    pub is_truncated: bool,
}

/// One home of buckets, on one core.
pub struct Shard<D: Device> {
    core: Rc<Core<D>>,
    id: ShardId,
    log: Log,
    state: RefCell<State<D>>,
    locks: Rc<Locks>,
    upkeep: upkeep::Desk,
    /// A batch was applied or failed.
    settled: Event,
}

impl<D: Device> Shard<D> {
    pub(crate) fn new(
        core: Rc<Core<D>>,
        id: ShardId,
        state: State<D>,
        resume: Resume,
        desk: upkeep::Desk,
    ) -> Result<Rc<Self>> {
        let (session, opening) = (core.new_number(), core.draft_open()?);
        Ok(Rc::new(Shard {
            log: Log::new(id, session, resume, opening.record, core.store.segment_size),
            core,
            id,
            state: RefCell::new(state),
            locks: Rc::default(),
            upkeep: desk,
            settled: Event::default(),
        }))
    }

    /// Which shard it is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The core that it is on.
    pub fn core(&self) -> &Rc<Core<D>> {
        &self.core
    }

    /// The work of the shard: makes queued records durable and applies them. Runs on the shard's core until [`Shard::stop`].
    pub async fn run(self: Rc<Self>) {
        while self.log.wait_for_work().await {
            if self.run_batch().await.is_err() {
                self.state.borrow_mut().forget_queued();
            }
            self.settled.notify();
        }
    }

    /// Begins the session, if it has not begun. On failure every queued record has been told.
    pub(crate) async fn begin_session(&self) -> std::result::Result<(), ()> {
        if let Some(opening) = self.log.begin_session(&self.core).await? {
            self.apply(opening);
            self.core.store.table.session_began();
        }
        Ok(())
    }

    async fn run_batch(&self) -> std::result::Result<(), ()> {
        self.begin_session().await?;
        self.log.run_batch(&self.core).await?.into_iter().for_each(|record| self.apply(record));
        Ok(())
    }

    fn apply(&self, record: Committed) {
        let Committed { lsn, session, place, change, done } = record;
        let applied = Applied {
            lsn,
            session,
            order: change.record.order.unwrap_or(lsn),
            bucket: change.bucket,
            effect: &change.effect,
            settlement: change.settlement.as_ref(),
            place,
        };
        let fits = self.state.borrow_mut().apply(&self.core.store.table, &applied);
        fits.expect("what was decided on this state fits it");
        drop(change);
        done.complete(Ok(Receipt { lsn, place }));
    }

    /// Takes no more changes; [`Shard::run`] returns when those queued are done.
    pub fn stop(&self) {
        self.log.stop(Error::Stopped);
    }

    // -- objects

    /// Where the record of a key's current version may be.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none for certain.
    pub fn lookup(&self, bucket: BucketId, key: &[u8]) -> Result<Lookup> {
        let state = self.state.borrow();
        state.check_open(bucket)?;
        let lookup = state.lookup(&self.core.store.table, bucket, state.current_hash(bucket, key));
        if lookup.candidates.is_empty() { Err(Error::NotFound) } else { Ok(lookup) }
    }

    /// Where the record of that version of a key may be.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none for certain.
    pub fn lookup_version(&self, bucket: BucketId, key: &[u8], version: VersionId) -> Result<Lookup> {
        let state = self.state.borrow();
        state.check_open(bucket)?;
        let slot = crate::format::directory::slot_of(version);
        let mut lookup =
            state.lookup(&self.core.store.table, bucket, state.index.hash_version(bucket, key, slot));
        // The current version is found by its key alone.
        let current = state.lookup(&self.core.store.table, bucket, state.current_hash(bucket, key));
        lookup.version = Some(version);
        lookup.candidates.extend(current.candidates);
        lookup.pins.extend(current.pins);
        if lookup.candidates.is_empty() { Err(Error::NotFound) } else { Ok(lookup) }
    }

    /// Whether a draft of new data would be let in now.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::ReadOnly`].
    pub fn admit(&self, draft: &Draft) -> Result<()> {
        self.log.admit_data(&self.core, draft.record.record_len())
    }

    /// Makes a version (or a delete marker) the key's current one; gives back its id.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`], or [`Error::NotFound`] when an ETag was asked for and there is no object.
    pub async fn put(&self, draft: Draft, precondition: Precondition) -> Result<VersionId> {
        self.log.admit_data(&self.core, draft.record.record_len())?;
        let (lock, settlement) = self.decide_put(&draft, precondition).await?;
        let numbering = draft.numbering();
        let receipt = self.commit(draft, Some(settlement), vec![lock])?.wait().await?;
        Ok(crate::draft::version_of(numbering, receipt.lsn))
    }

    /// Removes a version of a key; whether it was there. Admitted also when the store is full.
    pub async fn delete(&self, draft: Draft, precondition: Precondition) -> Result<bool> {
        let Effect::Tombstone { key, version } = &draft.effect else {
            unreachable!("a delete is drafted as a tombstone")
        };
        let (key, version) = (key.clone(), *version);
        let lock = self.locks.lock(draft.bucket, &key).await;
        self.state.borrow().check_open(draft.bucket)?;
        let view = self.view(draft.bucket, &key, version).await?;
        self.state.borrow().check_open(draft.bucket)?;
        precondition.check(view.etag())?;
        // Of a log that has stopped, the last records may come back with a restart: nothing can be said to be gone.
        self.log.check_running()?;
        let hash = self.state.borrow().current_hash(draft.bucket, &key);
        let Some(settlement) = view.settle_removal(version, hash) else { return Ok(false) };
        self.commit(draft, Some(settlement), vec![lock])?.wait().await?;
        Ok(true)
    }

    /// A page of a bucket's keys.
    pub async fn page(&self, bucket: BucketId, query: &PageQuery) -> Result<Page<Listed>> {
        let walk = self.walk(bucket)?;
        listing::page(walk, query).await
    }

    /// A page of a bucket's versions.
    pub async fn version_page(&self, bucket: BucketId, query: &VersionPageQuery) -> Result<VersionPage> {
        let walk = self.walk(bucket)?;
        listing::version_page(walk, query).await
    }

    fn walk(&self, bucket: BucketId) -> Result<VersionWalk<D>> {
        let state = self.state.borrow();
        state.check_open(bucket)?;
        Ok(VersionWalk::new(&state, bucket))
    }

    // -- uploads

    /// Begins an upload.
    pub async fn create_upload(&self, draft: Draft) -> Result<()> {
        self.log.admit_data(&self.core, draft.record.record_len())?;
        let lock = self.locks.enter_in_turn(draft.bucket).await;
        self.state.borrow().check_open(draft.bucket)?;
        self.commit_holding(draft, lock).await
    }

    /// Puts a part, in place of an earlier one with its number.
    pub async fn put_part(&self, draft: Draft) -> Result<()> {
        self.log.admit_data(&self.core, draft.record.record_len())?;
        let Effect::Part(part) = &draft.effect else { unreachable!("a part is drafted as one") };
        let lock = self.locks.enter_in_turn(draft.bucket).await;
        self.state.borrow().check_upload(draft.bucket, &part.key, part.upload_id)?;
        self.commit_holding(draft, lock).await
    }

    /// Gives an upload up: its parts are gone. Admitted also when the store is full.
    pub async fn abort_upload(&self, draft: Draft) -> Result<()> {
        let Effect::UploadEnd { key, upload } = &draft.effect else {
            unreachable!("an abort is drafted as an upload's end")
        };
        let upload = *upload;
        let lock = self.locks.enter_in_turn(draft.bucket).await;
        self.state.borrow_mut().begin_ending(draft.bucket, key, upload)?;
        self.commit_holding(draft, lock).await.inspect_err(|_| self.state.borrow_mut().cancel_ending(upload))
    }

    /// Makes the object of an upload the key's current version and ends the upload; gives back the version's id.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a chosen part was replaced meanwhile: look again.
    pub async fn complete_upload(
        &self,
        draft: Draft,
        parts: &[ChosenPart],
        precondition: Precondition,
    ) -> Result<VersionId> {
        let Effect::Version { key, meta, .. } = &draft.effect else {
            unreachable!("a completion is drafted as a version")
        };
        let (key, upload) = (key.clone(), meta.meta().upload_id);
        let (lock, settlement) = self.decide_put(&draft, precondition).await?;
        {
            let mut state = self.state.borrow_mut();
            state.check_parts(draft.bucket, &key, upload, parts)?;
            state.begin_ending(draft.bucket, &key, upload)?;
        }
        let numbering = draft.numbering();
        let committed = match self.commit(draft, Some(settlement), vec![lock]) {
            Ok(waiting) => waiting.wait().await,
            Err(error) => Err(error),
        };
        let receipt = committed.inspect_err(|_| self.state.borrow_mut().cancel_ending(upload))?;
        Ok(crate::draft::version_of(numbering, receipt.lsn))
    }

    /// An upload and its parts, with their bytes pinned. One whose end is queued is looked at when that is durable or has failed, so that whoever
    /// repeats a completion finds either the upload or the object.
    pub async fn upload(&self, bucket: BucketId, key: &[u8], upload: UploadId) -> Result<UploadView> {
        loop {
            let settled = self.settled.wait();
            if !self.state.borrow().is_ending(upload) {
                break;
            }
            settled.await;
        }
        self.state.borrow().upload(&self.core.store.table, bucket, key, upload)
    }

    /// What an upload was created with.
    pub fn upload_body(&self, bucket: BucketId, key: &[u8], upload: UploadId) -> Result<UploadBody> {
        let state = self.state.borrow();
        state.check_upload(bucket, key, upload)?;
        Ok(state.upload_ref(bucket, key, upload)?.body.clone())
    }

    /// What an upload was created with, and a page of its parts: at most `max` of those numbered above `after`, and whether more follow.
    pub fn part_page(
        &self,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<PartPage> {
        self.state.borrow().part_page(bucket, key, upload, after, max)
    }

    /// A page of a bucket's uploads.
    pub fn upload_page(&self, bucket: BucketId, query: &UploadPageQuery) -> Result<UploadPage> {
        self.state.borrow().upload_page(bucket, query)
    }

    // -- buckets

    /// What each bucket holds that has anything or had.
    pub fn usage(&self) -> Vec<(BucketId, BucketUsage)> {
        self.state.borrow().usage()
    }

    /// The same, and the LSN up to which it is that: what a [`Meter`] begins with.
    pub fn usage_snapshot(&self) -> (Lsn, Vec<(BucketId, BucketUsage)>) {
        let state = self.state.borrow();
        (state.next_lsn(), state.usage())
    }

    /// Closes a bucket for all changes if it holds no version: the first half of deleting it.
    ///
    /// # Errors
    /// [`Error::BucketNotEmpty`].
    pub async fn close_bucket_if_empty(&self, bucket: BucketId) -> Result<()> {
        loop {
            let released = self.locks.released();
            match self.state.borrow_mut().close_if_empty(bucket, self.locks.is_busy(bucket))? {
                state::Closing::Closed => return Ok(()),
                state::Closing::Unsettled => {}
            }
            released.await;
        }
    }

    /// Opens a bucket again whose deletion failed.
    pub fn reopen_bucket(&self, bucket: BucketId) {
        self.state.borrow_mut().reopen(bucket);
    }

    /// Removes all versions of a bucket with one record; the space comes back in the background.
    pub async fn empty_bucket(&self, bucket: BucketId) -> Result<()> {
        self.state.borrow().check_open(bucket)?;
        let draft = self.core.draft_upkeep(bucket, Effect::RangeTombstone(Scope::Versions))?;
        // What somebody saw of a key before must not be what he decides on afterwards.
        let lock = self.locks.exclude(bucket).await;
        self.state.borrow().check_open(bucket)?;
        self.commit(draft, None, vec![lock])?.wait().await.map(|_| ())
    }

    /// Forgets a bucket that the catalog no longer has, and what its uploads held.
    pub fn drop_bucket(&self, bucket: BucketId) {
        self.state.borrow_mut().close(bucket);
        self.upkeep.drop_later(bucket);
    }

    /// After recovery: forgets the buckets that the catalog does not have.
    pub fn retain_buckets(&self, catalog: &Catalog) {
        let dead: Vec<BucketId> =
            self.state.borrow().bucket_ids().filter(|id| !catalog.has_bucket(*id)).collect();
        dead.into_iter().for_each(|bucket| self.drop_bucket(bucket));
    }

    // -- the catalog, on shard 0

    /// The catalog as it is now.
    pub fn catalog(&self) -> Arc<Catalog> {
        assert_eq!(self.id, ShardId(0), "the catalog belongs to shard 0");
        self.state.borrow().catalog.clone()
    }

    /// Makes changes of the catalog, one after the other.
    pub async fn change_catalog(&self, changes: Vec<CatalogChange>) -> Result<Arc<Catalog>> {
        for change in changes {
            if let CatalogChange::PutNamespace(namespace) = &change {
                self.core.store.keyring.add_namespace(namespace)?;
            }
            self.commit_entered(self.core.draft_catalog(change)?).await?;
        }
        Ok(self.catalog())
    }

    /// Makes a namespace with a fresh key, without which nothing can be stored.
    pub async fn create_namespace(
        &self,
        id: NamespaceId,
        name: &str,
        seal_kind: SealKind,
    ) -> Result<Arc<Catalog>> {
        if self.catalog().namespaces.contains_key(&id) {
            return Err(Error::AlreadyExists);
        }
        let namespace = self.core.create_namespace(id, name, seal_kind);
        self.change_catalog(vec![CatalogChange::PutNamespace(namespace)]).await
    }

    /// Makes a bucket, homed by the hash of its new id.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name is taken.
    pub async fn create_bucket(
        &self,
        name: &str,
        namespace: NamespaceId,
        owner: UserId,
        location: &str,
        now: UnixMillis,
    ) -> Result<Arc<Catalog>> {
        self.core.store.table.admit_data()?;
        let completion = {
            let mut state = self.state.borrow_mut();
            if state.catalog.buckets.contains_key(name) || !state.names_in_making.insert(name.to_owned()) {
                return Err(Error::AlreadyExists);
            }
            let id = state.reserve_bucket_id();
            let bucket = Bucket {
                id,
                name: name.to_owned(),
                namespace,
                owner,
                home: choose_home(id, self.core.store.shard_count),
                created: now,
                location: location.to_owned(),
            };
            drop(state);
            self.core
                .draft_catalog(CatalogChange::PutBucket(bucket))
                .and_then(|draft| self.commit(draft, None, vec![self.locks.enter(BucketId(0))]))
        };
        match completion {
            // Applied or failed, the name is no longer in the making.
            Ok(waiting) => {
                waiting.wait().await?;
            }
            Err(error) => {
                self.state.borrow_mut().names_in_making.remove(name);
                return Err(error);
            }
        }
        Ok(self.catalog())
    }

    // -- inside

    /// Takes a key, looks at it, checks a precondition: what a new current version of it settles.
    async fn decide_put(&self, draft: &Draft, precondition: Precondition) -> Result<(KeyLock, Settlement)> {
        let Effect::Version { key, kind, meta } = &draft.effect else {
            unreachable!("a put is drafted as a version")
        };
        let bucket = draft.bucket;
        let lock = self.locks.lock(bucket, key).await;
        self.state.borrow().check_open(bucket)?;
        let view = self.view(bucket, key, VersionId::Null).await?;
        let state = self.state.borrow();
        state.check_open(bucket)?;
        precondition.check(view.etag())?;
        let new = NewEntry { kind: *kind, numbering: meta.meta().numbering, size: meta.meta().size };
        let slot_hash = |slot| state.index.hash_version(bucket, key, slot);
        Ok((lock, view.settle_put(new, state.current_hash(bucket, key), slot_hash)))
    }

    /// The versions of a key that a decision needs: the newest two, the `null` version, and `wanted`. The caller has the key's lock.
    async fn view(&self, bucket: BucketId, key: &[u8], wanted: VersionId) -> Result<KeyView> {
        let (is_new, has_numbered, floor) = {
            let state = self.state.borrow();
            let hash = state.current_hash(bucket, key);
            let is_new = state.index.candidates(hash).next().is_none();
            (is_new, state.bucket_usage(bucket).numbered > 0, state.floor(bucket))
        };
        // A key that has any version has a current one.
        if is_new {
            return Ok(KeyView::default());
        }
        let mut entries = Vec::new();
        if has_numbered || floor != Lsn(0) {
            let mut walk = VersionWalk::with_dead(&self.state.borrow(), bucket);
            walk.seek(&version_prefix(bucket, key)).await?;
            let mut live = 0;
            while let Some((next, entry)) = walk.next().await? {
                if next != key {
                    break;
                }
                let is_null = entry.version() == VersionId::Null;
                live += usize::from(!is_null && entry.order >= floor);
                // Of those with an id, two are enough to know the current one and the next.
                if is_null || live <= 2 || entry.version() == wanted {
                    entries.push(entry);
                } else if wanted == VersionId::Null || wanted.number() > entry.order.0 {
                    break;
                }
            }
        } else {
            entries.extend(self.null_entry(bucket, key).await?);
        }
        let mut view = KeyView::default();
        for entry in entries {
            let is_live = entry.order >= floor;
            if !is_live && entry.version() != VersionId::Null {
                continue;
            }
            let mut known = self.known(bucket, key, entry)?;
            if known.entry.version() == wanted || known.entry.version() == VersionId::Null {
                known.entry.extents = self.extents_of(&known.entry).await?;
            }
            if is_live { view.versions.push(known) } else { view.dead_null = Some(known) }
        }
        view.versions.sort_by_key(|known| std::cmp::Reverse(known.entry.order));
        Ok(view)
    }

    /// The `null` version of a key in a bucket that has no other versions: from the memtable, or from its record, which costs one device read. Where no copy of the record
    /// verifies, the directory tells: the key can be overwritten and deleted all the same.
    async fn null_entry(&self, bucket: BucketId, key: &[u8]) -> Result<Option<Entry>> {
        let (in_memory, lookup) = {
            let state = self.state.borrow();
            let in_memory = state.directory.memtable_get(&version_key(bucket, key, NULL_SLOT));
            (in_memory, state.lookup(&self.core.store.table, bucket, state.current_hash(bucket, key)))
        };
        match in_memory {
            Some(Some(value)) => return decode_entry(&value).map(Some),
            Some(None) => return Ok(None),
            None => {}
        }
        for (segment, location) in &lookup.candidates {
            let record = match self.core.read_record(*segment, *location).await {
                Ok(record) => record,
                Err(Error::Corrupt { .. }) => return self.null_entry_of_directory(bucket, key).await,
                Err(error) => return Err(error),
            };
            if let Some((found, entry)) = entry_of(&record)?
                && found == key
                && record.header.identity.bucket == bucket
            {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    async fn null_entry_of_directory(&self, bucket: BucketId, key: &[u8]) -> Result<Option<Entry>> {
        let directory = self.state.borrow().directory.clone();
        let value = directory.get(&version_key(bucket, key, NULL_SLOT)).await?;
        value.map(|value| decode_entry(&value)).transpose()
    }

    /// A version with what finds it.
    fn known(&self, bucket: BucketId, key: &[u8], entry: Entry) -> Result<Known> {
        let state = self.state.borrow();
        let location = Location::from(&entry.place);
        let is_at = |hash: &u64| state.index.candidates(*hash).any(|candidate| candidate == location);
        let hashes = [state.current_hash(bucket, key), state.index.hash_version(bucket, key, entry.slot())];
        let lost = Error::Corrupt {
            segment: entry.place.segment,
            offset: u64::from(entry.place.offset),
            what: "a version of the directory is not in the index",
        };
        let hash = hashes.into_iter().find(is_at).ok_or(lost)?;
        Ok(Known { entry, hash })
    }

    /// The extents of a version, from its record if the directory does not hold them.
    async fn extents_of(&self, entry: &Entry) -> Result<EntryExtents> {
        if let EntryExtents::Here(extents) = &entry.extents {
            return Ok(EntryExtents::Here(extents.clone()));
        }
        let record = self.core.read_record(entry.place.segment, Location::from(&entry.place)).await?;
        let gone = Error::Corrupt {
            segment: entry.place.segment,
            offset: u64::from(entry.place.offset),
            what: "the record of a version is of another kind",
        };
        Ok(entry_of(&record)?.ok_or(gone)?.1.extents)
    }

    /// Queues a change that was decided on. No await lies between the decision and this.
    fn commit(&self, draft: Draft, settlement: Option<Settlement>, locks: Vec<KeyLock>) -> Result<Waiting> {
        let Draft { bucket, record, effect, pins } = draft;
        let waiting = self.queue(Change {
            bucket,
            record,
            effect,
            settlement,
            pins,
            locks,
            temperature: Temperature::Hot,
            purpose: Purpose::Log,
        });
        if bugs::is_planted(Bug::EarlyAcknowledge) { waiting.map(Waiting::acknowledged) } else { waiting }
    }

    fn queue(&self, change: Change) -> Result<Waiting> {
        self.log.append(change).map(Waiting)
    }

    /// Commits a change of a bucket that is of no key.
    async fn commit_entered(&self, draft: Draft) -> Result<()> {
        let lock = self.locks.enter(draft.bucket);
        self.commit_holding(draft, lock).await
    }

    async fn commit_holding(&self, draft: Draft, lock: KeyLock) -> Result<()> {
        self.commit(draft, None, vec![lock])?.wait().await.map(|_| ())
    }

    /// Whether no change is queued or in flight.
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.locks.is_idle()
    }
}

/// A queued change.
struct Waiting(Completion<Result<Receipt>>);

impl Waiting {
    /// Waits no longer than it takes to queue.
    fn acknowledged(self) -> Self {
        let (done, waiting) = crate::event::completion();
        done.complete(Ok(Receipt { lsn: Lsn(1), place: RecordPlace::default() }));
        Waiting(waiting)
    }

    /// Waits until it is durable and applied.
    async fn wait(self) -> Result<Receipt> {
        self.0.wait().await.unwrap_or(Err(Error::Stopped))
    }
}

fn decode_entry(value: &[u8]) -> Result<Entry> {
    Entry::decode(value).map_err(|malformed| Error::Corrupt {
        segment: crate::ids::SegmentId(0),
        offset: 0,
        what: malformed.0,
    })
}

/// Key and directory entry of a version's record; `None` for records of other kinds.
fn entry_of(record: &OpenedRecord) -> Result<Option<(Vec<u8>, Entry)>> {
    let kind = record.header.identity.kind;
    if !matches!(kind, RecordKind::Version | RecordKind::DeleteMarker) {
        return Ok(None);
    }
    let position = &record.header.position;
    let body = VersionBody::decode(record.payload()).map_err(|malformed| Error::Corrupt {
        segment: position.segment,
        offset: u64::from(position.offset),
        what: malformed.0,
    })?;
    let place = RecordPlace {
        segment: position.segment,
        offset: position.offset,
        len: crate::log::padded(record.header.record_len()) as u32,
    };
    let entry =
        EntryMeta::new(&body.meta, &body.pieces).entry(entry_kind(kind), record.header.order(), &place);
    Ok(Some((body.key, entry)))
}

impl<D: Device> Core<D> {
    fn create_namespace(
        &self,
        id: NamespaceId,
        name: &str,
        seal_kind: SealKind,
    ) -> crate::format::catalog::Namespace {
        self.with_random(|random| self.store.keyring.create_namespace(id, name, seal_kind, random))
    }

    /// How new data of that namespace is sealed.
    pub fn sealing(&self, catalog: &Catalog, namespace: NamespaceId) -> Result<Sealing> {
        let namespace =
            catalog.namespaces.get(&namespace).ok_or(Error::Key { what: "data of an unknown namespace" })?;
        Ok(Sealing::from(namespace.as_ref()))
    }
}
