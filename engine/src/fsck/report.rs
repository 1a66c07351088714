//! Takes findings: counts them, and tells each once.

use std::collections::HashSet;

use super::finding::{Event, Fault, Finding, Progress, Severity, Stage, Summary};
use crate::format::segment::Place;
use crate::ids::{SegmentId, ShardId};

/// Things between two reports of progress.
const PROGRESS_EVERY: u64 = 4096;

/// What was found so far.
pub(super) struct Report<'a> {
    tell: &'a mut dyn FnMut(Event),
    /// The position in the list that was given, of each device of the store.
    pub(super) sources: Vec<Option<usize>>,
    pub(super) summary: Summary,
    /// Damaged places that were told: what is reached in two ways is told once.
    told: HashSet<(Fault, Option<usize>, SegmentId, u64)>,
}

/// One copy, and what is wrong with it.
pub(super) type CopyVerdict = (Place, Option<&'static str>);

/// What is damaged, for a finding.
#[derive(Clone, Copy)]
pub(super) struct Where<'a> {
    pub(super) fault: Fault,
    pub(super) shard: Option<ShardId>,
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) of: &'a str,
}

impl<'a> Report<'a> {
    pub(super) fn new(tell: &'a mut dyn FnMut(Event)) -> Self {
        Report { tell, sources: Vec::new(), summary: Summary::default(), told: HashSet::new() }
    }

    pub(super) fn finish(self) -> Summary {
        self.summary
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if let (Some(segment), Some(offset)) = (finding.segment, finding.offset)
            && !self.told.insert((told_as(finding.fault), finding.device, segment, offset))
        {
            return;
        }
        match finding.severity {
            Severity::Repairable => self.summary.repairable += 1,
            Severity::Lost => self.summary.lost += 1,
        }
        (self.tell)(Event::Found(finding));
    }

    pub(super) fn progress(&mut self, stage: Stage, shard: Option<ShardId>, done: u64, total: Option<u64>) {
        if done.is_multiple_of(PROGRESS_EVERY) || Some(done) == total {
            (self.tell)(Event::Progress(Progress { stage, shard, done, total }));
        }
    }

    /// Tells of copies that do not verify; whether one does.
    pub(super) fn copies(&mut self, at: Where<'_>, copies: &[CopyVerdict]) -> bool {
        let is_any_good = copies.iter().any(|(_, what)| what.is_none());
        let finding = |severity, detail: &str| {
            let finding = Finding::new(at.fault, severity, detail).segment(at.segment).offset(at.offset);
            Finding { shard: at.shard, ..finding }
        };
        if !is_any_good {
            let what = copies.first().and_then(|(_, what)| *what).unwrap_or("its segment is gone");
            self.add(finding(Severity::Lost, &format!("{}: {what}, and no other copy is whole", at.of)));
            return false;
        }
        for (place, what) in copies {
            // A device whose superblock cannot be read was told of once, for all that is on it.
            let source = self.sources.get(usize::from(place.device.0)).copied().flatten();
            if let (Some(what), Some(source)) = (what, source) {
                let detail = format!("{}: {what}; another copy is whole", at.of);
                self.add(finding(Severity::Repairable, &detail).device(Some(source)));
            }
        }
        true
    }
}

/// A checkpoint record is a record of the log as well.
fn told_as(fault: Fault) -> Fault {
    if fault == Fault::CheckpointRecord { Fault::Record } else { fault }
}
