//! A store on a file that is read and written as a node does it: with O_DIRECT through io_uring.

#![allow(dead_code, reason = "each bench uses a part of this")]

use std::cell::Cell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::crypto::{MasterKey, Sealing, SystemRandom};
use engine::device::{DeviceFile, UringDevice};
use engine::format::body::{ETag, VersionMeta};
use engine::format::record::SealKind;
use engine::format::superblock::Tier;
use engine::ids::{BucketId, NamespaceId, ShardId, UnixMillis, UserId};
use engine::{
    Catalog, Core, Error, FormatOptions, Layout, NewVersion, ObjectWriter, Precondition, Result, Shard,
    Store, Upkeep, Version,
};

const NAMESPACE: NamespaceId = NamespaceId(1);
const BUCKET: &str = "b";

/// How long work in the background rests after a piece of work: as in a node, less when space is scarce.
const REST: Duration = Duration::from_millis(10);
const REST_SCARCE: Duration = Duration::from_millis(1);

/// And how long when there is none.
const REST_IDLE: Duration = Duration::from_millis(20);

/// Time between two attempts of a put for which there is no space.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// Attempts until the store counts as full.
const REFUSALS_MAX: u64 = 3000;

// -- the command line

/// What a bench was started for.
pub enum Mode {
    /// To measure.
    Measure,
    /// To run once on a tiny input, so that it does not rot.
    Test,
}

/// Tells why it was started; answers those who ask which tests there are (`cargo nextest`), for which it counts as one.
pub fn mode(name: &str) -> Option<Mode> {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    if has("--list") {
        if !has("--ignored") {
            say(&format!("{name}: test"));
        }
        return None;
    }
    Some(if has("--bench") { Mode::Measure } else { Mode::Test })
}

/// The value of an option.
pub fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

/// The number that an option gives. One that is none ends the process.
#[expect(clippy::print_stderr, reason = "a command line answers on standard error")]
pub fn number(name: &str) -> Option<u64> {
    option(name).map(|text| match text.parse() {
        Ok(number) if number > 0 => number,
        _ => {
            eprintln!("{name} takes a number from 1 on");
            std::process::exit(2);
        }
    })
}

/// Figures are what a bench is for.
#[expect(clippy::print_stdout, reason = "figures are what a bench is for")]
pub fn say(line: &str) {
    println!("{line}");
}

// -- a device

/// A file that serves as a device, gone when this is dropped.
pub struct DevicePath(PathBuf);

impl DevicePath {
    /// A place for one, in `bench` of cargo's target folder.
    pub fn new(name: &str) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target folder");
        let dir = target.join("bench");
        std::fs::create_dir_all(&dir).expect("a folder for devices");
        DevicePath(dir.join(format!("{name}-{}", std::process::id())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for DevicePath {
    fn drop(&mut self) {
        // What was never made can't be removed.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a future on a runtime with a ring.
pub fn run<F: Future>(future: F) -> F::Output {
    compio::runtime::Runtime::new().expect("a runtime").block_on(future)
}

fn master() -> MasterKey {
    MasterKey::new([42; 32])
}

/// Lays a device out.
pub async fn format(device: &DeviceFile, shard_count: u16, segment_size: Option<u64>) {
    let options = FormatOptions {
        copies: 1,
        shard_count,
        segment_size,
        inline_max: 32 * 1024,
        tiers: vec![Tier::Nvme],
    };
    let devices = [device.attach().expect("attached")];
    engine::format(&devices, &options, &master(), UnixMillis(1), &mut SystemRandom).await.expect("formatted");
}

// -- a store

/// An open store with one bucket, all of it on one core.
pub struct OpenStore {
    pub core: Rc<Core<UringDevice>>,
    pub shards: Vec<Rc<Shard<UringDevice>>>,
    pub catalog: Arc<Catalog>,
    sealing: Sealing,
    bucket: BucketId,
    home: usize,
    is_closing: Rc<Cell<bool>>,
    logs: Vec<compio::runtime::JoinHandle<()>>,
    upkeep: Vec<compio::runtime::JoinHandle<()>>,
    /// Time from the first read of the device until it serves.
    pub opened_in: Duration,
    /// Of that, time on the processor.
    pub opened_cpu: Duration,
    /// Records of the log that were applied.
    pub replayed: u64,
}

impl OpenStore {
    /// Opens a device that was formatted; makes the bucket if it is not there.
    pub async fn open(device: &DeviceFile) -> Self {
        let (began, cpu) = (Instant::now(), cpu_time());
        let devices = [device.attach().expect("attached")];
        let store = Store::open(&devices, master()).await.expect("opened");
        let core = Core::new(store, 0, devices.into(), Box::new(SystemRandom));
        let (mut shards, mut replayed) = (Vec::new(), 0);
        for id in 0..core.store.shard_count {
            let mut records = 0;
            let progress = |progress: engine::Progress| records = progress.records;
            shards.push(engine::open_shard(core.clone(), ShardId(id), progress).await.expect("opened"));
            replayed += records;
        }
        core.store.table.finish_recovery();
        let (opened_in, opened_cpu) = (began.elapsed(), cpu_time().saturating_sub(cpu));
        let logs = shards.iter().map(|shard| compio::runtime::spawn(shard.clone().run())).collect::<Vec<_>>();
        let catalog = with_bucket(&shards[0]).await.expect("a bucket");
        let sealing = core.sealing(&catalog, NAMESPACE).expect("the namespace is there");
        let (bucket, home) = (catalog.buckets[BUCKET].id, usize::from(catalog.buckets[BUCKET].home.0));
        let is_closing = Rc::default();
        OpenStore {
            core,
            shards,
            catalog,
            sealing,
            bucket,
            home,
            is_closing,
            logs,
            upkeep: Vec::new(),
            opened_in,
            opened_cpu,
            replayed,
        }
    }

    /// The shard of the bucket.
    pub fn home(&self) -> &Rc<Shard<UringDevice>> {
        &self.shards[self.home]
    }

    pub fn bucket(&self) -> BucketId {
        self.bucket
    }

    /// Does the work in the background until [`OpenStore::close`], as a node does: whatever there is, and a rest when there is none.
    pub fn begin_upkeep(&mut self) {
        for shard in self.shards.clone() {
            let (is_closing, table) = (self.is_closing.clone(), self.core.store.table.clone());
            self.upkeep.push(compio::runtime::spawn(async move {
                while !is_closing.get() {
                    match shard.upkeep().await {
                        Ok(Upkeep::Progressed) => {
                            let counts = table.counts();
                            let is_scarce = counts.free <= 2 * counts.reserve;
                            compio::time::sleep(if is_scarce { REST_SCARCE } else { REST }).await;
                        }
                        Ok(Upkeep::Idle) | Err(Error::Full) => compio::time::sleep(REST_IDLE).await,
                        Err(error) => panic!("work in the background failed: {error}"),
                    }
                }
            }));
        }
    }

    /// Ends the work in the background when there is nothing left to be done.
    pub async fn settle(&mut self) {
        self.is_closing.set(true);
        for task in self.upkeep.drain(..) {
            task.await.expect("work in the background");
        }
        self.is_closing.set(false);
        for shard in &self.shards {
            while shard.upkeep().await.expect("work in the background") == Upkeep::Progressed {}
        }
    }

    /// Shuts down in order: what is begun is ended, and a checkpoint made.
    pub async fn close(mut self) {
        self.is_closing.set(true);
        for shard in &self.shards {
            shard.checkpoint().await.expect("a checkpoint");
            shard.stop();
        }
        for task in self.upkeep.drain(..).chain(self.logs.drain(..)) {
            task.await.expect("a task of the store");
        }
    }

    /// Puts an object; waits for space like a node. How often it was refused.
    ///
    /// # Errors
    /// [`Error::Full`] when it was refused so often that nothing can be hoped for.
    pub async fn put(&self, key: &[u8], bytes: &[u8]) -> Result<u64> {
        let mut refused = 0;
        loop {
            match self.try_put(key, bytes, &mut refused).await {
                Err(Error::Full) if refused < REFUSALS_MAX => wait_for_space(&mut refused).await?,
                other => return other.map(|()| refused),
            }
        }
    }

    async fn try_put(&self, key: &[u8], mut bytes: &[u8], refused: &mut u64) -> Result<()> {
        let (core, len) = (&self.core, bytes.len() as u64);
        let mut writer = ObjectWriter::new(core.clone(), &self.sealing, len, Layout::InlineIfSmall)?;
        while !bytes.is_empty() {
            match writer.take(bytes).await {
                Ok(taken) => bytes = &bytes[taken..],
                Err(Error::Full) => wait_for_space(refused).await?,
                Err(error) => return Err(error),
            }
        }
        let content = writer.finish().await?;
        let meta = VersionMeta {
            etag: ETag { md5: std::array::from_fn(|i| key[i % key.len()]), parts: 0 },
            modified: UnixMillis(1_790_000_000_000),
            pairs: vec![(b"content-type".to_vec(), b"application/octet-stream".to_vec())],
            ..VersionMeta::default()
        };
        let new = NewVersion { bucket: self.bucket, key: key.to_vec(), meta };
        let draft = core.draft_version(&self.sealing, new, content)?;
        // What is written waits for its record to be admitted, rather than being written again.
        while self.home().admit(&draft) == Err(Error::Full) {
            wait_for_space(refused).await?;
        }
        self.home().put(draft, Precondition::None).await.map(|_| ())
    }

    /// Reads an object: its bytes. Looks again when it was moved meanwhile.
    pub async fn read(&self, key: &[u8]) -> Result<Vec<u8>> {
        loop {
            match self.try_read(key).await {
                Err(Error::Conflict) => {}
                other => return other,
            }
        }
    }

    async fn try_read(&self, key: &[u8]) -> Result<Vec<u8>> {
        let version = self.version(key).await?;
        match version.inline() {
            Some(inline) => Ok(inline.to_vec()),
            None => self.read_frames(&version, 0..version.meta.size).await,
        }
    }

    /// Reads some of an object that lies in frames.
    pub async fn read_range(&self, key: &[u8], range: Range<u64>) -> Result<Vec<u8>> {
        let version = self.version(key).await?;
        self.read_frames(&version, range).await
    }

    async fn version(&self, key: &[u8]) -> Result<Version> {
        let lookup = self.home().lookup(self.bucket, key)?;
        self.core.read_version(lookup, self.bucket, key).await?.ok_or(Error::NotFound)
    }

    async fn read_frames(&self, version: &Version, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        let mut reader = version.reader(&self.core, range);
        while let Some(chunk) = reader.next().await? {
            chunk.slices().for_each(|slice| bytes.extend_from_slice(slice));
        }
        Ok(bytes)
    }
}

/// A put that was refused for lack of space comes again a little later, unless that was so often that nothing can be hoped for.
async fn wait_for_space(refused: &mut u64) -> Result<()> {
    if *refused >= REFUSALS_MAX {
        return Err(Error::Full);
    }
    *refused += 1;
    compio::time::sleep(REFUSED_PAUSE).await;
    Ok(())
}

async fn with_bucket(shard: &Shard<UringDevice>) -> Result<Arc<Catalog>> {
    let catalog = shard.catalog();
    if !catalog.is_empty() {
        return Ok(catalog);
    }
    shard.create_namespace(NAMESPACE, "default", SealKind::Aes256Gcm).await?;
    shard.create_bucket(BUCKET, NAMESPACE, UserId(1), "", UnixMillis(1)).await
}

// -- figures

/// A source of numbers that a seed decides (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number below that one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Times of one operation.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that so many per mille are not above, in microseconds.
    pub fn micros(&mut self, per_mille: usize) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() * per_mille / 1000).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

/// Time that the main thread has been on a processor: on a busy machine it says more than the clock.
pub fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = schedstat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Bytes of memory that the process has.
pub fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Bytes in MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
