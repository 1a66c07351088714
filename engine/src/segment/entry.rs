//! One entry of the segment table: what is known of a segment, in atomics that any core reads and counts in without a lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use smallvec::SmallVec;

use super::table::Wanted;
use crate::format::segment::{Place, SegmentHeader, SegmentKind, Temperature};
use crate::ids::{DeviceIndex, SegmentId};
use crate::limits::{BLOCK_SIZE, COPIES_MAX, RECORD_ALIGN};
use crate::sim::bugs::{self, Bug};

pub(super) const FREE: u8 = 0;
pub(super) const OPEN: u8 = 1;
pub(super) const SEALED: u8 = 2;

/// One pin in the `usage` word. Below it, 2^44 units are 64 million references to a whole bulk segment of 1 GiB; a record in a commit segment has one.
pub(super) const PIN: u64 = 1 << 44;

const KIND_COMMIT: u8 = 1;
const KIND_BULK: u8 = 2;

/// Where the copies of a segment lie.
pub type Places = SmallVec<[Place; COPIES_MAX]>;

/// A segment, or a place for one.
#[derive(Default)]
pub(super) struct Entry {
    /// 0 while free.
    pub(super) id: AtomicU64,
    pub(super) state: AtomicU8,
    pub(super) kind: AtomicU8,
    /// Pins in the upper 20 bits, live bytes below in the unit of the segment's kind: see [`PIN`].
    pub(super) usage: AtomicU64,
    /// One past the last block that an extent refers to.
    pub(super) tail_block: AtomicU32,
    /// Of a commit segment: a durable checkpoint stands for it.
    pub(super) is_retired: AtomicBool,
    /// Chosen by compaction.
    pub(super) is_victim: AtomicBool,
    pub(super) is_cold: AtomicBool,
    /// The shard (commit) or the core (bulk) that writes it.
    pub(super) stream: AtomicU16,
    /// The table's clock when it was sealed: tells its age.
    pub(super) sealed_at: AtomicU64,
    pub(super) places: [AtomicU64; COPIES_MAX],
}

impl Entry {
    pub(super) fn open(&self, id: SegmentId, wanted: &Wanted, places: &[Place]) {
        self.fill(wanted.kind, wanted.temperature, wanted.stream, places);
        self.usage.store(0, SeqCst);
        self.tail_block.store(1, SeqCst);
        self.state.store(OPEN, SeqCst);
        self.id.store(id.0, SeqCst);
    }

    pub(super) fn adopt(&self, header: &SegmentHeader, sealed_at: u64) {
        self.fill(header.kind, header.temperature, header.stream, &header.places);
        self.sealed_at.store(sealed_at, SeqCst);
        self.tail_block.store(1, SeqCst);
        self.state.store(SEALED, SeqCst);
        self.id.store(header.id.0, SeqCst);
    }

    pub(super) fn fill(&self, kind: SegmentKind, temperature: Temperature, stream: u16, places: &[Place]) {
        self.is_retired.store(false, SeqCst);
        self.is_victim.store(false, SeqCst);
        self.is_cold.store(temperature == Temperature::Cold, SeqCst);
        self.stream.store(stream, SeqCst);
        let kind = match kind {
            SegmentKind::Commit => KIND_COMMIT,
            SegmentKind::Bulk => KIND_BULK,
        };
        self.kind.store(kind, SeqCst);
        for (i, slot) in self.places.iter().enumerate() {
            // 0 is "no copy": the device number is stored plus one.
            let packed = places.get(i).map_or(0, |p| (u64::from(p.device.0) + 1) << 32 | u64::from(p.slot));
            slot.store(packed, SeqCst);
        }
    }

    /// Nothing refers to it and nobody reads it.
    pub(super) fn is_unused(&self) -> bool {
        let usage = self.usage.load(SeqCst);
        usage == 0 || (usage.is_multiple_of(PIN) && bugs::is_planted(Bug::ReuseSegmentTooEarly))
    }

    pub(super) fn live(&self) -> u64 {
        self.usage.load(SeqCst) % PIN * self.live_unit()
    }

    pub(super) fn kind(&self) -> SegmentKind {
        if self.kind.load(SeqCst) == KIND_COMMIT { SegmentKind::Commit } else { SegmentKind::Bulk }
    }

    pub(super) fn temperature(&self) -> Temperature {
        if self.is_cold.load(SeqCst) { Temperature::Cold } else { Temperature::Hot }
    }

    /// Records are aligned to 64 bytes, extents to blocks.
    pub(super) fn live_unit(&self) -> u64 {
        match self.kind() {
            SegmentKind::Commit => RECORD_ALIGN as u64,
            SegmentKind::Bulk => BLOCK_SIZE as u64,
        }
    }

    pub(super) fn live_units(&self, len: u64) -> u64 {
        len.div_ceil(self.live_unit())
    }

    pub(super) fn places(&self) -> Places {
        self.places
            .iter()
            .map(|place| place.load(SeqCst))
            .take_while(|packed| *packed != 0)
            .map(|packed| Place { device: DeviceIndex((packed >> 32) as u16 - 1), slot: packed as u32 })
            .collect()
    }
}
