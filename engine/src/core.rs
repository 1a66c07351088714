//! What one core has of the store: its handles on the devices, its bulk stream, its random source and its counters.
//!
//! Everything that touches a device goes through here: copies are written together and read one after the other until one verifies, a
//! failed write or flush fences the device, and flushes are shared by all who wait for one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;
use zerocopy::IntoBytes;

use crate::crypto::Random;
use crate::device::{AlignedBuffer, Device, IoFailure};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::format::segment::{Place, SegmentHeader};
use crate::ids::{DeviceIndex, ObjectId, SegmentId, UnixMillis, UploadId};
use crate::limits::BLOCK_SIZE;
use crate::metrics::Counters;
use crate::segment::bulk::BulkStream;
use crate::store::Store;

/// The engine on one core.
pub struct Core<D> {
    /// What all cores share.
    pub store: Arc<Store>,
    /// What this core counted.
    pub counters: Counters,
    pub(crate) bulk: BulkStream,
    number: u16,
    devices: Vec<Option<Attached<D>>>,
    random: RefCell<Box<dyn Random>>,
}

struct Attached<D> {
    device: D,
    segment_offset: u64,
    is_fenced: Cell<bool>,
    flushes: FlushQueue,
}

/// Flushes of one device: whoever asks while one is under way shares the next.
#[derive(Default)]
struct FlushQueue {
    is_running: Cell<bool>,
    /// Flushes begun.
    begun: Cell<u64>,
    /// Flushes ended, in order, since only one runs at a time.
    ended: Cell<u64>,
    /// The first failure; none is ever forgiven.
    failed: Cell<Option<IoFailure>>,
    changed: Event,
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
                    device: handles.get_mut(layout.source)?.take()?,
                    segment_offset: layout.segment_offset,
                    is_fenced: Cell::new(false),
                    flushes: FlushQueue::default(),
                })
            })
            .collect();
        Rc::new(Core {
            store,
            counters: Counters::default(),
            bulk: BulkStream::default(),
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
        if places.len() == 1 {
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
        let result = attached.device.write(buffer, self.position(attached, place, offset)).await;
        result.map_err(|_| self.fence(place.device))
    }

    /// Makes durable what was written to those places before this call. All devices must succeed; one that fails is fenced.
    pub(crate) async fn flush(&self, devices: impl Iterator<Item = DeviceIndex>) -> Result<()> {
        join_all(devices.map(|device| self.flush_device(device))).await.into_iter().collect()
    }

    async fn flush_device(&self, device: DeviceIndex) -> Result<()> {
        let attached = self.writable(device)?;
        let queue = &attached.flushes;
        // A flush that is under way may have begun before our write ended: ours is the next one.
        let mine = queue.begun.get() + 1;
        while queue.ended.get() < mine {
            if queue.failed.get().is_some() {
                return Err(self.fence(device));
            }
            if queue.is_running.get() {
                queue.changed.wait().await;
                continue;
            }
            let _running = queue.begin();
            self.counters.device_flushes.add(1);
            match attached.device.flush().await {
                Ok(()) => queue.ended.set(queue.begun.get()),
                Err(failure) => queue.failed.set(Some(failure)),
            }
        }
        // The device may have been fenced by another write meanwhile; what we wrote is durable all the same.
        Ok(())
    }

    /// Writes a segment's header to all its copies and makes it durable.
    pub(crate) async fn write_header(&self, header: &SegmentHeader) -> Result<()> {
        let mut block = AlignedBuffer::zeroed(BLOCK_SIZE);
        block.copy_from_slice(header.encode(self.store.id).as_bytes());
        self.write_copies(&header.places, 0, Rc::new(block)).await?;
        self.flush(header.places.iter().map(|place| place.device)).await
    }

    /// The places of a segment, those first that this core prefers: readers spread over the copies.
    pub(crate) fn places_to_read(&self, segment: SegmentId, salt: u64) -> Vec<Place> {
        let mut places = self.store.table.places(segment).unwrap_or_default();
        if places.len() > 1 {
            let first = (salt % places.len() as u64) as usize;
            places.rotate_left(first);
            places.sort_by_key(|place| self.attached(place.device).is_none_or(|a| a.is_fenced.get()));
        }
        places
    }

    /// No more writes go to that device, from any core.
    fn fence(&self, device: DeviceIndex) -> Error {
        if let Some(attached) = self.attached(device)
            && !attached.is_fenced.replace(true)
        {
            self.counters.devices_fenced.add(1);
            self.store.table.fence(device);
        }
        Error::Fenced { device }
    }

    fn attached(&self, device: DeviceIndex) -> Option<&Attached<D>> {
        self.devices.get(usize::from(device.0))?.as_ref()
    }

    fn writable(&self, device: DeviceIndex) -> Result<&Attached<D>> {
        match self.attached(device) {
            Some(attached) if !attached.is_fenced.get() => Ok(attached),
            Some(_) => Err(Error::Fenced { device }),
            None => Err(Error::ReadOnly),
        }
    }

    fn position(&self, attached: &Attached<D>, place: Place, offset: u64) -> u64 {
        attached.segment_offset + u64::from(place.slot) * self.store.segment_size + offset
    }
}

impl FlushQueue {
    fn begin(&self) -> Running<'_> {
        self.is_running.set(true);
        self.begun.set(self.begun.get() + 1);
        Running(self)
    }
}

/// Also when the future that runs the flush is dropped, another must be able to run the next.
struct Running<'a>(&'a FlushQueue);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_running.set(false);
        self.0.changed.notify();
    }
}

/// "No such device", for devices that are missing.
const ENODEV: i32 = 19;

fn io_error(device: DeviceIndex, failure: IoFailure) -> Error {
    Error::Io { device, op: failure.op, errno: failure.errno }
}
