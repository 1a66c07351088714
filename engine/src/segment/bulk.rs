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
use crate::format::segment::{Place, Predecessor, SegmentHeader, SegmentKind, Temperature};
use crate::ids::{Lsn, SegmentId};
use crate::limits::{BLOCK_SIZE, FRAME_SIZE, RESERVE_LEN_MAX};
use crate::segment::table::{Purpose, SegmentPin, SegmentTable, Wanted};

const FRAME_BLOCKS: u32 = (FRAME_SIZE / BLOCK_SIZE) as u32;

/// The bulk streams of a core, one for each temperature.
#[derive(Default)]
pub(crate) struct BulkStreams {
    hot: BulkStream,
    cold: BulkStream,
    sequence: Cell<u64>,
}

impl BulkStreams {
    fn of(&self, temperature: Temperature) -> &BulkStream {
        match temperature {
            Temperature::Hot => &self.hot,
            Temperature::Cold => &self.cold,
        }
    }
}

/// The open bulk segment of a stream.
#[derive(Default)]
struct BulkStream {
    open: RefCell<Option<OpenSegment>>,
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
    pub(crate) async fn reserve_bulk(
        &self,
        disk_len: u64,
        temperature: Temperature,
        purpose: Purpose,
    ) -> Result<Reservation> {
        let stream = self.bulk.of(temperature);
        let wanted =
            (disk_len.min(RESERVE_LEN_MAX).min(self.store.segment_size / 4) / BLOCK_SIZE as u64) as u32;
        // Below the whole length only whole frames make an extent.
        let wanted = if u64::from(wanted) * (BLOCK_SIZE as u64) < disk_len {
            wanted / FRAME_BLOCKS * FRAME_BLOCKS
        } else {
            wanted
        };
        loop {
            if let Some(reservation) = self.take_blocks(stream, wanted) {
                return Ok(reservation);
            }
            if stream.is_changing.get() {
                stream.changed.wait().await;
            } else {
                self.change_bulk_segment(stream, temperature, purpose).await?;
            }
        }
    }

    /// Gives back what is not used of a reservation, if nobody has reserved after it; the rest is dead in its segment.
    /// No write to those blocks may be under way.
    pub(crate) fn unreserve_bulk(
        &self,
        reservation: &Reservation,
        used_blocks: u32,
        temperature: Temperature,
    ) {
        let extent = &reservation.extent;
        assert!(used_blocks <= extent.block_count, "only what was reserved is used");
        if let Some(open) = self.bulk.of(temperature).open.borrow_mut().as_mut()
            && open.id == extent.segment
            && open.next_block == extent.block + extent.block_count
        {
            open.next_block = extent.block + used_blocks;
        }
    }

    fn take_blocks(&self, stream: &BulkStream, wanted: u32) -> Option<Reservation> {
        let mut open = stream.open.borrow_mut();
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

    async fn change_bulk_segment(
        &self,
        stream: &BulkStream,
        temperature: Temperature,
        purpose: Purpose,
    ) -> Result<()> {
        let _changing = Changing::begin(stream);
        if let Some(full) = stream.open.take() {
            self.store.table.seal(full.id);
        }
        let wanted = Wanted { kind: SegmentKind::Bulk, temperature, stream: self.number(), purpose };
        let allocation = self.store.table.allocate(&wanted)?;
        // Until the stream has it: whoever gives up half-way, or is dropped, leaves no open segment that nobody writes.
        let unused = Unused { table: &self.store.table, id: allocation.id };
        if allocation.next_block == 1 {
            let header = SegmentHeader {
                id: allocation.id,
                kind: SegmentKind::Bulk,
                stream: self.number(),
                sequence: self.bulk.sequence.get(),
                first_lsn: Lsn(0),
                temperature,
                predecessor: Predecessor::Settled,
                places: allocation.places.clone(),
            };
            self.write_header(&header).await?;
            self.bulk.sequence.set(header.sequence + 1);
        }
        std::mem::forget(unused);
        *stream.open.borrow_mut() = Some(OpenSegment {
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
