//! Devices that lose power: what a write did not flush is there afterwards block by block, as chance has it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use engine::device::AlignedBuffer;

use super::{MemoryDevice, Seeded, yield_now};

const BLOCK: usize = engine::limits::BLOCK_SIZE;

/// The power of a machine: all its devices hang on it, and it goes after so many writes and flushes.
pub struct Power {
    random: RefCell<Seeded>,
    left: Cell<u64>,
    waiting: RefCell<Option<Waker>>,
}

/// How a machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is gone: what it had written is still in the device's cache, and not more durable than before.
    Kill,
    /// The cache is gone too.
    PowerCut,
}

impl Power {
    pub fn new(seed: u64, operations: u64) -> Rc<Self> {
        Rc::new(Power {
            random: RefCell::new(Seeded(seed)),
            left: Cell::new(operations),
            waiting: RefCell::default(),
        })
    }

    /// Completes when it goes.
    pub fn gone(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|context| {
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            if self.left.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    fn below(&self, end: u64) -> u64 {
        self.random.borrow_mut().below(end)
    }

    /// An operation begins, if there is power for it.
    async fn spend(&self) {
        if self.left.get() == 0 {
            pending::<()>().await;
        }
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
    }
}

/// A block's content, and the number of the write that brought it.
type Written = (u64, Box<[u8]>);

/// What a device took and has not made durable.
#[derive(Default)]
pub(super) struct Cache {
    /// Of each block, what was written since it was made durable, in order, and when.
    blocks: BTreeMap<usize, Vec<Written>>,
    /// Writes that have not ended. They go on when nobody waits for them, and keep their buffers, as in a kernel.
    in_flight: Vec<InFlight>,
    /// Writes begun.
    begun: u64,
    /// Writes ended.
    ended: u64,
}

struct InFlight {
    number: u64,
    offset: usize,
    buffer: Rc<AlignedBuffer>,
    /// Steps of the device until it ends.
    steps: u64,
}

impl Cache {
    pub(super) fn overlay(&self, offset: usize, buffer: &mut [u8]) {
        for (block, versions) in self.blocks.range(offset / BLOCK..(offset + buffer.len()) / BLOCK) {
            if let Some((_, bytes)) = versions.last() {
                buffer[block * BLOCK - offset..][..BLOCK].copy_from_slice(bytes);
            }
        }
    }

    fn begin(&mut self, offset: usize, buffer: Rc<AlignedBuffer>, steps: u64) -> u64 {
        self.begun += 1;
        self.in_flight.push(InFlight { number: self.begun, offset, buffer, steps });
        self.begun
    }

    /// The device goes on: writes end in any order.
    fn step(&mut self) {
        self.in_flight.iter_mut().for_each(|write| write.steps = write.steps.saturating_sub(1));
        while let Some(i) = self.in_flight.iter().position(|write| write.steps == 0) {
            let write = self.in_flight.remove(i);
            self.ended += 1;
            for (i, block) in write.buffer.chunks(BLOCK).enumerate() {
                self.blocks.entry(write.offset / BLOCK + i).or_default().push((self.ended, block.into()));
            }
        }
    }

    fn is_in_flight(&self, number: u64) -> bool {
        self.in_flight.iter().any(|write| write.number == number)
    }

    /// Makes durable what ended up to that moment.
    fn settle(&mut self, bytes: &mut [u8], until: u64) {
        self.blocks.retain(|block, versions| {
            let count = versions.iter().take_while(|(ended, _)| *ended <= until).count();
            if let Some((_, newest)) = versions.drain(..count).next_back() {
                bytes[block * BLOCK..][..BLOCK].copy_from_slice(&newest);
            }
            !versions.is_empty()
        });
    }
}

impl MemoryDevice {
    /// Hangs it on that power. What it had cached stays cached.
    pub fn plug_in(&self, power: &Rc<Power>) {
        *self.0.power.borrow_mut() = Some(power.clone());
    }

    /// What is left of it: of writes in flight (and with a power cut, of all that was not flushed) each block came to be or not.
    pub fn crash(&self, crash: Crash, random: &mut Seeded) {
        let mut cache = self.0.cache.borrow_mut();
        for write in std::mem::take(&mut cache.in_flight) {
            for (i, block) in write.buffer.chunks(BLOCK).enumerate() {
                if random.below(2) == 0 {
                    cache.blocks.entry(write.offset / BLOCK + i).or_default().push((u64::MAX, block.into()));
                }
            }
        }
        let ended = cache.ended;
        match crash {
            Crash::Kill => {
                cache.blocks.values_mut().flatten().for_each(|(at, _)| *at = (*at).min(ended));
            }
            Crash::PowerCut => {
                for (block, versions) in std::mem::take(&mut cache.blocks) {
                    let chosen = random.below(versions.len() as u64 + 1) as usize;
                    if chosen > 0 {
                        self.with_bytes(|bytes| {
                            bytes[block * BLOCK..][..BLOCK].copy_from_slice(&versions[chosen - 1].1);
                        });
                    }
                }
            }
        }
    }

    pub fn writes_ended(&self) -> u64 {
        self.0.cache.borrow().ended
    }

    pub fn is_writing(&self) -> bool {
        !self.0.cache.borrow().in_flight.is_empty()
    }

    /// Forgets what was not flushed, as a device may that failed to flush it.
    pub fn forget_cached(&self) {
        self.0.cache.borrow_mut().blocks.clear();
    }

    /// Lets other tasks run, and the device go on.
    pub async fn pass_time(&self) {
        yield_now().await;
        self.0.cache.borrow_mut().step();
    }

    pub(super) async fn write_cached(&self, buffer: Rc<AlignedBuffer>, offset: usize) {
        let power = self.0.power.borrow().clone().expect("plugged in");
        power.spend().await;
        let number = self.0.cache.borrow_mut().begin(offset, buffer, 1 + power.below(5));
        while self.0.cache.borrow().is_in_flight(number) {
            self.pass_time().await;
        }
    }

    pub(super) async fn flush_cache(&self) {
        let power = self.0.power.borrow().clone().expect("plugged in");
        power.spend().await;
        let until = self.0.cache.borrow().ended;
        for _ in 0..power.below(5) {
            self.pass_time().await;
        }
        self.0.cache.borrow_mut().settle(&mut self.0.bytes.borrow_mut(), until);
    }
}
