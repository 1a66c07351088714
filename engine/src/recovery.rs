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

use std::collections::VecDeque;
use std::rc::Rc;

use crate::core::Core;
use crate::crypto::Sealing;
use crate::device::{AlignedBuffer, Device};
use crate::draft::Effect;
use crate::error::{Error, Result};
use crate::format::body::Extent;
use crate::format::catalog::CatalogChange;
use crate::format::checkpoint::{CheckpointBody, Image as CheckpointImage, Pointer};
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::format::run::RunDescriptor;
use crate::format::segment::{Place, Predecessor, SegmentHeader, Temperature};
use crate::format::settlement::{RecordPlace, Settlement};
use crate::ids::{Lsn, SegmentId, ShardId};
use crate::index::hash::Location;
use crate::index::lsm::Lsm;
use crate::limits::{BATCH_LEN_MAX, BLOCK_SIZE, RECORD_ALIGN, RECORD_LEN_MAX};
use crate::log::{LogSegment, Resume, Strand, Tail, padded, record_place};
use crate::object::Unopened;
use crate::reader::ObjectReader;
use crate::shard::{Applied, Desk, Shard, State, add_live};
use crate::sim::bugs::{self, Bug};

/// Bytes that one read of the log fetches.
const WINDOW_LEN: usize = 1024 * 1024;

/// How much of a strand's end is made the same on all copies: more than one batch can be.
const HEAL_LEN: usize = RECORD_LEN_MAX + BATCH_LEN_MAX;

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

/// A checkpoint that was found, and what it holds.
struct Restored<D: Device> {
    state: State<D>,
    /// Where replay goes on; `None` to begin with the log.
    record: Option<CheckpointBody>,
    desk: Desk,
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

// -- the checkpoint

async fn restore<D: Device>(
    core: &Rc<Core<D>>,
    id: ShardId,
    segments: &[SegmentHeader],
    progress: &mut impl FnMut(Progress),
) -> Result<Restored<D>> {
    let seed = core.store.keyring.index_seed();
    let found = find_checkpoint(core, id, segments, progress).await?;
    let Some((record, pointer, turn)) = found else {
        let directory = Rc::new(Lsm::new(core.clone(), core.block_cache.clone()));
        return Ok(Restored { state: State::new(seed, directory), record: None, desk: Desk::default() });
    };
    let image = read_image(core, &record).await?;
    for change in &image.catalog {
        if let CatalogChange::PutNamespace(namespace) = change {
            core.store.keyring.add_namespace(namespace)?;
        }
    }
    let mut runs = Vec::new();
    for bytes in &image.runs {
        let decoded = RunDescriptor::decode(bytes).map_err(|malformed| corrupt_body(&record, malformed.0))?;
        runs.push(decoded.0);
    }
    for run in &runs {
        add_live(&core.store.table, &run.extents);
    }
    add_live(&core.store.table, &record.body.extents);
    let directory = Rc::new(Lsm::open(core.clone(), core.block_cache.clone(), runs).await?);
    let mut state = State::new(seed, directory.clone());
    let net = |run: &RunDescriptor| run.added_count as i64 - run.removed_count as i64;
    let count: i64 = directory.runs().iter().map(net).sum();
    let mut load = state.index_mut().load(usize::try_from(count).unwrap_or(0));
    directory.index_pairs(|hash, location| load.push(hash, Location::from_raw(location))).await?;
    load.finish();
    state.restore(&core.store.table, image, record.next_lsn, record.session);
    // A crash, or an absent device, may have kept it from some. Before anything is given out again that an older checkpoint refers to, all have to know the
    // newer one. A store that takes no writes gives nothing out.
    match core.write_pointer(&pointer, turn).await {
        Ok(()) | Err(Error::ReadOnly) => {}
        Err(error) => return Err(error),
    }
    let desk = Desk::recovered(record.body.extents.clone(), turn + 1, record.next_lsn);
    Ok(Restored { state, record: Some(record), desk })
}

/// The newest checkpoint record of a shard, where it is, and which of the two pointer blocks says so.
pub(crate) async fn find_checkpoint<D: Device>(
    core: &Rc<Core<D>>,
    id: ShardId,
    segments: &[SegmentHeader],
    progress: &mut impl FnMut(Progress),
) -> Result<Option<(CheckpointBody, Pointer, u64)>> {
    let mut found = None;
    if let Some((pointer, turn)) = core.read_pointer(id).await {
        match read_checkpoint_record(core, &pointer.place).await {
            Ok(record) => found = Some((record, pointer, turn)),
            // What it leads to may be there another time.
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    // A crash may have come between the record of a checkpoint and its pointer. Then the record counts: what it refers to is given to nobody else only as long
    // as it does.
    let known = found.as_ref().map(|(_, pointer, _)| *pointer);
    if let Some((lsn, place)) = search_checkpoint(core, id, segments, known, progress).await? {
        let record = read_checkpoint_record(core, &place).await?;
        let turn = found.map_or(0, |(_, _, turn)| turn + 1);
        found = Some((record, Pointer { shard: id, lsn, place }, turn));
    }
    Ok(found)
}

fn corrupt_body(record: &CheckpointBody, what: &'static str) -> Error {
    let first = record.body.extents.first();
    Error::Corrupt {
        segment: first.map_or(SegmentId(0), |extent| extent.segment),
        offset: first.map_or(0, Extent::offset),
        what,
    }
}

/// Reads the body of a checkpoint.
pub(crate) async fn read_image<D: Device>(
    core: &Rc<Core<D>>,
    record: &CheckpointBody,
) -> Result<CheckpointImage> {
    let sealing = Sealing::catalog();
    if (record.body.namespace, record.body.key_version) != (sealing.namespace, sealing.key_version) {
        return Err(corrupt_body(record, "a checkpoint under another key than the store's"));
    }
    let pieces = Rc::new(vec![record.body.clone()]);
    let mut reader = ObjectReader::new(core.clone(), pieces, 0..record.body.len);
    let mut bytes = Vec::with_capacity(record.body.len as usize);
    while let Some(chunk) = reader.next().await? {
        chunk.slices().for_each(|slice| bytes.extend_from_slice(slice));
    }
    CheckpointImage::decode(&bytes).map_err(|malformed| corrupt_body(record, malformed.0))
}

/// Reads the checkpoint record at a place.
async fn read_checkpoint_record<D: Device>(
    core: &Rc<Core<D>>,
    place: &RecordPlace,
) -> Result<CheckpointBody> {
    let corrupt = |what| Error::Corrupt { segment: place.segment, offset: u64::from(place.offset), what };
    if !u64::from(place.offset).is_multiple_of(RECORD_ALIGN as u64)
        || u64::from(place.offset) >= core.store.segment_size
    {
        return Err(corrupt("no place of a record"));
    }
    let record = core.read_record(place.segment, Location::from(place)).await?;
    if record.header.identity.kind != RecordKind::Checkpoint {
        return Err(corrupt("a record of another kind where a checkpoint should be"));
    }
    CheckpointBody::decode(record.payload()).map_err(|malformed| corrupt(malformed.0))
}

/// Walks the log from its end for the newest checkpoint record: its LSN and place. `None` when there is none, or none newer than the known one.
async fn search_checkpoint<D: Device>(
    core: &Rc<Core<D>>,
    id: ShardId,
    segments: &[SegmentHeader],
    known: Option<Pointer>,
    progress: &mut impl FnMut(Progress),
) -> Result<Option<(Lsn, RecordPlace)>> {
    let is_known = known.is_some();
    let hot: Vec<&SegmentHeader> =
        segments.iter().filter(|header| header.temperature == Temperature::Hot).collect();
    for (i, header) in hot.iter().enumerate().rev() {
        let stop = hot.get(i + 1).map(|next| next.first_lsn);
        let known = known.filter(|known| known.place.segment == header.id);
        let begin = known.map_or(BLOCK_SIZE as u64, |known| u64::from(known.place.offset));
        let place = newest_checkpoint_in(core, id, header, begin, stop).await?;
        if !is_known {
            let (segments_done, segments) = (hot.len() - i, hot.len());
            progress(Progress { stage: Stage::Search, segments_done, segments, records: 0 });
        }
        if known.is_some() {
            return Ok(place.filter(|(lsn, _)| known.is_some_and(|known| *lsn > known.lsn)));
        }
        if place.is_some() {
            return Ok(place);
        }
    }
    Ok(None)
}

/// The last checkpoint record of a segment that belongs to the log.
async fn newest_checkpoint_in<D: Device>(
    core: &Rc<Core<D>>,
    id: ShardId,
    header: &SegmentHeader,
    begin: u64,
    stop: Option<Lsn>,
) -> Result<Option<(Lsn, RecordPlace)>> {
    let mut windows = Windows::new(core, header.id);
    let (mut offset, mut newest) = (begin, None);
    let (mut session, mut lsn_min) = (None, header.first_lsn);
    while offset + (HEADER_SIZE as u64) <= core.store.segment_size {
        let fits = |record: &RecordHeader| {
            record.position.shard == id
                && record.position.lsn >= lsn_min
                && stop.is_none_or(|stop| record.position.lsn < stop)
                && (session.is_none_or(|session| session == record.position.session)
                    || record.identity.kind == RecordKind::Open)
        };
        match windows.find(core, header.id, offset, fits).await? {
            Found::Record(record, _) => {
                session = Some(record.position.session);
                lsn_min = Lsn(record.position.lsn.0 + 1);
                if record.identity.kind == RecordKind::Checkpoint {
                    let place = record_place(header.id, record.position.offset, record.record_len());
                    newest = Some((record.position.lsn, place));
                }
                offset += padded(record.record_len()) as u64;
            }
            Found::Padding if !offset.is_multiple_of(BLOCK_SIZE as u64) => {
                offset = offset.next_multiple_of(BLOCK_SIZE as u64);
            }
            // A torn record ends the log: what follows it in its batch is not to be trusted.
            _ => break,
        }
    }
    Ok(newest)
}

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

// -- replay

struct Replay<D: Device> {
    core: Rc<Core<D>>,
    shard: ShardId,
    state: State<D>,
    session: Option<u64>,
    records: u64,
    segments_done: usize,
    strands: [ReplayStrand; 2],
}

/// The segments of one temperature, as far as replay is.
struct ReplayStrand {
    coming: VecDeque<SegmentHeader>,
    current: Option<Current>,
}

/// The segment that a strand is in.
struct Current {
    header: SegmentHeader,
    offset: u64,
    windows: Windows,
    image: Image,
}

/// The last accepted bytes of a segment being replayed, as they lie on disk.
#[derive(Default)]
struct Image {
    begin: u64,
    bytes: Vec<u8>,
}

/// Stretches of the copies of a segment, as read. The copy that had the last record is asked first.
struct Windows(Vec<Window>);

/// A stretch of one copy of a segment, as read.
struct Window {
    place: Place,
    begin: u64,
    bytes: AlignedBuffer,
}

/// What lies at a position of one copy.
enum Found {
    /// A record that may count: header, and payload and settlement as they lie on disk.
    Record(RecordHeader, Vec<u8>),
    /// Zeroes: the rest of a batch's last block.
    Padding,
    /// Nothing that verifies.
    Nothing,
    /// The copy can't be read there.
    Unreadable(Error),
}

impl Current {
    fn new<D: Device>(core: &Rc<Core<D>>, header: SegmentHeader, offset: u64) -> Self {
        let windows = Windows::new(core, header.id);
        Current { header, offset, windows, image: Image { begin: offset, bytes: Vec::new() } }
    }
}

impl<D: Device> Replay<D> {
    fn new(
        core: Rc<Core<D>>,
        shard: ShardId,
        state: State<D>,
        record: Option<&CheckpointBody>,
        needed: &[SegmentHeader],
    ) -> Self {
        let strand = |temperature: Temperature| {
            let open = record.and_then(|record| record.strands[temperature as usize]);
            let mut coming: VecDeque<SegmentHeader> =
                needed.iter().filter(|header| header.temperature == temperature).cloned().collect();
            let current = open.and_then(|(id, offset)| {
                let at = coming.iter().position(|header| header.id == id)?;
                let header = coming.remove(at)?;
                Some(Current::new(&core, header, offset))
            });
            ReplayStrand { coming, current }
        };
        let session = Some(state.session()).filter(|session| *session != 0);
        let strands = [strand(Temperature::Hot), strand(Temperature::Cold)];
        Replay { core, shard, state, session, records: 0, segments_done: 0, strands }
    }

    fn progress(&self, segments: usize) -> Progress {
        Progress { stage: Stage::Replay, segments_done: self.segments_done, segments, records: self.records }
    }

    /// Applies the next record; where it lies, if there was one.
    async fn step(&mut self) -> Result<Option<RecordPlace>> {
        let next = self.state.next_lsn();
        for i in 0..self.strands.len() {
            self.enter(i, next).await?;
        }
        for i in 0..self.strands.len() {
            if let Some((record, body)) = self.find(i, next).await? {
                self.apply(&record, body)?;
                let position = &record.position;
                return Ok(Some(record_place(position.segment, position.offset, record.record_len())));
            }
        }
        Ok(None)
    }

    /// Goes on to the last segment of a strand that may hold that LSN.
    async fn enter(&mut self, strand: usize, next: Lsn) -> Result<()> {
        while self.strands[strand].coming.front().is_some_and(|header| header.first_lsn <= next) {
            let of = &mut self.strands[strand];
            let header = of.coming.pop_front().expect("it was looked at");
            let before = of.current.replace(Current::new(&self.core, header.clone(), BLOCK_SIZE as u64));
            if let Some(before) = before {
                self.segments_done += 1;
                if header.predecessor == Predecessor::Unsettled {
                    self.heal(before).await?;
                }
            }
        }
        Ok(())
    }

    /// The record of that LSN, if a strand has it.
    async fn find(&mut self, strand: usize, next: Lsn) -> Result<Option<(RecordHeader, Vec<u8>)>> {
        let (shard, session) = (self.shard, self.session);
        let Some(current) = &mut self.strands[strand].current else { return Ok(None) };
        let belongs = |record: &RecordHeader| {
            record.position.shard == shard
                && record.position.lsn == next
                && (session.is_none_or(|session| session == record.position.session)
                    || record.identity.kind == RecordKind::Open)
        };
        let mut offset = current.offset;
        while offset + (HEADER_SIZE as u64) <= self.core.store.segment_size {
            match current.windows.find(&self.core, current.header.id, offset, belongs).await? {
                Found::Record(record, body) => {
                    current.image.accept(offset, &record, &body);
                    current.offset = offset + padded(record.record_len()) as u64;
                    return Ok(Some((record, body)));
                }
                _ if offset.is_multiple_of(BLOCK_SIZE as u64) => return Ok(None),
                // The batch ends inside this block; the next begins with the next block.
                _ => offset = offset.next_multiple_of(BLOCK_SIZE as u64),
            }
        }
        Ok(None)
    }

    fn apply(&mut self, record: &RecordHeader, mut body: Vec<u8>) -> Result<()> {
        let position = &record.position;
        let corrupt =
            |what| Error::Corrupt { segment: position.segment, offset: u64::from(position.offset), what };
        let (payload, settlement) = body.split_at_mut(record.payload_len);
        self.core.open_record(record, payload).map_err(|unopened| match unopened {
            Unopened::Seal => corrupt("a record's seal does not match, though its checksum does"),
            Unopened::Key(error) => error,
        })?;
        let effect =
            Effect::decode(record.identity.kind, payload).map_err(|malformed| corrupt(malformed.0))?;
        let settlement = match settlement.is_empty() {
            true => None,
            false => Some(Settlement::decode(settlement).map_err(|malformed| corrupt(malformed.0))?),
        };
        if settlement.is_none() && effect.needs_settlement() {
            return Err(corrupt("a record without the settlement that its kind has"));
        }
        if let Effect::Catalog(change) = &effect
            && let CatalogChange::PutNamespace(namespace) = change.as_ref()
        {
            self.core.store.keyring.add_namespace(namespace)?;
        }
        let applied = Applied {
            lsn: position.lsn,
            session: position.session,
            order: record.order(),
            bucket: record.identity.bucket,
            effect: &effect,
            settlement: settlement.as_ref(),
            place: record_place(position.segment, position.offset, record.record_len()),
        };
        if matches!(effect, Effect::Tombstone { .. }) && bugs::is_planted(Bug::LostTombstone) {
            self.state.pass_over(position.lsn);
        } else {
            let fits = self.state.apply(&self.core.store.table, &applied);
            fits.map_err(|malformed| corrupt(malformed.0))?;
        }
        self.session = Some(position.session);
        self.records += 1;
        Ok(())
    }

    /// The log has ended: nothing may be left that says it goes on. Gives back where its strands go on.
    async fn finish(&mut self) -> Result<[Strand; 2]> {
        for strand in &self.strands {
            if let Some(lost) = strand.coming.front() {
                return Err(Error::Corrupt {
                    segment: lost.id,
                    offset: BLOCK_SIZE as u64,
                    what: "the log breaks off before its next segment: acknowledged records are lost",
                });
            }
        }
        let mut strands = [Strand::default(), Strand::default()];
        // A device out of sight may have the header of a segment that was to follow. The next one takes its number, or it would count when the device is back, and
        // what is appended here would not.
        let are_all_there = self.core.store.missing_devices().is_empty();
        for (i, strand) in strands.iter_mut().enumerate() {
            let Some(current) = self.strands[i].current.take() else { continue };
            let tail = Tail {
                segment: current.header.id,
                places: current.header.places.clone(),
                offset: current.offset.next_multiple_of(BLOCK_SIZE as u64),
            };
            match self.heal(current).await? && are_all_there {
                true => strand.tail = Some(tail),
                false => strand.predecessor = Predecessor::Unsettled,
            }
        }
        Ok(strands)
    }

    /// Completes segments that were left unsettled and that a checkpoint stands for since: what is alive in them must have all its copies.
    async fn heal_passed(&mut self, segments: &[SegmentHeader], needed: &[SegmentHeader]) -> Result<()> {
        for (i, next) in segments.iter().enumerate() {
            if next.predecessor == Predecessor::Settled {
                continue;
            }
            let of_strand = |header: &&SegmentHeader| header.temperature == next.temperature;
            let Some(passed) = segments[..i].iter().rev().find(of_strand) else { continue };
            if needed.contains(passed) || !self.core.store.table.takes_writes(&passed.places) {
                continue;
            }
            let mut current = Current::new(&self.core, passed.clone(), BLOCK_SIZE as u64);
            let (mut session, mut lsn_min) = (None, passed.first_lsn);
            while current.offset + (HEADER_SIZE as u64) <= self.core.store.segment_size {
                let offset = current.offset;
                let fits = |record: &RecordHeader| {
                    record.position.shard == self.shard
                        && (lsn_min..next.first_lsn).contains(&record.position.lsn)
                        && (session.is_none_or(|session| session == record.position.session)
                            || record.identity.kind == RecordKind::Open
                            || passed.temperature == Temperature::Cold)
                };
                match current.windows.find(&self.core, passed.id, offset, fits).await? {
                    Found::Record(record, body) => {
                        session = Some(record.position.session);
                        lsn_min = Lsn(record.position.lsn.0 + 1);
                        current.image.accept(offset, &record, &body);
                        current.offset = offset + padded(record.record_len()) as u64;
                    }
                    _ if offset.is_multiple_of(BLOCK_SIZE as u64) => break,
                    _ => current.offset = offset.next_multiple_of(BLOCK_SIZE as u64),
                }
            }
            self.heal(current).await?;
        }
        Ok(())
    }

    /// Makes the end of a segment that was replayed the same on all its copies that take writes, and durable; whether those are all. Of what was applied, the
    /// medium may have no more than one copy, or its cache: what follows in other segments must not outlast it.
    async fn heal(&self, current: Current) -> Result<bool> {
        let all = &current.header.places;
        let accepted = current.image.padded();
        let mut failure = None;
        loop {
            let table = &self.core.store.table;
            let places: Vec<Place> =
                all.iter().filter(|place| table.takes_writes(&[**place])).copied().collect();
            if let (true, Some(failure)) = (places.is_empty(), failure) {
                // A flush that fails may take with it what was just read. The next start sees what is left.
                return Err(failure);
            }
            if places.is_empty() || bugs::is_planted(Bug::HealSkipped) {
                return Ok(places.len() == all.len());
            }
            match self.heal_copies(&current.header, &places, current.image.begin, &accepted).await {
                // The rest may still do.
                Err(error @ Error::Fenced { .. }) => failure = Some(error),
                healed => return healed.map(|()| places.len() == all.len()),
            }
        }
    }

    async fn heal_copies(
        &self,
        header: &SegmentHeader,
        places: &[Place],
        begin: u64,
        accepted: &Rc<AlignedBuffer>,
    ) -> Result<()> {
        self.core.write_header_to(header, places).await?;
        if accepted.is_empty() {
            return Ok(());
        }
        for place in places {
            let (result, found) =
                self.core.read_copy(*place, begin, AlignedBuffer::zeroed(accepted.len())).await;
            if result.is_err() || found[..] != accepted[..] {
                self.core.write_copies(&[*place], begin, accepted.clone()).await?;
            }
        }
        self.core.flush(places.iter().map(|place| place.device)).await
    }
}

impl Windows {
    fn new<D: Device>(core: &Rc<Core<D>>, segment: SegmentId) -> Self {
        let window = |place| Window { place, begin: 0, bytes: AlignedBuffer::zeroed(0) };
        Windows(core.places_to_read(segment, 0).into_iter().map(window).collect())
    }

    /// The record at that position that fits, from the first copy that has it.
    async fn find<D: Device>(
        &mut self,
        core: &Rc<Core<D>>,
        segment: SegmentId,
        offset: u64,
        fits: impl Fn(&RecordHeader) -> bool,
    ) -> Result<Found> {
        let mut unreadable = None;
        let mut end = None;
        for i in 0..self.0.len() {
            match self.0[i].find(core, segment, offset, &fits).await {
                Found::Unreadable(error) => unreadable = Some(error),
                // Zeroes may be padding, or what a medium gives for a block that it has lost: another copy may have a record there.
                Found::Padding => end = Some(Found::Padding),
                Found::Nothing => end = end.or(Some(Found::Nothing)),
                found => {
                    self.0.swap(0, i);
                    return Ok(found);
                }
            }
            core.counters.copies_skipped.add(u64::from(i + 1 < self.0.len()));
        }
        match (end, unreadable) {
            (Some(end), _) => Ok(end),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Found::Nothing),
        }
    }
}

impl Window {
    async fn find<D: Device>(
        &mut self,
        core: &Rc<Core<D>>,
        segment: SegmentId,
        offset: u64,
        fits: &impl Fn(&RecordHeader) -> bool,
    ) -> Found {
        let bytes = match self.bytes(core, offset, HEADER_SIZE).await {
            Ok(bytes) => bytes,
            Err(error) => return Found::Unreadable(error),
        };
        if bytes[..RECORD_ALIGN].iter().all(|byte| *byte == 0) {
            return Found::Padding;
        }
        let Some(record) = RecordHeader::decode(bytes) else { return Found::Nothing };
        let is_here = record.position.segment == segment && u64::from(record.position.offset) == offset;
        if !is_here || !fits(&record) || offset + record.record_len() as u64 > core.store.segment_size {
            return Found::Nothing;
        }
        let bytes = match self.bytes(core, offset, record.record_len()).await {
            Ok(bytes) => bytes,
            Err(error) => return Found::Unreadable(error),
        };
        let body = &bytes[HEADER_SIZE..record.record_len()];
        let is_whole = record.matches_body(body) || bugs::is_planted(Bug::TornPayloadAccepted);
        if is_whole { Found::Record(record, body.to_vec()) } else { Found::Nothing }
    }

    /// At least `len` bytes of a copy from `offset`, reading ahead. Where reading ahead fails, only what is needed is read: an unreadable block hides no others.
    async fn bytes<D: Device>(&mut self, core: &Rc<Core<D>>, offset: u64, len: usize) -> Result<&[u8]> {
        let is_there = offset >= self.begin && offset + len as u64 <= self.begin + self.bytes.len() as u64;
        if !is_there {
            let begin = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
            let needed = ((offset - begin) as usize + len).next_multiple_of(BLOCK_SIZE);
            let ahead = needed.max(WINDOW_LEN).min((core.store.segment_size - begin) as usize);
            let (mut result, mut bytes) =
                core.read_copy(self.place, begin, AlignedBuffer::zeroed(ahead)).await;
            if result.is_err() && ahead > needed {
                (result, bytes) = core.read_copy(self.place, begin, AlignedBuffer::zeroed(needed)).await;
            }
            result?;
            self.begin = begin;
            self.bytes = bytes;
        }
        Ok(&self.bytes[(offset - self.begin) as usize..])
    }
}

impl Image {
    /// What was accepted, to the end of its last block.
    fn padded(&self) -> Rc<AlignedBuffer> {
        let mut padded = AlignedBuffer::zeroed(self.bytes.len().next_multiple_of(BLOCK_SIZE));
        padded[..self.bytes.len()].copy_from_slice(&self.bytes);
        Rc::new(padded)
    }

    fn accept(&mut self, offset: u64, record: &RecordHeader, body: &[u8]) {
        use zerocopy::IntoBytes;
        // Padding between records and batches is zeroes.
        self.bytes.resize((offset - self.begin) as usize, 0);
        self.bytes.extend_from_slice(record.encode().as_bytes());
        self.bytes.extend_from_slice(body);
        if self.bytes.len() > 2 * HEAL_LEN {
            let dropped = (self.bytes.len() - HEAL_LEN) / BLOCK_SIZE * BLOCK_SIZE;
            self.bytes.drain(..dropped);
            self.begin += dropped as u64;
        }
    }
}
