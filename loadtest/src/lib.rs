//! Load generator and crash tester for any S3 endpoint. It shares no code with the server: a second opinion must
//! not share its bugs.
//!
//! - [`s3`]: a blocking client with its own signer
//! - [`body`]: bodies that say which write they belong to, so that every byte read can be verified
//! - [`load`]: the closed-loop load generator
//! - [`crash`]: `kill -9` and verify, round after round

pub mod body;
pub mod crash;
pub mod load;
mod rng;
pub mod s3;
