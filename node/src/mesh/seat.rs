//! One seat of the mesh: the lanes that all threads see, and what belongs to the seat's own thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use futures_util::task::AtomicWaker;

use super::{CoreId, MeshClosed};

/// The boxed part of a call: runs on the target with its seat and its state.
pub type Run<T> = Box<dyn FnOnce(&Rc<Local<T>>, Rc<T>) + Send>;

/// What travels on a lane.
pub enum Message<T: 'static> {
    Call(Run<T>),
    Reply(Box<dyn FnOnce() + Send>),
}

/// The queue from one seat to another.
pub struct Lane<T: 'static> {
    pub queue: ArrayQueue<Message<T>>,
    /// The sender has messages that found no room; whoever makes room wakes it.
    pub is_starved: AtomicBool,
}

impl<T> Lane<T> {
    fn new(len: usize) -> Self {
        Lane { queue: ArrayQueue::new(len), is_starved: AtomicBool::new(false) }
    }

    pub fn drop_messages(&self) {
        while self.queue.pop().is_some() {}
    }
}

/// What all threads see of one seat.
#[derive(Default)]
pub struct Seat {
    pub waker: AtomicWaker,
    /// The receiving loop sleeps and must be woken. Else it looks at its lanes again before it sleeps.
    pub is_parked: AtomicBool,
    pub is_closed: AtomicBool,
    pub is_taken: AtomicBool,
    pub calls: AtomicU64,
    pub waits: AtomicU64,
}

/// The lanes and seats, as all threads see them.
pub struct Shared<T: 'static> {
    pub core_count: usize,
    pub seats: Box<[CachePadded<Seat>]>,
    lanes: Box<[CachePadded<Lane<T>>]>,
}

impl<T> Shared<T> {
    pub fn new(core_count: usize, lane_len: usize) -> Self {
        let seat_count = core_count + 1;
        let lanes = (0..seat_count * seat_count).map(|_| CachePadded::new(Lane::new(lane_len))).collect();
        let seats = (0..seat_count).map(|_| CachePadded::new(Seat::default())).collect();
        Shared { core_count, seats, lanes }
    }

    pub fn lane(&self, from: CoreId, to: CoreId) -> &Lane<T> {
        &self.lanes[from.index() * self.seats.len() + to.index()]
    }

    pub fn seat_ids(&self) -> impl Iterator<Item = CoreId> + use<T> {
        (0..self.seats.len()).map(CoreId::new)
    }

    /// Makes sure that `core` looks at its lanes and outboxes once more.
    pub fn unpark(&self, core: CoreId) {
        let seat = &self.seats[core.index()];
        fence(Ordering::SeqCst);
        if seat.is_parked.load(Ordering::Relaxed) && seat.is_parked.swap(false, Ordering::Relaxed) {
            seat.waker.wake();
        }
    }

    fn is_closed(&self, core: CoreId) -> bool {
        self.seats[core.index()].is_closed.load(Ordering::Relaxed)
    }
}

/// One seat, on its own thread.
pub struct Local<T: 'static> {
    pub here: CoreId,
    pub shared: Arc<Shared<T>>,
    /// Per target: messages that found the lane full, oldest first.
    outboxes: RefCell<Vec<Outbox<T>>>,
    pub waiting_count: Cell<usize>,
    pub state: RefCell<Option<Rc<T>>>,
    /// Calls that came before the state; not more than their callers' tasks.
    pub early_calls: RefCell<Vec<Run<T>>>,
}

/// Messages that wait for room, each shared with its sender's ticket; empty where the sender took it back.
type Outbox<T> = VecDeque<Rc<RefCell<Option<Message<T>>>>>;

impl<T> Local<T> {
    pub fn new(here: CoreId, shared: Arc<Shared<T>>) -> Self {
        let outboxes = shared.seat_ids().map(|_| VecDeque::new()).collect();
        Local {
            here,
            shared,
            outboxes: RefCell::new(outboxes),
            waiting_count: Cell::new(0),
            state: RefCell::new(None),
            early_calls: RefCell::default(),
        }
    }

    pub fn seat(&self) -> &Seat {
        &self.shared.seats[self.here.index()]
    }

    /// Puts `message` on the lane, or behind those that already wait for room.
    pub fn send(&self, to: CoreId, message: Message<T>) -> Result<Ticket<T>, MeshClosed> {
        if self.shared.is_closed(to) {
            return Err(MeshClosed);
        }
        let lane = self.shared.lane(self.here, to);
        let mut outboxes = self.outboxes.borrow_mut();
        let outbox = &mut outboxes[to.index()];
        let rejected = if outbox.is_empty() { lane.queue.push(message).err() } else { Some(message) };
        let Some(message) = rejected else {
            drop(outboxes);
            self.shared.unpark(to);
            if self.shared.is_closed(to) {
                lane.drop_messages();
            }
            return Ok(Ticket(None));
        };
        let waiting = Rc::new(RefCell::new(Some(message)));
        outbox.push_back(waiting.clone());
        self.waiting_count.set(self.waiting_count.get() + 1);
        self.seat().waits.fetch_add(1, Ordering::Relaxed);
        self.flush_outbox(to, outbox);
        Ok(Ticket(Some(waiting)))
    }

    pub fn flush_outboxes(&self) -> usize {
        if self.waiting_count.get() == 0 {
            return 0;
        }
        let mut outboxes = self.outboxes.borrow_mut();
        self.shared.seat_ids().map(|to| self.flush_outbox(to, &mut outboxes[to.index()])).sum()
    }

    /// Moves what fits from `outbox` to its lane. What doesn't fit leaves the lane marked as starved.
    fn flush_outbox(&self, to: CoreId, outbox: &mut Outbox<T>) -> usize {
        let lane = self.shared.lane(self.here, to);
        if self.shared.is_closed(to) {
            self.waiting_count.set(self.waiting_count.get() - outbox.len());
            // The senders still hold their tickets, so the messages must be dropped one by one.
            outbox.drain(..).for_each(|waiting| drop(waiting.borrow_mut().take()));
            return 0;
        }
        let mut moved = self.push_waiting(lane, outbox);
        if !outbox.is_empty() {
            lane.is_starved.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            moved += self.push_waiting(lane, outbox);
        }
        if moved > 0 {
            self.shared.unpark(to);
        }
        moved
    }

    fn push_waiting(&self, lane: &Lane<T>, outbox: &mut Outbox<T>) -> usize {
        let mut moved = 0;
        while let Some(waiting) = outbox.front() {
            let message = waiting.borrow_mut().take();
            // An abandoned entry is empty and just leaves the line.
            if let Some(message) = message {
                if let Err(message) = lane.queue.push(message) {
                    *waiting.borrow_mut() = Some(message);
                    break;
                }
                moved += 1;
            }
            outbox.pop_front();
            self.waiting_count.set(self.waiting_count.get() - 1);
        }
        moved
    }
}

/// The sender's hold on a message that may still wait for room. Dropping it takes the message back.
pub struct Ticket<T: 'static>(Option<Rc<RefCell<Option<Message<T>>>>>);

impl<T> Ticket<T> {
    /// Lets the message go its way without its sender.
    pub fn leave(mut self) {
        self.0 = None;
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        if let Some(waiting) = &self.0 {
            drop(waiting.borrow_mut().take());
        }
    }
}
