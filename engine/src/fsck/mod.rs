//! The offline check of a store: everything that is on its devices is held against everything else. It changes nothing.
//!
//! ```text
//! superblocks -> per shard: pointers -> checkpoint record, body, runs -> log after it -> versions, index, extents, usage
//!                                                                                                        |
//!             all shards: segment headers, live bytes  <------------------------------------------------'
//! ```
//! - Devices are opened through [`ReadOnly`], and all are fenced before a shard is opened: recovery then heals nothing, writes no pointer and gives nothing out.
//! - What has copies is read from **every** copy. A copy that does not verify is [`Severity::Repairable`] as long as another does, and otherwise
//!   [`Severity::Lost`].
//! - What is counted (live bytes, usage, the index, the table of extents) is counted again from the versions and uploads, and must be the same.
//! - Findings are data: what is done about them is the caller's. Only what keeps a check from being made at all is an error.
//!
//! | file | noun |
//! |---|---|
//! | `finding` | what a check tells |
//! | `readonly` | a device that refuses writes |
//! | `superblocks`, `headers` | what a device is, what a slot is |
//! | `checkpoint`, `run` | pointers, record and body; runs of the directory |
//! | `record`, `frame` | the copies of a record, of a piece |
//! | `shard`, `due` | one shard after the other: directory, index, usage, uploads; due times |

mod checkpoint;
mod due;
mod finding;
mod frame;
mod headers;
mod readonly;
mod record;
mod report;
mod run;
mod shard;
mod superblocks;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::core::Core;
use crate::crypto::{MasterKey, Random};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::body::Extent;
use crate::ids::{DeviceIndex, SegmentId, ShardId};
use crate::store::Store;

pub use finding::{Event, Fault, Finding, Progress, Severity, Stage, Summary};
pub use readonly::ReadOnly;
pub(crate) use record::read_at;

use report::Report;

/// How deep a check goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Everything but the bytes of large objects.
    #[default]
    Structure,
    /// Every frame of every object as well.
    Data,
}

/// Checks the store on those devices, in whatever order they are given. Nobody else has them open, and nobody writes them meanwhile.
///
/// # Errors
/// [`Error::Key`] when the key is another store's, [`Error::Devices`] when the devices are not one whole store: then nothing was checked.
pub async fn check<D: Device>(
    devices: Vec<D>,
    master: MasterKey,
    depth: Depth,
    tell: &mut dyn FnMut(Event),
) -> Result<Summary> {
    let devices: Vec<ReadOnly<D>> = devices.into_iter().map(ReadOnly::new).collect();
    let mut report = Report::new(tell);
    let usable = superblocks::check(&devices, &mut report).await?;
    if usable.is_empty() && !devices.is_empty() {
        return Ok(report.finish());
    }
    let left_out = devices.len() - usable.len();
    let handles: Vec<ReadOnly<D>> = usable.iter().map(|source| devices[*source].clone()).collect();
    let store = match Store::open(&handles, master).await {
        Ok(store) => store,
        // What keeps it from opening was told already.
        Err(Error::Devices { what }) if left_out > 0 => {
            report.add(Finding::new(Fault::Store, Severity::Lost, what));
            return Ok(report.finish());
        }
        Err(error) => return Err(error),
    };
    if store.missing_devices().len() > left_out {
        return Err(Error::Devices { what: "a device of the store was not given: name all of its devices" });
    }
    report.sources = store.devices.iter().map(|layout| layout.map(|of| usable[of.source])).collect();
    (0..store.devices.len() as u16).for_each(|index| {
        store.fence(DeviceIndex(index));
    });
    let core = Core::new(store, 0, handles, Box::new(Unasked));
    let mut fsck = Fsck {
        core,
        depth,
        report,
        live: BTreeMap::new(),
        log: BTreeSet::new(),
        gone: BTreeSet::new(),
        catalog: None,
        is_complete: true,
    };
    fsck.run().await;
    Ok(fsck.report.finish())
}

/// A check under way.
struct Fsck<'a, D: Device> {
    core: Rc<Core<ReadOnly<D>>>,
    depth: Depth,
    report: Report<'a>,
    /// Live bytes of all shards, counted again.
    live: BTreeMap<SegmentId, u64>,
    /// Segments with records that replay reads.
    log: BTreeSet<SegmentId>,
    /// Segments that something refers to and no header tells of.
    gone: BTreeSet<SegmentId>,
    /// Of the first shard, once it is open.
    catalog: Option<Arc<Catalog>>,
    /// Whether all that is counted again could be read.
    is_complete: bool,
}

impl<D: Device> Fsck<'_, D> {
    async fn run(&mut self) {
        for shard in (0..self.core.store.shard_count).map(ShardId) {
            let is_open = self.check_shard(shard).await;
            // The other shards need the keys in the catalog of the first.
            if !is_open && shard == ShardId(0) {
                self.is_complete = false;
                break;
            }
        }
        self.check_headers().await;
        if self.is_complete {
            self.check_live();
        }
    }

    fn count_live(&mut self, segment: SegmentId, len: u64) {
        *self.live.entry(segment).or_default() += len;
    }

    fn count_live_extents(&mut self, extents: &[Extent]) {
        extents.iter().for_each(|extent| self.count_live(extent.segment, extent.disk_len()));
    }

    /// Holds the live bytes of all shards against the segment table.
    fn check_live(&mut self) {
        let table = self.core.store.table.clone();
        let indexes: u32 = self.core.store.devices.iter().flatten().map(|device| device.slot_count).sum();
        for id in (0..indexes).filter_map(|index| table.id_at(crate::ids::SegmentIndex(index))) {
            let (counted, kept) = (self.live.get(&id).copied().unwrap_or(0), table.live(id).unwrap_or(0));
            if counted != kept {
                let detail = format!("{counted} live bytes counted, {kept} kept account of");
                self.report.add(Finding::new(Fault::Live, Severity::Lost, &detail).segment(id));
            }
        }
    }
}

/// The random source of a check, which makes nothing that is kept.
struct Unasked;

impl Random for Unasked {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}
