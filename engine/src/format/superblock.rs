//! The superblock: what a device is, what store it belongs to, and where its zones lie.
//!
//! ```text
//! 0          64 KiB     128 KiB   192 KiB   1 MiB              segment_offset
//! | copy A   | copy B   | lease A | lease B | checkpoint area  | slot 0 | slot 1 | ...            |
//! ```
//! Both copies are written when the store is formatted, and nothing in them changes after that; the newest that verifies counts. A copy that was damaged
//! is written again from the other.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT_VERSION, checksum_128};
use crate::ids::{DeviceId, DeviceIndex, StoreId};
use crate::limits::{BLOCK_SIZE, COPIES_MAX, DEVICES_MAX, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SLOTS_MAX};

/// Where the two copies begin.
pub const COPY_OFFSETS: [u64; 2] = [0, 64 * 1024];

/// Where the checkpoint area begins.
pub const CHECKPOINT_OFFSET: u64 = 1024 * 1024;

/// The first bytes of a device.
pub const MAGIC: [u8; 8] = *b"BASALT\x00S";

/// One copy of the superblock, a block long.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SuperblockLayout {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`FORMAT_VERSION`].
    pub format_version: U32,
    /// Position of this device in `device_ids`.
    pub device_index: U16,
    /// Devices of the store.
    pub device_count: U16,
    /// The store.
    pub store_id: [u8; 16],
    /// This device.
    pub device_id: [u8; 16],
    /// Grows with each write of a superblock.
    pub sequence: U64,
    /// When the store was formatted, Unix milliseconds.
    pub created_ms: U64,
    /// Bytes of this device that the store uses.
    pub capacity: U64,
    /// Where the checkpoint area begins.
    pub checkpoint_offset: U64,
    /// How long it is.
    pub checkpoint_size: U64,
    /// Where slot 0 begins.
    pub segment_offset: U64,
    /// Bytes of a segment slot.
    pub segment_size: U64,
    /// Slots of this device.
    pub slot_count: U32,
    /// Objects up to this size lie in their record.
    pub inline_max: U32,
    /// Shards of the store, fixed when it is formatted.
    pub shard_count: U16,
    /// Copies of each segment.
    pub copies: u8,
    /// Class of this device: 0 nvme, 1 ssd, 2 hdd.
    pub tier: u8,
    /// Proves that a key source is the right one without telling anything about it.
    pub key_check: [u8; 32],
    /// Ids of all devices of the store, in order of their index.
    pub device_ids: [[u8; 16]; DEVICES_MAX],
    /// Zeroes.
    pub reserved: [u8; 2908],
    /// XXH3-128 of all bytes before.
    pub checksum: [u8; 16],
}

const _: () = assert!(size_of::<SuperblockLayout>() == BLOCK_SIZE);

/// A class of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// NVMe flash.
    #[default]
    Nvme,
    /// Other flash.
    Ssd,
    /// Rotating disks.
    Hdd,
}

impl Tier {
    fn code(self) -> u8 {
        match self {
            Tier::Nvme => 0,
            Tier::Ssd => 1,
            Tier::Hdd => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Tier::Nvme, Tier::Ssd, Tier::Hdd].into_iter().find(|tier| tier.code() == code)
    }
}

/// A superblock whose bytes verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The store.
    pub store_id: StoreId,
    /// This device.
    pub device_id: DeviceId,
    /// Its position in `device_ids`.
    pub device_index: DeviceIndex,
    /// All devices of the store.
    pub device_ids: Vec<DeviceId>,
    /// Grows with each write.
    pub sequence: u64,
    /// When the store was formatted, Unix milliseconds.
    pub created_ms: u64,
    /// Bytes of this device that the store uses.
    pub capacity: u64,
    /// Length of the checkpoint area.
    pub checkpoint_size: u64,
    /// Where slot 0 begins.
    pub segment_offset: u64,
    /// Bytes of a slot.
    pub segment_size: u64,
    /// Slots of this device.
    pub slot_count: u32,
    /// Objects up to this size lie in their record.
    pub inline_max: u32,
    /// Shards of the store.
    pub shard_count: u16,
    /// Copies of each segment.
    pub copies: u8,
    /// Class of this device.
    pub tier: Tier,
    /// Proves the key source.
    pub key_check: [u8; 32],
}

/// What a superblock copy turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing of ours: the magic is not there.
    Empty,
    /// A good copy.
    Present(Box<Superblock>),
    /// Ours, but not to be trusted; why.
    Unreadable(&'static str),
}

impl Superblock {
    /// Why the store of another release does not open, and what to do: nothing converts a store in place.
    pub const OTHER_VERSION: &str = "the device holds a store of another format version: start the release that made it, and copy its objects to a new store with an S3 client";

    /// The copy's bytes.
    pub fn encode(&self) -> SuperblockLayout {
        let mut device_ids = [[0u8; 16]; DEVICES_MAX];
        for (slot, id) in device_ids.iter_mut().zip(&self.device_ids) {
            *slot = id.0;
        }
        let mut layout = SuperblockLayout {
            magic: MAGIC,
            format_version: U32::new(FORMAT_VERSION),
            device_index: U16::new(self.device_index.0),
            device_count: U16::new(self.device_ids.len() as u16),
            store_id: self.store_id.0,
            device_id: self.device_id.0,
            sequence: U64::new(self.sequence),
            created_ms: U64::new(self.created_ms),
            capacity: U64::new(self.capacity),
            checkpoint_offset: U64::new(CHECKPOINT_OFFSET),
            checkpoint_size: U64::new(self.checkpoint_size),
            segment_offset: U64::new(self.segment_offset),
            segment_size: U64::new(self.segment_size),
            slot_count: U32::new(self.slot_count),
            inline_max: U32::new(self.inline_max),
            shard_count: U16::new(self.shard_count),
            copies: self.copies,
            tier: self.tier.code(),
            key_check: self.key_check,
            device_ids,
            reserved: [0; 2908],
            checksum: [0; 16],
        };
        layout.checksum = checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]);
        layout
    }

    /// Judges the bytes of one copy.
    pub fn decode(bytes: &[u8]) -> Verdict {
        let Ok((layout, _)) = SuperblockLayout::ref_from_prefix(bytes) else {
            return Verdict::Unreadable("shorter than a superblock");
        };
        if layout.magic != MAGIC {
            return Verdict::Empty;
        }
        if layout.checksum != checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]) {
            return Verdict::Unreadable("its checksum does not match");
        }
        if layout.format_version.get() != FORMAT_VERSION {
            return Verdict::Unreadable(Self::OTHER_VERSION);
        }
        match Self::from_layout(layout) {
            Ok(superblock) => Verdict::Present(Box::new(superblock)),
            Err(what) => Verdict::Unreadable(what),
        }
    }

    /// Whether those bytes are no superblock of any release: they don't begin as one, or are not what was written.
    pub fn is_damaged(bytes: &[u8]) -> bool {
        let Ok((layout, _)) = SuperblockLayout::ref_from_prefix(bytes) else { return true };
        layout.magic != MAGIC || layout.checksum != checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16])
    }

    fn from_layout(layout: &SuperblockLayout) -> Result<Self, &'static str> {
        let device_count = usize::from(layout.device_count.get());
        let tier = Tier::from_code(layout.tier).ok_or("its tier is unknown")?;
        let segment_size = layout.segment_size.get();
        let slots_end = u64::from(layout.slot_count.get())
            .checked_mul(segment_size)
            .and_then(|len| len.checked_add(layout.segment_offset.get()))
            .ok_or("its zones overflow")?;
        let sane = (1..=DEVICES_MAX).contains(&device_count)
            && usize::from(layout.device_index.get()) < device_count
            && layout.device_ids[usize::from(layout.device_index.get())] == layout.device_id
            && (1..=COPIES_MAX).contains(&usize::from(layout.copies))
            && (SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&segment_size)
            && segment_size.is_multiple_of(BLOCK_SIZE as u64)
            && layout.segment_offset.get().is_multiple_of(BLOCK_SIZE as u64)
            && layout.shard_count.get() > 0
            && layout.slot_count.get() <= SLOTS_MAX
            && slots_end <= layout.capacity.get();
        if !sane {
            return Err("its fields contradict each other");
        }
        Ok(Superblock {
            store_id: StoreId(layout.store_id),
            device_id: DeviceId(layout.device_id),
            device_index: DeviceIndex(layout.device_index.get()),
            device_ids: layout.device_ids[..device_count].iter().map(|id| DeviceId(*id)).collect(),
            sequence: layout.sequence.get(),
            created_ms: layout.created_ms.get(),
            capacity: layout.capacity.get(),
            checkpoint_size: layout.checkpoint_size.get(),
            segment_offset: layout.segment_offset.get(),
            segment_size,
            slot_count: layout.slot_count.get(),
            inline_max: layout.inline_max.get(),
            shard_count: layout.shard_count.get(),
            copies: layout.copies,
            tier,
            key_check: layout.key_check,
        })
    }
}
