//! The work in the background that keeps a shard small: checkpoints, merges of directory runs, reaping, compaction.
//!
//! [`Shard::upkeep`] does one piece of it and says whether there was anything to do; when and how fast is the caller's. Nothing that a checkpoint refers to is
//! given back before a newer one is durable, pointers included: until then a crash goes back to the older one.
//!
//! ```text
//! freeze: memtable, state, where the log stands        (one step, between two batches)
//!   -> run of the directory -> body -> checkpoint record -> pointers       (each durable before the next)
//!     -> give back: the body before, runs that were merged away, segments of the log before
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Shard;
use super::listing::VersionWalk;
use crate::crypto::Sealing;
use crate::device::Device;
use crate::draft::Draft;
use crate::draft::Effect;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::format::body::Extent;
use crate::format::checkpoint::{CheckpointBody, Image, Pointer};
use crate::format::directory::{after_versions, version_prefix};
use crate::format::run::RunDescriptor;
use crate::format::segment::Temperature;
use crate::format::settlement::Settlement;
use crate::format::upkeep::{CursorBody, Phase, Position, ReapBody, Scope};
use crate::ids::{BucketId, Lsn, SegmentId};
use crate::index::lsm::{IndexChanges, MergePlan, Run, choose_merge, choose_merge_within, is_modest};
use crate::limits::{
    CHECKPOINT_LOG_LEN_MAX, CHECKPOINT_LOG_SHARE, CONSUMER_LOG_LEN_MAX, CONSUMER_LOG_SHARE, MEMTABLE_LEN_MAX,
    MEMTABLE_LEN_MIN, MEMTABLE_RESERVE_SHARE, REAP_COUNT_MAX, REAP_EXTENTS_MAX,
};
use crate::log::Change;
use crate::log::Receipt;
use crate::segment::table::{Purpose, SegmentTable};
use crate::shard::KeyLock;
use crate::sim::bugs::{self, Bug};

/// Whether there was anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing, for now.
    Idle,
    /// Something was done; more may be left.
    Progressed,
}

/// What is to be done, and what the last checkpoint holds.
#[derive(Default)]
pub(crate) struct Desk {
    /// Whether somebody is at work.
    is_busy: Cell<bool>,
    /// A checkpoint was begun and has not ended: if nobody is at work, whoever made it gave up half-way, and none can be made any more.
    is_unfinished: Cell<bool>,
    /// Somebody has stopped working.
    rested: Event,
    /// Buckets that the catalog no longer has.
    dropped: RefCell<BTreeSet<BucketId>>,
    /// Extents of the last checkpoint's body.
    body: RefCell<Vec<Extent>>,
    /// Extents of runs that were merged away, but that the last checkpoint refers to.
    replaced: RefCell<Vec<Extent>>,
    /// Which of the two pointer blocks is written next.
    turn: Cell<u64>,
    /// The first LSN that the last checkpoint does not contain.
    checkpointed: Cell<Lsn>,
    /// Bytes of the log when it was made, as the core counts them.
    log_bytes: Cell<u64>,
    /// Free segments that a merge waits for.
    demand: Cell<u32>,
    /// Bytes of log that are kept for a consumer, if it was said.
    consumer_log_len_max: Cell<Option<u64>>,
    /// Where reaping goes on.
    reaping: RefCell<BTreeMap<BucketId, Vec<u8>>>,
    pub(super) relocating: super::relocation::Progress,
}

impl Desk {
    /// What recovery found.
    pub(crate) fn recovered(body: Vec<Extent>, turn: u64, checkpointed: Lsn) -> Self {
        Desk {
            body: RefCell::new(body),
            turn: Cell::new(turn),
            checkpointed: Cell::new(checkpointed),
            ..Desk::default()
        }
    }

    pub(super) fn set_consumer_log_len_max(&self, len_max: u64) {
        self.consumer_log_len_max.set(Some(len_max));
    }

    pub(super) fn drop_later(&self, bucket: BucketId) {
        self.dropped.borrow_mut().insert(bucket);
    }
}

/// Somebody is at work until this is dropped.
struct AtWork<'a>(&'a Desk);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.is_busy.set(false);
        self.0.rested.notify();
    }
}

/// What a checkpoint is of: taken in one step, between two batches.
struct Snapshot {
    image: Image,
    index_changes: IndexChanges,
    next_lsn: Lsn,
    session: u64,
    strands: [Option<(SegmentId, u64)>; 2],
    next_sequence: u64,
}

impl<D: Device> Shard<D> {
    /// Does one piece of the work in the background. Whoever drops the future half-way can't go on with the shard: the log stays whole, and another opening of
    /// the store finds everything.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`] when an earlier call was given up half-way. [`crate::Error::ReadOnly`], [`crate::Error::Full`] and the like: nothing is lost, and a later call tries again.
    pub async fn upkeep(&self) -> Result<Upkeep> {
        let Some(_at_work) = self.begin_work()? else { return Ok(Upkeep::Idle) };
        if bugs::is_planted(Bug::RetiredTooEarly) {
            let (strands, next_sequence) = self.log.stand();
            self.retire(&strands, next_sequence);
        }
        if self.needs_checkpoint() && or_full(self.make_checkpoint().await.map(|()| true))? {
            return Ok(Upkeep::Progressed);
        }
        // Space first when there is little: everything else takes some.
        let (free, reserve) = self.core.store.table.free_and_reserve();
        if free <= reserve / 2 && or_full(self.relocate_some().await)? {
            return Ok(Upkeep::Progressed);
        }
        if or_full(self.drop_one().await)?
            || or_full(self.merge_runs().await)?
            || or_full(self.reap_some().await)?
            || or_full(self.relocate_some().await)?
            || self.consolidate_runs().await?
        {
            return Ok(Upkeep::Progressed);
        }
        // Nothing is left that could bring about what a merge waits for, but what new data makes dead. It gets in as long as that is not what fills the store
        // with runs.
        if is_modest(&self.state.borrow().directory.summaries()) {
            self.demand(0);
        }
        Ok(Upkeep::Idle)
    }

    /// Merges all runs when space is short and they lie scattered: each segment that holds a little of one is kept by it.
    async fn consolidate_runs(&self) -> Result<bool> {
        let table = &self.core.store.table;
        let directory = self.state.borrow().directory.clone();
        let runs = directory.open_runs();
        if table.free_and_reserve().0 > table.wanted_free() || runs.is_empty() {
            return Ok(false);
        }
        let extents = || runs.iter().flat_map(|run| run.extents());
        let held: BTreeSet<SegmentId> = extents().map(|extent| extent.segment).collect();
        let len: u64 = extents().map(Extent::disk_len).sum();
        // Together they may begin in the midst of one segment and end in that of another.
        if (held.len() as u64) < len.div_ceil(self.core.store.segment_size) + 2 {
            return Ok(false);
        }
        let plan = MergePlan { runs: runs.iter().map(|run| run.id()).collect(), is_bottom: true };
        match self.merge(&plan).await {
            Err(Error::Full) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Makes a checkpoint now, whether or not it is due. Waits for other work in the background.
    pub async fn checkpoint(&self) -> Result<()> {
        let _at_work = loop {
            if let Some(at_work) = self.begin_work()? {
                break at_work;
            }
            self.upkeep.rested.wait().await;
        };
        self.make_checkpoint().await
    }

    fn begin_work(&self) -> Result<Option<AtWork<'_>>> {
        if self.upkeep.is_busy.get() {
            return Ok(None);
        }
        if self.upkeep.is_unfinished.get() {
            return Err(Error::Stopped);
        }
        self.upkeep.is_busy.set(true);
        Ok(Some(AtWork(&self.upkeep)))
    }

    /// Carries out the removal of a bucket; whether there was one.
    async fn drop_one(&self) -> Result<bool> {
        let Some(bucket) = self.upkeep.dropped.borrow().first().copied() else { return Ok(false) };
        let is_known = self.state.borrow().bucket_ids().any(|id| id == bucket);
        if is_known {
            let draft = self.core.draft_upkeep(bucket, Effect::RangeTombstone(Scope::Bucket))?;
            self.commit_upkeep(draft, None, Vec::new()).await?;
        }
        self.upkeep.dropped.borrow_mut().remove(&bucket);
        Ok(true)
    }

    /// Commits a record by which space comes back, from the part of the reserve that is for that.
    async fn commit_upkeep(
        &self,
        draft: Draft,
        settlement: Option<Settlement>,
        mut locks: Vec<KeyLock>,
    ) -> Result<Receipt> {
        let Draft { bucket, record, effect, pins } = draft;
        locks.push(self.locks.enter(bucket));
        let (temperature, purpose) = (Temperature::Hot, Purpose::Upkeep);
        let change = Change { bucket, record, effect, settlement, pins, locks, temperature, purpose };
        self.queue(change)?.wait().await
    }

    fn needs_checkpoint(&self) -> bool {
        let state = self.state.borrow();
        if state.next_lsn() <= Lsn(self.upkeep.checkpointed.get().0 + 1)
            && self.upkeep.replaced.borrow().is_empty()
        {
            return false;
        }
        let log_len = self.core.counters.log_bytes.value() - self.upkeep.log_bytes.get();
        let table = &self.core.store.table;
        let (free, reserve) = table.free_and_reserve();
        // Segments of the log that hold nothing live come back with a checkpoint.
        let is_held = || {
            let tails = self.log.stand().0;
            let is_dead = |segment: &crate::log::LogSegment| {
                tails.iter().flatten().all(|(open, _)| *open != segment.id)
                    && state.ledger.live(segment.id) == 0
            };
            !self.upkeep.replaced.borrow().is_empty() || self.log.segments().iter().any(is_dead)
        };
        // While there is still room for it: later the log could not be shortened any more.
        let needed = 2 + (state.directory.memtable_len_bytes() as u64 / self.core.store.segment_size) as u32;
        let is_last_chance = needed > 2 && free <= needed + 2;
        is_last_chance
            || state.directory.memtable_len_bytes() as u64
                >= memtable_len_max(reserve, self.core.store.segment_size)
            || log_len >= checkpoint_log_len(table, self.core.store.shard_count)
            || (free <= reserve + reserve / 2 && is_held())
    }

    async fn make_checkpoint(&self) -> Result<()> {
        self.upkeep.is_unfinished.set(true);
        let made = self.make_whole_checkpoint().await;
        self.upkeep.is_unfinished.set(false);
        made
    }

    async fn make_whole_checkpoint(&self) -> Result<()> {
        self.leave_behind().await?;
        let snapshot = self.take_snapshot();
        let (strands, next_sequence) = (snapshot.strands, snapshot.next_sequence);
        if bugs::is_planted(Bug::ReleasedTooEarly) {
            self.release_last();
        }
        let next_lsn = snapshot.next_lsn;
        let log_bytes = self.core.counters.log_bytes.value();
        let directory = self.state.borrow().directory.clone();
        let is_unchanged = directory.is_frozen_empty() && snapshot.index_changes == IndexChanges::default();
        let run = match is_unchanged {
            true => Ok(None),
            false => directory.write_frozen(snapshot.index_changes.clone()).await.map(Some),
        };
        let run = match run {
            Ok(run) => run,
            Err(error) => {
                directory.thaw();
                self.state.borrow_mut().put_back_index_changes(snapshot.index_changes);
                return Err(error);
            }
        };
        let mut held = Held::new(&self.core.store.table);
        run.iter().for_each(|run| held.add(run.extents()));
        let written = self.write_checkpoint(snapshot, run.as_ref(), &mut held).await;
        let body = match written {
            Ok(body) => body,
            Err(error) => {
                // The log's record may be durable, and the pointers not: what it refers to is kept, and so is what the one before refers to.
                directory.install_frozen(run);
                self.upkeep.replaced.borrow_mut().extend(held.keep_for_body());
                return Err(error);
            }
        };
        directory.install_frozen(run);
        held.keep();
        self.upkeep.checkpointed.set(next_lsn);
        self.upkeep.log_bytes.set(log_bytes);
        self.release_last();
        *self.upkeep.body.borrow_mut() = body;
        self.retire(&strands, next_sequence);
        self.core.counters.checkpoints.add(1);
        Ok(())
    }

    /// Says of consumers that too much of the log is kept for that it is not any longer. Durable before any of it is given back, or a consumer could be shown a log with
    /// holes after a restart.
    async fn leave_behind(&self) -> Result<()> {
        let table = &self.core.store.table;
        let share = table.capacity() / CONSUMER_LOG_SHARE / u64::from(self.core.store.shard_count);
        let mut len_max =
            self.upkeep.consumer_log_len_max.get().unwrap_or_else(|| share.min(CONSUMER_LOG_LEN_MAX));
        if table.free_for_data() == 0 {
            len_max = len_max.min(checkpoint_log_len(table, self.core.store.shard_count));
        }
        for (name, position) in self.consumers() {
            if position.phase == Phase::Behind || self.log_held_from(position.next) <= len_max {
                continue;
            }
            let position = Some(Position { phase: Phase::Behind, ..position });
            let draft = self.core.draft_upkeep(BucketId(0), Effect::Cursor(CursorBody { name, position }))?;
            self.commit_upkeep(draft, None, Vec::new()).await?;
            self.core.counters.consumers_behind.add(1);
        }
        Ok(())
    }

    /// Gives back what only the last checkpoint refers to.
    fn release_last(&self) {
        let before = std::mem::take(&mut *self.upkeep.body.borrow_mut());
        let replaced = std::mem::take(&mut *self.upkeep.replaced.borrow_mut());
        let table = &self.core.store.table;
        before.iter().chain(&replaced).for_each(|extent| table.sub_live(extent.segment, extent.disk_len()));
    }

    /// Segments of the log before that place hold data and nothing else any more.
    fn retire(&self, strands: &[Option<(SegmentId, u64)>; 2], next_sequence: u64) {
        let table = &self.core.store.table;
        let seen = self.state.borrow().slowest_cursor();
        let replaced = self.log.take_replaced(strands, next_sequence, seen);
        replaced.into_iter().for_each(|segment| table.retire(segment));
    }

    fn take_snapshot(&self) -> Snapshot {
        let mut state = self.state.borrow_mut();
        state.directory.freeze();
        let (strands, next_sequence) = self.log.stand();
        Snapshot {
            image: state.image(),
            index_changes: match bugs::is_planted(Bug::IndexChangesLost) {
                true => IndexChanges::default(),
                false => state.take_index_changes(),
            },
            next_lsn: state.next_lsn(),
            session: state.session(),
            strands,
            next_sequence,
        }
    }

    /// Writes body, record and pointers; gives back the extents of the body.
    async fn write_checkpoint(
        &self,
        snapshot: Snapshot,
        run: Option<&Rc<Run<D>>>,
        held: &mut Held<'_>,
    ) -> Result<Vec<Extent>> {
        let mut image = snapshot.image;
        let directory = self.state.borrow().directory.clone();
        let older = directory.runs();
        let new = run.map(|run| run.descriptor()).filter(|run| !run.extents.is_empty());
        image.runs = new.into_iter().chain(&older).map(encoded).collect();
        let bytes = image.encode();
        let (body, pins) =
            self.core.write_piece(&Sealing::catalog(), &bytes, Temperature::Cold, Purpose::Upkeep).await?;
        let extents = body.extents.clone();
        held.add_body(&extents);
        drop(pins);
        let record = CheckpointBody {
            next_lsn: snapshot.next_lsn,
            session: snapshot.session,
            next_sequence: snapshot.next_sequence,
            strands: snapshot.strands,
            body,
        };
        let draft = self.core.draft_upkeep(BucketId(0), Effect::Checkpoint(Box::new(record)))?;
        let receipt = self.commit_upkeep(draft, None, Vec::new()).await?;
        let pointer = Pointer { shard: self.id, lsn: receipt.lsn, place: receipt.place };
        let turn = self.upkeep.turn.get();
        self.core.write_pointer(&pointer, turn).await?;
        self.upkeep.turn.set(turn + 1);
        Ok(extents)
    }

    /// Asks for free segments besides the reserve, for a merge. New data waits until it is done, or runs would never become fewer in a store that is
    /// filled as fast as it is emptied.
    fn demand(&self, wanted: u32) {
        let table = &self.core.store.table;
        table.change_demand(self.upkeep.demand.replace(wanted), wanted);
    }

    async fn merge_runs(&self) -> Result<bool> {
        let directory = self.state.borrow().directory.clone();
        let Some(plan) = choose_merge(&directory.summaries()) else {
            self.demand(0);
            return Ok(false);
        };
        let merged = self.merge(&plan).await;
        if merged == Err(Error::Full) {
            let (_, reserve) = self.core.store.table.free_and_reserve();
            self.demand(directory.segments_needed(&plan).saturating_sub(reserve));
            return self.merge_what_fits().await;
        }
        merged?;
        self.demand(0);
        Ok(true)
    }

    /// Merges some runs when they are too many and there is no room for the merge that is wanted.
    async fn merge_what_fits(&self) -> Result<bool> {
        let directory = self.state.borrow().directory.clone();
        let plan = choose_merge_within(&directory.summaries(), |blocks| directory.has_room(blocks));
        let Some(plan) = plan else { return Ok(false) };
        self.merge(&plan).await.map(|()| true)
    }

    async fn merge(&self, plan: &MergePlan) -> Result<()> {
        let directory = self.state.borrow().directory.clone();
        let run = directory.merge(plan).await?;
        add_live(&self.core.store.table, run.extents());
        let replaced = directory.install_merged(plan, run);
        self.upkeep
            .replaced
            .borrow_mut()
            .extend(replaced.iter().flat_map(|run| run.extents().iter().copied()));
        self.core.counters.merges.add(1);
        Ok(())
    }

    /// Counts versions as dead that a range tombstone removed, some at a time.
    async fn reap_some(&self) -> Result<bool> {
        let Some((bucket, floor)) = self.state.borrow().floors().first().copied() else { return Ok(false) };
        let mut walk = VersionWalk::with_dead(&self.state.borrow(), bucket);
        let begin = self.upkeep.reaping.borrow().get(&bucket).cloned();
        let is_first_pass = begin.is_none();
        walk.seek(&begin.unwrap_or_else(|| version_prefix(bucket, b""))).await?;
        let (mut body, mut settlement) = (ReapBody { floor, ..ReapBody::default() }, Settlement::default());
        let (mut locks, mut was_busy, mut is_end, mut place) = (Vec::new(), false, true, None);
        let mut locked: Option<Vec<u8>> = None;
        let mut extent_count = 0;
        while let Some((key, entry)) = walk.next().await? {
            if body.keys.len() >= REAP_COUNT_MAX || extent_count >= REAP_EXTENTS_MAX {
                is_end = false;
                place = Some(version_prefix(bucket, &key));
                break;
            }
            if entry.order >= floor {
                continue;
            }
            if locked.as_ref() != Some(&key) {
                let Some(lock) = self.locks.try_lock(bucket, &key) else {
                    was_busy = true;
                    walk.seek(&after_versions(bucket, &key)).await?;
                    continue;
                };
                locks.push(lock);
                locked = Some(key.clone());
                // It may have changed before it was locked: look again.
                walk.seek(&version_prefix(bucket, &key)).await?;
                continue;
            }
            let mut known = self.known(bucket, &key, entry)?;
            known.entry.extents = self.extents_of(&known.entry).await?;
            extent_count += known.extents().len();
            settlement.released.push(known.release());
            body.keys.push(key);
        }
        body.is_last = is_end && !was_busy && is_first_pass;
        match place {
            Some(place) => self.upkeep.reaping.borrow_mut().insert(bucket, place),
            // Once round: whatever was busy then is looked for again from the beginning.
            None => self.upkeep.reaping.borrow_mut().remove(&bucket),
        };
        if body.keys.is_empty() && !body.is_last {
            // What is busy is looked for again later.
            return Ok(!was_busy);
        }
        let draft = self.core.draft_upkeep(bucket, Effect::Reap(Box::new(body)))?;
        self.commit_upkeep(draft, Some(settlement), locks).await?;
        Ok(true)
    }
}

/// A store that has no room for one kind of work may have some for another, which makes room.
fn or_full(done: Result<bool>) -> Result<bool> {
    match done {
        Err(Error::Full) => Ok(false),
        other => other,
    }
}

/// Extents that were counted as live for a checkpoint in the making: given back if it does not come about.
struct Held<'a> {
    table: &'a SegmentTable,
    runs: Vec<Extent>,
    body: Vec<Extent>,
}

impl<'a> Held<'a> {
    fn new(table: &'a SegmentTable) -> Self {
        Held { table, runs: Vec::new(), body: Vec::new() }
    }

    fn add(&mut self, extents: &[Extent]) {
        add_live(self.table, extents);
        self.runs.extend_from_slice(extents);
    }

    fn add_body(&mut self, extents: &[Extent]) {
        add_live(self.table, extents);
        self.body.extend_from_slice(extents);
    }

    /// The checkpoint is there: they stay live.
    fn keep(mut self) {
        self.runs.clear();
        self.body.clear();
    }

    /// The runs stay live, since the directory has them; the body is for the next checkpoint to give back.
    fn keep_for_body(mut self) -> Vec<Extent> {
        self.runs.clear();
        std::mem::take(&mut self.body)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for extent in self.runs.iter().chain(&self.body) {
            self.table.sub_live(extent.segment, extent.disk_len());
        }
    }
}

fn encoded(run: &RunDescriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    run.encode(&mut bytes);
    bytes
}

pub(crate) fn add_live(table: &SegmentTable, extents: &[Extent]) {
    for extent in extents {
        table.add_live(extent.segment, extent.disk_len(), extent.block + extent.block_count);
    }
}

/// Memory of the memtable at which a checkpoint is due. Its run must fit into the reserve, and so must a merge of a few such: otherwise a store that is
/// full could do neither.
fn memtable_len_max(reserve: u32, segment_size: u64) -> u64 {
    (u64::from(reserve) * segment_size / MEMTABLE_RESERVE_SHARE)
        .clamp(MEMTABLE_LEN_MIN, MEMTABLE_LEN_MAX as u64)
}

/// Bytes of log after which a checkpoint is due: a share of the store, so that it never fills with a log that nobody needs.
fn checkpoint_log_len(table: &SegmentTable, shard_count: u16) -> u64 {
    (table.capacity() / CHECKPOINT_LOG_SHARE / u64::from(shard_count)).min(CHECKPOINT_LOG_LEN_MAX)
}
