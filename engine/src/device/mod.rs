//! The one seam between the engine and a medium.
//!
//! A [`Device`] reads, writes and flushes whole blocks at byte offsets. What the engine assumes of it: a write that completed before
//! a flush was submitted is durable once the flush completes; nothing else is durable; an interrupted write may leave any mixture
//! of old and new blocks; reads may return rot (which seals and checksums find). The simulator stands behind this same trait.

#[cfg(feature = "uring")]
mod attendant;
mod buffer;
mod pool;
#[cfg(feature = "uring")]
mod uring;

use std::future::Future;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

pub use buffer::AlignedBuffer;
#[cfg(feature = "uring")]
pub use uring::{DeviceFile, OpenError, UringDevice};

/// A device operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoFailure {
    /// `read`, `write` or `flush`.
    pub op: &'static str,
    /// The system's error number.
    pub errno: i32,
}

/// A raw medium. All offsets and lengths are multiples of [`crate::limits::BLOCK_SIZE`].
pub trait Device: 'static {
    /// Usable bytes.
    fn capacity(&self) -> u64;

    /// Fills the whole buffer from `offset`.
    fn read(
        &self,
        buffer: AlignedBuffer,
        offset: u64,
    ) -> impl Future<Output = (Result<(), IoFailure>, AlignedBuffer)>;

    /// Writes the whole buffer at `offset`.
    fn write(&self, buffer: Rc<AlignedBuffer>, offset: u64) -> impl Future<Output = Result<(), IoFailure>>;

    /// Makes every write that completed before this call durable.
    fn flush(&self) -> impl Future<Output = Result<(), IoFailure>>;

    /// Sees to something of this core that nobody waits for any more. Without a runtime, or when it ends, the task is dropped.
    fn detach(&self, task: LocalBoxFuture<'static, ()>);
}
