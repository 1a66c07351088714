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
    Extent, Numbering, Pairs, PartBody, PartSummary, Piece, TombstoneBody, UploadBody, UploadEndBody,
    VersionBody, VersionMeta,
};
use crate::format::catalog::CatalogChange;
use crate::format::checkpoint::CheckpointBody;
use crate::format::directory::{Entry, EntryExtents, EntryKind, Listed};
use crate::format::due::DueBody;
use crate::format::record::{HEADER_SIZE, RecordIdentity, RecordKind};
use crate::format::settlement::RecordPlace;
use crate::format::upkeep::{CursorBody, ReapBody, Scope};
use crate::ids::{BucketId, Lsn, UnixMillis, UploadId, VersionId};
use crate::limits::{KEY_LEN_MAX, RECORD_LEN_MAX, record_len_max};
use crate::segment::table::SegmentPin;
use crate::writer::Content;

/// A sealed record that has no place in a log yet.
#[derive(Debug)]
pub(crate) struct SealedRecord {
    pub(crate) identity: RecordIdentity,
    pub(crate) payload: Vec<u8>,
    pub(crate) seal: Seal,
    /// The LSN that it was first committed with, when that is not the one it is about to get.
    pub(crate) order: Option<Lsn>,
    /// Encoded when it is queued.
    pub(crate) settlement: Vec<u8>,
}

impl SealedRecord {
    pub(crate) fn record_len(&self) -> usize {
        HEADER_SIZE + self.payload.len() + self.settlement.len()
    }
}

/// What a record does to the state of its shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Nothing: a session began.
    Open,
    /// The key has this version (or delete marker); the upload it came from is over.
    Version { key: Box<[u8]>, kind: EntryKind, meta: Box<EntryMeta> },
    /// A version of the key is gone.
    Tombstone { key: Box<[u8]>, version: VersionId },
    /// All versions of the bucket are gone.
    RangeTombstone(Scope),
    /// Versions that a range tombstone removed are counted as dead.
    Reap(Box<ReapBody>),
    /// An upload began.
    Upload(Box<UploadBody>),
    /// An upload has this part.
    Part(Box<PartBody>),
    /// An upload was given up.
    UploadEnd { key: Box<[u8]>, upload: UploadId },
    /// The catalog changed.
    Catalog(Box<CatalogChange>),
    /// A checkpoint is complete.
    Checkpoint(Box<CheckpointBody>),
    /// A log consumer is that far.
    Cursor(CursorBody),
    /// The due-time index changed.
    Due(Box<DueBody>),
}

/// What the directory keeps of a version, but for its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryMeta {
    meta: VersionMeta,
    extents: Box<[Extent]>,
}

impl EntryMeta {
    pub(crate) fn new(meta: &VersionMeta, pieces: &[Piece]) -> Self {
        // Header pairs and parts stay in the record.
        let slim = VersionMeta { pairs: Vec::new(), parts: Vec::new(), ..meta.clone() };
        let extents = pieces.iter().flat_map(|piece| piece.extents.iter().copied()).collect();
        EntryMeta { meta: slim, extents }
    }

    pub(crate) fn meta(&self) -> &VersionMeta {
        &self.meta
    }

    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The directory's entry of it.
    pub(crate) fn entry(self, kind: EntryKind, order: Lsn, place: &RecordPlace) -> Entry {
        Entry {
            kind,
            order,
            numbering: self.meta.numbering,
            place: *place,
            extents: EntryExtents::Here(self.extents),
            listed: Listed {
                size: self.meta.size,
                etag: self.meta.etag,
                modified: self.meta.modified,
                owner: self.meta.owner,
                class: self.meta.class,
                checksum: (self.meta.checksum.algorithm, self.meta.checksum.kind),
            },
        }
    }
}

impl Effect {
    /// Whether its record carries a settlement.
    pub(crate) fn needs_settlement(&self) -> bool {
        matches!(self, Effect::Version { .. } | Effect::Tombstone { .. } | Effect::Reap(_))
    }

    /// What that record does, from its unsealed payload.
    pub(crate) fn decode(kind: RecordKind, payload: &[u8]) -> std::result::Result<Self, Malformed> {
        let effect = match kind {
            RecordKind::Open => Effect::Open,
            RecordKind::Version | RecordKind::DeleteMarker => {
                let body = VersionBody::decode(payload)?;
                let meta = Box::new(EntryMeta::new(&body.meta, &body.pieces));
                Effect::Version { key: body.key.into(), kind: entry_kind(kind), meta }
            }
            RecordKind::Tombstone => {
                let body = TombstoneBody::decode(payload)?;
                Effect::Tombstone { key: body.key.into(), version: body.version }
            }
            RecordKind::RangeTombstone => Effect::RangeTombstone(Scope::decode(payload)?),
            RecordKind::Reap => Effect::Reap(Box::new(ReapBody::decode(payload)?)),
            RecordKind::Upload => Effect::Upload(Box::new(UploadBody::decode(payload)?)),
            RecordKind::Part => Effect::Part(Box::new(PartBody::decode(payload)?)),
            RecordKind::UploadEnd => {
                let body = UploadEndBody::decode(payload)?;
                Effect::UploadEnd { key: body.key.into(), upload: body.upload_id }
            }
            RecordKind::Catalog => Effect::Catalog(Box::new(CatalogChange::decode(payload)?)),
            RecordKind::Checkpoint => Effect::Checkpoint(Box::new(CheckpointBody::decode(payload)?)),
            RecordKind::Cursor => Effect::Cursor(CursorBody::decode(payload)?),
            RecordKind::Due => Effect::Due(Box::new(DueBody::decode(payload)?)),
        };
        // The directory takes no longer ones.
        if effect.key_len_max() > KEY_LEN_MAX {
            return Err(Malformed("a key that is longer than any"));
        }
        Ok(effect)
    }

    fn key_len_max(&self) -> usize {
        match self {
            Effect::Version { key, .. } | Effect::Tombstone { key, .. } | Effect::UploadEnd { key, .. } => {
                key.len()
            }
            Effect::Upload(body) => body.key.len(),
            Effect::Part(body) => body.key.len(),
            Effect::Reap(body) => body.keys.iter().map(Vec::len).max().unwrap_or(0),
            Effect::Due(body) => body.changes.iter().map(|change| change.key.len()).max().unwrap_or(0),
            Effect::Open
            | Effect::RangeTombstone(_)
            | Effect::Catalog(_)
            | Effect::Checkpoint(_)
            | Effect::Cursor(_) => 0,
        }
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

impl Draft {
    /// Whether the version gets an id of its own.
    pub(crate) fn numbering(&self) -> Numbering {
        match &self.effect {
            Effect::Version { meta, .. } => meta.meta.numbering,
            _ => Numbering::Null,
        }
    }
}

/// The id of a version that was first committed with that LSN.
pub(crate) fn version_of(numbering: Numbering, order: Lsn) -> VersionId {
    match numbering {
        Numbering::Null => VersionId::Null,
        Numbering::Numbered => VersionId::Number(order),
    }
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
        let meta = Box::new(EntryMeta::new(&meta, &pieces));
        let effect = Effect::Version { key: new.key.into(), kind: EntryKind::Object, meta };
        self.seal(sealing, new.bucket, RecordKind::Version, payload, effect, pins)
    }

    /// A delete marker: the key has no object any more, and its versions stay.
    pub fn draft_marker(&self, sealing: &Sealing, new: NewVersion) -> Result<Draft> {
        check_key(&new.key)?;
        let payload = VersionBody::encode(&new.key, &new.meta, &[], &[]);
        let meta = Box::new(EntryMeta::new(&new.meta, &[]));
        let effect = Effect::Version { key: new.key.into(), kind: EntryKind::Marker, meta };
        self.seal(sealing, new.bucket, RecordKind::DeleteMarker, payload, effect, Vec::new())
    }

    /// The removal of a version of a key.
    pub fn draft_tombstone(
        &self,
        sealing: &Sealing,
        bucket: BucketId,
        key: &[u8],
        version: VersionId,
        now: UnixMillis,
    ) -> Result<Draft> {
        check_key(key)?;
        let payload = TombstoneBody { key: key.to_vec(), version, modified: now }.encode();
        let effect = Effect::Tombstone { key: key.into(), version };
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

    /// A record by which the shard keeps itself in order.
    pub(crate) fn draft_upkeep(&self, bucket: BucketId, effect: Effect) -> Result<Draft> {
        let (kind, payload) = match &effect {
            Effect::RangeTombstone(scope) => (RecordKind::RangeTombstone, scope.encode()),
            Effect::Reap(body) => (RecordKind::Reap, body.encode()),
            Effect::Checkpoint(body) => (RecordKind::Checkpoint, body.encode()),
            Effect::Cursor(body) => (RecordKind::Cursor, body.encode()),
            Effect::Due(body) => (RecordKind::Due, body.encode()),
            _ => unreachable!("other effects are drafted by the core that makes them"),
        };
        self.seal(&Sealing::catalog(), bucket, kind, payload, effect, Vec::new())
    }

    /// A version whose bytes were moved: the same but for where they lie.
    pub(crate) fn draft_moved(
        &self,
        identity: &RecordIdentity,
        body: &VersionBody,
        pieces: &[Piece],
        pins: Vec<SegmentPin>,
    ) -> Result<Draft> {
        let sealing = Sealing {
            namespace: identity.namespace,
            key_version: identity.key_version,
            seal_kind: identity.seal_kind,
        };
        let payload = VersionBody::encode(&body.key, &body.meta, pieces, &[]);
        let meta = Box::new(EntryMeta::new(&body.meta, pieces));
        let effect =
            Effect::Version { key: body.key.as_slice().into(), kind: entry_kind(identity.kind), meta };
        self.seal(&sealing, identity.bucket, identity.kind, payload, effect, pins)
    }

    /// A part whose bytes were moved.
    pub(crate) fn draft_moved_part(
        &self,
        identity: &RecordIdentity,
        body: PartBody,
        pins: Vec<SegmentPin>,
    ) -> Result<Draft> {
        let sealing = Sealing {
            namespace: identity.namespace,
            key_version: identity.key_version,
            seal_kind: identity.seal_kind,
        };
        let payload = body.encode();
        self.seal(&sealing, identity.bucket, RecordKind::Part, payload, Effect::Part(Box::new(body)), pins)
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
        let record = SealedRecord { identity, payload, seal, order: None, settlement: Vec::new() };
        Ok(Draft { bucket, record, effect, pins })
    }
}

pub(crate) fn entry_kind(kind: RecordKind) -> EntryKind {
    if kind == RecordKind::DeleteMarker { EntryKind::Marker } else { EntryKind::Object }
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
