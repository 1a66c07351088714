//! An object version as it is read: one device read for its record, which holds everything but the bytes of large objects.

use std::ops::Range;
use std::rc::Rc;

use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::format::body::{Piece, VersionBody, VersionMeta};
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::ids::{BucketId, SegmentId};
use crate::index::hash::Location;
use crate::limits::{BLOCK_SIZE, RECORD_LEN_MAX};
use crate::reader::ObjectReader;
use crate::segment::table::SegmentPin;

/// Where a key's record may be, and what keeps it there: what the home shard answers to a lookup.
#[derive(Debug)]
pub struct Lookup {
    pub(crate) candidates: Vec<(SegmentId, Location)>,
    pub(crate) pins: Vec<SegmentPin>,
}

/// An object version.
#[derive(Debug)]
pub struct Version {
    /// Everything but key and bytes.
    pub meta: VersionMeta,
    /// Its bytes in bulk segments; empty when they are inline.
    pub pieces: Rc<Vec<Piece>>,
    /// Keep all its segments until this is dropped.
    pub pins: Vec<SegmentPin>,
    record: AlignedBuffer,
    inline: Range<usize>,
}

impl Version {
    /// The bytes of a small object.
    pub fn inline(&self) -> Option<&[u8]> {
        self.pieces.is_empty().then(|| &self.record[self.inline.clone()])
    }

    /// Reads a range of a large object's bytes.
    pub fn reader<D: Device>(&self, core: &Rc<Core<D>>, range: Range<u64>) -> ObjectReader<D> {
        ObjectReader::new(core.clone(), self.pieces.clone(), range)
    }
}

impl<D: Device> Core<D> {
    /// Reads the version of a key that a lookup led to; `None` when none of its candidates has that key.
    pub async fn read_version(
        &self,
        lookup: Lookup,
        bucket: BucketId,
        key: &[u8],
    ) -> Result<Option<Version>> {
        for (segment, location) in &lookup.candidates {
            let record = self.read_record(*segment, *location).await?;
            if record.header.identity.kind != RecordKind::Version || record.header.identity.bucket != bucket {
                continue;
            }
            let at = record.payload.start;
            let body = VersionBody::decode(&record.buffer[record.payload]).map_err(|malformed| {
                Error::Corrupt { segment: *segment, offset: location.offset(), what: malformed.0 }
            })?;
            if body.key != key {
                continue;
            }
            return Ok(Some(Version {
                meta: body.meta,
                pieces: Rc::new(body.pieces),
                pins: lookup.pins,
                inline: at + body.inline.start..at + body.inline.end,
                record: record.buffer,
            }));
        }
        Ok(None)
    }

    /// Reads, verifies and opens the record at a place, from the first copy that is good.
    pub(crate) async fn read_record(&self, segment: SegmentId, location: Location) -> Result<OpenedRecord> {
        let mut error = Error::Corrupt { segment, offset: location.offset(), what: "its segment is gone" };
        for place in self.places_to_read(segment, location.offset() / BLOCK_SIZE as u64) {
            match self.read_record_copy(segment, location, place).await {
                Ok(record) => return Ok(record),
                Err(failure) => {
                    self.counters.copies_skipped.add(1);
                    error = failure;
                }
            }
        }
        Err(error)
    }

    async fn read_record_copy(
        &self,
        segment: SegmentId,
        location: Location,
        place: crate::format::segment::Place,
    ) -> Result<OpenedRecord> {
        let corrupt = |what| Error::Corrupt { segment, offset: location.offset(), what };
        let begin = location.offset() / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let at = (location.offset() - begin) as usize;
        let mut len = location.record_len().unwrap_or(HEADER_SIZE);
        loop {
            let disk_len = (at + len).next_multiple_of(BLOCK_SIZE);
            let (result, mut buffer) = self.read_copy(place, begin, AlignedBuffer::zeroed(disk_len)).await;
            result?;
            let header =
                RecordHeader::decode(&buffer[at..]).ok_or(corrupt("a record header does not verify"))?;
            if header.position.segment != segment || u64::from(header.position.offset) != location.offset() {
                return Err(corrupt("a record of another place"));
            }
            if header.record_len() > len {
                if location.record_len().is_some() || header.record_len() > RECORD_LEN_MAX {
                    return Err(corrupt("a record longer than the index says"));
                }
                len = header.record_len();
                continue;
            }
            let payload = at + HEADER_SIZE..at + header.record_len();
            self.open_record(&header, &mut buffer[payload.clone()]).map_err(|what| match what {
                Unopened::Seal => corrupt("a record's seal does not match"),
                Unopened::Key(error) => error,
            })?;
            return Ok(OpenedRecord { header, buffer, payload });
        }
    }

    pub(crate) fn open_record(
        &self,
        header: &RecordHeader,
        payload: &mut [u8],
    ) -> std::result::Result<(), Unopened> {
        let identity = &header.identity;
        let key = self
            .store
            .keyring
            .object_key(identity.seal_kind, identity.namespace, identity.key_version, identity.object_id)
            .map_err(Unopened::Key)?;
        key.open_record(identity, payload, &header.seal).map_err(|_| Unopened::Seal)
    }
}

/// Why a record could not be opened.
pub(crate) enum Unopened {
    /// Its bytes are not what was sealed.
    Seal,
    /// There is no key for it.
    Key(Error),
}

/// A record whose payload verified, in the clear.
pub(crate) struct OpenedRecord {
    pub(crate) header: RecordHeader,
    buffer: AlignedBuffer,
    payload: Range<usize>,
}
