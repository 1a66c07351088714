//! A simulated device: what is durable, what it has only cached, what is on its way, and faults.
//!
//! - A write goes on when nobody waits for it any more, and keeps its buffer, as in a kernel. When it ends its pages are in the cache.
//! - A flush makes durable what had ended when it was submitted. Each operation takes a time of its own, so they end in any order.
//! - A crash decides for each sector of what is cached or on its way which of its contents survives.
//!
//! Only pages that were written take memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::chance::Chance;
use super::executor::Executor;
use super::faults::{Fault, Faults, WriteFate};
use super::trace::Trace;
use futures_util::future::LocalBoxFuture;

use crate::device::{AlignedBuffer, IoFailure};
use crate::event::{Completer, completion};
use crate::format::superblock::CHECKPOINT_OFFSET;
use crate::limits::BLOCK_SIZE;

const EIO: i32 = 5;

type Page = Rc<[u8; BLOCK_SIZE]>;

/// A device; clones are handles on the same one.
#[derive(Clone)]
pub struct Device(Rc<Medium>);

struct Medium {
    index: usize,
    capacity: u64,
    executor: Executor,
    faults: Rc<Faults>,
    trace: Trace,
    chance: RefCell<Chance>,
    durable: RefCell<BTreeMap<u64, Page>>,
    /// Of each page, its contents since it was made durable, in order, each with the number of the write that brought it.
    cached: RefCell<BTreeMap<u64, Vec<(u64, Page)>>>,
    in_flight: RefCell<BTreeMap<u64, InFlight>>,
    /// Operations begun, for their names.
    begun: Cell<u64>,
    /// Writes ended: the number of the last.
    ended: Cell<u64>,
}

struct InFlight {
    offset: u64,
    buffer: Rc<AlignedBuffer>,
    fate: WriteFate,
    done: Completer<Result<(), IoFailure>>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Killed: what devices cached stays, of writes on their way each page may arrive.
    Kill,
    /// Without power: of all that was not flushed each sector may survive.
    PowerCut,
}

impl Device {
    /// Nothing of its checkpoint area is left.
    pub fn lose_checkpoint_area(&self) {
        let pages = CHECKPOINT_OFFSET / BLOCK_SIZE as u64..2 * CHECKPOINT_OFFSET / BLOCK_SIZE as u64;
        self.0.durable.borrow_mut().retain(|page, _| !pages.contains(page));
        self.0.cached.borrow_mut().retain(|page, _| !pages.contains(page));
    }

    /// An empty device.
    pub fn new(
        index: usize,
        capacity: u64,
        executor: &Executor,
        faults: &Rc<Faults>,
        trace: &Trace,
        chance: Chance,
    ) -> Self {
        Device(Rc::new(Medium {
            index,
            capacity,
            executor: executor.clone(),
            faults: faults.clone(),
            trace: trace.clone(),
            chance: RefCell::new(chance),
            durable: RefCell::default(),
            cached: RefCell::default(),
            in_flight: RefCell::default(),
            begun: Cell::new(0),
            ended: Cell::new(0),
        }))
    }

    /// What a crash leaves of it.
    pub fn crash(&self, crash: Crash) {
        self.0.crash(crash);
    }
}

impl crate::device::Device for Device {
    fn capacity(&self) -> u64 {
        self.0.capacity
    }

    async fn read(&self, mut buffer: AlignedBuffer, offset: u64) -> (Result<(), IoFailure>, AlignedBuffer) {
        let medium = &self.0;
        medium.check_range(offset, buffer.len());
        medium.begin("read", offset, buffer.len());
        let latency = medium.latency(5_000, 100_000);
        medium.executor.sleep(latency).await;
        let result = medium.end_read(&mut buffer, offset);
        (result, buffer)
    }

    async fn write(&self, buffer: Rc<AlignedBuffer>, offset: u64) -> Result<(), IoFailure> {
        let medium = &self.0;
        medium.check_range(offset, buffer.len());
        let number = medium.begin("write", offset, buffer.len());
        let (done, waiting) = completion();
        let fate = medium.faults.write(medium.index);
        medium.in_flight.borrow_mut().insert(number, InFlight { offset, buffer, fate, done });
        let ending = medium.clone();
        medium.executor.after(medium.latency(10_000, 200_000), move || ending.end_write(number));
        waiting.wait().await.unwrap_or(Err(IoFailure { op: "write", errno: EIO }))
    }

    async fn flush(&self) -> Result<(), IoFailure> {
        let medium = &self.0;
        medium.begin("flush", 0, 0);
        let until = medium.ended.get();
        let fails = medium.faults.flush_fails(medium.index);
        let (done, waiting) = completion();
        let ending = medium.clone();
        medium.executor.after(medium.latency(20_000, 500_000), move || ending.end_flush(until, fails, done));
        waiting.wait().await.unwrap_or(Err(IoFailure { op: "flush", errno: EIO }))
    }

    fn detach(&self, task: LocalBoxFuture<'static, ()>) {
        self.0.executor.spawn(task);
    }
}

impl Medium {
    fn check_range(&self, offset: u64, len: usize) {
        let block = BLOCK_SIZE as u64;
        assert!(offset.is_multiple_of(block) && len.is_multiple_of(BLOCK_SIZE) && len > 0, "whole blocks");
        assert!(offset + len as u64 <= self.capacity, "within the device");
    }

    fn begin(&self, what: &str, offset: u64, len: usize) -> u64 {
        self.begun.set(self.begun.get() + 1);
        self.trace.add(what, &[self.executor.now(), self.index as u64, offset, len as u64], &[]);
        self.begun.get()
    }

    /// Mostly short, now and then very long.
    fn latency(&self, min: u64, max: u64) -> u64 {
        let mut chance = self.chance.borrow_mut();
        let max = if chance.below(50) == 0 { max * 50 } else { max };
        min + chance.below(max - min)
    }

    /// An operation has ended; when it was the last, nobody hears of it.
    fn completed(&self) {
        if self.faults.completed() {
            self.executor.halt();
        }
    }

    // -- reads

    fn end_read(&self, buffer: &mut AlignedBuffer, offset: u64) -> Result<(), IoFailure> {
        if self.faults.read_fails(self.index) {
            self.faults.saw(Fault::FailedRead);
            self.trace.add("read failed", &[self.index as u64, offset], &[]);
            return Err(IoFailure { op: "read", errno: EIO });
        }
        if offset >= CHECKPOINT_OFFSET && self.faults.read_rots(self.index) {
            self.rot(offset, buffer.len());
        }
        for (i, bytes) in buffer.chunks_exact_mut(BLOCK_SIZE).enumerate() {
            match self.visible(offset / BLOCK_SIZE as u64 + i as u64) {
                Some(page) => bytes.copy_from_slice(&page[..]),
                None => bytes.fill(0),
            }
        }
        self.trace.add("read ended", &[self.index as u64, offset], buffer);
        self.completed();
        Ok(())
    }

    fn visible(&self, number: u64) -> Option<Page> {
        let cached = self.cached.borrow();
        match cached.get(&number).and_then(|contents| contents.last()) {
            Some((_, page)) => Some(page.clone()),
            None => self.durable.borrow().get(&number).cloned(),
        }
    }

    /// Flips a bit of something in that range, if anything was ever written there.
    fn rot(&self, offset: u64, len: usize) {
        let (at, bit) = {
            let mut chance = self.chance.borrow_mut();
            (chance.below(len as u64 / BLOCK_SIZE as u64), chance.below(BLOCK_SIZE as u64 * 8) as usize)
        };
        let number = offset / BLOCK_SIZE as u64 + at;
        let Some(mut page) = self.visible(number) else { return };
        Rc::make_mut(&mut page)[bit / 8] ^= 1 << (bit % 8);
        match self.cached.borrow_mut().get_mut(&number).and_then(|contents| contents.last_mut()) {
            Some((_, last)) => *last = page,
            None => {
                self.durable.borrow_mut().insert(number, page);
            }
        }
        self.faults.saw(Fault::RottenRead);
        self.trace.add("rot", &[self.index as u64, number, bit as u64], &[]);
    }

    // -- writes

    fn end_write(&self, number: u64) {
        let Some(write) = self.in_flight.borrow_mut().remove(&number) else { return };
        self.ended.set(self.ended.get() + 1);
        let len = write.buffer.len();
        let (offset, result) = match write.fate {
            WriteFate::Done => (write.offset, Ok(())),
            WriteFate::Misdirected => {
                self.faults.saw(Fault::MisdirectedWrite);
                (self.other_offset(len), Ok(()))
            }
            WriteFate::Fails => {
                self.faults.saw(Fault::FailedWrite);
                (write.offset, Err(IoFailure { op: "write", errno: EIO }))
            }
        };
        for (i, bytes) in write.buffer.chunks_exact(BLOCK_SIZE).enumerate() {
            if result.is_ok() || self.chance.borrow_mut().below(2) == 0 {
                self.cache(offset / BLOCK_SIZE as u64 + i as u64, self.ended.get(), bytes);
            }
        }
        self.trace.add(
            "write ended",
            &[self.index as u64, offset, len as u64, result.is_ok().into()],
            &write.buffer,
        );
        self.completed();
        write.done.complete(result);
    }

    fn cache(&self, page: u64, write: u64, bytes: &[u8]) {
        let mut content = [0; BLOCK_SIZE];
        content.copy_from_slice(bytes);
        self.cached.borrow_mut().entry(page).or_default().push((write, Rc::new(content)));
    }

    /// Somewhere behind the superblocks.
    fn other_offset(&self, len: usize) -> u64 {
        let block = BLOCK_SIZE as u64;
        let first = CHECKPOINT_OFFSET.div_ceil(block);
        let places = (self.capacity - len as u64) / block - first;
        (first + self.chance.borrow_mut().below(places)) * block
    }

    // -- flushes

    fn end_flush(&self, until: u64, fails: bool, done: Completer<Result<(), IoFailure>>) {
        self.trace.add("flush ended", &[self.index as u64, until, fails.into()], &[]);
        if fails {
            self.faults.saw(Fault::FailedFlush);
            self.crash_cache(Chance::new(self.chance.borrow_mut().number()));
            done.complete(Err(IoFailure { op: "flush", errno: EIO }));
            return;
        }
        self.settle(until);
        self.completed();
        done.complete(Ok(()));
    }

    /// Makes durable what ended up to that write.
    fn settle(&self, until: u64) {
        let mut durable = self.durable.borrow_mut();
        self.cached.borrow_mut().retain(|number, contents| {
            let count = contents.iter().take_while(|(write, _)| *write <= until).count();
            if let Some((_, newest)) = contents.drain(..count).next_back() {
                durable.insert(*number, newest);
            }
            !contents.is_empty()
        });
    }

    // -- crashes

    fn crash(&self, crash: Crash) {
        let mut chance = self.chance.borrow_mut().fork();
        let in_flight = std::mem::take(&mut *self.in_flight.borrow_mut());
        for write in in_flight.into_values() {
            self.ended.set(self.ended.get() + 1);
            let arrives = chance.below(3);
            for (i, bytes) in write.buffer.chunks_exact(BLOCK_SIZE).enumerate() {
                if arrives == 0 || (arrives == 1 && chance.below(2) == 0) {
                    self.cache(write.offset / BLOCK_SIZE as u64 + i as u64, self.ended.get(), bytes);
                }
            }
        }
        if crash == Crash::PowerCut {
            self.crash_cache(chance);
        }
        self.trace.add("crash", &[self.index as u64], &[]);
    }

    /// Decides for each sector that is not durable which of its contents survives.
    fn crash_cache(&self, mut chance: Chance) {
        // Of ten sectors, how many survive: sometimes all or none.
        let surviving = *chance.pick(&[0, 1, 5, 5, 9, 10]);
        let mut survived: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let cached = std::mem::take(&mut *self.cached.borrow_mut());
        for (number, contents) in cached {
            let mut page = self.durable.borrow().get(&number).map_or([0; BLOCK_SIZE], |page| **page);
            for sector in (0..BLOCK_SIZE).step_by(self.faults.plan.sector_size) {
                let range = sector..sector + self.faults.plan.sector_size;
                let chosen =
                    (chance.below(10) < surviving).then(|| chance.below(contents.len() as u64) as usize);
                for (i, (write, content)) in contents.iter().enumerate() {
                    let counts = survived.entry(*write).or_default();
                    if chosen == Some(i) {
                        page[range.clone()].copy_from_slice(&content[range.clone()]);
                        counts.0 += 1;
                    } else {
                        counts.1 += 1;
                    }
                }
            }
            self.durable.borrow_mut().insert(number, Rc::new(page));
        }
        self.count_survivors(&survived);
    }

    /// Of each write how many sectors survived and how many did not: what kinds of fault that was.
    fn count_survivors(&self, survived: &BTreeMap<u64, (u64, u64)>) {
        let lost = survived.values().filter(|(kept, _)| *kept == 0).count();
        let torn = survived.values().filter(|(kept, lost)| *kept > 0 && *lost > 0).count();
        let first_lost = survived.iter().find(|(_, (kept, _))| *kept == 0).map(|(write, _)| *write);
        let reordered =
            survived.iter().filter(|(write, (kept, _))| *kept > 0 && first_lost.is_some_and(|l| l < **write));
        self.faults.saw_times(Fault::LostWrite, lost as u64);
        self.faults.saw_times(Fault::TornWrite, torn as u64);
        self.faults.saw_times(Fault::ReorderedWrite, reordered.count() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::FaultPlan;
    use super::*;
    use crate::device::Device as _;

    fn calm_device(seed: u64) -> (Executor, Device) {
        let mut chance = Chance::new(seed);
        let executor = Executor::new(chance.fork());
        let faults = Rc::new(Faults::new(FaultPlan::choose(&mut chance), chance.fork()));
        let device = Device::new(0, 1 << 20, &executor, &faults, &Trace::new(false), chance);
        (executor, device)
    }

    fn run<T: 'static>(executor: &Executor, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let out = result.clone();
        executor.spawn(async move { *out.borrow_mut() = Some(future.await) });
        executor.run_until(|| result.borrow().is_some());
        let value = result.borrow_mut().take();
        value.expect("it ended")
    }

    fn block(byte: u8) -> Rc<AlignedBuffer> {
        let mut buffer = AlignedBuffer::zeroed(BLOCK_SIZE);
        buffer.fill(byte);
        Rc::new(buffer)
    }

    #[test]
    fn what_was_flushed_survives_every_power_cut_and_the_rest_survives_some() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let (executor, device) = calm_device(seed);
            let writing = device.clone();
            run(&executor, async move {
                writing.write(block(1), 0).await.expect("written");
                writing.flush().await.expect("flushed");
                writing.write(block(2), 4096).await.expect("written");
            });
            device.crash(Crash::PowerCut);
            let reading = device.clone();
            let (result, found) =
                run(&executor, async move { reading.read(AlignedBuffer::zeroed(8192), 0).await });
            result.expect("read");
            assert!(found[..4096].iter().all(|byte| *byte == 1));
            outcomes.insert(found[4096..].iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
        assert!(outcomes.len() > 1, "a write that was not flushed is not always kept: {outcomes:?}");
    }
}
