//! Flushes of a device: one at a time, whichever core asks, shared by all who wait.
//!
//! The kernel tells of lost writes once, to one of those who flush; the pages are then clean and gone, and the next flush succeeds. So a flush may count
//! only when none that overlapped with it has failed, and a core can't see what another one is being told. With one flush of a device at a time there is
//! nothing to see: a failure fences the device before the next flush begins.
//!
//! ```text
//!  core 0: write ─> ask ─> flush 7 ──────────> ended well
//!  core 1:   write ─> ask ─ waits ──────────────> flush 8 ─────> ended well
//!  core 1:        write ─> ask ─ shares 8 ──────────────────────>
//! ```
//! - A flush covers what was written, by any core, before it began. Who asks while one is under way may have written after that: his is the next.
//! - A flush belongs to the core that began it and is polled there, by all who wait on that core; when all of them have gone away, in the background. Only when
//!   that ends too, with the core, its outcome is known to nobody: then it counts as failed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared};

use crate::device::{Device, IoFailure};
use crate::ids::DeviceIndex;
use crate::store::Store;

/// The outcome of a flush, for several to wait for.
pub(crate) type SharedFlush = Shared<LocalBoxFuture<'static, Result<(), IoFailure>>>;

/// Whose turn it is to flush a device: what all cores see.
#[derive(Debug, Default)]
pub(crate) struct FlushTurn(Mutex<Turn>);

#[derive(Debug, Default)]
struct Turn {
    /// Flushes begun: the number of the last.
    begun: u64,
    /// The last flush that ended well.
    ended: u64,
    /// Who flushes now.
    holder: Option<Holder>,
    /// Of other cores.
    waiting: Vec<Waker>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    core: u16,
    /// Nobody waits for its outcome any more.
    is_abandoned: bool,
}

/// What somebody who waits for a flush is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: his flush has ended well.
    Done,
    /// See to flush of that number, on this core.
    Flush(u64),
    /// Wait for another core's.
    Wait,
    /// Another core's was given up.
    Unknown,
}

impl FlushTurn {
    /// The number of the flush that covers what has been written.
    pub(crate) fn next(&self) -> u64 {
        self.lock().begun + 1
    }

    /// Whether a flush is under way.
    pub(crate) fn is_taken(&self) -> bool {
        self.lock().holder.is_some()
    }

    /// What `core` is to do that waits for flush number `wanted`.
    pub(crate) fn step(&self, core: u16, wanted: u64) -> Step {
        let mut turn = self.lock();
        if turn.ended >= wanted {
            return Step::Done;
        }
        match turn.holder {
            Some(holder) if holder.core != core => {
                if holder.is_abandoned {
                    Step::Unknown
                } else {
                    Step::Wait
                }
            }
            Some(_) => {
                turn.holder = Some(Holder { core, is_abandoned: false });
                Step::Flush(turn.begun)
            }
            None => {
                turn.begun += 1;
                turn.holder = Some(Holder { core, is_abandoned: false });
                Step::Flush(turn.begun)
            }
        }
    }

    /// Waits while another core than this one has the turn.
    pub(crate) async fn changed(&self, core: u16) {
        poll_fn(|context| {
            let mut turn = self.lock();
            match turn.holder {
                Some(holder) if holder.core != core && !holder.is_abandoned => {
                    turn.waiting.push(context.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// That flush has ended. A device on which it failed is fenced before this is called.
    pub(crate) fn end(&self, number: u64, is_well: bool) {
        let mut turn = self.lock();
        if turn.begun != number || turn.holder.is_none() {
            // Another one who shared it was first.
            return;
        }
        turn.holder = None;
        if is_well {
            turn.ended = number;
        }
        wake_all(turn);
    }

    /// Nobody on that core waits for its flush any more.
    fn abandon(&self, core: u16) {
        let mut turn = self.lock();
        if let Some(holder) = &mut turn.holder
            && holder.core == core
        {
            holder.is_abandoned = true;
            wake_all(turn);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().expect("no holder panics")
    }
}

fn wake_all(mut turn: MutexGuard<'_, Turn>) {
    let waiting = std::mem::take(&mut turn.waiting);
    drop(turn);
    waiting.into_iter().for_each(Waker::wake);
}

/// One core's flush of a device, if it has the turn.
#[derive(Default)]
pub(crate) struct FlushQueue {
    /// The one under way, and its number. It belongs to nobody, so that nobody who goes away takes its outcome along.
    current: RefCell<Option<(u64, SharedFlush)>>,
    waiting_count: Cell<usize>,
}

impl FlushQueue {
    /// The flush of that number: the one under way, or a new one.
    pub(crate) fn flush(
        &self,
        number: u64,
        begin: impl FnOnce() -> LocalBoxFuture<'static, Result<(), IoFailure>>,
    ) -> SharedFlush {
        let mut current = self.current.borrow_mut();
        match &*current {
            Some((of, flush)) if *of == number => flush.clone(),
            _ => current.insert((number, begin().shared())).1.clone(),
        }
    }

    /// What follows from the outcome of that flush, whoever sees it: a failure fences the device before anybody else gets his turn. Whether it ended well.
    pub(crate) fn settle(&self, lane: &Lane, number: u64, result: Result<(), IoFailure>) -> bool {
        if result.is_err() {
            lane.store.fence(lane.device);
        }
        let is_current = self.current.borrow().as_ref().is_some_and(|(of, _)| *of == number);
        if is_current {
            self.current.replace(None);
        }
        lane.turn().end(number, result.is_ok());
        result.is_ok()
    }
}

/// A core's way to the flushes of a device.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) store: Arc<Store>,
    pub(crate) device: DeviceIndex,
    pub(crate) core: u16,
}

impl Lane {
    pub(crate) fn turn(&self) -> &FlushTurn {
        self.store.flush_turn(self.device)
    }
}

/// Somebody of a core who waits for a flush. When the last of them goes away, the flush is seen to its end in the background.
pub(crate) struct Waiting<D: Device> {
    device: Rc<D>,
    queue: Rc<FlushQueue>,
    lane: Lane,
}

impl<D: Device> Waiting<D> {
    pub(crate) fn new(device: Rc<D>, queue: Rc<FlushQueue>, lane: Lane) -> Self {
        queue.waiting_count.set(queue.waiting_count.get() + 1);
        Waiting { device, queue, lane }
    }
}

impl<D: Device> Drop for Waiting<D> {
    fn drop(&mut self) {
        let left = self.queue.waiting_count.get() - 1;
        self.queue.waiting_count.set(left);
        if left > 0 {
            return;
        }
        let current = self.queue.current.borrow().clone();
        let Some((number, flush)) = current else { return };
        let watch = Watch { lane: self.lane.clone(), is_over: false };
        let queue = self.queue.clone();
        self.device.detach(see_to_the_end(watch, queue, number, flush).boxed_local());
    }
}

async fn see_to_the_end(mut watch: Watch, queue: Rc<FlushQueue>, number: u64, flush: SharedFlush) {
    let result = flush.await;
    queue.settle(&watch.lane, number, result);
    watch.is_over = true;
}

/// A flush in the background: if that ends before the flush does, nobody will know its outcome.
struct Watch {
    lane: Lane,
    is_over: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            self.lane.turn().abandon(self.lane.core);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flush_is_under_way_at_a_time_and_the_next_covers_who_came_meanwhile() {
        let turn = FlushTurn::default();
        let first = turn.next();
        assert_eq!(turn.step(0, first), Step::Flush(1));
        let second = turn.next();
        assert_eq!(second, 2, "who asks while one is under way needs the next");
        assert_eq!(turn.step(1, second), Step::Wait);
        assert!(turn.changed(1).now_or_never().is_none());
        turn.end(1, true);
        assert!(turn.changed(1).now_or_never().is_some());
        assert_eq!(turn.step(0, first), Step::Done);
        assert_eq!(turn.step(1, second), Step::Flush(2));
        turn.end(2, true);
        assert_eq!(turn.step(1, second), Step::Done);
    }

    #[test]
    fn a_flush_that_failed_covers_nobody() {
        let turn = FlushTurn::default();
        let wanted = turn.next();
        assert_eq!(turn.step(0, wanted), Step::Flush(1));
        turn.end(1, false);
        assert_eq!(turn.step(0, wanted), Step::Flush(2));
    }

    #[test]
    fn a_flush_that_was_given_up_is_unknown_to_other_cores_and_known_to_its_own() {
        let turn = FlushTurn::default();
        assert_eq!(turn.step(0, 1), Step::Flush(1));
        assert_eq!(turn.step(1, turn.next()), Step::Wait);
        turn.abandon(0);
        assert_eq!(turn.step(1, 2), Step::Unknown);
        assert_eq!(turn.step(0, 2), Step::Flush(1), "it is still under way");
        assert_eq!(turn.step(1, 2), Step::Wait);
    }
}
