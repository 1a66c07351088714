//! A bare ring: entries in, completions out. The floor that the runtimes are held against, and the client.

use std::io;

use io_uring::{IoUring, squeue};

/// Entries that wait for one system call.
const LEN: u32 = 256;

/// A ring that belongs to one thread.
pub struct Ring(IoUring);

impl Ring {
    /// A ring whose completions are taken care of only when it is waited for.
    pub fn new() -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_cqsize(4 * LEN);
        builder.build(LEN).map(Ring)
    }

    /// Adds an entry; the next [`Ring::wait`] submits it.
    ///
    /// # Safety
    /// What the entry points to is valid until it has completed.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.0.submission().push(entry) };
        pushed.expect("fewer entries are in flight than the queue holds");
    }

    /// Submits, waits for a completion, and takes all that are there: what they are of, and their results.
    pub fn wait(&mut self, completions: &mut Vec<(u64, i32)>) -> io::Result<()> {
        self.0.submit_and_wait(1)?;
        completions.clear();
        completions.extend(self.0.completion().map(|entry| (entry.user_data(), entry.result())));
        Ok(())
    }
}
