//! MD5 of many streams at a time.
//!
//! MD5 is one chain of dependent steps: a core hashes one stream at about 0.7 GB/s however wide its registers are. But the chains
//! of different streams are independent, so that one register can carry a word of each of 8 (AVX2) or 16 (AVX-512) of
//! them, and the same instructions advance all. The bodies of concurrent uploads are such streams.
//!
//! ```text
//!  body ─update─> Stream (backlog) ┐
//!  body ─update─> Stream (backlog) ┼─> Lanes ─> batch: longest first, free lanes refilled ─> Kernel
//!  body ─finish─> Stream (backlog) ┘
//! ```
//! - [`Lanes`] is what the streams of one core share; [`Stream`] is one stream. No I/O, no clock, no thread, no runtime.
//! - [`hash`] is the batch alone: some streams' blocks, all at hand.
//! - [`Kernel`] is the instruction set; without vectors streams are hashed one after the other.
//! - The digests are those of RFC 1321 on every kernel, however the bytes are cut and whoever shares the lanes.

#![deny(unsafe_code)]

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "loads and stores of vector registers")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "loads and stores of vector registers")]
mod avx512;
mod backlog;
mod batch;
#[expect(unsafe_code, reason = "calls of functions for a CPU that has been detected")]
mod kernel;
mod lanes;
#[cfg(target_arch = "x86_64")]
mod rounds;
mod stream;
#[cfg(test)]
mod tests;

pub use backlog::PADDING_LEN_MAX;
pub use batch::{Job, Need, hash};
pub use kernel::Kernel;
pub use lanes::Lanes;
pub use stream::{Ended, Stream};

/// Bytes of a block.
pub const BLOCK_LEN: usize = 64;

/// What MD5 takes in at a time.
pub type Block = [u8; BLOCK_LEN];

/// The chaining variables A, B, C, D.
pub type State = [u32; 4];

/// An MD5.
pub type Digest = [u8; 16];

/// The state before the first block.
pub const STATE_INITIAL: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
