//! The end of a log, made the same on all its copies before anything is appended.

use std::rc::Rc;

use super::replay::{Current, Replay};
use super::windows::Found;
use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::format::segment::{Place, Predecessor, SegmentHeader, Temperature};
use crate::ids::Lsn;
use crate::limits::{BATCH_LEN_MAX, BLOCK_SIZE, RECORD_LEN_MAX};
use crate::log::padded;
use crate::sim::bugs::{self, Bug};

/// How much of a strand's end is made the same on all copies: more than one batch can be.
const HEAL_LEN: usize = RECORD_LEN_MAX + BATCH_LEN_MAX;

/// The last accepted bytes of a segment being replayed, as they lie on disk.
#[derive(Default)]
pub(super) struct Image {
    pub(super) begin: u64,
    pub(super) bytes: Vec<u8>,
}

impl Image {
    /// What was accepted, to the end of its last block.
    fn padded(&self) -> Rc<AlignedBuffer> {
        let mut padded = AlignedBuffer::zeroed(self.bytes.len().next_multiple_of(BLOCK_SIZE));
        padded[..self.bytes.len()].copy_from_slice(&self.bytes);
        Rc::new(padded)
    }

    pub(super) fn accept(&mut self, offset: u64, record: &RecordHeader, body: &[u8]) {
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

impl<D: Device> Replay<D> {
    /// Completes segments that were left unsettled and that a checkpoint stands for since: what is alive in them must have all its copies.
    pub(super) async fn heal_passed(
        &mut self,
        segments: &[SegmentHeader],
        needed: &[SegmentHeader],
    ) -> Result<()> {
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
    pub(super) async fn heal(&self, current: Current) -> Result<bool> {
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
