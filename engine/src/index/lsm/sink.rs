//! Where the blocks of a new run go: sealed into large buffers and written while more are made.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::core::Core;
use crate::crypto::{FramePosition, ObjectKey};
use crate::device::{AlignedBuffer, Device};
use crate::error::Result;
use crate::event::yield_now;
use crate::format::body::Extent;
use crate::format::segment::Temperature;
use crate::ids::DeviceIndex;
use crate::limits::{
    BLOCK_SIZE, IO_DEPTH, RESERVE_LEN_MAX, RUN_BLOCK_PAYLOAD, RUN_BLOCK_SIZE, RUN_BLOCKS_PER_IO,
};
use crate::segment::bulk::Reservation;
use crate::segment::table::{Purpose, SegmentPin};

type WriteInFlight = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Takes blocks in order and makes them durable.
pub(super) struct BlockSink<D: Device> {
    core: Rc<Core<D>>,
    key: ObjectKey,
    purpose: Purpose,
    /// Blocks taken.
    block_count: u32,
    /// Blocks that are still expected: how much is reserved at a time.
    expected: u32,
    extents: Vec<Extent>,
    pins: Vec<SegmentPin>,
    devices: BTreeSet<DeviceIndex>,
    /// The reservation being written, and how many bytes of it are.
    reservation: Option<Reservation>,
    reserved_done: u64,
    buffer: AlignedBuffer,
    /// Bytes of `buffer` that sealed blocks fill.
    filled: usize,
    writes: FuturesUnordered<WriteInFlight>,
}

/// Durable blocks.
pub(super) struct Sunk {
    pub(super) key: ObjectKey,
    pub(super) extents: Vec<Extent>,
    pub(super) pins: Vec<SegmentPin>,
}

impl<D: Device> BlockSink<D> {
    /// For about so many blocks, under that key.
    pub(super) fn new(core: Rc<Core<D>>, key: ObjectKey, purpose: Purpose, expected: u32) -> Self {
        BlockSink {
            core,
            key,
            purpose,
            block_count: 0,
            expected,
            extents: Vec::new(),
            pins: Vec::new(),
            devices: BTreeSet::new(),
            reservation: None,
            reserved_done: 0,
            buffer: AlignedBuffer::zeroed(0),
            filled: 0,
            writes: FuturesUnordered::new(),
        }
    }

    /// Blocks taken so far.
    pub(super) fn block_count(&self) -> u32 {
        self.block_count
    }

    /// Takes a block: `fill` lays it out in a zeroed payload.
    pub(super) async fn push(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if self.buffer.is_empty() {
            self.next_buffer().await?;
        }
        let (payload, seal_place) =
            self.buffer[self.filled..self.filled + RUN_BLOCK_SIZE].split_at_mut(RUN_BLOCK_PAYLOAD);
        fill(payload);
        let seal = self.key.seal_frame(self.block_count.into(), FramePosition::Middle, payload);
        seal_place.copy_from_slice(&seal);
        self.block_count += 1;
        self.expected = self.expected.saturating_sub(1);
        self.filled += RUN_BLOCK_SIZE;
        if self.filled == self.buffer.len() {
            self.write_buffer().await?;
        }
        Ok(())
    }

    /// Makes all blocks durable.
    pub(super) async fn finish(mut self) -> Result<Sunk> {
        if self.filled > 0 {
            self.buffer.truncate(self.filled);
            self.write_buffer().await?;
        }
        self.give_back_rest();
        while let Some(result) = self.writes.next().await {
            result?;
        }
        self.core.flush(self.devices.iter().copied()).await?;
        let written = u64::from(self.block_count) * RUN_BLOCK_SIZE as u64;
        assert_eq!(
            self.extents.iter().map(Extent::disk_len).sum::<u64>(),
            written,
            "extents hold the blocks"
        );
        self.core.counters.run_bytes_written.add(written);
        Ok(Sunk { key: self.key, extents: self.extents, pins: self.pins })
    }

    /// A buffer for the next blocks: as long as one device write, or as what is left of the reservation.
    async fn next_buffer(&mut self) -> Result<()> {
        if self.reservation.as_ref().is_none_or(|r| r.extent.disk_len() == self.reserved_done) {
            let blocks = (self.expected as usize).max(RUN_BLOCKS_PER_IO) as u64;
            let wanted = (blocks * RUN_BLOCK_SIZE as u64).min(RESERVE_LEN_MAX);
            let reservation = self.core.reserve_bulk(wanted, Temperature::Cold, self.purpose).await?;
            self.take_extent(&reservation);
            self.reservation = Some(reservation);
            self.reserved_done = 0;
        }
        let left = self.reservation.as_ref().map_or(0, |r| r.extent.disk_len()) - self.reserved_done;
        self.buffer = AlignedBuffer::zeroed(left.min((RUN_BLOCKS_PER_IO * RUN_BLOCK_SIZE) as u64) as usize);
        self.filled = 0;
        Ok(())
    }

    fn take_extent(&mut self, reservation: &Reservation) {
        let new = reservation.extent;
        assert!(
            new.disk_len().is_multiple_of(RUN_BLOCK_SIZE as u64),
            "an extent holds whole blocks of a run"
        );
        if self.extents.iter().all(|extent| extent.segment != new.segment) {
            self.pins.push(reservation.pin.clone());
        }
        self.devices.extend(reservation.places.iter().map(|place| place.device));
        match self.extents.last_mut() {
            Some(last) if last.segment == new.segment && last.block + last.block_count == new.block => {
                last.block_count += new.block_count;
            }
            _ => self.extents.push(new),
        }
    }

    fn give_back_rest(&mut self) {
        let Some(reservation) = self.reservation.take() else { return };
        let used = (self.reserved_done / BLOCK_SIZE as u64) as u32;
        self.core.unreserve_bulk(&reservation, used, Temperature::Cold);
        if let Some(last) = self.extents.last_mut() {
            last.block_count -= reservation.extent.block_count - used;
        }
    }

    /// Writes the full buffer to all copies, waiting only when enough writes are in flight.
    async fn write_buffer(&mut self) -> Result<()> {
        while self.writes.len() >= IO_DEPTH {
            self.writes.next().await.unwrap_or(Ok(()))?;
        }
        let reservation = self.reservation.as_ref().expect("a buffer belongs to a reservation");
        let mut buffer = std::mem::replace(&mut self.buffer, AlignedBuffer::zeroed(0));
        self.filled = 0;
        // A write that is given up may still reach the device: the segment stays what it is until the kernel lets go of the buffer.
        buffer.hold(reservation.pin.clone());
        let buffer = Rc::new(buffer);
        let offset = reservation.extent.offset() + self.reserved_done;
        self.reserved_done += buffer.len() as u64;
        let (core, places) = (self.core.clone(), reservation.places.clone());
        let write: WriteInFlight = Box::pin(async move { core.write_copies(&places, offset, buffer).await });
        self.writes.push(write);
        // Futures do nothing until polled: until none is ready any more, so that the new one has been started.
        while let Poll::Ready(Some(result)) = futures_util::poll!(self.writes.next()) {
            result?;
        }
        // Making a run is long work; here is where others get their turn.
        yield_now().await;
        Ok(())
    }
}
