//! Compaction, as far as a shard does it: what it has alive in a victim is written again elsewhere, so that the victim can be freed.
//!
//! - Of a commit segment, its records are walked; those that index or uploads still refer to are appended to the cold strand of the log, payload and seal
//!   verbatim, with the LSN that they were first committed with.
//! - Of a bulk segment, the directory's table of extents tells the owners; the frames are copied verbatim once they verified, and the owner's record is
//!   written anew with the new extents.
//!
//! What moves has its key's lock until the move is durable. What somebody else has locked is left for the next time. Readers keep a victim by their pins.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use super::view::Known;
use super::{Shard, Waiting};
use crate::compaction::choose::{Candidate, Situation, choose_victims};
use crate::device::{AlignedBuffer, Device};
use crate::draft::{Draft, Effect, SealedRecord};
use crate::error::{Error, Result};
use crate::format::body::{PartBody, Piece, VersionBody};
use crate::format::directory::{Entry, Owner, extent_prefix, parse_extent_key, slot_of, version_key};
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::format::segment::{SegmentKind, Temperature};
use crate::format::settlement::{RecordPlace, Released, Settlement};
use crate::ids::{BucketId, Lsn, SegmentId, UploadId};
use crate::index::hash::Location;
use crate::limits::{
    BLOCK_SIZE, FRAME_SIZE, RECORD_ALIGN, RELOCATE_LEN_MAX, RELOCATE_RECORDS_LEN_MAX, RELOCATE_WINDOW_LEN,
};
use crate::log::{Change, padded};
use crate::segment::table::{Purpose, SealedSegment, SegmentPin};
use crate::shard::KeyLock;
use crate::sim::bugs::{self, Bug};

/// How far relocation is.
#[derive(Default)]
pub(crate) struct Progress {
    /// Where the walk through a commit segment goes on.
    walks: RefCell<BTreeMap<SegmentId, u64>>,
    /// Victims that hold something that can't be moved: no copy of it verifies.
    stuck: RefCell<BTreeSet<SegmentId>>,
    /// How it stood when there was nothing to choose.
    nothing_at: Cell<Option<Standing>>,
}

/// What a choice of victims depends on: while it is the same, so is the choice.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    free: u32,
    wanted_free: u32,
    next_lsn: Lsn,
    /// Live bytes of all sealed segments: other shards have some in the same ones.
    live: u64,
}

/// Records on their way to another place.
#[derive(Default)]
struct Moves {
    waiting: Vec<Waiting>,
    len: u64,
}

impl<D: Device> Shard<D> {
    /// Moves something out of a victim, or chooses victims; whether there was anything to do.
    pub(super) async fn relocate_some(&self) -> Result<bool> {
        let Some(victim) = self.next_victim() else { return Ok(false) };
        let moved = match victim.kind {
            SegmentKind::Commit => self.relocate_records(victim.id).await?,
            SegmentKind::Bulk => self.relocate_extents(victim.id).await?,
        };
        self.core.counters.relocated_bytes.add(moved);
        Ok(moved > 0)
    }

    /// A victim in which this shard has something; chooses new ones if there is none.
    fn next_victim(&self) -> Option<SealedSegment> {
        let table = &self.core.store.table;
        let (free, reserve) = table.free_and_reserve();
        let state = self.state.borrow();
        let progress = &self.upkeep.relocating;
        let sealed = table.sealed();
        let stuck = progress.stuck.borrow();
        let is_mine = |segment: &&SealedSegment| {
            segment.is_victim && state.ledger.live(segment.id) > 0 && !stuck.contains(&segment.id)
        };
        if let Some(victim) = sealed.iter().find(is_mine) {
            return Some(*victim);
        }
        let standing = Standing {
            free,
            wanted_free: table.wanted_free(),
            next_lsn: state.next_lsn(),
            live: sealed.iter().map(|segment| segment.live).sum(),
        };
        if progress.nothing_at.get() == Some(standing) {
            return None;
        }
        let capacity = self.core.store.segment_size;
        // Runs go when they are merged: until then moving what else is in their segments frees nothing.
        let held_by_runs: BTreeSet<SegmentId> = state
            .directory
            .open_runs()
            .iter()
            .flat_map(|run| run.extents())
            .map(|extent| extent.segment)
            .collect();
        // A segment in which this shard has nothing is for others to choose, or for nobody: it may hold a checkpoint or runs.
        let may_choose = |segment: &&SealedSegment| {
            !segment.is_victim
                && !stuck.contains(&segment.id)
                && segment.live + garbage_min(segment.kind, capacity) <= capacity
                && state.ledger.live(segment.id) > 0
                && match segment.kind {
                    SegmentKind::Commit => segment.stream == self.id.0,
                    SegmentKind::Bulk => !held_by_runs.contains(&segment.id),
                }
        };
        let candidates: Vec<Candidate> = sealed
            .iter()
            .filter(may_choose)
            .map(|segment| Candidate {
                segment: segment.id,
                kind: segment.kind,
                capacity,
                live: segment.live,
                age: segment.age,
                is_cold: segment.temperature == Temperature::Cold,
            })
            .collect();
        let total = u64::from(table.total());
        let situation = Situation {
            segment_size: capacity,
            free: free.into(),
            reserve: reserve.into(),
            // Work begins before the reserve is touched, so that writers seldom meet an end that is none.
            free_target: u64::from(standing.wanted_free) + (total / FREE_TARGET_SHARE).max(FREE_TARGET_MIN),
            garbage_percent_max: GARBAGE_PERCENT_MAX,
            victims_max: VICTIMS_MAX,
        };
        let plan = choose_victims(&candidates, &situation);
        plan.victims.iter().for_each(|victim| table.mark_victim(*victim));
        let chosen = |segment: &&SealedSegment| {
            plan.victims.contains(&segment.id) && state.ledger.live(segment.id) > 0
        };
        let victim = sealed.iter().find(chosen).copied();
        progress.nothing_at.set(victim.is_none().then_some(standing));
        victim
    }

    // -- commit segments

    /// Moves live records of a commit segment of this shard, a window of it at a time; bytes moved.
    async fn relocate_records(&self, victim: SegmentId) -> Result<u64> {
        let progress = &self.upkeep.relocating;
        let mut offset = progress.walks.borrow().get(&victim).copied().unwrap_or(BLOCK_SIZE as u64);
        let is_from_start = offset == BLOCK_SIZE as u64;
        let mut moves = Moves::default();
        let mut was_busy = false;
        let mut window = Window::default();
        let (free, reserve) = self.core.store.table.free_and_reserve();
        // Where space is short, those who write wait for it anyway.
        let len_max = if free <= reserve { RELOCATE_LEN_MAX } else { RELOCATE_RECORDS_LEN_MAX };
        while moves.len < len_max && offset + (HEADER_SIZE as u64) <= self.core.store.segment_size {
            let Some((header, body)) = self.record_at(victim, offset, &mut window).await? else {
                // The batch ends inside this block, or it is damaged: the next one begins with the next block.
                offset = (offset + 1).next_multiple_of(BLOCK_SIZE as u64);
                continue;
            };
            match self.relocate_record(&header, body, &mut moves)? {
                Relocated::Done => {}
                Relocated::Busy => was_busy = true,
            }
            offset += padded(header.record_len()) as u64;
        }
        let moved = moves.len;
        moves.wait().await?;
        let is_end = offset + (HEADER_SIZE as u64) > self.core.store.segment_size;
        let mut walks = progress.walks.borrow_mut();
        if is_end {
            walks.remove(&victim);
            // What is still alive after a whole walk in which nothing was busy can't be moved.
            if is_from_start && !was_busy && moved == 0 && self.state.borrow().ledger.live(victim) > 0 {
                progress.stuck.borrow_mut().insert(victim);
                self.core.counters.relocations_stuck.add(1);
            }
        } else {
            walks.insert(victim, offset);
        }
        // A walk that has not ended has done something, even if nothing moved.
        Ok(moved.max(u64::from(!is_end)))
    }

    /// The record at that place, from the first copy that has it.
    pub(super) async fn record_at(
        &self,
        segment: SegmentId,
        offset: u64,
        window: &mut Window,
    ) -> Result<Option<(RecordHeader, Vec<u8>)>> {
        let segment_size = self.core.store.segment_size;
        let copies = self.core.places_to_read(segment, 0);
        for place in copies {
            if window.place != Some(place) || !window.has(offset, HEADER_SIZE) {
                *window = self.read_window(place, offset, RELOCATE_WINDOW_LEN).await?;
            }
            let Some(header) = window.header(segment, offset) else { continue };
            let len = header.record_len();
            if offset + len as u64 > segment_size {
                continue;
            }
            if !window.has(offset, len) {
                *window = self.read_window(place, offset, len.max(RELOCATE_WINDOW_LEN)).await?;
            }
            let body = &window.bytes[(offset - window.begin) as usize..][HEADER_SIZE..len];
            if header.matches_body(body) {
                return Ok(Some((header, body.to_vec())));
            }
        }
        Ok(None)
    }

    /// Reads a stretch of one copy; an unreadable one is empty.
    async fn read_window(
        &self,
        place: crate::format::segment::Place,
        offset: u64,
        len: usize,
    ) -> Result<Window> {
        let begin = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
        let needed = ((offset - begin) as usize + len).next_multiple_of(BLOCK_SIZE);
        let len = needed.min((self.core.store.segment_size - begin) as usize);
        let (result, bytes) = self.core.read_copy(place, begin, AlignedBuffer::zeroed(len)).await;
        let bytes = if result.is_ok() { bytes } else { AlignedBuffer::zeroed(len) };
        Ok(Window { place: Some(place), begin, bytes })
    }

    /// Queues a record for the cold strand if it is alive.
    fn relocate_record(&self, header: &RecordHeader, body: Vec<u8>, moves: &mut Moves) -> Result<Relocated> {
        let place = RecordPlace {
            segment: header.position.segment,
            offset: header.position.offset,
            len: padded(header.record_len()) as u32,
        };
        let bucket = header.identity.bucket;
        let mut payload = body;
        payload.truncate(header.payload_len);
        let verbatim = payload.clone();
        let corrupt = |what| Error::Corrupt { segment: place.segment, offset: u64::from(place.offset), what };
        let kind = header.identity.kind;
        if !matches!(
            kind,
            RecordKind::Version | RecordKind::DeleteMarker | RecordKind::Upload | RecordKind::Part
        ) {
            return Ok(Relocated::Done);
        }
        if self.core.open_record(header, &mut payload).is_err() {
            // Of a namespace whose key is gone, or forged: nothing of ours refers to it.
            return Ok(Relocated::Done);
        }
        let effect = Effect::decode(kind, &payload).map_err(|malformed| corrupt(malformed.0))?;
        let (settlement, locks) = match &effect {
            Effect::Version { key, meta, .. } => {
                let slot = slot_of(crate::draft::version_of(meta.meta().numbering, header.order()));
                let Some(hash) = self.hash_at(bucket, key, slot, &place) else { return Ok(Relocated::Done) };
                let lock = match bugs::is_planted(Bug::MoveUnlocked) {
                    true => Some(self.locks.enter(bucket)),
                    false => self.locks.try_lock(bucket, key),
                };
                let Some(lock) = lock else { return Ok(Relocated::Busy) };
                let released = Released { hash, slot, place, extents: meta.extents().to_vec() };
                (Some(moved(released)), vec![lock])
            }
            Effect::Upload(body) if self.is_upload_at(bucket, &body.key, body.upload_id, &place) => {
                (None, vec![self.locks.enter(bucket)])
            }
            Effect::Part(body) if self.is_part_at(bucket, body, &place) => {
                (None, vec![self.locks.enter(bucket)])
            }
            _ => return Ok(Relocated::Done),
        };
        let record = SealedRecord {
            identity: header.identity,
            payload: verbatim,
            seal: header.seal,
            order: Some(header.order()).filter(|_| !bugs::is_planted(Bug::MoveReordered)),
            settlement: Vec::new(),
        };
        self.queue_move(bucket, record, effect, settlement, Vec::new(), locks, moves)?;
        Ok(Relocated::Done)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a change, each of another kind")]
    fn queue_move(
        &self,
        bucket: BucketId,
        record: SealedRecord,
        effect: Effect,
        settlement: Option<Settlement>,
        pins: Vec<SegmentPin>,
        locks: Vec<KeyLock>,
        moves: &mut Moves,
    ) -> Result<()> {
        moves.len += record.record_len() as u64;
        let (temperature, purpose) = (Temperature::Cold, Purpose::Move);
        let change = Change { bucket, record, effect, settlement, pins, locks, temperature, purpose };
        moves.waiting.push(self.queue(change)?);
        Ok(())
    }

    /// What the index finds the version at that place by; `None` when it does not hold it.
    fn hash_at(&self, bucket: BucketId, key: &[u8], slot: u64, place: &RecordPlace) -> Option<u64> {
        let state = self.state.borrow();
        let location = Location::from(place);
        let hashes = [state.current_hash(bucket, key), state.index.hash_version(bucket, key, slot)];
        hashes.into_iter().find(|hash| state.index.candidates(*hash).any(|found| found == location))
    }

    fn is_upload_at(&self, bucket: BucketId, key: &[u8], upload: UploadId, place: &RecordPlace) -> bool {
        let state = self.state.borrow();
        state.upload_ref(bucket, key, upload).is_ok_and(|upload| upload.record == *place)
    }

    fn is_part_at(&self, bucket: BucketId, body: &PartBody, place: &RecordPlace) -> bool {
        let state = self.state.borrow();
        let Ok(upload) = state.upload_ref(bucket, &body.key, body.upload_id) else { return false };
        upload.parts.get(&body.summary.number).is_some_and(|part| part.record == *place)
    }

    // -- bulk segments

    /// Moves extents of this shard's versions and parts out of a bulk segment, some at a time; bytes moved.
    async fn relocate_extents(&self, victim: SegmentId) -> Result<u64> {
        let mut copied = Copied { victim, extents: BTreeMap::new(), len: 0, devices: BTreeSet::new() };
        let mut drafts: Vec<MovedDraft> = Vec::new();
        let mut was_busy = false;
        let mut failure = None;
        for (bucket, key, slot) in self.owners(victim).await? {
            if copied.len >= RELOCATE_LEN_MAX {
                was_busy = true;
                break;
            }
            let Some(lock) = self.locks.try_lock(bucket, &key) else {
                was_busy = true;
                continue;
            };
            match self.draft_moved_version(bucket, &key, slot, &mut copied).await {
                Ok(Some((draft, order, settlement))) => drafts.push((draft, order, Some(settlement), lock)),
                Ok(None) => {}
                Err(error @ Error::Corrupt { .. }) | Err(error @ Error::Io { .. }) => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        for (bucket, order, body, place) in self.parts_in(victim) {
            if copied.len >= RELOCATE_LEN_MAX {
                was_busy = true;
                break;
            }
            match self.draft_moved_part(&body, &place, &mut copied).await {
                Ok(Some(draft)) => drafts.push((draft, order, None, self.locks.enter(bucket))),
                Ok(None) => {}
                Err(error @ Error::Corrupt { .. }) | Err(error @ Error::Io { .. }) => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        self.core.flush(copied.devices.iter().copied()).await?;
        let mut moves = Moves { len: copied.len, ..Moves::default() };
        for (draft, order, settlement, lock) in drafts {
            let Draft { bucket, mut record, effect, pins } = draft;
            record.order = Some(order);
            self.queue_move(bucket, record, effect, settlement, pins, vec![lock], &mut moves)?;
        }
        let moved = moves.len;
        moves.wait().await?;
        if moved == 0 && !was_busy && (failure.is_some() || self.state.borrow().ledger.live(victim) > 0) {
            self.upkeep.relocating.stuck.borrow_mut().insert(victim);
            self.core.counters.relocations_stuck.add(1);
        }
        Ok(moved)
    }

    /// Versions of this shard with extents in a segment: as many as are moved at a time.
    async fn owners(&self, segment: SegmentId) -> Result<Vec<Owner>> {
        let mut cursor = self.state.borrow().directory.cursor();
        cursor.seek(&extent_prefix(segment, 0));
        let mut owners: Vec<Owner> = Vec::new();
        while let Some((place, _)) = cursor.next().await? {
            match parse_extent_key(place) {
                Some((of, _, owner)) if of == segment => {
                    if !owners.contains(&owner) {
                        owners.push(owner);
                    }
                }
                _ => break,
            }
            if owners.len() >= OWNERS_MAX {
                break;
            }
        }
        Ok(owners)
    }

    /// Copies what a version has in the victim, and drafts its record anew; `None` when it is not there any more.
    async fn draft_moved_version(
        &self,
        bucket: BucketId,
        key: &[u8],
        slot: u64,
        copied: &mut Copied,
    ) -> Result<Option<(Draft, Lsn, Settlement)>> {
        let directory = self.state.borrow().directory.clone();
        let Some(value) = directory.get(&version_key(bucket, key, slot)).await? else { return Ok(None) };
        let mut entry: Entry = super::decode_entry(&value)?;
        entry.extents = self.extents_of(&entry).await?;
        let order = entry.order;
        let known: Known = self.known(bucket, key, entry)?;
        // It may have been replaced before its key was locked.
        if known.extents().iter().all(|extent| extent.segment != copied.victim) {
            return Ok(None);
        }
        let record =
            self.core.read_record(known.entry.place.segment, Location::from(&known.entry.place)).await?;
        let corrupt = |malformed: crate::format::Malformed| Error::Corrupt {
            segment: known.entry.place.segment,
            offset: u64::from(known.entry.place.offset),
            what: malformed.0,
        };
        let body = VersionBody::decode(record.payload()).map_err(corrupt)?;
        let (pieces, pins) = self.copy_pieces(&body.pieces, copied).await?;
        let draft = self.core.draft_moved(&record.header.identity, &body, &pieces, pins)?;
        Ok(Some((draft, order, moved(known.release()))))
    }

    async fn draft_moved_part(
        &self,
        body: &PartBody,
        place: &RecordPlace,
        copied: &mut Copied,
    ) -> Result<Option<Draft>> {
        let record = self.core.read_record(place.segment, Location::from(place)).await?;
        let (pieces, pins) = self.copy_pieces(&body.pieces, copied).await?;
        let moved = PartBody { pieces, ..body.clone() };
        self.core.draft_moved_part(&record.header.identity, moved, pins).map(Some)
    }

    /// Parts of uploads with extents in a segment.
    fn parts_in(&self, segment: SegmentId) -> Vec<(BucketId, Lsn, PartBody, RecordPlace)> {
        let state = self.state.borrow();
        let mut parts = Vec::new();
        for (bucket, upload) in state.uploads() {
            for part in upload.parts.values() {
                if part.extents().any(|extent| extent.segment == segment) {
                    parts.push((bucket, part.order, part.body.clone(), part.record));
                }
            }
        }
        parts
    }

    /// The pieces with those of their extents copied that lie in the victim. What was copied for another owner is shared with it again.
    async fn copy_pieces(
        &self,
        pieces: &[Piece],
        copied: &mut Copied,
    ) -> Result<(Vec<Piece>, Vec<SegmentPin>)> {
        let mut pins = Vec::new();
        let mut moved = Vec::new();
        for piece in pieces {
            let mut extents = Vec::new();
            for (i, extent) in piece.extents.iter().enumerate() {
                if extent.segment != copied.victim {
                    extents.push(*extent);
                    continue;
                }
                let at = (extent.block, extent.block_count);
                if !copied.extents.contains_key(&at) {
                    let copy = self.core.copy_extent(piece, i).await?;
                    self.core.counters.relocated_extents.add(1);
                    copied.len += extent.disk_len();
                    copied.devices.extend(copy.devices.iter().copied());
                    copied.extents.insert(at, copy);
                }
                let copy = &copied.extents[&at];
                extents.extend_from_slice(&copy.extents);
                pins.extend(copy.pins.iter().cloned());
            }
            moved.push(Piece { extents, ..piece.clone() });
        }
        Ok((moved, pins))
    }
}

/// Compaction keeps this share of the store free beyond the reserve, and at least so many segments.
const FREE_TARGET_SHARE: u64 = 64;
const FREE_TARGET_MIN: u64 = 2;

/// Dead bytes that may stay while enough is free: rewriting them then costs more than their space is worth.
const GARBAGE_PERCENT_MAX: u64 = 50;

/// Victims chosen at a time.
const VICTIMS_MAX: usize = 2;

/// Dead bytes below which a segment is no victim. What is moved leaves something unused in its new segment too: a header, and the padding of some batches or
/// less than a frame. Who moves for less than that moves for ever; what is more is gained. The least gain is small, since a store that has no better victims would
/// otherwise take no overwrites any more, though they are what makes better ones.
fn garbage_min(kind: SegmentKind, capacity: u64) -> u64 {
    let unused = match kind {
        SegmentKind::Commit => MOVED_BATCHES * BLOCK_SIZE,
        SegmentKind::Bulk => FRAME_SIZE + BLOCK_SIZE,
    };
    unused as u64 + capacity / GAIN_SHARE_MIN
}

/// Batches in which a small commit segment is filled with what is moved, about: each ends within a block.
const MOVED_BATCHES: usize = 4;

/// Emptying a segment gains this share of it at least.
const GAIN_SHARE_MIN: u64 = 32;

/// Owners that are looked at together.
const OWNERS_MAX: usize = 256;

type MovedDraft = (Draft, Lsn, Option<Settlement>, KeyLock);

/// Extents of a victim that were copied, by block and length.
struct Copied {
    victim: SegmentId,
    extents: BTreeMap<(u32, u32), crate::writer::CopiedExtent>,
    len: u64,
    devices: BTreeSet<crate::ids::DeviceIndex>,
}

enum Relocated {
    /// It is on its way, or was dead.
    Done,
    /// Somebody else is changing its key.
    Busy,
}

impl Moves {
    async fn wait(self) -> Result<()> {
        for waiting in self.waiting {
            waiting.wait().await?;
        }
        Ok(())
    }
}

/// A stretch of one copy of a segment.
pub(super) struct Window {
    place: Option<crate::format::segment::Place>,
    begin: u64,
    bytes: AlignedBuffer,
}

impl Default for Window {
    fn default() -> Self {
        Window { place: None, begin: 0, bytes: AlignedBuffer::zeroed(0) }
    }
}

impl Window {
    fn has(&self, offset: u64, len: usize) -> bool {
        offset >= self.begin && offset + len as u64 <= self.begin + self.bytes.len() as u64
    }

    /// The header at that offset, if it says that it lies there.
    fn header(&self, segment: SegmentId, offset: u64) -> Option<RecordHeader> {
        if !offset.is_multiple_of(RECORD_ALIGN as u64) || !self.has(offset, HEADER_SIZE) {
            return None;
        }
        let header = RecordHeader::decode(&self.bytes[(offset - self.begin) as usize..])?;
        let is_here = header.position.segment == segment && u64::from(header.position.offset) == offset;
        is_here.then_some(header)
    }
}

/// What a move settles: nothing dies but the place.
fn moved(released: Released) -> Settlement {
    Settlement { own_hash: released.hash, released: vec![released], ..Settlement::default() }
}
