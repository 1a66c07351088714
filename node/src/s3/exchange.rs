//! One authenticated request while it is served: who asks, and what the node knows at that moment.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use engine::crypto::Sealing;
use engine::format::catalog::{Bucket, User};
use engine::format::record::SealKind;
use engine::ids::{ShardId, UnixMillis, UploadId};
use engine::{Catalog, Draft, Error as EngineError, Lookup, Version};
use proto_s3::condition::WriteCondition;
use proto_s3::http::RequestHead;
use proto_s3::op::{Encryption, Owner};
use proto_s3::{Code, Error, Limits};

use super::body::admit;
use super::error::{Outcome, Refusal, no_such_bucket, no_such_key, no_such_upload};
use super::object_meta::{self, StoredObject};
use crate::budget::Permit;
use crate::rates::Leave;
use crate::service::S3Service;
use crate::stopwatch::{Stage, Stopwatch};
use crate::storage::{EngineCore, EngineShard};

/// How often an object is looked up that is replaced or moved each time before it is read. Each time a change of the key has been committed in between.
const LOOKUPS_MAX: usize = 100;

/// A request of a known user.
pub(super) struct Exchange {
    /// The core's service.
    pub(super) service: Rc<S3Service>,
    /// The catalog when the request began.
    pub(super) catalog: Arc<Catalog>,
    /// Who asks.
    pub(super) user: Arc<User>,
    /// The head of the request.
    pub(super) head: Rc<RequestHead>,
    /// When it began.
    pub(super) now: UnixMillis,
    /// Whether it came over TLS.
    pub(super) is_tls: bool,
    /// Where its time goes.
    pub(super) watch: Rc<Stopwatch>,
    /// Leave to be worked for.
    pub(super) leave: Rc<Leave>,
}

impl Exchange {
    /// The limits of the node.
    pub(super) fn limits(&self) -> &Limits {
        &self.service.config.limits
    }

    /// The bucket, if it is the user's.
    pub(super) fn bucket(&self, name: &str) -> Result<Arc<Bucket>, Error> {
        let bucket = self.catalog.buckets.get(name).ok_or_else(|| no_such_bucket(name))?;
        if bucket.owner != self.user.id {
            return Err(Code::AccessDenied.into());
        }
        Ok(bucket.clone())
    }

    /// The user, as documents name it.
    pub(super) fn owner(&self) -> Owner {
        object_meta::owner(&self.user)
    }

    /// How new data of a bucket is sealed.
    pub(super) fn sealing(&self, bucket: &Bucket) -> Outcome<Sealing> {
        Ok(self.service.core().sealing(&self.catalog, bucket.namespace)?)
    }

    /// Whether objects of a bucket are encrypted at rest.
    pub(super) fn encryption(&self, bucket: &Bucket) -> Encryption {
        match self.catalog.namespaces.get(&bucket.namespace).map(|namespace| namespace.seal_kind) {
            Some(SealKind::Aes256Gcm) => Encryption::Aes256,
            Some(SealKind::Checksum) | None => Encryption::None,
        }
    }

    /// Asks the home shard of a bucket.
    pub(super) async fn at_home<R, F, Fut>(&self, bucket: &Bucket, ask: F) -> Outcome<engine::Result<R>>
    where
        R: Send + 'static,
        F: FnOnce(Rc<EngineShard>) -> Fut + Send + 'static,
        Fut: Future<Output = engine::Result<R>> + 'static,
    {
        self.on_shard(bucket.home, ask).await
    }

    /// Asks a shard. What it waits for there are devices; until it has its turn, and the answer is here, the request waits for another core.
    pub(super) async fn on_shard<R, F, Fut>(&self, shard: ShardId, ask: F) -> Outcome<R>
    where
        R: Send + 'static,
        F: FnOnce(Rc<EngineShard>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
    {
        self.watched(shard, async move |shard, watch| {
            watch.wait(Stage::Device, Stage::Other, ask(shard)).await
        })
        .await
    }

    /// Asks a shard, with a stopwatch for what it does there.
    async fn watched<R, F>(&self, shard: ShardId, ask: F) -> Outcome<R>
    where
        R: Send + 'static,
        F: AsyncFnOnce(Rc<EngineShard>, &Stopwatch) -> R + Send + 'static,
    {
        let call = move |shard| async move {
            let watch = Stopwatch::begun();
            let answer = ask(shard, &watch).await;
            (answer, watch.stop())
        };
        let asked = self.service.on_shard(shard, call);
        let (answer, there) = self.watch.wait(Stage::Queue, Stage::Other, asked).await?;
        self.watch.recount(Stage::Queue, Stage::Device, there.nanos(Stage::Device));
        Ok(answer)
    }

    /// Gives every core the catalog.
    pub(super) async fn publish(&self, catalog: Arc<Catalog>) -> Outcome<()> {
        Ok(self.watch.wait(Stage::Queue, Stage::Other, self.service.publish(catalog)).await?)
    }

    /// Has the engine seal something.
    pub(super) fn seal<T>(&self, seal: impl FnOnce(&EngineCore) -> T) -> T {
        let former = self.watch.enter(Stage::Crypto);
        let sealed = seal(self.service.core());
        self.watch.enter(former);
        sealed
    }

    /// Leave to hold body bytes.
    pub(super) async fn admit(&self, bytes: u64) -> Outcome<Permit> {
        admit(&self.service, &self.watch, bytes).await
    }

    /// Asks the home shard of a bucket to take in new data, once there is space for it.
    pub(super) async fn store_at_home<R, F>(
        &self,
        bucket: &Bucket,
        draft: Draft,
        store: F,
    ) -> Outcome<engine::Result<R>>
    where
        R: Send + 'static,
        F: AsyncFnOnce(Rc<EngineShard>, Draft) -> engine::Result<R> + Send + 'static,
    {
        let mut patience = self.service.space().patience();
        let _committing = self.leave.commit();
        self.watched(bucket.home, async move |shard, watch| {
            let admitted = patience.attempt(async || shard.admit(&draft));
            watch.wait(Stage::Queue, Stage::Other, admitted).await?;
            // Nothing lies between having been let in and the shard's own look.
            watch.wait(Stage::Device, Stage::Other, store(shard, draft)).await
        })
        .await
    }

    /// An object as it is now. `NoSuchKey` when there is none.
    pub(super) async fn object(&self, bucket: &Bucket, key: &str) -> Outcome<StoredObject> {
        let version = self.version(bucket, key).await?.ok_or_else(|| no_such_key(key))?;
        Ok(StoredObject::new(version, self.encryption(bucket)))
    }

    /// A key's object; `None` when there is none. One that is replaced or moved between being looked up and read is looked up again.
    async fn version(&self, bucket: &Bucket, key: &str) -> Outcome<Option<Version>> {
        for _ in 0..LOOKUPS_MAX {
            let lookup = match self.lookup(bucket, key).await? {
                Err(EngineError::NotFound) => return Ok(None),
                other => other?,
            };
            let read = pin!(self.service.core().read_version(lookup, bucket.id, key.as_bytes()));
            match self.watch.wait(Stage::Device, Stage::Crypto, read).await {
                Err(EngineError::Conflict) => {}
                other => return Ok(other?),
            }
        }
        Err(Refusal { error: Error::new(Code::SlowDown), cause: Some(EngineError::Conflict) })
    }

    async fn lookup(&self, bucket: &Bucket, key: &str) -> Outcome<engine::Result<Lookup>> {
        if let Some(shard) = self.service.local_shard(bucket.home) {
            return Ok(shard.lookup(bucket.id, key.as_bytes()));
        }
        let (id, wanted) = (bucket.id, key.as_bytes().to_vec());
        // It waits for no device.
        let asked = self.service.on_shard(bucket.home, move |shard| async move { shard.lookup(id, &wanted) });
        Ok(self.watch.wait(Stage::Queue, Stage::Other, asked).await?)
    }

    /// Refuses a conditional write that cannot succeed as things are, before its body is taken in. The home shard decides again, for good, when
    /// the write is made.
    pub(super) async fn check_early(
        &self,
        bucket: &Bucket,
        key: &str,
        condition: WriteCondition,
    ) -> Outcome<()> {
        if condition == WriteCondition::None {
            return Ok(());
        }
        match (self.version(bucket, key).await?, condition) {
            (Some(_), WriteCondition::Absent) => {
                Err(Refusal::of_write(EngineError::PreconditionFailed, condition, key))
            }
            (Some(_), _) | (None, WriteCondition::Absent) => Ok(()),
            (None, _) => Err(Refusal::of_write(EngineError::NotFound, condition, key)),
        }
    }
}

/// The upload of that name. `NoSuchUpload` when it is none of ours.
pub(super) fn upload_id(text: &str) -> Result<UploadId, Error> {
    UploadId::parse(text).filter(|id| *id != UploadId::NONE).ok_or_else(|| no_such_upload(text))
}
