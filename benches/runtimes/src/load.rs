//! The three loads, the same for every contender: sizes, depths, places in the file, and when to flush.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rustix::fs::OFlags;

use crate::meter::Meter;

/// Bytes of a random read, and reads in flight.
pub const READ_LEN: usize = 4096;
/// Reads in flight.
pub const READ_DEPTH: usize = 32;
/// Bytes of an append.
pub const APPEND_LEN: usize = 256 * 1024;
/// Appends in flight.
pub const APPEND_DEPTH: usize = 4;
/// Appends per fdatasync.
const APPENDS_PER_FLUSH: u64 = 16;
/// Connections, each with one request at a time.
pub const CONNECTION_COUNT: usize = 64;
/// Bytes of a request.
pub const REQUEST_LEN: usize = 100;
/// Bytes of its response.
pub const RESPONSE_LEN: usize = 4096;

/// What O_DIRECT wants buffers and places to be multiples of.
const BLOCK_SIZE: usize = 4096;

/// What a contender is made to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Load {
    /// Random reads of 4 KiB, 32 in flight
    Read,
    /// Appends of 256 KiB, 4 in flight, and an fdatasync after each 16
    Append,
    /// Requests of 100 bytes, responses of 4 KiB, 64 connections over loopback
    Serve,
}

impl Load {
    /// As the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Load::Read => "4 KiB random read, O_DIRECT, depth 32",
            Load::Append => "256 KiB append, O_DIRECT, depth 4, fdatasync each 16",
            Load::Serve => "100 B request, 4 KiB response, 64 connections",
        }
    }
}

/// One measurement. It lives as long as its process, so that every task may borrow it.
pub struct Bench {
    /// The file that is read, or written from its begin to its end and over again.
    pub path: PathBuf,
    /// Counts, and ends the process in the end.
    pub meter: Meter,
    file_len: u64,
    numbers: Cell<u64>,
    placed: Cell<u64>,
    appended: Cell<u64>,
}

impl Bench {
    /// For a file of that length.
    pub fn new(path: PathBuf, file_len: u64, meter: Meter) -> &'static Self {
        assert!(file_len >= APPEND_LEN as u64, "the file holds an append");
        let (numbers, placed, appended) = (Cell::new(1), Cell::new(0), Cell::new(0));
        Box::leak(Box::new(Bench { path, meter, file_len, numbers, placed, appended }))
    }

    /// Where the next read is of: anywhere (SplitMix64).
    pub fn read_place(&self) -> u64 {
        let state = self.numbers.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.numbers.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % (self.file_len / READ_LEN as u64) * READ_LEN as u64
    }

    /// Where the next append goes: behind the last one, and in the end to the begin.
    pub fn append_place(&self) -> u64 {
        let place = self.placed.replace(self.placed.get() + 1);
        place % (self.file_len / APPEND_LEN as u64) * APPEND_LEN as u64
    }

    /// Counts an append that is done; whether it is one that a flush follows.
    pub fn is_flush_due(&self) -> bool {
        self.appended.set(self.appended.get() + 1);
        self.appended.get().is_multiple_of(APPENDS_PER_FLUSH)
    }

    /// The file, for direct reads and writes.
    pub fn open(&self) -> File {
        open_direct(&self.path).expect("the file was made for this")
    }
}

/// Memory for direct I/O: a vector, and the part of it that is aligned. All contenders but glommio, which brings its own, take it.
pub fn aligned(len: usize) -> (Vec<u8>, Range<usize>) {
    let mut memory = vec![0; len + BLOCK_SIZE];
    let start = memory.as_ptr().align_offset(BLOCK_SIZE);
    fill(&mut memory);
    (memory, start..start + len)
}

/// Bytes that no device takes for zeroes.
pub fn fill(bytes: &mut [u8]) {
    let mut state = 1u32;
    for byte in bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
}

/// Makes the file, every block of it written.
pub fn create(path: &Path, len: u64) -> io::Result<()> {
    drop(OpenOptions::new().write(true).create_new(true).open(path)?);
    let mut file = open_direct(path)?;
    let (memory, range) = aligned(APPEND_LEN);
    for _ in 0..len / APPEND_LEN as u64 {
        file.write_all(&memory[range.clone()])?;
    }
    file.sync_all()
}

fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(direct_flag()).open(path)
}

/// O_DIRECT, for interfaces that take flags.
pub fn direct_flag() -> i32 {
    OFlags::DIRECT.bits() as i32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bench(file_len: u64) -> &'static Bench {
        Bench::new(PathBuf::new(), file_len, Meter::new(Duration::ZERO, Duration::from_secs(1)))
    }

    #[test]
    fn reads_stay_in_the_file_and_go_everywhere() {
        let bench = bench(64 * APPEND_LEN as u64);
        let places: std::collections::BTreeSet<u64> = (0..100_000).map(|_| bench.read_place()).collect();
        assert_eq!(places.len(), 64 * APPEND_LEN / READ_LEN);
        assert!(places.iter().all(|place| place + READ_LEN as u64 <= 64 * APPEND_LEN as u64));
    }

    #[test]
    fn appends_follow_each_other_and_begin_again() {
        let bench = bench(3 * APPEND_LEN as u64);
        let places: Vec<u64> = (0..4).map(|_| bench.append_place() / APPEND_LEN as u64).collect();
        assert_eq!(places, [0, 1, 2, 0]);
    }

    #[test]
    fn every_sixteenth_append_is_flushed() {
        let bench = bench(APPEND_LEN as u64);
        let flushed: Vec<u64> = (1..=48).filter(|_| bench.is_flush_due()).collect();
        assert_eq!(flushed.len(), 3);
        assert_eq!(flushed[0], 16);
    }

    #[test]
    fn memory_is_aligned() {
        let (memory, range) = aligned(READ_LEN);
        assert!(memory[range.clone()].as_ptr().addr().is_multiple_of(BLOCK_SIZE));
        assert_eq!(range.len(), READ_LEN);
    }
}
