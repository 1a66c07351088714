//! What this shard has in each segment: its share of the live bytes in the segment table, which all shards count together.
//!
//! A checkpoint holds it, so that opening a store need not look at what is stored.

use std::collections::BTreeMap;

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
    pub(crate) fn sub_record(&mut self, table: &SegmentTable, place: &RecordPlace) {
        self.sub(table, place.segment, u64::from(place.len));
    }

    /// Another reference to each of those extents.
    pub(crate) fn add_extents<'a>(
        &mut self,
        table: &SegmentTable,
        extents: impl IntoIterator<Item = &'a Extent>,
    ) {
        for extent in extents {
            self.add(table, extent.segment, extent.disk_len(), extent.block + extent.block_count);
        }
    }

    /// A reference less to each of those extents.
    pub(crate) fn sub_extents<'a>(
        &mut self,
        table: &SegmentTable,
        extents: impl IntoIterator<Item = &'a Extent>,
    ) {
        for extent in extents {
            self.sub(table, extent.segment, extent.disk_len());
        }
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

    fn sub(&mut self, table: &SegmentTable, segment: SegmentId, len: u64) {
        let of = self.balances.get_mut(&segment).expect("what dies was counted as live");
        of.live = of.live.checked_sub(len).expect("no more dies than was counted as live");
        if of.live == 0 {
            self.balances.remove(&segment);
        }
        table.sub_live(segment, len);
    }
}
