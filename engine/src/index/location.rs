//! Where a record lies, in the 64 bits that an index entry has for it.

use crate::format::settlement::RecordPlace;
use crate::ids::{SegmentId, SegmentIndex};
use crate::limits::RECORD_ALIGN;

/// Where a record lies, in 64 bits: segment index (24), offset in units of 64 bytes (24), length in units of 64 bytes (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(u64);

impl Location {
    /// The length that says "longer: read the header first".
    const LONG: u64 = 0xffff;

    /// The place of a record of `len` bytes.
    pub fn new(segment: SegmentId, offset: u32, len: usize) -> Self {
        let units = len.div_ceil(RECORD_ALIGN) as u64;
        let offset_units = u64::from(offset) / RECORD_ALIGN as u64;
        assert!(offset_units < 1 << 24 && u64::from(offset).is_multiple_of(RECORD_ALIGN as u64));
        Location(u64::from(segment.index().0) << 40 | offset_units << 16 | units.min(Self::LONG))
    }

    /// The same for a place that was read, which may be none of a record.
    pub fn checked(place: &RecordPlace) -> Option<Self> {
        let is_aligned =
            place.offset.is_multiple_of(RECORD_ALIGN as u32) && place.len.is_multiple_of(RECORD_ALIGN as u32);
        let is_within = place.offset / (RECORD_ALIGN as u32) < 1 << 24;
        (is_aligned && is_within && place.len > 0).then(|| Location::from(place))
    }

    /// The place that [`raw`](Self::raw) said. Every number is some place; whether a record lies there is for its reader to check.
    pub fn from_raw(raw: u64) -> Self {
        Location(raw)
    }

    /// All of it as a number, for an image of the index.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The segment's position in the table.
    pub fn segment_index(self) -> SegmentIndex {
        SegmentIndex((self.0 >> 40) as u32)
    }

    /// Byte offset in the segment.
    pub fn offset(self) -> u64 {
        (self.0 >> 16 & 0xff_ffff) * RECORD_ALIGN as u64
    }

    /// Bytes of the record, rounded up; `None` when it is too long to be said here.
    pub fn record_len(self) -> Option<usize> {
        let units = self.0 & 0xffff;
        (units < Self::LONG).then_some(units as usize * RECORD_ALIGN)
    }
}

impl From<&RecordPlace> for Location {
    fn from(place: &RecordPlace) -> Self {
        Location::new(place.segment, place.offset, place.len as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_gives_back_its_parts() {
        let segment = SegmentId::new(9, SegmentIndex(0xff_fff0));
        let location = Location::new(segment, 1024 * 1024 * 1024 - 64, 1000);
        assert_eq!(location.segment_index(), SegmentIndex(0xff_fff0));
        assert_eq!((location.offset(), location.record_len()), ((1 << 30) - 64, Some(1024)));
        assert_eq!(Location::new(segment, 0, 8 * 1024 * 1024).record_len(), None);
        assert_eq!(Location::from_raw(location.raw()), location);
    }
}
