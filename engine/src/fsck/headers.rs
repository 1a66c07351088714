//! Segment headers: each copy of a segment in use has one, and all are the same.

use std::collections::HashMap;

use zerocopy::FromBytes;

use super::finding::{Fault, Finding, Severity, Stage};
use super::report::Where;
use super::{Fsck, ReadOnly};
use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::format::segment::{Place, SegmentHeader, SegmentHeaderLayout};
use crate::ids::{DeviceIndex, SegmentId, SegmentIndex};
use crate::limits::BLOCK_SIZE;

impl<D: Device> Fsck<'_, D> {
    /// Checks the headers of all segments that hold something.
    pub(super) async fn check_headers(&mut self) {
        let table = self.core.store.table.clone();
        let indexes: u32 = self.core.store.devices.iter().flatten().map(|device| device.slot_count).sum();
        let in_use = |id: &SegmentId| table.live(*id).is_some_and(|live| live > 0) || self.log.contains(id);
        let ids: Vec<SegmentId> =
            (0..indexes).filter_map(|index| table.id_at(SegmentIndex(index))).filter(in_use).collect();
        let mut claimed: HashMap<(u16, u32), SegmentId> = HashMap::new();
        for (done, id) in (1..).zip(&ids) {
            let places = table.places(*id).unwrap_or_default();
            for place in &places {
                if let Some(other) = claimed.insert((place.device.0, place.slot), *id) {
                    let detail = format!(
                        "slot {} of device {} is that of segment {:#x} too",
                        place.slot, place.device, other.0
                    );
                    let finding = Finding::new(Fault::SegmentHeader, Severity::Lost, &detail);
                    self.report.add(finding.segment(*id));
                }
            }
            let copies = look_at_headers(&self.core, *id, &places).await;
            let at = Where {
                fault: Fault::SegmentHeader,
                shard: None,
                segment: *id,
                offset: 0,
                of: "the header of a segment in use",
            };
            self.report.copies(at, &copies);
            self.report.summary.segments += 1;
            self.report.progress(Stage::Headers, None, done, Some(ids.len() as u64));
        }
        if !self.gone.is_empty() {
            self.look_for_gone().await;
        }
    }

    /// Remembers a segment that something refers to, if no header tells of it.
    pub(super) fn note_gone(&mut self, segment: SegmentId) {
        if segment != SegmentId(0) && self.core.store.table.places(segment).is_none() {
            self.gone.insert(segment);
        }
    }

    /// Looks for damaged headers that were those of segments that are gone.
    async fn look_for_gone(&mut self) {
        for (device, layout) in (0..).map(DeviceIndex).zip(self.core.store.devices.clone()) {
            let Some(layout) = layout else { continue };
            let source = self.report.sources[usize::from(device.0)];
            for slot in 0..layout.slot_count {
                let place = Place { device, slot };
                let (_, block) = self.core.read_copy(place, 0, AlignedBuffer::zeroed(BLOCK_SIZE)).await;
                let Ok((header, _)) = SegmentHeaderLayout::ref_from_prefix(&block) else { continue };
                let id = SegmentId(header.segment_id.get());
                if header.store_id != self.core.store.id.0 || !self.gone.contains(&id) {
                    continue;
                }
                let what = match SegmentHeader::decode(&block, self.core.store.id) {
                    None => "does not verify",
                    Some(_) => "has lost its place to another segment",
                };
                let detail = format!("the header in slot {slot}, of a segment that is referred to, {what}");
                let finding = Finding::new(Fault::SegmentHeader, Severity::Lost, &detail);
                self.report.add(finding.device(source).segment(id).offset(0));
            }
        }
    }
}

async fn look_at_headers<D: Device>(
    core: &Core<ReadOnly<D>>,
    id: SegmentId,
    places: &[Place],
) -> Vec<(Place, Option<&'static str>)> {
    let mut found: Vec<(Place, Option<SegmentHeader>, Option<&'static str>)> = Vec::new();
    for place in places {
        let (result, block) = core.read_copy(*place, 0, AlignedBuffer::zeroed(BLOCK_SIZE)).await;
        let header = SegmentHeader::decode(&block, core.store.id);
        let what = match &header {
            _ if result.is_err() => Some("it can't be read"),
            None => Some("it does not verify"),
            Some(header) if header.id != id => Some("it is that of another segment"),
            Some(header) if header.places != places => Some("it names other places"),
            Some(_) => None,
        };
        found.push((*place, header, what));
    }
    let first = found.iter().find(|(_, _, what)| what.is_none()).and_then(|(_, header, _)| header.clone());
    found
        .into_iter()
        .map(|(place, header, what)| match what {
            None if header != first => (place, Some("it differs from another copy")),
            what => (place, what),
        })
        .collect()
}
