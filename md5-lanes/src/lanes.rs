//! What the streams of one core share: the list of those whose bytes wait, and when they are hashed.
//!
//! The more streams wait when a batch runs, the more lanes it fills, so bytes are copied and wait until
//! - every lane has a stream with [`READY_LEN`] bytes, or
//! - a stream has [`WAITING_LEN_MAX`](crate::stream::WAITING_LEN_MAX) of them, or
//! - a stream has ended, and whoever else could end in the same pass of the executor has had the time to.
//!
//! Others ride along while lanes are free. A stream that is the only one open is hashed at once, where its bytes lie.
//!
//! Invariant: a stream is in the list when, and only when, it has ended and is not hashed, or [`READY_LEN`] bytes of it wait.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::batch::{Job, Need, hash};
use crate::stream::Stream;
use crate::{BLOCK_LEN, Digest, Kernel};

/// Bytes from which a stream is worth a lane: what changes of the lanes cost is lost in it.
const READY_LEN: usize = 16 * 1024;

/// The lanes of one core.
#[derive(Debug)]
pub struct Lanes {
    kernel: Kernel,
    /// Streams whose bytes wait.
    waiting: RefCell<Vec<Rc<RefCell<Stream>>>>,
    /// Streams that are open.
    open_count: Cell<usize>,
}

impl Lanes {
    /// Lanes of that kernel, all free.
    pub fn new(kernel: Kernel) -> Rc<Self> {
        Rc::new(Lanes { kernel, waiting: RefCell::default(), open_count: Cell::new(0) })
    }

    /// A new stream.
    pub fn open(self: &Rc<Self>) -> Hasher {
        self.open_count.set(self.open_count.get() + 1);
        Hasher { lanes: self.clone(), stream: Rc::new(RefCell::new(Stream::new())) }
    }

    /// What does the work.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Whether there is nobody to share the lanes with.
    fn is_alone(&self) -> bool {
        self.kernel.lane_count() == 1 || self.open_count.get() == 1
    }

    /// Puts a stream in the list of those that wait.
    fn enlist(&self, stream: &Rc<RefCell<Stream>>) {
        if !std::mem::replace(&mut stream.borrow_mut().is_listed, true) {
            self.waiting.borrow_mut().push(stream.clone());
        }
    }

    /// Takes a stream off it.
    fn delist(&self, stream: &Rc<RefCell<Stream>>) {
        if std::mem::replace(&mut stream.borrow_mut().is_listed, false) {
            self.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, stream));
        }
    }

    /// Whether every lane has a stream that waits for it.
    fn are_all_wanted(&self) -> bool {
        self.waiting.borrow().len() >= self.kernel.lane_count()
    }

    /// A batch of all that wait; it ends when those that are urgent are done.
    fn run(&self, is_urgent: impl Fn(&Stream) -> bool) {
        let mut waiting = self.waiting.borrow_mut();
        let mut streams: Vec<_> = waiting.iter().map(|stream| stream.borrow_mut()).collect();
        let mut jobs = Vec::with_capacity(streams.len());
        for stream in &mut streams {
            let need = if is_urgent(stream) { Need::Urgent } else { Need::Rider };
            let (state, blocks) = stream.waiting();
            jobs.push(Job { state, blocks, need });
        }
        hash(self.kernel, &mut jobs);
        let left: Vec<usize> = jobs.iter().map(|job| job.blocks.len()).collect();
        for (stream, left) in streams.iter_mut().zip(left) {
            stream.leave(left);
            stream.is_listed = is_waiting(stream);
        }
        drop(streams);
        waiting.retain(|stream| stream.borrow().is_listed);
    }
}

#[cfg(test)]
impl Lanes {
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open_count.get() == 0 && self.waiting_count() == 0
    }
}

/// The invariant of the list.
fn is_waiting(stream: &Stream) -> bool {
    stream.waiting_len() >= if stream.is_ended() { BLOCK_LEN } else { READY_LEN }
}

/// One stream of bytes on its way to its MD5, next to others.
#[derive(Debug)]
pub struct Hasher {
    lanes: Rc<Lanes>,
    stream: Rc<RefCell<Stream>>,
}

impl Hasher {
    /// Takes in the next bytes. They are hashed now or later.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if self.lanes.is_alone() {
            return self.update_alone(bytes);
        }
        while !bytes.is_empty() {
            bytes = self.stream.borrow_mut().take(bytes);
            let (is_waiting, is_full) = {
                let stream = self.stream.borrow();
                (is_waiting(&stream), stream.is_full())
            };
            if is_waiting {
                self.lanes.enlist(&self.stream);
            }
            if self.lanes.are_all_wanted() {
                self.lanes.run(|_| true);
            } else if is_full {
                self.lanes.run(Stream::is_full);
            }
        }
    }

    /// No more bytes will come.
    pub fn end(self) -> Ended {
        self.stream.borrow_mut().end();
        self.lanes.enlist(&self.stream);
        Ended(self)
    }

    /// The digest of all bytes. Waits for one turn of the executor, so that streams which end in the same turn are hashed together.
    pub async fn finish(self) -> Digest {
        let ended = self.end();
        turn().await;
        ended.digest()
    }

    fn update_alone(&mut self, bytes: &[u8]) {
        self.lanes.delist(&self.stream);
        self.stream.borrow_mut().hash_now(bytes);
    }
}

/// A stream that has ended: waits for its digest, or for a batch of others that it can join.
#[derive(Debug)]
pub struct Ended(Hasher);

impl Ended {
    /// The digest of all bytes, hashed now with all others that have ended, unless one of those did.
    pub fn digest(self) -> Digest {
        let Ended(Hasher { lanes, stream }) = &self;
        let known = stream.borrow().digest();
        known.unwrap_or_else(|| {
            lanes.run(Stream::is_ended);
            stream.borrow().digest().expect("a batch ends when those that have ended are done")
        })
    }
}

#[cfg(test)]
impl Hasher {
    pub(crate) fn waiting_len(&self) -> usize {
        self.stream.borrow().waiting_len()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.lanes.delist(&self.stream);
        self.lanes.open_count.set(self.lanes.open_count.get() - 1);
    }
}

/// Lets all others have a turn who can.
async fn turn() {
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
