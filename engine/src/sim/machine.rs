//! The engine as the simulator uses it: the only file here that calls it. Two shards on two cores, plain types in and out.

use std::rc::Rc;

use super::chance::Chance;
use super::device::Device;
use super::executor::Executor;
use super::faults::{Fault, FaultPlan, Faults};
use super::model::Object;
use crate::crypto::{MasterKey, Sealing};
use crate::error::{Error, Result};
use crate::format::body::{ETag, Numbering, UploadBody, VersionMeta};
use crate::format::catalog::{Bucket, CatalogChange};
use crate::format::record::SealKind;
use crate::format::segment::Place;
use crate::format::superblock::Tier;
use crate::ids::{DeviceIndex, NamespaceId, ShardId, UnixMillis, UploadId, UserId, VersionId};
use crate::index::directory::{After, EntryKind, PageQuery, VersionPageQuery};
use crate::{
    ChosenPart, Content, Core, FormatOptions, Layout, NewPart, NewVersion, ObjectReader, ObjectWriter,
    Precondition, Shard, Store, Upkeep, UploadPageQuery, Version, shared_content,
};

/// Shards of every simulated store.
const SHARD_COUNT: u16 = 2;

const NAMESPACE: NamespaceId = NamespaceId(1);

/// Memory for hot records, of each core: a few, so that they come and go.
const RECORD_CACHE_LEN: usize = 64 * 1024;

/// Bytes that a client sends at a time.
const SEND_LEN: usize = 50_000;

/// An object as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its ETag.
    pub etag: [u8; 16],
    /// Its size, as its metadata says.
    pub size: u64,
    /// Its metadata.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// When it was made.
    pub modified: u64,
    /// The part of its content that was asked for.
    pub bytes: Vec<u8>,
}

/// What must hold of a key before it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// It has no object.
    Absent,
    /// It has the object with that ETag.
    Is([u8; 16]),
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Keys with size and ETag.
    pub keys: Vec<(Vec<u8>, u64, [u8; 16])>,
    /// Common prefixes.
    pub prefixes: Vec<Vec<u8>>,
    /// Where the next page begins, when more follow.
    pub next: Option<Position>,
}

/// A position in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// After that key.
    Key(Vec<u8>),
    /// After all keys with that prefix.
    Prefix(Vec<u8>),
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads.
    pub uploads: u64,
}

/// A version as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVersion {
    /// The key.
    pub key: Vec<u8>,
    /// Its id.
    pub id: VersionId,
    /// Its ETag.
    pub etag: [u8; 16],
    /// Whether it is a delete marker.
    pub is_marker: bool,
    /// Whether it is the current version.
    pub is_latest: bool,
}

/// What a process does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Checkpoints, merges and compaction.
    Upkeep,
    /// Nothing.
    None,
}

/// A running process.
pub struct Machine {
    cores: Vec<Rc<Core<Device>>>,
    shards: Vec<Rc<Shard<Device>>>,
}

/// Bytes of a device with that many segments.
pub fn capacity(plan: &FaultPlan) -> u64 {
    let segments = plan.slot_count * plan.segment_size;
    // Superblocks, and a checkpoint area that grows with the device.
    segments + (segments / 128).next_multiple_of(1 << 20) + (2 << 20)
}

/// Makes the store.
pub async fn format(devices: &[Device], plan: &FaultPlan, chance: &mut Chance) -> Result<()> {
    let options = FormatOptions {
        copies: plan.copies,
        shard_count: SHARD_COUNT,
        segment_size: Some(plan.segment_size),
        inline_max: plan.inline_max,
        tiers: vec![Tier::Nvme; devices.len()],
    };
    crate::format(devices, &options, &master(), UnixMillis(1), chance).await.map(|_| ())
}

/// The key of every simulated store.
pub fn master() -> MasterKey {
    MasterKey::new([42; 32])
}

impl Machine {
    /// Opens the store on those devices, in any order.
    pub async fn open(
        devices: &[Device],
        executor: &Executor,
        faults: &Rc<Faults>,
        background: Background,
        chance: &mut Chance,
    ) -> Result<Self> {
        let store = Store::open(devices, master()).await?;
        let cores: Vec<_> = (0..2)
            .map(|number| {
                let core = Core::new(store.clone(), number, devices.to_vec(), Box::new(chance.fork()));
                core.record_cache.set_budget(RECORD_CACHE_LEN);
                core
            })
            .collect();
        let mut shards = Vec::new();
        for id in 0..store.shard_count {
            let core = cores[usize::from(id) % cores.len()].clone();
            shards.push(crate::open_shard(core, ShardId(id), |_| {}).await?);
        }
        let catalog = shards[0].catalog();
        shards.iter().for_each(|shard| shard.retain_buckets(&catalog));
        store.table.finish_recovery();
        for shard in &shards {
            executor.spawn(shard.clone().run());
            if background == Background::None {
                continue;
            }
            executor.spawn(keep_up(shard.clone(), faults.clone(), executor.clone(), chance.fork()));
        }
        Ok(Machine { cores, shards })
    }

    /// Makes the namespace, if it is not there.
    pub async fn set_up(&self) -> Result<()> {
        let catalog = &self.shards[0];
        if catalog.catalog().is_empty() {
            catalog.create_namespace(NAMESPACE, "default", SealKind::Aes256Gcm).await?;
        }
        Ok(())
    }

    /// Whether any device takes writes. Where none does, a start could not make durable what it found at the end of the log.
    pub fn takes_writes(&self) -> bool {
        let store = &self.cores[0].store;
        let mut devices = (0..store.devices.len()).map(|device| DeviceIndex(device as u16));
        devices.any(|device| store.table.takes_writes(&[Place { device, slot: 0 }]))
    }

    /// Stops taking changes.
    pub fn stop(&self) {
        self.shards.iter().for_each(|shard| shard.stop());
    }

    /// Whether no change is queued or in flight.
    pub fn is_idle(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_idle())
    }

    /// Names of the buckets.
    pub fn buckets(&self) -> Vec<String> {
        self.shards[0].catalog().buckets.keys().cloned().collect()
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        self.shards[0].create_bucket(name, NAMESPACE, UserId(1), "", UnixMillis(1)).await.map(|_| ())
    }

    /// Removes an empty bucket, as a node does.
    pub async fn remove_bucket(&self, name: &str) -> Result<()> {
        let bucket = self.bucket(name)?;
        let home = self.home(&bucket);
        home.close_bucket_if_empty(bucket.id).await?;
        let removed = self.shards[0].change_catalog(vec![CatalogChange::RemoveBucket(bucket.id)]).await;
        match removed {
            Ok(_) => home.drop_bucket(bucket.id),
            Err(_) => home.reopen_bucket(bucket.id),
        }
        removed.map(|_| ())
    }

    /// Puts an object through that core.
    pub async fn put(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        object: &Object,
        condition: Condition,
    ) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        let content = self.take_in(core, &object.bytes(), Layout::InlineIfSmall).await?;
        let new = NewVersion { bucket: bucket.id, key: key.to_vec(), meta: meta(object) };
        let draft = self.cores[core].draft_version(&self.sealing()?, new, content)?;
        self.home(&bucket).put(draft, precondition(condition)).await.map(|_| ())
    }

    /// Gets the object of a key, or the part of its bytes between those fractions (of 1000) of its length.
    pub async fn get(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        range: (u64, u64),
        pace: &Pace,
    ) -> Result<Option<Found>> {
        let version = match self.version(core, bucket, key).await {
            Err(Error::NotFound) => return Ok(None),
            other => other?,
        };
        pace.pause().await;
        let size = version.meta.size;
        let range = size * range.0 / 1000..size * range.1 / 1000;
        let bytes = match version.inline() {
            Some(inline) => inline[range.start as usize..range.end as usize].to_vec(),
            None => collect(version.reader(&self.cores[core], range), pace).await?,
        };
        Ok(Some(found(&version.meta, bytes)))
    }

    /// Puts a version.
    pub async fn put_version(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        object: &Object,
        numbering: Numbering,
    ) -> Result<VersionId> {
        let bucket = self.bucket(bucket)?;
        let content = self.take_in(core, &object.bytes(), Layout::InlineIfSmall).await?;
        let meta = VersionMeta { numbering, ..meta(object) };
        let new = NewVersion { bucket: bucket.id, key: key.to_vec(), meta };
        let draft = self.cores[core].draft_version(&self.sealing()?, new, content)?;
        self.home(&bucket).put(draft, Precondition::None).await
    }

    /// Puts a delete marker.
    pub async fn put_marker(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        object: &Object,
        numbering: Numbering,
    ) -> Result<VersionId> {
        let bucket = self.bucket(bucket)?;
        let meta = VersionMeta { numbering, ..meta(object) };
        let new = NewVersion { bucket: bucket.id, key: key.to_vec(), meta };
        let draft = self.cores[core].draft_marker(&self.sealing()?, new)?;
        self.home(&bucket).put(draft, Precondition::None).await
    }

    /// Removes a version; whether it was there.
    pub async fn remove_version(&self, core: usize, bucket: &str, key: &[u8], id: VersionId) -> Result<bool> {
        let bucket = self.bucket(bucket)?;
        let draft = self.cores[core].draft_tombstone(&self.sealing()?, bucket.id, key, id, UnixMillis(6))?;
        self.home(&bucket).delete(draft, Precondition::None).await
    }

    /// Removes all versions of a bucket.
    pub async fn empty_bucket(&self, bucket: &str) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        self.home(&bucket).empty_bucket(bucket.id).await
    }

    /// Gets a version by its id, or the current one; `None` when there is none or it is a delete marker.
    pub async fn get_version(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        id: Option<VersionId>,
    ) -> Result<Option<Found>> {
        let of = self.bucket(bucket)?;
        let version = loop {
            let lookup = match id {
                Some(id) => self.home(&of).lookup_version(of.id, key, id),
                None => self.home(&of).lookup(of.id, key),
            };
            let lookup = match lookup {
                Err(Error::NotFound) => return Ok(None),
                other => other?,
            };
            match self.cores[core].read_version(lookup, of.id, key).await {
                Err(Error::Conflict) => {}
                other => break other?,
            }
        };
        let Some(version) = version else { return Ok(None) };
        let bytes = match version.inline() {
            Some(inline) => inline.to_vec(),
            None => collect(version.reader(&self.cores[core], 0..version.meta.size), &Pace::FAST).await?,
        };
        Ok(Some(found(&version.meta, bytes)))
    }

    /// All versions of a bucket, read page by page.
    pub async fn list_versions(&self, bucket: &str, max: usize) -> Result<Vec<FoundVersion>> {
        let bucket = self.bucket(bucket)?;
        let mut query = VersionPageQuery { max, ..VersionPageQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = self.home(&bucket).version_page(bucket.id, &query).await?;
            found.extend(page.versions.into_iter().map(|version| FoundVersion {
                key: version.key,
                id: version.version,
                etag: version.listed.etag.md5,
                is_marker: version.kind == EntryKind::Marker,
                is_latest: version.is_latest,
            }));
            match page.next_after {
                Some(after) => query.after = after,
                None => return Ok(found),
            }
        }
    }

    /// Objects, versions and bytes of a bucket by the engine's own count.
    pub fn version_usage(&self, bucket: &str) -> Result<(u64, u64, u64)> {
        let bucket = self.bucket(bucket)?;
        let all = self.home(&bucket).usage();
        let of = all.into_iter().find(|(id, _)| *id == bucket.id).map(|(_, usage)| usage).unwrap_or_default();
        Ok((of.objects, of.versions, of.bytes))
    }

    /// Removes a key; whether it was there.
    pub async fn delete(&self, core: usize, bucket: &str, key: &[u8]) -> Result<bool> {
        let bucket = self.bucket(bucket)?;
        let draft = self.cores[core].draft_tombstone(
            &self.sealing()?,
            bucket.id,
            key,
            VersionId::Null,
            UnixMillis(6),
        )?;
        self.home(&bucket).delete(draft, Precondition::None).await
    }

    /// The first half of a copy: the object that will be copied, its content shared or in memory.
    pub async fn copy_source(&self, core: usize, bucket: &str, key: &[u8]) -> Result<Option<Source>> {
        let version = match self.version(core, bucket, key).await {
            Err(Error::NotFound) => return Ok(None),
            other => other?,
        };
        let content = match version.inline() {
            Some(inline) => Content::Inline(inline.to_vec()),
            None => shared_content(&version.pieces, &version.pins),
        };
        Ok(Some(Source { etag: version.meta.etag.md5, content }))
    }

    /// The second half of a copy.
    pub async fn copy_to(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        source: Source,
        object: &Object,
    ) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        let new = NewVersion { bucket: bucket.id, key: key.to_vec(), meta: meta(object) };
        let draft = self.cores[core].draft_version(&self.sealing()?, new, source.content)?;
        self.home(&bucket).put(draft, Precondition::None).await.map(|_| ())
    }

    /// A page of a bucket's keys.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &[u8],
        delimiter: &[u8],
        after: Option<Position>,
        max: usize,
    ) -> Result<Listing> {
        let bucket = self.bucket(bucket)?;
        let after = match after {
            None => After::Nothing,
            Some(Position::Key(key)) => After::Key(key),
            Some(Position::Prefix(prefix)) => After::CommonPrefix(prefix),
        };
        let query = PageQuery { prefix: prefix.to_vec(), delimiter: delimiter.to_vec(), after, max };
        let page = self.home(&bucket).page(bucket.id, &query).await?;
        Ok(Listing {
            keys: page.entries.into_iter().map(|(key, listed)| (key, listed.size, listed.etag.md5)).collect(),
            prefixes: page.common_prefixes,
            next: page.next_after.and_then(|after| match after {
                After::Nothing => None,
                After::Key(key) => Some(Position::Key(key)),
                After::CommonPrefix(prefix) => Some(Position::Prefix(prefix)),
            }),
        })
    }

    /// A fresh upload id.
    pub fn new_upload_id(&self, core: usize) -> [u8; 16] {
        self.cores[core].new_upload_id(UnixMillis(7)).0
    }

    /// Begins an upload.
    pub async fn create_upload(&self, core: usize, bucket: &str, key: &[u8], id: [u8; 16]) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        let upload = UploadBody {
            upload_id: UploadId(id),
            key: key.to_vec(),
            initiated: UnixMillis(7),
            ..UploadBody::default()
        };
        let draft = self.cores[core].draft_upload(&self.sealing()?, bucket.id, upload)?;
        self.home(&bucket).create_upload(draft).await
    }

    /// Puts a part.
    pub async fn put_part(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        id: [u8; 16],
        number: u16,
        part: &Object,
    ) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        let content = self.take_in(core, &part.bytes(), Layout::Frames).await?;
        let mut new =
            NewPart { bucket: bucket.id, key: key.to_vec(), upload_id: UploadId(id), ..NewPart::default() };
        new.summary.number = number;
        new.summary.md5 = part.etag;
        self.home(&bucket).put_part(self.cores[core].draft_part(&self.sealing()?, new, content)?).await
    }

    /// The parts of an upload, with their bytes if they are wanted.
    pub async fn parts(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        id: [u8; 16],
    ) -> Result<Vec<(u16, Found)>> {
        let bucket = self.bucket(bucket)?;
        let view = self.home(&bucket).upload(bucket.id, key, UploadId(id)).await?;
        let mut parts = Vec::new();
        for (_, part) in &view.parts {
            let len = part.pieces.iter().map(|piece| piece.len).sum();
            let reader = ObjectReader::new(self.cores[core].clone(), Rc::new(part.pieces.clone()), 0..len);
            let meta = VersionMeta {
                size: part.summary.size,
                etag: ETag { md5: part.summary.md5, parts: 0 },
                ..VersionMeta::default()
            };
            parts.push((part.summary.number, found(&meta, collect(reader, &Pace::FAST).await?)));
        }
        Ok(parts)
    }

    /// Makes an object of all parts of an upload.
    pub async fn complete(
        &self,
        core: usize,
        bucket: &str,
        key: &[u8],
        id: [u8; 16],
        object: &Object,
    ) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        let view = self.home(&bucket).upload(bucket.id, key, UploadId(id)).await?;
        let chosen: Vec<ChosenPart> = view
            .parts
            .iter()
            .map(|(lsn, part)| ChosenPart { number: part.summary.number, lsn: *lsn })
            .collect();
        let pieces = view.parts.iter().flat_map(|(_, part)| part.pieces.clone()).collect();
        let mut meta = meta(object);
        meta.upload_id = UploadId(id);
        meta.parts = view.parts.iter().map(|(_, part)| part.summary).collect();
        let new = NewVersion { bucket: bucket.id, key: key.to_vec(), meta };
        let content = Content::Frames { pieces, pins: view.pins };
        let draft = self.cores[core].draft_version(&self.sealing()?, new, content)?;
        self.home(&bucket).complete_upload(draft, &chosen, Precondition::None).await.map(|_| ())
    }

    /// Gives an upload up.
    pub async fn abort(&self, core: usize, bucket: &str, key: &[u8], id: [u8; 16]) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        let draft = self.cores[core].draft_upload_end(&self.sealing()?, bucket.id, key, UploadId(id))?;
        self.home(&bucket).abort_upload(draft).await
    }

    /// Keys and ids of a bucket's uploads.
    pub fn uploads(&self, bucket: &str) -> Result<Vec<(Vec<u8>, [u8; 16])>> {
        let bucket = self.bucket(bucket)?;
        let query = UploadPageQuery { max: 1000, ..UploadPageQuery::default() };
        let page = self.home(&bucket).upload_page(bucket.id, &query)?;
        Ok(page.uploads.into_iter().map(|upload| (upload.key, upload.upload_id.0)).collect())
    }

    /// What a bucket holds by the engine's own count.
    pub fn usage(&self, bucket: &str) -> Result<Usage> {
        let bucket = self.bucket(bucket)?;
        let all = self.home(&bucket).usage();
        let of = all.into_iter().find(|(id, _)| *id == bucket.id).map(|(_, usage)| usage).unwrap_or_default();
        Ok(Usage { objects: of.objects, bytes: of.bytes, uploads: of.uploads })
    }

    // -- inside

    fn bucket(&self, name: &str) -> Result<Bucket> {
        self.shards[0]
            .catalog()
            .buckets
            .get(name)
            .map(|bucket| (**bucket).clone())
            .ok_or(Error::BucketNotFound)
    }

    fn home(&self, bucket: &Bucket) -> &Rc<Shard<Device>> {
        &self.shards[usize::from(bucket.home.0)]
    }

    fn sealing(&self) -> Result<Sealing> {
        self.cores[0].sealing(&self.shards[0].catalog(), NAMESPACE)
    }

    async fn take_in(&self, core: usize, bytes: &[u8], layout: Layout) -> Result<Content> {
        let core = self.cores[core].clone();
        let mut writer = ObjectWriter::new(core, &self.sealing()?, bytes.len() as u64, layout)?;
        for piece in bytes.chunks(SEND_LEN) {
            writer.write(piece).await?;
        }
        writer.finish().await
    }

    async fn version(&self, core: usize, bucket: &str, key: &[u8]) -> Result<Version> {
        let bucket = self.bucket(bucket)?;
        loop {
            let lookup = self.home(&bucket).lookup(bucket.id, key)?;
            match self.cores[core].read_version(lookup, bucket.id, key).await {
                // It was replaced or moved meanwhile.
                Err(Error::Conflict) => {}
                other => return other?.ok_or(Error::NotFound),
            }
        }
    }
}

/// The work in the background of a shard, as a node drives it, but in some sessions with checkpoints far more often than they are due.
async fn keep_up(shard: Rc<Shard<Device>>, faults: Rc<Faults>, executor: Executor, mut chance: Chance) {
    // Where there are none, everything rests on the log.
    let checkpoints_in_100 = *chance.pick(&[0, 0, 3, 12, 40]);
    loop {
        executor.sleep(chance.below(UPKEEP_PAUSE_MAX)).await;
        let done = if chance.below(100) < checkpoints_in_100 {
            shard.checkpoint().await.map(|()| Upkeep::Progressed)
        } else {
            shard.upkeep().await
        };
        let counters = &shard.core().counters;
        for (counter, fault) in [
            (&counters.checkpoints, Fault::Checkpoint),
            (&counters.merges, Fault::Merge),
            (&counters.relocated_bytes, Fault::Compaction),
            (&counters.relocated_extents, Fault::BulkCompaction),
        ] {
            if counter.value() > 0 {
                faults.saw(fault);
            }
        }
        match done {
            Ok(_) | Err(Error::Full | Error::ReadOnly | Error::Fenced { .. } | Error::Io { .. }) => {}
            Err(Error::Stopped) => return,
            Err(error) => panic!("upkeep: {error:?}"),
        }
    }
}

/// Nanoseconds between two pieces of work in the background, at most.
const UPKEEP_PAUSE_MAX: u64 = 2_000_000;

/// How fast a client takes in what it reads.
pub struct Pace(Option<(Executor, u64)>);

impl Pace {
    /// As fast as it comes.
    pub const FAST: Pace = Pace(None);

    /// With a pause of so many nanoseconds before each chunk.
    pub fn slow(executor: &Executor, pause: u64) -> Self {
        Pace(Some((executor.clone(), pause)))
    }

    async fn pause(&self) {
        if let Some((executor, pause)) = &self.0 {
            executor.sleep(*pause).await;
        }
    }
}

/// What a copy takes from its source.
pub struct Source {
    /// The ETag of the source.
    pub etag: [u8; 16],
    content: Content,
}

fn meta(object: &Object) -> VersionMeta {
    VersionMeta {
        etag: ETag { md5: object.etag, parts: 0 },
        modified: UnixMillis(object.modified),
        pairs: object.pairs.clone(),
        ..VersionMeta::default()
    }
}

fn found(meta: &VersionMeta, bytes: Vec<u8>) -> Found {
    Found {
        etag: meta.etag.md5,
        size: meta.size,
        pairs: meta.pairs.clone(),
        modified: meta.modified.0,
        bytes,
    }
}

fn precondition(condition: Condition) -> Precondition {
    match condition {
        Condition::None => Precondition::None,
        Condition::Absent => Precondition::Absent,
        Condition::Is(md5) => Precondition::ETag(ETag { md5, parts: 0 }),
    }
}

async fn collect(mut reader: ObjectReader<Device>, pace: &Pace) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next().await? {
        chunk.slices().for_each(|slice| bytes.extend_from_slice(slice));
        pace.pause().await;
    }
    Ok(bytes)
}
