//! One stream of bytes, as its owner sees it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::Digest;
use crate::backlog::Backlog;
use crate::lanes::{Lanes, Shared, is_waiting};

/// One stream of bytes on its way to its MD5, next to others.
#[derive(Debug)]
pub struct Stream {
    lanes: Rc<Lanes>,
    backlog: Shared,
}

impl Stream {
    /// Nothing taken in; the lanes count it as open.
    pub(crate) fn new(lanes: Rc<Lanes>) -> Self {
        Stream { lanes, backlog: Rc::new(RefCell::new(Backlog::new())) }
    }

    /// A stream of which all bytes are at hand.
    pub(crate) fn of(lanes: Rc<Lanes>, bytes: Vec<u8>) -> Self {
        Stream { lanes, backlog: Rc::new(RefCell::new(Backlog::of(bytes))) }
    }

    /// Takes in the next bytes. They are hashed now or later.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if self.lanes.is_alone() {
            return self.update_alone(bytes);
        }
        while !bytes.is_empty() {
            bytes = self.backlog.borrow_mut().take(bytes);
            let is_full = self.backlog.borrow().is_full();
            if is_waiting(&self.backlog.borrow()) {
                self.lanes.enlist(&self.backlog);
            }
            if self.lanes.are_all_wanted() {
                self.lanes.run(|_| true);
            } else if is_full {
                self.lanes.run(Backlog::is_full);
            }
        }
    }

    /// No more bytes will come.
    pub fn end(self) -> Ended {
        self.backlog.borrow_mut().end();
        self.lanes.enlist(&self.backlog);
        Ended(self)
    }

    /// The digest of all bytes. Waits for one turn of the executor, so that streams which end in the same turn are hashed together.
    pub async fn finish(self) -> Digest {
        let ended = self.end();
        turn().await;
        ended.digest()
    }

    fn update_alone(&mut self, bytes: &[u8]) {
        self.lanes.delist(&self.backlog);
        self.backlog.borrow_mut().hash_now(bytes);
    }
}

/// A stream that has ended: waits for its digest, or for a batch of others that it can join.
#[derive(Debug)]
pub struct Ended(Stream);

impl Ended {
    /// The digest of all bytes, hashed now with all others that have ended, unless one of those did.
    pub fn digest(self) -> Digest {
        self.hashed()
    }

    pub(crate) fn hashed(&self) -> Digest {
        let Ended(Stream { lanes, backlog }) = self;
        let known = backlog.borrow().digest();
        known.unwrap_or_else(|| {
            lanes.run(Backlog::is_ended);
            backlog.borrow().digest().expect("a batch ends when those that have ended are done")
        })
    }

    /// Gives back the bytes of a stream of which all were at hand.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let Ended(Stream { backlog, .. }) = &self;
        backlog.replace(Backlog::new()).into_bytes()
    }
}

#[cfg(test)]
impl Stream {
    pub(crate) fn waiting_len(&self) -> usize {
        self.backlog.borrow().waiting_len()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.lanes.close(&self.backlog);
    }
}

/// Lets all others have a turn who can.
pub(crate) async fn turn() {
    let mut is_over = false;
    poll_fn(|context| {
        if is_over {
            return Poll::Ready(());
        }
        is_over = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
