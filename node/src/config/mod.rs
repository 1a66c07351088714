//! The configuration: every setting, its default, and what it may be.
//!
//! `basalt.example.toml` in the repository's root documents them; a test keeps it complete. Flags of the command line
//! win over the file, the file over the defaults. Nothing here is read from the environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::congestion_control::{CongestionControl, CongestionControlError};
use crate::kernel_tls::KernelTls;

mod cpus;
mod load;
mod rates;
mod units;

pub use cpus::{CpuList, CpusError};
pub use load::{ConfigError, from_file, from_text};
pub use rates::{BucketRates, Rates};
pub use units::{Address, Auto, ByteSize, Period};

/// Tier of a device that names none, and of the devices of a first start.
pub const DEFAULT_TIER: &str = "default";

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node itself: where it keeps its things and where it listens.
    pub node: Node,
    /// Its certificate.
    pub tls: Tls,
    /// How it sends.
    pub network: Network,
    /// What clients may take of it.
    pub limits: Limits,
    /// What each bucket is guaranteed and allowed.
    pub rates: Rates,
    /// Where objects lie.
    pub store: Store,
    /// Its logs.
    pub log: Log,
    /// How it ends.
    pub shutdown: Shutdown,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Keys, certificates, credentials, and by default the devices.
    pub data_dir: PathBuf,
    /// HTTPS listeners.
    pub listen: Vec<Address>,
    /// Listeners without TLS.
    pub insecure_http: Vec<Address>,
    /// `/healthz` and `/metrics`, plain HTTP.
    pub admin_listen: Address,
    /// The CPUs that get a core each.
    pub cores: CpuList,
    /// Domains for virtual-hosted requests: `bucket.domain`.
    pub domains: Vec<String>,
    /// The region that the node says it is in.
    pub region: String,
    /// Refuse signatures made for another region.
    pub check_region: bool,
    /// Put the canonical request into `SignatureDoesNotMatch` errors.
    pub debug_signatures: bool,
    /// Say in responses where the time went, as `Server-Timing`.
    pub server_timing: bool,
}

impl Default for Node {
    fn default() -> Self {
        let local = |port| Address(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        Node {
            data_dir: "./basalt-data".into(),
            listen: vec![local(9000)],
            insecure_http: Vec::new(),
            admin_listen: local(9001),
            cores: CpuList::Auto,
            domains: Vec::new(),
            region: "us-east-1".into(),
            check_region: false,
            debug_signatures: false,
            server_timing: false,
        }
    }
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate and intermediate ones; `None`: the generated one.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key; set together with `certificate`.
    pub key: Option<PathBuf>,
}

/// `[network]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The congestion control of connections; `None`: the kernel's default.
    pub tcp_congestion_control: Option<String>,
    /// Sends of that many bytes and more are made in place; `None`: none.
    pub zero_copy_send_min: Option<ByteSize>,
    /// Whether the kernel makes TLS records.
    pub kernel_tls: KernelTls,
}

impl Network {
    /// The congestion control, if one is named.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn congestion_control(&self) -> Result<Option<CongestionControl>, CongestionControlError> {
        self.tcp_congestion_control.as_deref().map(CongestionControl::named).transpose()
    }
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// For a request's head from its first byte on, and for a TLS handshake.
    pub head_timeout: Period,
    /// For a connection between two requests.
    pub idle_timeout: Period,
    /// For the next bytes of a body, either way.
    pub body_stall_timeout: Period,
    /// Connections that one core serves at once.
    pub connections_per_core_max: usize,
    /// Bytes of bodies that one core holds in memory at once.
    pub bytes_in_flight_per_core_max: ByteSize,
    /// Bytes of hot small objects that one core keeps in memory; 0 keeps none.
    pub record_cache_per_core: ByteSize,
    /// Bytes of the heap that are laid out in huge pages at the start, for each core; 0: none.
    pub huge_heap_per_core: ByteSize,
    /// `[limits.s3]`
    pub s3: S3Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_timeout: Period::from_secs(10),
            idle_timeout: Period::from_secs(60),
            body_stall_timeout: Period::from_secs(30),
            connections_per_core_max: 10_000,
            bytes_in_flight_per_core_max: ByteSize(256 << 20),
            record_cache_per_core: ByteSize(64 << 20),
            huge_heap_per_core: ByteSize(32 << 20),
            s3: S3Limits::default(),
        }
    }
}

/// `[limits.s3]`: what one request, object or account may be. The defaults are those of `proto_s3`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each is documented as the field of the same name in proto_s3::limits::Limits"
)]
pub struct S3Limits {
    pub head_len_max: ByteSize,
    pub header_count_max: usize,
    pub key_len_max: usize,
    pub single_put_len_max: ByteSize,
    pub part_len_min: ByteSize,
    pub part_len_max: ByteSize,
    pub parts_max: u32,
    pub object_len_max: ByteSize,
    pub user_metadata_len_max: ByteSize,
    pub xml_len_max: ByteSize,
    pub xml_list_len_max: ByteSize,
    pub xml_depth_max: usize,
    pub delete_keys_max: usize,
    pub list_max: u32,
    pub list_buckets_max: u32,
    pub buckets_max: usize,
    pub presign_lifetime_max: Period,
}

impl Default for S3Limits {
    fn default() -> Self {
        let limits = proto_s3::limits::Limits::default();
        S3Limits {
            head_len_max: limits.head_len_max.into(),
            header_count_max: limits.header_count_max,
            key_len_max: limits.key_len_max,
            single_put_len_max: ByteSize(limits.single_put_len_max),
            part_len_min: ByteSize(limits.part_len_min),
            part_len_max: ByteSize(limits.part_len_max),
            parts_max: limits.parts_max,
            object_len_max: ByteSize(limits.object_len_max),
            user_metadata_len_max: limits.user_metadata_len_max.into(),
            xml_len_max: limits.xml_len_max.into(),
            xml_list_len_max: limits.xml_list_len_max.into(),
            xml_depth_max: limits.xml_depth_max,
            delete_keys_max: limits.delete_keys_max,
            list_max: limits.list_max,
            list_buckets_max: limits.list_buckets_max,
            buckets_max: limits.buckets_max,
            presign_lifetime_max: Period::from_secs(limits.presign_seconds_max.unsigned_abs()),
        }
    }
}

impl From<&S3Limits> for proto_s3::limits::Limits {
    fn from(limits: &S3Limits) -> Self {
        proto_s3::limits::Limits {
            head_len_max: limits.head_len_max.as_usize(),
            header_count_max: limits.header_count_max,
            key_len_max: limits.key_len_max,
            single_put_len_max: limits.single_put_len_max.0,
            part_len_min: limits.part_len_min.0,
            part_len_max: limits.part_len_max.0,
            parts_max: limits.parts_max,
            object_len_max: limits.object_len_max.0,
            user_metadata_len_max: limits.user_metadata_len_max.as_usize(),
            xml_len_max: limits.xml_len_max.as_usize(),
            xml_list_len_max: limits.xml_list_len_max.as_usize(),
            xml_depth_max: limits.xml_depth_max,
            delete_keys_max: limits.delete_keys_max,
            list_max: limits.list_max,
            list_buckets_max: limits.list_buckets_max,
            buckets_max: limits.buckets_max,
            presign_seconds_max: i64::try_from(limits.presign_lifetime_max.0.as_secs()).unwrap_or(i64::MAX),
            ..proto_s3::limits::Limits::default()
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `[[store.devices]]`; none: two files in the data directory.
    pub devices: Vec<Device>,
    /// On how many devices everything lies.
    pub copies: u8,
    /// Bytes of a segment; `Auto`: what suits the device.
    pub segment_size: Auto<ByteSize>,
    /// Bytes of a device file that is created, where the device says nothing itself.
    pub device_size: Auto<ByteSize>,
    /// Up to this length an object's data lies in its record.
    pub inline_max: ByteSize,
    /// Where the key that wraps all other keys comes from; `None`: the file `key` in the data directory.
    pub key_source: Option<KeySource>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            devices: Vec::new(),
            copies: 2,
            segment_size: Auto::Auto,
            device_size: Auto::Auto,
            inline_max: ByteSize(32 << 10),
            key_source: None,
        }
    }
}

/// One of `[[store.devices]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// A file (created if need be) or a block device.
    pub path: PathBuf,
    /// Bytes of a file that is created; `Auto`: `store.device_size`.
    #[serde(default)]
    pub size: Auto<ByteSize>,
    /// The class of devices it belongs to.
    #[serde(default = "default_tier")]
    pub tier: String,
}

fn default_tier() -> String {
    DEFAULT_TIER.to_owned()
}

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    /// A file with 64 hexadecimal digits that nobody else may read.
    File(PathBuf),
    /// An environment variable with 64 hexadecimal digits.
    Env(String),
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or a list like `info,node=debug`.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".into(), format: LogFormat::Text }
    }
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long requests in flight may take to end.
    pub drain_timeout: Period,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { drain_timeout: Period::from_secs(30) }
    }
}

#[cfg(test)]
mod tests;
