//! One shard: what is on the devices for it, and whether its directory, index, usage and live bytes say the same.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::join_all;
use xxhash_rust::xxh3::xxh3_128;

use super::finding::{Fault, Finding, Severity, Stage};
use super::record::{self, Looked};
use super::report::Where;
use super::{Depth, Fsck, ReadOnly};
use crate::device::Device;
use crate::draft::{EntryMeta, entry_kind};
use crate::error::Result;
use crate::format::body::{Extent, PartBody, Piece, UploadBody, VersionBody};
use crate::format::checkpoint::{BucketImage, UploadImage};
use crate::format::directory::{
    Entry, EntryExtents, EntryKind, NULL_SLOT, extent_key, parse_extent_key, parse_version_key,
};
use crate::format::record::{RecordHeader, RecordKind};
use crate::format::settlement::RecordPlace;
use crate::ids::{BucketId, Lsn, SegmentId, ShardId, VersionId};
use crate::index::hash::Location;
use crate::limits::BLOCK_SIZE;
use crate::recovery;
use crate::shard::Books;

/// Records that are read at a time.
const READS: usize = 32;

/// A version of the directory.
struct Item {
    bucket: BucketId,
    key: Vec<u8>,
    entry: Entry,
    standing: Standing,
}

/// What a version is to its key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Current,
    Older,
    /// A range tombstone removed it, and nobody has reaped it.
    Dead,
}

/// What the versions of a shard come to.
struct Recount<D: Device> {
    shard: ShardId,
    books: Books<ReadOnly<D>>,
    floors: HashMap<BucketId, Lsn>,
    usage: BTreeMap<BucketId, BucketImage>,
    live: BTreeMap<SegmentId, u64>,
    /// By the hash of its key, each extent that the table of extents has to have.
    extents: HashMap<u128, (SegmentId, u32)>,
}

impl<D: Device> Fsck<'_, D> {
    /// Checks a shard; whether it opens.
    pub(super) async fn check_shard(&mut self, shard: ShardId) -> bool {
        self.check_checkpoint(shard).await;
        let mut log = Vec::new();
        let report = &mut self.report;
        let progress = |progress: recovery::Progress| {
            report.progress(Stage::Replay, Some(shard), progress.records, None);
        };
        let opened =
            recovery::open_watched(self.core.clone(), shard, progress, &mut |place| log.push(place)).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.is_complete = false;
                self.shard_error(Fault::Shard, shard, error);
                return false;
            }
        };
        self.check_log(shard, &log).await;
        let catalog = (shard == ShardId(0)).then(|| opened.catalog());
        if catalog.is_some() {
            self.catalog = catalog;
        }
        let books = opened.take_books();
        let floors = books.image.buckets.iter().map(|of| (of.bucket, of.floor)).collect();
        let mut recount = Recount {
            shard,
            books,
            floors,
            usage: BTreeMap::new(),
            live: BTreeMap::new(),
            extents: HashMap::new(),
        };
        if let Err(error) = self.check_versions(&mut recount).await {
            self.is_complete = false;
            self.shard_error(Fault::RunBlock, shard, error);
            return true;
        }
        if let Err(error) = self.check_extent_table(&mut recount).await {
            self.is_complete = false;
            self.shard_error(Fault::RunBlock, shard, error);
        }
        if let Err(error) = self.check_due(shard, &recount.books.directory.clone()).await {
            self.is_complete = false;
            self.shard_error(Fault::RunBlock, shard, error);
        }
        self.check_upload_usage(&recount);
        self.check_uploads(&mut recount).await;
        self.check_index(&recount);
        self.check_counts(recount);
        true
    }

    /// Records of the log after the checkpoint, on every copy.
    async fn check_log(&mut self, shard: ShardId, log: &[RecordPlace]) {
        let mut done = 0;
        for places in log.chunks(READS) {
            let looked = join_all(places.iter().map(|place| record::look_at(&self.core, place))).await;
            for (place, looked) in places.iter().zip(looked) {
                self.log.insert(place.segment);
                self.record_copies(shard, place, &looked, "a record of the log");
                done += 1;
                self.report.progress(Stage::Log, Some(shard), done, Some(log.len() as u64));
            }
        }
        self.report.summary.log_records += done;
    }

    fn record_copies(&mut self, shard: ShardId, place: &RecordPlace, looked: &Looked, of: &str) -> bool {
        let at = Where {
            fault: Fault::Record,
            shard: Some(shard),
            segment: place.segment,
            offset: place.offset.into(),
            of,
        };
        self.note_gone(place.segment);
        self.report.copies(at, &looked.copies)
    }

    // -- versions

    async fn check_versions(&mut self, recount: &mut Recount<D>) -> Result<()> {
        let directory = recount.books.directory.clone();
        let mut cursor = directory.cursor();
        let total = recount.books.index.len() as u64;
        let (mut items, mut held, mut done) = (Vec::new(), None::<Item>, 0);
        // The key whose newest version with an id was met.
        let mut met: Option<(BucketId, Vec<u8>)> = None;
        while let Some((place, value)) = cursor.next().await? {
            let Some((bucket, key, slot)) = parse_version_key(place) else { break };
            let entry = match Entry::decode(value) {
                Ok(entry) if entry.slot() == slot => entry,
                _ => {
                    let detail = format!("the entry of {} does not decode", show(&key));
                    self.shard_finding(Fault::Entry, recount.shard, &detail);
                    continue;
                }
            };
            let mut item = Item { bucket, key, entry, standing: standing_alone(slot) };
            if item.entry.order < recount.floor(bucket) {
                item.standing = Standing::Dead;
            }
            if slot == NULL_SLOT {
                items.extend(held.replace(item));
            } else {
                let of = (bucket, item.key.clone());
                if item.standing != Standing::Dead && met.as_ref() != Some(&of) {
                    met = Some(of);
                    item.standing = Standing::Current;
                    if let Some(null) =
                        held.as_mut().filter(|null| (null.bucket, &null.key) == (bucket, &item.key))
                        && null.standing == Standing::Current
                    {
                        let older = if null.entry.order > item.entry.order { &mut item } else { null };
                        older.standing = Standing::Older;
                    }
                }
                items.extend(held.take());
                items.push(item);
            }
            if items.len() >= READS {
                done += items.len() as u64;
                self.check_items(recount, std::mem::take(&mut items)).await;
                self.report.progress(Stage::Versions, Some(recount.shard), done, Some(total));
            }
        }
        items.extend(held);
        self.check_items(recount, items).await;
        Ok(())
    }

    async fn check_items(&mut self, recount: &mut Recount<D>, items: Vec<Item>) {
        let looked = join_all(items.iter().map(|item| record::look_at(&self.core, &item.entry.place))).await;
        for (item, looked) in items.iter().zip(looked) {
            self.report.summary.versions += 1;
            let of = format!("the record of {}", show(&item.key));
            self.record_copies(recount.shard, &item.entry.place, &looked, &of);
            let body = looked
                .record
                .and_then(|(header, payload)| self.check_entry(recount, item, &header, &payload));
            self.check_home(recount, item);
            self.check_index_has(recount, item);
            recount.count_version(item);
            let extents: Vec<Extent> = match (&body, &item.entry.extents) {
                (Some(body), _) => {
                    body.pieces.iter().flat_map(|piece| piece.extents.iter().copied()).collect()
                }
                (None, EntryExtents::Here(extents)) => extents.to_vec(),
                (None, EntryExtents::InRecord) => {
                    self.is_complete = false;
                    Vec::new()
                }
            };
            recount.count_record(&item.entry.place);
            recount.count_extents(&extents);
            for extent in &extents {
                self.check_extent(recount.shard, extent, &item.key);
                let key = extent_key(extent, item.bucket, &item.key, item.entry.slot());
                recount.extents.insert(xxh3_128(&key), (extent.segment, extent.block));
            }
            let pieces = body.map(|body| body.pieces).unwrap_or_default();
            self.check_data(recount.shard, &pieces, &item.key).await;
        }
    }

    /// Holds an entry against its record; gives back the record's body.
    fn check_entry(
        &mut self,
        recount: &Recount<D>,
        item: &Item,
        header: &RecordHeader,
        payload: &[u8],
    ) -> Option<VersionBody> {
        let kind = header.identity.kind;
        let fault = if !matches!(kind, RecordKind::Version | RecordKind::DeleteMarker) {
            "leads to a record that is no version"
        } else if header.identity.bucket != item.bucket || header.position.shard != recount.shard {
            "leads to a record of another bucket or shard"
        } else {
            match VersionBody::decode(payload) {
                Err(malformed) => malformed.0,
                Ok(body) if body.key != item.key => "leads to the record of another key",
                Ok(body) => {
                    let meta = EntryMeta::new(&body.meta, &body.pieces);
                    let entry = meta.entry(entry_kind(kind), header.order(), &item.entry.place);
                    if entry.encode() == item.entry.encode() {
                        return Some(body);
                    }
                    "differs from what its record says"
                }
            }
        };
        let finding =
            Finding::new(Fault::Entry, Severity::Lost, &format!("the entry of {} {fault}", show(&item.key)));
        let place = &item.entry.place;
        self.report.add(finding.shard(recount.shard).segment(place.segment).offset(place.offset.into()));
        None
    }

    /// A bucket's versions are in the shard that is its home.
    fn check_home(&mut self, recount: &Recount<D>, item: &Item) {
        let Some(catalog) = &self.catalog else { return };
        let home = catalog.buckets.values().find(|bucket| bucket.id == item.bucket).map(|bucket| bucket.home);
        if home.is_some_and(|home| home != recount.shard) {
            let detail = format!(
                "{} is a key of bucket {}, whose home is another shard",
                show(&item.key),
                item.bucket
            );
            self.shard_finding(Fault::Entry, recount.shard, &detail);
        }
    }

    /// Takes a version's entry out of the index: what is left at the end has no version.
    fn check_index_has(&mut self, recount: &mut Recount<D>, item: &Item) {
        let index = &mut recount.books.index;
        let by_key = index.hash(item.bucket, &item.key);
        let by_slot = index.hash_version(item.bucket, &item.key, item.entry.slot());
        let location = Location::from(&item.entry.place);
        let is_there = match item.standing {
            Standing::Current => index.remove(by_key, location),
            Standing::Older => index.remove(by_slot, location),
            // It stays where it was found when it was removed.
            Standing::Dead => index.remove(by_key, location) || index.remove(by_slot, location),
        };
        if !is_there {
            let detail = format!("does not find {} where its version belongs", show(&item.key));
            let finding = Finding::new(Fault::Index, Severity::Lost, &detail).shard(recount.shard);
            let place = &item.entry.place;
            self.report.add(finding.segment(place.segment).offset(place.offset.into()));
        }
    }

    fn check_index(&mut self, recount: &Recount<D>) {
        for (hash, location) in recount.books.index.iter() {
            let detail = format!("finds by {hash:#x} what no version has");
            let finding = Finding::new(Fault::Index, Severity::Lost, &detail).shard(recount.shard);
            let id = self.core.store.table.id_at(location.segment_index()).unwrap_or_default();
            self.report.add(finding.segment(id).offset(location.offset()));
        }
    }

    // -- bytes in bulk segments

    fn check_extent(&mut self, shard: ShardId, extent: &Extent, key: &[u8]) {
        self.note_gone(extent.segment);
        let blocks = self.core.store.segment_size / BLOCK_SIZE as u64;
        let end = u64::from(extent.block) + u64::from(extent.block_count);
        let detail = if self.core.store.table.places(extent.segment).is_none() {
            "lie in a segment that is not there"
        } else if extent.block == 0 || extent.block_count == 0 || end > blocks {
            "lie where no segment has them"
        } else {
            return;
        };
        let finding =
            Finding::new(Fault::Extent, Severity::Lost, &format!("bytes of {} {detail}", show(key)));
        self.report.add(finding.shard(shard).segment(extent.segment).offset(extent.offset()));
    }

    async fn check_data(&mut self, shard: ShardId, pieces: &[Piece], key: &[u8]) {
        if self.depth == Depth::Data {
            let of = show(key);
            for piece in pieces {
                self.check_piece(piece, Fault::Frame, Some(shard), &of).await;
            }
        }
    }

    async fn check_extent_table(&mut self, recount: &mut Recount<D>) -> Result<()> {
        let directory = recount.books.directory.clone();
        let mut cursor = directory.cursor();
        cursor.seek(&crate::format::directory::extent_prefix(SegmentId(0), 0));
        while let Some((place, _)) = cursor.next().await? {
            let parsed = parse_extent_key(place);
            let is_known = recount.extents.remove(&xxh3_128(place)).is_some();
            match parsed {
                Some(_) if is_known => {}
                Some((segment, block, (_, key, _))) => {
                    let detail =
                        format!("names {} as owner of bytes that its version does not have", show(&key));
                    self.extent_table_finding(recount.shard, segment, block, &detail);
                }
                // The tables of the due-time index follow, and are checked there.
                None => break,
            }
        }
        for (segment, block) in recount.extents.drain().map(|(_, at)| at).collect::<Vec<_>>() {
            self.extent_table_finding(recount.shard, segment, block, "does not have the bytes of a version");
        }
        Ok(())
    }

    fn extent_table_finding(&mut self, shard: ShardId, segment: SegmentId, block: u32, detail: &str) {
        let finding = Finding::new(Fault::ExtentTable, Severity::Lost, detail).shard(shard);
        self.report.add(finding.segment(segment).offset(u64::from(block) * BLOCK_SIZE as u64));
    }

    // -- uploads

    fn check_upload_usage(&mut self, recount: &Recount<D>) {
        for (bucket, usage) in &recount.books.usage {
            let uploads = || recount.books.image.uploads.iter().filter(|upload| upload.bucket == *bucket);
            let parts = uploads().flat_map(|upload| &upload.parts);
            let counted =
                (uploads().count() as u64, parts.map(|(_, _, part)| part.summary.size).sum::<u64>());
            let kept = (usage.uploads, usage.upload_bytes);
            if counted != kept {
                let detail =
                    format!("uploads of bucket {bucket} and their bytes: counted {counted:?}, kept {kept:?}");
                self.shard_finding(Fault::Usage, recount.shard, &detail);
            }
        }
    }

    async fn check_uploads(&mut self, recount: &mut Recount<D>) {
        for upload in std::mem::take(&mut recount.books.image.uploads) {
            self.report.summary.uploads += 1;
            recount.count_record(&upload.place);
            let says = |payload: &[u8]| UploadBody::decode(payload).as_ref() == Ok(&upload.body);
            self.check_upload_record(
                recount,
                &upload,
                RecordKind::Upload,
                (&upload.place, upload.order),
                says,
            )
            .await;
            for (place, order, part) in &upload.parts {
                recount.count_record(place);
                let says = |payload: &[u8]| PartBody::decode(payload).as_ref() == Ok(part);
                self.check_upload_record(recount, &upload, RecordKind::Part, (place, *order), says).await;
                for extent in part.pieces.iter().flat_map(|piece| &piece.extents) {
                    self.check_extent(recount.shard, extent, &part.key);
                    recount.count_extents(std::slice::from_ref(extent));
                }
                self.check_data(recount.shard, &part.pieces, &part.key).await;
            }
        }
    }

    async fn check_upload_record(
        &mut self,
        recount: &Recount<D>,
        upload: &UploadImage,
        kind: RecordKind,
        (place, order): (&RecordPlace, Lsn),
        says: impl Fn(&[u8]) -> bool,
    ) {
        let looked = record::look_at(&self.core, place).await;
        let of = format!("the record of an upload of {}, or of a part of it", show(&upload.body.key));
        self.record_copies(recount.shard, place, &looked, &of);
        let Some((header, payload)) = looked.record else { return };
        let identity = &header.identity;
        if (identity.kind, identity.bucket, header.order()) != (kind, upload.bucket, order) || !says(&payload)
        {
            let detail = format!("{of} says something else than the shard knows");
            let finding = Finding::new(Fault::Upload, Severity::Lost, &detail).shard(recount.shard);
            self.report.add(finding.segment(place.segment).offset(place.offset.into()));
        }
    }

    // -- counts

    fn check_counts(&mut self, recount: Recount<D>) {
        let shard = recount.shard;
        for kept in &recount.books.image.buckets {
            let counted = recount.usage.get(&kept.bucket).copied().unwrap_or_default();
            let counted = BucketImage { bucket: kept.bucket, floor: kept.floor, ..counted };
            if counted != *kept {
                self.shard_finding(Fault::Usage, shard, &format!("counted {counted:?}, kept {kept:?}"));
            }
        }
        let known = |bucket: &BucketId| recount.books.image.buckets.iter().any(|kept| kept.bucket == *bucket);
        for bucket in recount.usage.keys().filter(|bucket| !known(bucket)) {
            self.shard_finding(
                Fault::Usage,
                shard,
                &format!("nothing is kept of bucket {bucket}, which has versions"),
            );
        }
        if !self.is_complete {
            return;
        }
        let kept: BTreeMap<SegmentId, u64> =
            recount.books.image.liveness.iter().map(|of| (of.segment, of.live)).collect();
        let mut segments: Vec<SegmentId> = kept.keys().chain(recount.live.keys()).copied().collect();
        segments.sort_unstable();
        segments.dedup();
        for segment in segments {
            let of = |counts: &BTreeMap<SegmentId, u64>| counts.get(&segment).copied().unwrap_or(0);
            if of(&kept) != of(&recount.live) {
                let detail = format!(
                    "{} live bytes of the shard counted, {} kept account of",
                    of(&recount.live),
                    of(&kept)
                );
                let finding = Finding::new(Fault::Live, Severity::Lost, &detail);
                self.report.add(finding.shard(shard).segment(segment));
            }
        }
        recount.live.iter().for_each(|(segment, len)| self.count_live(*segment, *len));
    }
}

impl<D: Device> Recount<D> {
    fn floor(&self, bucket: BucketId) -> Lsn {
        self.floors.get(&bucket).copied().unwrap_or(Lsn(0))
    }

    fn count_version(&mut self, item: &Item) {
        if item.standing == Standing::Dead {
            return;
        }
        let of = self.usage.entry(item.bucket).or_default();
        of.versions += 1;
        of.bytes += item.entry.listed.size;
        of.numbered += u64::from(item.entry.version() != VersionId::Null);
        of.objects += u64::from(item.standing == Standing::Current && item.entry.kind == EntryKind::Object);
    }

    fn count_record(&mut self, place: &RecordPlace) {
        *self.live.entry(place.segment).or_default() += u64::from(place.len);
    }

    fn count_extents(&mut self, extents: &[Extent]) {
        for extent in extents {
            *self.live.entry(extent.segment).or_default() += extent.disk_len();
        }
    }
}

/// What a version is before its neighbours are known: the `null` version comes first and is current unless a newer one follows.
fn standing_alone(slot: u64) -> Standing {
    if slot == NULL_SLOT { Standing::Current } else { Standing::Older }
}

/// A key for people.
fn show(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}
