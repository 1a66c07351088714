//! Slots of the devices and indexes of the table: what is given out when a segment is allocated, and comes back when it is freed.

use crate::format::segment::SegmentHeader;
use crate::ids::{DeviceIndex, SegmentId};
use crate::placement::Candidate;

/// What of a store is free. Behind the lock of the table.
pub(super) struct Slots {
    /// Counter of the last id given.
    pub(super) counter: u64,
    /// Segments given out: what ages are counted in. A counter of ids leaps with each lease.
    pub(super) clock: u64,
    pub(super) free_indexes: Vec<u32>,
    pub(super) devices: Vec<DeviceSlots>,
    /// Bulk segments with room at their end, from before the last start.
    pub(super) resumable: Vec<SegmentId>,
}

/// What of a device is free.
pub(super) struct DeviceSlots {
    pub(super) total: u32,
    pub(super) free: Vec<u32>,
    pub(super) takes_writes: bool,
}

impl Slots {
    pub(super) fn has_devices_for(&self, copies: usize) -> bool {
        self.devices.iter().filter(|device| device.takes_writes).count() >= copies
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.devices
            .iter()
            .enumerate()
            .filter(|(_, device)| device.takes_writes && !device.free.is_empty())
            .map(|(i, device)| Candidate { device: DeviceIndex(i as u16), weight: device.total })
            .collect()
    }

    /// The largest `n` such that `n` segments of that many copies on different devices fit into the free slots.
    pub(super) fn allocatable(&self, copies: usize) -> u32 {
        let free: Vec<u64> =
            self.devices.iter().filter(|d| d.takes_writes).map(|d| d.free.len() as u64).collect();
        let (mut low, mut high) = (0, free.iter().sum::<u64>() / copies as u64);
        while low < high {
            let n = (low + high).div_ceil(2);
            if free.iter().map(|f| n.min(*f)).sum::<u64>() >= n * copies as u64 {
                low = n
            } else {
                high = n - 1
            }
        }
        (low as u32).min(self.free_indexes.len() as u32)
    }
}

/// Of several headers with the same index, the one with the highest counter is the segment; the others are stale slots.
pub(super) fn newest_of_each_index(headers: &[SegmentHeader], limit: usize) -> Vec<&SegmentHeader> {
    let mut newest: Vec<Option<&SegmentHeader>> = vec![None; limit];
    for header in headers {
        if let Some(slot) = newest.get_mut(header.id.index().0 as usize)
            && slot.is_none_or(|other| other.id < header.id)
        {
            *slot = Some(header);
        }
    }
    // A slot belongs to the newest segment that claims it: an older one whose slot was taken over is stale too.
    let mut kept: Vec<&SegmentHeader> = newest.into_iter().flatten().collect();
    kept.sort_by_key(|header| std::cmp::Reverse(header.id.counter()));
    let mut claimed = std::collections::HashSet::new();
    kept.retain(|header| {
        let is_free = header.places.iter().all(|p| !claimed.contains(&(p.device, p.slot)));
        if is_free {
            claimed.extend(header.places.iter().map(|p| (p.device, p.slot)));
        }
        is_free
    });
    kept
}
