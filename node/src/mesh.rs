//! The mesh: how one core asks another to run something.
//!
//! Per ordered pair of seats there is a *lane*, a bounded lock-free queue. A call travels on the lane to the target,
//! runs there as a task of the target's runtime, and its result travels home on the opposite lane. So the only task
//! of a core that another thread ever wakes is its receiving loop ([`MeshHandle::serve`]); every other wake-up is
//! local. That matters: a cross-thread wake-up that finds the runtime's queue full spins, and two cores could spin on
//! each other.
//!
//! ```text
//!   core A                                  core B
//!   call ──> lane A→B [bounded] ──────────> serve: runs f(state) as a task
//!     │        full? wait in A's outbox        │
//!   reply <── serve <──────────── lane B→A <───┘
//! ```
//!
//! Invariants:
//! - Messages of one pair arrive in the order they were sent, also when some had to wait for room.
//! - A full lane never blocks a thread: messages wait in the sender's outbox, which its own receiving loop empties as
//!   soon as the target says that there is room. Receivers always drain, so two cores that fill each other's lanes go on.
//! - A caller that gives up while its message waits takes the message with it; once on the lane, the call runs.
//! - Calls between cores form a DAG (connection, home shard, catalog). The mesh doesn't check that.
//!
//! Besides the cores there is one more seat, the *observer*: it calls, and nobody calls it. The admin thread sits there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Context, Poll};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use futures_channel::oneshot;
use futures_util::task::AtomicWaker;

/// Messages that one lane holds. A core rarely has more than a few hundred calls to one other core between two passes
/// of that core's loop; what doesn't fit waits in the sender's outbox.
pub const LANE_LEN: usize = 1024;

/// Calls that one pass of the receiving loop takes from one lane before the tasks they started get a turn.
const BATCH_LEN: usize = 256;

/// A core of this node, counted from 0. It owns the shard of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(u16);

impl CoreId {
    /// The core of that 0-based index.
    pub fn new(index: usize) -> Self {
        CoreId(u16::try_from(index).expect("a node has fewer than 65 536 cores"))
    }

    /// The 0-based index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The called core has shut down (or is shutting down), or the call died there. Nothing may be concluded about its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshClosed;

impl fmt::Display for MeshClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the called core has shut down")
    }
}

impl std::error::Error for MeshClosed {}

/// What one seat has done so far, and how full its lanes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshFigures {
    /// Calls sent to other cores.
    pub calls: u64,
    /// Of all messages sent, those that found the lane full and had to wait for room.
    pub waits: u64,
    /// Messages on the lanes towards this core now.
    pub queued: usize,
}

/// All lanes of a node. `T` is the state of one core; it never leaves that core.
pub struct Mesh<T: 'static> {
    shared: Arc<Shared<T>>,
}

impl<T> Mesh<T> {
    /// Lanes for `core_count` cores and the observer, each holding `lane_len` messages.
    pub fn new(core_count: usize, lane_len: usize) -> Self {
        assert!(core_count > 0, "a node has at least one core");
        assert!(lane_len > 0, "a lane holds at least one message");
        let seat_count = core_count + 1;
        let lanes = (0..seat_count * seat_count).map(|_| CachePadded::new(Lane::new(lane_len))).collect();
        let seats = (0..seat_count).map(|_| CachePadded::new(Seat::default())).collect();
        Mesh { shared: Arc::new(Shared { core_count, seats, lanes }) }
    }

    /// The seat of `core`; taken once, on that core's thread.
    pub fn handle(&self, core: CoreId) -> MeshHandle<T> {
        assert!(core.index() < self.shared.core_count, "core {core} is not of this mesh");
        self.take_seat(core)
    }

    /// The seat beside the cores; taken once.
    pub fn observer(&self) -> MeshHandle<T> {
        self.take_seat(CoreId::new(self.shared.core_count))
    }

    /// Number of cores, without the observer.
    pub fn core_count(&self) -> usize {
        self.shared.core_count
    }

    /// What `core` has sent, and what waits for it.
    pub fn figures(&self, core: CoreId) -> MeshFigures {
        let seat = &self.shared.seats[core.index()];
        MeshFigures {
            calls: seat.calls.load(Ordering::Relaxed),
            waits: seat.waits.load(Ordering::Relaxed),
            queued: self.shared.seat_ids().map(|from| self.shared.lane(from, core).queue.len()).sum(),
        }
    }

    fn take_seat(&self, here: CoreId) -> MeshHandle<T> {
        let seat = &self.shared.seats[here.index()];
        assert!(!seat.is_taken.swap(true, Ordering::SeqCst), "the mesh seat {here} is taken once");
        let outboxes = self.shared.seat_ids().map(|_| VecDeque::new()).collect();
        MeshHandle {
            local: Rc::new(Local {
                here,
                shared: self.shared.clone(),
                outboxes: RefCell::new(outboxes),
                waiting_count: Cell::new(0),
                state: RefCell::new(Weak::new()),
            }),
        }
    }
}

impl<T> Clone for Mesh<T> {
    fn clone(&self) -> Self {
        Mesh { shared: self.shared.clone() }
    }
}

/// One core's seat in the mesh. Clones share it; none leaves the core's thread.
pub struct MeshHandle<T: 'static> {
    local: Rc<Local<T>>,
}

impl<T> MeshHandle<T> {
    /// Number of cores, without the observer.
    pub fn core_count(&self) -> usize {
        self.local.shared.core_count
    }

    /// The core of this seat (for the observer: the index after the last core).
    pub fn here(&self) -> CoreId {
        self.local.here
    }

    /// Runs `f` with the state of `core`, on `core`, and brings the result back. On the own core it runs in place.
    ///
    /// Calls to a core that doesn't serve yet wait until it does.
    ///
    /// # Errors
    /// [`MeshClosed`] when the core has shut down, or does before it has answered.
    pub async fn call<R, F, Fut>(&self, core: CoreId, f: F) -> Result<R, MeshClosed>
    where
        R: Send + 'static,
        F: FnOnce(Rc<T>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
    {
        assert!(core.index() < self.core_count(), "core {core} is not of this mesh");
        if core == self.local.here {
            let state = self.local.state.borrow().upgrade().ok_or(MeshClosed)?;
            return Ok(f(state).await);
        }
        let (sender, receiver) = oneshot::channel();
        let origin = self.local.here;
        let message = Message::Call(Box::new(move |there: &Rc<Local<T>>, state: Rc<T>| {
            let (there, future) = (there.clone(), f(state));
            compio::runtime::spawn(async move {
                let value = future.await;
                let reply = Message::Reply(Box::new(move || drop(sender.send(value))));
                // A caller whose core has closed waits no more.
                let _ = there.send(origin, reply).map(Ticket::leave);
            })
            .detach();
        }));
        self.local.seat().calls.fetch_add(1, Ordering::Relaxed);
        let _ticket = self.local.send(core, message)?;
        receiver.await.map_err(|_| MeshClosed)
    }

    /// The receiving loop of a core: runs what arrives for `state` as tasks of the current runtime. Never ends by
    /// itself; dropping it closes the seat, and every call to it, waiting or to come, ends with [`MeshClosed`].
    ///
    /// From the moment this is called (not polled), calls of the core to itself find `state`.
    pub fn serve(&self, state: Rc<T>) -> Serve<T> {
        *self.local.state.borrow_mut() = Rc::downgrade(&state);
        Serve { local: self.local.clone(), state: Some(state) }
    }

    /// The receiving loop of the observer: replies only.
    pub fn serve_replies(&self) -> Serve<T> {
        assert_eq!(self.here().index(), self.core_count(), "only the observer has no state");
        Serve { local: self.local.clone(), state: None }
    }
}

impl<T> Clone for MeshHandle<T> {
    fn clone(&self) -> Self {
        MeshHandle { local: self.local.clone() }
    }
}

/// The receiving loop of one seat; see [`MeshHandle::serve`].
#[must_use = "a seat that is not served answers nobody"]
pub struct Serve<T: 'static> {
    local: Rc<Local<T>>,
    state: Option<Rc<T>>,
}

impl<T> Future for Serve<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let seat = self.local.seat();
        seat.waker.register(context.waker());
        seat.is_parked.store(false, Ordering::Relaxed);
        let mut moved = self.receive() + self.local.flush_outboxes();
        if moved == 0 {
            seat.is_parked.store(true, Ordering::Relaxed);
            // Pairs with the fence in `unpark`: a sender either sees us parked, or we see its message here.
            fence(Ordering::SeqCst);
            moved = self.receive() + self.local.flush_outboxes();
        }
        if moved > 0 {
            seat.is_parked.store(false, Ordering::Relaxed);
            // More may be there, but first the tasks that were just started get a turn.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T> Serve<T> {
    /// Takes one batch from every lane; returns how many messages there were.
    fn receive(&self) -> usize {
        let (shared, here) = (&self.local.shared, self.local.here);
        let mut total = 0;
        for from in shared.seat_ids() {
            let lane = shared.lane(from, here);
            let mut taken = 0;
            while taken < BATCH_LEN
                && let Some(message) = lane.queue.pop()
            {
                self.handle(message);
                taken += 1;
            }
            if taken > 0 {
                // Pairs with the fence in `flush_outbox`: a sender either finds the room, or we see that it starves.
                fence(Ordering::SeqCst);
                if lane.is_starved.swap(false, Ordering::Relaxed) {
                    shared.unpark(from);
                }
            }
            total += taken;
        }
        total
    }

    fn handle(&self, message: Message<T>) {
        match (message, &self.state) {
            (Message::Reply(deliver), _) => deliver(),
            (Message::Call(run), Some(state)) => run(&self.local, state.clone()),
            (Message::Call(_), None) => unreachable!("`call` refuses the observer as a target"),
        }
    }
}

impl<T> Drop for Serve<T> {
    fn drop(&mut self) {
        let (shared, here) = (&self.local.shared, self.local.here);
        *self.local.state.borrow_mut() = Weak::new();
        self.local.seat().is_closed.store(true, Ordering::Relaxed);
        // Pairs with the fence in `send`: a sender either sees us closed, or its message is dropped here.
        fence(Ordering::SeqCst);
        for from in shared.seat_ids() {
            let lane = shared.lane(from, here);
            lane.drop_messages();
            lane.is_starved.store(false, Ordering::Relaxed);
            shared.unpark(from);
        }
    }
}

/// The boxed part of a call: runs on the target with its seat and its state.
type Run<T> = Box<dyn FnOnce(&Rc<Local<T>>, Rc<T>) + Send>;

enum Message<T: 'static> {
    Call(Run<T>),
    Reply(Box<dyn FnOnce() + Send>),
}

/// The queue from one seat to another.
struct Lane<T: 'static> {
    queue: ArrayQueue<Message<T>>,
    /// The sender has messages that found no room; whoever makes room wakes it.
    is_starved: AtomicBool,
}

impl<T> Lane<T> {
    fn new(len: usize) -> Self {
        Lane { queue: ArrayQueue::new(len), is_starved: AtomicBool::new(false) }
    }

    fn drop_messages(&self) {
        while self.queue.pop().is_some() {}
    }
}

#[derive(Default)]
struct Seat {
    waker: AtomicWaker,
    /// The receiving loop sleeps and must be woken. Else it looks at its lanes again before it sleeps.
    is_parked: AtomicBool,
    is_closed: AtomicBool,
    is_taken: AtomicBool,
    calls: AtomicU64,
    waits: AtomicU64,
}

struct Shared<T: 'static> {
    core_count: usize,
    seats: Box<[CachePadded<Seat>]>,
    lanes: Box<[CachePadded<Lane<T>>]>,
}

impl<T> Shared<T> {
    fn lane(&self, from: CoreId, to: CoreId) -> &Lane<T> {
        &self.lanes[from.index() * self.seats.len() + to.index()]
    }

    fn seat_ids(&self) -> impl Iterator<Item = CoreId> + use<T> {
        (0..self.seats.len()).map(CoreId::new)
    }

    /// Makes sure that `core` looks at its lanes and outboxes once more.
    fn unpark(&self, core: CoreId) {
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
struct Local<T: 'static> {
    here: CoreId,
    shared: Arc<Shared<T>>,
    /// Per target: messages that found the lane full, oldest first.
    outboxes: RefCell<Vec<Outbox<T>>>,
    waiting_count: Cell<usize>,
    state: RefCell<Weak<T>>,
}

type Outbox<T> = VecDeque<Rc<RefCell<Option<Message<T>>>>>;

impl<T> Local<T> {
    fn seat(&self) -> &Seat {
        &self.shared.seats[self.here.index()]
    }

    /// Puts `message` on the lane, or behind those that already wait for room.
    fn send(&self, to: CoreId, message: Message<T>) -> Result<Ticket<T>, MeshClosed> {
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

    fn flush_outboxes(&self) -> usize {
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
struct Ticket<T: 'static>(Option<Rc<RefCell<Option<Message<T>>>>>);

impl<T> Ticket<T> {
    /// Lets the message go its way without its sender.
    fn leave(mut self) {
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

#[cfg(test)]
mod tests;
