//! The settlement: what a committed record takes away or moves, in numbers.
//!
//! The home shard knows it when it decides, from what the key had: which record and which extents die, under which hash they are found, and how
//! usage changes. It lies behind the payload of the record, so that replay needs nothing but the log: it never reads what a record replaced, which may be gone.
//! It names neither keys nor data and is not sealed; the record's checksum covers it.

use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::body::{Extent, ExtentLayout};
use super::cursor::Cursor;
use crate::ids::SegmentId;

/// Fixed part; [`ReleasedLayout`]s with their extents and [`RehashedLayout`]s follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SettlementLayout {
    /// What the index finds this record by; 0 for a record that it does not hold.
    pub own_hash: U64,
    /// Change of the bucket's objects.
    pub objects: I32,
    /// Change of its versions, delete markers included.
    pub versions: I32,
    /// Change of its versions with an id of their own.
    pub numbered: I32,
    /// Versions that died.
    pub released_count: U32,
    /// Change of its bytes.
    pub bytes: I64,
    /// Versions that are found by another hash from now on.
    pub rehashed_count: U32,
    /// Zeroes.
    pub reserved: U32,
}

const _: () = assert!(size_of::<SettlementLayout>() == 40);

/// A version that died; its extents follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReleasedLayout {
    /// What the index found it by.
    pub hash: U64,
    /// Its slot in the directory: see [`super::directory`].
    pub slot: U64,
    /// The segment of its record.
    pub segment_id: U64,
    /// Where in it the record begins.
    pub offset: U32,
    /// Bytes of the record, padding included.
    pub record_len: U32,
    /// Extents.
    pub extent_count: U32,
    /// Zeroes.
    pub reserved: U32,
}

const _: () = assert!(size_of::<ReleasedLayout>() == 40);

/// A version that the index finds by another hash: it became, or is no longer, the current one.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RehashedLayout {
    /// The hash so far.
    pub from: U64,
    /// The hash from now on.
    pub to: U64,
    /// The segment of its record.
    pub segment_id: U64,
    /// Where in it the record begins.
    pub offset: U32,
    /// Bytes of the record, padding included.
    pub record_len: U32,
}

const _: () = assert!(size_of::<RehashedLayout>() == 32);

/// Where a record lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// The segment.
    pub segment: SegmentId,
    /// Where in it the header begins.
    pub offset: u32,
    /// Bytes, padding to the next record included.
    pub len: u32,
}

/// A version that died.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// What the index found it by.
    pub hash: u64,
    /// Its slot in the directory.
    pub slot: u64,
    /// Its record.
    pub place: RecordPlace,
    /// Its bytes in bulk segments.
    pub extents: Vec<Extent>,
}

/// A version that the index finds by another hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rehashed {
    /// The hash so far.
    pub from: u64,
    /// The hash from now on.
    pub to: u64,
    /// Its record.
    pub place: RecordPlace,
}

/// How a record changes what its bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageChange {
    /// Keys whose current version is an object.
    pub objects: i32,
    /// Versions, delete markers included.
    pub versions: i32,
    /// Versions with an id of their own.
    pub numbered: i32,
    /// Bytes of all versions.
    pub bytes: i64,
}

/// All that a record settles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// What the index finds this record by; 0 for a record that it does not hold.
    pub own_hash: u64,
    /// How usage changes.
    pub usage: UsageChange,
    /// Versions that died.
    pub released: Vec<Released>,
    /// Versions that are found by another hash.
    pub rehashed: Vec<Rehashed>,
}

impl Settlement {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = SettlementLayout {
            own_hash: U64::new(self.own_hash),
            objects: I32::new(self.usage.objects),
            versions: I32::new(self.usage.versions),
            numbered: I32::new(self.usage.numbered),
            released_count: U32::new(self.released.len() as u32),
            bytes: I64::new(self.usage.bytes),
            rehashed_count: U32::new(self.rehashed.len() as u32),
            reserved: U32::ZERO,
        };
        let mut out = fixed.as_bytes().to_vec();
        for released in &self.released {
            let layout = ReleasedLayout {
                hash: U64::new(released.hash),
                slot: U64::new(released.slot),
                segment_id: U64::new(released.place.segment.0),
                offset: U32::new(released.place.offset),
                record_len: U32::new(released.place.len),
                extent_count: U32::new(released.extents.len() as u32),
                reserved: U32::ZERO,
            };
            out.extend_from_slice(layout.as_bytes());
            released
                .extents
                .iter()
                .for_each(|extent| out.extend_from_slice(ExtentLayout::from(extent).as_bytes()));
        }
        for rehashed in &self.rehashed {
            let layout = RehashedLayout {
                from: U64::new(rehashed.from),
                to: U64::new(rehashed.to),
                segment_id: U64::new(rehashed.place.segment.0),
                offset: U32::new(rehashed.place.offset),
                record_len: U32::new(rehashed.place.len),
            };
            out.extend_from_slice(layout.as_bytes());
        }
        out
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(bytes);
        let fixed: &SettlementLayout = cursor.fixed("settlement")?;
        let mut released = Vec::new();
        for _ in 0..fixed.released_count.get() {
            let layout: &ReleasedLayout = cursor.fixed("released version")?;
            let extents = cursor.slice::<ExtentLayout>(layout.extent_count.get() as usize, "extents")?;
            released.push(Released {
                hash: layout.hash.get(),
                slot: layout.slot.get(),
                place: RecordPlace {
                    segment: SegmentId(layout.segment_id.get()),
                    offset: layout.offset.get(),
                    len: layout.record_len.get(),
                },
                extents: extents.iter().map(Extent::from).collect(),
            });
        }
        let rehashed = cursor
            .slice::<RehashedLayout>(fixed.rehashed_count.get() as usize, "rehashed versions")?
            .iter()
            .map(|layout| Rehashed {
                from: layout.from.get(),
                to: layout.to.get(),
                place: RecordPlace {
                    segment: SegmentId(layout.segment_id.get()),
                    offset: layout.offset.get(),
                    len: layout.record_len.get(),
                },
            })
            .collect();
        cursor.end("settlement: bytes left over")?;
        let usage = UsageChange {
            objects: fixed.objects.get(),
            versions: fixed.versions.get(),
            numbered: fixed.numbered.get(),
            bytes: fixed.bytes.get(),
        };
        Ok(Settlement { own_hash: fixed.own_hash.get(), usage, released, rehashed })
    }
}
