//! Opening a shard after any shutdown: its newest checkpoint, and then its log from there on, up to the first record that does not verify.
//!
//! What is trusted, and why:
//! - A checkpoint counts when its record verifies where a pointer, or a walk through the log, found it, and its body opens. Pointers are a short cut: without
//!   any the log is walked. Without a checkpoint the log is replayed from its first segment.
//! - A record counts when header and body verify, it says it lies where it was found, its LSN is the next one, and it belongs to the current session
//!   (or begins the next one). Bytes of an abandoned tail or of an earlier life of the slot fail one of these.
//! - The log is one sequence in two strands. The next record lies in the last segment of a strand that may hold its LSN; if both had one, the hot strand's
//!   counts: a session begins there, and what it did not find when it began is gone.
//! - When one copy of a record does not verify or can't be read, the others are asked. Only when none has it, and one of them could be read, the log ends
//!   there: what was acknowledged is on all copies. Where no copy that is there can be read, nothing is decided.
//! - A log that ends before the first LSN of one of its segments has lost acknowledged records: that is an error, not an end.
//! - The end of each strand may have reached some copies and not others; it is made the same on all before anything is appended. When a copy is not
//!   there, the strand goes on in another segment, whose header says so, and the copies are made the same once they are all there.
//!
//! | file | noun |
//! |---|---|
//! | `checkpoint` | the newest checkpoint |
//! | `replay` | the log after it |
//! | `windows` | the log, read from its copies |
//! | `heal` | the end of the log, made the same on all copies |

mod checkpoint;
mod heal;
mod replay;
mod windows;

use std::rc::Rc;

use crate::core::Core;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::checkpoint::CheckpointBody;
use crate::format::segment::SegmentHeader;
use crate::format::settlement::RecordPlace;
use crate::ids::{SegmentId, ShardId};
use crate::log::{LogSegment, Resume};
use crate::shard::Shard;
use checkpoint::{Restored, restore};
pub(crate) use checkpoint::{find_checkpoint, read_image};
use replay::Replay;

/// How far opening a shard is, for those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Segments of the log read in this stage.
    pub segments_done: usize,
    /// Segments of the log to be read in it.
    pub segments: usize,
    /// Records applied.
    pub records: u64,
}

/// What opening a shard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No pointer leads to a checkpoint: looking for one in the log.
    Search,
    /// Applying the log after the checkpoint.
    Replay,
}

/// Opens a shard: its checkpoint, and the log after it. Shard 0 comes first, since the others need the keys in its catalog. The shard's session begins with
/// its first write, which must wait for the end of recovery ([`crate::segment::table::SegmentTable::finish_recovery`]): before, no space is known to be free. With
/// a device away it begins here: nothing is freed before the sessions of all shards have begun, and a full store takes no first write.
///
/// A store that takes no writes (a device is missing) opens all the same, for reading. With shard 0 open, damaged superblock copies are written again.
///
/// # Errors
/// [`Error::Corrupt`] when acknowledged records are lost, [`Error::Key`], [`Error::Io`].
pub async fn open_shard<D: Device>(
    core: Rc<Core<D>>,
    id: ShardId,
    progress: impl FnMut(Progress),
) -> Result<Rc<Shard<D>>> {
    let shard = open_watched(core.clone(), id, progress, &mut |_| {}).await?;
    if core.store.table.awaits_sessions() {
        // If it can't, the shard's first write says so.
        let _ = shard.begin_session().await;
    }
    if id == ShardId(0) {
        core.mend_superblocks().await;
    }
    Ok(shard)
}

/// The same, and tells the place of every record of the log that it applies.
pub(crate) async fn open_watched<D: Device>(
    core: Rc<Core<D>>,
    id: ShardId,
    mut progress: impl FnMut(Progress),
    watch: &mut dyn FnMut(RecordPlace),
) -> Result<Rc<Shard<D>>> {
    let segments = core.store.commit_segments(id);
    let Restored { state, record, desk } = restore(&core, id, &segments, &mut progress).await?;
    let needed = needed_segments(&segments, record.as_ref())?;
    let mut replay = Replay::new(core.clone(), id, state, record.as_ref(), &needed);
    let total = needed.len();
    while let Some(place) = replay.step().await? {
        watch(place);
        if replay.records.is_multiple_of(PROGRESS_EVERY) {
            progress(replay.progress(total));
        }
    }
    let strands = replay.finish().await?;
    replay.heal_passed(&segments, &needed).await?;
    progress(Progress { segments_done: total, ..replay.progress(total) });
    let log: Vec<LogSegment> = segments.iter().map(log_segment).collect();
    let seen = replay.state.slowest_cursor();
    let is_kept = |i: &usize| {
        needed.iter().any(|header| header.id == log[*i].id) || crate::log::is_unseen(&log, *i, seen)
    };
    let kept: Vec<LogSegment> = (0..log.len()).filter(is_kept).map(|i| log[i]).collect();
    // What a checkpoint stands for, and every consumer has seen, is data like any other.
    for segment in core.store.all_commit_segments(id) {
        if kept.iter().all(|kept| kept.id != segment) {
            core.store.table.retire(segment);
        }
    }
    let next_sequence = needed.iter().map(|header| header.sequence + 1).max().unwrap_or(0);
    let resume = Resume {
        strands,
        next_lsn: replay.state.next_lsn(),
        next_sequence: next_sequence.max(record.map_or(0, |record| record.next_sequence)),
        segments: kept,
    };
    Shard::new(core, id, replay.state, resume, desk)
}

fn log_segment(header: &SegmentHeader) -> LogSegment {
    LogSegment {
        id: header.id,
        sequence: header.sequence,
        first_lsn: header.first_lsn,
        temperature: header.temperature,
    }
}

/// Records between two reports of progress.
const PROGRESS_EVERY: u64 = 50_000;

/// The segments that replay reads: those that were open when the checkpoint was made, and all later ones.
fn needed_segments(
    segments: &[SegmentHeader],
    record: Option<&CheckpointBody>,
) -> Result<Vec<SegmentHeader>> {
    let next_sequence = record.map_or(0, |record| record.next_sequence);
    let open: Vec<SegmentId> =
        record.iter().flat_map(|record| record.strands.iter().flatten()).map(|(id, _)| *id).collect();
    let missing = |id, what| Error::Corrupt { segment: id, offset: 0, what };
    for id in &open {
        if segments.iter().all(|header| header.id != *id) {
            return Err(missing(*id, "a segment of the log that the checkpoint goes on in is missing"));
        }
    }
    let mut needed = Vec::new();
    let mut expected = next_sequence;
    for header in segments {
        if header.sequence >= next_sequence {
            if header.sequence != expected {
                return Err(missing(header.id, "a segment of the log is missing before this one"));
            }
            expected += 1;
            needed.push(header.clone());
        } else if open.contains(&header.id) {
            needed.push(header.clone());
        }
    }
    Ok(needed)
}
