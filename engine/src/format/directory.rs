//! Keys and values of the key directory: an ordered map of byte strings ([`crate::index`]) that holds four tables, two of them
//! those of the due-time index ([`super::due`]).
//!
//! ```text
//! versions   01 | bucket (8, big-endian) | key, escaped | 00 00 | slot (8, big-endian)      -> EntryLayout, extents
//! extents    02 | segment (8) | block (4) | 00 | bucket (8) | key, escaped | 00 00 | slot (8)                -> nothing
//! ```
//! - A key is escaped so that byte strings of any content sort as tuples: `00` becomes `00 FF`, and `00 00` ends it.
//! - The **slot** of a version with an id is the complement of its order, so that the newest comes first; the `null` version has slot 0.
//! - The table of extents tells compaction whose bytes lie in a bulk segment.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::body::{ETag, Extent, ExtentLayout, Numbering};
use super::cursor::Cursor;
use super::run::common_len;
use super::settlement::RecordPlace;
use crate::ids::{BucketId, Lsn, SegmentId, UnixMillis, UserId, VersionId};

/// Extents that an entry holds itself; what has more is looked up in its record.
pub const ENTRY_EXTENTS_MAX: usize = 8;

/// The slot of the `null` version.
pub const NULL_SLOT: u64 = 0;

/// What ends the name of a directory of keys: the delimiter that nearly all listings use, and the one that runs are outlined by.
pub const DIRECTORY_DELIMITER: u8 = b'/';

/// Bytes of a version's directory key before the key: table and bucket.
const VERSION_HEAD_LEN: usize = 1 + size_of::<u64>();

/// Bytes of a version's directory key after the key: end mark and slot.
const VERSION_TAIL_LEN: usize = 2 + size_of::<u64>();

const TABLE_VERSIONS: u8 = 1;
const TABLE_EXTENTS: u8 = 2;

const FLAG_MARKER: u8 = 1;
const FLAG_NUMBERED: u8 = 2;
const FLAG_SPILLED: u8 = 4;

/// The slot of a version.
pub fn slot_of(version: VersionId) -> u64 {
    match version {
        VersionId::Null => NULL_SLOT,
        VersionId::Number(order) => !order.0,
    }
}

/// The version in a slot.
pub fn version_in(slot: u64) -> VersionId {
    if slot == NULL_SLOT { VersionId::Null } else { VersionId::Number(Lsn(!slot)) }
}

/// Value of a version; its extents follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryLayout {
    /// Bytes of the object.
    pub size: U64,
    /// Unix milliseconds.
    pub modified_ms: U64,
    /// Its owner.
    pub owner: U64,
    /// The LSN that it was first committed with.
    pub order: U64,
    /// The segment of its record.
    pub segment_id: U64,
    /// Where in it the record begins.
    pub offset: U32,
    /// Bytes of the record, padding included.
    pub record_len: U32,
    /// MD5 of the ETag.
    pub etag_md5: [u8; 16],
    /// Parts of the ETag.
    pub etag_parts: U32,
    /// Storage class.
    pub class: u8,
    /// Bit 0: a delete marker; 1: has an id of its own; 2: its extents are in its record only.
    pub flags: u8,
    /// The protocol's code.
    pub checksum_algorithm: u8,
    /// The protocol's code.
    pub checksum_kind: u8,
    /// Extents that follow.
    pub extent_count: U32,
}

const _: () = assert!(size_of::<EntryLayout>() == 76);

/// What a listing shows of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Bytes of the object.
    pub size: u64,
    /// Its ETag.
    pub etag: ETag,
    /// When it was made.
    pub modified: UnixMillis,
    /// Its owner.
    pub owner: UserId,
    /// Its storage class.
    pub class: u8,
    /// Algorithm and kind of its checksum; the digest is in the record.
    pub checksum: (u8, u8),
}

/// Whether a version is an object or says that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// An object.
    #[default]
    Object,
    /// A delete marker.
    Marker,
}

/// Where a version's bytes in bulk segments lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryExtents {
    /// All of them.
    Here(Box<[Extent]>),
    /// They are too many: its record says.
    InRecord,
}

/// What the directory keeps of a version: what a listing shows, and where the rest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What a listing shows.
    pub listed: Listed,
    /// Object or marker.
    pub kind: EntryKind,
    /// Whether it has an id of its own.
    pub numbering: Numbering,
    /// The LSN that it was first committed with: the highest of a key is the current version.
    pub order: Lsn,
    /// The record.
    pub place: RecordPlace,
    /// Its bytes in bulk segments: what dies with it.
    pub extents: EntryExtents,
}

impl Entry {
    /// Which version of its key it is.
    pub fn version(&self) -> VersionId {
        match self.numbering {
            Numbering::Null => VersionId::Null,
            Numbering::Numbered => VersionId::Number(self.order),
        }
    }

    /// Its slot.
    pub fn slot(&self) -> u64 {
        slot_of(self.version())
    }

    /// The value.
    pub fn encode(&self) -> Vec<u8> {
        let (extents, spilled): (&[Extent], u8) = match &self.extents {
            EntryExtents::Here(extents) if extents.len() <= ENTRY_EXTENTS_MAX => (extents, 0),
            _ => (&[], FLAG_SPILLED),
        };
        let flags = match self.kind {
            EntryKind::Object => 0,
            EntryKind::Marker => FLAG_MARKER,
        } | match self.numbering {
            Numbering::Null => 0,
            Numbering::Numbered => FLAG_NUMBERED,
        } | spilled;
        let fixed = EntryLayout {
            size: U64::new(self.listed.size),
            modified_ms: U64::new(self.listed.modified.0),
            owner: U64::new(self.listed.owner.0),
            order: U64::new(self.order.0),
            segment_id: U64::new(self.place.segment.0),
            offset: U32::new(self.place.offset),
            record_len: U32::new(self.place.len),
            etag_md5: self.listed.etag.md5,
            etag_parts: U32::new(self.listed.etag.parts),
            class: self.listed.class,
            flags,
            checksum_algorithm: self.listed.checksum.0,
            checksum_kind: self.listed.checksum.1,
            extent_count: U32::new(extents.len() as u32),
        };
        let mut out = fixed.as_bytes().to_vec();
        extents.iter().for_each(|extent| out.extend_from_slice(ExtentLayout::from(extent).as_bytes()));
        out
    }

    /// Reads a value.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(value);
        let fixed: &EntryLayout = cursor.fixed("directory entry")?;
        let extents = cursor.slice::<ExtentLayout>(fixed.extent_count.get() as usize, "extents")?;
        cursor.end("directory entry: bytes left over")?;
        if fixed.flags & !(FLAG_MARKER | FLAG_NUMBERED | FLAG_SPILLED) != 0 {
            return Err(Malformed("directory entry: flags"));
        }
        let has = |flag| fixed.flags & flag != 0;
        Ok(Entry {
            listed: Listed {
                size: fixed.size.get(),
                etag: ETag { md5: fixed.etag_md5, parts: fixed.etag_parts.get() },
                modified: UnixMillis(fixed.modified_ms.get()),
                owner: UserId(fixed.owner.get()),
                class: fixed.class,
                checksum: (fixed.checksum_algorithm, fixed.checksum_kind),
            },
            kind: if has(FLAG_MARKER) { EntryKind::Marker } else { EntryKind::Object },
            numbering: if has(FLAG_NUMBERED) { Numbering::Numbered } else { Numbering::Null },
            order: Lsn(fixed.order.get()),
            place: RecordPlace {
                segment: SegmentId(fixed.segment_id.get()),
                offset: fixed.offset.get(),
                len: fixed.record_len.get(),
            },
            extents: if has(FLAG_SPILLED) {
                EntryExtents::InRecord
            } else {
                EntryExtents::Here(extents.iter().map(Extent::from).collect())
            },
        })
    }
}

/// The directory's key of a version.
pub fn version_key(bucket: BucketId, key: &[u8], slot: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 24);
    version_prefix_into(bucket, key, &mut out);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&slot.to_be_bytes());
    out
}

/// What the directory's keys of all keys begin with that begin with `prefix`. As a place to seek to, it comes before the versions of `prefix` itself and
/// after those of all smaller keys.
pub fn version_prefix(bucket: BucketId, prefix: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + 16);
    version_prefix_into(bucket, prefix, &mut out);
    out
}

fn version_prefix_into(bucket: BucketId, prefix: &[u8], out: &mut Vec<u8>) {
    out.push(TABLE_VERSIONS);
    out.extend_from_slice(&bucket.0.to_be_bytes());
    escape(prefix, out);
}

/// The place after the last version of a key.
pub fn after_versions(bucket: BucketId, key: &[u8]) -> Vec<u8> {
    let mut out = version_prefix(bucket, key);
    out.extend_from_slice(&[0, 1]);
    out
}

/// Bucket, key and slot of a directory key; `None` when it is of another table.
pub fn parse_version_key(bytes: &[u8]) -> Option<Owner> {
    let rest = bytes.strip_prefix(&[TABLE_VERSIONS])?;
    parse_owner(rest)
}

/// What the user's keys begin with whose directory keys begin with those bytes, as [`version_prefix`] makes them.
pub fn parse_version_prefix(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut ended = bytes.strip_prefix(&[TABLE_VERSIONS])?.get(size_of::<u64>()..)?.to_vec();
    ended.extend_from_slice(&[0, 0]);
    let (prefix, rest) = unescape(&ended)?;
    rest.is_empty().then_some(prefix)
}

/// The directory key of a version without its slot: what all versions of its key share. `None` when it is of another table.
pub(crate) fn version_stem(key: &[u8]) -> Option<&[u8]> {
    let is_version = key.first() == Some(&TABLE_VERSIONS) && key.len() >= VERSION_HEAD_LEN + VERSION_TAIL_LEN;
    is_version.then(|| &key[..key.len() - VERSION_TAIL_LEN])
}

/// Bytes of the directory that a directory key lies in: up to and with the last delimiter of the key, or the bucket. Other tables than that of versions
/// have no directories: there it is nothing.
pub(crate) fn directory_len(key: &[u8]) -> usize {
    version_stem(key).map_or(0, last_directory)
}

/// Bytes of the longest directory that two directories lie in.
pub(crate) fn common_directory_len(a: &[u8], b: &[u8]) -> usize {
    let common = &a[..common_len(a, b)];
    if common.len() < VERSION_HEAD_LEN { 0 } else { last_directory(common) }
}

fn last_directory(stem: &[u8]) -> usize {
    let delimiter = stem[VERSION_HEAD_LEN..].iter().rposition(|byte| *byte == DIRECTORY_DELIMITER);
    delimiter.map_or(VERSION_HEAD_LEN, |at| VERSION_HEAD_LEN + at + 1)
}

/// Whether the value of a version is that of an object and not of a delete marker.
pub(crate) fn is_object(value: &[u8]) -> bool {
    EntryLayout::ref_from_prefix(value).is_ok_and(|(entry, _)| entry.flags & FLAG_MARKER == 0)
}

fn parse_owner(bytes: &[u8]) -> Option<Owner> {
    let (bucket, rest) = bytes.split_first_chunk::<8>()?;
    let (key, rest) = unescape(rest)?;
    let slot = <[u8; 8]>::try_from(rest).ok()?;
    Some((BucketId(u64::from_be_bytes(*bucket)), key, u64::from_be_bytes(slot)))
}

/// The directory's key of an extent of a version.
pub fn extent_key(extent: &Extent, bucket: BucketId, key: &[u8], slot: u64) -> Vec<u8> {
    let mut out = extent_prefix(extent.segment, extent.block);
    out.push(0);
    out.extend_from_slice(&bucket.0.to_be_bytes());
    escape(key, &mut out);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&slot.to_be_bytes());
    out
}

/// Where the extents of a segment from that block on begin.
pub fn extent_prefix(segment: SegmentId, block: u32) -> Vec<u8> {
    let mut out = vec![TABLE_EXTENTS];
    out.extend_from_slice(&segment.0.to_be_bytes());
    out.extend_from_slice(&block.to_be_bytes());
    out
}

/// Bucket, key and slot of a version.
pub type Owner = (BucketId, Vec<u8>, u64);

/// The segment and block of an extent, and the version that owns it.
pub fn parse_extent_key(bytes: &[u8]) -> Option<(SegmentId, u32, Owner)> {
    let rest = bytes.strip_prefix(&[TABLE_EXTENTS])?;
    let (segment, rest) = rest.split_first_chunk::<8>()?;
    let (block, rest) = rest.split_first_chunk::<4>()?;
    let owner = parse_owner(rest.strip_prefix(&[0])?)?;
    Some((SegmentId(u64::from_be_bytes(*segment)), u32::from_be_bytes(*block), owner))
}

pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
}

/// The bytes up to the end mark, and what follows it.
pub(super) fn unescape(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    let mut rest = bytes;
    loop {
        let zero = rest.iter().position(|byte| *byte == 0)?;
        out.extend_from_slice(&rest[..zero]);
        match rest.get(zero + 1)? {
            0xff => out.push(0),
            0 => return Some((out, &rest[zero + 2..])),
            _ => return None,
        }
        rest = &rest[zero + 2..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn directory_keys_sort_as_bucket_key_and_slot(
            a in (0u64..3, prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..5), 0u64..3),
            b in (0u64..3, prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..5), 0u64..3),
        ) {
            let key = |t: &(u64, Vec<u8>, u64)| version_key(BucketId(t.0), &t.1, t.2);
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            prop_assert_eq!(parse_version_key(&key(&a)), Some((BucketId(a.0), a.1.clone(), a.2)));
            let extent = Extent { segment: SegmentId(7), block: 9, block_count: 1 };
            let owner = (BucketId(a.0), a.1.clone(), a.2);
            prop_assert_eq!(
                parse_extent_key(&extent_key(&extent, BucketId(a.0), &a.1, a.2)),
                Some((SegmentId(7), 9, owner))
            );
            prop_assert!(version_prefix(BucketId(a.0), &a.1) < key(&a) && key(&a) < after_versions(BucketId(a.0), &a.1));
            if a.1 < b.1 {
                prop_assert!(after_versions(BucketId(0), &a.1) < version_prefix(BucketId(0), &b.1) || b.1.starts_with(&a.1));
            }
        }
    }

    #[test]
    fn the_newest_version_sorts_first_and_the_null_version_before_all() {
        let slot = |n| slot_of(VersionId::Number(Lsn(n)));
        assert!(slot(9) < slot(8) && slot_of(VersionId::Null) < slot(u64::MAX - 1));
        assert_eq!(version_in(slot(9)), VersionId::Number(Lsn(9)));
    }
}
