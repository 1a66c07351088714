//! The newest checkpoint of a shard: found by a pointer or by a walk through the log, read, and made the state.

use std::rc::Rc;

use super::windows::{Found, Windows};
use super::{Progress, Stage};
use crate::core::Core;
use crate::crypto::Sealing;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::body::Extent;
use crate::format::catalog::CatalogChange;
use crate::format::checkpoint::{CheckpointBody, Image as CheckpointImage, Pointer};
use crate::format::record::{HEADER_SIZE, RecordHeader, RecordKind};
use crate::format::run::RunDescriptor;
use crate::format::segment::{SegmentHeader, Temperature};
use crate::format::settlement::RecordPlace;
use crate::ids::{Lsn, SegmentId, ShardId};
use crate::index::hash::Location;
use crate::index::lsm::Lsm;
use crate::limits::{BLOCK_SIZE, RECORD_ALIGN};
use crate::log::{padded, record_place};
use crate::reader::ObjectReader;
use crate::shard::{Desk, State, add_live};

/// A checkpoint that was found, and what it holds.
pub(super) struct Restored<D: Device> {
    pub(super) state: State<D>,
    /// Where replay goes on; `None` to begin with the log.
    pub(super) record: Option<CheckpointBody>,
    pub(super) desk: Desk,
}

pub(super) async fn restore<D: Device>(
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
