//! A store on devices in memory that remember, count and fail as told, for the engine's own tests.

#![allow(dead_code, unused_imports, reason = "each test file uses a part of this")]

mod power;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

pub use power::{Crash, Power};

use engine::crypto::{MasterKey, Random, Sealing};
use engine::device::{AlignedBuffer, IoFailure};
use engine::format::body::{ETag, UploadBody, VersionMeta};
use engine::format::record::SealKind;
use engine::format::superblock::Tier;
use engine::ids::{BucketId, NamespaceId, ShardId, UnixMillis, UploadId, UserId, VersionId};
use engine::{
    Catalog, ChosenPart, Content, Core, Device, Error, FormatOptions, Layout, NewPart, NewVersion,
    ObjectWriter, Precondition, Result, Shard, Store, Upkeep, Version,
};

/// The namespace of all tests.
pub const NAMESPACE: NamespaceId = NamespaceId(1);

/// A medium in memory; clones are handles on the same bytes.
#[derive(Clone)]
pub struct MemoryDevice(Rc<Medium>);

struct Medium {
    /// What is durable; without a [`Power`], all that was written.
    bytes: RefCell<Vec<u8>>,
    cache: RefCell<power::Cache>,
    power: RefCell<Option<Rc<Power>>>,
    reads: Cell<u64>,
    writes: Cell<u64>,
    flushes: Cell<u64>,
    fails_reads: RefCell<Option<std::ops::Range<usize>>>,
    fails_writes: Cell<bool>,
    fails_flushes: Cell<bool>,
    fails_next_flush: Cell<bool>,
}

impl MemoryDevice {
    pub fn new(len: usize) -> Self {
        MemoryDevice(Rc::new(Medium {
            bytes: RefCell::new(vec![0; len]),
            cache: RefCell::default(),
            power: RefCell::default(),
            reads: Cell::new(0),
            writes: Cell::new(0),
            flushes: Cell::new(0),
            fails_reads: RefCell::default(),
            fails_writes: Cell::new(false),
            fails_flushes: Cell::new(false),
            fails_next_flush: Cell::new(false),
        }))
    }

    /// How many handles on it there are.
    pub fn handles(&self) -> usize {
        Rc::strong_count(&self.0)
    }

    pub fn reads(&self) -> u64 {
        self.0.reads.get()
    }

    pub fn writes(&self) -> u64 {
        self.0.writes.get()
    }

    pub fn flushes(&self) -> u64 {
        self.0.flushes.get()
    }

    /// Reads that touch those bytes fail.
    pub fn fail_reads(&self, range: std::ops::Range<usize>) {
        *self.0.fails_reads.borrow_mut() = Some(range);
    }

    pub fn fail_writes(&self) {
        self.0.fails_writes.set(true);
    }

    pub fn fail_flushes(&self) {
        self.0.fails_flushes.set(true);
    }

    /// The next flush fails, once, and what was not durable is lost: so do kernels tell of it.
    pub fn fail_next_flush(&self) {
        self.0.fails_next_flush.set(true);
    }

    pub fn heal(&self) {
        *self.0.fails_reads.borrow_mut() = None;
        self.0.fails_writes.set(false);
        self.0.fails_flushes.set(false);
    }

    pub fn with_bytes<T>(&self, f: impl FnOnce(&mut [u8]) -> T) -> T {
        f(&mut self.0.bytes.borrow_mut())
    }

    /// Another device with the same bytes.
    pub fn copy(&self) -> Self {
        let copy = MemoryDevice::new(0);
        *copy.0.bytes.borrow_mut() = self.0.bytes.borrow().clone();
        copy
    }

    pub fn contains(&self, needle: &[u8]) -> bool {
        self.0.bytes.borrow().windows(needle.len()).any(|window| window == needle)
    }
}

const EIO: i32 = 5;

/// Lets other tasks run, as a real device does.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

impl Device for MemoryDevice {
    fn capacity(&self) -> u64 {
        self.0.bytes.borrow().len() as u64
    }

    async fn read(
        &self,
        mut buffer: AlignedBuffer,
        offset: u64,
    ) -> (std::result::Result<(), IoFailure>, AlignedBuffer) {
        self.0.reads.set(self.0.reads.get() + 1);
        self.pass_time().await;
        let range = offset as usize..offset as usize + buffer.len();
        if self
            .0
            .fails_reads
            .borrow()
            .as_ref()
            .is_some_and(|bad| bad.start < range.end && range.start < bad.end)
        {
            return (Err(IoFailure { op: "read", errno: EIO }), buffer);
        }
        let bytes = self.0.bytes.borrow();
        let Some(found) = bytes.get(range) else {
            return (Err(IoFailure { op: "read", errno: EIO }), buffer);
        };
        buffer.copy_from_slice(found);
        self.0.cache.borrow().overlay(offset as usize, &mut buffer);
        (Ok(()), buffer)
    }

    async fn write(&self, buffer: Rc<AlignedBuffer>, offset: u64) -> std::result::Result<(), IoFailure> {
        self.0.writes.set(self.0.writes.get() + 1);
        yield_now().await;
        if self.0.fails_writes.get() {
            return Err(IoFailure { op: "write", errno: EIO });
        }
        if self.0.power.borrow().is_some() {
            self.write_cached(buffer, offset as usize).await;
            return Ok(());
        }
        self.0.bytes.borrow_mut()[offset as usize..offset as usize + buffer.len()].copy_from_slice(&buffer);
        Ok(())
    }

    fn detach(&self, task: futures_util::future::LocalBoxFuture<'static, ()>) {
        DETACHED.with(|tasks| tasks.borrow_mut().push(task));
    }

    async fn flush(&self) -> std::result::Result<(), IoFailure> {
        self.0.flushes.set(self.0.flushes.get() + 1);
        if self.0.fails_next_flush.take() {
            self.forget_cached();
            yield_now().await;
            return Err(IoFailure { op: "flush", errno: EIO });
        }
        yield_now().await;
        if self.0.fails_flushes.get() {
            return Err(IoFailure { op: "flush", errno: EIO });
        }
        if self.0.power.borrow().is_some() {
            self.flush_cache().await;
        }
        Ok(())
    }
}

/// A random source that a seed decides.
pub struct Seeded(pub u64);

impl Seeded {
    /// A number below that one.
    pub fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }
}

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 33) as u8;
        }
    }
}

pub fn master() -> MasterKey {
    MasterKey::new([42; 32])
}

/// Devices of a fresh store.
pub async fn formatted(count: usize, len: usize, copies: u8) -> Vec<MemoryDevice> {
    formatted_with(count, len, copies, 2).await
}

/// The same of a store with that many shards.
pub async fn formatted_with(count: usize, len: usize, copies: u8, shard_count: u16) -> Vec<MemoryDevice> {
    let devices: Vec<MemoryDevice> = (0..count).map(|_| MemoryDevice::new(len)).collect();
    let options = FormatOptions {
        copies,
        shard_count,
        segment_size: Some(1 << 20),
        inline_max: 32 * 1024,
        tiers: vec![Tier::Nvme; count],
    };
    engine::format(&devices, &options, &master(), UnixMillis(1), &mut Seeded(7)).await.expect("formatted");
    devices
}

/// An open store with one bucket.
pub struct TestStore {
    /// The bucket that the methods mean.
    pub bucket_name: &'static str,
    pub devices: Vec<MemoryDevice>,
    pub core: Rc<Core<MemoryDevice>>,
    pub shards: Vec<Rc<Shard<MemoryDevice>>>,
    pub catalog: Arc<Catalog>,
}

impl TestStore {
    /// Opens devices; makes the namespace and the bucket `b` if they are not there.
    pub async fn open(devices: &[MemoryDevice]) -> Result<Self> {
        Self::open_with(devices, SealKind::Aes256Gcm).await
    }

    pub async fn open_with(devices: &[MemoryDevice], seal_kind: SealKind) -> Result<Self> {
        static OPENINGS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let seed = OPENINGS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let store = Store::open(devices, master()).await?;
        let core = Core::new(store, 0, devices.to_vec(), Box::new(Seeded(seed)));
        let mut shards = Vec::new();
        for id in 0..core.store.shard_count {
            let shard = engine::open_shard(core.clone(), ShardId(id), |_| {}).await?;
            compio::runtime::spawn(shard.clone().run()).detach();
            shards.push(shard);
        }
        let mut catalog = shards[0].catalog();
        if catalog.is_empty() {
            shards[0].create_namespace(NAMESPACE, "default", seal_kind).await?;
            catalog = shards[0].create_bucket("b", NAMESPACE, UserId(1), "", UnixMillis(1)).await?;
        }
        shards.iter().for_each(|shard| shard.retain_buckets(&catalog));
        core.store.table.finish_recovery();
        Ok(TestStore { bucket_name: "b", devices: devices.to_vec(), core, shards, catalog })
    }

    pub fn bucket(&self) -> BucketId {
        self.catalog.buckets[self.bucket_name].id
    }

    pub fn home(&self) -> &Rc<Shard<MemoryDevice>> {
        &self.shards[usize::from(self.catalog.buckets[self.bucket_name].home.0)]
    }

    pub fn sealing(&self) -> Sealing {
        self.core.sealing(&self.catalog, NAMESPACE).expect("the namespace is there")
    }

    /// Does all that is to be done in the background.
    pub async fn settle(&self) {
        for shard in &self.shards {
            while shard.upkeep().await.expect("upkeep") == Upkeep::Progressed {}
        }
    }

    pub async fn content(&self, bytes: &[u8], layout: Layout) -> Result<Content> {
        let mut writer = ObjectWriter::new(self.core.clone(), &self.sealing(), bytes.len() as u64, layout)?;
        for piece in bytes.chunks(10_000) {
            writer.write(piece).await?;
        }
        writer.finish().await
    }

    pub async fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.put_if(key, bytes, Precondition::None).await
    }

    pub async fn put_if(&self, key: &str, bytes: &[u8], precondition: Precondition) -> Result<()> {
        let content = self.content(bytes, Layout::InlineIfSmall).await?;
        let draft = self.core.draft_version(&self.sealing(), self.new_version(key, bytes), content)?;
        self.home().put(draft, precondition).await.map(|_| ())
    }

    pub fn new_version(&self, key: &str, bytes: &[u8]) -> NewVersion {
        let pairs = vec![(b"content-type".to_vec(), b"text/plain".to_vec())];
        let meta =
            VersionMeta { etag: etag(bytes), modified: UnixMillis(5), pairs, ..VersionMeta::default() };
        NewVersion { bucket: self.bucket(), key: key.into(), meta }
    }

    pub async fn version(&self, key: &str) -> Result<Version> {
        let lookup = self.home().lookup(self.bucket(), key.as_bytes())?;
        self.core.read_version(lookup, self.bucket(), key.as_bytes()).await?.ok_or(Error::NotFound)
    }

    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let version = self.version(key).await?;
        if let Some(inline) = version.inline() {
            return Ok(inline.to_vec());
        }
        let mut reader = version.reader(&self.core, 0..version.meta.size);
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await? {
            chunk.slices().for_each(|slice| bytes.extend_from_slice(slice));
        }
        Ok(bytes)
    }

    pub async fn delete(&self, key: &str) -> Result<bool> {
        let draft = self.core.draft_tombstone(
            &self.sealing(),
            self.bucket(),
            key.as_bytes(),
            VersionId::Null,
            UnixMillis(6),
        )?;
        self.home().delete(draft, Precondition::None).await
    }

    pub async fn create_upload(&self, key: &str) -> Result<UploadId> {
        let upload_id = self.core.new_upload_id(UnixMillis(7));
        let upload =
            UploadBody { upload_id, key: key.into(), initiated: UnixMillis(7), ..UploadBody::default() };
        self.home().create_upload(self.core.draft_upload(&self.sealing(), self.bucket(), upload)?).await?;
        Ok(upload_id)
    }

    pub async fn put_part(&self, key: &str, upload_id: UploadId, number: u16, bytes: &[u8]) -> Result<()> {
        let content = self.content(bytes, Layout::Frames).await?;
        let mut new = NewPart { bucket: self.bucket(), key: key.into(), upload_id, ..NewPart::default() };
        new.summary.number = number;
        new.summary.md5 = etag(bytes).md5;
        self.home().put_part(self.core.draft_part(&self.sealing(), new, content)?).await
    }

    pub async fn complete(&self, key: &str, upload_id: UploadId) -> Result<()> {
        let view = self.home().upload(self.bucket(), key.as_bytes(), upload_id).await?;
        let chosen: Vec<ChosenPart> = view
            .parts
            .iter()
            .map(|(lsn, part)| ChosenPart { number: part.summary.number, lsn: *lsn })
            .collect();
        let pieces = view.parts.iter().flat_map(|(_, part)| part.pieces.clone()).collect();
        let mut new = self.new_version(key, b"");
        new.meta.upload_id = upload_id;
        new.meta.parts = view.parts.iter().map(|(_, part)| part.summary).collect();
        let draft =
            self.core.draft_version(&self.sealing(), new, Content::Frames { pieces, pins: view.pins })?;
        self.home().complete_upload(draft, &chosen, Precondition::None).await.map(|_| ())
    }

    pub async fn abort(&self, key: &str, upload_id: UploadId) -> Result<()> {
        let draft = self.core.draft_upload_end(&self.sealing(), self.bucket(), key.as_bytes(), upload_id)?;
        self.home().abort_upload(draft).await
    }
}

/// A stand-in for an ETag: the engine never looks into one.
pub fn etag(bytes: &[u8]) -> ETag {
    let mut md5 = [0u8; 16];
    Seeded(bytes.len() as u64 + bytes.iter().map(|b| u64::from(*b)).sum::<u64>()).fill(&mut md5);
    ETag { md5, parts: 0 }
}

/// Bytes that a seed decides.
pub fn data(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Seeded(seed).fill(&mut bytes);
    bytes
}

thread_local! {
    /// What [`run`] works on beside its future.
    static DETACHED: RefCell<Vec<futures_util::future::LocalBoxFuture<'static, ()>>> = RefCell::default();
}

/// Runs a test's future on a runtime.
pub fn run<F: Future>(future: F) -> F::Output {
    let result = compio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            let tasks = DETACHED.take();
            let pending = tasks
                .into_iter()
                .filter_map(|mut task| task.as_mut().poll(context).is_pending().then_some(task));
            let pending: Vec<_> = pending.collect();
            DETACHED.with(|tasks| tasks.borrow_mut().extend(pending));
            polled
        })
        .await
    });
    drop(DETACHED.take());
    result
}
