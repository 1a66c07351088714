//! The segment table: what every segment is, where its copies lie, how much of it is live, and who is reading it.
//!
//! ```text
//! free --allocate--> open --seal--> sealed --(live 0, pins 0, for a commit segment: retired)--> free
//! ```
//! - Live bytes and pins share one atomic word, so that any core counts without a lock and "nothing refers to it and nobody reads it" is
//!   one observation; allocation and freeing (once per segment) take a lock.
//! - `live` counts each reference: an extent that two objects share counts twice. A segment is dead when it is 0.
//! - A pin keeps a segment from being freed while its bytes are read or are not yet committed. A pin is only ever taken on a segment that
//!   the taker knows to be referenced, open or pinned, so no pin can arrive at a segment that is being freed.
//! - A commit segment is freed only once it is **retired**: a durable checkpoint contains what its records say, so that no replay reads them.
//! - A **victim** was chosen by compaction: nothing more is appended to it, and every shard moves what it has there.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

pub use super::entry::Places;
use super::entry::{Entry, FREE, OPEN, PIN, SEALED};
use super::slots::{DeviceSlots, Slots, newest_of_each_index};
use crate::error::{Error, Result};
use crate::format::body::Extent;
use crate::format::lease::Lease;
use crate::format::segment::{Place, SegmentHeader, SegmentKind, Temperature};
use crate::ids::{DeviceIndex, SegmentId, SegmentIndex};
use crate::limits::BLOCK_SIZE;
use crate::placement::choose_devices;
use crate::sim::bugs::{self, Bug};

/// Free segments that only compaction may use: one for records and one for frames. With them it makes room when nobody else can do anything any more.
const MOVE_RESERVE: u32 = 2;

/// New data leaves this share of the segments at most to what upkeep waits for.
const DEMAND_SHARE: u32 = 3;

/// All segments of a store.
pub struct SegmentTable {
    entries: Box<[Entry]>,
    slots: Mutex<Slots>,
    /// Segments that could still be allocated.
    free_count: AtomicU32,
    /// Free segments that new data may not use: tombstones must always find room.
    reserve: u32,
    /// Of those, how many are for checkpoints and compaction alone: without them no space ever comes back.
    upkeep_reserve: u32,
    /// Free segments that upkeep waits for, besides the reserve: new data leaves them too.
    demand: AtomicU32,
    /// They are never more than a part of the store, however many shards ask.
    demand_max: u32,
    copies: usize,
    segment_size: u64,
    /// Ids up to this counter may be used: see [`Lease`].
    leased: AtomicU64,
    /// Ids above this counter were given out by this run.
    adopted_max: u64,
    /// While logs are replayed nothing is freed: counts are not final.
    is_recovering: AtomicBool,
    /// Sessions of shards that have to begin before what nothing refers to is freed: see [`SegmentTable::await_sessions`].
    awaited_sessions: AtomicU32,
    /// Replay is over, and only sessions are waited for.
    is_finish_due: AtomicBool,
}

/// Who asks for a segment; the later may use more of the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// New data: refused when only the reserve is left.
    Data,
    /// Tombstones and the like, which must always find room: may use the reserve but for the part that is for upkeep.
    Log,
    /// Checkpoints and merges, which give space back in the end: may use everything but what compaction needs to begin with.
    Upkeep,
    /// Compaction, which frees a segment for each that it fills, and something besides: may use everything.
    Move,
}

/// What a segment is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is to hold.
    pub kind: SegmentKind,
    /// How long that is expected to live.
    pub temperature: Temperature,
    /// The shard (commit) or the core (bulk) that writes it.
    pub stream: u16,
    /// Who asks.
    pub purpose: Purpose,
}

/// A segment that compaction may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Which.
    pub id: SegmentId,
    /// What it holds.
    pub kind: SegmentKind,
    /// The shard (commit) or the core (bulk) that wrote it.
    pub stream: u16,
    /// Whether compaction wrote it.
    pub temperature: Temperature,
    /// Live bytes, each reference counted.
    pub live: u64,
    /// Segments given out since it was sealed.
    pub age: u64,
    /// Whether it was chosen already.
    pub is_victim: bool,
}

/// A segment that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its id.
    pub id: SegmentId,
    /// Where its copies go.
    pub places: Vec<Place>,
    /// The first block to write: after the header, or after what an earlier run left.
    pub next_block: u32,
}

/// A device as the table sees it.
#[derive(Clone, Debug, Default)]
pub struct DeviceShape {
    /// Slots it has.
    pub slot_count: u32,
    /// Slots whose header can't be read: nobody knows what they hold, so nothing is put there.
    pub unreadable_slots: Vec<u32>,
    /// Whether it is there and takes writes.
    pub takes_writes: bool,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Segments that could still be allocated.
    pub free: u32,
    /// Of those, how many are the reserve.
    pub reserve: u32,
    /// Commit segments in use.
    pub commit: u32,
    /// Bulk segments in use.
    pub bulk: u32,
    /// Live bytes in all of them, each reference counted.
    pub live_bytes: u64,
}

impl SegmentTable {
    /// The table of a store, from the headers and the lease that were found on its devices. `reserve` segments are kept for the log.
    pub fn new(
        devices: &[DeviceShape],
        headers: &[SegmentHeader],
        lease: Lease,
        copies: usize,
        segment_size: u64,
        reserve: u32,
    ) -> Arc<Self> {
        // Of a missing device fewer slots may be known than it has, and so fewer than there are indexes in use.
        let indexes_used = headers.iter().map(|header| header.id.index().0 + 1).max().unwrap_or(0);
        let slot_total: u32 = devices.iter().map(|device| device.slot_count).sum::<u32>().max(indexes_used);
        let entries: Box<[Entry]> = (0..slot_total).map(|_| Entry::default()).collect();
        // A header that a crash kept from all but one device may be out of sight, with that device: the lease covers its id.
        let counter = headers.iter().map(|header| header.id.counter()).max().unwrap_or(0).max(lease.0);
        let mut taken: Vec<Vec<bool>> =
            devices.iter().map(|device| vec![false; device.slot_count as usize]).collect();
        let mut newest = newest_of_each_index(headers, entries.len());
        newest.sort_by_key(|header| header.id.counter());
        let clock = newest.len() as u64;
        for (sealed_at, header) in (1..).zip(newest) {
            let entry = &entries[header.id.index().0 as usize];
            entry.adopt(header, sealed_at);
            for place in &header.places {
                if let Some(slot) =
                    taken.get_mut(usize::from(place.device.0)).and_then(|s| s.get_mut(place.slot as usize))
                {
                    *slot = true;
                }
            }
        }
        let free_indexes =
            (0..slot_total).rev().filter(|i| entries[*i as usize].state.load(SeqCst) == FREE).collect();
        let devices: Vec<DeviceSlots> = devices
            .iter()
            .zip(taken)
            .map(|(device, taken)| DeviceSlots {
                total: device.slot_count,
                free: (0..device.slot_count)
                    .rev()
                    .filter(|slot| !taken[*slot as usize] && !device.unreadable_slots.contains(slot))
                    .collect(),
                takes_writes: device.takes_writes,
            })
            .collect();
        let slot_count: u32 = devices.iter().map(|device| device.total).sum();
        let slots = Slots { counter, clock, free_indexes, devices, resumable: Vec::new() };
        let free_count = AtomicU32::new(slots.allocatable(copies));
        Arc::new(SegmentTable {
            entries,
            slots: Mutex::new(slots),
            free_count,
            reserve,
            upkeep_reserve: reserve / 2,
            demand: AtomicU32::new(0),
            demand_max: slot_count / copies as u32 / DEMAND_SHARE,
            copies,
            segment_size,
            leased: AtomicU64::new(counter),
            adopted_max: counter,
            is_recovering: AtomicBool::new(true),
            awaited_sessions: AtomicU32::new(0),
            is_finish_due: AtomicBool::new(false),
        })
    }

    /// Gives out a segment. Its header must be durable on all places before anything else is written to it.
    pub fn allocate(&self, wanted: &Wanted) -> Result<Allocation> {
        match self.try_allocate(wanted) {
            // Not one segment is left, for a session neither.
            Err(Error::Full) if wanted.purpose == Purpose::Move && self.is_finish_due.swap(false, SeqCst) => {
                self.free_what_is_dead();
                self.try_allocate(wanted)
            }
            result => result,
        }
    }

    fn try_allocate(&self, wanted: &Wanted) -> Result<Allocation> {
        let mut slots = self.slots.lock().expect("no holder panics");
        if wanted.kind == SegmentKind::Bulk
            && let Some(resumed) = self.resume(&mut slots, wanted.temperature)
        {
            return Ok(resumed);
        }
        if !slots.has_devices_for(self.copies) {
            return Err(Error::ReadOnly);
        }
        let free = slots.allocatable(self.copies);
        let kept = match wanted.purpose {
            Purpose::Data => self.kept_from_data(),
            Purpose::Log => self.upkeep_reserve,
            Purpose::Upkeep => MOVE_RESERVE.min(self.upkeep_reserve / 2),
            Purpose::Move => 0,
        };
        if free <= kept {
            return Err(Error::Full);
        }
        let index = SegmentIndex(slots.free_indexes.pop().ok_or(Error::Full)?);
        let id = SegmentId::new(slots.counter + 1, index);
        let Some(devices) = choose_devices(id, &slots.candidates(), self.copies) else {
            slots.free_indexes.push(index.0);
            return Err(Error::Full);
        };
        slots.counter += 1;
        slots.clock += 1;
        let places: Vec<Place> = devices
            .into_iter()
            .map(|device| {
                let free = &mut slots.devices[usize::from(device.0)].free;
                Place { device, slot: free.pop().expect("only devices with a free slot are candidates") }
            })
            .collect();
        self.free_count.store(slots.allocatable(self.copies), SeqCst);
        drop(slots);
        self.entry(index).open(id, wanted, &places);
        Ok(Allocation { id, places, next_block: 1 })
    }

    /// Whether a lease that is durable covers that id.
    pub(crate) fn is_leased(&self, id: SegmentId) -> bool {
        id.counter() <= self.leased.load(SeqCst)
    }

    /// That lease is durable.
    pub(crate) fn extend_lease(&self, lease: Lease) {
        self.leased.fetch_max(lease.0, SeqCst);
    }

    /// A bulk segment that an earlier run left with room at its end.
    fn resume(&self, slots: &mut Slots, temperature: Temperature) -> Option<Allocation> {
        let mut left = slots.resumable.len();
        while left > 0 {
            left -= 1;
            let id = slots.resumable.remove(left);
            let Some(entry) = self.current(id) else { continue };
            if entry.temperature() != temperature {
                slots.resumable.insert(left, id);
                continue;
            }
            if entry.is_victim.load(SeqCst) {
                continue;
            }
            let places = entry.places();
            let writable = places.iter().all(|place| {
                slots.devices.get(usize::from(place.device.0)).is_some_and(|device| device.takes_writes)
            });
            // It may have died meanwhile and be somebody else's; then the exchange fails or the id differs.
            if writable && entry.state.compare_exchange(SEALED, OPEN, SeqCst, SeqCst).is_ok() {
                if entry.id.load(SeqCst) == id.0 {
                    return Some(Allocation {
                        id,
                        places: places.into_vec(),
                        next_block: entry.tail_block.load(SeqCst).max(1),
                    });
                }
                entry.state.store(SEALED, SeqCst);
            }
        }
        None
    }

    /// No more is appended to that segment.
    pub fn seal(&self, id: SegmentId) {
        if let Some(entry) = self.current(id)
            && entry.state.compare_exchange(OPEN, SEALED, SeqCst, SeqCst).is_ok()
        {
            entry.sealed_at.store(self.slots.lock().expect("no holder panics").clock, SeqCst);
            self.free_if_dead(id);
        }
    }

    /// A durable checkpoint stands for what the records of that commit segment say: it is freed when nothing in it is live.
    pub(crate) fn retire(&self, id: SegmentId) {
        if let Some(entry) = self.current(id) {
            entry.is_retired.store(true, SeqCst);
            self.free_if_dead(id);
        }
    }

    /// Chooses a segment for compaction: nothing more is appended to it.
    pub(crate) fn mark_victim(&self, id: SegmentId) {
        if let Some(entry) = self.current(id) {
            entry.is_victim.store(true, SeqCst);
        }
    }

    /// What compaction may choose from: sealed segments; of commit segments those that are retired.
    pub(crate) fn sealed(&self) -> Vec<SealedSegment> {
        let now = self.slots.lock().expect("no holder panics").clock;
        let mut sealed = Vec::new();
        for entry in &self.entries {
            let id = SegmentId(entry.id.load(SeqCst));
            let kind = entry.kind();
            if id.0 == 0
                || entry.state.load(SeqCst) != SEALED
                || (kind == SegmentKind::Commit && !entry.is_retired.load(SeqCst))
            {
                continue;
            }
            sealed.push(SealedSegment {
                id,
                kind,
                stream: entry.stream.load(SeqCst),
                temperature: entry.temperature(),
                live: entry.live(),
                age: now.saturating_sub(entry.sealed_at.load(SeqCst)),
                is_victim: entry.is_victim.load(SeqCst),
            });
        }
        sealed
    }

    /// Bytes of all segments, each counted once.
    pub(crate) fn capacity(&self) -> u64 {
        u64::from(self.total()) * self.segment_size
    }

    /// Segments that the devices hold, free or not.
    pub(crate) fn total(&self) -> u32 {
        let slots = self.slots.lock().expect("no holder panics");
        slots.devices.iter().map(|device| device.total).sum::<u32>() / self.copies as u32
    }

    /// Free segments, and how many of them new data may not use.
    pub fn free_and_reserve(&self) -> (u32, u32) {
        (self.free_count.load(SeqCst), self.reserve)
    }

    /// Gives back a segment that never came into use.
    pub(crate) fn discard(&self, id: SegmentId) {
        if let Some(entry) = self.current(id) {
            entry.is_retired.store(true, SeqCst);
            self.seal(id);
        }
    }

    /// Whether new data may be taken in at all.
    pub fn admit_data(&self) -> Result<()> {
        if self.free_count.load(SeqCst) > self.kept_from_data() {
            return Ok(());
        }
        Err(if self.has_devices_for_copies() { Error::Full } else { Error::ReadOnly })
    }

    fn has_devices_for_copies(&self) -> bool {
        self.slots.lock().expect("no holder panics").has_devices_for(self.copies)
    }

    /// Free segments that new data may take.
    pub(crate) fn free_for_data(&self) -> u32 {
        self.free_count.load(SeqCst).saturating_sub(self.kept_from_data())
    }

    fn kept_from_data(&self) -> u32 {
        self.reserve + self.demand.load(SeqCst).min(self.demand_max)
    }

    /// Free segments that compaction should bring about at least.
    pub(crate) fn wanted_free(&self) -> u32 {
        self.kept_from_data()
    }

    /// Changes what upkeep waits for, from what the same shard asked for before.
    pub(crate) fn change_demand(&self, before: u32, now: u32) {
        self.demand.fetch_add(now, SeqCst);
        self.demand.fetch_sub(before, SeqCst);
    }

    /// That device takes no writes any more.
    pub fn fence(&self, device: DeviceIndex) {
        let mut slots = self.slots.lock().expect("no holder panics");
        slots.devices[usize::from(device.0)].takes_writes = false;
        self.free_count.store(slots.allocatable(self.copies), SeqCst);
    }

    /// Whether all those places take writes.
    pub fn takes_writes(&self, places: &[Place]) -> bool {
        let slots = self.slots.lock().expect("no holder panics");
        places.iter().all(|place| slots.devices[usize::from(place.device.0)].takes_writes)
    }

    /// Another reference to `len` bytes of a segment that end at that block. Ignored for a past life of the segment.
    pub fn add_live(&self, id: SegmentId, len: u64, end_block: u32) {
        if let Some(entry) = self.current(id) {
            entry.usage.fetch_add(entry.live_units(len), SeqCst);
            entry.tail_block.fetch_max(end_block, SeqCst);
        }
    }

    /// A reference less. Frees the segment when it was the last.
    pub fn sub_live(&self, id: SegmentId, len: u64) {
        if let Some(entry) = self.current(id) {
            let units = entry.live_units(len);
            let before = entry.usage.fetch_sub(units, SeqCst);
            assert!(before % PIN >= units, "live bytes of segment {:#x} below zero", id.0);
            if before == units || bugs::is_planted(Bug::ReuseSegmentTooEarly) {
                self.free_if_dead(id);
            }
        }
    }

    /// The same for a reference that was read: `false`, and nothing done, when fewer bytes are live.
    #[must_use]
    pub(crate) fn try_sub_live(&self, id: SegmentId, len: u64) -> bool {
        let Some(entry) = self.current(id) else { return true };
        let units = entry.live_units(len);
        let less = |usage: u64| (usage % PIN >= units).then(|| usage - units);
        let Ok(before) = entry.usage.fetch_update(SeqCst, SeqCst, less) else { return false };
        if before == units || bugs::is_planted(Bug::ReuseSegmentTooEarly) {
            self.free_if_dead(id);
        }
        true
    }

    /// Whether a segment has those blocks, its header apart.
    pub(crate) fn holds(&self, extent: &Extent) -> bool {
        let blocks = self.segment_size / BLOCK_SIZE as u64;
        extent.block > 0
            && extent.block_count > 0
            && u64::from(extent.block) + u64::from(extent.block_count) <= blocks
    }

    /// Keeps the segment from being freed; `None` for a past life of it.
    pub fn pin(self: &Arc<Self>, id: SegmentId) -> Option<SegmentPin> {
        let entry = self.current(id)?;
        let before = entry.usage.fetch_add(PIN, SeqCst);
        assert!(before < PIN << 19, "a segment has at most 2^19 readers: connections are limited far below");
        Some(SegmentPin { table: self.clone(), id })
    }

    /// Like [`SegmentTable::pin`], for a segment of which the taker does not know that it is referenced: what a record read a moment ago refers to.
    /// `None` when it is gone.
    pub fn try_pin(self: &Arc<Self>, id: SegmentId) -> Option<SegmentPin> {
        // Freeing takes this lock: under it, a segment that is there stays there until the pin is counted.
        let _slots = self.slots.lock().expect("no holder panics");
        let entry = self.current(id)?;
        if entry.state.load(SeqCst) == FREE {
            return None;
        }
        self.pin(id)
    }

    /// Where the copies of that segment lie; `None` for a past life of it.
    pub fn places(&self, id: SegmentId) -> Option<Places> {
        Some(self.current(id)?.places())
    }

    /// The present life of the segment at that position; `None` while it is free.
    pub fn id_at(&self, index: SegmentIndex) -> Option<SegmentId> {
        let id = self.entries.get(index.0 as usize)?.id.load(SeqCst);
        (id != 0).then_some(SegmentId(id))
    }

    /// Live bytes of that segment.
    pub fn live(&self, id: SegmentId) -> Option<u64> {
        Some(self.current(id)?.live())
    }

    /// A device is away, and the end of a log may be on it alone: until the sessions of that many shards have begun, which makes that end void, it may refer to
    /// segments that seem dead.
    pub(crate) fn await_sessions(&self, count: u32) {
        self.awaited_sessions.store(count, SeqCst);
    }

    /// Whether sessions are waited for, and could begin.
    pub(crate) fn awaits_sessions(&self) -> bool {
        self.awaited_sessions.load(SeqCst) > 0 && self.has_devices_for_copies()
    }

    /// The session of a shard has begun, durably.
    pub(crate) fn session_began(&self) {
        let before = self.awaited_sessions.fetch_update(SeqCst, SeqCst, |count| count.checked_sub(1));
        if before == Ok(1) && self.is_finish_due.swap(false, SeqCst) {
            self.free_what_is_dead();
        }
    }

    /// Replay is over: frees bulk segments that nothing refers to, and lets the others be filled up; once sessions that are waited for have begun.
    pub fn finish_recovery(&self) {
        self.is_finish_due.store(true, SeqCst);
        // Without one free segment none could begin: waiting would never end.
        let is_over = self.awaited_sessions.load(SeqCst) == 0 || self.free_count.load(SeqCst) == 0;
        if is_over && self.is_finish_due.swap(false, SeqCst) {
            self.free_what_is_dead();
        }
    }

    fn free_what_is_dead(&self) {
        self.is_recovering.store(false, SeqCst);
        let segment_blocks = (self.segment_size / BLOCK_SIZE as u64) as u32;
        for entry in &self.entries {
            let id = SegmentId(entry.id.load(SeqCst));
            if entry.state.load(SeqCst) != SEALED {
                continue;
            }
            let is_freed = self.free_if_dead(id);
            // One of this run may hold what is not committed yet, and live bytes know nothing of.
            if entry.kind() == SegmentKind::Bulk
                && id.counter() <= self.adopted_max
                && !is_freed
                && entry.tail_block.load(SeqCst) < segment_blocks / 4 * 3
            {
                self.slots.lock().expect("no holder panics").resumable.push(id);
            }
        }
    }

    /// Numbers for metrics.
    pub fn counts(&self) -> TableCounts {
        let mut counts = TableCounts {
            free: self.free_count.load(SeqCst),
            reserve: self.reserve,
            ..TableCounts::default()
        };
        for entry in &self.entries {
            if entry.state.load(SeqCst) == FREE {
                continue;
            }
            match entry.kind() {
                SegmentKind::Commit => counts.commit += 1,
                SegmentKind::Bulk => counts.bulk += 1,
            }
            counts.live_bytes += entry.live();
        }
        counts
    }

    fn free_if_dead(&self, id: SegmentId) -> bool {
        let Some(entry) = self.current(id) else { return false };
        let is_dead = !self.is_recovering.load(SeqCst)
            && (entry.kind() == SegmentKind::Bulk || entry.is_retired.load(SeqCst))
            && entry.is_unused();
        if !is_dead {
            return false;
        }
        // The lock comes first: between leaving SEALED and returning the slots nobody may look at either.
        let mut slots = self.slots.lock().expect("no holder panics");
        // Meanwhile it may have been resumed, filled and sealed again. Only once it has left SEALED, which resuming needs (under this lock), can
        // nothing be added to it any more: the usage that counts is the one seen then.
        if entry.id.load(SeqCst) != id.0
            || entry.state.compare_exchange(SEALED, FREE, SeqCst, SeqCst).is_err()
        {
            return false;
        }
        if !entry.is_unused() {
            entry.state.store(SEALED, SeqCst);
            return false;
        }
        entry.id.store(0, SeqCst);
        for place in entry.places() {
            slots.devices[usize::from(place.device.0)].free.push(place.slot);
        }
        slots.free_indexes.push(id.index().0);
        self.free_count.store(slots.allocatable(self.copies), SeqCst);
        true
    }

    fn entry(&self, index: SegmentIndex) -> &Entry {
        &self.entries[index.0 as usize]
    }

    fn current(&self, id: SegmentId) -> Option<&Entry> {
        let entry = self.entries.get(id.index().0 as usize)?;
        (id.0 != 0 && entry.id.load(SeqCst) == id.0).then_some(entry)
    }
}

/// Keeps a segment from being freed while it lives.
pub struct SegmentPin {
    table: Arc<SegmentTable>,
    id: SegmentId,
}

impl Clone for SegmentPin {
    fn clone(&self) -> Self {
        self.table.pin(self.id).expect("a pinned segment stays what it is")
    }
}

impl Drop for SegmentPin {
    fn drop(&mut self) {
        let Some(entry) = self.table.current(self.id) else { return };
        if entry.usage.fetch_sub(PIN, SeqCst) == PIN {
            self.table.free_if_dead(self.id);
        }
    }
}

impl std::fmt::Debug for SegmentPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentPin({:#x})", self.id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(slots: &[u32], copies: usize, reserve: u32) -> Arc<SegmentTable> {
        let devices: Vec<DeviceShape> = slots
            .iter()
            .map(|n| DeviceShape { slot_count: *n, takes_writes: true, ..DeviceShape::default() })
            .collect();
        let table = SegmentTable::new(&devices, &[], Lease(0), copies, 1 << 20, reserve);
        table.finish_recovery();
        table
    }

    fn wanted(kind: SegmentKind, purpose: Purpose) -> Wanted {
        Wanted { kind, temperature: Temperature::Hot, stream: 0, purpose }
    }

    /// Of a bulk segment with one copy.
    fn header(counter: u64, index: u32, slot: u32) -> SegmentHeader {
        SegmentHeader {
            id: SegmentId::new(counter, SegmentIndex(index)),
            kind: SegmentKind::Bulk,
            stream: 0,
            sequence: 0,
            first_lsn: crate::ids::Lsn(0),
            temperature: Temperature::Hot,
            predecessor: Default::default(),
            places: vec![Place { device: DeviceIndex(0), slot }],
        }
    }

    #[test]
    fn data_leaves_what_upkeep_waits_for() {
        let table = table(&[9], 1, 6);
        table.change_demand(0, 3);
        assert_eq!(table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)), Err(Error::Full));
        table.change_demand(3, 2);
        table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("one is left");
        assert_eq!((table.admit_data(), table.free_for_data()), (Err(Error::Full), 0));
    }

    #[test]
    fn what_several_shards_wait_for_is_never_most_of_the_store() {
        let table = table(&[12], 1, 2);
        (0..3).for_each(|_| table.change_demand(0, 4));
        assert_eq!(table.free_for_data(), 12 - 2 - 4);
    }

    #[test]
    fn the_last_of_the_reserve_is_for_compaction_alone() {
        let table = table(&[8], 1, 8);
        let allocate = |purpose| table.allocate(&wanted(SegmentKind::Commit, purpose));
        (0..6).for_each(|_| drop(allocate(Purpose::Upkeep).expect("more than two are free")));
        assert_eq!(allocate(Purpose::Upkeep), Err(Error::Full));
        (0..2).for_each(|_| drop(allocate(Purpose::Move).expect("two are free")));
    }

    #[test]
    fn data_never_takes_the_reserve_the_log_takes_half_of_it_and_upkeep_all() {
        let table = table(&[4], 1, 2);
        let allocate = |purpose| table.allocate(&wanted(SegmentKind::Commit, purpose));
        allocate(Purpose::Data).expect("4 free");
        allocate(Purpose::Data).expect("3 free");
        assert_eq!(allocate(Purpose::Data), Err(Error::Full));
        assert_eq!(table.admit_data(), Err(Error::Full));
        allocate(Purpose::Log).expect("the reserve");
        assert_eq!(allocate(Purpose::Log), Err(Error::Full));
        allocate(Purpose::Upkeep).expect("what only upkeep may take");
        assert_eq!(allocate(Purpose::Upkeep), Err(Error::Full));
    }

    #[test]
    fn a_sealed_bulk_segment_is_free_once_nothing_refers_to_it_and_nobody_reads_it() {
        let table = table(&[2, 2], 2, 0);
        let segment = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
        table.add_live(segment.id, 4096, 2);
        table.seal(segment.id);
        let pin = table.pin(segment.id).expect("current");
        table.sub_live(segment.id, 4096);
        assert_eq!(table.counts().free, 1);
        drop(pin);
        assert_eq!(table.counts().free, 2);
        assert!(table.pin(segment.id).is_none(), "a past life can't be pinned");
        let again = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
        assert_ne!(again.id, segment.id, "ids are never reused");
    }

    #[test]
    fn an_open_segment_is_not_freed() {
        let table = table(&[2], 1, 0);
        let segment = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
        drop(table.pin(segment.id));
        assert_eq!(table.counts().free, 1);
        table.seal(segment.id);
        assert_eq!(table.counts().free, 2);
    }

    #[test]
    fn a_fenced_device_takes_nothing_new() {
        let table = table(&[2, 2], 2, 0);
        table.fence(DeviceIndex(1));
        assert_eq!(table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)), Err(Error::ReadOnly));
        assert_eq!(table.admit_data(), Err(Error::ReadOnly));
    }

    #[test]
    fn stale_headers_do_not_hold_slots() {
        let shape = [DeviceShape { slot_count: 4, takes_writes: true, ..DeviceShape::default() }];
        let table = SegmentTable::new(&shape, &[header(5, 0, 0), header(3, 0, 1)], Lease(0), 1, 1 << 20, 0);
        assert_eq!(table.counts().bulk, 1);
        table.add_live(SegmentId::new(5, SegmentIndex(0)), 4096, 255);
        table.finish_recovery();
        let next = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
        assert!(next.id.counter() > 5);
        assert_ne!(next.places[0].slot, 0);
    }

    #[test]
    fn a_segment_with_room_is_filled_up_after_a_restart() {
        let header = header(5, 0, 2);
        let shape = [DeviceShape { slot_count: 4, takes_writes: true, ..DeviceShape::default() }];
        let table = SegmentTable::new(&shape, std::slice::from_ref(&header), Lease(0), 1, 1 << 20, 0);
        table.add_live(header.id, 4096, 17);
        table.finish_recovery();
        let resumed = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("room");
        assert_eq!((resumed.id, resumed.next_block), (header.id, 17));
    }

    #[test]
    fn a_segment_of_this_run_is_not_filled_up_again_when_recovery_ends_late() {
        let shape = [DeviceShape { slot_count: 4, takes_writes: true, ..DeviceShape::default() }];
        let table = SegmentTable::new(&shape, &[], Lease(0), 1, 1 << 20, 0);
        table.await_sessions(1);
        table.finish_recovery();
        let written = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
        let _uncommitted = table.pin(written.id).expect("current");
        table.seal(written.id);
        table.session_began();
        let next = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
        assert_ne!(next.id, written.id, "an object lies there that nothing refers to yet");
    }

    #[test]
    fn in_a_full_store_what_seems_dead_waits_for_sessions_as_long_as_they_can_begin() {
        let header = header(5, 0, 2);
        let shape = [DeviceShape { slot_count: 4, takes_writes: true, ..DeviceShape::default() }];
        let table = SegmentTable::new(&shape, std::slice::from_ref(&header), Lease(0), 1, 1 << 20, 1);
        let (data, opening) =
            (wanted(SegmentKind::Commit, Purpose::Data), wanted(SegmentKind::Commit, Purpose::Move));
        table.await_sessions(1);
        table.finish_recovery();
        assert!(table.awaits_sessions());
        table.allocate(&data).expect("free");
        table.allocate(&data).expect("free");
        assert_eq!(table.allocate(&data), Err(Error::Full));
        assert_eq!(table.admit_data(), Err(Error::Full));
        assert!(table.places(header.id).is_some(), "the end of a log that is away may refer to it");
        table.allocate(&opening).expect("the reserve");
        assert!(table.places(header.id).is_some());
        // Nothing at all is left: no session could ever begin.
        table.allocate(&opening).expect("what seems dead");
        assert!(table.places(header.id).is_none());
    }

    #[test]
    fn ids_go_on_above_the_lease_whatever_headers_are_seen() {
        let shape = [DeviceShape { slot_count: 4, takes_writes: true, ..DeviceShape::default() }];
        let lease = Lease::of(1);
        let table = SegmentTable::new(&shape, &[], lease, 1, 1 << 20, 0);
        table.finish_recovery();
        let given = table.allocate(&wanted(SegmentKind::Bulk, Purpose::Data)).expect("free");
        assert!(given.id.counter() > lease.0);
        assert!(!table.is_leased(given.id), "the last run may have used the old lease up");
        table.extend_lease(Lease::of(given.id.counter()));
        assert!(table.is_leased(given.id));
    }
}
