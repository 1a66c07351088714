//! What a check tells: findings, and how far it is.

use std::fmt;

use crate::ids::{SegmentId, ShardId};

/// What a check tells while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something is not as it should be.
    Found(Finding),
    /// How far it is.
    Progress(Progress),
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Another copy has what is damaged here.
    Repairable,
    /// No copy has it, or what is on the devices contradicts itself.
    Lost,
}

impl Severity {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Repairable => "repairable",
            Severity::Lost => "lost",
        }
    }
}

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A copy of a superblock.
    Superblock,
    /// The zones of a device, or what its superblock says of the store.
    Zones,
    /// The store as a whole.
    Store,
    /// The header of a segment.
    SegmentHeader,
    /// A pointer to a checkpoint.
    Pointer,
    /// A checkpoint record.
    CheckpointRecord,
    /// A frame of a checkpoint's body, or what it holds.
    CheckpointBody,
    /// A block of a run of the directory.
    RunBlock,
    /// What a run says of itself, or the order of what it holds.
    Run,
    /// A record of the log, or of a version, upload or part.
    Record,
    /// A shard that does not open.
    Shard,
    /// A directory entry that is not what its record says.
    Entry,
    /// The hash index.
    Index,
    /// Bytes in bulk segments that are referred to and cannot be there.
    Extent,
    /// The directory's table of extents.
    ExtentTable,
    /// The due-time index.
    DueTime,
    /// A frame of an object or part.
    Frame,
    /// Live bytes of a segment.
    Live,
    /// Usage of a bucket.
    Usage,
    /// An upload or a part of one.
    Upload,
}

impl Fault {
    /// A short name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Superblock => "superblock",
            Fault::Zones => "zones",
            Fault::Store => "store",
            Fault::SegmentHeader => "segment-header",
            Fault::Pointer => "pointer",
            Fault::CheckpointRecord => "checkpoint-record",
            Fault::CheckpointBody => "checkpoint-body",
            Fault::RunBlock => "run-block",
            Fault::Run => "run",
            Fault::Record => "record",
            Fault::Shard => "shard",
            Fault::Entry => "entry",
            Fault::Index => "index",
            Fault::Extent => "extent",
            Fault::ExtentTable => "extent-table",
            Fault::DueTime => "due-time",
            Fault::Frame => "frame",
            Fault::Live => "live-bytes",
            Fault::Usage => "usage",
            Fault::Upload => "upload",
        }
    }

    /// What it means, and what to do about it.
    pub fn advice(self, severity: Severity) -> &'static str {
        match (self, severity) {
            (Fault::Superblock, Severity::Repairable) => {
                "the device's other superblock, or another device, has what is needed; replace the device if it has more faults"
            }
            (Fault::Superblock | Fault::Zones | Fault::Store, _) => {
                "the store does not open like this: give all devices, or restore them from images"
            }
            (Fault::Pointer, _) => {
                "a start looks for the checkpoint elsewhere, and the next checkpoint writes the pointer again"
            }
            (Fault::SegmentHeader, Severity::Repairable) => {
                "the other copies tell what the segment is; do not lose their devices before the data is copied elsewhere"
            }
            (Fault::Record, Severity::Repairable) => {
                "readers take another copy. At the end of the log this is what a crash leaves, and the next start makes it good; elsewhere copy the data to another store before more devices fail"
            }
            (_, Severity::Repairable) => {
                "readers take another copy; copy the data to another store before more devices fail"
            }
            (Fault::Record | Fault::Frame | Fault::Extent, _) => {
                "the objects concerned cannot be read: restore them from elsewhere; others are not affected"
            }
            (Fault::Shard | Fault::CheckpointRecord | Fault::CheckpointBody | Fault::SegmentHeader, _) => {
                "the shard's buckets cannot be opened, or have lost what was acknowledged: bring back missing devices, or restore from elsewhere"
            }
            (Fault::RunBlock | Fault::Run, _) => {
                "listings and changes of the keys concerned fail: copy what can be read to another store"
            }
            (Fault::Live | Fault::Usage, _) => {
                "a count is wrong: keep images of the devices and report it, and copy the data to another store"
            }
            (Fault::DueTime, _) => {
                "what becomes due when may be missed: let its consumer start over from what is there"
            }
            (Fault::Entry | Fault::Index | Fault::ExtentTable | Fault::Upload, _) => {
                "what finds data contradicts the data: keep images of the devices and report it, and copy what can be read to another store"
            }
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub fault: Fault,
    /// How bad it is.
    pub severity: Severity,
    /// The device, by its position in the list that the check was given.
    pub device: Option<usize>,
    /// The shard.
    pub shard: Option<ShardId>,
    /// The segment.
    pub segment: Option<SegmentId>,
    /// Byte offset in the segment; without a segment, on the device.
    pub offset: Option<u64>,
    /// What exactly was found, for people.
    pub detail: String,
}

impl Finding {
    pub(super) fn new(fault: Fault, severity: Severity, detail: &str) -> Self {
        let detail = detail.to_owned();
        Finding { fault, severity, device: None, shard: None, segment: None, offset: None, detail }
    }

    pub(super) fn device(self, device: Option<usize>) -> Self {
        Finding { device, ..self }
    }

    pub(super) fn shard(self, shard: ShardId) -> Self {
        Finding { shard: Some(shard), ..self }
    }

    pub(super) fn segment(self, segment: SegmentId) -> Self {
        Finding { segment: Some(segment), ..self }
    }

    pub(super) fn offset(self, offset: u64) -> Self {
        Finding { offset: Some(offset), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.severity.name(), self.fault.name())?;
        self.device.map_or(Ok(()), |device| write!(f, " device {device}"))?;
        self.shard.map_or(Ok(()), |shard| write!(f, " shard {shard}"))?;
        self.segment.map_or(Ok(()), |segment| write!(f, " segment {:#x}", segment.0))?;
        self.offset.map_or(Ok(()), |offset| write!(f, " offset {offset}"))?;
        write!(f, ": {}", self.detail)
    }
}

/// What a check is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Blocks of directory runs.
    Runs,
    /// Reading the log.
    Replay,
    /// Records of the log after the checkpoint, on every copy.
    Log,
    /// Versions: record, index, extents.
    Versions,
    /// Segment headers.
    Headers,
}

impl Stage {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Runs => "directory blocks",
            Stage::Replay => "records replayed",
            Stage::Log => "records of the log",
            Stage::Versions => "versions",
            Stage::Headers => "segments",
        }
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Of which shard, if it is of one.
    pub shard: Option<ShardId>,
    /// Things done.
    pub done: u64,
    /// Things to be done, where that is known.
    pub total: Option<u64>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments that hold something.
    pub segments: u64,
    /// Blocks of directory runs, each copy counted once.
    pub run_blocks: u64,
    /// Records of the log after the checkpoints.
    pub log_records: u64,
    /// Versions, delete markers included.
    pub versions: u64,
    /// Uploads that are neither completed nor aborted.
    pub uploads: u64,
    /// Frames of objects and parts.
    pub frames: u64,
    /// Findings that another copy makes good.
    pub repairable: u64,
    /// Findings of what is lost or contradicts itself.
    pub lost: u64,
}

impl Summary {
    /// The worst of all findings.
    pub fn worst(&self) -> Option<Severity> {
        match (self.lost, self.repairable) {
            (0, 0) => None,
            (0, _) => Some(Severity::Repairable),
            _ => Some(Severity::Lost),
        }
    }
}
