//! Reading the log from its copies: a record is what the first copy has that verifies.

use std::rc::Rc;

use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::format::record::{HEADER_SIZE, RecordHeader};
use crate::format::segment::Place;
use crate::ids::SegmentId;
use crate::limits::{BLOCK_SIZE, RECORD_ALIGN};
use crate::sim::bugs::{self, Bug};

/// Bytes that one read of the log fetches.
const WINDOW_LEN: usize = 1024 * 1024;

/// Stretches of the copies of a segment, as read. The copy that had the last record is asked first.
pub(super) struct Windows(Vec<Window>);

/// A stretch of one copy of a segment, as read.
struct Window {
    place: Place,
    begin: u64,
    bytes: AlignedBuffer,
}

/// What lies at a position of one copy.
pub(super) enum Found {
    /// A record that may count: header, and payload and settlement as they lie on disk.
    Record(RecordHeader, Vec<u8>),
    /// Zeroes: the rest of a batch's last block.
    Padding,
    /// Nothing that verifies.
    Nothing,
    /// The copy can't be read there.
    Unreadable(Error),
}

impl Windows {
    pub(super) fn new<D: Device>(core: &Rc<Core<D>>, segment: SegmentId) -> Self {
        let window = |place| Window { place, begin: 0, bytes: AlignedBuffer::zeroed(0) };
        Windows(core.places_to_read(segment, 0).into_iter().map(window).collect())
    }

    /// The record at that position that fits, from the first copy that has it.
    pub(super) async fn find<D: Device>(
        &mut self,
        core: &Rc<Core<D>>,
        segment: SegmentId,
        offset: u64,
        fits: impl Fn(&RecordHeader) -> bool,
    ) -> Result<Found> {
        let mut unreadable = None;
        let mut end = None;
        for i in 0..self.0.len() {
            match self.0[i].find(core, segment, offset, &fits).await {
                Found::Unreadable(error) => unreadable = Some(error),
                // Zeroes may be padding, or what a medium gives for a block that it has lost: another copy may have a record there.
                Found::Padding => end = Some(Found::Padding),
                Found::Nothing => end = end.or(Some(Found::Nothing)),
                found => {
                    self.0.swap(0, i);
                    return Ok(found);
                }
            }
            core.counters.copies_skipped.add(u64::from(i + 1 < self.0.len()));
        }
        match (end, unreadable) {
            (Some(end), _) => Ok(end),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Found::Nothing),
        }
    }
}

impl Window {
    async fn find<D: Device>(
        &mut self,
        core: &Rc<Core<D>>,
        segment: SegmentId,
        offset: u64,
        fits: &impl Fn(&RecordHeader) -> bool,
    ) -> Found {
        let bytes = match self.bytes(core, offset, HEADER_SIZE).await {
            Ok(bytes) => bytes,
            Err(error) => return Found::Unreadable(error),
        };
        if bytes[..RECORD_ALIGN].iter().all(|byte| *byte == 0) {
            return Found::Padding;
        }
        let Some(record) = RecordHeader::decode(bytes) else { return Found::Nothing };
        let is_here = record.position.segment == segment && u64::from(record.position.offset) == offset;
        if !is_here || !fits(&record) || offset + record.record_len() as u64 > core.store.segment_size {
            return Found::Nothing;
        }
        let bytes = match self.bytes(core, offset, record.record_len()).await {
            Ok(bytes) => bytes,
            Err(error) => return Found::Unreadable(error),
        };
        let body = &bytes[HEADER_SIZE..record.record_len()];
        let is_whole = record.matches_body(body) || bugs::is_planted(Bug::TornPayloadAccepted);
        if is_whole { Found::Record(record, body.to_vec()) } else { Found::Nothing }
    }

    /// At least `len` bytes of a copy from `offset`, reading ahead. Where reading ahead fails, only what is needed is read: an unreadable block hides no others.
    async fn bytes<D: Device>(&mut self, core: &Rc<Core<D>>, offset: u64, len: usize) -> Result<&[u8]> {
        let is_there = offset >= self.begin && offset + len as u64 <= self.begin + self.bytes.len() as u64;
        if !is_there {
            let begin = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
            let needed = ((offset - begin) as usize + len).next_multiple_of(BLOCK_SIZE);
            let ahead = needed.max(WINDOW_LEN).min((core.store.segment_size - begin) as usize);
            let (mut result, mut bytes) =
                core.read_copy(self.place, begin, AlignedBuffer::zeroed(ahead)).await;
            if result.is_err() && ahead > needed {
                (result, bytes) = core.read_copy(self.place, begin, AlignedBuffer::zeroed(needed)).await;
            }
            result?;
            self.begin = begin;
            self.bytes = bytes;
        }
        Ok(&self.bytes[(offset - self.begin) as usize..])
    }
}
