//! What the streams of one core share: the list of those whose bytes wait, and when they are hashed.
//!
//! The more streams wait when a batch runs, the more lanes it fills, so bytes are copied and wait until
//! - every lane has a stream with [`READY_LEN`] bytes, or
//! - a stream has [`WAITING_LEN_MAX`](crate::backlog::WAITING_LEN_MAX) of them, or
//! - a stream has ended, and whoever else could end in the same pass of the executor has had the time to.
//!
//! Others ride along while lanes are free. A stream that is the only one open is hashed at once, where its bytes lie.
//!
//! Invariant: a stream is in the list when, and only when, it has ended and is not hashed, or [`READY_LEN`] bytes of it wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::backlog::Backlog;
use crate::batch::{Job, Need, hash};
use crate::stream::{Stream, turn};
use crate::{BLOCK_LEN, Digest, Kernel};

/// Bytes from which a stream is worth a lane: what changes of the lanes cost is lost in it.
const READY_LEN: usize = 16 * 1024;

/// Bytes that a stream keeps waiting which makes room: as much as a stream needs to ride along with the next that does.
pub(crate) const KEPT_LEN: usize = READY_LEN;

/// A backlog, by its stream and by the list.
pub(crate) type Shared = Rc<RefCell<Backlog>>;

/// The lanes of one core.
#[derive(Debug)]
pub struct Lanes {
    kernel: Kernel,
    /// Streams whose bytes wait.
    waiting: RefCell<Vec<Shared>>,
    /// Streams that are open.
    open_count: Cell<usize>,
}

impl Lanes {
    /// Lanes of that kernel, all free.
    pub fn new(kernel: Kernel) -> Rc<Self> {
        Rc::new(Lanes { kernel, waiting: RefCell::default(), open_count: Cell::new(0) })
    }

    /// A new stream.
    pub fn open(self: &Rc<Self>) -> Stream {
        self.open_count.set(self.open_count.get() + 1);
        Stream::new(self.clone())
    }

    /// The digest of bytes that are all at hand, and the bytes again. They are hashed where they are: what [`PADDING_LEN_MAX`](crate::PADDING_LEN_MAX) says of room behind
    /// them saves a copy. Waits for one turn of the executor, as [`Stream::finish`] does.
    pub async fn digest_whole(self: &Rc<Self>, bytes: Vec<u8>) -> (Digest, Vec<u8>) {
        self.open_count.set(self.open_count.get() + 1);
        let ended = Stream::of(self.clone(), bytes).end();
        if self.kernel.lane_count() > 1 {
            turn().await;
        }
        (ended.hashed(), ended.into_bytes())
    }

    /// What does the work.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// A stream is over.
    pub(crate) fn close(&self, backlog: &Shared) {
        self.delist(backlog);
        self.open_count.set(self.open_count.get() - 1);
    }

    /// Whether there is nobody to share the lanes with.
    pub(crate) fn is_alone(&self) -> bool {
        self.kernel.lane_count() == 1 || self.open_count.get() == 1
    }

    /// Puts a stream in the list of those that wait.
    pub(crate) fn enlist(&self, backlog: &Shared) {
        if !std::mem::replace(&mut backlog.borrow_mut().is_listed, true) {
            self.waiting.borrow_mut().push(backlog.clone());
        }
    }

    /// Takes a stream off it.
    pub(crate) fn delist(&self, backlog: &Shared) {
        if std::mem::replace(&mut backlog.borrow_mut().is_listed, false) {
            self.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, backlog));
        }
    }

    /// Whether every lane has a stream that waits for it.
    pub(crate) fn are_all_wanted(&self) -> bool {
        self.waiting.borrow().len() >= self.kernel.lane_count()
    }

    /// A batch of all that wait; it ends when those that are urgent are done.
    pub(crate) fn run(&self, is_urgent: impl Fn(&Backlog) -> bool) {
        let mut waiting = self.waiting.borrow_mut();
        let mut backlogs: Vec<_> = waiting.iter().map(|backlog| backlog.borrow_mut()).collect();
        let mut jobs = Vec::with_capacity(backlogs.len());
        let mut kept_counts = Vec::with_capacity(backlogs.len());
        for backlog in &mut backlogs {
            let need = if is_urgent(backlog) { Need::Urgent } else { Need::Rider };
            // One that is only short of room needs no more than that. Hashed to its end it would be alone in the lanes at last.
            let kept = if backlog.is_full() && !backlog.is_ended() { KEPT_LEN / BLOCK_LEN } else { 0 };
            let (state, blocks) = backlog.waiting();
            jobs.push(Job { state, blocks: &blocks[..blocks.len() - kept], need });
            kept_counts.push(kept);
        }
        hash(self.kernel, &mut jobs);
        let left: Vec<usize> =
            jobs.iter().zip(kept_counts).map(|(job, kept)| job.blocks.len() + kept).collect();
        for (backlog, left) in backlogs.iter_mut().zip(left) {
            backlog.leave(left);
            backlog.is_listed = is_waiting(backlog);
        }
        drop(backlogs);
        waiting.retain(|backlog| backlog.borrow().is_listed);
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
pub(crate) fn is_waiting(backlog: &Backlog) -> bool {
    backlog.waiting_len() >= if backlog.is_ended() { BLOCK_LEN } else { READY_LEN }
}
