//! Waiting within one core: an event that wakes all who wait, a one-shot result, and a turn for others. None crosses threads.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Something that happens again and again.
#[derive(Default)]
pub(crate) struct Event {
    count: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Event {
    /// It happened: all who wait go on.
    pub(crate) fn notify(&self) {
        self.count.set(self.count.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// Completes once it happens after this call (not after the first poll).
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + '_ {
        let seen = self.count.get();
        poll_fn(move |context| {
            if self.count.get() != seen {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
    }
}

/// Lets the core's other tasks run, in long work that seldom waits.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Slot<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
    is_abandoned: Cell<bool>,
}

/// The half that gives the result.
pub(crate) struct Completer<T>(Rc<Slot<T>>);

/// The half that waits for it.
pub(crate) struct Completion<T>(Rc<Slot<T>>);

/// A one-shot result.
pub(crate) fn completion<T>() -> (Completer<T>, Completion<T>) {
    let slot =
        Rc::new(Slot { value: Cell::new(None), waker: Cell::new(None), is_abandoned: Cell::new(false) });
    (Completer(slot.clone()), Completion(slot))
}

impl<T> Completer<T> {
    /// Gives the result.
    pub(crate) fn complete(self, value: T) {
        self.0.value.set(Some(value));
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        self.0.is_abandoned.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Completion<T> {
    /// Waits for the result; `None` when nobody will give one.
    pub(crate) async fn wait(self) -> Option<T> {
        poll_fn(|context| {
            if let Some(value) = self.0.value.take() {
                return Poll::Ready(Some(value));
            }
            if self.0.is_abandoned.get() {
                return Poll::Ready(None);
            }
            self.0.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}
