//! Admission by bytes in flight: what the connections of one core may hold in memory together.
//!
//! Whoever is to hold body bytes takes them here first and waits while there are none left, in order of arrival. A single request for more than the
//! whole budget is granted when nothing else is held, so that nothing waits for ever.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;

/// The budget of one core.
pub struct Budget {
    total: u64,
    taken: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, oneshot::Sender<Permit>)>>,
}

/// Bytes that may be held until this is dropped.
pub struct Permit {
    budget: Rc<Budget>,
    bytes: u64,
}

impl Budget {
    /// A budget of that many bytes.
    pub fn new(total: u64) -> Rc<Self> {
        Rc::new(Budget { total, taken: Cell::new(0), waiting: RefCell::default() })
    }

    /// Takes bytes, waiting for them.
    pub async fn take(self: &Rc<Self>, bytes: u64) -> Permit {
        if self.waiting.borrow().is_empty() && self.has_room(bytes) {
            return self.grant(bytes);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push_back((bytes, sender));
        receiver.await.expect("a waiting request is granted before its sender is dropped")
    }

    /// Takes bytes within that time; `None` when they did not come free.
    pub async fn take_within(self: &Rc<Self>, bytes: u64, patience: Duration) -> Option<Permit> {
        if self.waiting.borrow().is_empty() && self.has_room(bytes) {
            return Some(self.grant(bytes));
        }
        compio::time::timeout(patience, self.take(bytes)).await.ok()
    }

    /// Bytes taken now.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.taken.get() == 0 || self.taken.get() + bytes <= self.total
    }

    fn grant(self: &Rc<Self>, bytes: u64) -> Permit {
        self.taken.set(self.taken.get() + bytes);
        Permit { budget: self.clone(), bytes }
    }

    fn grant_waiting(self: &Rc<Self>) {
        loop {
            let Some((bytes, sender)) = self.waiting.borrow_mut().pop_front() else { return };
            if sender.is_canceled() {
                continue;
            }
            if !self.has_room(bytes) {
                self.waiting.borrow_mut().push_front((bytes, sender));
                return;
            }
            // One who went away between the check and this gives the permit back by dropping it.
            let _ = sender.send(self.grant(bytes));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.taken.set(self.budget.taken.get() - self.bytes);
        self.budget.clone().grant_waiting();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_asks_for_too_much_waits_and_is_served_in_order() {
        let budget = Budget::new(100);
        let first = budget.take(80).now_or_never().expect("room");
        let mut second = Box::pin(budget.take(50));
        let mut third = Box::pin(budget.take(10));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none(), "nobody overtakes");
        drop(first);
        let second = second.now_or_never().expect("granted");
        let _third = third.now_or_never().expect("granted");
        assert_eq!(budget.taken(), 60);
        drop(second);
        assert_eq!(budget.taken(), 10);
    }

    #[test]
    fn more_than_everything_is_granted_alone() {
        let budget = Budget::new(100);
        let huge = budget.take(1000).now_or_never().expect("alone");
        let mut waiting = Box::pin(budget.take(1));
        assert!((&mut waiting).now_or_never().is_none());
        drop(huge);
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn who_waits_too_long_gets_nothing_and_leaves_no_trace() {
        compio::runtime::Runtime::new().expect("a runtime").block_on(async {
            let budget = Budget::new(10);
            let held = budget.take(10).await;
            assert!(budget.take_within(5, Duration::from_millis(1)).await.is_none());
            drop(held);
            assert!(budget.take_within(10, Duration::from_millis(1)).await.is_some());
            assert_eq!(budget.taken(), 0);
        });
    }

    #[test]
    fn who_goes_away_holds_nobody_up() {
        let budget = Budget::new(10);
        let held = budget.take(10).now_or_never().expect("room");
        let mut gone = Box::pin(budget.take(10));
        assert!((&mut gone).now_or_never().is_none());
        let mut next = Box::pin(budget.take(5));
        assert!((&mut next).now_or_never().is_none());
        drop(gone);
        drop(held);
        assert!(next.now_or_never().is_some());
        assert_eq!(budget.taken(), 0);
    }
}
