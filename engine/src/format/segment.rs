//! The header of a segment slot: one block, written and flushed before anything else in the slot.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT_VERSION, checksum_128};
use crate::ids::{DeviceIndex, Lsn, SegmentId, StoreId};
use crate::limits::{BLOCK_SIZE, COPIES_MAX};

/// The first bytes of a slot in use.
pub const MAGIC: [u8; 4] = *b"BSEG";

/// The header block.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SegmentHeaderLayout {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`FORMAT_VERSION`].
    pub format_version: U32,
    /// The store.
    pub store_id: [u8; 16],
    /// Counter and index of this life of the segment.
    pub segment_id: U64,
    /// Position in its stream, from 0; both temperatures of a commit stream count together, without gaps.
    pub sequence: U64,
    /// First LSN that a commit segment may hold; 0 in bulk segments.
    pub first_lsn: U64,
    /// The shard of a commit stream, the core of a bulk stream.
    pub stream: U16,
    /// 1 commit, 2 bulk.
    pub kind: u8,
    /// How many of `places` count.
    pub copies: u8,
    /// Bit 0: see [`SegmentHeader::predecessor`]; bit 1: see [`Temperature`].
    pub flags: U32,
    /// Where the copies lie.
    pub places: [PlaceLayout; COPIES_MAX],
    /// Zeroes.
    pub reserved: [u8; 3992],
    /// XXH3-128 of all bytes before.
    pub checksum: [u8; 16],
}

const _: () = assert!(size_of::<SegmentHeaderLayout>() == BLOCK_SIZE);

/// One copy's place.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PlaceLayout {
    /// The device.
    pub device: U16,
    /// Zeroes.
    pub reserved: U16,
    /// The slot on it.
    pub slot: U32,
}

const _: () = assert!(size_of::<PlaceLayout>() == 8);

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Records of a shard.
    Commit,
    /// Frames written by a core.
    Bulk,
}

/// How long what a segment holds is expected to live: streams of one temperature share no segment with the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Temperature {
    /// New data.
    #[default]
    Hot,
    /// What compaction moved: it has outlived its neighbours once.
    Cold,
}

/// How the segment before this one in its stream was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Predecessor {
    /// Its copies are the same.
    #[default]
    Settled,
    /// Its end may have reached some copies and not others, which were not there to be completed.
    Unsettled,
}

/// A slot of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The device.
    pub device: DeviceIndex,
    /// The slot on it.
    pub slot: u32,
}

/// A segment header whose bytes verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// This life of the segment.
    pub id: SegmentId,
    /// What it holds.
    pub kind: SegmentKind,
    /// The shard (commit) or the core (bulk).
    pub stream: u16,
    /// Position in the stream.
    pub sequence: u64,
    /// First LSN it may hold.
    pub first_lsn: Lsn,
    /// What the stream writes.
    pub temperature: Temperature,
    /// How the one before it in a commit stream was left.
    pub predecessor: Predecessor,
    /// Where its copies lie.
    pub places: Vec<Place>,
}

impl SegmentHeader {
    /// The header block for that store.
    pub fn encode(&self, store_id: StoreId) -> SegmentHeaderLayout {
        let mut places = [PlaceLayout::default(); COPIES_MAX];
        for (layout, place) in places.iter_mut().zip(&self.places) {
            layout.device = U16::new(place.device.0);
            layout.slot = U32::new(place.slot);
        }
        let mut layout = SegmentHeaderLayout {
            magic: MAGIC,
            format_version: U32::new(FORMAT_VERSION),
            store_id: store_id.0,
            segment_id: U64::new(self.id.0),
            sequence: U64::new(self.sequence),
            first_lsn: U64::new(self.first_lsn.0),
            stream: U16::new(self.stream),
            kind: match self.kind {
                SegmentKind::Commit => 1,
                SegmentKind::Bulk => 2,
            },
            copies: self.places.len() as u8,
            flags: U32::new(
                match self.predecessor {
                    Predecessor::Settled => 0,
                    Predecessor::Unsettled => 1,
                } | match self.temperature {
                    Temperature::Hot => 0,
                    Temperature::Cold => 2,
                },
            ),
            places,
            reserved: [0; 3992],
            checksum: [0; 16],
        };
        layout.checksum = checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]);
        layout
    }

    /// Reads a header block; `None` when it is not one of that store.
    pub fn decode(bytes: &[u8], store_id: StoreId) -> Option<Self> {
        let (layout, _) = SegmentHeaderLayout::ref_from_prefix(bytes).ok()?;
        let verifies = layout.magic == MAGIC
            && layout.format_version.get() == FORMAT_VERSION
            && layout.store_id == store_id.0
            && (1..=COPIES_MAX).contains(&usize::from(layout.copies))
            && layout.checksum == checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]);
        if !verifies {
            return None;
        }
        Some(SegmentHeader {
            id: SegmentId(layout.segment_id.get()),
            kind: match layout.kind {
                1 => SegmentKind::Commit,
                2 => SegmentKind::Bulk,
                _ => return None,
            },
            stream: layout.stream.get(),
            sequence: layout.sequence.get(),
            first_lsn: Lsn(layout.first_lsn.get()),
            temperature: match layout.flags.get() & !1 {
                0 => Temperature::Hot,
                2 => Temperature::Cold,
                _ => return None,
            },
            predecessor: match layout.flags.get() & 1 {
                0 => Predecessor::Settled,
                _ => Predecessor::Unsettled,
            },
            places: layout.places[..usize::from(layout.copies)]
                .iter()
                .map(|place| Place { device: DeviceIndex(place.device.get()), slot: place.slot.get() })
                .collect(),
        })
    }
}
