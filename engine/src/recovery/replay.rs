//! Applying the log after the checkpoint, record by record.

use std::collections::VecDeque;
use std::rc::Rc;

use super::heal::Image;
use super::windows::{Found, Windows};
use super::{Progress, Stage};
use crate::core::Core;
use crate::device::Device;
use crate::draft::Effect;
use crate::error::{Error, Result};
use crate::format::catalog::CatalogChange;
use crate::format::checkpoint::CheckpointBody;
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::format::segment::{Predecessor, SegmentHeader, Temperature};
use crate::format::settlement::{RecordPlace, Settlement};
use crate::ids::{Lsn, ShardId};
use crate::limits::BLOCK_SIZE;
use crate::log::{Strand, Tail, padded, record_place};
use crate::object::Unopened;
use crate::shard::{Applied, State};
use crate::sim::bugs::{self, Bug};

/// A shard's state, and where in the log it is.
pub(super) struct Replay<D: Device> {
    pub(super) core: Rc<Core<D>>,
    pub(super) shard: ShardId,
    pub(super) state: State<D>,
    session: Option<u64>,
    pub(super) records: u64,
    segments_done: usize,
    strands: [ReplayStrand; 2],
}

/// The segments of one temperature, as far as replay is.
struct ReplayStrand {
    coming: VecDeque<SegmentHeader>,
    current: Option<Current>,
}

/// The segment that a strand is in.
pub(super) struct Current {
    pub(super) header: SegmentHeader,
    pub(super) offset: u64,
    pub(super) windows: Windows,
    pub(super) image: Image,
}

impl Current {
    pub(super) fn new<D: Device>(core: &Rc<Core<D>>, header: SegmentHeader, offset: u64) -> Self {
        let windows = Windows::new(core, header.id);
        Current { header, offset, windows, image: Image { begin: offset, bytes: Vec::new() } }
    }
}

impl<D: Device> Replay<D> {
    pub(super) fn new(
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

    pub(super) fn progress(&self, segments: usize) -> Progress {
        Progress { stage: Stage::Replay, segments_done: self.segments_done, segments, records: self.records }
    }

    /// Applies the next record; where it lies, if there was one.
    pub(super) async fn step(&mut self) -> Result<Option<RecordPlace>> {
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
    pub(super) async fn finish(&mut self) -> Result<[Strand; 2]> {
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
}
