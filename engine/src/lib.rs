//! The engine: a log-structured, encrypted object store on raw devices.
//!
//! It knows no HTTP and no runtime. Clock, randomness and devices arrive as values and traits ([`Device`], [`crypto::Random`]), so that a
//! seed is a whole world.
//!
//! ```text
//! Store   what all cores share: geometry, keys, segment table          (one per process)
//! Core    device handles, bulk stream, reads and writes of copies      (one per core)
//! Shard   home of buckets: index, uploads, commit log, all decisions   (some per core)
//! ```
//! A write: [`ObjectWriter`] takes the bytes in on the core that holds the connection (frames go to its bulk stream, small objects stay in memory),
//! [`Core::draft_version`] seals the record, [`Shard::put`] on the home shard decides and commits it. A read: [`Shard::lookup`] on the home shard,
//! then [`Core::read_version`] and [`ObjectReader`] on the connection's core.
//!
//! | file | noun |
//! |---|---|
//! | `format/` | every byte on disk |
//! | `device/` | the one seam to a medium; the io_uring device |
//! | `store`, `core` | opening; device access with copies, fences, shared flushes |
//! | `segment/`, `placement` | the segment table, bulk streams; which devices |
//! | `crypto` | keys and seals |
//! | `writer`, `reader`, `object`, `draft` | objects in and out |
//! | `log`, `shard/`, `recovery` | commit log, state, replay |
//! | `compaction/` | which segments to empty |
//! | `index/`, `catalog` | finding keys; namespaces, users, buckets |
//! | `fsck/`, `inspect/` | the check of a whole store, offline; what is on its devices, for people |
//! | `sim/` | the simulator (feature `sim`), and the bugs that it can plant |

pub mod catalog;
pub mod compaction;
mod core;
pub mod crypto;
pub mod device;
mod draft;
mod error;
mod event;
mod flush;
pub mod format;
pub mod fsck;
pub mod ids;
pub mod index;
pub mod inspect;
pub mod limits;
mod log;
pub mod metrics;
mod object;
mod placement;
mod reader;
mod record_cache;
mod recovery;
pub mod segment;
mod shard;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(not(feature = "sim"))]
mod sim;
mod store;
mod writer;

pub use crate::core::Core;
pub use catalog::Catalog;
pub use device::Device;
pub use draft::{Draft, NewPart, NewVersion, shared_content};
pub use error::{Error, Result};
pub use object::{Lookup, Pins, Version};
pub use reader::{Chunk, ObjectReader};
pub use recovery::{Progress, Stage, open_shard};
pub use shard::{
    BucketUsage, ChosenPart, Due, DueTime, Existing, ExistingPlace, Footprint, Happened, ListedUpload,
    LogEvent, Meter, Metered, PartPage, Precondition, Shard, Standing, Upkeep, UploadPage, UploadPageQuery,
    UploadView,
};
pub use store::{DeviceLayout, FormatOptions, Store, format, format_over};
pub use writer::{Content, Layout, ObjectWriter};
