//! Sees to what nobody waits for any more: the tasks that [`super::Device::detach`] is given.
//!
//! They come from destructors, also from those that a runtime runs when it ends, and there nothing may be spawned. So one task is spawned when a device is attached,
//! and takes them over from a list.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use futures_util::future::LocalBoxFuture;

/// The list, of one core and device.
#[derive(Default)]
pub(super) struct Attendant {
    tasks: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    waker: RefCell<Option<Waker>>,
}

impl Attendant {
    pub(super) fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Takes a task over.
    pub(super) fn take_over(&self, task: LocalBoxFuture<'static, ()>) {
        self.tasks.borrow_mut().push(task);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Works on them until the attendant is gone.
    pub(super) fn attend(attendant: &Rc<Self>) -> impl Future<Output = ()> + use<> {
        let attendant: Weak<Self> = Rc::downgrade(attendant);
        poll_fn(move |context| match attendant.upgrade() {
            Some(attendant) => {
                attendant.poll(context);
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
    }

    fn poll(&self, context: &mut Context<'_>) {
        // A task may bring about another one: those are looked at in turn.
        let mut pending = Vec::new();
        loop {
            let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            if tasks.is_empty() {
                break;
            }
            pending.extend(
                tasks
                    .into_iter()
                    .filter_map(|mut task| task.as_mut().poll(context).is_pending().then_some(task)),
            );
        }
        self.tasks.borrow_mut().extend(pending);
        self.waker.replace(Some(context.waker().clone()));
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Attendant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attendant")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_task_that_was_given_up_is_worked_on_to_its_end() {
        compio::runtime::Runtime::new().expect("a runtime").block_on(async {
            let attendant = Attendant::new();
            compio::runtime::spawn(Attendant::attend(&attendant)).detach();
            let is_done = Rc::new(Cell::new(false));
            let told = is_done.clone();
            let pause = std::time::Duration::from_millis(1);
            attendant.take_over(
                async move {
                    compio::time::sleep(pause).await;
                    told.set(true);
                }
                .boxed_local(),
            );
            while !is_done.get() {
                compio::time::sleep(pause).await;
            }
        });
    }
}
