//! Consumers of the log: whoever follows what happens in a shard's buckets reads the log itself, from a durable cursor, and never walks the keys.
//!
//! ```text
//! add_consumer --> following --advance_consumer, change_due--> following
//!                    |  the log held for it is longer than the limit
//!                    v
//!                  behind --restart_consumer--> snapshot --advance_consumer, change_due--> following
//! ```
//! - Each has a name and a cursor: the first LSN that it has not seen. The cursor is a record in the log and in every checkpoint.
//! - Events come in LSN order, so those of a bucket in the order in which they happened. After a crash a consumer sees again what it saw after its last
//!   [`Shard::advance_consumer`]: at least once, none left out.
//! - The log is kept from the slowest cursor on, but not for ever: a consumer for which more is kept than [`Shard::set_consumer_log_len_max`] says, or more than
//!   a checkpoint's worth of log when new data finds no room, **falls behind** with the next checkpoint. That is a record too, durable before any of its log is given back.
//! - A consumer that fell behind is told so ([`Error::Behind`]) and starts over: [`Shard::restart_consumer`], then what is there ([`Shard::existing`], or
//!   [`Shard::usage_snapshot`]), then events. Until it has dealt with the snapshot its phase says so, also after a crash.
//! - Only the hot strand has events: what compaction moved happened before.

use super::Shard;
use super::relocation::Window;
use crate::device::Device;
use crate::draft::{Effect, version_of};
use crate::error::{Error, Result};
use crate::format::directory::{EntryKind, Listed};
use crate::format::record::{HEADER_SIZE, RecordHeader};
use crate::format::segment::Temperature;
use crate::format::settlement::{RecordPlace, Settlement, UsageChange};
use crate::format::upkeep::{CursorBody, Phase, Position, Scope};
use crate::ids::{BucketId, Lsn, NamespaceId, SegmentId, UploadId, VersionId};
use crate::limits::{BLOCK_SIZE, CONSUMER_NAME_LEN_MAX, CONSUMERS_MAX};
use crate::log::padded;

/// Something that happened in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When: the order of all changes of the shard.
    pub lsn: Lsn,
    /// Where.
    pub bucket: BucketId,
    /// Whose; `None` for [`Happened::Emptied`], which is sealed for nobody.
    pub namespace: Option<NamespaceId>,
    /// How it changed what the bucket holds. What [`Happened::Emptied`] took away is not told: all that was there.
    pub usage: UsageChange,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A version or delete marker became the current one.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The version.
        version: VersionId,
        /// Object or delete marker.
        kind: EntryKind,
        /// What a listing shows of it.
        listed: Listed,
    },
    /// A version was removed.
    Removed {
        /// The key.
        key: Vec<u8>,
        /// The version.
        version: VersionId,
    },
    /// All versions were removed; of a bucket that is gone the uploads too.
    Emptied {
        /// Whether the bucket is gone.
        is_gone: bool,
    },
    /// An upload began.
    UploadBegun {
        /// The key that it is for.
        key: Vec<u8>,
        /// The upload.
        upload: UploadId,
    },
    /// A part of an upload came.
    PartPut {
        /// The key that it is for.
        key: Vec<u8>,
        /// The upload.
        upload: UploadId,
        /// Its number.
        number: u16,
        /// Its bytes.
        size: u64,
    },
    /// An upload was given up.
    UploadAborted {
        /// The key that it was for.
        key: Vec<u8>,
        /// The upload.
        upload: UploadId,
    },
}

impl<D: Device> Shard<D> {
    /// Adds a consumer that sees everything from now on; one of that name that is there already stays where it is. Gives back its cursor.
    ///
    /// # Errors
    /// [`Error::Behind`] when it is there and fell behind.
    pub async fn add_consumer(&self, name: &str) -> Result<Lsn> {
        match self.consumer(name) {
            Ok(position) => return Ok(position.next),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        self.check_new_consumer(name)?;
        let now = self.state.borrow().next_lsn();
        self.write_cursor(name, Some(Position { next: now, phase: Phase::Following })).await?;
        Ok(now)
    }

    /// Lets a consumer, new or old, start over with what is there: gives back the LSN from which it reads events once it has dealt with all that
    /// [`Shard::existing`] shows after this. The log is kept for it from there on.
    pub async fn restart_consumer(&self, name: &str) -> Result<Lsn> {
        if self.consumer(name) == Err(Error::NotFound) {
            self.check_new_consumer(name)?;
        }
        let now = self.state.borrow().next_lsn();
        self.write_cursor(name, Some(Position { next: now, phase: Phase::Snapshot })).await?;
        Ok(now)
    }

    /// Where a consumer is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Behind`] when it must start over.
    pub fn consumer(&self, name: &str) -> Result<Position> {
        let position = self.state.borrow().cursors.get(name).copied().ok_or(Error::NotFound)?;
        if position.phase == Phase::Behind { Err(Error::Behind) } else { Ok(position) }
    }

    /// All consumers, and where they are.
    pub fn consumers(&self) -> Vec<(String, Position)> {
        self.state.borrow().cursors.iter().map(|(name, position)| (name.clone(), *position)).collect()
    }

    /// The consumer has dealt with everything below that LSN, and with the snapshot if it started over: it is not shown again. Cursors don't go back.
    ///
    /// This is a record of the log too: whoever advances without having seen an event always finds one record more.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Behind`] when it must start over.
    pub async fn advance_consumer(&self, name: &str, seen: Lsn) -> Result<()> {
        let position = self.consumer(name)?;
        let next = seen.min(self.state.borrow().next_lsn()).max(position.next);
        let there = Position { next, phase: Phase::Following };
        if there != position {
            self.write_cursor(name, Some(there)).await?;
        }
        // It may have fallen behind meanwhile.
        self.consumer(name).map(|_| ())
    }

    /// Removes a consumer: the log is not kept for it any more.
    pub async fn remove_consumer(&self, name: &str) -> Result<()> {
        if self.consumer(name) == Err(Error::NotFound) {
            return Err(Error::NotFound);
        }
        self.write_cursor(name, None).await
    }

    /// How many bytes of log are kept for each consumer at most. Not durable: a setting of the process. If it is never set, it is an eighth of the shard's share of
    /// the store, and at most [`crate::limits::CONSUMER_LOG_LEN_MAX`].
    pub fn set_consumer_log_len_max(&self, len_max: u64) {
        self.upkeep.set_consumer_log_len_max(len_max);
    }

    /// Bytes of log that are kept because a consumer's cursor is there, the open segment apart.
    pub(super) fn log_held_from(&self, next: Lsn) -> u64 {
        let hot = self.log.segments().into_iter().filter(|segment| segment.temperature == Temperature::Hot);
        let held = hot.map(|segment| segment.first_lsn).skip_while(|first| *first <= next).count();
        held as u64 * self.core.store.segment_size
    }

    fn check_new_consumer(&self, name: &str) -> Result<()> {
        if name.is_empty() || name.len() > CONSUMER_NAME_LEN_MAX {
            return Err(Error::TooLarge { what: "the name of a log consumer" });
        }
        if self.state.borrow().cursors.len() >= CONSUMERS_MAX {
            return Err(Error::TooLarge { what: "the number of log consumers" });
        }
        Ok(())
    }

    async fn write_cursor(&self, name: &str, position: Option<Position>) -> Result<()> {
        let cursor = CursorBody { name: name.to_owned(), position };
        self.commit_entered(self.core.draft_upkeep(BucketId(0), Effect::Cursor(cursor))?).await
    }

    /// Events of the log from that LSN on, at most `max` of them, and the LSN to go on from. Only what is durable is shown.
    ///
    /// # Errors
    /// [`Error::Behind`] when the log does not go back so far: it is not kept for whoever asks. [`Error::Corrupt`], [`Error::Io`].
    pub async fn events(&self, from: Lsn, max: usize) -> Result<(Vec<Event>, Lsn)> {
        let end = self.state.borrow().next_lsn();
        let mut events = Vec::new();
        let mut next = from;
        if from >= end {
            return Ok((events, end));
        }
        for (segment, first, stop) in self.hot_segments(from)? {
            let mut offset = BLOCK_SIZE as u64;
            let mut window = Window::default();
            let mut lsn_min = first;
            while events.len() < max && offset + (HEADER_SIZE as u64) <= self.core.store.segment_size {
                let found = self.record_at(segment, offset, &mut window).await?;
                let found = found.filter(|(header, _)| {
                    let lsn = header.position.lsn;
                    lsn >= lsn_min && lsn < end && stop.is_none_or(|stop| lsn < stop)
                });
                let Some((header, mut payload)) = found else {
                    if offset.is_multiple_of(BLOCK_SIZE as u64) {
                        break;
                    }
                    offset = offset.next_multiple_of(BLOCK_SIZE as u64);
                    continue;
                };
                offset += padded(header.record_len()) as u64;
                let lsn = header.position.lsn;
                lsn_min = Lsn(lsn.0 + 1);
                if lsn < from {
                    continue;
                }
                let place = RecordPlace { segment, offset: header.position.offset, len: 0 };
                events.extend(self.event(&header, &mut payload, &place)?);
                next = lsn_min;
            }
            // What was given back meanwhile reads as nothing.
            self.hot_segments(from)?;
            if events.len() >= max {
                return Ok((events, next));
            }
        }
        // What follows in the cold strand was no event.
        Ok((events, end))
    }

    /// Segments of the hot strand from that LSN on: each with its first LSN and that of the next.
    fn hot_segments(&self, from: Lsn) -> Result<Vec<(SegmentId, Lsn, Option<Lsn>)>> {
        let hot: Vec<_> = self
            .log
            .segments()
            .into_iter()
            .filter(|segment| segment.temperature == Temperature::Hot)
            .collect();
        let begin = hot.iter().rposition(|segment| segment.first_lsn <= from).ok_or(Error::Behind)?;
        let next = |i: usize| hot.get(i + 1).map(|next| next.first_lsn);
        Ok((begin..hot.len()).map(|i| (hot[i].id, hot[i].first_lsn, next(i))).collect())
    }

    fn event(&self, header: &RecordHeader, body: &mut [u8], place: &RecordPlace) -> Result<Option<Event>> {
        let corrupt = |what| Error::Corrupt { segment: place.segment, offset: u64::from(place.offset), what };
        let (payload, settlement) = body.split_at_mut(header.payload_len);
        self.core.open_record(header, payload).map_err(|_| corrupt("a record's seal does not match"))?;
        let effect =
            Effect::decode(header.identity.kind, payload).map_err(|malformed| corrupt(malformed.0))?;
        let lsn = header.position.lsn;
        let what = match effect {
            Effect::Version { key, kind, meta } => Happened::Put {
                version: version_of(meta.meta().numbering, lsn),
                listed: meta.as_ref().clone().entry(kind, lsn, place).listed,
                key: key.into(),
                kind,
            },
            Effect::Tombstone { key, version } => Happened::Removed { key: key.into(), version },
            Effect::RangeTombstone(scope) => Happened::Emptied { is_gone: scope == Scope::Bucket },
            Effect::Upload(body) => Happened::UploadBegun { key: body.key, upload: body.upload_id },
            Effect::Part(body) => Happened::PartPut {
                key: body.key,
                upload: body.upload_id,
                number: body.summary.number,
                size: body.summary.size,
            },
            Effect::UploadEnd { key, upload } => Happened::UploadAborted { key: key.into(), upload },
            _ => return Ok(None),
        };
        let usage = match settlement.is_empty() {
            true => UsageChange::default(),
            false => Settlement::decode(settlement).map_err(|malformed| corrupt(malformed.0))?.usage,
        };
        let is_emptied = matches!(what, Happened::Emptied { .. });
        let namespace = Some(header.identity.namespace).filter(|_| !is_emptied);
        Ok(Some(Event { lsn, bucket: header.identity.bucket, namespace, usage, what }))
    }
}
