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

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll};

use futures_channel::oneshot;

mod seat;

use seat::{Local, Message, Shared, Ticket};

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
        Mesh { shared: Arc::new(Shared::new(core_count, lane_len)) }
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
        MeshHandle { local: Rc::new(Local::new(here, self.shared.clone())) }
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
    /// Calls to a core that isn't open yet wait until it is.
    ///
    /// # Errors
    /// [`MeshClosed`] when the core has shut down, or does before it has answered; on the own core also before it is open.
    pub async fn call<R, F, Fut>(&self, core: CoreId, f: F) -> Result<R, MeshClosed>
    where
        R: Send + 'static,
        F: FnOnce(Rc<T>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
    {
        assert!(core.index() < self.core_count(), "core {core} is not of this mesh");
        if core == self.local.here {
            let state = self.local.state.borrow().clone().ok_or(MeshClosed)?;
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

    /// The receiving loop of this seat: takes what arrives, replies at once, calls once the seat is open. Never ends by
    /// itself; dropping it closes the seat, and every call to it, waiting or to come, ends with [`MeshClosed`].
    pub fn serve(&self) -> Serve<T> {
        Serve { local: self.local.clone() }
    }

    /// From now on calls find `state`, those that have waited for it first. Until the seat closes it keeps `state`.
    pub fn open(&self, state: Rc<T>) {
        *self.local.state.borrow_mut() = Some(state.clone());
        for run in self.local.early_calls.take() {
            run(&self.local, state.clone());
        }
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
        let run = match message {
            Message::Reply(deliver) => return deliver(),
            Message::Call(run) => run,
        };
        let state = self.local.state.borrow().clone();
        match state {
            Some(state) => run(&self.local, state),
            None => self.local.early_calls.borrow_mut().push(run),
        }
    }
}

impl<T> Drop for Serve<T> {
    fn drop(&mut self) {
        let (shared, here) = (&self.local.shared, self.local.here);
        // The state may hold a handle of this seat: whatever it drops, it must not find us borrowed.
        let state = self.local.state.take();
        drop((state, self.local.early_calls.take()));
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

#[cfg(test)]
mod tests;
