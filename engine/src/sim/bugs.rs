//! Planted bugs: each is a mistake that the engine could have, and that the simulator must catch.
//!
//! A hook in the engine is one line, `if bugs::is_planted(Bug::X)`. Without the feature `sim` the question is the constant "no".

/// A mistake that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A flush is answered without asking the device.
    SkippedFlush,
    /// A waiter shares the flush that was under way when it came.
    FlushJoinedLate,
    /// A failed flush is taken for a good one.
    FlushFailureIgnored,
    /// A failed write is taken for a good one.
    WriteFailureIgnored,
    /// A change is answered when it is queued.
    EarlyAcknowledge,
    /// Replay does not look at a record's payload checksum.
    TornPayloadAccepted,
    /// Conditions are checked against what is committed, not against what is queued.
    QueueIgnored,
    /// Only the first copy is read.
    SecondCopyUnread,
    /// An object that takes over the bytes of a part or another object does not count them.
    SharedBytesUncounted,
    /// Only the first copy is written.
    SkipSecondCopy,
    /// The end of the log is not made the same on all copies.
    HealSkipped,
    /// A segment without live bytes is given out again though it is being read.
    ReuseSegmentTooEarly,
    /// A lookup does not keep the segments that it leads to.
    UnpinnedRead,
    /// A replaced version stays in the hash index.
    StaleHashEntry,
    /// Replay passes over tombstones.
    LostTombstone,
    /// A completed upload is not ended.
    UploadKept,
    /// What an object replaced still counts as usage.
    UsageNotReduced,
    /// Segments of the log are given back though no checkpoint stands for them.
    RetiredTooEarly,
    /// What the last checkpoint refers to is given back before the next one is durable.
    ReleasedTooEarly,
    /// A checkpoint does not hold how the index changed.
    IndexChangesLost,
    /// Compaction moves records whose keys somebody is changing.
    MoveUnlocked,
    /// Compaction gives a moved record the order of its new place.
    MoveReordered,
}

#[cfg(feature = "sim")]
impl Bug {
    /// Those that must be caught.
    pub const ALL: [Bug; 22] = [
        Bug::SkippedFlush,
        Bug::FlushJoinedLate,
        Bug::FlushFailureIgnored,
        Bug::WriteFailureIgnored,
        Bug::EarlyAcknowledge,
        Bug::TornPayloadAccepted,
        Bug::QueueIgnored,
        Bug::SecondCopyUnread,
        Bug::SharedBytesUncounted,
        Bug::SkipSecondCopy,
        Bug::HealSkipped,
        Bug::ReuseSegmentTooEarly,
        Bug::UnpinnedRead,
        Bug::StaleHashEntry,
        Bug::LostTombstone,
        Bug::UploadKept,
        Bug::UsageNotReduced,
        Bug::RetiredTooEarly,
        Bug::ReleasedTooEarly,
        Bug::IndexChangesLost,
        Bug::MoveUnlocked,
        Bug::MoveReordered,
    ];
}

#[cfg(feature = "sim")]
mod planted {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in the engine on this thread, in place of the one before.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether the engine on this thread has that bug.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "sim")]
pub use planted::{is_planted, plant};

/// Whether the engine has that bug: never, here.
#[cfg(not(feature = "sim"))]
#[inline(always)]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
