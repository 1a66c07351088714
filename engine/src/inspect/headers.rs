//! What can be read of a store without its key.

use futures_util::StreamExt;
use futures_util::stream;

use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::format::checkpoint::Pointer;
use crate::format::record::RecordHeader;
use crate::format::segment::{Place, SegmentHeader};
use crate::format::superblock::{CHECKPOINT_OFFSET, COPY_OFFSETS, Superblock, Verdict};
use crate::ids::{DeviceIndex, SegmentId, ShardId};
use crate::limits::BLOCK_SIZE;

/// Slot headers read at once.
const HEADER_READS: usize = 64;

/// Devices, and the superblocks that they have.
pub struct Headers<'a, D> {
    devices: &'a [D],
    superblocks: Vec<[Verdict; 2]>,
}

/// A slot that has a segment header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The device, by its position in the list that was given.
    pub source: usize,
    /// The slot.
    pub place: Place,
    /// The header.
    pub header: SegmentHeader,
}

impl<'a, D: Device> Headers<'a, D> {
    /// Reads the superblocks of those devices.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn read(devices: &'a [D]) -> Result<Self> {
        let mut superblocks = Vec::new();
        for (source, device) in devices.iter().enumerate() {
            let mut copies = [Verdict::Empty, Verdict::Empty];
            for (copy, offset) in copies.iter_mut().zip(COPY_OFFSETS) {
                *copy = Superblock::decode(&block(device, source, offset).await?);
            }
            superblocks.push(copies);
        }
        Ok(Headers { devices, superblocks })
    }

    /// Both copies of each device's superblock, in the order in which the devices were given.
    pub fn superblocks(&self) -> &[[Verdict; 2]] {
        &self.superblocks
    }

    /// The newest superblock of a device.
    pub fn newest(&self, source: usize) -> Option<&Superblock> {
        let copies = self.superblocks.get(source)?.iter().filter_map(|verdict| match verdict {
            Verdict::Present(superblock) => Some(superblock.as_ref()),
            _ => None,
        });
        copies.max_by_key(|superblock| superblock.sequence)
    }

    /// Every slot with a header, segments that were freed included: only the log tells which are in use.
    pub async fn slots(&self) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for (source, device) in self.devices.iter().enumerate() {
            let Some(superblock) = self.newest(source) else { continue };
            let mut reads = stream::iter(0..superblock.slot_count)
                .map(|slot| {
                    let offset = superblock.segment_offset + u64::from(slot) * superblock.segment_size;
                    async move { (slot, block(device, source, offset).await) }
                })
                .buffered(HEADER_READS);
            while let Some((slot, read)) = reads.next().await {
                if let Some(header) = SegmentHeader::decode(&read?, superblock.store_id) {
                    let place = Place { device: superblock.device_index, slot };
                    slots.push(Slot { source, place, header });
                }
            }
        }
        Ok(slots)
    }

    /// The header of a record, as each copy of the segment has it; `None` where it does not verify.
    pub async fn record(&self, segment: SegmentId, offset: u64) -> Result<Vec<(Slot, Option<RecordHeader>)>> {
        let mut copies = Vec::new();
        for slot in self.slots().await?.into_iter().filter(|slot| slot.header.id == segment) {
            let Some(superblock) = self.newest(slot.source) else { continue };
            let begin = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
            if begin >= superblock.segment_size {
                return Err(Error::TooLarge { what: "the offset" });
            }
            let len = (2 * BLOCK_SIZE as u64).min(superblock.segment_size - begin) as usize;
            let at = superblock.segment_offset + u64::from(slot.place.slot) * superblock.segment_size + begin;
            let (result, bytes) = self.devices[slot.source].read(AlignedBuffer::zeroed(len), at).await;
            result.map_err(|failure| io_error(slot.source, failure))?;
            let header = RecordHeader::decode(&bytes[(offset - begin) as usize..]);
            copies.push((slot, header));
        }
        Ok(copies)
    }

    /// Both pointers of each shard on each device; `None` where there is none that verifies.
    pub async fn pointers(&self) -> Result<Vec<(usize, ShardId, [Option<Pointer>; 2])>> {
        let mut pointers = Vec::new();
        for (source, device) in self.devices.iter().enumerate() {
            let Some(superblock) = self.newest(source) else { continue };
            for shard in (0..superblock.shard_count).map(ShardId) {
                let mut both = [None, None];
                for (turn, pointer) in (0..).zip(&mut both) {
                    let offset = CHECKPOINT_OFFSET + Pointer::offset(shard, turn);
                    let bytes = block(device, source, offset).await?;
                    *pointer = Pointer::decode(&bytes, superblock.store_id, shard);
                }
                pointers.push((source, shard, both));
            }
        }
        Ok(pointers)
    }
}

async fn block<D: Device>(device: &D, source: usize, offset: u64) -> Result<AlignedBuffer> {
    let (result, bytes) = device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await;
    result.map_err(|failure| io_error(source, failure)).map(|()| bytes)
}

fn io_error(source: usize, failure: crate::device::IoFailure) -> Error {
    Error::Io { device: DeviceIndex(source as u16), op: failure.op, errno: failure.errno }
}
