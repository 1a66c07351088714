//! The gate of one core: so many requests are worked on at once; the others wait, and go in the order of [`Queue`].
//!
//! Who waits has no timer of its own: while anybody waits, a task looks at all of them from time to time.
//!
//! A request holds its [`Leave`] while the node works for it, and puts it down while it waits for its client: a slow client keeps nobody out. So does a write that
//! waits for a flush, up to a number: writes share flushes, and the more there are in one, the less each costs.
//!
//! Surplus that has **neighbours** is held short, since what it has been let in with stands before their requests wherever they go then: in the core's queue of tasks, in the
//! log, on the devices. A bucket has neighbours while others have had committed requests on this core within the last second. Surplus then is let in for a few leaves at most, and
//! what waits for a flush counts among those, though it leaves room for committed requests. A few requests of each bucket are free of this.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::account::{Account, Standing};
use super::neighbours::Neighbours;
use super::queue::{Next, Overfull, Queue};
use super::table::Rates;
use super::tally::Passage;
use super::targets::Class;

/// What a client that waited in vain is told to wait before it asks again.
const RETRY_AFTER_WAIT: NonZeroU16 = NonZeroU16::MIN;

/// The longest that a client is told to wait.
const RETRY_AFTER_S_MAX: u64 = 60;

/// Surplus requests with neighbours at most, or half of what a core works on if that is less.
const SURPLUS_MAX: usize = 16;

/// Surplus requests of a bucket that are never held short: one that is about at its rate is no flood. Random arrivals at a rate exceed it for a while now and then.
const SURPLUS_FREE_MAX: usize = 4;

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
    /// Surplus at work, and that which waits for a flush and has neighbours.
    surplus: Cell<usize>,
    /// The same by the slot of the bucket's account.
    surplus_of: RefCell<Vec<usize>>,
    neighbours: Neighbours,
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
    passage: Passage,
    is_held: Cell<bool>,
    /// It counts as surplus now.
    is_surplus: Cell<bool>,
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
            surplus: Cell::new(0),
            surplus_of: RefCell::default(),
            neighbours: Neighbours::default(),
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
        let now = self.rates.nanos(begun);
        let standing = account.enter(class, now);
        let passage = match standing {
            Standing::Committed { .. } => {
                self.neighbours.note(account.slot, now);
                Passage::Committed
            }
            Standing::Surplus => Passage::Surplus,
            Standing::Over { wait } => {
                count(Passage::Refused, Duration::ZERO);
                return Err(Refused { retry_after_s: seconds_up(wait) });
            }
        };
        let is_first = match passage {
            Passage::Committed => !self.queue.borrow().has_committed(),
            _ => self.is_free(account.slot) || self.waiting() == 0 && self.may_go(account.slot, now),
        };
        if self.has_room() && is_first {
            count(passage, Duration::ZERO);
            return Ok(self.grant(account.slot, passage));
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

    /// Whether one more surplus request of that bucket may be worked for, if there is room at all.
    fn may_go(&self, slot: usize, now: u64) -> bool {
        self.surplus.get() < self.rates.in_flight_max.div_ceil(2).min(SURPLUS_MAX)
            || self.is_free(slot)
            || !self.neighbours.has(slot, now)
    }

    /// Whether that bucket has so little surplus here that one more is never held short, and does not wait behind others that are.
    fn is_free(&self, slot: usize) -> bool {
        self.surplus_of.borrow().get(slot).is_none_or(|count| *count < SURPLUS_FREE_MAX)
    }

    fn add_surplus(&self, slot: usize) {
        self.surplus.set(self.surplus.get() + 1);
        let mut of = self.surplus_of.borrow_mut();
        if of.len() <= slot {
            of.resize(slot + 1, 0);
        }
        of[slot] += 1;
    }

    fn remove_surplus(&self, slot: usize) {
        self.surplus.set(self.surplus.get() - 1);
        self.surplus_of.borrow_mut()[slot] -= 1;
    }

    fn grant(self: &Rc<Self>, slot: usize, passage: Passage) -> Leave {
        let leave = Leave {
            gate: self.clone(),
            slot,
            passage,
            is_held: Cell::default(),
            is_surplus: Cell::default(),
        };
        leave.take_up();
        leave
    }

    fn grant_waiting(self: &Rc<Self>) {
        if self.waiting() == 0 {
            return;
        }
        let now = self.rates.nanos(Instant::now());
        while self.has_room() {
            let next = self.queue.borrow_mut().pop(now, |slot| self.may_go(slot, now));
            let Some(Next { slot, passage, item: turn }) = next else { return };
            if !turn.is_given_up() {
                // One who gives up between this and its waking gives the leave back by dropping it.
                turn.give(self.grant(slot, passage));
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
            self.leave_surplus();
            self.gate.grant_waiting();
        }
    }

    /// Takes it up again, at once: the request holds memory already.
    pub fn take_up(&self) {
        if !self.is_held.replace(true) {
            self.gate.working.set(self.gate.working.get() + 1);
            if self.passage == Passage::Surplus && !self.is_surplus.replace(true) {
                self.gate.add_surplus(self.slot);
            }
        }
    }

    /// It does not count as surplus any more.
    fn leave_surplus(&self) {
        if self.is_surplus.replace(false) {
            self.gate.remove_surplus(self.slot);
        }
    }

    /// The request's change goes to the log, where it waits for a flush that it shares with others: it is not worked for until this is dropped, unless too many wait so.
    pub fn commit(&self) -> Committing<'_> {
        let gate = &self.gate;
        let is_counted = self.is_held.get() && gate.committing() < gate.rates.committing_max;
        if is_counted {
            gate.committing.set(gate.committing() + 1);
            if self.has_neighbours() {
                // All but surplus may take its place.
                self.is_held.set(false);
                gate.working.set(gate.working.get() - 1);
                gate.grant_waiting();
            } else {
                self.put_down();
            }
        }
        Committing { leave: self, is_counted }
    }

    /// Whether it is surplus that is held short for the sake of others.
    fn has_neighbours(&self) -> bool {
        let gate = &self.gate;
        self.passage == Passage::Surplus && gate.neighbours.has(self.slot, gate.rates.nanos(Instant::now()))
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

    /// A gate of twelve, and accounts of a bucket without a guarantee and of one with the default's.
    fn gate_of_twelve() -> (Rc<Gate>, Arc<Account>, Arc<Account>) {
        let gate = gate(12, 60_000);
        gate.rates.set("flood", &crate::rates::Wanted { writes: Some(0), ..Default::default() });
        let (flood, modest) = (gate.account("flood"), gate.account("modest"));
        (gate, flood, modest)
    }

    #[test]
    fn surplus_with_neighbours_leaves_half_of_the_leaves_to_them_at_least() {
        in_runtime(async {
            let (gate, flood, modest) = gate_of_twelve();
            let enter = |account| gate.enter(account, Class::Write, 0, Instant::now());
            let mut flooding: Vec<_> = (0..7).filter_map(|_| enter(&flood).now_or_never()).collect();
            assert_eq!(flooding.len(), 7, "nobody else is there");
            drop(enter(&modest).now_or_never().expect("at once").expect("room"));
            flooding.pop();
            let mut waits = pin!(enter(&flood));
            assert!((&mut waits).now_or_never().is_none(), "six of twelve are surplus, with neighbours");
            let committed: Vec<_> = (0..6).filter_map(|_| enter(&modest).now_or_never()).collect();
            assert_eq!(committed.len(), 6, "surplus that waits is nothing to them");
            assert_eq!((gate.working(), gate.waiting()), (12, 1));
            drop(committed);
            assert!((&mut waits).now_or_never().is_none());
            flooding.pop();
            drop((&mut waits).now_or_never().expect("its turn").expect("room"));
        });
    }

    #[test]
    fn surplus_writes_with_neighbours_count_until_they_are_durable() {
        in_runtime(async {
            let (gate, flood, modest) = gate_of_twelve();
            let enter = |account| {
                gate.enter(account, Class::Write, 0, Instant::now()).now_or_never().expect("at once")
            };
            let alone = enter(&flood).expect("room");
            let commits_alone = alone.commit();
            assert_eq!((gate.working(), gate.committing(), gate.surplus.get()), (0, 1, 0));
            let committed = enter(&modest).expect("room");
            let commits = committed.commit();
            let surplus: Vec<_> = (0..6).map(|_| enter(&flood).expect("room")).collect();
            let mut surplus_commits: Vec<_> = surplus.iter().map(Leave::commit).collect();
            assert_eq!((gate.working(), gate.committing(), gate.surplus.get()), (0, 8, 6));
            let mut one_more = pin!(gate.enter(&flood, Class::Write, 0, Instant::now()));
            assert!((&mut one_more).now_or_never().is_none(), "six of twelve are surplus still");
            surplus_commits.pop();
            assert_eq!((gate.working(), gate.surplus.get()), (1, 6), "it is answered");
            drop(surplus_commits);
            drop(surplus);
            let one_more = (&mut one_more).now_or_never().expect("its turn").expect("room");
            assert_eq!((gate.working(), gate.surplus.get()), (1, 1));
            drop((commits, commits_alone));
            drop((alone, committed, one_more));
            assert_eq!((gate.working(), gate.committing(), gate.surplus.get()), (0, 0, 0));
        });
    }

    #[test]
    fn a_bucket_about_at_its_rate_is_not_held_short_for_the_flood_of_another() {
        in_runtime(async {
            let (gate, flood, modest) = gate_of_twelve();
            gate.rates.set("about", &crate::rates::Wanted { writes: Some(0), ..Default::default() });
            let about = gate.account("about");
            let enter = |account| gate.enter(account, Class::Write, 0, Instant::now());
            let committed = enter(&modest).now_or_never().expect("at once").expect("room");
            let flooding: Vec<_> = (0..6).filter_map(|_| enter(&flood).now_or_never()).collect();
            let mut waits = pin!(enter(&flood));
            assert!((&mut waits).now_or_never().is_none());
            let free: Vec<_> = (0..SURPLUS_FREE_MAX).filter_map(|_| enter(&about).now_or_never()).collect();
            assert_eq!((free.len(), gate.waiting()), (SURPLUS_FREE_MAX, 1));
            assert!(enter(&about).now_or_never().is_none(), "more of them are a flood as well");
            drop((committed, flooding, free));
        });
    }
}
