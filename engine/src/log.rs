//! A shard's commit log: records in order, many to a device write, made durable together.
//!
//! [`Log::append`] gives a record its LSN and queues it; [`Log::run_batch`] takes what is queued, lays it out as one aligned batch, writes it to all
//! copies and flushes. Records that arrive meanwhile ride the next batch. One batch is in flight at a time, so a record in a segment is
//! preceded by durable ones only: recovery stops at the first that does not verify.
//!
//! When a batch can't be made durable all queued records fail and their LSNs are given again: nothing after a failed record was acknowledged. After a failed
//! write the batch is tried once more in a new segment on other devices; if there is none, the log has stopped for good ([`Error::ReadOnly`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use zerocopy::IntoBytes;

use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::draft::{Effect, RecordPlace, SealedRecord};
use crate::error::{Error, Result};
use crate::event::{Completer, Completion, Event, completion};
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordPosition, payload_checksum};
use crate::format::segment::{Place, Predecessor, SegmentHeader, SegmentKind};
use crate::ids::{BucketId, Lsn, SegmentId, ShardId};
use crate::index::hash::Location;
use crate::limits::{BATCH_LEN_MAX, BLOCK_SIZE, RECORD_ALIGN, record_len_max};
use crate::segment::table::{Purpose, SegmentPin};

/// The log of one shard.
pub(crate) struct Log {
    shard: ShardId,
    session: u64,
    queue: RefCell<VecDeque<Queued>>,
    /// Bytes of records that are queued or being written.
    queued_len: Cell<u64>,
    next_lsn: Cell<Lsn>,
    /// The first record of the session, until it is durable: nothing else is written before.
    opening: RefCell<Option<Queued>>,
    stopped: Cell<Option<Error>>,
    tail: RefCell<Option<Tail>>,
    next_sequence: Cell<u64>,
    /// How the segment before the next one was left.
    predecessor: Cell<Predecessor>,
    arrived: Event,
}

/// A record that waits for its batch.
struct Queued {
    lsn: Lsn,
    bucket: BucketId,
    record: SealedRecord,
    effect: Effect,
    pins: Vec<SegmentPin>,
    done: Completer<Result<()>>,
}

/// A record that is durable: what is left to do is to apply it and to tell.
pub(crate) struct Committed {
    pub(crate) lsn: Lsn,
    pub(crate) bucket: BucketId,
    pub(crate) effect: Effect,
    pub(crate) place: RecordPlace,
    /// Dropped after the effect is applied.
    pub(crate) _pins: Vec<SegmentPin>,
    pub(crate) done: Completer<Result<()>>,
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
    pub(crate) tail: Option<Tail>,
    pub(crate) next_lsn: Lsn,
    pub(crate) next_sequence: u64,
    /// How the last segment was left, when it is not resumed.
    pub(crate) predecessor: Predecessor,
}

impl Log {
    /// The log of a shard, from where recovery left it; `session` is a fresh random number.
    /// The session begins with `opening`, when something is first written.
    pub(crate) fn new(shard: ShardId, session: u64, resume: Resume, opening: SealedRecord) -> Self {
        let opening = Queued {
            lsn: resume.next_lsn,
            bucket: BucketId(0),
            record: opening,
            effect: Effect::Open,
            pins: Vec::new(),
            done: completion().0,
        };
        Log {
            shard,
            session,
            queue: RefCell::default(),
            queued_len: Cell::new(0),
            next_lsn: Cell::new(Lsn(resume.next_lsn.0 + 1)),
            opening: RefCell::new(Some(opening)),
            stopped: Cell::new(None),
            tail: RefCell::new(resume.tail),
            next_sequence: Cell::new(resume.next_sequence),
            predecessor: Cell::new(resume.predecessor),
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
        let tail_left = self.tail.borrow().as_ref().map_or(0, |tail| core.store.segment_size - tail.offset);
        let queued = self.queued_len.get() + padded(record_len) as u64;
        // What does not fit into the tail goes to new segments, where batches may leave a part of each unused.
        let usable = core.store.segment_size - record_len_max(core.store.segment_size) as u64;
        let needed = queued.saturating_sub(tail_left).div_ceil(usable);
        if needed <= u64::from(core.store.table.free_for_data()) { Ok(()) } else { Err(Error::Full) }
    }

    /// Queues a record. What it decides is decided now; it is durable when the completion says so.
    pub(crate) fn append(
        &self,
        bucket: BucketId,
        record: SealedRecord,
        effect: Effect,
        pins: Vec<SegmentPin>,
    ) -> Result<(Lsn, Completion<Result<()>>)> {
        self.check_running()?;
        self.queued_len.set(self.queued_len.get() + padded(record.record_len()) as u64);
        let lsn = self.next_lsn.get();
        self.next_lsn.set(Lsn(lsn.0 + 1));
        let (done, waiting) = completion();
        self.queue.borrow_mut().push_back(Queued { lsn, bucket, record, effect, pins, done });
        self.arrived.notify();
        Ok((lsn, waiting))
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

    /// Makes one batch durable and gives back its records in order. On failure every queued record has been told.
    pub(crate) async fn run_batch<D: Device>(
        &self,
        core: &Rc<Core<D>>,
    ) -> std::result::Result<Vec<Committed>, ()> {
        let batch = self.take_batch(core.store.segment_size);
        let Some(first) = batch.first().map(|queued| queued.lsn) else { return Ok(Vec::new()) };
        let written = match self.begin_session(core).await {
            Ok(()) => self.write_batch(core, &batch).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(places) => {
                self.queued_len.set(self.queued_len.get() - batch_len(&batch) as u64);
                core.counters.log_records.add(batch.len() as u64);
                Ok(batch.into_iter().zip(places).map(|(queued, place)| queued.committed(place)).collect())
            }
            Err(error) => {
                if !matches!(error, Error::Full) {
                    self.stopped.set(Some(Error::ReadOnly));
                }
                self.next_lsn.set(first);
                self.queued_len.set(0);
                let rest: Vec<Queued> = self.queue.borrow_mut().drain(..).collect();
                for queued in batch.into_iter().chain(rest) {
                    queued.done.complete(Err(error));
                }
                Err(())
            }
        }
    }

    async fn begin_session<D: Device>(&self, core: &Rc<Core<D>>) -> Result<()> {
        let Some(opening) = self.opening.take() else { return Ok(()) };
        let written = self.write_batch(core, std::slice::from_ref(&opening)).await;
        if written.is_err() {
            *self.opening.borrow_mut() = Some(opening);
        }
        written.map(|_| ())
    }

    fn take_batch(&self, segment_size: u64) -> Vec<Queued> {
        let len_max = BATCH_LEN_MAX.min(record_len_max(segment_size));
        let mut queue = self.queue.borrow_mut();
        let mut batch = Vec::new();
        let mut len = 0;
        while let Some(next) = queue.front() {
            len += padded(next.record.record_len());
            if !batch.is_empty() && len > len_max {
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
        let tail = self.tail.borrow().clone().filter(has_room);
        let tail = match tail {
            Some(tail) => tail,
            None => self.next_segment(core, batch[0].lsn).await?,
        };
        match self.write_at(core, &tail, batch, len).await {
            Err(Error::Fenced { .. }) => {
                // Part of the batch may be on the other copies: whatever goes wrong now, its records may come back with a restart.
                let stopped = |error| if error == Error::Full { Error::ReadOnly } else { error };
                let tail = self.next_segment(core, batch[0].lsn).await.map_err(stopped)?;
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
        let mut buffer = AlignedBuffer::zeroed(len);
        let mut places = Vec::with_capacity(batch.len());
        let mut at = 0;
        for queued in batch {
            let offset = (tail.offset + at as u64) as u32;
            places.push(self.lay_out(queued, tail.segment, offset, &mut buffer[at..]));
            at += padded(queued.record.record_len());
        }
        core.write_copies(&tail.places, tail.offset, Rc::new(buffer)).await?;
        core.flush(tail.places.iter().map(|place| place.device)).await?;
        core.counters.log_appends.add(1);
        core.counters.log_bytes.add(len as u64);
        *self.tail.borrow_mut() = Some(Tail { offset: tail.offset + len as u64, ..tail.clone() });
        Ok(places)
    }

    fn lay_out(&self, queued: &Queued, segment: SegmentId, offset: u32, out: &mut [u8]) -> RecordPlace {
        let record = &queued.record;
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
            payload_checksum: payload_checksum(&record.payload),
            seal: record.seal,
        };
        out[..HEADER_SIZE].copy_from_slice(header.encode().as_bytes());
        out[HEADER_SIZE..record.record_len()].copy_from_slice(&record.payload);
        record_place(segment, offset, record.record_len())
    }

    async fn next_segment<D: Device>(&self, core: &Rc<Core<D>>, first_lsn: Lsn) -> Result<Tail> {
        let allocation = core.store.table.allocate(SegmentKind::Commit, Purpose::Log)?;
        let header = SegmentHeader {
            id: allocation.id,
            kind: SegmentKind::Commit,
            stream: self.shard.0,
            sequence: self.next_sequence.get(),
            first_lsn,
            predecessor: self.predecessor.get(),
            places: allocation.places.clone(),
        };
        if let Err(error) = core.write_header(&header).await {
            core.store.table.discard(allocation.id);
            return Err(error);
        }
        self.next_sequence.set(header.sequence + 1);
        self.predecessor.set(Predecessor::Settled);
        if let Some(full) = self.tail.borrow().as_ref() {
            core.store.table.seal(full.segment);
        }
        let tail = Tail { segment: allocation.id, places: allocation.places, offset: BLOCK_SIZE as u64 };
        *self.tail.borrow_mut() = Some(tail.clone());
        Ok(tail)
    }
}

impl Queued {
    fn committed(self, place: RecordPlace) -> Committed {
        Committed {
            lsn: self.lsn,
            bucket: self.bucket,
            effect: self.effect,
            place,
            _pins: self.pins,
            done: self.done,
        }
    }
}

pub(crate) fn record_place(segment: SegmentId, offset: u32, record_len: usize) -> RecordPlace {
    RecordPlace {
        location: Location::new(segment, offset, record_len),
        segment,
        len: padded(record_len) as u32,
    }
}

fn batch_len(batch: &[Queued]) -> usize {
    batch.iter().map(|queued| padded(queued.record.record_len())).sum()
}

/// Bytes to the beginning of the next record.
pub(crate) fn padded(record_len: usize) -> usize {
    record_len.next_multiple_of(RECORD_ALIGN)
}
