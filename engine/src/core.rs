//! What one core has of the store: its handles on the devices, its bulk stream, its random source and its counters.
//!
//! Everything that touches a device goes through here: copies are written together and read one after the other until one verifies, a
//! failed write or flush fences the device, and flushes are shared by all who wait for one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use zerocopy::IntoBytes;

use crate::crypto::Random;
use crate::device::{AlignedBuffer, Device, IoFailure};
use crate::error::{Error, Result};
use crate::flush::{FlushQueue, Lane, Step, Waiting};
use crate::format::checkpoint::Pointer;
use crate::format::lease::Lease;
use crate::format::segment::{Place, SegmentHeader};
use crate::format::superblock::{CHECKPOINT_OFFSET, COPY_OFFSETS, Superblock, Verdict};
use crate::ids::{DeviceIndex, ObjectId, SegmentId, ShardId, UnixMillis, UploadId};
use crate::index::lsm::BlockCache;
use crate::limits::{BLOCK_CACHE_LEN, BLOCK_SIZE};
use crate::metrics::Counters;
use crate::record_cache::RecordCache;
use crate::segment::bulk::BulkStreams;
use crate::segment::table::Places;
use crate::sim::bugs::{self, Bug};
use crate::store::Store;

/// The engine on one core.
pub struct Core<D> {
    /// What all cores share.
    pub store: Arc<Store>,
    /// What this core counted.
    pub counters: Counters,
    pub(crate) bulk: BulkStreams,
    /// Hot records of objects, of all shards: what this core serves.
    pub record_cache: RecordCache,
    /// Opened blocks of directory runs, of all shards on it.
    pub block_cache: Rc<BlockCache>,
    number: u16,
    devices: Vec<Option<Attached<D>>>,
    random: RefCell<Box<dyn Random>>,
}

struct Attached<D> {
    /// A flush under way holds the device alone: one that held all of this would keep it, and itself, for ever.
    device: Rc<D>,
    segment_offset: u64,
    flushes: Rc<FlushQueue>,
}

impl<D: Device> Core<D> {
    /// Core `number` of the process, with its own handles on the devices, in the order that [`Store::open`] was given.
    pub fn new(store: Arc<Store>, number: u16, handles: Vec<D>, random: Box<dyn Random>) -> Rc<Self> {
        let mut handles: Vec<Option<D>> = handles.into_iter().map(Some).collect();
        let devices = store
            .devices
            .iter()
            .map(|layout| {
                let layout = (*layout)?;
                Some(Attached {
                    device: Rc::new(handles.get_mut(layout.source)?.take()?),
                    segment_offset: layout.segment_offset,
                    flushes: Rc::default(),
                })
            })
            .collect();
        Rc::new(Core {
            store,
            counters: Counters::default(),
            bulk: BulkStreams::default(),
            record_cache: RecordCache::new(),
            block_cache: BlockCache::new(BLOCK_CACHE_LEN),
            number,
            devices,
            random: RefCell::new(random),
        })
    }

    /// The number of this core.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// A fresh object id.
    pub fn new_object_id(&self) -> ObjectId {
        let mut id = ObjectId::default();
        self.random.borrow_mut().fill(&mut id.0);
        id
    }

    /// A fresh upload id: the time first, so that ids of one key sort by age.
    pub fn new_upload_id(&self, now: UnixMillis) -> UploadId {
        let mut id = UploadId::default();
        self.random.borrow_mut().fill(&mut id.0);
        id.0[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        id
    }

    /// A fresh random number.
    pub fn new_number(&self) -> u64 {
        let mut bytes = [0u8; 8];
        self.random.borrow_mut().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn with_random<T>(&self, f: impl FnOnce(&mut dyn Random) -> T) -> T {
        f(self.random.borrow_mut().as_mut())
    }

    /// Reads a whole buffer from one copy.
    pub(crate) async fn read_copy(
        &self,
        place: Place,
        offset: u64,
        buffer: AlignedBuffer,
    ) -> (Result<()>, AlignedBuffer) {
        let Some(attached) = self.attached(place.device) else {
            return (Err(Error::Io { device: place.device, op: "read", errno: ENODEV }), buffer);
        };
        self.counters.device_reads.add(1);
        self.counters.device_read_bytes.add(buffer.len() as u64);
        let (result, buffer) = attached.device.read(buffer, self.position(attached, place, offset)).await;
        (result.map_err(|failure| io_error(place.device, failure)), buffer)
    }

    /// Writes a buffer to all copies of a segment. All must succeed; a device that fails is fenced.
    pub(crate) async fn write_copies(
        &self,
        places: &[Place],
        offset: u64,
        buffer: Rc<AlignedBuffer>,
    ) -> Result<()> {
        if places.len() == 1 || bugs::is_planted(Bug::SkipSecondCopy) {
            return self.write_copy(places[0], offset, buffer).await;
        }
        let writes = places.iter().map(|place| self.write_copy(*place, offset, buffer.clone()));
        join_all(writes).await.into_iter().collect()
    }

    async fn write_copy(&self, place: Place, offset: u64, buffer: Rc<AlignedBuffer>) -> Result<()> {
        let attached = self.writable(place.device)?;
        assert!(offset + buffer.len() as u64 <= self.store.segment_size, "a write stays in its segment");
        self.counters.device_writes.add(1);
        self.counters.device_write_bytes.add(buffer.len() as u64);
        let mut result = attached.device.write(buffer, self.position(attached, place, offset)).await;
        if bugs::is_planted(Bug::WriteFailureIgnored) {
            result = Ok(());
        }
        result.map_err(|_| self.fence(place.device))
    }

    /// Makes durable what was written to those places before this call. All devices must succeed; one that fails is fenced.
    pub(crate) async fn flush(&self, devices: impl Iterator<Item = DeviceIndex>) -> Result<()> {
        join_all(devices.map(|device| self.flush_device(device))).await.into_iter().collect()
    }

    async fn flush_device(&self, device: DeviceIndex) -> Result<()> {
        let attached = self.writable(device)?;
        if bugs::is_planted(Bug::SkippedFlush) {
            return Ok(());
        }
        let lane = Lane { store: self.store.clone(), device, core: self.number };
        let turn = lane.turn();
        let mut mine = turn.next();
        if bugs::is_planted(Bug::FlushJoinedLate) && turn.is_taken() {
            mine -= 1;
        }
        let _waiting = Waiting::new(attached.device.clone(), attached.flushes.clone(), lane.clone());
        loop {
            // A flush counts for nothing on a device that any core has fenced.
            if self.store.is_fenced(device) {
                return Err(Error::Fenced { device });
            }
            match turn.step(self.number, mine) {
                Step::Done => return Ok(()),
                Step::Wait => turn.changed(self.number).await,
                Step::Unknown => return Err(self.fence(device)),
                Step::Flush(number) => {
                    let mut result = attached.flushes.flush(number, || self.begin_flush(attached)).await;
                    if bugs::is_planted(Bug::FlushFailureIgnored) {
                        result = Ok(());
                    }
                    let failed = result.is_err().then(|| self.fence(device));
                    attached.flushes.settle(&lane, number, result);
                    if let Some(error) = failed {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn begin_flush(
        &self,
        attached: &Attached<D>,
    ) -> LocalBoxFuture<'static, std::result::Result<(), IoFailure>> {
        self.counters.device_flushes.add(1);
        let device = attached.device.clone();
        async move { device.flush().await }.boxed_local()
    }

    /// Writes a segment's header to all its copies and makes it durable.
    pub(crate) async fn write_header(&self, header: &SegmentHeader) -> Result<()> {
        self.write_header_to(header, &header.places).await
    }

    /// Writes a segment's header to some of its copies and makes it durable there.
    pub(crate) async fn write_header_to(&self, header: &SegmentHeader, places: &[Place]) -> Result<()> {
        if !self.store.table.is_leased(header.id) {
            self.write_lease(Lease::of(header.id.counter())).await?;
        }
        let mut block = AlignedBuffer::zeroed(BLOCK_SIZE);
        block.copy_from_slice(header.encode(self.store.id).as_bytes());
        // A write that is given up may still land: the slot is nobody else's until the kernel lets go of the buffer.
        if let Some(pin) = self.store.table.pin(header.id) {
            block.hold(pin);
        }
        self.write_copies(places, 0, Rc::new(block)).await?;
        self.flush(places.iter().map(|place| place.device)).await
    }

    /// Makes a lease durable before an id is used that it covers. Cores that come to the same end write the same bytes.
    async fn write_lease(&self, lease: Lease) -> Result<()> {
        self.write_everywhere(lease.encode(self.store.id).as_bytes(), lease.offset()).await?;
        self.store.table.extend_lease(lease);
        Ok(())
    }

    /// Writes a checkpoint pointer to every device that takes writes, and makes it durable.
    pub(crate) async fn write_pointer(&self, pointer: &Pointer, turn: u64) -> Result<()> {
        let offset = CHECKPOINT_OFFSET + Pointer::offset(pointer.shard, turn);
        self.write_everywhere(pointer.encode(self.store.id).as_bytes(), offset).await
    }

    /// Writes a block to the same place of every device that takes writes, and makes it durable. At least as many as there are copies must take it, so that any
    /// devices with which the store opens hold it.
    async fn write_everywhere(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut block = AlignedBuffer::zeroed(BLOCK_SIZE);
        block.copy_from_slice(bytes);
        let block = Rc::new(block);
        let mut written = 0;
        for index in (0..self.devices.len() as u16).map(DeviceIndex) {
            let Ok(attached) = self.writable(index) else { continue };
            self.counters.device_writes.add(1);
            self.counters.device_write_bytes.add(BLOCK_SIZE as u64);
            let result = attached.device.write(block.clone(), offset).await;
            let result = result.map_err(|_| self.fence(index));
            if result.is_ok() && self.flush_device(index).await.is_ok() {
                written += 1;
            }
        }
        if written >= self.store.copies { Ok(()) } else { Err(Error::ReadOnly) }
    }

    /// The newest checkpoint pointer of a shard on any device, and which of the two blocks it is in.
    pub(crate) async fn read_pointer(&self, shard: ShardId) -> Option<(Pointer, u64)> {
        let mut newest: Option<(Pointer, u64)> = None;
        for attached in self.devices.iter().flatten() {
            for turn in 0..2 {
                let offset = CHECKPOINT_OFFSET + Pointer::offset(shard, turn);
                let (result, block) = attached.device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await;
                let pointer = result.ok().and_then(|()| Pointer::decode(&block, self.store.id, shard));
                if let Some(pointer) = pointer
                    && newest.is_none_or(|(other, _)| other.lsn < pointer.lsn)
                {
                    newest = Some((pointer, turn));
                }
            }
        }
        newest
    }

    /// Both pointer blocks of a shard on every device that is there: where each lies, and what it says; nothing, if nothing was ever written.
    pub(crate) async fn read_pointer_blocks(
        &self,
        shard: ShardId,
    ) -> Vec<(DeviceIndex, u64, std::result::Result<Option<Pointer>, &'static str>)> {
        let mut blocks = Vec::new();
        for (index, attached) in (0..).map(DeviceIndex).zip(&self.devices) {
            let Some(attached) = attached else { continue };
            for turn in 0..2 {
                let offset = CHECKPOINT_OFFSET + Pointer::offset(shard, turn);
                let (result, block) = attached.device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await;
                let pointer = match Pointer::decode(&block, self.store.id, shard) {
                    _ if result.is_err() => Err("it can't be read"),
                    Some(pointer) => Ok(Some(pointer)),
                    None if block.iter().all(|byte| *byte == 0) => Ok(None),
                    None => Err("it does not verify"),
                };
                blocks.push((index, offset, pointer));
            }
        }
        blocks
    }

    /// Writes each damaged superblock copy again from the other one of its device. For a store that has opened: before, whose a device is rests on the copies.
    /// That it can't be done keeps nobody from anything, since the good copy is not touched.
    pub(crate) async fn mend_superblocks(&self) {
        for index in (0..self.devices.len() as u16).map(DeviceIndex) {
            let Ok(attached) = self.writable(index) else { continue };
            if let Some((good, offset)) = self.damaged_superblock(index, attached).await
                && attached.device.write(Rc::new(good), offset).await.is_ok()
                && self.flush_device(index).await.is_ok()
            {
                self.counters.superblocks_mended.add(1);
            }
        }
    }

    /// The good copy and where the other is, if that is damaged.
    async fn damaged_superblock(
        &self,
        index: DeviceIndex,
        attached: &Attached<D>,
    ) -> Option<(AlignedBuffer, u64)> {
        let (mut good, mut damaged) = (None, None);
        for offset in COPY_OFFSETS {
            let (result, block) = attached.device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await;
            if result.is_err() || Superblock::is_damaged(&block) {
                damaged = Some(offset);
            } else if let Verdict::Present(superblock) = Superblock::decode(&block)
                && (superblock.store_id, superblock.device_index) == (self.store.id, index)
            {
                good = Some(block);
            }
        }
        good.zip(damaged)
    }

    /// The places of a segment, those first that this core prefers: readers spread over the copies.
    pub(crate) fn places_to_read(&self, segment: SegmentId, salt: u64) -> Places {
        let mut places = self.store.table.places(segment).unwrap_or_default();
        if places.len() > 1 {
            let first = (salt % places.len() as u64) as usize;
            places.rotate_left(first);
            places.sort_by_key(|place| {
                self.attached(place.device).is_none() || self.store.is_fenced(place.device)
            });
            if bugs::is_planted(Bug::SecondCopyUnread) {
                places.truncate(1);
            }
        }
        places
    }

    /// No more writes go to that device, from any core.
    fn fence(&self, device: DeviceIndex) -> Error {
        if self.store.fence(device) {
            self.counters.devices_fenced.add(1);
        }
        Error::Fenced { device }
    }

    fn attached(&self, device: DeviceIndex) -> Option<&Attached<D>> {
        self.devices.get(usize::from(device.0))?.as_ref()
    }

    fn writable(&self, device: DeviceIndex) -> Result<&Attached<D>> {
        let attached = self.attached(device).ok_or(Error::ReadOnly)?;
        if self.store.is_fenced(device) { Err(Error::Fenced { device }) } else { Ok(attached) }
    }

    fn position(&self, attached: &Attached<D>, place: Place, offset: u64) -> u64 {
        attached.segment_offset + u64::from(place.slot) * self.store.segment_size + offset
    }
}

/// "No such device", for devices that are missing.
const ENODEV: i32 = 19;

fn io_error(device: DeviceIndex, failure: IoFailure) -> Error {
    Error::Io { device, op: failure.op, errno: failure.errno }
}
