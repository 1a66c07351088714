//! Superblocks: both copies of each device, its zones, and whether the devices agree on the store.

use super::finding::{Fault, Finding, Severity};
use super::report::Report;
use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::format::checkpoint::Pointer;
use crate::format::superblock::{CHECKPOINT_OFFSET, COPY_OFFSETS, Superblock, Verdict};
use crate::ids::ShardId;
use crate::limits::BLOCK_SIZE;

/// Checks all devices; gives back the positions of those that have a superblock.
pub(super) async fn check<D: Device>(devices: &[D], report: &mut Report<'_>) -> Result<Vec<usize>> {
    let mut found: Vec<(usize, Superblock)> = Vec::new();
    let mut told = Vec::new();
    for (source, device) in devices.iter().enumerate() {
        let (newest, faults, is_ours) = read(device).await;
        match newest {
            Some(superblock) => {
                check_zones(device, source, &superblock, report);
                found.push((source, superblock));
            }
            None if !is_ours => {
                return Err(Error::Devices {
                    what: "a device carries no store: is its path right? leave it out if it is not one of the store's",
                });
            }
            None => {}
        }
        told.push((source, faults));
    }
    // A device without any superblock is made good by the others, as long as the store opens without it.
    let severity = if found.is_empty() { Severity::Lost } else { Severity::Repairable };
    for (source, faults) in told {
        for (offset, what) in faults {
            let finding = Finding::new(Fault::Superblock, severity, what).device(Some(source));
            report.add(finding.offset(offset));
        }
    }
    if let Some((_, first)) = found.first() {
        for (source, superblock) in &found[1..] {
            if superblock.store_id == first.store_id && !agree(first, superblock) {
                let detail = "it says something else of the store than the first device";
                report.add(Finding::new(Fault::Zones, Severity::Lost, detail).device(Some(*source)));
            }
        }
    }
    Ok(found.into_iter().map(|(source, _)| source).collect())
}

/// The newest copy, what is wrong with the copies, and whether any of them is or was ours.
async fn read<D: Device>(device: &D) -> (Option<Superblock>, Vec<(u64, &'static str)>, bool) {
    let (mut copies, mut faults, mut is_ours): (Vec<Superblock>, _, _) = (Vec::new(), Vec::new(), false);
    for offset in COPY_OFFSETS {
        let (result, block) = device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await;
        let verdict = match result {
            Ok(()) => Superblock::decode(&block),
            Err(_) => Verdict::Unreadable("it can't be read"),
        };
        match verdict {
            Verdict::Present(superblock) => copies.push(*superblock),
            Verdict::Unreadable(what) => faults.push((offset, what)),
            // Damage may have hit the magic: zeroes alone say that nothing was ever there.
            Verdict::Empty if block.iter().all(|byte| *byte == 0) => faults.push((offset, NONE)),
            Verdict::Empty => faults.push((offset, NOT_ONE)),
        }
        is_ours |= faults.iter().any(|(_, what)| *what != NONE && *what != NOT_ONE);
    }
    if let [first, second] = &copies[..]
        && (!agree(first, second)
            || (first.device_id, first.device_index) != (second.device_id, second.device_index))
    {
        faults.push((COPY_OFFSETS[1], "its two copies are of different stores or devices"));
    }
    is_ours |= !copies.is_empty();
    (copies.into_iter().max_by_key(|superblock| superblock.sequence), faults, is_ours)
}

const NONE: &str = "there is none";
const NOT_ONE: &str = "it does not begin as one";

/// Whether two superblocks say the same of their store.
fn agree(a: &Superblock, b: &Superblock) -> bool {
    let of_store = |s: &Superblock| {
        (
            s.store_id,
            s.device_ids.clone(),
            s.created_ms,
            s.segment_size,
            s.inline_max,
            s.shard_count,
            s.copies,
        )
    };
    of_store(a) == of_store(b) && a.key_check == b.key_check
}

fn check_zones<D: Device>(device: &D, source: usize, superblock: &Superblock, report: &mut Report<'_>) {
    let pointers_end = CHECKPOINT_OFFSET + Pointer::offset(ShardId(superblock.shard_count), 0);
    let checkpoints_end = CHECKPOINT_OFFSET.saturating_add(superblock.checkpoint_size);
    let detail = if device.capacity() < superblock.capacity {
        "the device is shorter than when the store was made"
    } else if pointers_end > checkpoints_end {
        "the checkpoint area is too small for the pointers of all shards"
    } else if checkpoints_end > superblock.segment_offset {
        "the checkpoint area reaches into the segments"
    } else {
        return;
    };
    report.add(Finding::new(Fault::Zones, Severity::Lost, detail).device(Some(source)));
}
