//! What can be read of a store with its key.

use std::rc::Rc;

use crate::core::Core;
use crate::crypto::{MasterKey, SystemRandom};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::catalog::CatalogChange;
use crate::format::checkpoint::{CheckpointBody, Image, Pointer};
use crate::format::record::RecordHeader;
use crate::format::run::{BlockKind, RunDescriptor};
use crate::format::segment::Place;
use crate::fsck::ReadOnly;
use crate::ids::{SegmentId, ShardId};
use crate::index::lsm::{BlockCache, Run};
use crate::recovery;
use crate::store::Store;

/// A store that was opened to be looked at.
pub struct Opened<D: Device> {
    core: Rc<Core<ReadOnly<D>>>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointView {
    /// Where its record is.
    pub pointer: Pointer,
    /// What the record says.
    pub record: CheckpointBody,
    /// What its body holds.
    pub image: Image,
}

/// A copy of a record: where, its header, and its payload in the clear or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordCopy {
    /// Where it lies.
    pub place: Place,
    /// Header and payload, or what does not verify.
    pub record: std::result::Result<(RecordHeader, Vec<u8>), &'static str>,
}

impl<D: Device> Opened<D> {
    /// Opens the store on those devices, with the keys that the newest checkpoint of its catalog holds.
    ///
    /// # Errors
    /// [`Error::Devices`], [`Error::Key`].
    pub async fn open(devices: Vec<D>, master: MasterKey) -> Result<Self> {
        let handles: Vec<ReadOnly<D>> = devices.into_iter().map(ReadOnly::new).collect();
        let store = Store::open(&handles, master).await?;
        (0..store.devices.len() as u16).for_each(|index| {
            store.fence(crate::ids::DeviceIndex(index));
        });
        Ok(Opened { core: Core::new(store, 0, handles, Box::new(SystemRandom)) })
    }

    /// Shards of the store.
    pub fn shard_count(&self) -> u16 {
        self.core.store.shard_count
    }

    /// The checkpoint that a shard opens with; `None` when it has none.
    pub async fn checkpoint(&self, shard: ShardId) -> Result<Option<CheckpointView>> {
        let segments = self.core.store.commit_segments(shard);
        let found = recovery::find_checkpoint(&self.core, shard, &segments, &mut |_| {}).await?;
        let Some((record, pointer, _)) = found else { return Ok(None) };
        let image = recovery::read_image(&self.core, &record).await?;
        Ok(Some(CheckpointView { pointer, record, image }))
    }

    /// A record on every copy of its segment. Keys of namespaces are read from the catalog first, by opening the first shard if they are in no checkpoint.
    pub async fn record(&self, segment: SegmentId, offset: u32) -> Result<Vec<RecordCopy>> {
        self.load_keys().await?;
        let mut copies = Vec::new();
        for place in self.core.store.table.places(segment).ok_or(Error::NotFound)? {
            let record = crate::fsck::read_at(&self.core, segment, offset, place).await;
            copies.push(RecordCopy { place, record });
        }
        Ok(copies)
    }

    async fn load_keys(&self) -> Result<()> {
        let mut is_any = false;
        if let Some(checkpoint) = self.checkpoint(ShardId(0)).await? {
            for change in &checkpoint.image.catalog {
                if let CatalogChange::PutNamespace(namespace) = change {
                    self.core.store.keyring.add_namespace(namespace)?;
                    is_any = true;
                }
            }
        }
        if !is_any {
            recovery::open_watched(self.core.clone(), ShardId(0), |_| {}, &mut |_| {}).await?;
        }
        Ok(())
    }

    /// Gives all entries of a run, in order: keys with values, and keys that it removes.
    pub async fn run_entries(
        &self,
        run: &RunDescriptor,
        mut take: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<()> {
        let cache = BlockCache::new(0);
        let run = Run::open(self.core.clone(), cache, run.clone()).await?;
        let mut next = run.descriptor().section(BlockKind::Entries);
        while !next.is_empty() {
            let blocks = run.read_blocks(next.clone(), BlockKind::Entries).await?;
            next.start += blocks.len() as u32;
            for block in blocks {
                let (mut at, mut key) = (block.first(), Vec::new());
                while let Some(entry) = block.entry(at) {
                    key.truncate(entry.shared_len);
                    key.extend_from_slice(entry.rest);
                    take(&key, entry.value.as_ref().map(|value| block.value(value)));
                    at = entry.next;
                }
            }
        }
        Ok(())
    }
}
