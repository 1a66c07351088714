//! A shard: the home of some of the buckets, with their index, their uploads and their commit log.
//!
//! All decisions on a key are one step here, without an await in between: look at what is committed and at what is queued, decide, queue the record. The
//! state changes when the record is durable, in LSN order; until then readers see what was before, and later decisions see what is queued
//! ([`State::pending`]). A decision that rests on something queued is answered only when that is durable.

mod state;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::{Catalog, choose_home};
use crate::core::Core;
use crate::crypto::Sealing;
use crate::device::Device;
use crate::draft::{Draft, Effect};
use crate::error::{Error, Result};
use crate::event::{Completion, Event};
use crate::format::body::{ETag, PartBody, PartSummary, UploadBody};
use crate::format::catalog::{Bucket, CatalogChange};
use crate::format::record::SealKind;
use crate::ids::{BucketId, Lsn, NamespaceId, ShardId, UnixMillis, UploadId, UserId};
use crate::index::directory::{Listed, Page, PageQuery};
use crate::log::{Log, Resume};
use crate::object::Lookup;
use crate::segment::table::SegmentPin;

pub(crate) use state::State;
pub use state::{BucketUsage, ListedUpload, UploadPage, UploadPageQuery};

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
pub struct Shard<D> {
    core: Rc<Core<D>>,
    id: ShardId,
    log: Log,
    state: RefCell<State>,
    /// A batch was applied or failed.
    settled: Event,
}

impl<D: Device> Shard<D> {
    pub(crate) fn new(core: Rc<Core<D>>, id: ShardId, state: State, resume: Resume) -> Result<Rc<Self>> {
        let (session, opening) = (core.new_number(), core.draft_open()?);
        Ok(Rc::new(Shard {
            log: Log::new(id, session, resume, opening.record),
            core,
            id,
            state: RefCell::new(state),
            settled: Event::default(),
        }))
    }

    /// Which shard it is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The work of the shard: makes queued records durable and applies them. Runs on the shard's core until [`Shard::stop`].
    pub async fn run(self: Rc<Self>) {
        while self.log.wait_for_work().await {
            match self.log.run_batch(&self.core).await {
                Ok(committed) => {
                    for record in committed {
                        self.state.borrow_mut().commit(&self.core.store.table, &record);
                        record.done.complete(Ok(()));
                    }
                }
                Err(()) => self.state.borrow_mut().forget_pending(),
            }
            self.settled.notify();
        }
    }

    /// Takes no more changes; [`Shard::run`] returns when those queued are done.
    pub fn stop(&self) {
        self.log.stop(Error::Stopped);
    }

    // -- objects

    /// Where the record of a key may be.
    pub fn lookup(&self, bucket: BucketId, key: &[u8]) -> Result<Lookup> {
        self.state.borrow().lookup(&self.core.store.table, bucket, key)
    }

    /// Makes a version the key's current one.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`], or [`Error::NotFound`] when an ETag was asked for and there is no object.
    pub async fn put(&self, draft: Draft, precondition: Precondition) -> Result<()> {
        self.log.admit_data(&self.core, draft.record.record_len())?;
        let Effect::Version { key, .. } = &draft.effect else {
            unreachable!("a put is drafted as a version")
        };
        let key = key.clone();
        self.check(draft.bucket, &key, precondition).await?;
        self.append_and_wait(draft).await
    }

    /// Removes a key; whether it was there. Admitted also when the store is full.
    pub async fn delete(&self, draft: Draft, precondition: Precondition) -> Result<bool> {
        let Effect::Tombstone { key } = &draft.effect else {
            unreachable!("a delete is drafted as a tombstone")
        };
        let key = key.clone();
        loop {
            self.check(draft.bucket, &key, precondition).await?;
            // Of a log that has stopped, the last records may come back with a restart: nothing can be said to be gone.
            self.log.check_running()?;
            let (current, pending) = self.state.borrow().current(draft.bucket, &key);
            match (current, pending) {
                (Some(_), _) => break,
                (None, None) => return Ok(false),
                // Nothing to remove, if the queued delete that says so becomes durable.
                (None, Some(_)) => {}
            }
            self.wait_for_key(draft.bucket, &key).await;
        }
        self.append_and_wait(draft).await?;
        Ok(true)
    }

    /// A page of a bucket's keys.
    pub async fn page(&self, bucket: BucketId, query: &PageQuery) -> Result<Page<Listed>> {
        self.state.borrow().page(bucket, query)
    }

    // -- uploads

    /// Begins an upload.
    pub async fn create_upload(&self, draft: Draft) -> Result<()> {
        self.log.admit_data(&self.core, draft.record.record_len())?;
        self.state.borrow().check_open(draft.bucket)?;
        self.append_and_wait(draft).await
    }

    /// Puts a part, in place of an earlier one with its number.
    pub async fn put_part(&self, draft: Draft) -> Result<()> {
        self.log.admit_data(&self.core, draft.record.record_len())?;
        let Effect::Part(part) = &draft.effect else { unreachable!("a part is drafted as one") };
        self.state.borrow().check_upload(draft.bucket, &part.key, part.upload_id)?;
        self.append_and_wait(draft).await
    }

    /// Gives an upload up: its parts are gone. Admitted also when the store is full.
    pub async fn abort_upload(&self, draft: Draft) -> Result<()> {
        let Effect::UploadEnd { key, upload } = &draft.effect else {
            unreachable!("an abort is drafted as an upload's end")
        };
        let upload = *upload;
        self.state.borrow_mut().begin_ending(draft.bucket, key, upload)?;
        self.append_and_wait(draft).await.inspect_err(|_| self.state.borrow_mut().cancel_ending(upload))
    }

    /// Makes the object of an upload the key's current version and ends the upload.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a chosen part was replaced meanwhile: look again.
    pub async fn complete_upload(
        &self,
        draft: Draft,
        parts: &[ChosenPart],
        precondition: Precondition,
    ) -> Result<()> {
        let Effect::Version { key, meta } = &draft.effect else {
            unreachable!("a completion is drafted as a version")
        };
        let (key, upload) = (key.clone(), meta.meta().upload_id);
        self.check(draft.bucket, &key, precondition).await?;
        {
            let mut state = self.state.borrow_mut();
            state.check_parts(draft.bucket, &key, upload, parts)?;
            state.begin_ending(draft.bucket, &key, upload)?;
        }
        self.append_and_wait(draft).await.inspect_err(|_| self.state.borrow_mut().cancel_ending(upload))
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
        self.state.borrow().upload_body(bucket, key, upload)
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

    /// Objects and bytes of each bucket that has any.
    pub fn usage(&self) -> Vec<(BucketId, BucketUsage)> {
        self.state.borrow().usage()
    }

    /// Versions that the index holds.
    pub fn version_count(&self) -> usize {
        self.state.borrow().version_count()
    }

    /// Closes a bucket for all changes if it holds no object: the first half of deleting it.
    ///
    /// # Errors
    /// [`Error::BucketNotEmpty`].
    pub async fn close_bucket_if_empty(&self, bucket: BucketId) -> Result<()> {
        loop {
            let settled = self.settled.wait();
            match self.state.borrow_mut().close_if_empty(bucket)? {
                state::Closing::Closed => return Ok(()),
                state::Closing::Unsettled => {}
            }
            settled.await;
        }
    }

    /// Opens a bucket again whose deletion failed.
    pub fn reopen_bucket(&self, bucket: BucketId) {
        self.state.borrow_mut().reopen(bucket);
    }

    /// Forgets a bucket that the catalog no longer has, and what its uploads held.
    pub fn drop_bucket(&self, bucket: BucketId) {
        self.state.borrow_mut().drop_bucket(&self.core.store.table, bucket);
    }

    /// After recovery: forgets the buckets that the catalog does not have.
    pub fn retain_buckets(&self, catalog: &Catalog) {
        let dead: Vec<BucketId> =
            self.state.borrow().bucket_ids().filter(|id| !catalog.has_bucket(*id)).collect();
        for bucket in dead {
            self.state.borrow_mut().drop_bucket(&self.core.store.table, bucket);
        }
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
            self.append_and_wait(self.core.draft_catalog(change)?).await?;
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
            self.append(self.core.draft_catalog(CatalogChange::PutBucket(bucket))?)
        };
        match completion {
            // Applied or failed, the name is no longer in the making.
            Ok((_, completion)) => wait(completion).await?,
            Err(error) => {
                self.state.borrow_mut().names_in_making.remove(name);
                return Err(error);
            }
        }
        Ok(self.catalog())
    }

    // -- inside

    /// Checks a precondition against what is committed and queued. A failure that rests on something queued waits for that and looks again.
    async fn check(&self, bucket: BucketId, key: &[u8], precondition: Precondition) -> Result<()> {
        loop {
            self.state.borrow().check_open(bucket)?;
            let (current, pending) = self.state.borrow().current(bucket, key);
            let verdict = match (precondition, current) {
                (Precondition::None, _) | (Precondition::Absent, None) | (Precondition::Present, Some(_)) => {
                    return Ok(());
                }
                (Precondition::ETag(wanted), Some(etag)) if wanted == etag => return Ok(()),
                (Precondition::Absent | Precondition::ETag(_), Some(_)) => Error::PreconditionFailed,
                (Precondition::Present | Precondition::ETag(_), None) => Error::NotFound,
            };
            if pending.is_none() {
                return Err(verdict);
            }
            self.wait_for_key(bucket, key).await;
        }
    }

    /// Waits until the queued change of a key that a decision rests on is durable or has failed.
    async fn wait_for_key(&self, bucket: BucketId, key: &[u8]) {
        loop {
            let settled = self.settled.wait();
            let (_, pending) = self.state.borrow().current(bucket, key);
            if pending.is_none() {
                return;
            }
            settled.await;
        }
    }

    /// Queues a change that was decided on. No await lies between the decision and this.
    fn append(&self, draft: Draft) -> Result<(Lsn, Completion<Result<()>>)> {
        let Draft { bucket, record, effect, pins } = draft;
        let pending = state::pending_of(bucket, &effect);
        let (lsn, completion) = self.log.append(bucket, record, effect, pins)?;
        self.state.borrow_mut().queued(lsn, pending);
        Ok((lsn, completion))
    }

    async fn append_and_wait(&self, draft: Draft) -> Result<()> {
        let (_, completion) = self.append(draft)?;
        wait(completion).await
    }

    /// Whether no change is queued or in flight.
    pub fn is_idle(&self) -> bool {
        self.log.is_idle() && self.state.borrow().is_idle()
    }
}

async fn wait(completion: Completion<Result<()>>) -> Result<()> {
    completion.wait().await.unwrap_or(Err(Error::Stopped))
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
