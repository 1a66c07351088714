//! How far ids of segments may have been given out.
//!
//! ```text
//! 128 KiB   192 KiB
//! | lease A | lease B |     one block each, written alternately, on every device that takes writes
//! ```
//! An id must never be given twice, although a crash can leave the header of a segment on one device alone, and the next start can do without that device. So a
//! number is made durable before the first id below it is used, and a start gives ids above the highest that it finds.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT_VERSION, checksum_128};
use crate::ids::{SegmentId, StoreId};
use crate::limits::BLOCK_SIZE;

/// The first bytes of a lease.
pub const LEASE_MAGIC: [u8; 4] = *b"BLSE";

/// Where the two blocks lie.
pub const LEASE_OFFSETS: [u64; 2] = [128 * 1024, 192 * 1024];

/// Counters of ids to a lease. Each start that writes uses up one lease at least: there are 16 million.
pub const LEASE_LEN: u64 = 1 << 16;

/// A lease block.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LeaseLayout {
    /// [`LEASE_MAGIC`].
    pub magic: [u8; 4],
    /// [`FORMAT_VERSION`].
    pub format_version: U32,
    /// The store.
    pub store_id: [u8; 16],
    /// Counters of segment ids up to this one may be in use: the higher of two leases counts.
    pub counter: U64,
    /// Zeroes.
    pub reserved: [u8; 4048],
    /// XXH3-128 of all bytes before.
    pub checksum: [u8; 16],
}

const _: () = assert!(size_of::<LeaseLayout>() == BLOCK_SIZE);

/// Counters of segment ids up to this one may be in use. A multiple of [`LEASE_LEN`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease(pub u64);

impl Lease {
    /// The lease under which that counter is given.
    pub fn of(counter: u64) -> Self {
        Lease(counter.next_multiple_of(LEASE_LEN))
    }

    /// Where the block lies. Neighbours lie in different blocks, so that a torn write takes the older one with it at no time.
    pub fn offset(self) -> u64 {
        LEASE_OFFSETS[(self.0 / LEASE_LEN % 2) as usize]
    }

    /// The block for that store.
    pub fn encode(self, store_id: StoreId) -> LeaseLayout {
        let mut layout = LeaseLayout {
            magic: LEASE_MAGIC,
            format_version: U32::new(FORMAT_VERSION),
            store_id: store_id.0,
            counter: U64::new(self.0),
            reserved: [0; 4048],
            checksum: [0; 16],
        };
        layout.checksum = checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]);
        layout
    }

    /// Reads a block; `None` when it is no lease of that store.
    pub fn decode(bytes: &[u8], store_id: StoreId) -> Option<Self> {
        let (layout, _) = LeaseLayout::ref_from_prefix(bytes).ok()?;
        let verifies = layout.magic == LEASE_MAGIC
            && layout.format_version.get() == FORMAT_VERSION
            && layout.store_id == store_id.0
            && layout.counter.get().is_multiple_of(LEASE_LEN)
            && layout.counter.get() < SegmentId::COUNTER_END
            && layout.checksum == checksum_128(&layout.as_bytes()[..BLOCK_SIZE - 16]);
        verifies.then(|| Lease(layout.counter.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_given_under_the_lease_that_ends_with_or_after_it() {
        assert_eq!(Lease::of(1), Lease(LEASE_LEN));
        assert_eq!(Lease::of(LEASE_LEN), Lease(LEASE_LEN));
        assert_eq!(Lease::of(LEASE_LEN + 1), Lease(2 * LEASE_LEN));
        assert_ne!(Lease(LEASE_LEN).offset(), Lease(2 * LEASE_LEN).offset());
    }

    #[test]
    fn a_lease_of_another_store_or_with_a_bit_flipped_is_none() {
        let (mine, other) = (StoreId([1; 16]), StoreId([2; 16]));
        let block = Lease(LEASE_LEN).encode(mine);
        assert_eq!(Lease::decode(block.as_bytes(), mine), Some(Lease(LEASE_LEN)));
        assert_eq!(Lease::decode(block.as_bytes(), other), None);
        let mut flipped = block;
        flipped.counter = U64::new(2 * LEASE_LEN);
        assert_eq!(Lease::decode(flipped.as_bytes(), mine), None);
        assert_eq!(Lease::decode(&[0; BLOCK_SIZE], mine), None);
    }
}
