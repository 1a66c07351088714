//! What the payload of each kind of record holds, once unsealed.
//!
//! A body is a fixed part and then, in this order, what the fixed part gives lengths or counts for: key, header pairs, parts,
//! pieces with their extents, inline data. Inline data comes last, so that it can be used where it lies.

use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::cursor::Cursor;
use super::frame::disk_len;
use super::record::SealKind;
use crate::ids::{KeyVersion, NamespaceId, ObjectId, SegmentId, UnixMillis, UploadId, UserId, VersionId};
use crate::limits::BLOCK_SIZE;

/// Whether a version is S3's `null` version, of which a key has one at most, or has an id of its own: the LSN that it was first committed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// The `null` version.
    #[default]
    Null,
    /// A version with an id.
    Numbered,
}

impl Numbering {
    pub(crate) fn code(self) -> u8 {
        match self {
            Numbering::Null => 0,
            Numbering::Numbered => 1,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, Malformed> {
        match code {
            0 => Ok(Numbering::Null),
            1 => Ok(Numbering::Numbered),
            _ => Err(Malformed("numbering")),
        }
    }
}

/// The MD5 that S3 shows as ETag, and of how many parts it is the digest (0: not a multipart object).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ETag {
    /// The digest.
    pub md5: [u8; 16],
    /// Parts; 0 for an object that was not uploaded in parts.
    pub parts: u32,
}

/// A checksum of the object's bytes, kept as the protocol gave it. Algorithm 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// The protocol's code for the algorithm.
    pub algorithm: u8,
    /// The protocol's code for composite or full object.
    pub kind: u8,
    /// Bytes of `value` that count.
    pub len: u8,
    /// The digest.
    pub value: [u8; 32],
}

/// Ordered header pairs (name, value), which the engine keeps and never looks into.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Contiguous blocks of a bulk segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The segment.
    pub segment: SegmentId,
    /// First block, counted from the segment's start.
    pub block: u32,
    /// Blocks.
    pub block_count: u32,
}

impl Extent {
    /// Bytes on disk.
    pub fn disk_len(&self) -> u64 {
        u64::from(self.block_count) * BLOCK_SIZE as u64
    }

    /// Byte offset in the segment.
    pub fn offset(&self) -> u64 {
        u64::from(self.block) * BLOCK_SIZE as u64
    }
}

/// Bytes that were written in one go under one key: a whole object, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What its key is derived from.
    pub object_id: ObjectId,
    /// Whose key.
    pub namespace: NamespaceId,
    /// Which generation.
    pub key_version: KeyVersion,
    /// How its frames are sealed.
    pub seal_kind: SealKind,
    /// Plaintext bytes.
    pub len: u64,
    /// Where its frames lie, in order.
    pub extents: Vec<Extent>,
}

/// What is remembered of a part once its upload is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartSummary {
    /// Its number.
    pub number: u16,
    /// Its bytes.
    pub size: u64,
    /// Its MD5.
    pub md5: [u8; 16],
    /// Its checksum.
    pub checksum: Checksum,
}

/// An object version without its key and its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionMeta {
    /// Bytes of the object.
    pub size: u64,
    /// Its ETag.
    pub etag: ETag,
    /// When it was made.
    pub modified: UnixMillis,
    /// Its owner.
    pub owner: UserId,
    /// Storage class, by the protocol's code.
    pub class: u8,
    /// Whether it has a version id of its own.
    pub numbering: Numbering,
    /// The upload that it came from, for idempotent completion.
    pub upload_id: UploadId,
    /// Its checksum.
    pub checksum: Checksum,
    /// System and user metadata.
    pub pairs: Pairs,
    /// Its parts, when it was uploaded in parts.
    pub parts: Vec<PartSummary>,
}

/// The payload of a version record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionBody {
    /// The key.
    pub key: Vec<u8>,
    /// The rest but for the bytes.
    pub meta: VersionMeta,
    /// Its bytes, when they are in bulk segments.
    pub pieces: Vec<Piece>,
    /// Its bytes within the payload, when they are inline.
    pub inline: Range<usize>,
}

/// Fixed part of a version.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VersionLayout {
    /// Bytes of the object.
    pub size: U64,
    /// Unix milliseconds.
    pub modified_ms: U64,
    /// The owner.
    pub owner: U64,
    /// The upload it came from, or zeroes.
    pub upload_id: [u8; 16],
    /// MD5 of the ETag.
    pub etag_md5: [u8; 16],
    /// Parts of the ETag.
    pub etag_parts: U32,
    /// Storage class.
    pub class: u8,
    /// 0 the `null` version, 1 one whose id is the LSN that it was first committed with.
    pub numbering: u8,
    /// Bytes of the key.
    pub key_len: U16,
    /// The checksum.
    pub checksum: ChecksumLayout,
    /// Header pairs.
    pub pair_count: U32,
    /// Parts.
    pub part_count: U32,
    /// Pieces.
    pub piece_count: U32,
    /// Inline bytes.
    pub inline_len: U32,
}

const _: () = assert!(size_of::<VersionLayout>() == 116);

/// A checksum.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChecksumLayout {
    /// 0 none.
    pub algorithm: u8,
    /// Composite or full object.
    pub kind: u8,
    /// Bytes that count.
    pub len: u8,
    /// Zero.
    pub reserved: u8,
    /// The digest.
    pub value: [u8; 32],
}

const _: () = assert!(size_of::<ChecksumLayout>() == 36);

/// Head of a header pair; name and value follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PairLayout {
    /// Bytes of the name.
    pub name_len: U16,
    /// Zero.
    pub reserved: U16,
    /// Bytes of the value.
    pub value_len: U32,
}

const _: () = assert!(size_of::<PairLayout>() == 8);

/// A part of a completed upload.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PartSummaryLayout {
    /// Its bytes.
    pub size: U64,
    /// Its MD5.
    pub md5: [u8; 16],
    /// Its number.
    pub number: U16,
    /// Zero.
    pub reserved: U16,
    /// Its checksum.
    pub checksum: ChecksumLayout,
}

const _: () = assert!(size_of::<PartSummaryLayout>() == 64);

/// Head of a piece; its extents follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PieceLayout {
    /// What its key is derived from.
    pub object_id: [u8; 16],
    /// Plaintext bytes.
    pub len: U64,
    /// Whose key.
    pub namespace: U32,
    /// Which generation.
    pub key_version: U32,
    /// Extents.
    pub extent_count: U32,
    /// See [`SealKind`].
    pub seal_kind: u8,
    /// Zeroes.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<PieceLayout>() == 40);

/// An extent.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtentLayout {
    /// The segment.
    pub segment_id: U64,
    /// First block.
    pub block: U32,
    /// Blocks.
    pub block_count: U32,
}

const _: () = assert!(size_of::<ExtentLayout>() == 16);

/// The payload of a tombstone: the key, and which of its versions is gone.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TombstoneLayout {
    /// The version's id; 0 is the `null` version.
    pub version: U64,
    /// Unix milliseconds.
    pub modified_ms: U64,
    /// Bytes of the key.
    pub key_len: U16,
    /// Zeroes.
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<TombstoneLayout>() == 24);

/// The payload of a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TombstoneBody {
    /// The key.
    pub key: Vec<u8>,
    /// The version that is gone.
    pub version: VersionId,
    /// When it was deleted.
    pub modified: UnixMillis,
}

/// Fixed part of an upload.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UploadLayout {
    /// The upload.
    pub upload_id: [u8; 16],
    /// Unix milliseconds.
    pub initiated_ms: U64,
    /// Who began it.
    pub owner: U64,
    /// Bytes of the key.
    pub key_len: U16,
    /// Storage class.
    pub class: u8,
    /// The protocol's code; 0 none.
    pub checksum_algorithm: u8,
    /// The protocol's code.
    pub checksum_kind: u8,
    /// Zeroes.
    pub reserved: [u8; 3],
    /// Header pairs.
    pub pair_count: U32,
}

const _: () = assert!(size_of::<UploadLayout>() == 44);

/// The payload of an upload record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadBody {
    /// The upload.
    pub upload_id: UploadId,
    /// The key it is for.
    pub key: Vec<u8>,
    /// When it began.
    pub initiated: UnixMillis,
    /// Who began it.
    pub owner: UserId,
    /// Storage class.
    pub class: u8,
    /// Checksum algorithm of its parts; 0 none.
    pub checksum_algorithm: u8,
    /// Composite or full object.
    pub checksum_kind: u8,
    /// System and user metadata of the object to be.
    pub pairs: Pairs,
}

/// Fixed part of a part.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PartLayout {
    /// The upload.
    pub upload_id: [u8; 16],
    /// Bytes, MD5, number and checksum.
    pub summary: PartSummaryLayout,
    /// Unix milliseconds.
    pub modified_ms: U64,
    /// Bytes of the key.
    pub key_len: U16,
    /// Zeroes.
    pub reserved: [u8; 2],
    /// Pieces.
    pub piece_count: U32,
}

const _: () = assert!(size_of::<PartLayout>() == 96);

/// The payload of a part record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartBody {
    /// The upload.
    pub upload_id: UploadId,
    /// The key it is for.
    pub key: Vec<u8>,
    /// Number, size, digests.
    pub summary: PartSummary,
    /// When it was uploaded.
    pub modified: UnixMillis,
    /// Its bytes.
    pub pieces: Vec<Piece>,
}

/// Fixed part of an upload's end.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UploadEndLayout {
    /// The upload.
    pub upload_id: [u8; 16],
    /// Bytes of the key.
    pub key_len: U16,
    /// Zeroes.
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<UploadEndLayout>() == 24);

/// The payload of an upload's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadEndBody {
    /// The upload.
    pub upload_id: UploadId,
    /// The key it was for.
    pub key: Vec<u8>,
}

impl VersionBody {
    /// The payload, with those inline bytes at its end (empty when the bytes are in pieces).
    pub fn encode(key: &[u8], meta: &VersionMeta, pieces: &[Piece], inline: &[u8]) -> Vec<u8> {
        let fixed = VersionLayout {
            size: U64::new(meta.size),
            modified_ms: U64::new(meta.modified.0),
            owner: U64::new(meta.owner.0),
            upload_id: meta.upload_id.0,
            etag_md5: meta.etag.md5,
            etag_parts: U32::new(meta.etag.parts),
            class: meta.class,
            numbering: meta.numbering.code(),
            key_len: U16::new(key.len() as u16),
            checksum: ChecksumLayout::from(&meta.checksum),
            pair_count: U32::new(meta.pairs.len() as u32),
            part_count: U32::new(meta.parts.len() as u32),
            piece_count: U32::new(pieces.len() as u32),
            inline_len: U32::new(inline.len() as u32),
        };
        let mut out = Vec::with_capacity(512 + inline.len() + meta.parts.len() * 64 + pieces.len() * 64);
        out.extend_from_slice(fixed.as_bytes());
        out.extend_from_slice(key);
        encode_pairs(&meta.pairs, &mut out);
        for part in &meta.parts {
            out.extend_from_slice(PartSummaryLayout::from(part).as_bytes());
        }
        encode_pieces(pieces, &mut out);
        out.extend_from_slice(inline);
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &VersionLayout = cursor.fixed("version")?;
        let key = cursor.bytes(fixed.key_len.get().into(), "key")?.to_vec();
        let pairs = decode_pairs(&mut cursor, fixed.pair_count.get())?;
        let parts = cursor
            .slice::<PartSummaryLayout>(fixed.part_count.get() as usize, "parts")?
            .iter()
            .map(PartSummary::try_from)
            .collect::<Result<_, _>>()?;
        let pieces = decode_pieces(&mut cursor, fixed.piece_count.get())?;
        let inline = cursor.bytes(fixed.inline_len.get() as usize, "inline data")?;
        let inline = payload.len() - inline.len()..payload.len();
        cursor.end("version: bytes left over")?;
        let stored = inline.len() as u64 + pieces.iter().map(|piece: &Piece| piece.len).sum::<u64>();
        if stored != fixed.size.get() || (!inline.is_empty() && !pieces.is_empty()) {
            return Err(Malformed("version: size"));
        }
        Ok(VersionBody {
            key,
            meta: VersionMeta {
                size: fixed.size.get(),
                etag: ETag { md5: fixed.etag_md5, parts: fixed.etag_parts.get() },
                modified: UnixMillis(fixed.modified_ms.get()),
                owner: UserId(fixed.owner.get()),
                class: fixed.class,
                numbering: Numbering::from_code(fixed.numbering)?,
                upload_id: UploadId(fixed.upload_id),
                checksum: Checksum::try_from(&fixed.checksum)?,
                pairs,
                parts,
            },
            pieces,
            inline,
        })
    }
}

impl TombstoneBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = TombstoneLayout {
            version: U64::new(self.version.number()),
            modified_ms: U64::new(self.modified.0),
            key_len: U16::new(self.key.len() as u16),
            reserved: [0; 6],
        };
        [fixed.as_bytes(), &self.key].concat()
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &TombstoneLayout = cursor.fixed("tombstone")?;
        let key = cursor.bytes(fixed.key_len.get().into(), "key")?.to_vec();
        cursor.end("tombstone: bytes left over")?;
        Ok(TombstoneBody {
            key,
            version: VersionId::from_number(fixed.version.get()),
            modified: UnixMillis(fixed.modified_ms.get()),
        })
    }
}

impl UploadBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = UploadLayout {
            upload_id: self.upload_id.0,
            initiated_ms: U64::new(self.initiated.0),
            owner: U64::new(self.owner.0),
            key_len: U16::new(self.key.len() as u16),
            class: self.class,
            checksum_algorithm: self.checksum_algorithm,
            checksum_kind: self.checksum_kind,
            reserved: [0; 3],
            pair_count: U32::new(self.pairs.len() as u32),
        };
        let mut out = [fixed.as_bytes(), &self.key].concat();
        encode_pairs(&self.pairs, &mut out);
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &UploadLayout = cursor.fixed("upload")?;
        let key = cursor.bytes(fixed.key_len.get().into(), "key")?.to_vec();
        let pairs = decode_pairs(&mut cursor, fixed.pair_count.get())?;
        cursor.end("upload: bytes left over")?;
        Ok(UploadBody {
            upload_id: UploadId(fixed.upload_id),
            key,
            initiated: UnixMillis(fixed.initiated_ms.get()),
            owner: UserId(fixed.owner.get()),
            class: fixed.class,
            checksum_algorithm: fixed.checksum_algorithm,
            checksum_kind: fixed.checksum_kind,
            pairs,
        })
    }
}

impl PartBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = PartLayout {
            upload_id: self.upload_id.0,
            summary: PartSummaryLayout::from(&self.summary),
            modified_ms: U64::new(self.modified.0),
            key_len: U16::new(self.key.len() as u16),
            reserved: [0; 2],
            piece_count: U32::new(self.pieces.len() as u32),
        };
        let mut out = [fixed.as_bytes(), &self.key].concat();
        encode_pieces(&self.pieces, &mut out);
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &PartLayout = cursor.fixed("part")?;
        let key = cursor.bytes(fixed.key_len.get().into(), "key")?.to_vec();
        let pieces = decode_pieces(&mut cursor, fixed.piece_count.get())?;
        cursor.end("part: bytes left over")?;
        let summary = PartSummary::try_from(&fixed.summary)?;
        if pieces.iter().map(|piece| piece.len).sum::<u64>() != summary.size {
            return Err(Malformed("part: size"));
        }
        Ok(PartBody {
            upload_id: UploadId(fixed.upload_id),
            key,
            summary,
            modified: UnixMillis(fixed.modified_ms.get()),
            pieces,
        })
    }
}

impl UploadEndBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = UploadEndLayout {
            upload_id: self.upload_id.0,
            key_len: U16::new(self.key.len() as u16),
            reserved: [0; 6],
        };
        [fixed.as_bytes(), &self.key].concat()
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &UploadEndLayout = cursor.fixed("upload end")?;
        let key = cursor.bytes(fixed.key_len.get().into(), "key")?.to_vec();
        cursor.end("upload end: bytes left over")?;
        Ok(UploadEndBody { upload_id: UploadId(fixed.upload_id), key })
    }
}

impl From<&Extent> for ExtentLayout {
    fn from(extent: &Extent) -> Self {
        ExtentLayout {
            segment_id: U64::new(extent.segment.0),
            block: U32::new(extent.block),
            block_count: U32::new(extent.block_count),
        }
    }
}

impl From<&ExtentLayout> for Extent {
    fn from(layout: &ExtentLayout) -> Self {
        Extent {
            segment: SegmentId(layout.segment_id.get()),
            block: layout.block.get(),
            block_count: layout.block_count.get(),
        }
    }
}

impl From<&Checksum> for ChecksumLayout {
    fn from(checksum: &Checksum) -> Self {
        ChecksumLayout {
            algorithm: checksum.algorithm,
            kind: checksum.kind,
            len: checksum.len,
            reserved: 0,
            value: checksum.value,
        }
    }
}

impl TryFrom<&ChecksumLayout> for Checksum {
    type Error = Malformed;

    fn try_from(layout: &ChecksumLayout) -> Result<Self, Malformed> {
        if usize::from(layout.len) > layout.value.len() {
            return Err(Malformed("checksum length"));
        }
        Ok(Checksum { algorithm: layout.algorithm, kind: layout.kind, len: layout.len, value: layout.value })
    }
}

impl Checksum {
    /// The digest.
    pub fn bytes(&self) -> &[u8] {
        &self.value[..usize::from(self.len)]
    }
}

impl From<&PartSummary> for PartSummaryLayout {
    fn from(part: &PartSummary) -> Self {
        PartSummaryLayout {
            size: U64::new(part.size),
            md5: part.md5,
            number: U16::new(part.number),
            reserved: U16::ZERO,
            checksum: ChecksumLayout::from(&part.checksum),
        }
    }
}

impl TryFrom<&PartSummaryLayout> for PartSummary {
    type Error = Malformed;

    fn try_from(layout: &PartSummaryLayout) -> Result<Self, Malformed> {
        Ok(PartSummary {
            number: layout.number.get(),
            size: layout.size.get(),
            md5: layout.md5,
            checksum: Checksum::try_from(&layout.checksum)?,
        })
    }
}

fn encode_pairs(pairs: &Pairs, out: &mut Vec<u8>) {
    for (name, value) in pairs {
        let head = PairLayout {
            name_len: U16::new(name.len() as u16),
            reserved: U16::ZERO,
            value_len: U32::new(value.len() as u32),
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
}

fn decode_pairs(cursor: &mut Cursor<'_>, count: u32) -> Result<Pairs, Malformed> {
    let mut pairs = Pairs::new();
    for _ in 0..count {
        let head: &PairLayout = cursor.fixed("header pair")?;
        let name = cursor.bytes(head.name_len.get().into(), "header name")?;
        let value = cursor.bytes(head.value_len.get() as usize, "header value")?;
        pairs.push((name.to_vec(), value.to_vec()));
    }
    Ok(pairs)
}

pub(super) fn encode_pieces(pieces: &[Piece], out: &mut Vec<u8>) {
    for piece in pieces {
        let head = PieceLayout {
            object_id: piece.object_id.0,
            len: U64::new(piece.len),
            namespace: U32::new(piece.namespace.0),
            key_version: U32::new(piece.key_version.0),
            extent_count: U32::new(piece.extents.len() as u32),
            seal_kind: piece.seal_kind.code(),
            reserved: [0; 3],
        };
        out.extend_from_slice(head.as_bytes());
        for extent in &piece.extents {
            out.extend_from_slice(ExtentLayout::from(extent).as_bytes());
        }
    }
}

pub(super) fn decode_pieces(cursor: &mut Cursor<'_>, count: u32) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::new();
    for _ in 0..count {
        let head: &PieceLayout = cursor.fixed("piece")?;
        let extents: Vec<Extent> = cursor
            .slice::<ExtentLayout>(head.extent_count.get() as usize, "extents")?
            .iter()
            .map(Extent::from)
            .collect();
        let len = head.len.get();
        if len > 1 << 50 || extents.iter().map(Extent::disk_len).sum::<u64>() != disk_len(len) {
            return Err(Malformed("piece: extents do not add up to its length"));
        }
        pieces.push(Piece {
            object_id: ObjectId(head.object_id),
            namespace: NamespaceId(head.namespace.get()),
            key_version: KeyVersion(head.key_version.get()),
            seal_kind: SealKind::from_code(head.seal_kind).ok_or(Malformed("piece: seal kind"))?,
            len,
            extents,
        });
    }
    Ok(pieces)
}
