//! The copies of a record.

use super::ReadOnly;
use super::report::CopyVerdict;
use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::format::record::{HEADER_SIZE, RecordHeader};
use crate::format::segment::Place;
use crate::format::settlement::RecordPlace;
use crate::ids::SegmentId;
use crate::limits::{BLOCK_SIZE, RECORD_ALIGN};
use crate::log::{padded, record_place};

/// A record as all its copies have it.
pub(super) struct Looked {
    /// From a copy that verifies: header, and payload in the clear.
    pub(super) record: Option<(RecordHeader, Vec<u8>)>,
    /// What is wrong with each.
    pub(super) copies: Vec<CopyVerdict>,
}

/// Reads every copy of a record, verifies and opens it.
pub(super) async fn look_at<D: Device>(core: &Core<ReadOnly<D>>, place: &RecordPlace) -> Looked {
    let mut looked = Looked { record: None, copies: Vec::new() };
    for copy in core.store.table.places(place.segment).unwrap_or_default() {
        match read(core, place, copy).await {
            Ok(record) => {
                looked.copies.push((copy, None));
                looked.record.get_or_insert(record);
            }
            Err(what) => looked.copies.push((copy, Some(what))),
        }
    }
    looked
}

/// Reads the record at a place of one copy, whatever its length.
pub(crate) async fn read_at<D: Device>(
    core: &Core<ReadOnly<D>>,
    segment: SegmentId,
    offset: u32,
    copy: Place,
) -> Result<(RecordHeader, Vec<u8>), &'static str> {
    let begin = u64::from(offset) / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
    if begin >= core.store.segment_size {
        return Err("no record can lie there");
    }
    let len = (2 * BLOCK_SIZE as u64).min(core.store.segment_size - begin) as usize;
    let (result, buffer) = core.read_copy(copy, begin, AlignedBuffer::zeroed(len)).await;
    result.map_err(|_| "it can't be read")?;
    let bytes = &buffer[(u64::from(offset) - begin) as usize..];
    let header = RecordHeader::decode(bytes).ok_or("its header does not verify")?;
    read(core, &record_place(segment, offset, header.record_len()), copy).await
}

async fn read<D: Device>(
    core: &Core<ReadOnly<D>>,
    place: &RecordPlace,
    copy: Place,
) -> Result<(RecordHeader, Vec<u8>), &'static str> {
    let (offset, len) = (u64::from(place.offset), place.len as usize);
    if !offset.is_multiple_of(RECORD_ALIGN as u64)
        || len < HEADER_SIZE
        || offset + len as u64 > core.store.segment_size
    {
        return Err("no record can lie there");
    }
    let begin = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
    let at = (offset - begin) as usize;
    let buffer = AlignedBuffer::zeroed((at + len).next_multiple_of(BLOCK_SIZE));
    let (result, buffer) = core.read_copy(copy, begin, buffer).await;
    result.map_err(|_| "it can't be read")?;
    let bytes = &buffer[at..at + len];
    let header = RecordHeader::decode(bytes).ok_or("its header does not verify")?;
    let position = &header.position;
    if (position.segment, position.offset) != (place.segment, place.offset) {
        return Err("it is a record of another place");
    }
    if padded(header.record_len()) != len {
        return Err("it is of another length");
    }
    let body = &bytes[HEADER_SIZE..header.record_len()];
    if !header.matches_body(body) {
        return Err("its payload does not verify");
    }
    let mut payload = body[..header.payload_len].to_vec();
    core.open_record(&header, &mut payload)
        .map_err(|_| "its seal does not match, though its checksum does")?;
    Ok((header, payload))
}
