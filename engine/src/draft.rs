//! A change that is ready to be committed: its record, sealed on the core that holds the connection, and what it will do to the home
//! shard's state once it is durable.
//!
//! The same [`Effect`] is made of a draft before its commit and of a record during replay: there is one way to apply a change.

use std::rc::Rc;

use crate::core::Core;
use crate::crypto::{Seal, Sealing};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::Malformed;
use crate::format::body::{
    Extent, Pairs, PartBody, PartSummary, Piece, TombstoneBody, UploadBody, UploadEndBody, VersionBody,
    VersionMeta,
};
use crate::format::catalog::CatalogChange;
use crate::format::record::{HEADER_SIZE, RecordIdentity, RecordKind};
use crate::ids::{BucketId, UnixMillis, UploadId};
use crate::index::directory::{Entry, Listed};
use crate::limits::{KEY_LEN_MAX, RECORD_LEN_MAX, record_len_max};
use crate::segment::table::SegmentPin;
use crate::writer::Content;

/// A sealed record that has no place in a log yet.
#[derive(Debug)]
pub(crate) struct SealedRecord {
    pub(crate) identity: RecordIdentity,
    pub(crate) payload: Vec<u8>,
    pub(crate) seal: Seal,
}

impl SealedRecord {
    pub(crate) fn record_len(&self) -> usize {
        HEADER_SIZE + self.payload.len()
    }
}

/// What a record does to the state of its shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Nothing: a session began.
    Open,
    /// The key has this version; the upload it came from is over.
    Version { key: Box<[u8]>, meta: Box<EntryMeta> },
    /// The key has no version.
    Tombstone { key: Box<[u8]> },
    /// An upload began.
    Upload(Box<UploadBody>),
    /// An upload has this part.
    Part(Box<PartBody>),
    /// An upload was given up.
    UploadEnd { key: Box<[u8]>, upload: UploadId },
    /// The catalog changed.
    Catalog(Box<CatalogChange>),
}

/// What the directory keeps of a version, but for its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryMeta {
    meta: VersionMeta,
    extents: Box<[Extent]>,
}

impl EntryMeta {
    fn new(meta: &VersionMeta, pieces: &[Piece]) -> Self {
        // Header pairs and parts stay in the record.
        let slim = VersionMeta { pairs: Vec::new(), parts: Vec::new(), ..meta.clone() };
        let extents = pieces.iter().flat_map(|piece| piece.extents.iter().copied()).collect();
        EntryMeta { meta: slim, extents }
    }

    pub(crate) fn meta(&self) -> &VersionMeta {
        &self.meta
    }

    pub(crate) fn entry(self, place: &RecordPlace) -> Entry {
        Entry {
            listed: Listed {
                size: self.meta.size,
                etag: self.meta.etag,
                modified: self.meta.modified,
                owner: self.meta.owner,
                class: self.meta.class,
                checksum: (self.meta.checksum.algorithm, self.meta.checksum.kind),
            },
            location: place.location,
            segment: place.segment,
            record_len: place.len,
            extents: self.extents,
        }
    }
}

/// Where a committed record lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordPlace {
    pub(crate) location: crate::index::hash::Location,
    pub(crate) segment: crate::ids::SegmentId,
    pub(crate) len: u32,
}

impl Effect {
    /// What that record does, from its unsealed payload.
    pub(crate) fn decode(kind: RecordKind, payload: &[u8]) -> std::result::Result<Self, Malformed> {
        Ok(match kind {
            RecordKind::Open => Effect::Open,
            RecordKind::Version => {
                let body = VersionBody::decode(payload)?;
                let meta = EntryMeta::new(&body.meta, &body.pieces);
                Effect::Version { key: body.key.into(), meta: Box::new(meta) }
            }
            RecordKind::Tombstone => Effect::Tombstone { key: TombstoneBody::decode(payload)?.key.into() },
            RecordKind::Upload => Effect::Upload(Box::new(UploadBody::decode(payload)?)),
            RecordKind::Part => Effect::Part(Box::new(PartBody::decode(payload)?)),
            RecordKind::UploadEnd => {
                let body = UploadEndBody::decode(payload)?;
                Effect::UploadEnd { key: body.key.into(), upload: body.upload_id }
            }
            RecordKind::Catalog => Effect::Catalog(Box::new(CatalogChange::decode(payload)?)),
        })
    }
}

/// A change, sealed and ready to travel to the home shard of its bucket.
#[derive(Debug)]
pub struct Draft {
    pub(crate) bucket: BucketId,
    pub(crate) record: SealedRecord,
    pub(crate) effect: Effect,
    /// Keep the segments of its bytes until it is applied.
    pub(crate) pins: Vec<SegmentPin>,
}

/// Everything about a new version but its bytes.
#[derive(Clone, Debug, Default)]
pub struct NewVersion {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Vec<u8>,
    /// The rest. `size` is taken from the content.
    pub meta: VersionMeta,
}

/// A part as it was received.
#[derive(Clone, Debug, Default)]
pub struct NewPart {
    /// The bucket.
    pub bucket: BucketId,
    /// The key of the upload.
    pub key: Vec<u8>,
    /// The upload.
    pub upload_id: UploadId,
    /// Number and digests. `size` is taken from the content.
    pub summary: PartSummary,
    /// When it was received.
    pub modified: UnixMillis,
}

impl<D: Device> Core<D> {
    /// A version with those bytes.
    pub fn draft_version(&self, sealing: &Sealing, new: NewVersion, content: Content) -> Result<Draft> {
        check_key(&new.key)?;
        check_pairs(&new.meta.pairs)?;
        let mut meta = new.meta;
        meta.size = content.len();
        let (pieces, inline, pins) = split(content);
        let payload = VersionBody::encode(&new.key, &meta, &pieces, &inline);
        let effect = Effect::Version { key: new.key.into(), meta: Box::new(EntryMeta::new(&meta, &pieces)) };
        self.seal(sealing, new.bucket, RecordKind::Version, payload, effect, pins)
    }

    /// The removal of a key.
    pub fn draft_tombstone(
        &self,
        sealing: &Sealing,
        bucket: BucketId,
        key: &[u8],
        now: UnixMillis,
    ) -> Result<Draft> {
        check_key(key)?;
        let payload = TombstoneBody { key: key.to_vec(), modified: now }.encode();
        let effect = Effect::Tombstone { key: key.into() };
        self.seal(sealing, bucket, RecordKind::Tombstone, payload, effect, Vec::new())
    }

    /// A new upload.
    pub fn draft_upload(&self, sealing: &Sealing, bucket: BucketId, upload: UploadBody) -> Result<Draft> {
        check_key(&upload.key)?;
        check_pairs(&upload.pairs)?;
        let payload = upload.encode();
        self.seal(sealing, bucket, RecordKind::Upload, payload, Effect::Upload(Box::new(upload)), Vec::new())
    }

    /// A part of an upload. Its bytes are in frames ([`crate::writer::Layout::Frames`]) or none.
    pub fn draft_part(&self, sealing: &Sealing, new: NewPart, content: Content) -> Result<Draft> {
        check_key(&new.key)?;
        let mut summary = new.summary;
        summary.size = content.len();
        let (pieces, inline, pins) = split(content);
        assert!(inline.is_empty(), "parts are written in frames");
        let body =
            PartBody { upload_id: new.upload_id, key: new.key, summary, modified: new.modified, pieces };
        self.seal(sealing, new.bucket, RecordKind::Part, body.encode(), Effect::Part(Box::new(body)), pins)
    }

    /// The end of an upload that was given up.
    pub fn draft_upload_end(
        &self,
        sealing: &Sealing,
        bucket: BucketId,
        key: &[u8],
        upload: UploadId,
    ) -> Result<Draft> {
        let payload = UploadEndBody { upload_id: upload, key: key.to_vec() }.encode();
        let effect = Effect::UploadEnd { key: key.into(), upload };
        self.seal(sealing, bucket, RecordKind::UploadEnd, payload, effect, Vec::new())
    }

    /// A change of the catalog.
    pub(crate) fn draft_catalog(&self, change: CatalogChange) -> Result<Draft> {
        let payload = change.encode();
        // Lengths of names have 16 bits on disk: what does not read back as it is must not be written.
        if CatalogChange::decode(&payload).as_ref() != Ok(&change) {
            return Err(Error::TooLarge { what: "a name in the catalog" });
        }
        let effect = Effect::Catalog(Box::new(change));
        self.seal(&Sealing::catalog(), BucketId(0), RecordKind::Catalog, payload, effect, Vec::new())
    }

    /// The first record of a session.
    pub(crate) fn draft_open(&self) -> Result<Draft> {
        self.seal(&Sealing::catalog(), BucketId(0), RecordKind::Open, Vec::new(), Effect::Open, Vec::new())
    }

    fn seal(
        &self,
        sealing: &Sealing,
        bucket: BucketId,
        kind: RecordKind,
        mut payload: Vec<u8>,
        effect: Effect,
        pins: Vec<SegmentPin>,
    ) -> Result<Draft> {
        if HEADER_SIZE + payload.len() > record_len_max(self.store.segment_size) {
            return Err(Error::TooLarge {
                what: "the record of this object (its extents, parts and metadata)",
            });
        }
        let object_id = self.new_object_id();
        let identity = RecordIdentity {
            kind,
            seal_kind: sealing.seal_kind,
            namespace: sealing.namespace,
            key_version: sealing.key_version,
            bucket,
            object_id,
        };
        let key = self.store.keyring.object_key(
            sealing.seal_kind,
            sealing.namespace,
            sealing.key_version,
            object_id,
        )?;
        let seal = key.seal_record(&identity, &mut payload);
        Ok(Draft { bucket, record: SealedRecord { identity, payload, seal }, effect, pins })
    }
}

fn split(content: Content) -> (Vec<Piece>, Vec<u8>, Vec<SegmentPin>) {
    match content {
        Content::Inline(bytes) => (Vec::new(), bytes, Vec::new()),
        Content::Frames { pieces, pins } => (pieces, Vec::new(), pins),
    }
}

fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > KEY_LEN_MAX { Err(Error::TooLarge { what: "the key" }) } else { Ok(()) }
}

/// Names of header pairs have 16-bit lengths on disk.
fn check_pairs(pairs: &Pairs) -> Result<()> {
    let is_too_long = |(name, value): &(Vec<u8>, Vec<u8>)| {
        name.len() > usize::from(u16::MAX) || value.len() > RECORD_LEN_MAX
    };
    if pairs.iter().any(is_too_long) {
        Err(Error::TooLarge { what: "a header of the object" })
    } else {
        Ok(())
    }
}

/// Content that shares the bytes of stored objects or parts, which the pins keep.
pub fn shared_content(pieces: &Rc<Vec<Piece>>, pins: &[SegmentPin]) -> Content {
    Content::Frames { pieces: pieces.to_vec(), pins: pins.to_vec() }
}
