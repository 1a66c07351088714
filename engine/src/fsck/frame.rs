//! The copies of a piece, frame by frame.

use super::ReadOnly;
use super::report::CopyVerdict;
use crate::core::Core;
use crate::crypto::{FramePosition, ObjectKey, Seal};
use crate::device::{AlignedBuffer, Device};
use crate::error::Result;
use crate::format::body::{Extent, Piece};
use crate::format::frame::{frame_count, frame_disk_len, frame_payload_len};
use crate::limits::SEAL_SIZE;

/// Frames that one read fetches: 1 MiB.
const FRAMES_PER_READ: usize = 16;

/// A frame that some copy, or none, has.
pub(super) struct BadFrame {
    pub(super) extent: Extent,
    pub(super) offset: u64,
    pub(super) copies: Vec<CopyVerdict>,
}

/// Frames that follow each other in an extent: number, offset in the segment, plaintext bytes.
type Span = Vec<(u64, u64, usize)>;

/// Verifies every frame of a piece on every copy; gives back those that do not verify on all, and how many there are.
pub(super) async fn look_at_piece<D: Device>(
    core: &Core<ReadOnly<D>>,
    piece: &Piece,
) -> Result<(Vec<BadFrame>, u64)> {
    let key = core.store.keyring.object_key(
        piece.seal_kind,
        piece.namespace,
        piece.key_version,
        piece.object_id,
    )?;
    let (mut bad, mut frame) = (Vec::new(), 0);
    for extent in &piece.extents {
        let end = extent.offset() + extent.disk_len();
        let mut offset = extent.offset();
        while offset < end && frame < frame_count(piece.len) {
            let mut span = Span::new();
            while span.len() < FRAMES_PER_READ && frame < frame_count(piece.len) {
                let len = frame_payload_len(piece.len, frame);
                if offset + frame_disk_len(len) as u64 > end {
                    break;
                }
                span.push((frame, offset, len));
                offset += frame_disk_len(len) as u64;
                frame += 1;
            }
            if span.is_empty() {
                bad.push(BadFrame { extent: *extent, offset, copies: Vec::new() });
                return Ok((bad, frame));
            }
            look_at_span(core, piece, &key, extent, &span, &mut bad).await;
        }
    }
    Ok((bad, frame))
}

async fn look_at_span<D: Device>(
    core: &Core<ReadOnly<D>>,
    piece: &Piece,
    key: &ObjectKey,
    extent: &Extent,
    span: &Span,
    bad: &mut Vec<BadFrame>,
) {
    let begin = span[0].1;
    let len = span.iter().map(|(_, _, len)| frame_disk_len(*len)).sum();
    let mut verdicts: Vec<Vec<CopyVerdict>> = span.iter().map(|_| Vec::new()).collect();
    for place in core.store.table.places(extent.segment).unwrap_or_default() {
        let (result, mut buffer) = core.read_copy(place, begin, AlignedBuffer::zeroed(len)).await;
        for ((number, offset, len), verdicts) in span.iter().zip(&mut verdicts) {
            let bytes = &mut buffer[(offset - begin) as usize..];
            let what = match &result {
                Err(_) => Some("it can't be read"),
                Ok(()) if opens(key, piece, *number, *len, bytes) => None,
                Ok(()) => Some("its seal does not match"),
            };
            verdicts.push((place, what));
        }
    }
    for ((_, offset, _), copies) in span.iter().zip(verdicts) {
        if copies.is_empty() || copies.iter().any(|(_, what)| what.is_some()) {
            bad.push(BadFrame { extent: *extent, offset: *offset, copies });
        }
    }
}

fn opens(key: &ObjectKey, piece: &Piece, number: u64, len: usize, bytes: &mut [u8]) -> bool {
    let position =
        if number + 1 == frame_count(piece.len) { FramePosition::Last } else { FramePosition::Middle };
    let (data, rest) = bytes.split_at_mut(len);
    let mut seal: Seal = [0; SEAL_SIZE];
    seal.copy_from_slice(&rest[..SEAL_SIZE]);
    key.open_frame(number, position, data, &seal).is_ok()
}
