//! A device in memory, which never makes anybody wait, and what runs on it.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use engine::Device;
use engine::device::{AlignedBuffer, IoFailure};

/// Its bytes, shared by its clones.
#[derive(Clone)]
pub struct MemoryDevice {
    bytes: Rc<RefCell<Vec<u8>>>,
    flushes: Rc<Cell<u64>>,
}

impl MemoryDevice {
    /// One of so many zeroes.
    pub fn new(len: usize) -> Self {
        MemoryDevice { bytes: Rc::new(RefCell::new(vec![0; len])), flushes: Rc::default() }
    }

    /// How often it was flushed.
    #[allow(dead_code, reason = "each bench uses a part of this")]
    pub fn flushes(&self) -> u64 {
        self.flushes.get()
    }
}

impl Device for MemoryDevice {
    fn detach(&self, mut task: Pin<Box<dyn Future<Output = ()>>>) {
        // Memory has always answered by the time it is asked.
        let _ = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    fn capacity(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    async fn read(&self, mut buffer: AlignedBuffer, offset: u64) -> (Result<(), IoFailure>, AlignedBuffer) {
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(&self.bytes.borrow()[range]);
        (Ok(()), buffer)
    }

    async fn write(&self, buffer: Rc<AlignedBuffer>, offset: u64) -> Result<(), IoFailure> {
        let offset = offset as usize;
        self.bytes.borrow_mut()[offset..offset + buffer.len()].copy_from_slice(&buffer);
        Ok(())
    }

    async fn flush(&self) -> Result<(), IoFailure> {
        self.flushes.set(self.flushes.get() + 1);
        Ok(())
    }
}

/// Nothing here waits for anything but its turn.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
