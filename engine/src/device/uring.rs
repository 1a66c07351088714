//! A block device or a preallocated file, read and written with O_DIRECT through the io_uring of the calling core.
//!
//! A [`DeviceFile`] is opened once per process and locked; each core attaches to it with a descriptor of its own that shares the open
//! file description. The lock (flock) therefore lasts until the last request in flight has ended, also after the process
//! was killed: whoever opens the device next can't have its writes overtaken by those of a dead process.
//!
//! This file holds the crate's only unsafe code: handing an [`AlignedBuffer`] to the kernel as writable memory.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf, IoBufMut, SetLen};
use compio::driver::SharedFd;
use compio::driver::op::{ReadAt, Sync, WriteAt};
use compio::runtime::Runtime;
use futures_util::future::LocalBoxFuture;
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};

use super::attendant::Attendant;
use super::{AlignedBuffer, Device, IoFailure};
use crate::limits::BLOCK_SIZE;

/// How often a transient error (EAGAIN, EINTR) is tried again before it counts as a failure.
const TRANSIENT_RETRIES_MAX: u32 = 1000;

/// How long the lock of a dead process's requests in flight is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// Why a device could not be opened; the text says what to do.
#[derive(Debug)]
pub struct OpenError {
    /// The device or file.
    pub path: PathBuf,
    /// What was being done.
    pub step: &'static str,
    /// The system's answer.
    pub source: io::Error,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: cannot {}: {}", self.path.display(), self.step, self.source)
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What a device is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// An open, locked device that cores can attach to.
#[derive(Debug)]
pub struct DeviceFile {
    file: File,
    path: PathBuf,
    capacity: u64,
}

impl DeviceFile {
    /// Opens an existing device and locks it for this process.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_for(path, Access::Write, LOCK_WAIT)
    }

    /// The same for reading alone: nothing can be written to it. A lock that somebody else has is not waited for.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        Self::open_for(path, Access::Read, Duration::ZERO)
    }

    fn open_for(path: &Path, access: Access, lock_wait: Duration) -> Result<Self, OpenError> {
        let fail = |step| move |source| OpenError { path: path.to_owned(), step, source };
        let is_block = std::fs::metadata(path).map_err(fail("find it"))?.file_type().is_block_device();
        // O_EXCL on a block device: refused while it is mounted or part of something else.
        let exclusive = if is_block { OFlags::EXCL } else { OFlags::empty() };
        let file = File::options()
            .read(true)
            .write(access == Access::Write)
            .custom_flags((OFlags::DIRECT | exclusive).bits() as i32)
            .open(path)
            .map_err(fail("open it for direct I/O (is it in use, or on a file system without O_DIRECT?)"))?;
        lock(&file, lock_wait).map_err(fail("lock it: another process has it open"))?;
        let len = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(fail("find its size"))?;
        let capacity = len - len % BLOCK_SIZE as u64;
        Ok(DeviceFile { file, path: path.to_owned(), capacity })
    }

    /// Makes a regular file of `len` bytes, all of them allocated, to serve as a device. Fails if it exists.
    pub fn create(path: &Path, len: u64) -> Result<Self, OpenError> {
        let fail = |step| move |source| OpenError { path: path.to_owned(), step, source };
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(fail("create it"))?;
        let allocated = fallocate(&file, FallocateFlags::empty(), 0, len).map_err(io::Error::from);
        if let Err(source) = allocated.and_then(|()| file.sync_all()) {
            // What could not be made whole must not be found by the next start.
            let _ = std::fs::remove_file(path);
            return Err(OpenError {
                path: path.to_owned(),
                step: "allocate its space (is the file system full? a smaller device size may fit)",
                source,
            });
        }
        drop(file);
        Self::open(path)
    }

    /// Usable bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor for the calling thread's runtime.
    pub fn attach(&self) -> io::Result<UringDevice> {
        let attendant = Attendant::new();
        // Without a runtime there is nothing to attend to.
        let _ = Runtime::try_with_current(|runtime| runtime.spawn(Attendant::attend(&attendant)).detach());
        Ok(UringDevice { file: SharedFd::new(self.file.try_clone()?), capacity: self.capacity, attendant })
    }
}

fn lock(file: &File, wait: Duration) -> io::Result<()> {
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if waited < wait => {
                std::thread::sleep(step);
                waited += step;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A device as one core sees it.
#[derive(Debug)]
pub struct UringDevice {
    file: SharedFd<File>,
    capacity: u64,
    attendant: Rc<Attendant>,
}

impl Device for UringDevice {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    async fn read(&self, buffer: AlignedBuffer, offset: u64) -> (Result<(), IoFailure>, AlignedBuffer) {
        let len = buffer.len();
        let mut done = 0;
        let mut retries = 0;
        let mut buffer = Target(buffer);
        while done < len {
            let op = ReadAt::new(self.file.clone(), offset + done as u64, buffer.slice(done..));
            let BufResult(result, op) = compio::runtime::submit(op).await;
            buffer = op.into_inner().into_inner();
            match step(result, &mut retries, "read") {
                Ok(n) => done += n,
                Err(failure) => return (Err(failure), buffer.0),
            }
        }
        (Ok(()), buffer.0)
    }

    async fn write(&self, buffer: Rc<AlignedBuffer>, offset: u64) -> Result<(), IoFailure> {
        let len = buffer.len();
        let mut done = 0;
        let mut retries = 0;
        while done < len {
            let op = WriteAt::new(self.file.clone(), offset + done as u64, buffer.clone().slice(done..));
            let BufResult(result, _) = compio::runtime::submit(op).await;
            done += step(result, &mut retries, "write")?;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), IoFailure> {
        let op = Sync::new(self.file.clone(), true);
        let BufResult(result, _) = compio::runtime::submit(op).await;
        // Never retried, whatever the error: after a failed flush the kernel may have dropped the dirty state.
        result.map(|_| ()).map_err(|error| failure(&error, "flush"))
    }

    fn detach(&self, task: LocalBoxFuture<'static, ()>) {
        self.attendant.take_over(task);
    }
}

/// What a completion means: bytes done (whole blocks), 0 to try again, or a failure.
fn step(result: io::Result<usize>, retries: &mut u32, op: &'static str) -> Result<usize, IoFailure> {
    let done = match result {
        // A short transfer may end inside a block; O_DIRECT goes on from the block's start.
        Ok(n) => n - n % BLOCK_SIZE,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
        Err(error) => return Err(failure(&error, op)),
    };
    if done == 0 {
        *retries += 1;
        if *retries > TRANSIENT_RETRIES_MAX {
            return Err(IoFailure { op, errno: rustix::io::Errno::IO.raw_os_error() });
        }
    }
    Ok(done)
}

fn failure(error: &io::Error, op: &'static str) -> IoFailure {
    IoFailure { op, errno: error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()) }
}

impl IoBuf for AlignedBuffer {
    fn as_init(&self) -> &[u8] {
        self
    }
}

/// A buffer that the kernel may write: private, so that nobody else can put uninitialised bytes into one.
struct Target(AlignedBuffer);

impl IoBuf for Target {
    fn as_init(&self) -> &[u8] {
        &self.0
    }
}

impl SetLen for Target {
    unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.0.len(), "the buffer has its full length from the start");
    }
}

impl IoBufMut for Target {
    fn as_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let bytes: &mut [u8] = &mut self.0;
        let (pointer, len) = (bytes.as_mut_ptr(), bytes.len());
        // SAFETY: same memory, same length, and u8 and MaybeUninit<u8> have the same layout. The slice reaches only compio's read operation, and through
        // it the kernel, which writes initialised bytes; so the buffer stays initialised.
        unsafe { std::slice::from_raw_parts_mut(pointer.cast::<MaybeUninit<u8>>(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        compio::runtime::Runtime::new().expect("a runtime").block_on(future)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let path = dir.path().join("device");
        let file = DeviceFile::create(&path, 1 << 20).expect("a device");
        run(async {
            let device = file.attach().expect("attached");
            let mut buffer = AlignedBuffer::zeroed(2 * BLOCK_SIZE);
            buffer.fill(0xa5);
            device.write(Rc::new(buffer), 8192).await.expect("written");
            device.flush().await.expect("flushed");
            let (result, back) = device.read(AlignedBuffer::zeroed(4 * BLOCK_SIZE), 4096).await;
            result.expect("read");
            assert!(back[..4096].iter().all(|b| *b == 0) && back[4096..12288].iter().all(|b| *b == 0xa5));
        });
    }

    #[test]
    fn a_read_past_the_end_fails_instead_of_hanging() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let file = DeviceFile::create(&dir.path().join("device"), 1 << 20).expect("a device");
        run(async {
            let device = file.attach().expect("attached");
            let (result, _) = device.read(AlignedBuffer::zeroed(4 * BLOCK_SIZE), (1 << 20) - 4096).await;
            assert_eq!(result.expect_err("past the end").op, "read");
        });
    }

    #[test]
    fn a_missing_device_is_named() {
        let error = DeviceFile::open(Path::new("/nonexistent/device")).expect_err("not there");
        assert!(error.to_string().contains("/nonexistent/device"), "{error}");
    }
}
