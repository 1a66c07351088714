//! Tasks of a core that go before all others.
//!
//! The runtime runs tasks in the order in which they were woken: who is woken while a hundred others are ready waits for all of them, each time. A shard's log
//! can't: it is woken twice for each batch, when it is written and when it is flushed, and every write waits for two batches. So the logs are no tasks of the runtime, but a part of the future that it
//! looks at before each turn of its loop.
//!
//! ```text
//!   ring ─> foremost tasks ─> some of the others ─> ring ─> ...
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;

/// The foremost tasks of one core.
#[derive(Default)]
pub struct Foremost {
    running: RefCell<FuturesUnordered<LocalBoxFuture<'static, ()>>>,
    /// Those that have not been looked at yet: one that runs may begin another.
    arrived: RefCell<Vec<LocalBoxFuture<'static, ()>>>,
    waker: RefCell<Option<Waker>>,
}

impl Foremost {
    /// None yet.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Begins one. The answer comes when it has ended, or is given up with its core.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> oneshot::Receiver<()> {
        let (ended, end) = oneshot::channel();
        let task = task.map(|()| {
            // Nobody may be interested.
            let _ = ended.send(());
        });
        self.arrived.borrow_mut().push(task.boxed_local());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        end
    }

    /// Runs `main` and, before each look at it, the foremost tasks that are ready. Who is still running when `main` ends is given up.
    pub async fn beside<F: Future>(&self, main: F) -> F::Output {
        let mut main = std::pin::pin!(main);
        let output = std::future::poll_fn(|context| {
            self.poll(context);
            main.as_mut().poll(context)
        })
        .await;
        drop(self.running.take());
        drop(self.arrived.take());
        output
    }

    fn poll(&self, context: &mut Context<'_>) {
        self.waker.replace(Some(context.waker().clone()));
        loop {
            self.running.borrow_mut().extend(self.arrived.take());
            while let Poll::Ready(Some(())) = self.running.borrow_mut().poll_next_unpin(context) {}
            if self.arrived.borrow().is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::cores::TASKS_PER_PASS_MAX;

    #[test]
    fn foremost_tasks_go_before_those_that_were_woken_earlier() {
        let runtime = crate::cores::new_runtime().expect("a runtime");
        let order = Rc::new(RefCell::new(Vec::new()));
        let foremost = Foremost::new();
        let (ready, waiting) = oneshot::channel();
        let told = order.clone();
        let log = foremost.spawn(async move {
            let _ = waiting.await;
            told.borrow_mut().push("log");
        });
        runtime.block_on(foremost.beside(async {
            let others = (0..3 * TASKS_PER_PASS_MAX).map(|_| {
                let told = order.clone();
                compio::runtime::spawn(async move { told.borrow_mut().push("other") })
            });
            let others: Vec<_> = others.collect();
            ready.send(()).expect("the log waits");
            log.await.expect("it ends");
            for other in others {
                let _ = other.await;
            }
        }));
        let order = order.borrow();
        let place = order.iter().position(|name| *name == "log").expect("it ran");
        assert!(place <= TASKS_PER_PASS_MAX + 1, "behind {place} of {}", order.len() - 1);
    }

    #[test]
    fn a_task_may_begin_another_and_both_are_heard_of() {
        let foremost = Foremost::new();
        let ran = Rc::new(Cell::new(false));
        let (inner, seen) = (foremost.clone(), ran.clone());
        let outer = foremost.spawn(async move {
            let inside = inner.spawn(async move { seen.set(true) });
            let _ = inside.await;
        });
        let ended = foremost.beside(outer).now_or_never();
        assert_eq!(ended, Some(Ok(())));
        assert!(ran.get());
    }

    #[test]
    fn who_still_runs_in_the_end_is_given_up() {
        let foremost = Foremost::new();
        let endless = foremost.spawn(std::future::pending());
        foremost.beside(std::future::ready(())).now_or_never().expect("at once");
        assert!(endless.now_or_never().expect("known").is_err());
    }
}
