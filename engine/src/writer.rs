//! Taking in the bytes of an object: sealed frame by frame where they arrive, written while more arrive.
//!
//! The length is known before the first byte: the last frame is sealed as the last, and space is reserved in as few extents as possible.
//! Small objects stay in memory and go into their record. A writer that is dropped leaves nothing behind but dead blocks in an open segment.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::core::Core;
use crate::crypto::{FramePosition, ObjectKey, Sealing};
use crate::device::{AlignedBuffer, Device};
use crate::error::Result;
use crate::format::body::{Extent, Piece};
use crate::format::frame::{disk_len, frame_count, frame_disk_len, frame_payload_len};
use crate::format::segment::Temperature;
use crate::ids::{DeviceIndex, ObjectId};
use crate::limits::{BLOCK_SIZE, FRAME_SIZE, FRAMES_PER_IO, IO_DEPTH, SEAL_SIZE};
use crate::reader::{FrameRun, read_verbatim};
use crate::segment::bulk::Reservation;
use crate::segment::table::{Purpose, SegmentPin};

/// The bytes of an object or part, ready to be committed.
#[derive(Debug)]
pub enum Content {
    /// In memory: they will lie in the record.
    Inline(Vec<u8>),
    /// In bulk segments, durable.
    Frames {
        /// Where.
        pieces: Vec<Piece>,
        /// Keep the segments until the commit.
        pins: Vec<SegmentPin>,
    },
}

impl Content {
    /// Bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Frames { pieces, .. } => pieces.iter().map(|piece| piece.len).sum(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the bytes of a new object may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In the record when they are few.
    InlineIfSmall,
    /// In frames, however few: parts of uploads, whose bytes the completed object takes over.
    Frames,
}

/// Room behind inline bytes: a hash may pad them where they are.
const INLINE_ROOM: usize = 128;

/// Takes in the bytes of one object or part.
pub struct ObjectWriter<D: Device> {
    core: Rc<Core<D>>,
    len: u64,
    taken: u64,
    target: Target,
}

enum Target {
    Inline(Vec<u8>),
    Frames(Box<FrameWriter>),
}

type WriteInFlight = Pin<Box<dyn Future<Output = Result<()>>>>;

struct FrameWriter {
    sealing: Sealing,
    object: ObjectId,
    key: ObjectKey,
    /// Frames sealed so far.
    frame: u64,
    extents: Vec<Extent>,
    pins: Vec<SegmentPin>,
    devices: BTreeSet<DeviceIndex>,
    /// The reservation being written, and how much of it is.
    reservation: Option<Reservation>,
    reserved_done: u64,
    /// Bytes on disk that are not reserved yet.
    unreserved: u64,
    /// Frames being filled: plaintext, each at its place.
    buffer: AlignedBuffer,
    /// Bytes of `buffer` on disk that sealed frames fill.
    sealed_len: usize,
    /// Plaintext bytes of the frame after them.
    filled: usize,
    writes: FuturesUnordered<WriteInFlight>,
    temperature: Temperature,
    purpose: Purpose,
}

impl<D: Device> ObjectWriter<D> {
    /// A writer for exactly `len` bytes.
    ///
    /// # Errors
    /// [`crate::Error::Full`] or [`crate::Error::ReadOnly`] when no new data is taken in.
    pub fn new(core: Rc<Core<D>>, sealing: &Sealing, len: u64, layout: Layout) -> Result<Self> {
        core.store.table.admit_data()?;
        let is_inline = len == 0 || (layout == Layout::InlineIfSmall && len <= core.store.inline_max as u64);
        let target = if is_inline {
            Target::Inline(Vec::with_capacity(len as usize + INLINE_ROOM))
        } else {
            Target::Frames(Box::new(FrameWriter::new(&core, sealing, len)?))
        };
        Ok(ObjectWriter { core, len, taken: 0, target })
    }

    /// Whether the bytes stay in memory and go into the record: then nothing here waits.
    pub fn is_inline(&self) -> bool {
        matches!(self.target, Target::Inline(_))
    }

    /// Takes in bytes. More than the announced length is a mistake of the caller.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let taken = self.take(bytes).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Takes in the first of those bytes; how many. More than the announced length is a mistake of the caller.
    ///
    /// # Errors
    /// After [`crate::Error::Full`] none of them was taken, and the call may be repeated when there is space again.
    pub async fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        let left = self.len - self.taken;
        assert!(bytes.len() as u64 <= left, "more bytes than announced: the protocol layer counts them");
        let taken = match &mut self.target {
            Target::Inline(taken) => {
                taken.extend_from_slice(bytes);
                bytes.len()
            }
            Target::Frames(_) if bytes.is_empty() => 0,
            Target::Frames(writer) => bytes.len() - writer.take(&self.core, self.len, bytes).await?.len(),
        };
        self.taken += taken as u64;
        Ok(taken)
    }

    /// All bytes are in: makes them durable (those that do not go into the record).
    pub async fn finish(self) -> Result<Content> {
        assert_eq!(self.taken, self.len, "fewer bytes than announced: the protocol layer counts them");
        match self.target {
            Target::Inline(bytes) => Ok(Content::Inline(bytes)),
            Target::Frames(writer) => writer.finish(&self.core, self.len).await,
        }
    }
}

impl FrameWriter {
    fn new<D: Device>(core: &Rc<Core<D>>, sealing: &Sealing, len: u64) -> Result<Self> {
        let object = core.new_object_id();
        let keyring = &core.store.keyring;
        let key = keyring.object_key(sealing.seal_kind, sealing.namespace, sealing.key_version, object)?;
        Ok(FrameWriter {
            sealing: sealing.clone(),
            object,
            key,
            frame: 0,
            extents: Vec::new(),
            pins: Vec::new(),
            devices: BTreeSet::new(),
            reservation: None,
            reserved_done: 0,
            unreserved: disk_len(len),
            buffer: AlignedBuffer::zeroed(0),
            sealed_len: 0,
            filled: 0,
            writes: FuturesUnordered::new(),
            temperature: Temperature::Hot,
            purpose: Purpose::Data,
        })
    }

    /// Takes what fits into the present frame, and seals and writes what becomes full. Gives back the rest.
    async fn take<'a, D: Device>(
        &mut self,
        core: &Rc<Core<D>>,
        len: u64,
        bytes: &'a [u8],
    ) -> Result<&'a [u8]> {
        if self.buffer.is_empty() {
            self.next_buffer(core).await?;
        }
        let payload_len = frame_payload_len(len, self.frame);
        let (now, rest) = bytes.split_at(bytes.len().min(payload_len - self.filled));
        let at = self.sealed_len + self.filled;
        self.buffer[at..at + now.len()].copy_from_slice(now);
        self.filled += now.len();
        if self.filled == payload_len {
            self.seal_frame(len, payload_len);
            core.counters.frames_written.add(1);
            if self.sealed_len == self.buffer.len() {
                self.write_buffer(core).await?;
            }
        }
        Ok(rest)
    }

    fn seal_frame(&mut self, len: u64, payload_len: usize) {
        let position =
            if self.frame + 1 == frame_count(len) { FramePosition::Last } else { FramePosition::Middle };
        let begin = self.sealed_len;
        let seal = self.key.seal_frame(self.frame, position, &mut self.buffer[begin..begin + payload_len]);
        let (sealed, padding) =
            self.buffer[begin + payload_len..begin + frame_disk_len(payload_len)].split_at_mut(SEAL_SIZE);
        sealed.copy_from_slice(&seal);
        padding.fill(0);
        self.sealed_len += frame_disk_len(payload_len);
        self.frame += 1;
        self.filled = 0;
    }

    /// A buffer for the next frames: as long as one device write, or as what is left of the reservation.
    async fn next_buffer<D: Device>(&mut self, core: &Rc<Core<D>>) -> Result<()> {
        if self.reservation.as_ref().is_none_or(|r| r.extent.disk_len() == self.reserved_done) {
            let reservation = core.reserve_bulk(self.unreserved, self.temperature, self.purpose).await?;
            self.unreserved -= reservation.extent.disk_len();
            self.extents.push(reservation.extent);
            self.pins.push(reservation.pin.clone());
            self.devices.extend(reservation.places.iter().map(|place| place.device));
            self.reservation = Some(reservation);
            self.reserved_done = 0;
        }
        let left = self.reservation.as_ref().map_or(0, |r| r.extent.disk_len()) - self.reserved_done;
        self.buffer = AlignedBuffer::scratch(left.min((FRAMES_PER_IO * FRAME_SIZE) as u64) as usize);
        self.sealed_len = 0;
        Ok(())
    }

    /// Writes the full buffer to all copies, waiting only when enough writes are in flight.
    async fn write_buffer<D: Device>(&mut self, core: &Rc<Core<D>>) -> Result<()> {
        while self.writes.len() >= IO_DEPTH {
            self.writes.next().await.unwrap_or(Ok(()))?;
        }
        let reservation = self.reservation.as_ref().expect("a buffer belongs to a reservation");
        let mut buffer = std::mem::replace(&mut self.buffer, AlignedBuffer::zeroed(0));
        // A write that is given up may still reach the device: the segment stays what it is until the kernel lets go of the buffer.
        buffer.hold(reservation.pin.clone());
        let buffer = Rc::new(buffer);
        let offset = u64::from(reservation.extent.block) * BLOCK_SIZE as u64 + self.reserved_done;
        self.reserved_done += buffer.len() as u64;
        let (core, places) = (core.clone(), reservation.places.clone());
        let write: WriteInFlight = Box::pin(async move { core.write_copies(&places, offset, buffer).await });
        self.writes.push(write);
        // Futures do nothing until polled: until none is ready any more, so that the new one has been started.
        while let Poll::Ready(Some(result)) = futures_util::poll!(self.writes.next()) {
            result?;
        }
        Ok(())
    }

    async fn finish<D: Device>(mut self, core: &Rc<Core<D>>, len: u64) -> Result<Content> {
        assert!(
            self.buffer.is_empty() && self.frame == frame_count(len),
            "the last frame fills the last buffer"
        );
        while let Some(result) = self.writes.next().await {
            result?;
        }
        core.flush(self.devices.iter().copied()).await?;
        let piece = Piece {
            object_id: self.object,
            namespace: self.sealing.namespace,
            key_version: self.sealing.key_version,
            seal_kind: self.sealing.seal_kind,
            len,
            extents: self.extents,
        };
        Ok(Content::Frames { pieces: vec![piece], pins: self.pins })
    }
}

/// A copy of an extent, written and not flushed.
pub(crate) struct CopiedExtent {
    /// Where it lies now.
    pub(crate) extents: Vec<Extent>,
    /// Keep its segments.
    pub(crate) pins: Vec<SegmentPin>,
    /// The devices to flush.
    pub(crate) devices: BTreeSet<DeviceIndex>,
}

impl<D: Device> Core<D> {
    /// Writes bytes as a piece that belongs to the store itself, and makes them durable.
    pub(crate) async fn write_piece(
        self: &Rc<Self>,
        sealing: &Sealing,
        bytes: &[u8],
        temperature: Temperature,
        purpose: Purpose,
    ) -> Result<(Piece, Vec<SegmentPin>)> {
        let len = bytes.len() as u64;
        let mut writer = FrameWriter::new(self, sealing, len)?;
        (writer.temperature, writer.purpose) = (temperature, purpose);
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = writer.take(self, len, rest).await?;
        }
        match writer.finish(self, len).await? {
            Content::Frames { mut pieces, pins } => {
                Ok((pieces.pop().expect("a frame writer gives one piece"), pins))
            }
            Content::Inline(_) => unreachable!("a frame writer writes frames"),
        }
    }

    /// Copies the frames of one of a piece's extents as they lie, once they have verified, to where compaction writes.
    pub(crate) async fn copy_extent(self: &Rc<Self>, piece: &Piece, index: usize) -> Result<CopiedExtent> {
        let extent = &piece.extents[index];
        let frames_of = |extent: &Extent| extent.disk_len().div_ceil(FRAME_SIZE as u64);
        let mut frame: u64 = piece.extents[..index].iter().map(frames_of).sum();
        let keyring = &self.store.keyring;
        let key = keyring.object_key(piece.seal_kind, piece.namespace, piece.key_version, piece.object_id)?;
        let mut copy = CopiedExtent { extents: Vec::new(), pins: Vec::new(), devices: BTreeSet::new() };
        let mut done = 0;
        while done < extent.disk_len() {
            let left = extent.disk_len() - done;
            let reservation = self.reserve_bulk(left, Temperature::Cold, Purpose::Move).await?;
            let mut reserved_done = 0;
            while reserved_done < reservation.extent.disk_len() {
                let len =
                    (reservation.extent.disk_len() - reserved_done).min((FRAMES_PER_IO * FRAME_SIZE) as u64);
                let count = len.div_ceil(FRAME_SIZE as u64);
                let run = FrameRun::verbatim(piece, frame..frame + count, extent, done, len as usize);
                let mut buffer = read_verbatim(self, &key, &run).await?;
                buffer.hold(reservation.pin.clone());
                let offset = reservation.extent.offset() + reserved_done;
                self.write_copies(&reservation.places, offset, Rc::new(buffer)).await?;
                (frame, done, reserved_done) = (frame + count, done + len, reserved_done + len);
            }
            copy.devices.extend(reservation.places.iter().map(|place| place.device));
            copy.extents.push(reservation.extent);
            copy.pins.push(reservation.pin);
        }
        Ok(copy)
    }
}
