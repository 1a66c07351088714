//! The S3 service of one core: what its connections share, and the way to the shards on other cores.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engine::Catalog;
use engine::ids::{ShardId, UnixMillis, UserId};
use engine::metrics::Counters;
use md5_lanes::{Kernel, Lanes};
use proto_s3::sigv4::Authenticator;

use crate::budget::{Budget, Permit};
use crate::config::Config;
use crate::cores::{CoreContext, OpenError, Service};
use crate::mesh::{CoreId, MeshHandle};
use crate::metrics::{CoreMetrics, Family, Kind, Sample};
use crate::rates::{Account, Gate};
use crate::s3::{self, RequestId, RequestIds};
use crate::storage::{CoreStorage, EngineCore, EngineShard, Space, Storage};
use crate::stream::Stream;

/// Bodies up to this length have a budget of their own.
const SMALL_LEN_MAX: u64 = 64 * 1024;

/// That budget is this part of the whole.
const SMALL_SHARE: u64 = 8;

/// How long a body waits for leave before its request is told to slow down.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(10);

/// What requests need of the configuration.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Domains, bucket names and limits.
    pub route: proto_s3::RouteConfig,
    /// Limits of the protocol.
    pub limits: proto_s3::Limits,
    /// The region of this node.
    pub region: String,
    /// The region that signatures must name; `None` accepts any.
    pub signed_region: Option<String>,
    /// Whether a signature error shows the canonical request.
    pub debug_signatures: bool,
    /// Whether responses say in `Server-Timing` where the time went.
    pub server_timing: bool,
    /// What errors show as HostId.
    pub host_id: String,
}

impl S3Config {
    /// From the settings of the node.
    pub fn new(config: &Config) -> Self {
        let limits = proto_s3::Limits::from(&config.limits.s3);
        // The longest domain that fits a host is the one that is meant.
        let mut domains = config.node.domains.clone();
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        S3Config {
            route: proto_s3::RouteConfig {
                domains,
                allow_dots_in_bucket_names: false,
                limits: limits.clone(),
                account_id: None,
            },
            limits,
            region: config.node.region.clone(),
            signed_region: config.node.check_region.then(|| config.node.region.clone()),
            debug_signatures: config.node.debug_signatures,
            server_timing: config.node.server_timing,
            host_id: "basalt".to_owned(),
        }
    }
}

/// What a core may hold in memory for requests.
#[derive(Clone, Copy, Debug)]
pub struct CoreMemory {
    /// Bytes of bodies at once.
    bytes_in_flight_max: u64,
    /// Bytes of hot small objects.
    record_cache: u64,
}

impl CoreMemory {
    /// From the settings of the node.
    pub fn new(limits: &crate::config::Limits) -> Self {
        CoreMemory {
            bytes_in_flight_max: limits.bytes_in_flight_per_core_max.0,
            record_cache: limits.record_cache_per_core.0,
        }
    }
}

/// The core that was asked is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node is shutting down")
    }
}

/// One core's S3 service.
pub struct S3Service {
    /// What requests need of the configuration.
    pub config: Arc<S3Config>,
    storage: CoreStorage,
    shared: Arc<Storage>,
    mesh: MeshHandle<S3Service>,
    metrics: Arc<[CoreMetrics]>,
    here: CoreId,
    catalog: RefCell<Arc<Catalog>>,
    budget: Rc<Budget>,
    /// For bodies that are small, so that they don't wait behind large ones.
    small_budget: Rc<Budget>,
    /// Whose turn it is when the core is busy.
    gate: Rc<Gate>,
    authenticator: RefCell<Authenticator>,
    request_ids: RequestIds,
    /// The `Date` of responses, and the second it is right in.
    date: RefCell<(i64, Rc<str>)>,
    md5_lanes: Rc<Lanes>,
}

impl S3Service {
    /// Opens the service of a core, in its thread and runtime.
    ///
    /// # Errors
    /// What the storage says.
    pub async fn open(
        context: CoreContext<S3Service>,
        config: Arc<S3Config>,
        shared: Arc<Storage>,
        memory: CoreMemory,
    ) -> Result<Rc<Self>, OpenError> {
        let gate = Gate::new(context.rates, context.core.index());
        let storage = shared.open_core(context.core, &gate, context.foremost).await?;
        storage.core.record_cache.set_budget(usize::try_from(memory.record_cache)?);
        let bytes_in_flight_max = memory.bytes_in_flight_max;
        let catalog = RefCell::new(storage.catalog.clone());
        let request_ids = RequestIds::new(storage.core.new_number());
        Ok(Rc::new(S3Service {
            config,
            storage,
            shared,
            mesh: context.mesh,
            metrics: context.metrics,
            here: context.core,
            catalog,
            budget: Budget::new(bytes_in_flight_max - bytes_in_flight_max / SMALL_SHARE),
            small_budget: Budget::new(bytes_in_flight_max / SMALL_SHARE),
            gate,
            authenticator: RefCell::default(),
            request_ids,
            date: RefCell::new((i64::MIN, "".into())),
            md5_lanes: Lanes::new(Kernel::detect()),
        }))
    }

    /// This core's engine.
    pub fn core(&self) -> &Rc<EngineCore> {
        &self.storage.core
    }

    /// What writers wait for when the store is full.
    pub fn space(&self) -> &Arc<Space> {
        &self.storage.space
    }

    /// Whether writes are about to wait for space, or do.
    pub fn is_space_scarce(&self) -> bool {
        let (free, reserve) = self.storage.core.store.table.free_and_reserve();
        free <= reserve + reserve / 8
    }

    /// This core's snapshot of the catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    /// This core's counters.
    pub fn metrics(&self) -> &CoreMetrics {
        &self.metrics[self.here.index()]
    }

    /// Admission by bytes in flight: leave to hold that many, until the permit is dropped. `None` when they did not come free in time.
    pub async fn admit(&self, bytes: u64) -> Option<Permit> {
        let budget = if bytes <= SMALL_LEN_MAX { &self.small_budget } else { &self.budget };
        budget.take_within(bytes, ADMISSION_TIMEOUT).await
    }

    /// Whose turn it is when the core is busy.
    pub fn gate(&self) -> &Rc<Gate> {
        &self.gate
    }

    /// The account that a request of that user about that bucket counts to. What is no bucket, or not the user's, has none of its own: else anybody
    /// could use up a bucket's rate, or make accounts without end.
    pub fn account(&self, catalog: &Catalog, user: UserId, bucket: Option<&str>) -> Arc<Account> {
        let is_theirs = |name: &&str| catalog.buckets.get(*name).is_some_and(|bucket| bucket.owner == user);
        match bucket.filter(is_theirs) {
            Some(name) => self.gate.account(name),
            None => self.gate.nobody(),
        }
    }

    /// Verifies signatures, with keys and buffers that serve all requests of this core.
    pub fn authenticator(&self) -> &RefCell<Authenticator> {
        &self.authenticator
    }

    /// Where this core hashes the bodies of all its uploads together.
    pub fn md5_lanes(&self) -> &Rc<Lanes> {
        &self.md5_lanes
    }

    /// The wall clock.
    pub fn now_ms(&self) -> UnixMillis {
        UnixMillis(jiff::Timestamp::now().as_millisecond().unsigned_abs())
    }

    /// A name for a request.
    pub fn new_request_id(&self) -> RequestId {
        self.request_ids.next()
    }

    /// What responses say in `Date`.
    pub fn http_date(&self) -> Rc<str> {
        let seconds = i64::try_from(self.now_ms().0 / 1000).unwrap_or(i64::MAX);
        let mut date = self.date.borrow_mut();
        if date.0 != seconds {
            *date = (seconds, proto_s3::time::http_date(seconds).into());
        }
        date.1.clone()
    }

    /// A shard, when this core has it.
    pub fn local_shard(&self, shard: ShardId) -> Option<&Rc<EngineShard>> {
        self.storage.shards.get(usize::from(shard.0))?.as_ref()
    }

    /// Runs `f` with a shard, on the shard's core.
    ///
    /// # Errors
    /// When that core has shut down.
    pub async fn on_shard<R, F, Fut>(&self, shard: ShardId, f: F) -> Result<R, Unavailable>
    where
        R: Send + 'static,
        F: FnOnce(Rc<EngineShard>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
    {
        let core = self.shared.core_of(shard);
        let call = move |service: Rc<S3Service>| {
            let shard = service.storage.shards[usize::from(shard.0)].clone();
            f(shard.expect("a call for a shard goes to the core that has it"))
        };
        self.mesh.call(core, call).await.map_err(|_| Unavailable)
    }

    /// Gives every core the catalog; returns when all have it. A core that has a newer one keeps it.
    ///
    /// # Errors
    /// When a core has shut down.
    pub async fn publish(&self, catalog: Arc<Catalog>) -> Result<(), Unavailable> {
        let take = |core: usize| {
            let catalog = catalog.clone();
            self.mesh
                .call(CoreId::new(core), move |service: Rc<S3Service>| async move { service.take(catalog) })
        };
        let calls = (0..self.mesh.core_count()).map(take);
        futures_util::future::join_all(calls)
            .await
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(|_| Unavailable)
    }

    fn take(&self, catalog: Arc<Catalog>) {
        let mut current = self.catalog.borrow_mut();
        if catalog.generation() > current.generation() {
            *current = catalog;
        }
    }
}

impl Service for S3Service {
    const OPERATIONS: &'static [&'static str] = s3::OPERATIONS;

    async fn serve_connection(self: Rc<Self>, stream: Stream) {
        s3::connection::serve(self, stream).await;
    }

    async fn close(self: Rc<Self>) {
        self.storage.close().await;
    }

    fn samples(&self) -> Vec<Sample> {
        let core = self.here.index().to_string();
        let of_core =
            |family, value: u64| Sample { family, labels: vec![("core", core.clone())], value: value as f64 };
        let counters = counter_families().iter().zip(self.storage.core.counters.values());
        let mut samples: Vec<Sample> = counters.map(|(family, value)| of_core(family, value)).collect();
        samples.extend(self.storage.shards.iter().flatten().flat_map(|shard| shard_samples(shard)));
        samples.push(of_core(&RECORD_CACHE_BYTES, self.storage.core.record_cache.len_bytes() as u64));
        samples.push(of_core(&BYTES_IN_FLIGHT, self.budget.taken() + self.small_budget.taken()));
        samples.push(of_core(&WORKING, self.gate.working() as u64));
        samples.push(of_core(&COMMITTING, self.gate.committing() as u64));
        samples.push(of_core(&WAITING, self.gate.waiting() as u64));
        if self.here.index() == 0 {
            samples.extend(self.segment_samples());
        }
        samples
    }
}

impl S3Service {
    fn segment_samples(&self) -> Vec<Sample> {
        let counts = self.storage.core.store.table.counts();
        let of_kind = |kind: &str, value: u32| Sample {
            family: &SEGMENTS,
            labels: vec![("kind", kind.to_owned())],
            value: f64::from(value),
        };
        let alone = |family, value: u64| Sample { family, labels: Vec::new(), value: value as f64 };
        let store = &self.storage.core.store;
        vec![
            of_kind("free", counts.free.saturating_sub(counts.reserve)),
            of_kind("reserve", counts.free.min(counts.reserve)),
            of_kind("commit", counts.commit),
            of_kind("bulk", counts.bulk),
            alone(&SEGMENT_SIZE, store.segment_size),
            alone(&LIVE_BYTES, counts.live_bytes),
            alone(&DEVICES_MISSING, store.missing_devices().len() as u64),
        ]
    }
}

fn shard_samples(shard: &EngineShard) -> [Sample; 5] {
    let footprint = shard.footprint();
    let sample = |family, value: usize| Sample {
        family,
        labels: vec![("shard", shard.id().to_string())],
        value: value as f64,
    };
    [
        sample(&VERSIONS, footprint.versions),
        sample(&INDEX_BYTES, footprint.index_bytes),
        sample(&MEMTABLE_BYTES, footprint.memtable_bytes),
        sample(&RUNS, footprint.run_count),
        sample(&LOG_SEGMENTS, footprint.log_segments),
    ]
}

/// The engine's counters as metric families, made once.
fn counter_families() -> &'static [Family] {
    static FAMILIES: OnceLock<Vec<Family>> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        Counters::NAMES
            .iter()
            .map(|(name, help)| Family { name, help: help.trim(), kind: Kind::Counter })
            .collect()
    })
}

static VERSIONS: Family =
    Family { name: "basalt_versions", help: "Object versions in the index.", kind: Kind::Gauge };
static INDEX_BYTES: Family =
    Family { name: "basalt_index_bytes", help: "Memory of the hash index.", kind: Kind::Gauge };
static MEMTABLE_BYTES: Family = Family {
    name: "basalt_memtable_bytes",
    help: "Memory of what the next checkpoint writes to the directory, about.",
    kind: Kind::Gauge,
};
static RUNS: Family =
    Family { name: "basalt_directory_runs", help: "Sorted runs of the directory.", kind: Kind::Gauge };
static LOG_SEGMENTS: Family = Family {
    name: "basalt_log_segments",
    help: "Segments of the log that a start would read.",
    kind: Kind::Gauge,
};
static BYTES_IN_FLIGHT: Family = Family {
    name: "basalt_bytes_in_flight",
    help: "Bytes of request and response bodies that the core holds.",
    kind: Kind::Gauge,
};
static RECORD_CACHE_BYTES: Family = Family {
    name: "basalt_record_cache_bytes",
    help: "Bytes of hot small objects that the core keeps.",
    kind: Kind::Gauge,
};
static WORKING: Family = Family {
    name: "basalt_requests_working",
    help: "Requests that the core works on, not counting those that wait for their clients or for a flush that they share.",
    kind: Kind::Gauge,
};
static COMMITTING: Family = Family {
    name: "basalt_requests_committing",
    help: "Writes that wait for a flush that they share.",
    kind: Kind::Gauge,
};
static WAITING: Family =
    Family { name: "basalt_requests_waiting", help: "Requests that wait for their turn.", kind: Kind::Gauge };
static SEGMENTS: Family = Family {
    name: "basalt_segments",
    help: "Segments by kind; the reserve is kept for the log.",
    kind: Kind::Gauge,
};
static SEGMENT_SIZE: Family =
    Family { name: "basalt_segment_size_bytes", help: "Bytes of a segment.", kind: Kind::Gauge };
static LIVE_BYTES: Family = Family {
    name: "basalt_live_bytes",
    help: "Live bytes in all segments, each reference counted, copies not.",
    kind: Kind::Gauge,
};
static DEVICES_MISSING: Family = Family {
    name: "basalt_devices_missing",
    help: "Devices of the store that are not there.",
    kind: Kind::Gauge,
};
