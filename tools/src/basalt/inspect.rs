//! `basalt inspect`: shows what is on devices.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use engine::device::UringDevice;
use engine::format::directory::{Entry, parse_extent_key, parse_version_key};
use engine::format::record::{RecordHeader, RecordKind};
use engine::format::run::RunDescriptor;
use engine::format::superblock::{COPY_OFFSETS, Verdict};
use engine::ids::{SegmentId, ShardId};
use engine::inspect::{Headers, Opened, Slot};
use serde_json::{Value, json};

use super::{Devices, Failure, key, open, print};

const EXAMPLES: &str = "\
Without --key-file it shows headers; with it, also what is sealed: names of buckets and keys among them.

Examples:
  basalt inspect superblock --device basalt-data/device-0.basalt
  basalt inspect segments --device device-0.basalt device-1.basalt
  basalt inspect record 0x1000000001:4096 --device device-0.basalt device-1.basalt --key-file key
  basalt inspect run 3 --shard 0 --device device-0.basalt device-1.basalt --key-file key --json";

/// Options of `basalt inspect`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Args)]
struct Source {
    #[command(flatten)]
    devices: Devices,
    /// The node's key file: without it, only headers are shown
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
    /// One JSON object for each line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Both copies of the superblock of each device
    Superblock(Source),
    /// The header of every slot that has one, those of freed segments included
    Segments(Source),
    /// The headers of one segment, on every device
    Segment {
        /// Its id, as `segments` shows it
        id: String,
        #[command(flatten)]
        source: Source,
    },
    /// A record, on every copy
    Record {
        /// Segment and byte offset in it
        #[arg(value_name = "SEGMENT:OFFSET")]
        place: String,
        #[command(flatten)]
        source: Source,
    },
    /// Pointers to checkpoints; with the key, what the checkpoints hold
    Checkpoint(Source),
    /// The runs of the directories (needs the key)
    Runs(Source),
    /// What a run of a directory holds (needs the key)
    Run {
        /// Its id, as `runs` shows it
        id: u64,
        /// The shard whose run it is
        #[arg(long, default_value_t = 0, value_name = "N")]
        shard: u16,
        #[command(flatten)]
        source: Source,
    },
}

/// Shows it.
///
/// # Errors
/// When it cannot be read, or is not there.
pub fn run(options: &Options) -> Result<(), Failure> {
    let (What::Superblock(source)
    | What::Segments(source)
    | What::Segment { source, .. }
    | What::Record { source, .. }
    | What::Checkpoint(source)
    | What::Runs(source)
    | What::Run { source, .. }) = &options.what;
    let files = open::open(&source.devices)?;
    open::runtime()?.block_on(async {
        let devices = open::attach(&files)?;
        match &options.what {
            What::Superblock(_) => superblocks(source, &Headers::read(&devices).await?),
            What::Segments(_) => segments(source, &Headers::read(&devices).await?, None).await,
            What::Segment { id, .. } => {
                segments(source, &Headers::read(&devices).await?, Some(parse_segment(id)?)).await
            }
            What::Record { place, .. } => record(source, devices, parse_place(place)?).await,
            What::Checkpoint(_) => checkpoints(source, devices).await,
            What::Runs(_) => runs(source, devices).await,
            What::Run { id, shard, .. } => run_entries(source, devices, *id, ShardId(*shard)).await,
        }
    })
}

fn superblocks(source: &Source, headers: &Headers<'_, UringDevice>) -> Result<(), Failure> {
    for (path, copies) in source.devices.paths.iter().zip(headers.superblocks()) {
        for (offset, verdict) in COPY_OFFSETS.iter().zip(copies) {
            let mut fields = vec![("device", json!(path.display().to_string())), ("offset", json!(offset))];
            match verdict {
                Verdict::Empty => fields.push(("verdict", json!("none"))),
                Verdict::Unreadable(what) => fields.push(("verdict", json!(what))),
                Verdict::Present(of) => fields.extend([
                    ("verdict", json!("good")),
                    ("sequence", json!(of.sequence)),
                    ("store", json!(of.store_id.to_string())),
                    ("index", json!(of.device_index.0)),
                    ("devices", json!(of.device_ids.len())),
                    ("id", json!(of.device_id.to_string())),
                    ("created_ms", json!(of.created_ms)),
                    ("capacity", json!(of.capacity)),
                    ("copies", json!(of.copies)),
                    ("shards", json!(of.shard_count)),
                    ("inline_max", json!(of.inline_max)),
                    ("checkpoint_size", json!(of.checkpoint_size)),
                    ("segment_offset", json!(of.segment_offset)),
                    ("segment_size", json!(of.segment_size)),
                    ("slots", json!(of.slot_count)),
                    ("tier", json!(format!("{:?}", of.tier).to_lowercase())),
                ]),
            }
            show(source, fields);
        }
    }
    Ok(())
}

async fn segments(
    source: &Source,
    headers: &Headers<'_, UringDevice>,
    wanted: Option<SegmentId>,
) -> Result<(), Failure> {
    let mut is_any = false;
    for slot in headers.slots().await? {
        if wanted.is_none_or(|wanted| wanted == slot.header.id) {
            is_any = true;
            show(source, slot_fields(source, &slot));
        }
    }
    match wanted {
        Some(id) if !is_any => {
            Err(Failure(format!("no slot has a header of segment {:#x}; `segments` lists them", id.0)))
        }
        _ => Ok(()),
    }
}

fn slot_fields(source: &Source, slot: &Slot) -> Vec<(&'static str, Value)> {
    let header = &slot.header;
    let places: Vec<String> =
        header.places.iter().map(|place| format!("{}/{}", place.device, place.slot)).collect();
    vec![
        ("segment", json!(format!("{:#x}", header.id.0))),
        ("device", json!(source.devices.paths[slot.source].display().to_string())),
        ("slot", json!(slot.place.slot)),
        ("kind", json!(format!("{:?}", header.kind).to_lowercase())),
        ("temperature", json!(format!("{:?}", header.temperature).to_lowercase())),
        ("stream", json!(header.stream)),
        ("sequence", json!(header.sequence)),
        ("first_lsn", json!(header.first_lsn.0)),
        ("predecessor", json!(format!("{:?}", header.predecessor).to_lowercase())),
        ("places", json!(places)),
    ]
}

async fn record(
    source: &Source,
    devices: Vec<UringDevice>,
    (segment, offset): (SegmentId, u32),
) -> Result<(), Failure> {
    if source.key_file.is_none() {
        let headers = Headers::read(&devices).await?;
        let copies = headers.record(segment, offset.into()).await?;
        if copies.is_empty() {
            return Err(Failure(format!("no slot has a header of segment {:#x}", segment.0)));
        }
        for (slot, header) in copies {
            let mut fields =
                place_fields(&source.devices.paths[slot.source].display().to_string(), slot.place.slot);
            match header {
                Some(header) => fields.extend(header_fields(&header)),
                None => fields.push(("verdict", json!("its header does not verify"))),
            }
            show(source, fields);
        }
        return Ok(());
    }
    let opened = opened(source, devices).await?;
    let copies = opened.record(segment, offset).await.map_err(|error| match error {
        engine::Error::NotFound => Failure(format!("there is no segment {:#x}", segment.0)),
        other => other.into(),
    })?;
    for copy in copies {
        let mut fields = place_fields(&format!("device {}", copy.place.device), copy.place.slot);
        match copy.record {
            Ok((header, payload)) => {
                fields.extend(header_fields(&header));
                fields.push(("payload", json!(show_payload(header.identity.kind, &payload))));
            }
            Err(what) => fields.push(("verdict", json!(what))),
        }
        show(source, fields);
    }
    Ok(())
}

fn place_fields(device: &str, slot: u32) -> Vec<(&'static str, Value)> {
    vec![("device", json!(device)), ("slot", json!(slot))]
}

fn header_fields(header: &RecordHeader) -> Vec<(&'static str, Value)> {
    vec![
        ("kind", json!(format!("{:?}", header.identity.kind))),
        ("shard", json!(header.position.shard.0)),
        ("lsn", json!(header.position.lsn.0)),
        ("order", json!(header.order().0)),
        ("session", json!(format!("{:#x}", header.position.session))),
        ("bucket", json!(header.identity.bucket.0)),
        ("namespace", json!(header.identity.namespace.0)),
        ("key_version", json!(header.identity.key_version.0)),
        ("object", json!(header.identity.object_id.to_string())),
        ("payload_len", json!(header.payload_len)),
        ("settlement_len", json!(header.settlement_len)),
    ]
}

/// What a payload says. The bytes of small objects and secrets are not shown.
fn show_payload(kind: RecordKind, payload: &[u8]) -> String {
    use engine::format::body::{PartBody, TombstoneBody, UploadBody, UploadEndBody, VersionBody};
    use engine::format::catalog::CatalogChange;
    use engine::format::checkpoint::CheckpointBody;
    use engine::format::due::DueBody;
    use engine::format::upkeep::{CursorBody, ReapBody, Scope};
    fn text<T: std::fmt::Debug>(decoded: Result<T, engine::format::Malformed>) -> String {
        decoded
            .map_or_else(|malformed| format!("does not decode: {}", malformed.0), |body| format!("{body:?}"))
    }
    match kind {
        RecordKind::Open => String::new(),
        RecordKind::Version | RecordKind::DeleteMarker => text(VersionBody::decode(payload).map(|body| {
            let key = body.key.escape_ascii().to_string();
            (key, body.meta, body.pieces, body.inline.len())
        })),
        RecordKind::Tombstone => text(TombstoneBody::decode(payload)),
        RecordKind::RangeTombstone => text(Scope::decode(payload)),
        RecordKind::Upload => text(UploadBody::decode(payload)),
        RecordKind::Part => text(PartBody::decode(payload)),
        RecordKind::UploadEnd => text(UploadEndBody::decode(payload)),
        RecordKind::Catalog => text(CatalogChange::decode(payload)),
        RecordKind::Checkpoint => text(CheckpointBody::decode(payload)),
        RecordKind::Reap => text(ReapBody::decode(payload)),
        RecordKind::Cursor => text(CursorBody::decode(payload)),
        RecordKind::Due => text(DueBody::decode(payload)),
    }
}

async fn checkpoints(source: &Source, devices: Vec<UringDevice>) -> Result<(), Failure> {
    let headers = Headers::read(&devices).await?;
    for (of, shard, pointers) in headers.pointers().await? {
        for (turn, pointer) in pointers.iter().enumerate() {
            let mut fields = vec![
                ("shard", json!(shard.0)),
                ("device", json!(source.devices.paths[of].display().to_string())),
                ("turn", json!(turn)),
            ];
            if let Some(pointer) = pointer {
                let place = &pointer.place;
                fields.push(("lsn", json!(pointer.lsn.0)));
                fields.push(("record", json!(format!("{:#x}:{}", place.segment.0, place.offset))));
                fields.push(("record_len", json!(place.len)));
            }
            show(source, fields);
        }
    }
    if source.key_file.is_none() {
        return Ok(());
    }
    let opened = opened(source, devices).await?;
    for shard in (0..opened.shard_count()).map(ShardId) {
        let Some(of) = opened.checkpoint(shard).await? else { continue };
        let (record, image) = (&of.record, &of.image);
        show(
            source,
            vec![
                ("shard", json!(shard.0)),
                ("checkpoint_lsn", json!(of.pointer.lsn.0)),
                ("next_lsn", json!(record.next_lsn.0)),
                ("next_sequence", json!(record.next_sequence)),
                ("body_len", json!(record.body.len)),
                ("catalog_entries", json!(image.catalog.len())),
                ("runs", json!(image.runs.len())),
                ("buckets", json!(image.buckets.len())),
                ("segments", json!(image.liveness.len())),
                ("live_bytes", json!(image.liveness.iter().map(|of| of.live).sum::<u64>())),
                ("uploads", json!(image.uploads.len())),
                ("consumers", json!(image.cursors.len())),
            ],
        );
        for bucket in &image.buckets {
            show(
                source,
                vec![
                    ("shard", json!(shard.0)),
                    ("bucket", json!(bucket.bucket.0)),
                    ("objects", json!(bucket.objects)),
                    ("versions", json!(bucket.versions)),
                    ("bytes", json!(bucket.bytes)),
                    ("floor", json!(bucket.floor.0)),
                ],
            );
        }
    }
    Ok(())
}

async fn runs(source: &Source, devices: Vec<UringDevice>) -> Result<(), Failure> {
    let opened = opened(source, devices).await?;
    for shard in (0..opened.shard_count()).map(ShardId) {
        for run in runs_of(&opened, shard).await? {
            let extents: Vec<String> = run
                .extents
                .iter()
                .map(|of| format!("{:#x}:{}+{}", of.segment.0, of.offset(), of.disk_len()))
                .collect();
            show(
                source,
                vec![
                    ("shard", json!(shard.0)),
                    ("run", json!(run.id)),
                    ("entries", json!(run.entry_count)),
                    ("removals", json!(run.removal_count)),
                    ("pairs_gained", json!(run.added_count)),
                    ("pairs_lost", json!(run.removed_count)),
                    ("blocks", json!(run.block_count())),
                    ("extents", json!(extents)),
                ],
            );
        }
    }
    Ok(())
}

async fn run_entries(
    source: &Source,
    devices: Vec<UringDevice>,
    id: u64,
    shard: ShardId,
) -> Result<(), Failure> {
    let opened = opened(source, devices).await?;
    let runs = runs_of(&opened, shard).await?;
    let run = runs.into_iter().find(|run| run.id == id);
    let run = run.ok_or_else(|| Failure(format!("shard {shard} has no run {id}; `runs` lists them")))?;
    opened.run_entries(&run, |key, value| show(source, entry_fields(key, value))).await?;
    Ok(())
}

fn entry_fields(key: &[u8], value: Option<&[u8]>) -> Vec<(&'static str, Value)> {
    let mut fields = Vec::new();
    if let Some((bucket, key, slot)) = parse_version_key(key) {
        fields.push(("bucket", json!(bucket.0)));
        fields.push(("key", json!(key.escape_ascii().to_string())));
        fields.push(("slot", json!(format!("{slot:#x}"))));
        match value.map(Entry::decode) {
            Some(Ok(entry)) => fields.extend([
                ("kind", json!(format!("{:?}", entry.kind).to_lowercase())),
                ("order", json!(entry.order.0)),
                ("size", json!(entry.listed.size)),
                ("record", json!(format!("{:#x}:{}", entry.place.segment.0, entry.place.offset))),
            ]),
            Some(Err(malformed)) => fields.push(("malformed", json!(malformed.0))),
            None => fields.push(("removed", json!(true))),
        }
    } else if let Some((segment, block, (bucket, key, slot))) = parse_extent_key(key) {
        fields.push(("extent", json!(format!("{:#x}:{}", segment.0, u64::from(block) * 4096))));
        fields.push(("bucket", json!(bucket.0)));
        fields.push(("key", json!(key.escape_ascii().to_string())));
        fields.push(("slot", json!(format!("{slot:#x}"))));
        fields.push(("removed", json!(value.is_none())));
    } else {
        fields.push(("unknown", json!(key.escape_ascii().to_string())));
    }
    fields
}

async fn opened(source: &Source, devices: Vec<UringDevice>) -> Result<Opened<UringDevice>, Failure> {
    let path =
        source.key_file.as_ref().ok_or_else(|| Failure("this is sealed: give --key-file".to_owned()))?;
    Ok(Opened::open(devices, key::read(path)?).await?)
}

async fn runs_of(opened: &Opened<UringDevice>, shard: ShardId) -> Result<Vec<RunDescriptor>, Failure> {
    let Some(checkpoint) = opened.checkpoint(shard).await? else { return Ok(Vec::new()) };
    let decoded = checkpoint.image.runs.iter().map(|bytes| RunDescriptor::decode(bytes).map(|(run, _)| run));
    decoded.collect::<Result<_, _>>().map_err(|malformed| Failure(malformed.0.to_owned()))
}

fn show(source: &Source, fields: Vec<(&'static str, Value)>) {
    if source.json {
        let object: serde_json::Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        return print(Value::Object(object));
    }
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let words: Vec<String> =
        fields.into_iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    print(words.join(" "));
}

fn parse_segment(text: &str) -> Result<SegmentId, Failure> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map(SegmentId).map_err(|_| Failure(format!("{text} is no segment id; `segments` lists them")))
}

fn parse_place(text: &str) -> Result<(SegmentId, u32), Failure> {
    let wrong =
        || Failure(format!("{text} is no place of a record: write SEGMENT:OFFSET, as 0x1000000001:4096"));
    let (segment, offset) = text.split_once(':').ok_or_else(wrong)?;
    let offset = offset.parse().map_err(|_| wrong())?;
    if offset % engine::limits::RECORD_ALIGN as u32 != 0 {
        return Err(Failure("records begin at multiples of 64 bytes".to_owned()));
    }
    Ok((parse_segment(segment)?, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_segment_and_a_multiple_of_64() {
        assert_eq!(parse_place("0x10:4096").expect("a place"), (SegmentId(16), 4096));
        assert_eq!(parse_place("16:64").expect("a place"), (SegmentId(16), 64));
        for wrong in ["16", "x:64", "16:65", "16:-1"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }
}
