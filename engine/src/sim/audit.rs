//! What a session left on the devices, checked by [`crate::fsck`] before anybody opens it again. Clients see what is acknowledged; this sees the rest: live
//! bytes, usage, the index and the table of extents counted again, every frame, and **every** copy.
//!
//! Nothing may be lost, whatever happened. What one copy lacks and another has is excused
//! - on the victim, which rots and writes where it should not;
//! - where a crash explains it: records (the end of the log, which the next start makes the same on all copies), and pointers (of the two blocks of a shard a start
//!   writes one; a torn one stays until a checkpoint has its turn).
//!
//! A rest without upkeep leaves nothing that a crash explains: then every other device must be whole.

use super::device::Device;
use super::machine;
use crate::fsck::{self, Depth, Event, Fault, Finding, Severity};

/// How the session before left the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// With writes under way.
    Torn,
    /// With everything written that there was to write.
    Settled,
}

/// Checks the devices; the findings that nothing excuses, one a line.
pub async fn audit(devices: Vec<Device>, victim: Option<usize>, left: Left) -> Result<(), String> {
    let mut found = String::new();
    let mut tell = |event: Event| {
        if let Event::Found(finding) = event
            && !is_excused(&finding, victim, left)
        {
            found.push_str(&format!("\n  {finding}"));
        }
    };
    let checked = fsck::check(devices, machine::master(), Depth::Data, &mut tell).await;
    match checked {
        Err(error) => Err(format!("fsck of what is {left:?}: {error:?}")),
        Ok(_) if !found.is_empty() => Err(format!("fsck of what is {left:?}:{found}")),
        Ok(_) => Ok(()),
    }
}

fn is_excused(finding: &Finding, victim: Option<usize>, left: Left) -> bool {
    let is_of_crash = match finding.fault {
        Fault::Pointer => true,
        Fault::Record | Fault::CheckpointRecord => left == Left::Torn,
        _ => false,
    };
    let is_victims = victim.is_some() && finding.device == victim;
    finding.severity == Severity::Repairable && (is_victims || is_of_crash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(fault: Fault, severity: Severity, device: usize) -> Finding {
        let detail = "it does not verify".to_owned();
        Finding { fault, severity, device: Some(device), shard: None, segment: None, offset: None, detail }
    }

    #[test]
    fn what_is_lost_is_never_excused_and_what_one_copy_lacks_only_by_the_victim_or_a_crash() {
        let lost = finding(Fault::Record, Severity::Lost, 1);
        assert!(!is_excused(&lost, Some(1), Left::Torn));
        let record = finding(Fault::Record, Severity::Repairable, 1);
        assert!(is_excused(&record, None, Left::Torn) && is_excused(&record, Some(1), Left::Settled));
        assert!(!is_excused(&record, Some(0), Left::Settled) && !is_excused(&record, None, Left::Settled));
        let frame = finding(Fault::Frame, Severity::Repairable, 1);
        assert!(is_excused(&frame, Some(1), Left::Torn) && !is_excused(&frame, Some(0), Left::Torn));
    }
}
