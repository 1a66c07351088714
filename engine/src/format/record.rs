//! The header of a log record. The sealed payload follows it, and then the settlement ([`super::settlement`]): what the home shard decided that the
//! record does to numbers (places, hashes, usage), which no key seals.
//!
//! Records start at multiples of 64 bytes inside batches that start and end at multiples of 4 KiB; zeroes fill a batch up. What
//! the seal covers (the additional data of GCM) is the record's identity: kind, namespace, key version, bucket and object id. Its
//! position (LSN, session, segment, offset) is covered by the header's CRC alone, so that compaction can move it verbatim.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{checksum_64, crc32c};
use crate::ids::{BucketId, KeyVersion, Lsn, NamespaceId, ObjectId, SegmentId, ShardId};
use crate::limits::{RECORD_ALIGN, RECORD_LEN_MAX, SEAL_SIZE};

/// The first bytes of a record.
pub const MAGIC: [u8; 4] = *b"BREC";

/// Length of the header.
pub const HEADER_SIZE: usize = 128;

/// The record layout's own version, in its header: payload formats can change one at a time.
pub const RECORD_VERSION: u8 = 2;

/// The header.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RecordHeaderLayout {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// CRC-32C of the rest of the header.
    pub header_crc: U32,
    /// See [`RecordKind`].
    pub kind: u8,
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// 0 unencrypted (XXH3-128), 1 AES-256-GCM.
    pub seal_kind: u8,
    /// Zero.
    pub reserved_1: u8,
    /// Payload bytes.
    pub payload_len: U32,
    /// XXH3-64 of payload and settlement as they lie on disk: tells a torn record without any key.
    pub payload_checksum: U64,
    /// Order in the shard's log.
    pub lsn: U64,
    /// Random number of the shard's opening: tells records of an abandoned tail from those that overwrote it.
    pub session: U64,
    /// The segment it was written to.
    pub segment_id: U64,
    /// Where in it the header begins.
    pub offset: U32,
    /// The shard.
    pub shard: U16,
    /// Zero.
    pub reserved_2: U16,
    /// The bucket; 0 for records of none.
    pub bucket: U64,
    /// Whose key seals it.
    pub namespace: U32,
    /// Which generation of that key.
    pub key_version: U32,
    /// What the key is derived from.
    pub object_id: [u8; 16],
    /// GCM tag or XXH3-128 of the payload and the identity.
    pub seal: [u8; SEAL_SIZE],
    /// The LSN that the change was first committed with; 0 when it is this record's own. Compaction moves a record under a new LSN.
    pub order: U64,
    /// Bytes of the settlement, which follows the payload.
    pub settlement_len: U32,
    /// Zeroes.
    pub reserved_3: [u8; 12],
}

const _: () = assert!(size_of::<RecordHeaderLayout>() == HEADER_SIZE);
const _: () = assert!(HEADER_SIZE.is_multiple_of(RECORD_ALIGN));

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A shard was opened for writing: a new session begins.
    Open,
    /// An object version.
    Version,
    /// A version that says that the key is deleted, as S3's versioned buckets have them.
    DeleteMarker,
    /// A version of the key is gone.
    Tombstone,
    /// All versions of the bucket are gone.
    RangeTombstone,
    /// An upload was created.
    Upload,
    /// A part of an upload.
    Part,
    /// An upload was aborted.
    UploadEnd,
    /// The catalog changed.
    Catalog,
    /// A checkpoint is complete: where its body is, and where replay goes on.
    Checkpoint,
    /// Versions that a range tombstone removed were counted as dead.
    Reap,
    /// Where a log consumer is.
    Cursor,
    /// The due-time index changed, and with it where its consumer is.
    Due,
}

impl RecordKind {
    const ALL: [RecordKind; 13] = [
        RecordKind::Open,
        RecordKind::Version,
        RecordKind::DeleteMarker,
        RecordKind::Tombstone,
        RecordKind::RangeTombstone,
        RecordKind::Upload,
        RecordKind::Part,
        RecordKind::UploadEnd,
        RecordKind::Catalog,
        RecordKind::Checkpoint,
        RecordKind::Reap,
        RecordKind::Cursor,
        RecordKind::Due,
    ];

    /// The byte on disk. Codes are never reused.
    pub fn code(self) -> u8 {
        match self {
            RecordKind::Open => 1,
            RecordKind::Version => 2,
            RecordKind::DeleteMarker => 3,
            RecordKind::Tombstone => 4,
            RecordKind::RangeTombstone => 5,
            RecordKind::Upload => 6,
            RecordKind::Part => 7,
            RecordKind::UploadEnd => 8,
            RecordKind::Catalog => 9,
            RecordKind::Checkpoint => 10,
            RecordKind::Reap => 11,
            RecordKind::Cursor => 12,
            RecordKind::Due => 13,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// How a payload or frame is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealKind {
    /// XXH3-128: integrity only, for namespaces with encryption off.
    Checksum,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl SealKind {
    /// The byte on disk.
    pub fn code(self) -> u8 {
        match self {
            SealKind::Checksum => 0,
            SealKind::Aes256Gcm => 1,
        }
    }

    /// From the byte on disk.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(SealKind::Checksum),
            1 => Some(SealKind::Aes256Gcm),
            _ => None,
        }
    }
}

/// What a record is, wherever it lies: bound to the payload by the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordIdentity {
    /// What it says.
    pub kind: RecordKind,
    /// How it is sealed.
    pub seal_kind: SealKind,
    /// Whose key seals it.
    pub namespace: NamespaceId,
    /// Which generation of that key.
    pub key_version: KeyVersion,
    /// The bucket it belongs to.
    pub bucket: BucketId,
    /// What the key is derived from.
    pub object_id: ObjectId,
}

impl RecordIdentity {
    /// The additional data of the seal.
    pub fn associated_data(&self) -> [u8; 35] {
        let mut data = [0u8; 35];
        data[0] = RECORD_VERSION;
        data[1] = self.kind.code();
        data[2] = self.seal_kind.code();
        data[3..7].copy_from_slice(&self.namespace.0.to_le_bytes());
        data[7..11].copy_from_slice(&self.key_version.0.to_le_bytes());
        data[11..19].copy_from_slice(&self.bucket.0.to_le_bytes());
        data[19..35].copy_from_slice(&self.object_id.0);
        data
    }
}

/// Where a record lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPosition {
    /// The shard whose log it is.
    pub shard: ShardId,
    /// Its order.
    pub lsn: Lsn,
    /// The opening of the shard that wrote it.
    pub session: u64,
    /// The segment.
    pub segment: SegmentId,
    /// Where its header begins.
    pub offset: u32,
}

/// A record header whose CRC verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it is.
    pub identity: RecordIdentity,
    /// Where it is.
    pub position: RecordPosition,
    /// Payload bytes.
    pub payload_len: usize,
    /// XXH3-64 of payload and settlement on disk.
    pub payload_checksum: u64,
    /// The LSN that the change was first committed with, when it is not this record's own.
    pub order: Option<Lsn>,
    /// Bytes of the settlement.
    pub settlement_len: usize,
    /// GCM tag or XXH3-128.
    pub seal: [u8; SEAL_SIZE],
}

impl RecordHeader {
    /// The header's bytes.
    pub fn encode(&self) -> RecordHeaderLayout {
        let mut layout = RecordHeaderLayout {
            magic: MAGIC,
            header_crc: U32::ZERO,
            kind: self.identity.kind.code(),
            version: RECORD_VERSION,
            seal_kind: self.identity.seal_kind.code(),
            reserved_1: 0,
            payload_len: U32::new(self.payload_len as u32),
            payload_checksum: U64::new(self.payload_checksum),
            lsn: U64::new(self.position.lsn.0),
            session: U64::new(self.position.session),
            segment_id: U64::new(self.position.segment.0),
            offset: U32::new(self.position.offset),
            shard: U16::new(self.position.shard.0),
            reserved_2: U16::ZERO,
            bucket: U64::new(self.identity.bucket.0),
            namespace: U32::new(self.identity.namespace.0),
            key_version: U32::new(self.identity.key_version.0),
            object_id: self.identity.object_id.0,
            seal: self.seal,
            order: U64::new(self.order.map_or(0, |order| order.0)),
            settlement_len: U32::new(self.settlement_len as u32),
            reserved_3: [0; 12],
        };
        layout.header_crc = U32::new(crc32c(&layout.as_bytes()[8..]));
        layout
    }

    /// Reads a header; `None` when the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (layout, _) = RecordHeaderLayout::ref_from_prefix(bytes).ok()?;
        if layout.magic != MAGIC
            || layout.version != RECORD_VERSION
            || layout.header_crc.get() != crc32c(&layout.as_bytes()[8..])
            || layout.payload_len.get() as usize > RECORD_LEN_MAX
            || layout.settlement_len.get() as usize > RECORD_LEN_MAX
        {
            return None;
        }
        Some(RecordHeader {
            identity: RecordIdentity {
                kind: RecordKind::from_code(layout.kind)?,
                seal_kind: SealKind::from_code(layout.seal_kind)?,
                namespace: NamespaceId(layout.namespace.get()),
                key_version: KeyVersion(layout.key_version.get()),
                bucket: BucketId(layout.bucket.get()),
                object_id: ObjectId(layout.object_id),
            },
            position: RecordPosition {
                shard: ShardId(layout.shard.get()),
                lsn: Lsn(layout.lsn.get()),
                session: layout.session.get(),
                segment: SegmentId(layout.segment_id.get()),
                offset: layout.offset.get(),
            },
            payload_len: layout.payload_len.get() as usize,
            payload_checksum: layout.payload_checksum.get(),
            order: Some(Lsn(layout.order.get())).filter(|order| order.0 != 0),
            settlement_len: layout.settlement_len.get() as usize,
            seal: layout.seal,
        })
    }

    /// Bytes of the whole record, without the padding to the next.
    pub fn record_len(&self) -> usize {
        HEADER_SIZE + self.payload_len + self.settlement_len
    }

    /// The LSN that the change was first committed with: what versions are ordered by.
    pub fn order(&self) -> Lsn {
        self.order.unwrap_or(self.position.lsn)
    }

    /// Whether what follows the header, payload and settlement, is what this header was written with.
    pub fn matches_body(&self, body: &[u8]) -> bool {
        body.len() == self.payload_len + self.settlement_len && checksum_64(body) == self.payload_checksum
    }
}

/// The checksum that goes into [`RecordHeader::payload_checksum`]: of payload and settlement.
pub fn body_checksum(body: &[u8]) -> u64 {
    checksum_64(body)
}
