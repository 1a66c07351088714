//! A shard's commit log: records in order, many to a device write, made durable together.
//!
//! [`Log::append`] gives a record its LSN and queues it; [`Log::run_batch`] takes what is queued, lays it out as one aligned batch, writes it to all
//! copies and flushes. Records that arrive meanwhile ride the next batch. One batch is in flight at a time, so a record in a segment is
//! preceded by durable ones only: recovery stops at the first that does not verify.
//!
//! The log is one sequence of records in two **strands** of segments: new records go to the hot one, those that compaction moves to the cold one. A batch
//! is of one temperature; LSNs run through both.
//!
//! When a batch can't be made durable all queued records fail and their LSNs are given again: nothing after a failed record was acknowledged. A batch of
//! compaction for which there is no room fails alone, since nothing of it was written; what is queued behind it takes its LSNs. After a failed write the batch is tried once more in a new segment on other devices; if there is none, the log has stopped for good ([`Error::ReadOnly`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use zerocopy::IntoBytes;

use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::draft::{Effect, SealedRecord};
use crate::error::{Error, Result};
use crate::event::{Completer, Completion, Event, completion};
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordPosition, body_checksum};
use crate::format::segment::{Place, Predecessor, SegmentHeader, SegmentKind, Temperature};
use crate::format::settlement::{RecordPlace, Settlement};
use crate::ids::{BucketId, Lsn, SegmentId, ShardId};
use crate::limits::{BATCH_LEN_MAX, BLOCK_SIZE, RECORD_ALIGN, record_len_max};
use crate::segment::table::{Purpose, SegmentPin, Wanted};
use crate::shard::KeyLock;

/// The log of one shard.
pub(crate) struct Log {
    shard: ShardId,
    session: u64,
    record_len_max: usize,
    queue: RefCell<VecDeque<Queued>>,
    /// Bytes of records that are queued or being written.
    queued_len: Cell<u64>,
    next_lsn: Cell<Lsn>,
    /// The first record of the session, until it is durable: nothing else is written before.
    opening: RefCell<Option<Queued>>,
    stopped: Cell<Option<Error>>,
    /// Keep the bytes of records that failed, and that a restart may find all the same.
    doubtful: RefCell<Vec<SegmentPin>>,
    strands: RefCell<[Strand; 2]>,
    next_sequence: Cell<u64>,
    /// Segments that a replay or a consumer would read, in order.
    segments: RefCell<Vec<LogSegment>>,
    arrived: Event,
}

/// A segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSegment {
    pub(crate) id: SegmentId,
    pub(crate) sequence: u64,
    /// The first LSN that it may hold.
    pub(crate) first_lsn: Lsn,
    /// Its strand.
    pub(crate) temperature: Temperature,
}

/// The segments of one temperature, as far as writing goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strand {
    /// The open segment, and where the next batch goes.
    pub(crate) tail: Option<Tail>,
    /// How the segment before the next one was left.
    pub(crate) predecessor: Predecessor,
}

/// A change that was decided on.
pub(crate) struct Change {
    pub(crate) bucket: BucketId,
    pub(crate) record: SealedRecord,
    pub(crate) effect: Effect,
    pub(crate) settlement: Option<Settlement>,
    /// Keep the segments of its bytes until it is applied.
    pub(crate) pins: Vec<SegmentPin>,
    /// Keep others from deciding on its keys until it is applied.
    #[expect(dead_code, reason = "held until the change is dropped")]
    pub(crate) locks: Vec<KeyLock>,
    pub(crate) temperature: Temperature,
    pub(crate) purpose: Purpose,
}

/// A record that waits for its batch.
struct Queued {
    lsn: Lsn,
    change: Change,
    done: Completer<Result<Receipt>>,
}

/// What a durable record got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) lsn: Lsn,
    pub(crate) place: RecordPlace,
}

/// A record that is durable: what is left to do is to apply it and to tell.
pub(crate) struct Committed {
    pub(crate) lsn: Lsn,
    pub(crate) session: u64,
    pub(crate) place: RecordPlace,
    /// Its pins and locks are dropped after the effect is applied.
    pub(crate) change: Change,
    pub(crate) done: Completer<Result<Receipt>>,
}

/// The open segment of a log, and where it goes on.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) segment: SegmentId,
    pub(crate) places: Vec<Place>,
    pub(crate) offset: u64,
}

/// Where a recovered log goes on.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) strands: [Strand; 2],
    pub(crate) next_lsn: Lsn,
    pub(crate) next_sequence: u64,
    pub(crate) segments: Vec<LogSegment>,
}

impl Log {
    /// The log of a shard, from where recovery left it; `session` is a fresh random number.
    /// The session begins with `opening`, when something is first written.
    pub(crate) fn new(
        shard: ShardId,
        session: u64,
        resume: Resume,
        opening: SealedRecord,
        segment_size: u64,
    ) -> Self {
        let change = Change {
            bucket: BucketId(0),
            record: opening,
            effect: Effect::Open,
            settlement: None,
            pins: Vec::new(),
            locks: Vec::new(),
            temperature: Temperature::Hot,
            // Without it nothing else can be written, and no space comes back.
            purpose: Purpose::Move,
        };
        let opening = Queued { lsn: resume.next_lsn, change, done: completion().0 };
        Log {
            shard,
            session,
            record_len_max: record_len_max(segment_size),
            queue: RefCell::default(),
            queued_len: Cell::new(0),
            next_lsn: Cell::new(Lsn(resume.next_lsn.0 + 1)),
            opening: RefCell::new(Some(opening)),
            stopped: Cell::new(None),
            doubtful: RefCell::default(),
            strands: RefCell::new(resume.strands),
            next_sequence: Cell::new(resume.next_sequence),
            segments: RefCell::new(resume.segments),
            arrived: Event::default(),
        }
    }

    /// Whether the log takes records; once it has stopped, nobody can say what a restart will find of the last ones.
    pub(crate) fn check_running(&self) -> Result<()> {
        self.stopped.get().map_or(Ok(()), Err)
    }

    /// Whether new data of that length may be queued: it and all that is queued must fit without touching the reserve.
    pub(crate) fn admit_data<D: Device>(&self, core: &Core<D>, record_len: usize) -> Result<()> {
        core.store.table.admit_data()?;
        let tail_left = self.tail(Temperature::Hot).map_or(0, |tail| core.store.segment_size - tail.offset);
        let queued = self.queued_len.get() + padded(record_len) as u64;
        // What does not fit into the tail goes to new segments, where batches may leave a part of each unused.
        let usable = core.store.segment_size - record_len_max(core.store.segment_size) as u64;
        let needed = queued.saturating_sub(tail_left).div_ceil(usable);
        if needed <= u64::from(core.store.table.free_for_data()) { Ok(()) } else { Err(Error::Full) }
    }

    /// Queues a record. What it decides is decided now; it is durable when the completion says so.
    pub(crate) fn append(&self, mut change: Change) -> Result<Completion<Result<Receipt>>> {
        self.check_running()?;
        if let Some(settlement) = &change.settlement {
            change.record.settlement = settlement.encode();
        }
        let record_len = change.record.record_len();
        if record_len > self.record_len_max {
            return Err(Error::TooLarge { what: "what this change replaces" });
        }
        self.queued_len.set(self.queued_len.get() + padded(record_len) as u64);
        let lsn = self.next_lsn.get();
        self.next_lsn.set(Lsn(lsn.0 + 1));
        let (done, waiting) = completion();
        self.queue.borrow_mut().push_back(Queued { lsn, change, done });
        self.arrived.notify();
        Ok(waiting)
    }

    /// Where the log stands: the open segments with the places of their next batches, and the number of the next segment.
    pub(crate) fn stand(&self) -> ([Option<(SegmentId, u64)>; 2], u64) {
        let strands = self.strands.borrow();
        let at = |strand: &Strand| strand.tail.as_ref().map(|tail| (tail.segment, tail.offset));
        ([at(&strands[0]), at(&strands[1])], self.next_sequence.get())
    }

    /// Gives out the segments that no replay reads any more that begins where the log stood then, and no consumer whose cursor is at `seen` or above.
    pub(crate) fn take_replaced(
        &self,
        strands: &[Option<(SegmentId, u64)>; 2],
        next_sequence: u64,
        seen: Option<Lsn>,
    ) -> Vec<SegmentId> {
        let mut segments = self.segments.borrow_mut();
        let (mut kept, mut replaced) = (Vec::new(), Vec::new());
        for (i, segment) in segments.iter().enumerate() {
            let is_open = strands.iter().flatten().any(|(open, _)| *open == segment.id);
            if segment.sequence >= next_sequence || is_open || is_unseen(&segments, i, seen) {
                kept.push(*segment);
            } else {
                replaced.push(segment.id);
            }
        }
        *segments = kept;
        replaced
    }

    /// Segments that a replay or a consumer would read.
    pub(crate) fn segments(&self) -> Vec<LogSegment> {
        self.segments.borrow().clone()
    }

    fn tail(&self, temperature: Temperature) -> Option<Tail> {
        self.strands.borrow()[temperature as usize].tail.clone()
    }

    /// Waits until something is queued or the log has stopped; whether there is something to do.
    pub(crate) async fn wait_for_work(&self) -> bool {
        loop {
            let arrived = self.arrived.wait();
            if !self.queue.borrow().is_empty() {
                return true;
            }
            if self.stopped.get().is_some() {
                return false;
            }
            arrived.await;
        }
    }

    /// Takes no more records; those that are queued are still written.
    pub(crate) fn stop(&self, why: Error) {
        self.stopped.set(Some(why));
        self.arrived.notify();
    }

    /// Whether nothing is queued. (A batch in flight is not in the queue.)
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Makes the record durable that opens the session, before anything else is written; `None` when it is already. It is applied before the next batch is
    /// begun: what stands in a strand's segments before its tail has always been applied. On failure every queued record has been told.
    pub(crate) async fn begin_session<D: Device>(
        &self,
        core: &Rc<Core<D>>,
    ) -> std::result::Result<Option<Committed>, ()> {
        let Some(opening) = self.opening.take() else { return Ok(None) };
        let opened = match self.replace_unsettled(core, opening.lsn).await {
            Ok(()) => self.write_batch(core, std::slice::from_ref(&opening)).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(places) => Ok(Some(self.committed(opening, places[0]))),
            Err(error) => {
                let next = Lsn(opening.lsn.0 + 1);
                *self.opening.borrow_mut() = Some(opening);
                self.fail(error, next, Vec::new());
                Err(())
            }
        }
    }

    /// Makes one batch durable and gives back its records in order. On failure every queued record has been told.
    pub(crate) async fn run_batch<D: Device>(
        &self,
        core: &Rc<Core<D>>,
    ) -> std::result::Result<Vec<Committed>, ()> {
        let batch = self.take_batch(core.store.segment_size);
        let Some(first) = batch.first().map(|queued| queued.lsn) else { return Ok(Vec::new()) };
        match self.write_batch(core, &batch).await {
            Ok(places) => {
                self.queued_len.set(self.queued_len.get() - batch_len(&batch) as u64);
                core.counters.log_records.add(batch.len() as u64);
                core.counters.accepted_bytes.add(accepted_len(&batch) as u64);
                let committed = |(queued, place)| self.committed(queued, place);
                Ok(batch.into_iter().zip(places).map(committed).collect())
            }
            Err(Error::Full) if batch[0].change.temperature == Temperature::Cold => {
                self.leave_out(first, batch);
                Ok(Vec::new())
            }
            Err(error) => {
                self.fail(error, first, batch);
                Err(())
            }
        }
    }

    /// Those records have failed alone, and nothing of them was written: what is queued behind them takes their LSNs. It was decided on what is applied, so
    /// it stands without them.
    fn leave_out(&self, first: Lsn, batch: Vec<Queued>) {
        self.queued_len.set(self.queued_len.get() - batch_len(&batch) as u64);
        let mut next = first;
        for queued in self.queue.borrow_mut().iter_mut() {
            queued.lsn = next;
            next = Lsn(next.0 + 1);
        }
        self.next_lsn.set(next);
        for Queued { change, done, .. } in batch {
            drop(change);
            done.complete(Err(Error::Full));
        }
    }

    /// Everything queued has failed, and those records: their LSNs, from the first on, are given again.
    fn fail(&self, error: Error, first: Lsn, mut batch: Vec<Queued>) {
        if !matches!(error, Error::Full) {
            self.stopped.set(Some(Error::ReadOnly));
            // One copy may have them. While the process runs nobody else gets what they refer to.
            let pins = batch.iter_mut().flat_map(|queued| queued.change.pins.drain(..));
            self.doubtful.borrow_mut().extend(pins);
        }
        self.next_lsn.set(first);
        self.queued_len.set(0);
        let rest: Vec<Queued> = self.queue.borrow_mut().drain(..).collect();
        for Queued { change, done, .. } in batch.into_iter().chain(rest) {
            drop(change);
            done.complete(Err(error));
        }
    }

    /// Begins a segment in each strand whose last one was left unsettled: its header says so, for whoever opens the store when all copies are there again.
    /// A checkpoint of this session may stand for the old one by then.
    async fn replace_unsettled<D: Device>(&self, core: &Rc<Core<D>>, next: Lsn) -> Result<()> {
        for temperature in [Temperature::Hot, Temperature::Cold] {
            let is_unsettled = {
                let strand = &self.strands.borrow()[temperature as usize];
                strand.tail.is_none() && strand.predecessor == Predecessor::Unsettled
            };
            if is_unsettled {
                self.next_segment(core, temperature, next, Purpose::Upkeep).await?;
            }
        }
        Ok(())
    }

    fn committed(&self, queued: Queued, place: RecordPlace) -> Committed {
        Committed { lsn: queued.lsn, session: self.session, place, change: queued.change, done: queued.done }
    }

    fn take_batch(&self, segment_size: u64) -> Vec<Queued> {
        let mut len_max = BATCH_LEN_MAX.min(record_len_max(segment_size));
        let mut queue = self.queue.borrow_mut();
        let mut batch = Vec::new();
        let mut len = 0;
        let temperature = queue.front().map(|first| first.change.temperature);
        if let Some(first) = queue.front()
            && let Some(tail) = self.tail(first.change.temperature)
        {
            // A segment is filled to its end: what is left unused of it can't be told from what is dead, and compaction would move the rest for nothing.
            let room = (segment_size - tail.offset) as usize;
            if padded(first.change.record.record_len()) <= room {
                len_max = len_max.min(room);
            }
        }
        while let Some(next) = queue.front() {
            len += padded(next.change.record.record_len());
            if Some(next.change.temperature) != temperature || (!batch.is_empty() && len > len_max) {
                break;
            }
            batch.extend(queue.pop_front());
        }
        batch
    }

    /// Writes and flushes a batch, in a new segment when it does not fit or the present one lost a device.
    async fn write_batch<D: Device>(&self, core: &Rc<Core<D>>, batch: &[Queued]) -> Result<Vec<RecordPlace>> {
        let len = batch_len(batch).next_multiple_of(BLOCK_SIZE);
        let has_room = |tail: &Tail| tail.offset + len as u64 <= core.store.segment_size;
        let tail = match self.tail(batch[0].change.temperature).filter(has_room) {
            Some(tail) => tail,
            None => self.segment_for(core, batch).await?,
        };
        match self.write_at(core, &tail, batch, len).await {
            Err(Error::Fenced { .. }) => {
                // Part of the batch may be on the other copies: whatever goes wrong now, its records may come back with a restart.
                let stopped = |error| if error == Error::Full { Error::ReadOnly } else { error };
                let tail = self.segment_for(core, batch).await.map_err(stopped)?;
                self.write_at(core, &tail, batch, len).await
            }
            other => other,
        }
    }

    async fn write_at<D: Device>(
        &self,
        core: &Rc<Core<D>>,
        tail: &Tail,
        batch: &[Queued],
        len: usize,
    ) -> Result<Vec<RecordPlace>> {
        let mut buffer = AlignedBuffer::scratch(len);
        let mut places = Vec::with_capacity(batch.len());
        let mut at = 0;
        for queued in batch {
            let offset = (tail.offset + at as u64) as u32;
            places.push(self.lay_out(queued, tail.segment, offset, &mut buffer[at..]));
            at += padded(queued.change.record.record_len());
        }
        buffer[at..].fill(0);
        core.write_copies(&tail.places, tail.offset, Rc::new(buffer)).await?;
        core.flush(tail.places.iter().map(|place| place.device)).await?;
        core.counters.log_appends.add(1);
        core.counters.log_bytes.add(len as u64);
        self.strands.borrow_mut()[batch[0].change.temperature as usize].tail =
            Some(Tail { offset: tail.offset + len as u64, ..tail.clone() });
        Ok(places)
    }

    fn lay_out(&self, queued: &Queued, segment: SegmentId, offset: u32, out: &mut [u8]) -> RecordPlace {
        let record = &queued.change.record;
        let payload_end = HEADER_SIZE + record.payload.len();
        out[HEADER_SIZE..payload_end].copy_from_slice(&record.payload);
        out[payload_end..record.record_len()].copy_from_slice(&record.settlement);
        out[record.record_len()..padded(record.record_len())].fill(0);
        let header = RecordHeader {
            identity: record.identity,
            position: RecordPosition {
                shard: self.shard,
                lsn: queued.lsn,
                session: self.session,
                segment,
                offset,
            },
            payload_len: record.payload.len(),
            payload_checksum: body_checksum(&out[HEADER_SIZE..record.record_len()]),
            order: record.order,
            settlement_len: record.settlement.len(),
            seal: record.seal,
        };
        out[..HEADER_SIZE].copy_from_slice(header.encode().as_bytes());
        record_place(segment, offset, record.record_len())
    }

    /// A segment for a batch. A device whose header can't be written is fenced, and the next try goes to others.
    async fn segment_for<D: Device>(&self, core: &Rc<Core<D>>, batch: &[Queued]) -> Result<Tail> {
        // The records of a batch share a segment: whoever may use most decides.
        let purposes = batch.iter().map(|queued| queued.change.purpose);
        let purpose = purposes.max().unwrap_or(Purpose::Log).max(Purpose::Log);
        loop {
            let temperature = batch[0].change.temperature;
            match self.next_segment(core, temperature, batch[0].lsn, purpose).await {
                Err(Error::Fenced { .. }) => self.leave_tail(core, temperature),
                other => return other,
            }
        }
    }

    /// Appends no more to the present segment. The header of the next may have reached one of its devices, and a start that finds it there looks for records from
    /// that LSN on in none but it, until another segment has taken its number.
    fn leave_tail<D: Device>(&self, core: &Rc<Core<D>>, temperature: Temperature) {
        let left = self.strands.borrow_mut()[temperature as usize].tail.take();
        if let Some(left) = left {
            core.store.table.seal(left.segment);
        }
    }

    async fn next_segment<D: Device>(
        &self,
        core: &Rc<Core<D>>,
        temperature: Temperature,
        first_lsn: Lsn,
        purpose: Purpose,
    ) -> Result<Tail> {
        let allocation = core.store.table.allocate(&Wanted {
            kind: SegmentKind::Commit,
            temperature,
            stream: self.shard.0,
            purpose,
        })?;
        let header = SegmentHeader {
            id: allocation.id,
            kind: SegmentKind::Commit,
            stream: self.shard.0,
            sequence: self.next_sequence.get(),
            first_lsn,
            temperature,
            predecessor: self.strands.borrow()[temperature as usize].predecessor,
            places: allocation.places.clone(),
        };
        if let Err(error) = core.write_header(&header).await {
            core.store.table.discard(allocation.id);
            return Err(error);
        }
        self.next_sequence.set(header.sequence + 1);
        self.segments.borrow_mut().push(LogSegment {
            id: header.id,
            sequence: header.sequence,
            first_lsn: header.first_lsn,
            temperature,
        });
        let tail = Tail { segment: allocation.id, places: allocation.places, offset: BLOCK_SIZE as u64 };
        let strand = Strand { tail: Some(tail.clone()), predecessor: Predecessor::Settled };
        let full = std::mem::replace(&mut self.strands.borrow_mut()[temperature as usize], strand);
        if let Some(full) = full.tail {
            core.store.table.seal(full.segment);
        }
        Ok(tail)
    }
}

/// Whether the hot segment at that position of the list may hold something that a consumer whose cursor is there has not seen.
pub(crate) fn is_unseen(segments: &[LogSegment], position: usize, seen: Option<Lsn>) -> bool {
    let (Some(seen), Temperature::Hot) = (seen, segments[position].temperature) else { return false };
    let next = segments[position + 1..].iter().find(|next| next.temperature == Temperature::Hot);
    next.is_none_or(|next| next.first_lsn > seen)
}

pub(crate) fn record_place(segment: SegmentId, offset: u32, record_len: usize) -> RecordPlace {
    RecordPlace { segment, offset, len: padded(record_len) as u32 }
}

fn batch_len(batch: &[Queued]) -> usize {
    batch.iter().map(|queued| padded(queued.change.record.record_len())).sum()
}

/// Bytes of those records that come from outside.
fn accepted_len(batch: &[Queued]) -> usize {
    let accepted = batch.iter().filter(|queued| queued.change.purpose <= Purpose::Log);
    accepted.map(|queued| padded(queued.change.record.record_len())).sum()
}

/// Bytes to the beginning of the next record.
pub(crate) fn padded(record_len: usize) -> usize {
    record_len.next_multiple_of(RECORD_ALIGN)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::LocalBoxFuture;

    use super::*;
    use crate::crypto::{MasterKey, Random};
    use crate::device::IoFailure;
    use crate::format::superblock::Tier;
    use crate::ids::UnixMillis;
    use crate::store::{FormatOptions, Store, format};

    /// A medium in memory that takes no time.
    #[derive(Clone)]
    struct Memory(Rc<RefCell<Vec<u8>>>);

    impl Device for Memory {
        fn capacity(&self) -> u64 {
            self.0.borrow().len() as u64
        }

        async fn read(
            &self,
            mut buffer: AlignedBuffer,
            offset: u64,
        ) -> (std::result::Result<(), IoFailure>, AlignedBuffer) {
            let len = buffer.len();
            buffer.copy_from_slice(&self.0.borrow()[offset as usize..][..len]);
            (Ok(()), buffer)
        }

        async fn write(&self, buffer: Rc<AlignedBuffer>, offset: u64) -> std::result::Result<(), IoFailure> {
            self.0.borrow_mut()[offset as usize..][..buffer.len()].copy_from_slice(&buffer);
            Ok(())
        }

        async fn flush(&self) -> std::result::Result<(), IoFailure> {
            Ok(())
        }

        fn detach(&self, _task: LocalBoxFuture<'static, ()>) {}
    }

    struct Counted(u8);

    impl Random for Counted {
        fn fill(&mut self, bytes: &mut [u8]) {
            self.0 += 1;
            bytes.fill(self.0);
        }
    }

    /// What ends without waiting for anything.
    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("the medium takes no time")
    }

    fn core() -> Rc<Core<Memory>> {
        let devices = [Memory(Rc::new(RefCell::new(vec![0; 16 << 20])))];
        let options = FormatOptions {
            copies: 1,
            shard_count: 1,
            segment_size: Some(1 << 20),
            inline_max: 32 * 1024,
            tiers: vec![Tier::Nvme],
        };
        let master = || MasterKey::new([42; 32]);
        now(format(&devices, &options, &master(), UnixMillis(1), &mut Counted(0))).expect("formatted");
        let store = now(Store::open(&devices, master())).expect("opened");
        store.table.finish_recovery();
        Core::new(store, 0, devices.into(), Box::new(Counted(1)))
    }

    fn change(core: &Core<Memory>, temperature: Temperature) -> Change {
        Change {
            bucket: BucketId(0),
            record: core.draft_open().expect("drafted").record,
            effect: Effect::Open,
            settlement: None,
            pins: Vec::new(),
            locks: Vec::new(),
            temperature,
            purpose: if temperature == Temperature::Cold { Purpose::Move } else { Purpose::Log },
        }
    }

    #[test]
    fn a_batch_of_compaction_without_room_fails_alone_and_the_next_takes_its_lsns() {
        let core = core();
        let resume = Resume {
            strands: [Strand::default(), Strand::default()],
            next_lsn: Lsn(1),
            next_sequence: 0,
            segments: Vec::new(),
        };
        let opening = core.draft_open().expect("drafted").record;
        let log = Log::new(ShardId(0), 99, resume, opening, core.store.segment_size);
        let opened = now(log.begin_session(&core)).expect("there is room").expect("it is the first");
        assert_eq!(opened.lsn, Lsn(1));
        let wanted = Wanted {
            kind: SegmentKind::Bulk,
            temperature: Temperature::Cold,
            stream: 0,
            purpose: Purpose::Move,
        };
        while core.store.table.allocate(&wanted).is_ok() {}
        let append = |temperature| log.append(change(&core, temperature)).expect("the log runs");
        let moved = [append(Temperature::Cold), append(Temperature::Cold)];
        let stored = [append(Temperature::Hot), append(Temperature::Hot)];
        let moved_later = append(Temperature::Cold);
        assert!(now(log.run_batch(&core)).expect("the log goes on").is_empty());
        for moved in moved {
            assert_eq!(now(moved.wait()), Some(Err(Error::Full)));
        }
        // The open hot segment has room.
        let committed = now(log.run_batch(&core)).expect("it does not fail with those before it");
        let lsns: Vec<Lsn> = committed.iter().map(|record| record.lsn).collect();
        assert_eq!(lsns, [Lsn(2), Lsn(3)], "LSNs have no gap");
        drop(stored);
        assert!(now(log.run_batch(&core)).expect("the log goes on").is_empty());
        assert_eq!(now(moved_later.wait()), Some(Err(Error::Full)));
        assert_eq!((log.queued_len.get(), log.next_lsn.get()), (0, Lsn(4)));
    }
}
