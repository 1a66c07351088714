//! Load generator and crash tester for any S3 endpoint. It shares no code with the server: a second opinion must
//! not share its bugs.
//!
//! - [`load`]: the load generator: scenarios, closed and open loops, reports
//! - [`body`]: bodies that say which write they belong to, so that every byte read can be verified
//! - [`s3`]: a blocking client with its own signer, for set-up and the crash tester
//! - [`crash`]: `kill -9` and verify, round after round
//! - [`units`]: sizes and times as people write them

#![forbid(unsafe_code)]

pub mod body;
pub mod crash;
pub mod load;
mod rng;
pub mod s3;
pub mod units;
