//! Which faults a world has, and the rule that bounds them by what the engine promises to survive.
//!
//! | fault | bound |
//! |---|---|
//! | killed, power cut, torn, lost, reordered writes | any time, all devices at once, any number of copies |
//! | failed write or flush | one device a session (the *ailing* one); a failed flush loses what was not durable |
//! | failed read | of the ailing device; with one copy not while opening, since a record that can't be read there is a record that is lost |
//! | rotten read, misdirected write | with two copies or more, and of one device for the whole life of the store (the *victim*): nothing repairs what is bad on it. Superblocks are spared, since a device without one is no device of the store |
//! | absent device | with two copies or more and one device more than copies, one session long, after a session in which all devices were there and at rest |
//!
//! Where there is a victim, it is the ailing and the absent device too: two bad devices may have had the two copies of something.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::chance::Chance;

/// A kind of fault, as it is counted when it was seen to have an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process was killed while devices went on.
    Killed,
    /// All devices lost power.
    PowerCut,
    /// A write of which some sectors survived a crash and others did not.
    TornWrite,
    /// A completed write of which nothing survived, since it was not flushed.
    LostWrite,
    /// A write survived that completed after one that did not.
    ReorderedWrite,
    /// A write landed elsewhere.
    MisdirectedWrite,
    /// A write failed.
    FailedWrite,
    /// A flush failed, and what was not durable was lost.
    FailedFlush,
    /// A read failed.
    FailedRead,
    /// A bit of what was read had changed, for good.
    RottenRead,
    /// A session without one of the devices.
    AbsentDevice,
    /// A request was refused for want of space.
    FullStore,
    /// The process stopped in order and was started again.
    CleanRestart,
    /// Every pointer to a checkpoint was destroyed while the store was closed.
    LostPointers,
    /// A checkpoint was made: no fault, but what faults are to hit.
    Checkpoint,
    /// Runs of a directory were merged.
    Merge,
    /// Compaction moved something.
    Compaction,
    /// Compaction moved something out of a segment of large objects.
    BulkCompaction,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 18] = [
        Fault::Killed,
        Fault::PowerCut,
        Fault::TornWrite,
        Fault::LostWrite,
        Fault::ReorderedWrite,
        Fault::MisdirectedWrite,
        Fault::FailedWrite,
        Fault::FailedFlush,
        Fault::FailedRead,
        Fault::RottenRead,
        Fault::AbsentDevice,
        Fault::FullStore,
        Fault::CleanRestart,
        Fault::LostPointers,
        Fault::Checkpoint,
        Fault::Merge,
        Fault::Compaction,
        Fault::BulkCompaction,
    ];
}

/// The store of a world and the faults it may have, chosen by the seed. Odds are out of 10 000 operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// Devices.
    pub device_count: usize,
    /// Copies of each segment.
    pub copies: u8,
    /// Segments that fit on each device.
    pub slot_count: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Largest object that lies in its record.
    pub inline_max: u32,
    /// Bytes that are written as a whole or not at all.
    pub sector_size: usize,
    /// The device that may rot and misdirect.
    pub victim: Option<usize>,
    /// Odds of a rotten read of the victim.
    pub rot: u32,
    /// Odds of a misdirected write of the victim.
    pub misdirect: u32,
    /// Odds that a session has an ailing device.
    pub ailing: u32,
    /// Odds of a failed write, flush and read of the ailing device.
    pub fail_write: u32,
    /// See `fail_write`.
    pub fail_flush: u32,
    /// See `fail_write`.
    pub fail_read: u32,
    /// Odds that a session misses a device.
    pub absent: u32,
}

impl FaultPlan {
    /// The plan of a seed.
    pub fn choose(chance: &mut Chance) -> Self {
        let (device_count, copies) =
            *chance.pick(&[(1, 1), (1, 1), (2, 1), (2, 2), (2, 2), (3, 2), (3, 2), (3, 2), (3, 3)]);
        let has_victim = copies > 1 && chance.below(2) == 0;
        let victim = has_victim.then(|| chance.below(device_count as u64) as usize);
        let (rot, misdirect) =
            if has_victim { *chance.pick(&[(0, 100), (100, 0), (50, 50)]) } else { (0, 0) };
        let ailing = *chance.pick(&[0, 4000, 8000]);
        let (fail_write, fail_flush, fail_read) =
            *chance.pick(&[(100, 0, 0), (0, 100, 0), (0, 0, 300), (40, 40, 100)]);
        let has_spare = device_count > usize::from(copies);
        let absent = if copies > 1 && has_spare && chance.below(3) > 0 { 4000 } else { 0 };
        FaultPlan {
            device_count,
            copies,
            slot_count: *chance.pick(&[16, 24, 40]),
            segment_size: *chance.pick(&[1 << 20, 1 << 20, 2 << 20]),
            inline_max: *chance.pick(&[4096, 32 * 1024]),
            sector_size: *chance.pick(&[512, 4096]),
            victim,
            rot,
            misdirect,
            ailing,
            fail_write,
            fail_flush,
            fail_read,
            absent,
        }
    }

    /// The device that ails in the next session.
    pub fn choose_ailing(&self, chance: &mut Chance) -> Option<usize> {
        let is_ailing = chance.happens(self.ailing);
        is_ailing.then(|| self.victim.unwrap_or(chance.below(self.device_count as u64) as usize))
    }

    /// The device that is away in the next session.
    pub fn choose_absent(&self, chance: &mut Chance) -> Option<usize> {
        let is_absent = chance.happens(self.absent);
        is_absent.then(|| self.victim.unwrap_or(chance.below(self.device_count as u64) as usize))
    }
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFate {
    /// It is done.
    Done,
    /// It fails, with any part of it done.
    Fails,
    /// It is done elsewhere.
    Misdirected,
}

/// The faults of a world as it runs: all its devices ask here.
pub struct Faults {
    /// What it may have.
    pub plan: FaultPlan,
    chance: RefCell<Chance>,
    /// The device that fails operations in this session.
    ailing: Cell<Option<usize>>,
    /// Whether the store is being opened.
    is_opening: Cell<bool>,
    /// Nothing happens: while the store is formatted, and in sessions of rest.
    is_calm: Cell<bool>,
    /// Completions until the crash.
    left: Cell<Option<u64>>,
    counts: RefCell<BTreeMap<Fault, u64>>,
}

impl Faults {
    /// The faults of that plan; calm at first.
    pub fn new(plan: FaultPlan, chance: Chance) -> Self {
        Faults {
            plan,
            chance: RefCell::new(chance),
            ailing: Cell::new(None),
            is_opening: Cell::new(false),
            is_calm: Cell::new(true),
            left: Cell::new(None),
            counts: RefCell::default(),
        }
    }

    /// A session in which nothing goes wrong.
    pub fn calm(&self) {
        self.is_calm.set(true);
        self.ailing.set(None);
        self.left.set(None);
    }

    /// A session with that ailing device, and a crash after so many completed operations.
    pub fn begin_session(&self, ailing: Option<usize>, left: Option<u64>) {
        self.is_calm.set(false);
        self.ailing.set(ailing);
        self.is_opening.set(true);
        self.left.set(left);
    }

    /// The store is open. Now and then the crash comes soon: the first writes of a session are special.
    pub fn opened(&self) {
        self.is_opening.set(false);
        let mut chance = self.chance.borrow_mut();
        if self.left.get().is_some() && chance.below(4) == 0 {
            self.left.set(Some(1 + chance.below(60)));
        }
    }

    /// Whether requests may fail with errors that a device's failure explains.
    pub fn may_fail(&self) -> bool {
        self.ailing.get().is_some()
    }

    /// Whether reads may fail for good, since there is no other copy.
    pub fn may_fail_reads(&self) -> bool {
        self.may_fail() && self.plan.copies == 1 && self.plan.fail_read > 0
    }

    /// What becomes of a write to that device.
    pub fn write(&self, device: usize) -> WriteFate {
        let mut chance = self.chance.borrow_mut();
        if self.is_ailing(device) && chance.happens(self.plan.fail_write) {
            return WriteFate::Fails;
        }
        if self.is_victim(device) && chance.happens(self.plan.misdirect) {
            return WriteFate::Misdirected;
        }
        WriteFate::Done
    }

    /// Whether a flush of that device fails.
    pub fn flush_fails(&self, device: usize) -> bool {
        self.is_ailing(device) && self.chance.borrow_mut().happens(self.plan.fail_flush)
    }

    /// Whether a read of that device fails.
    pub fn read_fails(&self, device: usize) -> bool {
        let is_spared = self.is_opening.get() && self.plan.copies == 1;
        self.is_ailing(device) && !is_spared && self.chance.borrow_mut().happens(self.plan.fail_read)
    }

    /// Whether what is read of that device has rotted.
    pub fn read_rots(&self, device: usize) -> bool {
        self.is_victim(device) && self.chance.borrow_mut().happens(self.plan.rot)
    }

    /// An operation completed; whether that was the last before the crash.
    pub fn completed(&self) -> bool {
        let Some(left) = self.left.get() else { return false };
        self.left.set(Some(left.saturating_sub(1)));
        left <= 1
    }

    /// It was seen.
    pub fn saw(&self, fault: Fault) {
        self.saw_times(fault, 1);
    }

    /// It was seen so many times.
    pub fn saw_times(&self, fault: Fault, times: u64) {
        if times > 0 {
            *self.counts.borrow_mut().entry(fault).or_default() += times;
        }
    }

    /// How often each was seen.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        self.counts.borrow().clone()
    }

    fn is_ailing(&self, device: usize) -> bool {
        !self.is_calm.get() && self.ailing.get() == Some(device)
    }

    fn is_victim(&self, device: usize) -> bool {
        !self.is_calm.get() && self.plan.victim == Some(device)
    }
}
