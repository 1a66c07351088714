//! Every byte on disk, declared once: pure translation between bytes and types.
//!
//! - [`superblock`]: what a device is, twice at its start.
//! - [`lease`]: how far ids of segments may have been given out.
//! - [`segment`]: the header block of a segment slot.
//! - [`record`]: the header of a log record.
//! - [`body`]: what the payload of each kind of record holds, once unsealed.
//! - [`settlement`]: what a record does to places, hashes and usage, behind its payload.
//! - [`catalog`]: the payload of a catalog change.
//! - [`directory`]: keys and values of the key directory.
//! - [`due`]: the due-time index in it, and the record that changes it.
//! - [`checkpoint`]: pointer, record and body of a checkpoint.
//! - [`upkeep`]: range tombstones, reaps and cursors of log consumers.
//! - [`run`]: sorted runs of the key directory, block by block, and what describes one.
//! - [`outline`]: which directories of keys a run holds.
//! - [`frame`]: where the frames of an object lie, and how long they are.
//!
//! All integers are little-endian. Fixed parts are `zerocopy` types with asserted sizes; variable parts follow them with their
//! lengths in the fixed part. Nothing here does I/O or knows a key. `engine/tests/golden/` holds an image of each type.

pub mod body;
pub mod catalog;
pub mod checkpoint;
pub mod directory;
pub mod due;
pub mod frame;
pub mod lease;
pub mod outline;
pub mod record;
pub mod run;
pub mod segment;
pub mod settlement;
pub mod superblock;
pub mod upkeep;

mod cursor;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The version of everything in this folder. It grows with each change that an older binary can't read.
pub const FORMAT_VERSION: u32 = 4;

/// Bytes that do not say what they should, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The 128-bit checksum of blocks and of unencrypted data.
pub(crate) fn checksum_128(bytes: &[u8]) -> [u8; 16] {
    xxh3_128(bytes).to_le_bytes()
}

/// The 64-bit checksum of record payloads.
pub(crate) fn checksum_64(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// CRC-32C, of record headers.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
