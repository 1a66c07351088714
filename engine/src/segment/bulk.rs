//! A core's bulk stream: where the frames of the objects that it receives go.
//!
//! Objects reserve contiguous blocks and write them on their own, so that concurrent uploads share a segment without waiting for
//! each other. Only the change to a new segment is done by one while the others wait.

use std::cell::{Cell, RefCell};

use crate::core::Core;
use crate::device::Device;
use crate::error::Result;
use crate::event::Event;
use crate::format::body::Extent;
use crate::format::segment::{Place, Predecessor, SegmentHeader, SegmentKind};
use crate::ids::{Lsn, SegmentId};
use crate::limits::{BLOCK_SIZE, FRAME_SIZE, RESERVE_LEN_MAX};
use crate::segment::table::{Purpose, SegmentPin, SegmentTable};

const FRAME_BLOCKS: u32 = (FRAME_SIZE / BLOCK_SIZE) as u32;

/// The open bulk segment of a core.
#[derive(Default)]
pub(crate) struct BulkStream {
    open: RefCell<Option<OpenSegment>>,
    sequence: Cell<u64>,
    is_changing: Cell<bool>,
    changed: Event,
}

struct OpenSegment {
    id: SegmentId,
    places: Vec<Place>,
    next_block: u32,
    block_count: u32,
}

/// Blocks that one object may write, and nobody else.
#[derive(Debug)]
pub(crate) struct Reservation {
    /// The blocks.
    pub(crate) extent: Extent,
    /// Where their copies go.
    pub(crate) places: Vec<Place>,
    /// Keeps the segment until the object is committed or given up.
    pub(crate) pin: SegmentPin,
}

impl<D: Device> Core<D> {
    /// Reserves up to `disk_len` contiguous bytes: all of them, or at least one whole frame.
    pub(crate) async fn reserve_bulk(&self, disk_len: u64) -> Result<Reservation> {
        let wanted =
            (disk_len.min(RESERVE_LEN_MAX).min(self.store.segment_size / 4) / BLOCK_SIZE as u64) as u32;
        // Below the whole length only whole frames make an extent.
        let wanted = if u64::from(wanted) * (BLOCK_SIZE as u64) < disk_len {
            wanted / FRAME_BLOCKS * FRAME_BLOCKS
        } else {
            wanted
        };
        loop {
            if let Some(reservation) = self.take_blocks(wanted) {
                return Ok(reservation);
            }
            if self.bulk.is_changing.get() {
                self.bulk.changed.wait().await;
            } else {
                self.change_bulk_segment().await?;
            }
        }
    }

    fn take_blocks(&self, wanted: u32) -> Option<Reservation> {
        let mut open = self.bulk.open.borrow_mut();
        let segment = open.as_mut()?;
        let left = segment.block_count - segment.next_block;
        let count = if wanted <= left { wanted } else { left / FRAME_BLOCKS * FRAME_BLOCKS };
        if count == 0 || !self.store.table.takes_writes(&segment.places) {
            return None;
        }
        let extent = Extent { segment: segment.id, block: segment.next_block, block_count: count };
        let pin = self.store.table.pin(segment.id)?;
        segment.next_block += count;
        Some(Reservation { extent, places: segment.places.clone(), pin })
    }

    async fn change_bulk_segment(&self) -> Result<()> {
        let _changing = Changing::begin(&self.bulk);
        if let Some(full) = self.bulk.open.take() {
            self.store.table.seal(full.id);
        }
        let allocation = self.store.table.allocate(SegmentKind::Bulk, Purpose::Data)?;
        // Until the stream has it: whoever gives up half-way, or is dropped, leaves no open segment that nobody writes.
        let unused = Unused { table: &self.store.table, id: allocation.id };
        if allocation.next_block == 1 {
            let header = SegmentHeader {
                id: allocation.id,
                kind: SegmentKind::Bulk,
                stream: self.number(),
                sequence: self.bulk.sequence.get(),
                first_lsn: Lsn(0),
                predecessor: Predecessor::Settled,
                places: allocation.places.clone(),
            };
            self.write_header(&header).await?;
            self.bulk.sequence.set(header.sequence + 1);
        }
        std::mem::forget(unused);
        *self.bulk.open.borrow_mut() = Some(OpenSegment {
            id: allocation.id,
            places: allocation.places,
            next_block: allocation.next_block,
            block_count: (self.store.segment_size / BLOCK_SIZE as u64) as u32,
        });
        Ok(())
    }
}

/// A segment that was given out and did not come into use: dropping this gives it back.
struct Unused<'a> {
    table: &'a SegmentTable,
    id: SegmentId,
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        self.table.seal(self.id);
    }
}

struct Changing<'a>(&'a BulkStream);

impl<'a> Changing<'a> {
    fn begin(stream: &'a BulkStream) -> Self {
        stream.is_changing.set(true);
        Changing(stream)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.is_changing.set(false);
        self.0.changed.notify();
    }
}
