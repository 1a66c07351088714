//! An object version as it is read: one device read for its record, which holds everything but the bytes of large objects.

use std::ops::Range;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::draft::{entry_kind, version_of};
use crate::error::{Error, Result};
use crate::format::body::{Piece, VersionBody, VersionMeta};
use crate::format::directory::EntryKind;
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::ids::{BucketId, Lsn, SegmentId, VersionId};
use crate::index::hash::Location;
use crate::limits::{BLOCK_SIZE, RECORD_LEN_MAX};
use crate::reader::ObjectReader;
use crate::record_cache::VersionRecord;
use crate::segment::table::SegmentPin;
use crate::sim::bugs::{self, Bug};

/// Where a key's record may be, and what keeps it there: what the home shard answers to a lookup.
#[derive(Debug)]
pub struct Lookup {
    pub(crate) candidates: SmallVec<[(SegmentId, Location); 2]>,
    /// Versions of a lower order are gone.
    pub(crate) floor: Lsn,
    /// The version that is wanted; `None` for the current one.
    pub(crate) version: Option<VersionId>,
    pub(crate) pins: Pins,
}

/// What keeps the segments of an object.
pub type Pins = SmallVec<[SegmentPin; 2]>;

/// A version: an object or a delete marker.
#[derive(Debug)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Whether it is a delete marker.
    pub kind: EntryKind,
    /// Everything but key and bytes.
    pub meta: Rc<VersionMeta>,
    /// Its bytes in bulk segments; empty when they are inline.
    pub pieces: Rc<Vec<Piece>>,
    /// Keep all its segments until this is dropped.
    pub pins: Pins,
    inline: Inline,
}

/// The bytes of a small object.
#[derive(Debug)]
enum Inline {
    /// In the buffer that the device filled.
    Read(AlignedBuffer, Range<usize>),
    /// Of a cached record.
    Shared(Rc<[u8]>),
}

impl Version {
    /// The bytes of a small object.
    pub fn inline(&self) -> Option<&[u8]> {
        self.pieces.is_empty().then(|| match &self.inline {
            Inline::Read(buffer, range) => &buffer[range.clone()],
            Inline::Shared(bytes) => bytes,
        })
    }

    /// Reads a range of a large object's bytes.
    pub fn reader<D: Device>(&self, core: &Rc<Core<D>>, range: Range<u64>) -> ObjectReader<D> {
        ObjectReader::new(core.clone(), self.pieces.clone(), range)
    }
}

impl<D: Device> Core<D> {
    /// Reads the object of a key that a lookup led to; `None` when none of its candidates has that key, or when it is a delete marker.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the object was replaced or moved meanwhile: look up again.
    pub async fn read_version(
        &self,
        lookup: Lookup,
        bucket: BucketId,
        key: &[u8],
    ) -> Result<Option<Version>> {
        let version = self.read_any_version(lookup, bucket, key).await?;
        Ok(version.filter(|version| version.kind == EntryKind::Object))
    }

    /// Like [`Core::read_version`], with delete markers.
    pub async fn read_any_version(
        &self,
        lookup: Lookup,
        bucket: BucketId,
        key: &[u8],
    ) -> Result<Option<Version>> {
        let mut pins = lookup.pins;
        let is_wanted = |found_bucket: BucketId, order: Lsn, found_key: &[u8], id: VersionId| {
            found_bucket == bucket
                && order >= lookup.floor
                && found_key == key
                && lookup.version.is_none_or(|wanted| wanted == id)
        };
        for (segment, location) in &lookup.candidates {
            let place = (*segment, location.offset());
            if let Some(record) = self.record_cache.record(place) {
                let id = version_of(record.meta.numbering, record.order);
                if is_wanted(record.bucket, record.order, &record.key, id) {
                    self.counters.record_cache_hits.add(1);
                    self.pin_pieces(&record.pieces, &mut pins)?;
                    return Ok(Some(cached_version(&record, id, pins)));
                }
                continue;
            }
            let record = self.read_record(*segment, *location).await?;
            let identity = &record.header.identity;
            if !matches!(identity.kind, RecordKind::Version | RecordKind::DeleteMarker) {
                continue;
            }
            let body = VersionBody::decode(record.payload()).map_err(|malformed| Error::Corrupt {
                segment: *segment,
                offset: location.offset(),
                what: malformed.0,
            })?;
            let order = record.header.order();
            let id = version_of(body.meta.numbering, order);
            if !is_wanted(identity.bucket, order, &body.key, id) {
                continue;
            }
            self.pin_pieces(&body.pieces, &mut pins)?;
            let kind = entry_kind(identity.kind);
            let bytes = record.payload.start + body.inline.start..record.payload.start + body.inline.end;
            let (meta, pieces) = (Rc::new(body.meta), Rc::new(body.pieces));
            if self.record_cache.admits(place, bytes.len()) {
                let inline = record.buffer[bytes.clone()].into();
                let (meta, pieces) = (meta.clone(), pieces.clone());
                let kept = VersionRecord { kind, bucket, order, key: body.key, meta, pieces, inline };
                self.record_cache.insert(place, Rc::new(kept));
            }
            return Ok(Some(Version {
                id,
                kind,
                meta,
                pieces,
                pins,
                inline: Inline::Read(record.buffer, bytes),
            }));
        }
        Ok(None)
    }

    /// Keeps the segments of those pieces.
    fn pin_pieces(&self, pieces: &[Piece], pins: &mut Pins) -> Result<()> {
        if pieces.is_empty() || bugs::is_planted(Bug::UnpinnedRead) {
            return Ok(());
        }
        let mut segments: Vec<SegmentId> =
            pieces.iter().flat_map(|piece| &piece.extents).map(|extent| extent.segment).collect();
        segments.sort_unstable();
        segments.dedup();
        for segment in segments {
            // Since the lookup the object may have been replaced, and its segment freed.
            pins.push(self.store.table.try_pin(segment).ok_or(Error::Conflict)?);
        }
        Ok(())
    }

    /// Reads, verifies and opens the record at a place, from the first copy that is good.
    pub(crate) async fn read_record(&self, segment: SegmentId, location: Location) -> Result<OpenedRecord> {
        let mut error = Error::Corrupt { segment, offset: location.offset(), what: "its segment is gone" };
        for place in self.places_to_read(segment, location.offset() / BLOCK_SIZE as u64) {
            match self.read_record_copy(segment, location, place).await {
                Ok(record) => return Ok(record),
                Err(failure) => {
                    self.counters.copies_skipped.add(1);
                    error = error.or_of_copy(failure);
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
            let (result, mut buffer) = self.read_copy(place, begin, AlignedBuffer::scratch(disk_len)).await;
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
            let payload = at + HEADER_SIZE..at + HEADER_SIZE + header.payload_len;
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

fn cached_version(record: &VersionRecord, id: VersionId, pins: Pins) -> Version {
    Version {
        id,
        kind: record.kind,
        meta: record.meta.clone(),
        pieces: record.pieces.clone(),
        pins,
        inline: Inline::Shared(record.inline.clone()),
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

impl OpenedRecord {
    /// The payload in the clear.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.buffer[self.payload.clone()]
    }
}
