//! The gate of one core: so many requests are worked on at once; the others wait, and go in the order of [`Queue`].
//!
//! Who waits has no timer of its own: while anybody waits, a task looks at all of them from time to time.
//!
//! A request holds its [`Leave`] while the node works for it, and puts it down while it waits for its client: a slow client keeps nobody out. So does a write that
//! waits for a flush, up to a number: writes share flushes, and the more there are in one, the less each costs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::account::{Account, Standing};
use super::queue::{Overfull, Queue};
use super::table::Rates;
use super::tally::Passage;
use super::targets::Class;

/// What a client that waited in vain is told to wait before it asks again.
const RETRY_AFTER_WAIT: NonZeroU16 = NonZeroU16::MIN;

/// The longest that a client is told to wait.
const RETRY_AFTER_S_MAX: u64 = 60;

/// Time between two looks at those who wait: how much longer than the limit a wait may last.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(1);
const SWEEP_INTERVAL_MAX: Duration = Duration::from_millis(250);

/// Looks within the limit, where it is short.
const SWEEPS_PER_WAIT: u32 = 20;

/// The gate of a core.
pub struct Gate {
    rates: Arc<Rates>,
    core: usize,
    /// Requests that hold their leave. May exceed the most: one that has its bytes is not kept waiting again.
    working: Cell<usize>,
    /// Requests that have put it down until their change is durable.
    committing: Cell<usize>,
    queue: RefCell<Queue<Rc<Turn>>>,
    /// A task looks after those who wait.
    is_swept: Cell<bool>,
    accounts: RefCell<HashMap<Box<str>, Arc<Account>>>,
    nobody: Arc<Account>,
}

/// Leave to be worked for, until it is dropped.
pub struct Leave {
    gate: Rc<Gate>,
    slot: usize,
    is_held: Cell<bool>,
}

/// A write waits for its flush; when this is dropped, it is worked for again.
pub struct Committing<'a> {
    leave: &'a Leave,
    is_counted: bool,
}

/// A request must slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Seconds after which to try again.
    pub retry_after_s: NonZeroU16,
}

impl Gate {
    /// The gate of that core.
    pub fn new(rates: Arc<Rates>, core: usize) -> Rc<Self> {
        let nobody = rates.nobody();
        Rc::new(Gate {
            rates,
            core,
            working: Cell::new(0),
            committing: Cell::new(0),
            queue: RefCell::default(),
            is_swept: Cell::new(false),
            accounts: RefCell::default(),
            nobody,
        })
    }

    /// The account of a bucket that exists.
    pub fn account(&self, bucket: &str) -> Arc<Account> {
        if let Some(account) = self.accounts.borrow().get(bucket) {
            return account.clone();
        }
        let account = self.rates.account(bucket);
        self.accounts.borrow_mut().insert(bucket.into(), account.clone());
        account
    }

    /// The account of requests that are about no bucket of their user.
    pub fn nobody(&self) -> Arc<Account> {
        self.nobody.clone()
    }

    /// Requests at work now.
    pub fn working(&self) -> usize {
        self.working.get()
    }

    /// Writes that wait for their flush now, not counting those at work.
    pub fn committing(&self) -> usize {
        self.committing.get()
    }

    /// Whether there is more to do than may be worked on at once.
    pub fn is_busy(&self) -> bool {
        self.waiting() > 0 || self.working() + self.committing() > self.rates.in_flight_max
    }

    /// Requests waiting now.
    pub fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Waits for the turn of a request that came at `begun`, with a body of `bytes`.
    ///
    /// # Errors
    /// Over the ceiling; too many wait; or its turn has not come in time.
    pub async fn enter(
        self: &Rc<Self>,
        account: &Arc<Account>,
        class: Class,
        bytes: u64,
        begun: Instant,
    ) -> Result<Leave, Refused> {
        let count = |passage, wait| account.tally.count(self.core, class, passage, wait);
        let standing = account.enter(class, self.rates.nanos(begun));
        let passage = match standing {
            Standing::Committed { .. } => Passage::Committed,
            Standing::Surplus => Passage::Surplus,
            Standing::Over { wait } => {
                count(Passage::Refused, Duration::ZERO);
                return Err(Refused { retry_after_s: seconds_up(wait) });
            }
        };
        if self.has_room() && self.waiting() == 0 {
            count(passage, Duration::ZERO);
            return Ok(self.grant(account.slot));
        }
        let leave = self.wait(account, class, bytes, standing, begun).await;
        count(if leave.is_some() { passage } else { Passage::Refused }, begun.elapsed());
        leave.ok_or(Refused { retry_after_s: RETRY_AFTER_WAIT })
    }

    async fn wait(
        self: &Rc<Self>,
        account: &Arc<Account>,
        class: Class,
        bytes: u64,
        standing: Standing,
        begun: Instant,
    ) -> Option<Leave> {
        let turn = Turn::due(begun + self.rates.wait_max);
        let queued: Result<(), Overfull> = match standing {
            Standing::Committed { due } => self.queue.borrow_mut().push_committed(account, due, turn.clone()),
            _ => self.queue.borrow_mut().push_surplus(account, class, bytes, turn.clone()),
        };
        queued.ok()?;
        self.look_after_those_who_wait();
        turn.come().await
    }

    fn look_after_those_who_wait(self: &Rc<Self>) {
        if self.is_swept.replace(true) {
            return;
        }
        let interval = (self.rates.wait_max / SWEEPS_PER_WAIT).clamp(SWEEP_INTERVAL_MIN, SWEEP_INTERVAL_MAX);
        let gate = Rc::downgrade(self);
        let sweep = async move {
            loop {
                compio::time::sleep(interval).await;
                let Some(gate) = gate.upgrade() else { return };
                if gate.waiting() == 0 {
                    gate.is_swept.set(false);
                    return;
                }
                let now = Instant::now();
                gate.queue.borrow().iter().for_each(|turn| turn.end_if_late(now));
            }
        };
        compio::runtime::spawn(sweep).detach();
    }

    fn has_room(&self) -> bool {
        self.working.get() < self.rates.in_flight_max
    }

    fn grant(self: &Rc<Self>, slot: usize) -> Leave {
        self.working.set(self.working.get() + 1);
        Leave { gate: self.clone(), slot, is_held: Cell::new(true) }
    }

    fn grant_waiting(self: &Rc<Self>) {
        if self.waiting() == 0 {
            return;
        }
        let now = self.rates.nanos(Instant::now());
        while self.has_room() {
            let Some((slot, turn)) = self.queue.borrow_mut().pop(now) else { return };
            if !turn.is_given_up() {
                // One who gives up between this and its waking gives the leave back by dropping it.
                turn.give(self.grant(slot));
            }
        }
    }
}

/// The turn of a request that waits; shared by the request and the queue.
struct Turn {
    until: Instant,
    leave: Cell<Option<Leave>>,
    is_late: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Turn {
    fn due(until: Instant) -> Rc<Self> {
        Rc::new(Turn { until, leave: Cell::default(), is_late: Cell::default(), waker: Cell::default() })
    }

    /// Waits for it; `None` when it has not come in time.
    async fn come(self: Rc<Self>) -> Option<Leave> {
        poll_fn(|context| {
            let leave = self.leave.take();
            if leave.is_some() || self.is_late.get() {
                return Poll::Ready(leave);
            }
            self.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn give(&self, leave: Leave) {
        self.leave.set(Some(leave));
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Whether the request is gone, or about to be refused. For the queue, which holds the other half.
    fn is_given_up(self: &Rc<Self>) -> bool {
        self.is_late.get() || Rc::strong_count(self) == 1
    }

    fn end_if_late(&self, now: Instant) {
        if self.until <= now && !self.is_late.replace(true) {
            self.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Leave {
    /// Puts it down while the request waits for its client.
    pub fn put_down(&self) {
        if self.is_held.replace(false) {
            self.gate.working.set(self.gate.working.get() - 1);
            self.gate.grant_waiting();
        }
    }

    /// Takes it up again, at once: the request holds memory already.
    pub fn take_up(&self) {
        if !self.is_held.replace(true) {
            self.gate.working.set(self.gate.working.get() + 1);
        }
    }

    /// The request's change goes to the log, where it waits for a flush that it shares with others: it is not worked for until this is dropped, unless too many wait so.
    pub fn commit(&self) -> Committing<'_> {
        let gate = &self.gate;
        let is_counted = self.is_held.get() && gate.committing() < gate.rates.committing_max;
        if is_counted {
            gate.committing.set(gate.committing() + 1);
            self.put_down();
        }
        Committing { leave: self, is_counted }
    }

    /// The bucket is served so many bytes that were not known when it came.
    pub fn charge(&self, bytes: u64) {
        self.gate.queue.borrow_mut().charge(self.slot, bytes);
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.put_down();
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            let gate = &self.leave.gate;
            gate.committing.set(gate.committing() - 1);
            self.leave.take_up();
        }
    }
}

/// Nanoseconds as seconds that a client can be told: at least one.
fn seconds_up(nanos: u64) -> NonZeroU16 {
    let seconds = nanos.div_ceil(1_000_000_000).min(RETRY_AFTER_S_MAX);
    u16::try_from(seconds).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::config;

    fn gate(in_flight_per_core_max: usize, wait_ms: u64) -> Rc<Gate> {
        let wait_max = config::Period(Duration::from_millis(wait_ms));
        let config = config::Rates { in_flight_per_core_max, wait_max, ..config::Rates::default() };
        Gate::new(Rates::new(&config, 1), 0)
    }

    fn in_runtime(test: impl Future<Output = ()>) {
        crate::cores::new_runtime().expect("a ring").block_on(test);
    }

    #[test]
    fn committed_requests_overtake_a_queue_of_surplus() {
        in_runtime(async {
            let gate = gate(1, 60_000);
            let (flood, modest) = (gate.account("flood"), gate.account("modest"));
            gate.rates.set("flood", &crate::rates::Wanted { reads: Some(0), ..Default::default() });
            let order = RefCell::new(Vec::new());
            let begun = Instant::now();
            let held = gate.enter(&flood, Class::Read, 0, begun).await.expect("room");
            let request = async |account: &Arc<Account>, name| {
                let leave = gate.enter(account, Class::Read, 0, begun).await.expect("a turn");
                order.borrow_mut().push(name);
                drop(leave);
            };
            let mut all = pin!(async {
                let floods = futures_util::future::join_all((0..50).map(|_| request(&flood, "flood")));
                let modests = futures_util::future::join_all((0..5).map(|_| request(&modest, "modest")));
                futures_util::join!(floods, modests)
            });
            assert!((&mut all).now_or_never().is_none());
            assert_eq!((gate.working(), gate.waiting()), (1, 55));
            drop(held);
            all.await;
            assert_eq!(order.borrow()[..6], ["modest", "modest", "modest", "modest", "modest", "flood"]);
            assert_eq!((order.borrow().len(), gate.working(), gate.waiting()), (55, 0, 0));
        });
    }

    #[test]
    fn who_waits_too_long_is_refused_and_leaves_no_trace() {
        in_runtime(async {
            let gate = gate(1, 1);
            let account = gate.account("bucket");
            let held = gate.enter(&account, Class::Write, 0, Instant::now()).await.expect("room");
            let refused = gate.enter(&account, Class::Write, 0, Instant::now()).await.err();
            assert_eq!(refused, Some(Refused { retry_after_s: NonZeroU16::MIN }));
            drop(held);
            assert_eq!((gate.working(), gate.waiting()), (0, 0));
            assert_eq!(account.tally.requests(Class::Write, Passage::Refused), 1);
            assert_eq!(account.tally.requests(Class::Write, Passage::Committed), 1);
        });
    }

    #[test]
    fn a_request_that_waits_for_its_client_keeps_nobody_out() {
        in_runtime(async {
            let gate = gate(1, 60_000);
            let account = gate.account("bucket");
            let slow = gate.enter(&account, Class::Write, 1 << 30, Instant::now()).await.expect("room");
            slow.put_down();
            let other = gate.enter(&account, Class::Read, 0, Instant::now()).now_or_never();
            let other = other.expect("at once").expect("room");
            slow.take_up();
            assert_eq!(gate.working(), 2);
            drop((slow, other));
            assert_eq!(gate.working(), 0);
        });
    }

    #[test]
    fn writes_that_wait_for_a_flush_keep_nobody_out_unless_they_are_too_many() {
        in_runtime(async {
            let wait_max = config::Period(Duration::from_secs(60));
            let config = config::Rates {
                in_flight_per_core_max: 1,
                committing_per_core_max: 1,
                wait_max,
                ..config::Rates::default()
            };
            let gate = Gate::new(Rates::new(&config, 1), 0);
            let account = gate.account("bucket");
            let enter = || gate.enter(&account, Class::Write, 0, Instant::now());
            let first = enter().now_or_never().expect("at once").expect("room");
            let first_commits = first.commit();
            let second = enter().now_or_never().expect("nobody is worked for").expect("room");
            let second_commits = second.commit();
            assert_eq!((gate.working(), gate.committing()), (1, 1), "the second is one too many");
            let mut third = pin!(enter());
            assert!((&mut third).now_or_never().is_none());
            drop(second_commits);
            drop(second);
            let third = (&mut third).now_or_never().expect("its turn").expect("room");
            drop(first_commits);
            assert_eq!((gate.working(), gate.committing()), (2, 0), "what is durable is answered");
            drop((first, third));
            assert_eq!((gate.working(), gate.committing()), (0, 0));
        });
    }

    #[test]
    fn a_write_that_had_put_its_leave_down_does_not_take_it_up_by_committing() {
        let gate = gate(1, 1);
        let account = gate.account("bucket");
        let leave = gate.enter(&account, Class::Write, 0, Instant::now()).now_or_never();
        let leave = leave.expect("at once").expect("room");
        leave.put_down();
        drop(leave.commit());
        assert_eq!((gate.working(), gate.committing()), (0, 0));
    }

    #[test]
    fn a_client_is_told_to_wait_for_whole_seconds_and_not_too_many() {
        let told = [0, 1, 1_000_000_000, 1_000_000_001, u64::MAX].map(|nanos| seconds_up(nanos).get());
        assert_eq!(told, [1, 1, 1, 2, 60]);
    }
}
