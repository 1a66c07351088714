//! A checkpoint of a shard: pointer, record and body.
//!
//! ```text
//! checkpoint area of each device:   | shard 0, A | shard 0, B | shard 1, A | ...      one block each, written alternately
//!                                         |
//!                                         v
//! commit log:                        checkpoint record: where replay goes on, and where the body is
//!                                         |
//!                                         v
//! bulk segments:                     body, sealed in frames: catalog, usage, uploads, liveness, and the runs of the directory
//! ```
//! A pointer is a short cut: without any, the newest checkpoint record is found by reading the log.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::body::{PartBody, Piece, UploadBody, decode_pieces, encode_pieces};
use super::catalog::CatalogChange;
use super::cursor::Cursor;
use super::settlement::RecordPlace;
use super::upkeep::{Phase, Position};
use super::{FORMAT_VERSION, Malformed, checksum_128};
use crate::ids::{BucketId, Lsn, SegmentId, ShardId, StoreId};
use crate::limits::BLOCK_SIZE;

/// The first bytes of a pointer.
pub const POINTER_MAGIC: [u8; 4] = *b"BCKP";

/// A pointer block.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PointerLayout {
    /// [`POINTER_MAGIC`].
    pub magic: [u8; 4],
    /// [`FORMAT_VERSION`].
    pub format_version: U32,
    /// The store.
    pub store_id: [u8; 16],
    /// The shard.
    pub shard: U16,
    /// Zeroes.
    pub reserved_1: [u8; 6],
    /// LSN of the checkpoint record: the higher of two pointers counts.
    pub lsn: U64,
    /// The segment of the checkpoint record.
    pub segment_id: U64,
    /// Where in it the record begins.
    pub offset: U32,
    /// Bytes of the record, padding included.
    pub record_len: U32,
    /// Zeroes.
    pub reserved_2: [u8; 4024],
    /// XXH3-128 of all bytes before.
    pub checksum: [u8; 16],
}

const _: () = assert!(size_of::<PointerLayout>() == BLOCK_SIZE);

/// Where the newest checkpoint record of a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The shard.
    pub shard: ShardId,
    /// LSN of the record.
    pub lsn: Lsn,
    /// The record.
    pub place: RecordPlace,
}

impl Pointer {
    /// Where in the checkpoint area the pointer of that shard lies: one of two blocks.
    pub fn offset(shard: ShardId, turn: u64) -> u64 {
        (u64::from(shard.0) * 2 + turn % 2) * BLOCK_SIZE as u64
    }

    /// The block for that store.
    pub fn encode(&self, store_id: StoreId) -> PointerLayout {
        let mut layout = PointerLayout {
            magic: POINTER_MAGIC,
            format_version: U32::new(FORMAT_VERSION),
            store_id: store_id.0,
            shard: U16::new(self.shard.0),
            reserved_1: [0; 6],
            lsn: U64::new(self.lsn.0),
            segment_id: U64::new(self.place.segment.0),
            offset: U32::new(self.place.offset),
            record_len: U32::new(self.place.len),
            reserved_2: [0; 4024],
            checksum: [0; 16],
        };
        layout.checksum = checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]);
        layout
    }

    /// Reads a block; `None` when it is no pointer of that store and shard.
    pub fn decode(bytes: &[u8], store_id: StoreId, shard: ShardId) -> Option<Self> {
        let (layout, _) = PointerLayout::ref_from_prefix(bytes).ok()?;
        let verifies = layout.magic == POINTER_MAGIC
            && layout.format_version.get() == FORMAT_VERSION
            && layout.store_id == store_id.0
            && layout.shard.get() == shard.0
            && layout.checksum == checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]);
        verifies.then(|| Pointer {
            shard,
            lsn: Lsn(layout.lsn.get()),
            place: RecordPlace {
                segment: SegmentId(layout.segment_id.get()),
                offset: layout.offset.get(),
                len: layout.record_len.get(),
            },
        })
    }
}

/// Where one temperature's stream of the log stood.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct StrandLayout {
    /// The open segment; 0 for none.
    pub segment_id: U64,
    /// Where in it the next batch was to go.
    pub offset: U64,
}

const _: () = assert!(size_of::<StrandLayout>() == 16);

/// Payload of a checkpoint record; the piece of the body follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CheckpointLayout {
    /// The first LSN that the body does not contain.
    pub next_lsn: U64,
    /// The session of the record before it; 0 when there was none.
    pub session: U64,
    /// Sequence number of the next segment of the log.
    pub next_sequence: U64,
    /// The hot and the cold strand.
    pub strands: [StrandLayout; 2],
}

const _: () = assert!(size_of::<CheckpointLayout>() == 56);

/// What a checkpoint record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointBody {
    /// The first LSN that the body does not contain.
    pub next_lsn: Lsn,
    /// The session of the record before it.
    pub session: u64,
    /// Sequence number of the next segment of the log.
    pub next_sequence: u64,
    /// Open segments of the log, hot and cold, and where their next batch was to go.
    pub strands: [Option<(SegmentId, u64)>; 2],
    /// The body.
    pub body: Piece,
}

impl CheckpointBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let strand = |strand: Option<(SegmentId, u64)>| StrandLayout {
            segment_id: U64::new(strand.map_or(0, |(segment, _)| segment.0)),
            offset: U64::new(strand.map_or(0, |(_, offset)| offset)),
        };
        let fixed = CheckpointLayout {
            next_lsn: U64::new(self.next_lsn.0),
            session: U64::new(self.session),
            next_sequence: U64::new(self.next_sequence),
            strands: self.strands.map(strand),
        };
        let mut out = fixed.as_bytes().to_vec();
        encode_pieces(std::slice::from_ref(&self.body), &mut out);
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &CheckpointLayout = cursor.fixed("checkpoint")?;
        let body = decode_pieces(&mut cursor, 1)?.pop().ok_or(Malformed("checkpoint: body"))?;
        cursor.end("checkpoint: bytes left over")?;
        let strand = |strand: &StrandLayout| {
            let segment = SegmentId(strand.segment_id.get());
            (segment.0 != 0).then_some((segment, strand.offset.get()))
        };
        Ok(CheckpointBody {
            next_lsn: Lsn(fixed.next_lsn.get()),
            session: fixed.session.get(),
            next_sequence: fixed.next_sequence.get(),
            strands: [strand(&fixed.strands[0]), strand(&fixed.strands[1])],
            body,
        })
    }
}

/// Fixed part of a body: how many of each follow, in this order. Variable ones have their length in a [`BlobLayout`] before them.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ImageLayout {
    /// Catalog changes (variable).
    pub catalog_count: U32,
    /// Runs of the directory, newest first (variable).
    pub run_count: U32,
    /// [`BucketImageLayout`]s.
    pub bucket_count: U32,
    /// [`LivenessLayout`]s.
    pub liveness_count: U32,
    /// Uploads: an [`UploadImageLayout`], its body and its parts.
    pub upload_count: U32,
    /// [`CursorImageLayout`]s.
    pub cursor_count: U32,
    /// The highest bucket id ever given, on shard 0.
    pub last_bucket: U64,
}

const _: () = assert!(size_of::<ImageLayout>() == 32);

/// Length of what follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BlobLayout {
    /// Bytes.
    pub len: U32,
}

const _: () = assert!(size_of::<BlobLayout>() == 4);

/// What a bucket holds.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BucketImageLayout {
    /// The bucket.
    pub bucket: U64,
    /// Keys whose current version is an object.
    pub objects: U64,
    /// Versions, delete markers included.
    pub versions: U64,
    /// Versions with an id of their own.
    pub numbered: U64,
    /// Bytes of all versions.
    pub bytes: U64,
    /// Versions of a lower order are gone: the last range tombstone that is not reaped; 0 for none.
    pub floor: U64,
}

const _: () = assert!(size_of::<BucketImageLayout>() == 48);

/// What a segment holds of this shard.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LivenessLayout {
    /// The segment.
    pub segment_id: U64,
    /// Live bytes, each reference counted.
    pub live: U64,
    /// One past the last block that an extent refers to.
    pub end_block: U32,
    /// Zeroes.
    pub reserved: U32,
}

const _: () = assert!(size_of::<LivenessLayout>() == 24);

/// An upload. The payload of its record follows as a blob, and for each part a [`PartImageLayout`] and the payload of its record.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UploadImageLayout {
    /// The bucket.
    pub bucket: U64,
    /// Where its record is.
    pub place: PlaceImageLayout,
    /// The LSN that it was first committed with.
    pub order: U64,
    /// Parts.
    pub part_count: U32,
    /// Zeroes.
    pub reserved: U32,
}

const _: () = assert!(size_of::<UploadImageLayout>() == 40);

/// A part.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PartImageLayout {
    /// Where its record is.
    pub place: PlaceImageLayout,
    /// The LSN that it was first committed with.
    pub order: U64,
}

const _: () = assert!(size_of::<PartImageLayout>() == 24);

/// Where a record is.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PlaceImageLayout {
    /// The segment.
    pub segment_id: U64,
    /// Where in it the record begins.
    pub offset: U32,
    /// Bytes of the record, padding included.
    pub record_len: U32,
}

const _: () = assert!(size_of::<PlaceImageLayout>() == 16);

/// Where a log consumer is; its name follows as a blob.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CursorImageLayout {
    /// The first LSN that it has not seen.
    pub lsn: U64,
    /// As in a cursor record: 0 it follows the log; 1 it is starting over from a snapshot; 2 it fell behind.
    pub phase: u8,
    /// Zeroes.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<CursorImageLayout>() == 16);

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketImage {
    /// The bucket.
    pub bucket: BucketId,
    /// Keys whose current version is an object.
    pub objects: u64,
    /// Versions, delete markers included.
    pub versions: u64,
    /// Versions with an id of their own.
    pub numbered: u64,
    /// Bytes of all versions.
    pub bytes: u64,
    /// Versions of a lower order are gone.
    pub floor: Lsn,
}

/// What a segment holds of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LivenessImage {
    /// The segment.
    pub segment: SegmentId,
    /// Live bytes.
    pub live: u64,
    /// One past the last block that an extent refers to.
    pub end_block: u32,
}

/// An upload with its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadImage {
    /// The bucket.
    pub bucket: BucketId,
    /// Its record.
    pub place: RecordPlace,
    /// The LSN that it was first committed with.
    pub order: Lsn,
    /// What it was created with.
    pub body: UploadBody,
    /// Its parts: record, order, and what they hold.
    pub parts: Vec<(RecordPlace, Lsn, PartBody)>,
}

/// The body of a checkpoint: the state of a shard but for its directory and index, which lie in runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// What makes the catalog, on shard 0.
    pub catalog: Vec<CatalogChange>,
    /// The highest bucket id ever given, on shard 0.
    pub last_bucket: BucketId,
    /// Encoded run descriptors, newest first.
    pub runs: Vec<Vec<u8>>,
    /// Usage of buckets.
    pub buckets: Vec<BucketImage>,
    /// Live bytes of segments.
    pub liveness: Vec<LivenessImage>,
    /// Uploads.
    pub uploads: Vec<UploadImage>,
    /// Log consumers.
    pub cursors: Vec<(String, Position)>,
}

impl Image {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = ImageLayout {
            catalog_count: U32::new(self.catalog.len() as u32),
            run_count: U32::new(self.runs.len() as u32),
            bucket_count: U32::new(self.buckets.len() as u32),
            liveness_count: U32::new(self.liveness.len() as u32),
            upload_count: U32::new(self.uploads.len() as u32),
            cursor_count: U32::new(self.cursors.len() as u32),
            last_bucket: U64::new(self.last_bucket.0),
        };
        let mut out = fixed.as_bytes().to_vec();
        self.catalog.iter().for_each(|change| blob(&change.encode(), &mut out));
        self.runs.iter().for_each(|run| blob(run, &mut out));
        for of in &self.buckets {
            let layout = BucketImageLayout {
                bucket: U64::new(of.bucket.0),
                objects: U64::new(of.objects),
                versions: U64::new(of.versions),
                numbered: U64::new(of.numbered),
                bytes: U64::new(of.bytes),
                floor: U64::new(of.floor.0),
            };
            out.extend_from_slice(layout.as_bytes());
        }
        for of in &self.liveness {
            let layout = LivenessLayout {
                segment_id: U64::new(of.segment.0),
                live: U64::new(of.live),
                end_block: U32::new(of.end_block),
                reserved: U32::ZERO,
            };
            out.extend_from_slice(layout.as_bytes());
        }
        self.uploads.iter().for_each(|upload| upload.encode(&mut out));
        for (name, position) in &self.cursors {
            let layout = CursorImageLayout {
                lsn: U64::new(position.next.0),
                phase: position.phase.code(),
                reserved: [0; 7],
            };
            out.extend_from_slice(layout.as_bytes());
            blob(name.as_bytes(), &mut out);
        }
        out
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(bytes);
        let fixed: &ImageLayout = cursor.fixed("checkpoint body")?;
        let mut image = Image { last_bucket: BucketId(fixed.last_bucket.get()), ..Image::default() };
        for _ in 0..fixed.catalog_count.get() {
            image.catalog.push(CatalogChange::decode(take_blob(&mut cursor)?)?);
        }
        for _ in 0..fixed.run_count.get() {
            image.runs.push(take_blob(&mut cursor)?.to_vec());
        }
        image.buckets = cursor
            .slice::<BucketImageLayout>(fixed.bucket_count.get() as usize, "usage")?
            .iter()
            .map(|of| BucketImage {
                bucket: BucketId(of.bucket.get()),
                objects: of.objects.get(),
                versions: of.versions.get(),
                numbered: of.numbered.get(),
                bytes: of.bytes.get(),
                floor: Lsn(of.floor.get()),
            })
            .collect();
        image.liveness = cursor
            .slice::<LivenessLayout>(fixed.liveness_count.get() as usize, "liveness")?
            .iter()
            .map(|of| LivenessImage {
                segment: SegmentId(of.segment_id.get()),
                live: of.live.get(),
                end_block: of.end_block.get(),
            })
            .collect();
        for _ in 0..fixed.upload_count.get() {
            image.uploads.push(UploadImage::decode(&mut cursor)?);
        }
        for _ in 0..fixed.cursor_count.get() {
            let layout: &CursorImageLayout = cursor.fixed("log consumer")?;
            let position = Position { next: Lsn(layout.lsn.get()), phase: Phase::from_code(layout.phase)? };
            let name =
                std::str::from_utf8(take_blob(&mut cursor)?).map_err(|_| Malformed("log consumer: name"))?;
            image.cursors.push((name.to_owned(), position));
        }
        cursor.end("checkpoint body: bytes left over")?;
        Ok(image)
    }
}

impl UploadImage {
    fn encode(&self, out: &mut Vec<u8>) {
        let layout = UploadImageLayout {
            bucket: U64::new(self.bucket.0),
            place: PlaceImageLayout::from(&self.place),
            order: U64::new(self.order.0),
            part_count: U32::new(self.parts.len() as u32),
            reserved: U32::ZERO,
        };
        out.extend_from_slice(layout.as_bytes());
        blob(&self.body.encode(), out);
        for (place, order, part) in &self.parts {
            let layout = PartImageLayout { place: PlaceImageLayout::from(place), order: U64::new(order.0) };
            out.extend_from_slice(layout.as_bytes());
            blob(&part.encode(), out);
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let layout: UploadImageLayout = *cursor.fixed::<UploadImageLayout>("upload")?;
        let body = UploadBody::decode(take_blob(cursor)?)?;
        let mut parts = Vec::new();
        for _ in 0..layout.part_count.get() {
            let part: PartImageLayout = *cursor.fixed::<PartImageLayout>("part")?;
            let body = PartBody::decode(take_blob(cursor)?)?;
            parts.push((RecordPlace::from(&part.place), Lsn(part.order.get()), body));
        }
        Ok(UploadImage {
            bucket: BucketId(layout.bucket.get()),
            place: RecordPlace::from(&layout.place),
            order: Lsn(layout.order.get()),
            body,
            parts,
        })
    }
}

impl From<&RecordPlace> for PlaceImageLayout {
    fn from(place: &RecordPlace) -> Self {
        PlaceImageLayout {
            segment_id: U64::new(place.segment.0),
            offset: U32::new(place.offset),
            record_len: U32::new(place.len),
        }
    }
}

impl From<&PlaceImageLayout> for RecordPlace {
    fn from(layout: &PlaceImageLayout) -> Self {
        RecordPlace {
            segment: SegmentId(layout.segment_id.get()),
            offset: layout.offset.get(),
            len: layout.record_len.get(),
        }
    }
}

fn blob(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(BlobLayout { len: U32::new(bytes.len() as u32) }.as_bytes());
    out.extend_from_slice(bytes);
}

fn take_blob<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Malformed> {
    let layout: &BlobLayout = cursor.fixed("length")?;
    cursor.bytes(layout.len.get() as usize, "blob")
}
