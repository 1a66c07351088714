//! The engine on the cores: making and finding the devices, opening the store, recovering the shards.
//!
//! ```text
//!  main thread   Storage::prepare: create device files, format a new store, lock the devices
//!  core 0        read superblocks and segment headers, recover shard 0 (the catalog), first namespace and access key
//!  every core    recover its other shards; the last one to finish lets space be freed, and the work in the background begin
//! ```
//! Shard `s` is served by core `s modulo cores`, so that a store opens with fewer or more cores than it was formatted with.

mod background;
mod devices;
mod space;

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use engine::crypto::{MasterKey, SystemRandom};
use engine::device::{DeviceFile, UringDevice};
use engine::format::catalog::{AccessKey, CatalogChange, User};
use engine::format::record::SealKind;
use engine::ids::{NamespaceId, ShardId, UserId};
use engine::{Catalog, Progress, Stage, Store};
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{Shared, join_all};

use self::background::Background;
use crate::boot::{Boot, Credentials};
use crate::config::Config;
use crate::cores::OpenError;
use crate::foremost::Foremost;
use crate::mesh::CoreId;
use crate::rates::Gate;

pub use space::{Patience, Space};

/// The engine's part of a core, on the io_uring device.
pub type EngineCore = engine::Core<UringDevice>;

/// A shard on the io_uring device.
pub type EngineShard = engine::Shard<UringDevice>;

/// The namespace of a first start.
const FIRST_NAMESPACE: NamespaceId = NamespaceId(1);

/// The user of a first start: owner of what the generated access key makes.
const FIRST_USER: UserId = UserId(1);

/// What all cores open together. Made once, on the main thread.
pub struct Storage {
    devices: Vec<DeviceFile>,
    core_count: usize,
    master: Mutex<Option<MasterKey>>,
    credentials: Mutex<Option<Credentials>>,
    opened: Shared<oneshot::Receiver<Opened>>,
    tell_opened: Mutex<Option<oneshot::Sender<Opened>>>,
    cores_left: AtomicUsize,
    recovered: Shared<oneshot::Receiver<()>>,
    tell_recovered: Mutex<Option<oneshot::Sender<()>>>,
}

/// What core 0 tells the others.
#[derive(Clone)]
struct Opened {
    store: Arc<Store>,
    catalog: Arc<Catalog>,
    space: Arc<Space>,
}

/// The engine as one core has it.
pub struct CoreStorage {
    /// Device access.
    pub core: Rc<EngineCore>,
    /// The shards of this core; the others are `None`.
    pub shards: Vec<Option<Rc<EngineShard>>>,
    /// The catalog when the store was opened.
    pub catalog: Arc<Catalog>,
    /// What writers wait for when the store is full.
    pub space: Arc<Space>,
    /// What runs the shards: ends when they are stopped.
    loops: RefCell<Vec<oneshot::Receiver<()>>>,
    foremost: Rc<Foremost>,
    background: RefCell<Vec<Background>>,
}

/// Why there is no store to serve from; the text says what to do.
#[derive(Debug)]
pub enum StorageError {
    /// A device can't be created or opened.
    Device(engine::device::OpenError),
    /// The engine refuses.
    Engine {
        /// What was being done.
        step: &'static str,
        /// Its answer.
        source: engine::Error,
    },
    /// A tier of the configuration is none that the engine knows.
    Tier {
        /// The device.
        path: PathBuf,
        /// Its tier.
        tier: String,
    },
    /// A path is named twice.
    Twice {
        /// The path.
        path: PathBuf,
    },
    /// A store was formatted before, and none of its devices is there.
    Gone {
        /// The file that tells of it.
        marker: PathBuf,
        /// The devices that are looked for.
        devices: Vec<PathBuf>,
    },
    /// A device is too small to be one.
    TooSmall {
        /// The device.
        path: PathBuf,
    },
    /// A device without a store carries something else.
    NotBlank {
        /// The device.
        path: PathBuf,
    },
    /// The system refuses something.
    System {
        /// What was being done.
        step: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// Core 0 could not open the store.
    OtherCore,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Device(error) => error.fmt(f),
            StorageError::Engine { step, source } => write!(f, "cannot {step}: {source}"),
            StorageError::Tier { path, tier } => write!(
                f,
                "{}: tier {tier:?} is unknown; use \"nvme\", \"ssd\" or \"hdd\" (or \"default\", which is \"nvme\")",
                path.display()
            ),
            StorageError::Twice { path } => {
                write!(f, "{} is configured as two devices; name every device once", path.display())
            }
            StorageError::Gone { marker, devices } => {
                let devices: Vec<String> = devices.iter().map(|path| path.display().to_string()).collect();
                write!(
                    f,
                    "{} says that a store was formatted, and none of its devices is there ({}): mount or connect them; to begin with an empty \
                     store instead, remove that file",
                    marker.display(),
                    devices.join(", ")
                )
            }
            StorageError::TooSmall { path } => write!(
                f,
                "{} is too small to be a device; remove it, and the node makes one of the configured size",
                path.display()
            ),
            StorageError::NotBlank { path } => write!(
                f,
                "{} carries data that is no store of ours, and is left alone; if nobody needs it, blank it (`blkdiscard`, or \
                 `wipefs --all` and `dd if=/dev/zero bs=1M count=1`) and start again",
                path.display()
            ),
            StorageError::System { step, source } => write!(f, "cannot {step}: {source}"),
            StorageError::OtherCore => {
                f.write_str("another core could not open the store; its message says why")
            }
        }
    }
}

impl Error for StorageError {}

impl From<engine::device::OpenError> for StorageError {
    fn from(error: engine::device::OpenError) -> Self {
        StorageError::Device(error)
    }
}

impl Storage {
    /// Finds or makes the devices, formats them if they are new, and locks them.
    ///
    /// # Errors
    /// Each says what to do.
    pub fn prepare(config: &Config, boot: &Boot, core_count: usize) -> Result<Arc<Self>, StorageError> {
        let devices = devices::open(config, boot, core_count)?;
        let (tell_opened, opened) = oneshot::channel();
        let (tell_recovered, recovered) = oneshot::channel();
        Ok(Arc::new(Storage {
            devices,
            core_count,
            master: Mutex::new(Some(MasterKey::new(*boot.key.bytes()))),
            credentials: Mutex::new(Some(boot.credentials.clone())),
            opened: opened.shared(),
            tell_opened: Mutex::new(Some(tell_opened)),
            cores_left: AtomicUsize::new(core_count),
            recovered: recovered.shared(),
            tell_recovered: Mutex::new(Some(tell_recovered)),
        }))
    }

    /// Opens a core's part: on that core's thread, in its runtime.
    ///
    /// # Errors
    /// Each says what to do.
    pub async fn open_core(
        &self,
        core: CoreId,
        gate: &Rc<Gate>,
        foremost: Rc<Foremost>,
    ) -> Result<CoreStorage, OpenError> {
        let handles = self.attach()?;
        let storage = if core.index() == 0 {
            self.open_first(handles, foremost).await?
        } else {
            let opened = self.opened.clone().await.map_err(|_| StorageError::OtherCore)?;
            let core = EngineCore::new(opened.store, core.index() as u16, handles, Box::new(SystemRandom));
            CoreStorage::new(core, opened.catalog, opened.space, foremost)
        };
        let storage = self.open_other_shards(storage).await?;
        storage.shards.iter().flatten().for_each(|shard| shard.retain_buckets(&storage.catalog));
        if self.cores_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            storage.core.store.table.finish_recovery();
            if let Some(tell) = self.tell_recovered.lock().expect("no holder panics").take() {
                // Those who listen may have failed to open and gone.
                let _ = tell.send(());
            }
        }
        storage.start_background(gate, &self.recovered);
        Ok(storage)
    }

    /// The core that serves a shard.
    pub fn core_of(&self, shard: ShardId) -> CoreId {
        CoreId::new(usize::from(shard.0) % self.core_count)
    }

    fn attach(&self) -> Result<Vec<UringDevice>, StorageError> {
        let attach = |device: &DeviceFile| {
            device
                .attach()
                .map_err(|source| StorageError::System { step: "duplicate a device's descriptor", source })
        };
        self.devices.iter().map(attach).collect()
    }

    async fn open_first(
        &self,
        handles: Vec<UringDevice>,
        foremost: Rc<Foremost>,
    ) -> Result<CoreStorage, OpenError> {
        let master = self.master.lock().expect("no holder panics").take().ok_or(StorageError::OtherCore)?;
        let store = Store::open(&handles, master)
            .await
            .map_err(|source| StorageError::Engine { step: "open the store", source })?;
        for device in store.missing_devices() {
            tracing::warn!(%device, "a device of the store is missing: what has another copy is readable, nothing is written");
        }
        let core = EngineCore::new(store.clone(), 0, handles, Box::new(SystemRandom));
        let space = Space::new(store.shard_count.into());
        let mut storage = CoreStorage::new(core, Arc::default(), space.clone(), foremost);
        storage.open_shard(ShardId(0)).await?;
        let shard = storage.shards[0].clone().ok_or(StorageError::OtherCore)?;
        storage.catalog = self.ensure_first_user(&shard).await?;
        let opened = Opened { store, catalog: storage.catalog.clone(), space };
        if let Some(tell) = self.tell_opened.lock().expect("no holder panics").take() {
            // Nobody listens when there is one core.
            let _ = tell.send(opened);
        }
        Ok(storage)
    }

    async fn open_other_shards(&self, mut storage: CoreStorage) -> Result<CoreStorage, OpenError> {
        let here = usize::from(storage.core.number());
        for shard in 0..storage.core.store.shard_count {
            if usize::from(shard) % self.core_count == here && shard != 0 {
                storage.open_shard(ShardId(shard)).await?;
            }
        }
        Ok(storage)
    }

    /// A new store gets its first namespace and user; every start makes sure that the access key in the data directory opens it.
    async fn ensure_first_user(&self, shard: &EngineShard) -> Result<Arc<Catalog>, StorageError> {
        let step = |source| StorageError::Engine { step: "write the first namespace and user", source };
        if shard.catalog().is_empty() {
            shard.create_namespace(FIRST_NAMESPACE, "default", SealKind::Aes256Gcm).await.map_err(step)?;
            let mut canonical = [0u8; 32];
            engine::crypto::Random::fill(&mut SystemRandom, &mut canonical);
            let user = User {
                id: FIRST_USER,
                namespace: FIRST_NAMESPACE,
                name: "admin".to_owned(),
                canonical_id: canonical.iter().map(|byte| format!("{byte:02x}")).collect(),
            };
            shard.change_catalog(vec![CatalogChange::PutUser(user)]).await.map_err(step)?;
        }
        let Some(credentials) = self.credentials.lock().expect("no holder panics").take() else {
            return Ok(shard.catalog());
        };
        let key = AccessKey {
            id: credentials.access_key.clone(),
            secret: credentials.secret.to_string(),
            user: FIRST_USER,
        };
        let catalog = shard.catalog();
        if catalog.access_keys.get(&key.id).is_some_and(|known| **known == key) {
            return Ok(catalog);
        }
        match shard.change_catalog(vec![CatalogChange::PutAccessKey(key)]).await {
            Ok(catalog) => Ok(catalog),
            Err(source @ (engine::Error::ReadOnly | engine::Error::Full)) => {
                tracing::warn!(%source, "the access key of the credentials file is new and could not be stored: requests signed with it fail");
                Ok(catalog)
            }
            Err(source) => Err(step(source)),
        }
    }
}

impl CoreStorage {
    fn new(core: Rc<EngineCore>, catalog: Arc<Catalog>, space: Arc<Space>, foremost: Rc<Foremost>) -> Self {
        let shards = (0..core.store.shard_count).map(|_| None).collect();
        CoreStorage {
            core,
            shards,
            catalog,
            space,
            loops: RefCell::default(),
            foremost,
            background: RefCell::default(),
        }
    }

    fn start_background(&self, gate: &Rc<Gate>, recovered: &Shared<oneshot::Receiver<()>>) {
        let start = |shard| Background::start(&self.core, shard, &self.space, gate, recovered.clone());
        self.background.borrow_mut().extend(self.shards.iter().flatten().map(start));
    }

    async fn open_shard(&mut self, id: ShardId) -> Result<(), StorageError> {
        let mut told = std::time::Instant::now();
        let progress = |progress: Progress| {
            if told.elapsed().as_secs() >= 2 {
                told = std::time::Instant::now();
                tell_progress(id, progress);
            }
        };
        let shard = engine::open_shard(self.core.clone(), id, progress)
            .await
            .map_err(|source| StorageError::Engine { step: "recover a shard", source })?;
        self.loops.borrow_mut().push(self.foremost.spawn(shard.clone().run()));
        self.shards[usize::from(id.0)] = Some(shard);
        Ok(())
    }

    /// Ends the work in the background with a last checkpoint, and stops the shards when everything queued is durable.
    pub async fn close(&self) {
        let background: Vec<Background> = self.background.borrow_mut().drain(..).collect();
        join_all(background.into_iter().map(Background::end)).await;
        self.shards.iter().flatten().for_each(|shard| shard.stop());
        let loops: Vec<_> = self.loops.borrow_mut().drain(..).collect();
        for running in loops {
            // A shard whose loop panicked has taken the process with it.
            let _ = running.await;
        }
    }
}

fn tell_progress(shard: ShardId, progress: Progress) {
    let Progress { stage, segments_done, segments, records } = progress;
    match stage {
        Stage::Search => {
            tracing::info!(%shard, segments_done, segments, "searching the log for a checkpoint");
        }
        Stage::Replay => tracing::info!(%shard, segments_done, segments, records, "replaying the log"),
    }
}
