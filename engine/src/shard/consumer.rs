//! Consumers of the log: whoever follows what happens in a shard's buckets reads the log itself, from a durable cursor, and never walks the keys.
//!
//! - Each has a name and a cursor: the first LSN that it has not seen. The cursor is a record in the log and in every checkpoint.
//! - Events come in LSN order, so those of a bucket in the order in which they happened. After a crash a consumer sees again what it saw after its last
//!   [`Shard::advance_consumer`]: at least once, none left out.
//! - The log is kept from the slowest cursor on. A consumer that is not coming back must be removed, or it holds the log, and its space, for ever.
//! - Only the hot strand has events: what compaction moved happened before.

use super::Shard;
use super::relocation::Window;
use crate::device::Device;
use crate::draft::{Effect, version_of};
use crate::error::{Error, Result};
use crate::format::directory::{EntryKind, Listed};
use crate::format::record::HEADER_SIZE;
use crate::format::segment::Temperature;
use crate::format::settlement::RecordPlace;
use crate::format::upkeep::{CursorBody, Scope};
use crate::ids::{BucketId, Lsn, SegmentId, UploadId, VersionId};
use crate::limits::BLOCK_SIZE;
use crate::log::padded;

/// Something that happened in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When: the order of all changes of the shard.
    pub lsn: Lsn,
    /// Where.
    pub bucket: BucketId,
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
    pub async fn add_consumer(&self, name: &str) -> Result<Lsn> {
        if let Some(cursor) = self.consumer(name) {
            return Ok(cursor);
        }
        if name.is_empty() || name.len() > usize::from(u16::MAX) {
            return Err(Error::TooLarge { what: "the name of a log consumer" });
        }
        let now = self.state.borrow().next_lsn();
        self.write_cursor(name, Some(now)).await?;
        Ok(now)
    }

    /// The cursor of a consumer: the first LSN that it has not seen.
    pub fn consumer(&self, name: &str) -> Option<Lsn> {
        self.state.borrow().cursors.get(name).copied()
    }

    /// All consumers and their cursors.
    pub fn consumers(&self) -> Vec<(String, Lsn)> {
        self.state.borrow().cursors.iter().map(|(name, lsn)| (name.clone(), *lsn)).collect()
    }

    /// The consumer has dealt with everything below that LSN: it is not shown again. Cursors don't go back.
    pub async fn advance_consumer(&self, name: &str, seen: Lsn) -> Result<()> {
        let cursor = self.consumer(name).ok_or(Error::NotFound)?;
        let seen = seen.min(self.state.borrow().next_lsn());
        if seen <= cursor { Ok(()) } else { self.write_cursor(name, Some(seen)).await }
    }

    /// Removes a consumer: the log is not kept for it any more.
    pub async fn remove_consumer(&self, name: &str) -> Result<()> {
        if self.consumer(name).is_none() {
            return Err(Error::NotFound);
        }
        self.write_cursor(name, None).await
    }

    async fn write_cursor(&self, name: &str, lsn: Option<Lsn>) -> Result<()> {
        let cursor = CursorBody { name: name.to_owned(), lsn };
        self.commit_entered(self.core.draft_upkeep(BucketId(0), Effect::Cursor(cursor))?).await
    }

    /// Events of the log from that LSN on, at most `max` of them, and the LSN to go on from. Only what is durable is shown.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the log does not go back so far: no cursor holds it there. [`Error::Corrupt`], [`Error::Io`].
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
                payload.truncate(header.payload_len);
                let place = RecordPlace { segment, offset: header.position.offset, len: 0 };
                events.extend(self.event(&header, &mut payload, &place)?);
                next = lsn_min;
            }
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
        let begin = hot.iter().rposition(|segment| segment.first_lsn <= from).ok_or(Error::NotFound)?;
        let next = |i: usize| hot.get(i + 1).map(|next| next.first_lsn);
        Ok((begin..hot.len()).map(|i| (hot[i].id, hot[i].first_lsn, next(i))).collect())
    }

    fn event(
        &self,
        header: &crate::format::record::RecordHeader,
        payload: &mut [u8],
        place: &RecordPlace,
    ) -> Result<Option<Event>> {
        let corrupt = |what| Error::Corrupt { segment: place.segment, offset: u64::from(place.offset), what };
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
            Effect::UploadEnd { key, upload } => Happened::UploadAborted { key: key.into(), upload },
            _ => return Ok(None),
        };
        Ok(Some(Event { lsn, bucket: header.identity.bucket, what }))
    }
}
