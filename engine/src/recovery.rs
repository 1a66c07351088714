//! Opening a shard after any shutdown: its log is read from the start and applied, up to the first record that does not verify.
//!
//! What is trusted, and why:
//! - A record counts when header and payload verify, it says it lies where it was found, its LSN is the next one, and it belongs to the current session
//!   (or begins the next one). Bytes of an abandoned tail or of an earlier life of the slot fail one of these.
//! - When one copy of a record does not verify or can't be read, the others are asked. Only when none has it, and one of them could be read, the log ends
//!   there: what was acknowledged is on all copies. Where no copy that is there can be read, nothing is decided.
//! - A log that ends inside a segment that is followed by another one has lost acknowledged records: that is an error, not an end.
//! - The end of the last segment may have reached some copies and not others; it is made the same on all before anything is appended. When a copy is not
//!   there, the log goes on in another segment, whose header says so, and the copies are made the same once they are all there.

use std::rc::Rc;

use crate::core::Core;
use crate::device::{AlignedBuffer, Device};
use crate::draft::Effect;
use crate::error::{Error, Result};
use crate::format::catalog::CatalogChange;
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::format::segment::{Place, Predecessor, SegmentHeader};
use crate::ids::{Lsn, ShardId};
use crate::limits::{BATCH_LEN_MAX, BLOCK_SIZE, RECORD_ALIGN, RECORD_LEN_MAX};
use crate::log::{Resume, Tail, padded, record_place};
use crate::object::Unopened;
use crate::shard::{Shard, State};

/// Bytes that one read of the log fetches.
const WINDOW_LEN: usize = 1024 * 1024;

/// How much of the log's end is made the same on all copies: more than one batch can be.
const HEAL_LEN: usize = RECORD_LEN_MAX + BATCH_LEN_MAX;

/// How far a replay is, for those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Segments of the log read.
    pub segments_done: usize,
    /// Segments of the log.
    pub segments: usize,
    /// Records applied.
    pub records: u64,
}

/// Opens a shard: replays its log. Shard 0 comes first, since the others need the keys in its catalog. The shard's session begins with its first write,
/// which must wait for the end of recovery ([`crate::segment::table::SegmentTable::finish_recovery`]): before, no space is known to be free.
///
/// A store that takes no writes (a device is missing) opens all the same, for reading.
///
/// # Errors
/// [`Error::Corrupt`] when acknowledged records are lost, [`Error::Key`], [`Error::Io`].
pub async fn open_shard<D: Device>(
    core: Rc<Core<D>>,
    id: ShardId,
    mut progress: impl FnMut(Progress),
) -> Result<Rc<Shard<D>>> {
    let mut replay = Replay {
        state: State::new(core.new_number()),
        core: core.clone(),
        shard: id,
        next_lsn: Lsn(1),
        session: None,
        records: 0,
        image: Image::default(),
    };
    let segments = core.store.commit_segments(id);
    let mut tail = None;
    for (i, header) in segments.iter().enumerate() {
        if header.sequence != i as u64 {
            return Err(lost(header, "a segment of the log is missing before this one"));
        }
        let next = segments.get(i + 1);
        let offset = replay.segment(header, next.map(|next| next.first_lsn)).await?;
        if next.is_some_and(|next| next.predecessor == Predecessor::Unsettled) {
            replay.heal(header).await?;
        }
        if next.is_some_and(|next| next.first_lsn != replay.next_lsn) {
            return Err(Error::Corrupt {
                segment: header.id,
                offset,
                what: "the log breaks off before its next segment: acknowledged records are lost",
            });
        }
        tail = Some((header, offset));
        progress(Progress { segments_done: i + 1, segments: segments.len(), records: replay.records });
    }
    let resumed = match tail {
        Some((header, offset)) if replay.heal(header).await? => Some(Tail {
            segment: header.id,
            places: header.places.clone(),
            offset: offset.next_multiple_of(BLOCK_SIZE as u64),
        }),
        _ => None,
    };
    let resume = Resume {
        predecessor: if tail.is_some() && resumed.is_none() {
            Predecessor::Unsettled
        } else {
            Predecessor::Settled
        },
        tail: resumed,
        next_lsn: replay.next_lsn,
        next_sequence: segments.len() as u64,
    };
    Shard::new(core, id, replay.state, resume)
}

fn lost(header: &SegmentHeader, what: &'static str) -> Error {
    Error::Corrupt { segment: header.id, offset: 0, what }
}

struct Replay<D: Device> {
    core: Rc<Core<D>>,
    shard: ShardId,
    state: State,
    next_lsn: Lsn,
    session: Option<u64>,
    records: u64,
    image: Image,
}

/// The last accepted bytes of the segment being replayed, as they lie on disk.
#[derive(Default)]
struct Image {
    begin: u64,
    bytes: Vec<u8>,
}

/// A stretch of one copy of a segment, as read.
struct Window {
    place: Place,
    begin: u64,
    bytes: AlignedBuffer,
}

/// What lies at a position of one copy.
enum Found {
    /// A record that may count: header, and the payload as it lies on disk.
    Record(RecordHeader, Vec<u8>),
    /// Zeroes: the rest of a batch's last block.
    Padding,
    /// Nothing that verifies.
    Nothing,
    /// The copy can't be read there.
    Unreadable(Error),
}

impl<D: Device> Replay<D> {
    /// Applies the records of one segment up to `stop`; gives back where the next batch would begin.
    async fn segment(&mut self, header: &SegmentHeader, stop: Option<Lsn>) -> Result<u64> {
        self.image = Image { begin: BLOCK_SIZE as u64, bytes: Vec::new() };
        let mut windows: Vec<Window> = Vec::new();
        for place in self.core.places_to_read(header.id, 0) {
            windows.push(Window { place, begin: 0, bytes: AlignedBuffer::zeroed(0) });
        }
        let mut offset = BLOCK_SIZE as u64;
        while offset + (HEADER_SIZE as u64) <= self.core.store.segment_size {
            match self.find(header, &mut windows, offset).await? {
                Found::Record(record, payload) if stop.is_none_or(|stop| record.position.lsn < stop) => {
                    self.image.accept(offset, &record, &payload);
                    offset += padded(record.record_len()) as u64;
                    self.apply(header, record, payload)?;
                }
                Found::Record(..) => break,
                _ if offset.is_multiple_of(BLOCK_SIZE as u64) => break,
                // The batch ends inside this block; the next begins with the next block.
                _ => offset = offset.next_multiple_of(BLOCK_SIZE as u64),
            }
        }
        Ok(offset)
    }

    /// The next record at that position, from the first copy that has it. The copy that had the last record is asked first.
    async fn find(&self, header: &SegmentHeader, windows: &mut [Window], offset: u64) -> Result<Found> {
        let mut unreadable = None;
        let mut end = None;
        for i in 0..windows.len() {
            match self.find_in(header, &mut windows[i], offset).await {
                Found::Unreadable(error) => unreadable = Some(error),
                Found::Nothing => end = Some(Found::Nothing),
                // Padding at the beginning of a block is the end of this copy; another may go on.
                Found::Padding if offset.is_multiple_of(BLOCK_SIZE as u64) => end = Some(Found::Nothing),
                found => {
                    windows.swap(0, i);
                    return Ok(found);
                }
            }
            self.core.counters.copies_skipped.add(u64::from(i + 1 < windows.len()));
        }
        match (end, unreadable) {
            (Some(end), _) => Ok(end),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Found::Nothing),
        }
    }

    async fn find_in(&self, header: &SegmentHeader, window: &mut Window, offset: u64) -> Found {
        let bytes = match self.window(window, offset, HEADER_SIZE).await {
            Ok(bytes) => bytes,
            Err(error) => return Found::Unreadable(error),
        };
        if bytes[..RECORD_ALIGN].iter().all(|byte| *byte == 0) {
            return Found::Padding;
        }
        let Some(record) = RecordHeader::decode(bytes) else { return Found::Nothing };
        let belongs = record.position.segment == header.id
            && u64::from(record.position.offset) == offset
            && record.position.shard == self.shard
            && record.position.lsn == self.next_lsn
            && (self.session.is_none_or(|session| session == record.position.session)
                || record.identity.kind == RecordKind::Open);
        if !belongs || offset + record.record_len() as u64 > self.core.store.segment_size {
            return Found::Nothing;
        }
        let bytes = match self.window(window, offset, record.record_len()).await {
            Ok(bytes) => bytes,
            Err(error) => return Found::Unreadable(error),
        };
        let payload = &bytes[HEADER_SIZE..record.record_len()];
        if record.matches_payload(payload) { Found::Record(record, payload.to_vec()) } else { Found::Nothing }
    }

    /// At least `len` bytes of a copy from `offset`, reading ahead. Where reading ahead fails, only what is needed is read: an unreadable block hides no others.
    async fn window<'a>(&self, window: &'a mut Window, offset: u64, len: usize) -> Result<&'a [u8]> {
        let is_there =
            offset >= window.begin && offset + len as u64 <= window.begin + window.bytes.len() as u64;
        if !is_there {
            let begin = offset / BLOCK_SIZE as u64 * BLOCK_SIZE as u64;
            let needed = ((offset - begin) as usize + len).next_multiple_of(BLOCK_SIZE);
            let ahead = needed.max(WINDOW_LEN).min((self.core.store.segment_size - begin) as usize);
            let (mut result, mut bytes) =
                self.core.read_copy(window.place, begin, AlignedBuffer::zeroed(ahead)).await;
            if result.is_err() && ahead > needed {
                (result, bytes) =
                    self.core.read_copy(window.place, begin, AlignedBuffer::zeroed(needed)).await;
            }
            result?;
            window.begin = begin;
            window.bytes = bytes;
        }
        Ok(&window.bytes[(offset - window.begin) as usize..])
    }

    fn apply(&mut self, header: &SegmentHeader, record: RecordHeader, mut payload: Vec<u8>) -> Result<()> {
        let corrupt =
            |what| Error::Corrupt { segment: header.id, offset: u64::from(record.position.offset), what };
        self.core.open_record(&record, &mut payload).map_err(|unopened| match unopened {
            Unopened::Seal => corrupt("a record's seal does not match, though its checksum does"),
            Unopened::Key(error) => error,
        })?;
        let effect =
            Effect::decode(record.identity.kind, &payload).map_err(|malformed| corrupt(malformed.0))?;
        if let Effect::Catalog(change) = &effect
            && let CatalogChange::PutNamespace(namespace) = change.as_ref()
        {
            self.core.store.keyring.add_namespace(namespace)?;
        }
        let place = record_place(header.id, record.position.offset, record.record_len());
        let (lsn, bucket) = (record.position.lsn, record.identity.bucket);
        self.state.apply(&self.core.store.table, lsn, bucket, &effect, &place);
        self.session = Some(record.position.session);
        self.next_lsn = Lsn(lsn.0 + 1);
        self.records += 1;
        Ok(())
    }

    /// Makes the end of the segment that was just replayed the same on all its copies; whether all of them take writes, so that it could be done.
    async fn heal(&mut self, header: &SegmentHeader) -> Result<bool> {
        let places = &header.places;
        if !self.core.store.table.takes_writes(places) {
            return Ok(false);
        }
        self.core.write_header(header).await?;
        let image = std::mem::take(&mut self.image);
        let len = image.bytes.len().next_multiple_of(BLOCK_SIZE);
        if len > 0 {
            let mut accepted = AlignedBuffer::zeroed(len);
            accepted[..image.bytes.len()].copy_from_slice(&image.bytes);
            let accepted = Rc::new(accepted);
            for place in places {
                let (result, found) =
                    self.core.read_copy(*place, image.begin, AlignedBuffer::zeroed(len)).await;
                if result.is_err() || found[..] != accepted[..] {
                    self.core.write_copies(&[*place], image.begin, accepted.clone()).await?;
                }
            }
            self.core.flush(places.iter().map(|place| place.device)).await?;
        }
        Ok(true)
    }
}

impl Image {
    fn accept(&mut self, offset: u64, record: &RecordHeader, payload: &[u8]) {
        use zerocopy::IntoBytes;
        // Padding between records and batches is zeroes.
        self.bytes.resize((offset - self.begin) as usize, 0);
        self.bytes.extend_from_slice(record.encode().as_bytes());
        self.bytes.extend_from_slice(payload);
        if self.bytes.len() > 2 * HEAL_LEN {
            let dropped = (self.bytes.len() - HEAL_LEN) / BLOCK_SIZE * BLOCK_SIZE;
            self.bytes.drain(..dropped);
            self.begin += dropped as u64;
        }
    }
}
