//! The hot path to the server: non-blocking sockets, TLS without copies of our own, HTTP/1.1 without allocations.
//!
//! It exists beside `s3::Client`, which is written to be simple, because a generator has to cost less than what
//! it measures. Nothing here blocks, and nothing here knows what is asked for.

mod request;
mod response;
mod transport;

pub(super) use request::{Payload, Requests, Target};
pub(super) use response::{Response, Take};
pub(super) use transport::{PIECE_LEN, Received, Scratch, Transport, Until};
