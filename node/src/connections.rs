//! The connections of one core: how many there may be, how long each may keep us waiting, and how they end.
//!
//! Waiting for a peer has no timer of its own. Whoever is about to wait notes a deadline in its [`Watch`]; a task of
//! the core looks at all of them four times a second and shuts down the sockets of those that are late, which ends
//! the pending operation. So a limit costs a request two stores, and is kept to within [`SWEEP_INTERVAL`].
//!
//! ```text
//!   admit ─> Handshake ─> Idle ─(first byte)─> Head ─> Body ─> Idle ...
//!                          │ drain: ended at once      each ends late: read side shut, or both when writing
//! ```

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use compio::net::TcpStream;
use socket2::SockRef;

use crate::mesh::CoreId;
use crate::metrics::CoreMetrics;

/// Time between two looks at the deadlines; also the resolution of the coarse clock they are made from.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// How long a closing connection waits for the peer to read the last response and close its side.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long each kind of waiting for a peer may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TLS handshake, and for a request's head from its first byte on.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For the next bytes of a body to come, or of a response to be taken.
    pub body_stall: Duration,
}

/// What a connection waits for; says which limit applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The TLS handshake, in all.
    Handshake,
    /// The next request, in all. Its first byte turns this into [`Patience::Head`]. A drain ends it at once.
    Idle,
    /// The rest of a head, in all: a slow loris doesn't last.
    Head,
    /// The next bytes of a body; every arrival begins the time anew.
    Body,
    /// The end of the connection, in all.
    Linger,
}

/// The connections of one core.
pub struct Connections {
    timeouts: Timeouts,
    open_max: usize,
    /// Sends of that many bytes and more are made in place.
    zero_copy_send_min: Cell<usize>,
    metrics: Arc<[CoreMetrics]>,
    core: CoreId,
    /// The coarse clock: behind by at most [`SWEEP_INTERVAL`].
    now: Cell<Instant>,
    watches: RefCell<Vec<Option<Rc<Watch>>>>,
    vacant: RefCell<Vec<usize>>,
    open_count: Cell<usize>,
    is_draining: Cell<bool>,
    /// Tasks that wait for a connection to end.
    waiting: RefCell<Vec<Waker>>,
}

impl Connections {
    /// No connections yet; at most `open_max` at once. `metrics` is of all cores, `core` is this one. Sends of `zero_copy_send_min` bytes and more are made in
    /// place, if the kernel can.
    pub fn new(
        timeouts: Timeouts,
        open_max: usize,
        zero_copy_send_min: usize,
        metrics: Arc<[CoreMetrics]>,
        core: CoreId,
    ) -> Rc<Self> {
        Rc::new(Connections {
            timeouts,
            open_max,
            zero_copy_send_min: Cell::new(zero_copy_send_min),
            metrics,
            core,
            now: Cell::new(Instant::now()),
            watches: RefCell::default(),
            vacant: RefCell::default(),
            open_count: Cell::new(0),
            is_draining: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// Counts a new connection and watches over it until the answer is dropped.
    pub fn admit(self: &Rc<Self>, socket: &TcpStream) -> Admission {
        let watch =
            Rc::new(Watch { socket: socket.clone(), wait: Cell::new(None), is_late: Cell::new(false) });
        let mut watches = self.watches.borrow_mut();
        let slot = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            watches.push(None);
            watches.len() - 1
        });
        watches[slot] = Some(watch.clone());
        self.set_open_count(self.open_count.get() + 1);
        self.metrics().connections_accepted.add(1);
        Admission { connections: self.clone(), watch, slot, patience: Patience::Handshake, until: None }
    }

    /// Waits until another connection may be accepted.
    pub async fn room(&self) {
        self.open_count_below(self.open_max).await;
    }

    /// Waits until no connection is open.
    pub async fn all_closed(&self) {
        self.open_count_below(1).await;
    }

    /// Ends idle connections now, and every other one when it becomes idle.
    pub fn drain(&self) {
        self.is_draining.set(true);
        for watch in self.watches.borrow().iter().flatten() {
            if watch.wait.get().is_some_and(|wait| wait.is_idle) {
                watch.shut(Shutdown::Read);
            }
        }
    }

    /// Ends every connection now, whatever it does.
    pub fn cut(&self) {
        self.is_draining.set(true);
        self.watches.borrow().iter().flatten().for_each(|watch| watch.shut(Shutdown::Both));
    }

    /// Watches the deadlines; never ends.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            compio::time::sleep(SWEEP_INTERVAL).await;
            self.now.set(Instant::now());
            self.end_late();
        }
    }

    /// Whether the node is shutting down: the response to a request then says `Connection: close`.
    pub fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// How long the next bytes of a body may take.
    pub fn body_stall(&self) -> Duration {
        self.timeouts.body_stall
    }

    /// Bytes of a send from which on it is made in place.
    pub fn zero_copy_send_min(&self) -> usize {
        self.zero_copy_send_min.get()
    }

    /// The kernel did not send in place.
    pub fn note_zero_copy_refused(&self, error: &io::Error) {
        // What it can't do it will not learn; memory that may not be pinned now may be later.
        if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) {
            self.zero_copy_send_min.set(usize::MAX);
        }
        static NOTED: Once = Once::new();
        NOTED.call_once(|| {
            tracing::info!(%error, "the kernel does not send in place (network.zero_copy_send_min): such bytes are copied");
        });
    }

    /// Connections open now.
    pub fn open_count(&self) -> usize {
        self.open_count.get()
    }

    /// This core's counters.
    pub fn metrics(&self) -> &CoreMetrics {
        &self.metrics[self.core.index()]
    }

    fn end_late(&self) {
        let now = self.now.get();
        for watch in self.watches.borrow().iter().flatten() {
            let Some(wait) = watch.wait.get() else { continue };
            if wait.until <= now {
                if !watch.is_late.replace(true) && !wait.is_idle {
                    self.metrics().connections_timed_out.add(1);
                }
                watch.shut(wait.side);
            }
        }
    }

    async fn open_count_below(&self, limit: usize) {
        poll_fn(|context| {
            if self.open_count.get() < limit {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn set_open_count(&self, count: usize) {
        self.open_count.set(count);
        self.metrics().connections_open.set(count as u64);
    }

    fn remove(&self, slot: usize) {
        self.watches.borrow_mut()[slot] = None;
        self.vacant.borrow_mut().push(slot);
        self.set_open_count(self.open_count.get() - 1);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// An open connection's place among the others: its limits and its watch.
pub struct Admission {
    connections: Rc<Connections>,
    watch: Rc<Watch>,
    slot: usize,
    patience: Patience,
    /// The end of a patience that counts in all; `None` for one that begins anew with every wait.
    until: Option<Instant>,
}

impl Admission {
    /// From now on the connection waits for this.
    pub fn allow(&mut self, patience: Patience) {
        let timeouts = &self.connections.timeouts;
        let total = match patience {
            Patience::Handshake | Patience::Head => Some(timeouts.head),
            Patience::Idle => Some(timeouts.idle),
            Patience::Linger => Some(LINGER_TIMEOUT),
            Patience::Body => None,
        };
        self.patience = patience;
        self.until = total.map(|total| self.connections.now.get() + total);
    }

    /// What the connection waits for.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Notes that a receive begins. Answers whether it may: an idle connection has no future while the node drains.
    pub fn begin_receive(&self) -> bool {
        let is_idle = self.patience == Patience::Idle;
        if (is_idle && self.connections.is_draining()) || self.is_late() {
            return false;
        }
        let until = self.until.unwrap_or_else(|| self.stall_deadline());
        self.watch.wait.set(Some(Wait { until, side: Shutdown::Read, is_idle }));
        true
    }

    /// Notes that a receive ended with `count` bytes.
    pub fn end_receive(&mut self, count: usize) {
        self.watch.wait.set(None);
        self.connections.metrics().received_bytes.add(count as u64);
        if count > 0 {
            self.note_arrival();
        }
    }

    /// Notes that something of a request is there: the connection is idle no more.
    pub fn note_arrival(&mut self) {
        if self.patience == Patience::Idle {
            self.allow(Patience::Head);
        }
    }

    /// Notes that a send begins. A peer that takes nothing for too long is shut out both ways.
    pub fn begin_send(&self) {
        let until = if self.patience == Patience::Linger { self.until } else { None };
        let until = until.unwrap_or_else(|| self.stall_deadline());
        self.watch.wait.set(Some(Wait { until, side: Shutdown::Both, is_idle: false }));
    }

    /// Notes that a send ended with `count` bytes taken.
    pub fn end_send(&self, count: usize) {
        self.watch.wait.set(None);
        self.connections.metrics().sent_bytes.add(count as u64);
    }

    /// Whether the peer let a deadline pass.
    pub fn is_late(&self) -> bool {
        self.watch.is_late.get()
    }

    /// The core's connections.
    pub fn connections(&self) -> &Rc<Connections> {
        &self.connections
    }

    fn stall_deadline(&self) -> Instant {
        self.connections.now.get() + self.connections.timeouts.body_stall
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.remove(self.slot);
    }
}

/// What the sweeper knows of a connection.
struct Watch {
    socket: TcpStream,
    wait: Cell<Option<Wait>>,
    is_late: Cell<bool>,
}

impl Watch {
    fn shut(&self, side: Shutdown) {
        // Fails only when the peer has gone already, and then the pending operation ends anyway.
        let _ = SockRef::from(&self.socket).shutdown(side);
    }
}

/// A pending operation.
#[derive(Clone, Copy)]
struct Wait {
    until: Instant,
    side: Shutdown,
    is_idle: bool,
}
