//! What this shard has in each segment: its share of the live bytes in the segment table, which all shards count together.
//!
//! A checkpoint holds it, so that opening a store need not look at what is stored.

use std::collections::BTreeMap;

use crate::format::Malformed;
use crate::format::body::Extent;
use crate::format::checkpoint::LivenessImage;
use crate::format::settlement::RecordPlace;
use crate::ids::SegmentId;
use crate::segment::table::SegmentTable;

/// Live bytes by segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    balances: BTreeMap<SegmentId, Balance>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Balance {
    live: u64,
    end_block: u32,
}

impl Ledger {
    /// The ledger of a checkpoint, counted in the table too.
    pub(crate) fn restore(table: &SegmentTable, liveness: &[LivenessImage]) -> Self {
        let mut ledger = Ledger::default();
        for of in liveness {
            ledger.add(table, of.segment, of.live, of.end_block);
        }
        ledger
    }

    /// What a checkpoint stores.
    pub(crate) fn image(&self) -> Vec<LivenessImage> {
        let image = |(segment, of): (&SegmentId, &Balance)| LivenessImage {
            segment: *segment,
            live: of.live,
            end_block: of.end_block,
        };
        self.balances.iter().map(image).collect()
    }

    /// Another reference to a record.
    pub(crate) fn add_record(&mut self, table: &SegmentTable, place: &RecordPlace) {
        self.add(table, place.segment, u64::from(place.len), 0);
    }

    /// A reference less to a record.
    ///
    /// # Errors
    /// [`Malformed`] when that was not counted as live.
    pub(crate) fn sub_record(&mut self, table: &SegmentTable, place: &RecordPlace) -> Result<(), Malformed> {
        self.sub(table, place.segment, u64::from(place.len))
    }

    /// Another reference to each of those extents.
    ///
    /// # Errors
    /// [`Malformed`] when one lies where no segment has any.
    pub(crate) fn add_extents<'a>(
        &mut self,
        table: &SegmentTable,
        extents: impl IntoIterator<Item = &'a Extent>,
    ) -> Result<(), Malformed> {
        for extent in extents {
            if !table.holds(extent) {
                return Err(Malformed("bytes where no segment has them"));
            }
            self.add(table, extent.segment, extent.disk_len(), extent.block + extent.block_count);
        }
        Ok(())
    }

    /// A reference less to each of those extents.
    ///
    /// # Errors
    /// [`Malformed`] when one was not counted as live.
    pub(crate) fn sub_extents<'a>(
        &mut self,
        table: &SegmentTable,
        extents: impl IntoIterator<Item = &'a Extent>,
    ) -> Result<(), Malformed> {
        extents.into_iter().try_for_each(|extent| self.sub(table, extent.segment, extent.disk_len()))
    }

    /// What this shard has in a segment.
    pub(crate) fn live(&self, segment: SegmentId) -> u64 {
        self.balances.get(&segment).map_or(0, |of| of.live)
    }

    fn add(&mut self, table: &SegmentTable, segment: SegmentId, len: u64, end_block: u32) {
        table.add_live(segment, len, end_block);
        let of = self.balances.entry(segment).or_default();
        of.live += len;
        of.end_block = of.end_block.max(end_block);
    }

    fn sub(&mut self, table: &SegmentTable, segment: SegmentId, len: u64) -> Result<(), Malformed> {
        const NOT_LIVE: Malformed = Malformed("more dies than was counted as live");
        let of = self.balances.get_mut(&segment).ok_or(NOT_LIVE)?;
        of.live = of.live.checked_sub(len).ok_or(NOT_LIVE)?;
        if of.live == 0 {
            self.balances.remove(&segment);
        }
        // All shards' bytes are counted there: in another unit than here, if a record was said to lie among frames.
        if table.try_sub_live(segment, len) { Ok(()) } else { Err(NOT_LIVE) }
    }
}
