//! Giving out the bytes of an object: exactly the frames that a range needs, verified and opened in place, a little ahead of the caller.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

use futures_util::future::{MaybeDone, maybe_done};

use crate::core::Core;
use crate::crypto::{FramePosition, ObjectKey, Seal};
use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::format::body::{Extent, Piece};
use crate::format::frame::{frame_count, frame_disk_len, frame_payload_len};
use crate::ids::SegmentId;
use crate::limits::{FRAME_PAYLOAD, FRAME_SIZE, FRAMES_PER_IO, SEAL_SIZE};

/// Device reads in flight per object: the next one is under way while this one is sent.
const READ_DEPTH: usize = 2;

/// Opened bytes of an object, in order: spans of a buffer.
#[derive(Debug)]
pub struct Chunk {
    buffer: AlignedBuffer,
    spans: Vec<Range<usize>>,
}

impl Chunk {
    /// The bytes, span by span.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.buffer[span.clone()])
    }

    /// Bytes in all spans.
    pub fn len(&self) -> usize {
        self.spans.iter().map(Range::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads a range of an object's pieces.
pub struct ObjectReader<D: Device> {
    core: Rc<Core<D>>,
    pieces: Rc<Vec<Piece>>,
    keys: Vec<Option<Rc<ObjectKey>>>,
    /// What is asked for, of all pieces taken together.
    range: Range<u64>,
    /// The next piece to plan, and where it begins: reads are planned piece by piece, since an object of 5 TB takes millions.
    next_piece: usize,
    next_begin: u64,
    runs: VecDeque<FrameRun>,
    reads: VecDeque<ReadInFlight>,
}

type ReadInFlight = Pin<Box<MaybeDone<Pin<Box<dyn Future<Output = Result<Chunk>>>>>>>;

/// Frames that one device read fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameRun {
    /// Which piece.
    piece: usize,
    /// Plaintext length of that piece.
    piece_len: u64,
    /// First frame and number of frames.
    frames: Range<u64>,
    /// Where they lie.
    segment: SegmentId,
    offset: u64,
    disk_len: usize,
    /// Of their plaintext, taken together, what is asked for.
    wanted: Range<usize>,
}

impl FrameRun {
    /// Those frames of a piece, which lie `done` bytes into an extent.
    pub(crate) fn verbatim(
        piece: &Piece,
        frames: Range<u64>,
        extent: &Extent,
        done: u64,
        disk_len: usize,
    ) -> Self {
        FrameRun {
            piece: 0,
            piece_len: piece.len,
            frames,
            segment: extent.segment,
            offset: extent.offset() + done,
            disk_len,
            wanted: 0..0,
        }
    }
}

/// Reads frames as they lie on disk, from the first copy in which they verify.
pub(crate) async fn read_verbatim<D: Device>(
    core: &Rc<Core<D>>,
    key: &ObjectKey,
    run: &FrameRun,
) -> Result<AlignedBuffer> {
    let mut error = Error::Corrupt { segment: run.segment, offset: run.offset, what: "its segment is gone" };
    for place in core.places_to_read(run.segment, 0) {
        let (result, buffer) = core.read_copy(place, run.offset, AlignedBuffer::scratch(run.disk_len)).await;
        // Opening is in place: what goes on is what was read.
        let mut opened = AlignedBuffer::scratch(run.disk_len);
        opened.copy_from_slice(&buffer);
        match result.and_then(|()| open_frames(key, run, &mut opened)) {
            Ok(_) => return Ok(buffer),
            Err(failure) => {
                core.counters.copies_skipped.add(1);
                error = error.or_of_copy(failure);
            }
        }
    }
    Err(error)
}

impl<D: Device> ObjectReader<D> {
    /// A reader of `range` of the pieces taken together; the range lies within them.
    pub fn new(core: Rc<Core<D>>, pieces: Rc<Vec<Piece>>, range: Range<u64>) -> Self {
        let keys = pieces.iter().map(|_| None).collect();
        ObjectReader {
            core,
            pieces,
            keys,
            range,
            next_piece: 0,
            next_begin: 0,
            runs: VecDeque::new(),
            reads: VecDeque::new(),
        }
    }

    /// The next bytes; `None` at the end of the range.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when no copy verifies, [`Error::Io`] when none can be read.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        while self.reads.len() < READ_DEPTH
            && let Some(run) = self.next_run()
        {
            let key = self.key(run.piece)?;
            let core = self.core.clone();
            let read: Pin<Box<dyn Future<Output = _>>> =
                Box::pin(async move { read_run(&core, &key, &run).await });
            let mut read = Box::pin(maybe_done(read));
            // Futures do nothing until polled: this starts the read.
            let _ = futures_util::poll!(read.as_mut());
            self.reads.push_back(read);
        }
        let Some(mut read) = self.reads.pop_front() else { return Ok(None) };
        read.as_mut().await;
        read.as_mut().take_output().transpose()
    }

    fn next_run(&mut self) -> Option<FrameRun> {
        while self.runs.is_empty() {
            let piece = self.pieces.get(self.next_piece)?;
            let wanted = overlap(&self.range, self.next_begin, piece.len);
            if !wanted.is_empty() {
                plan_piece(self.next_piece, piece, wanted, &mut self.runs);
            }
            self.next_piece += 1;
            self.next_begin += piece.len;
        }
        self.runs.pop_front()
    }

    fn key(&mut self, piece: usize) -> Result<Rc<ObjectKey>> {
        if let Some(key) = &self.keys[piece] {
            return Ok(key.clone());
        }
        let of = &self.pieces[piece];
        let key = Rc::new(self.core.store.keyring.object_key(
            of.seal_kind,
            of.namespace,
            of.key_version,
            of.object_id,
        )?);
        self.keys[piece] = Some(key.clone());
        Ok(key)
    }
}

/// What of a range lies in `len` bytes from `begin`, counted from there.
fn overlap(range: &Range<u64>, begin: u64, len: u64) -> Range<u64> {
    range.start.max(begin) - begin..range.end.min(begin + len).saturating_sub(begin)
}

/// The device reads that a range of a piece takes.
fn plan_piece(index: usize, piece: &Piece, range: Range<u64>, runs: &mut VecDeque<FrameRun>) {
    let (frame_size, payload) = (FRAME_SIZE as u64, FRAME_PAYLOAD as u64);
    let wanted = range.start / payload..range.end.div_ceil(payload);
    let mut extent_first = 0;
    for extent in &piece.extents {
        // Frames begin every 64 KiB; only the last extent may end in a shorter one.
        let extent_frames = extent.disk_len().div_ceil(frame_size);
        let mut frame = wanted.start.max(extent_first);
        let last = wanted.end.min(extent_first + extent_frames);
        while frame < last {
            let frames = frame..last.min(frame + FRAMES_PER_IO as u64);
            let disk_len = frames.clone().map(|f| frame_disk_len(frame_payload_len(piece.len, f))).sum();
            let first_byte = frames.start * payload;
            let end_byte = (frames.end * payload).min(piece.len);
            runs.push_back(FrameRun {
                piece: index,
                piece_len: piece.len,
                segment: extent.segment,
                offset: extent.offset() + (frames.start - extent_first) * frame_size,
                disk_len,
                wanted: (range.start.max(first_byte) - first_byte) as usize
                    ..(range.end.min(end_byte) - first_byte) as usize,
                frames: frames.clone(),
            });
            frame = frames.end;
        }
        extent_first += extent_frames;
    }
}

/// Reads a run from the first copy that verifies.
async fn read_run<D: Device>(core: &Core<D>, key: &ObjectKey, run: &FrameRun) -> Result<Chunk> {
    let mut buffer = AlignedBuffer::scratch(run.disk_len);
    let mut error = Error::Corrupt { segment: run.segment, offset: run.offset, what: "its segment is gone" };
    for place in core.places_to_read(run.segment, run.offset / (FRAMES_PER_IO * FRAME_SIZE) as u64) {
        let (result, back) = core.read_copy(place, run.offset, buffer).await;
        buffer = back;
        match result.and_then(|()| open_frames(key, run, &mut buffer)) {
            Ok(spans) => {
                core.counters.frames_read.add(run.frames.end - run.frames.start);
                return Ok(Chunk { buffer, spans });
            }
            Err(failure) => {
                core.counters.copies_skipped.add(1);
                error = error.or_of_copy(failure);
            }
        }
    }
    Err(error)
}

fn open_frames(key: &ObjectKey, run: &FrameRun, buffer: &mut AlignedBuffer) -> Result<Vec<Range<usize>>> {
    let mut spans = Vec::with_capacity(FRAMES_PER_IO);
    let (mut at, mut plain_at) = (0, 0);
    for frame in run.frames.clone() {
        let payload_len = frame_payload_len(run.piece_len, frame);
        let position =
            if frame + 1 == frame_count(run.piece_len) { FramePosition::Last } else { FramePosition::Middle };
        let (data, rest) = buffer[at..].split_at_mut(payload_len);
        let mut seal: Seal = [0; SEAL_SIZE];
        seal.copy_from_slice(&rest[..SEAL_SIZE]);
        key.open_frame(frame, position, data, &seal).map_err(|_| Error::Corrupt {
            segment: run.segment,
            offset: run.offset + at as u64,
            what: "a frame's seal does not match",
        })?;
        let begin = run.wanted.start.clamp(plain_at, plain_at + payload_len) - plain_at;
        let end = run.wanted.end.clamp(plain_at, plain_at + payload_len) - plain_at;
        if begin < end {
            spans.push(at + begin..at + end);
        }
        plain_at += payload_len;
        at += frame_disk_len(payload_len);
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::body::Extent;
    use crate::format::frame::disk_len;
    use crate::format::record::SealKind;
    use crate::ids::{KeyVersion, NamespaceId, ObjectId};
    use crate::limits::BLOCK_SIZE;

    /// A piece whose first `split` frames are in one extent and the rest in another.
    fn piece(len: u64, split: u64) -> Piece {
        let blocks = (disk_len(len) / BLOCK_SIZE as u64) as u32;
        let first = (split * FRAME_SIZE as u64 / BLOCK_SIZE as u64) as u32;
        let extents = [(SegmentId(1), 1, first.min(blocks)), (SegmentId(2), 1, blocks.saturating_sub(first))];
        Piece {
            object_id: ObjectId([0; 16]),
            namespace: NamespaceId(1),
            key_version: KeyVersion(1),
            seal_kind: SealKind::Checksum,
            len,
            extents: extents
                .into_iter()
                .filter(|(_, _, count)| *count > 0)
                .map(|(segment, block, block_count)| Extent { segment, block, block_count })
                .collect(),
        }
    }

    fn plan(pieces: &[Piece], range: Range<u64>) -> Vec<FrameRun> {
        let (mut runs, mut piece_begin) = (VecDeque::new(), 0);
        for (i, piece) in pieces.iter().enumerate() {
            let wanted = overlap(&range, piece_begin, piece.len);
            if !wanted.is_empty() {
                plan_piece(i, piece, wanted, &mut runs);
            }
            piece_begin += piece.len;
        }
        runs.into()
    }

    #[test]
    fn a_plan_gives_exactly_the_bytes_of_the_range() {
        let pieces = [piece(1_000_000, 3), piece(70_000, 9), piece(5, 1)];
        let total: u64 = pieces.iter().map(|p| p.len).sum();
        for (begin, end) in [(0, total), (65_519, 65_521), (999_999, 1_000_001), (total - 1, total), (7, 7)] {
            let bytes: usize = plan(&pieces, begin..end).iter().map(|run| run.wanted.len()).sum();
            assert_eq!(bytes as u64, end - begin);
        }
    }

    #[test]
    fn a_small_range_reads_one_frame() {
        let runs = plan(&[piece(1_000_000, 3)], 200_000..200_001);
        assert_eq!(runs.len(), 1);
        assert_eq!(
            (runs[0].frames.clone(), runs[0].segment, runs[0].disk_len),
            (3..4, SegmentId(2), FRAME_SIZE)
        );
    }
}
