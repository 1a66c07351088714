//! A device that refuses to be changed.

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

use crate::device::{AlignedBuffer, Device, IoFailure};

/// "Read-only file system".
const EROFS: i32 = 30;

/// A handle on a device through which nothing is written; clones are handles on the same.
#[derive(Debug)]
pub struct ReadOnly<D>(Rc<D>);

impl<D> ReadOnly<D> {
    /// Takes a device.
    pub fn new(device: D) -> Self {
        ReadOnly(Rc::new(device))
    }
}

impl<D> Clone for ReadOnly<D> {
    fn clone(&self) -> Self {
        ReadOnly(self.0.clone())
    }
}

impl<D: Device> Device for ReadOnly<D> {
    fn detach(&self, _: LocalBoxFuture<'static, ()>) {
        // Nothing is flushed here, and so nothing left behind.
    }

    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    async fn read(&self, buffer: AlignedBuffer, offset: u64) -> (Result<(), IoFailure>, AlignedBuffer) {
        self.0.read(buffer, offset).await
    }

    async fn write(&self, _buffer: Rc<AlignedBuffer>, _offset: u64) -> Result<(), IoFailure> {
        Err(IoFailure { op: "write", errno: EROFS })
    }

    async fn flush(&self) -> Result<(), IoFailure> {
        Err(IoFailure { op: "flush", errno: EROFS })
    }
}
