//! A single-threaded executor in virtual time: which ready task runs next is decided by the seed, and so is how long that takes.
//!
//! - Time passes only here: a poll takes a little of it, and when no task is ready it jumps to the next timer.
//! - Timers are called one at a time; devices complete their operations in them. Any of them may halt the world ([`Executor::halt`]): then
//!   nothing is polled any more, as when the process is killed or the power fails.
//! - [`Executor::kill`] drops all tasks at whatever await they were. The executor can be used again afterwards: the next process.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::chance::Chance;
use crate::event::completion;

/// Polls of one run: many times what the longest takes. More is a task that wakes itself for ever.
const POLLS_MAX: u64 = 20_000_000;

/// Nanoseconds that a poll takes at most.
const POLL_NS_MAX: u64 = 2_000;

/// The executor; clones are the same one.
#[derive(Clone)]
pub struct Executor(Rc<Inner>);

struct Inner {
    chance: RefCell<Chance>,
    now: Cell<u64>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: RefCell<Vec<u64>>,
    woken: Arc<Mutex<Vec<u64>>>,
    /// By time, and number among those of one time.
    timers: RefCell<BTreeMap<(u64, u64), Call>>,
    /// Numbers of tasks and timers.
    count: Cell<u64>,
    is_halted: Cell<bool>,
}

type Call = Box<dyn FnOnce()>;

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waking: Arc<Waking>,
}

struct Waking {
    task: u64,
    is_queued: AtomicBool,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.woken.lock().expect("no holder panics").push(self.task);
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What was waited for has come.
    Over,
    /// The world was halted.
    Halted,
    /// No task is ready and no timer is set: what was waited for will never come.
    Deadlock,
    /// Tasks wake each other for ever.
    Livelock,
}

impl Executor {
    /// An executor without tasks at time 0.
    pub fn new(chance: Chance) -> Self {
        Executor(Rc::new(Inner {
            chance: RefCell::new(chance),
            now: Cell::new(0),
            tasks: RefCell::default(),
            ready: RefCell::default(),
            woken: Arc::default(),
            timers: RefCell::default(),
            count: Cell::new(0),
            is_halted: Cell::new(false),
        }))
    }

    /// Nanoseconds since the world began.
    pub fn now(&self) -> u64 {
        self.0.now.get()
    }

    /// A new task.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let task = self.next_number();
        let waking = Arc::new(Waking { task, is_queued: AtomicBool::new(true), woken: self.0.woken.clone() });
        self.0.tasks.borrow_mut().insert(task, Task { future: Box::pin(future), waking });
        self.0.ready.borrow_mut().push(task);
    }

    /// Calls that in `delay` nanoseconds.
    pub fn after(&self, delay: u64, call: impl FnOnce() + 'static) {
        let at = (self.now() + delay, self.next_number());
        self.0.timers.borrow_mut().insert(at, Box::new(call));
    }

    /// Waits that many nanoseconds.
    pub async fn sleep(&self, delay: u64) {
        let (done, waiting) = completion();
        self.after(delay, move || done.complete(()));
        waiting.wait().await;
    }

    /// Nothing is polled or called any more, until [`Executor::kill`].
    pub fn halt(&self) {
        self.0.is_halted.set(true);
    }

    /// Whether the world is halted.
    pub fn is_halted(&self) -> bool {
        self.0.is_halted.get()
    }

    /// Runs tasks and timers until that is so.
    pub fn run_until(&self, is_over: impl Fn() -> bool) -> Stop {
        for _ in 0..POLLS_MAX {
            if self.0.is_halted.get() {
                return Stop::Halted;
            }
            if is_over() {
                return Stop::Over;
            }
            let woken = std::mem::take(&mut *self.0.woken.lock().expect("no holder panics"));
            self.0.ready.borrow_mut().extend(woken);
            if self.call_due() {
                continue;
            }
            match self.choose_ready() {
                Some(task) => self.poll(task),
                None => {
                    let Some(at) = self.0.timers.borrow().keys().next().map(|(at, _)| *at) else {
                        return Stop::Deadlock;
                    };
                    self.0.now.set(at);
                }
            }
        }
        Stop::Livelock
    }

    /// Drops all tasks and timers.
    pub fn kill(&self) {
        // What is dropped may wake, spawn and set timers once more.
        for _ in 0..2 {
            let timers = std::mem::take(&mut *self.0.timers.borrow_mut());
            drop(timers);
            let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
            drop(tasks);
        }
        self.0.ready.borrow_mut().clear();
        self.0.woken.lock().expect("no holder panics").clear();
        self.0.is_halted.set(false);
    }

    /// Calls the first timer that is due; whether there was one.
    fn call_due(&self) -> bool {
        let due = {
            let mut timers = self.0.timers.borrow_mut();
            match timers.first_entry() {
                Some(first) if first.key().0 <= self.now() => first.remove(),
                _ => return false,
            }
        };
        due();
        true
    }

    fn choose_ready(&self) -> Option<u64> {
        let mut ready = self.0.ready.borrow_mut();
        if ready.is_empty() {
            return None;
        }
        let chosen = self.0.chance.borrow_mut().below(ready.len() as u64);
        Some(ready.swap_remove(chosen as usize))
    }

    fn poll(&self, number: u64) {
        let taken = self.0.tasks.borrow_mut().remove(&number);
        let Some(mut task) = taken else { return };
        task.waking.is_queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(task.waking.clone());
        let poll = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        if poll == Poll::Pending {
            self.0.tasks.borrow_mut().insert(number, task);
        }
        let taken = 1 + self.0.chance.borrow_mut().below(POLL_NS_MAX);
        self.0.now.set(self.now() + taken);
    }

    fn next_number(&self) -> u64 {
        self.0.count.set(self.0.count.get() + 1);
        self.0.count.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_the_next_timer_and_tasks_run_in_an_order_that_the_seed_decides() {
        let order_of = |seed| {
            let executor = Executor::new(Chance::new(seed));
            let order = Rc::new(RefCell::new(Vec::new()));
            for i in 0..8 {
                let (order, clock) = (order.clone(), executor.clone());
                executor.spawn(async move {
                    clock.sleep(1_000_000_000).await;
                    order.borrow_mut().push(i);
                });
            }
            assert_eq!(executor.run_until(|| order.borrow().len() == 8), Stop::Over);
            assert!(executor.now() >= 1_000_000_000);
            order.take()
        };
        assert_eq!(order_of(1), order_of(1));
        assert!((2..10).any(|seed| order_of(seed) != order_of(1)));
    }

    #[test]
    fn waiting_for_what_never_comes_is_told() {
        let executor = Executor::new(Chance::new(1));
        executor.spawn(std::future::pending());
        assert_eq!(executor.run_until(|| false), Stop::Deadlock);
    }

    #[test]
    fn a_killed_world_drops_its_tasks_and_goes_on() {
        let executor = Executor::new(Chance::new(1));
        let held = Rc::new(());
        let (holding, clock) = (held.clone(), executor.clone());
        executor.spawn(async move {
            let _holding = holding;
            clock.sleep(5).await;
        });
        let halting = executor.clone();
        executor.after(2, move || halting.halt());
        assert_eq!(executor.run_until(|| false), Stop::Halted);
        assert_eq!(Rc::strong_count(&held), 2);
        executor.kill();
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(executor.run_until(|| true), Stop::Over);
    }
}
