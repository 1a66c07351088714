//! S3 over the engine: what a core does with its connections.
//!
//! ```text
//!  connection   head ─> dispatch: who, what ─> op ─> answer ─> next request, or the end
//!                                               │
//!       body ── wire bytes, decoded, hashed ────┤
//!       object_meta ── engine <-> protocol ─────┤
//!       error ── why not, in S3's words ────────┘
//! ```
//! - The bytes of an object stay on the core that has the connection; decisions on a key are made by its bucket's home shard.
//! - Nothing of a request is visible before all of it has been verified: an operation ends in at most one commit, and whatever goes wrong before
//!   drops what was written.
//! - An answer is whole or the connection breaks off: the first bytes of an object are read before its head is sent, and a failure after that closes
//!   the connection short of the announced length.

mod answer;
mod body;
pub mod connection;
mod dispatch;
mod error;
mod exchange;
mod object_meta;
mod op;
mod request_id;
mod writer;

pub use request_id::{RequestId, RequestIds};

use proto_s3::Operation;

const NAMED_COUNT: usize = Operation::NAMES.len();

/// What requests are counted by: every operation, and last those that are none.
pub const OPERATIONS: &[&str] = &{
    let mut names = ["Unknown"; NAMED_COUNT + 1];
    let mut i = 0;
    while i < NAMED_COUNT {
        names[i] = Operation::NAMES[i];
        i += 1;
    }
    names
};
