//! A store: the devices that belong together, how to make one of them, and how to open it.
//!
//! [`format()`] lays out devices; [`Store::open`] reads what is on them and makes the part that all cores share: geometry, keys and
//! segment table. The rest is per core ([`crate::Core`]) and per shard ([`crate::Shard`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream;
use zerocopy::IntoBytes;

use crate::crypto::{Keyring, MasterKey, Random};
use crate::device::{AlignedBuffer, Device};
use crate::error::{Error, Result};
use crate::flush::FlushTurn;
use crate::format::checkpoint::Pointer;
use crate::format::lease::{LEASE_OFFSETS, Lease};
use crate::format::segment::{Place, SegmentHeader, SegmentKind};
use crate::format::superblock::{CHECKPOINT_OFFSET, COPY_OFFSETS, Superblock, Tier, Verdict};
use crate::ids::{DeviceId, DeviceIndex, SegmentId, ShardId, StoreId, UnixMillis};
use crate::limits::{
    BLOCK_SIZE, COPIES_MAX, DEVICES_MAX, INLINE_MAX_MAX, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SLOTS_MAX,
    SLOTS_MIN,
};
use crate::segment::table::{DeviceShape, SegmentTable};

/// Segment size that is chosen when there is room for enough of them.
const SEGMENT_SIZE_PREFERRED: u64 = 256 * 1024 * 1024;

/// Smallest segment that is chosen for devices of 512 MiB and more.
const SEGMENT_SIZE_FLOOR: u64 = 4 * 1024 * 1024;

/// The checkpoint area is a multiple of this, so that segments begin at round offsets.
const CHECKPOINT_SIZE_UNIT: u64 = 1024 * 1024;

/// Slot headers read at once while opening.
const HEADER_READS: usize = 64;

/// How to lay a store out.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Copies of each segment, on different devices.
    pub copies: u8,
    /// Shards: one per core, for good.
    pub shard_count: u16,
    /// Bytes of a segment; `None` chooses by the size of the smallest device.
    pub segment_size: Option<u64>,
    /// Objects up to this size lie in their record.
    pub inline_max: u32,
    /// Class of each device.
    pub tiers: Vec<Tier>,
}

/// Lays out devices as a new store. Refuses devices that carry one.
///
/// # Errors
/// [`Error::AlreadyExists`] when a device carries a store (readable or not), [`Error::Devices`] when options and devices don't fit
/// together, [`Error::Io`].
pub async fn format<D: Device>(
    devices: &[D],
    options: &FormatOptions,
    master: &MasterKey,
    now: UnixMillis,
    random: &mut dyn Random,
) -> Result<StoreId> {
    check_options(devices, options)?;
    for (i, device) in devices.iter().enumerate() {
        if !matches!(read_superblock(device, i).await?, Verdict::Empty) {
            return Err(Error::AlreadyExists);
        }
    }
    format_over(devices, options, master, now, random).await
}

/// Lays out devices as a new store, whatever is on them. Of a store that was there, the superblocks go first, on all devices.
///
/// # Errors
/// [`Error::Devices`] when options and devices don't fit together: then nothing was written. [`Error::Io`].
pub async fn format_over<D: Device>(
    devices: &[D],
    options: &FormatOptions,
    master: &MasterKey,
    now: UnixMillis,
    random: &mut dyn Random,
) -> Result<StoreId> {
    let superblocks = plan_superblocks(devices, options, master, now, random)?;
    let write = async |i: usize, blocks: [AlignedBuffer; COPY_OFFSETS.len()]| {
        for (offset, block) in COPY_OFFSETS.into_iter().zip(blocks) {
            devices[i].write(std::rc::Rc::new(block), offset).await.map_err(|f| io_error(i, f))?;
        }
        devices[i].flush().await.map_err(|f| io_error(i, f))
    };
    for i in 0..devices.len() {
        write(i, COPY_OFFSETS.map(|_| AlignedBuffer::zeroed(BLOCK_SIZE))).await?;
    }
    for (i, superblock) in superblocks.iter().enumerate() {
        let copy = |sequence| {
            let mut block = AlignedBuffer::zeroed(BLOCK_SIZE);
            block.copy_from_slice(Superblock { sequence, ..superblock.clone() }.encode().as_bytes());
            block
        };
        write(i, [copy(1), copy(2)]).await?;
    }
    Ok(superblocks[0].store_id)
}

/// The superblock of each device of a new store.
fn plan_superblocks<D: Device>(
    devices: &[D],
    options: &FormatOptions,
    master: &MasterKey,
    now: UnixMillis,
    random: &mut dyn Random,
) -> Result<Vec<Superblock>> {
    check_options(devices, options)?;
    let smallest = devices.iter().map(Device::capacity).min().unwrap_or(0);
    let segment_size = match options.segment_size {
        Some(size) => size,
        None => choose_segment_size(smallest, options.shard_count),
    };
    let mut store_id = StoreId::default();
    random.fill(&mut store_id.0);
    let device_ids: Vec<DeviceId> = devices
        .iter()
        .map(|_| {
            let mut id = DeviceId::default();
            random.fill(&mut id.0);
            id
        })
        .collect();
    let mut superblocks = Vec::with_capacity(devices.len());
    for (i, device) in devices.iter().enumerate() {
        let capacity = device.capacity();
        let checkpoint_size = (capacity / 1024)
            .max(Pointer::offset(ShardId(options.shard_count), 0))
            .next_multiple_of(CHECKPOINT_SIZE_UNIT);
        let segment_offset = CHECKPOINT_OFFSET + checkpoint_size;
        let slot_count = capacity.saturating_sub(segment_offset) / segment_size;
        if slot_count > u64::from(SLOTS_MAX) {
            return Err(Error::Devices {
                what: "a device has room for more than 262 144 segments: use larger segments",
            });
        }
        if slot_count < SLOTS_MIN {
            return Err(Error::Devices {
                what: "a device is too small for 8 segments: use a larger device or smaller segments",
            });
        }
        superblocks.push(Superblock {
            store_id,
            device_id: device_ids[i],
            device_index: DeviceIndex(i as u16),
            device_ids: device_ids.clone(),
            sequence: 1,
            created_ms: now.0,
            capacity,
            checkpoint_size,
            segment_offset,
            segment_size,
            slot_count: slot_count as u32,
            inline_max: options.inline_max,
            shard_count: options.shard_count,
            copies: options.copies,
            tier: options.tiers.get(i).copied().unwrap_or_default(),
            key_check: master.check_value(store_id),
        });
    }
    Ok(superblocks)
}

fn check_options<D: Device>(devices: &[D], options: &FormatOptions) -> Result<()> {
    let what = if devices.is_empty() || devices.len() > DEVICES_MAX {
        "a store has 1 to 64 devices"
    } else if !(1..=COPIES_MAX).contains(&usize::from(options.copies)) {
        "a store keeps 1 to 4 copies"
    } else if usize::from(options.copies) > devices.len() {
        "there are fewer devices than copies: add devices or ask for fewer copies"
    } else if options.shard_count == 0 {
        "a store has at least one shard"
    } else if options.inline_max > INLINE_MAX_MAX {
        "inline_max is at most 256 KiB"
    } else if options
        .segment_size
        .is_some_and(|size| !size.is_power_of_two() || !(SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&size))
    {
        "segment_size is a power of two from 1 MiB to 1 GiB"
    } else if options.segment_size.is_some_and(|size| u64::from(options.inline_max) * 4 > size) {
        "segment_size is at least four times inline_max"
    } else {
        return Ok(());
    };
    Err(Error::Devices { what })
}

/// The preferred size, or as much smaller as it takes to give every stream several segments.
fn choose_segment_size(device_capacity: u64, shard_count: u16) -> u64 {
    let slots_wanted = 64 + 16 * u64::from(shard_count);
    let fitting = (device_capacity / slots_wanted).max(1);
    let power = 1u64 << fitting.ilog2();
    // Half a segment must hold the record of an object in 10 000 parts, where the device is large enough for that at all.
    let floor =
        if device_capacity >= 128 * SEGMENT_SIZE_FLOOR { SEGMENT_SIZE_FLOOR } else { SEGMENT_SIZE_MIN };
    power.clamp(floor, SEGMENT_SIZE_PREFERRED)
}

/// Where a device's zones lie, and which of the opened devices it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLayout {
    /// Where slot 0 begins.
    pub segment_offset: u64,
    /// Its slots.
    pub slot_count: u32,
    /// Its class.
    pub tier: Tier,
    /// Its position in the list given to [`Store::open`].
    pub source: usize,
}

/// The part of an open store that all cores share.
pub struct Store {
    /// The store's id.
    pub id: StoreId,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Objects up to this size lie in their record.
    pub inline_max: usize,
    /// Shards.
    pub shard_count: u16,
    /// Copies of each segment.
    pub copies: usize,
    /// Devices by index; `None` for those that are missing.
    pub devices: Vec<Option<DeviceLayout>>,
    /// The keys.
    pub keyring: Keyring,
    /// The segments.
    pub table: Arc<SegmentTable>,
    /// Commit segments found while opening, for the shards to replay.
    commit_headers: Vec<SegmentHeader>,
    /// Devices that failed a write or flush.
    fenced: Vec<AtomicBool>,
    /// Whose turn it is to flush each device.
    flush_turns: Vec<FlushTurn>,
}

impl Store {
    /// Opens the store on those devices, in whatever order they are given. While fewer devices are missing than there are copies, everything is
    /// readable; new data is taken in when enough are left to hold it.
    ///
    /// # Errors
    /// [`Error::Devices`] when they are not one store, [`Error::Key`] when the key source is another one.
    pub async fn open<D: Device>(devices: &[D], master: MasterKey) -> Result<Arc<Store>> {
        let mut superblocks: Vec<(usize, Superblock)> = Vec::new();
        for (source, device) in devices.iter().enumerate() {
            match read_superblock(device, source).await? {
                Verdict::Present(superblock) => superblocks.push((source, *superblock)),
                Verdict::Empty => {
                    return Err(Error::Devices {
                        what: "a device carries no store: format it, or leave it out",
                    });
                }
                Verdict::Unreadable(what) => return Err(Error::Devices { what }),
            }
        }
        let Some((_, first)) = superblocks.first().cloned() else {
            return Err(Error::Devices { what: "no device was given" });
        };
        if superblocks.iter().any(|(_, s)| s.store_id != first.store_id || s.device_ids != first.device_ids) {
            return Err(Error::Devices { what: "the devices belong to different stores" });
        }
        let keyring = Keyring::new(first.store_id, master);
        keyring.check(&first.key_check)?;
        let mut layouts: Vec<Option<DeviceLayout>> = vec![None; first.device_ids.len()];
        for (source, superblock) in &superblocks {
            let layout = &mut layouts[usize::from(superblock.device_index.0)];
            if layout.is_some() {
                return Err(Error::Devices {
                    what: "two devices carry the same device id: one is a copy of the other",
                });
            }
            *layout = Some(DeviceLayout {
                segment_offset: superblock.segment_offset,
                slot_count: superblock.slot_count,
                tier: superblock.tier,
                source: *source,
            });
        }
        // Then the end of a log may be on none of the others, and what was overwritten or deleted there would come back.
        if layouts.iter().filter(|layout| layout.is_none()).count() >= usize::from(first.copies) {
            return Err(Error::Devices {
                what: "as many devices are missing as there are copies: what was written last may be on them alone; bring one back",
            });
        }
        let lease = read_lease(devices, first.store_id).await;
        let (headers, mut unreadable_slots) = read_headers(devices, &layouts, &first).await;
        // A missing device counts with the slots that headers on other devices mention, so that the table has an entry for each.
        let shapes: Vec<DeviceShape> = layouts
            .iter()
            .enumerate()
            .map(|(i, layout)| DeviceShape {
                slot_count: layout.map_or_else(|| slots_mentioned(&headers, i), |l| l.slot_count),
                unreadable_slots: std::mem::take(&mut unreadable_slots[i]),
                takes_writes: layout.is_some(),
            })
            .collect();
        let reserve = choose_reserve(&shapes, usize::from(first.copies), first.shard_count);
        let copies = usize::from(first.copies);
        let table = SegmentTable::new(&shapes, &headers, lease, copies, first.segment_size, reserve);
        if layouts.iter().any(Option::is_none) {
            table.await_sessions(u32::from(first.shard_count));
        }
        Ok(Arc::new(Store {
            id: first.store_id,
            segment_size: first.segment_size,
            inline_max: first.inline_max as usize,
            shard_count: first.shard_count,
            copies: usize::from(first.copies),
            fenced: layouts.iter().map(|_| AtomicBool::new(false)).collect(),
            flush_turns: layouts.iter().map(|_| FlushTurn::default()).collect(),
            devices: layouts,
            keyring,
            table,
            commit_headers: headers.into_iter().filter(|h| h.kind == SegmentKind::Commit).collect(),
        }))
    }

    /// Whether those bytes begin with a superblock of ours, good or bad: what tells a device that must not be formatted.
    pub async fn is_present<D: Device>(device: &D) -> Result<bool> {
        Ok(!matches!(read_superblock(device, 0).await?, Verdict::Empty))
    }

    /// Devices of the store that were not given.
    pub fn missing_devices(&self) -> Vec<DeviceIndex> {
        (0..).map(DeviceIndex).zip(&self.devices).filter(|(_, l)| l.is_none()).map(|(i, _)| i).collect()
    }

    /// Whether that device failed a write or flush, on any core.
    pub fn is_fenced(&self, device: DeviceIndex) -> bool {
        self.fenced[usize::from(device.0)].load(Ordering::SeqCst)
    }

    /// Whose turn it is to flush that device.
    pub(crate) fn flush_turn(&self, device: DeviceIndex) -> &FlushTurn {
        &self.flush_turns[usize::from(device.0)]
    }

    /// Fences a device for all cores; whether this was the first to do so.
    pub(crate) fn fence(&self, device: DeviceIndex) -> bool {
        let is_first = !self.fenced[usize::from(device.0)].swap(true, Ordering::SeqCst);
        if is_first {
            self.table.fence(device);
        }
        is_first
    }

    /// Every commit segment of a shard, those too that were given up.
    pub(crate) fn all_commit_segments(&self, shard: ShardId) -> Vec<SegmentId> {
        self.commit_headers.iter().filter(|header| header.stream == shard.0).map(|header| header.id).collect()
    }

    /// The commit segments of a shard, in order.
    pub(crate) fn commit_segments(&self, shard: ShardId) -> Vec<SegmentHeader> {
        let mut headers: Vec<SegmentHeader> = self
            .commit_headers
            .iter()
            .filter(|header| header.stream == shard.0 && self.table.places(header.id).is_some())
            .cloned()
            .collect();
        // A header whose other copies could not be written was given up, and the next segment took its number.
        headers.sort_by_key(|header| (header.sequence, std::cmp::Reverse(header.id)));
        headers.dedup_by_key(|header| header.sequence);
        headers
    }
}

/// Room for what gives space back: half of it for tombstones, half for the runs, checkpoints and moves that follow, of every shard at once. A
/// sixty-fourth of a large store: a merge of the directory, which may take more, waits until there is as much. Twice the reserve made compaction of a store 85 % full of 4 KiB objects write
/// a third more (`compaction --size 1024 --turns 1`: 5.9 against 4.5).
fn choose_reserve(shapes: &[DeviceShape], copies: usize, shard_count: u16) -> u32 {
    let segments = shapes.iter().map(|shape| shape.slot_count).sum::<u32>() / copies as u32;
    (4 * u32::from(shard_count) + 2).max(segments / 64).min(segments / 3)
}

fn slots_mentioned(headers: &[SegmentHeader], device: usize) -> u32 {
    let places = headers.iter().flat_map(|header| &header.places);
    places
        .filter(|place| usize::from(place.device.0) == device)
        .map(|place| place.slot + 1)
        .max()
        .unwrap_or(0)
}

async fn read_superblock<D: Device>(device: &D, source: usize) -> Result<Verdict> {
    let mut newest: Option<Superblock> = None;
    let mut verdict = Verdict::Empty;
    let mut unreadable = None;
    for offset in COPY_OFFSETS {
        let (result, block) = device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await;
        if let Err(failure) = result {
            unreadable = Some(failure);
            continue;
        }
        match Superblock::decode(&block) {
            Verdict::Present(superblock) => {
                if newest.as_ref().is_none_or(|other| other.sequence < superblock.sequence) {
                    newest = Some(*superblock);
                }
            }
            Verdict::Unreadable(what) => verdict = Verdict::Unreadable(what),
            Verdict::Empty => {}
        }
    }
    match (newest, unreadable) {
        (Some(superblock), _) => Ok(Verdict::Present(Box::new(superblock))),
        // What can't be read may be a superblock: this device is not empty.
        (None, Some(failure)) => Err(io_error(source, failure)),
        (None, None) => Ok(verdict),
    }
}

/// The highest lease on any device.
async fn read_lease<D: Device>(devices: &[D], store_id: StoreId) -> Lease {
    let mut highest = Lease::default();
    for device in devices {
        for offset in LEASE_OFFSETS {
            let (result, block) = device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await;
            if let Some(lease) = result.ok().and_then(|()| Lease::decode(&block, store_id)) {
                highest = highest.max(lease);
            }
        }
    }
    highest
}

/// The headers on all devices, each once, and for each device the slots whose header can't be read.
async fn read_headers<D: Device>(
    devices: &[D],
    layouts: &[Option<DeviceLayout>],
    superblock: &Superblock,
) -> (Vec<SegmentHeader>, Vec<Vec<u32>>) {
    let mut headers = Vec::new();
    let mut unreadable_slots = vec![Vec::new(); layouts.len()];
    for (index, layout) in layouts.iter().enumerate() {
        let Some(layout) = layout else { continue };
        let device = &devices[layout.source];
        let mut reads = stream::iter(0..layout.slot_count)
            .map(|slot| {
                let offset = layout.segment_offset + u64::from(slot) * superblock.segment_size;
                async move { (slot, device.read(AlignedBuffer::zeroed(BLOCK_SIZE), offset).await) }
            })
            .buffer_unordered(HEADER_READS);
        while let Some((slot, (result, block))) = reads.next().await {
            if result.is_err() {
                // The other copies tell what it is; without one, what refers to it will find it gone.
                unreadable_slots[index].push(slot);
                continue;
            }
            let Some(header) = SegmentHeader::decode(&block, superblock.store_id) else { continue };
            // A header that does not name the slot it lies in is a misdirected write; one that names what does not exist is none of ours.
            let exists = |p: &Place| match layouts.get(usize::from(p.device.0)) {
                Some(Some(layout)) => p.slot < layout.slot_count,
                Some(None) => p.slot < SLOTS_MAX,
                None => false,
            };
            let is_here = |p: &Place| usize::from(p.device.0) == index && p.slot == slot;
            if header.places.iter().any(is_here) && header.places.iter().all(exists) {
                headers.push(header);
            }
        }
    }
    headers.sort_by_key(|header| header.id);
    headers.dedup_by(|a, b| a == b);
    (headers, unreadable_slots)
}

fn io_error(device: usize, failure: crate::device::IoFailure) -> Error {
    Error::Io { device: DeviceIndex(device as u16), op: failure.op, errno: failure.errno }
}
