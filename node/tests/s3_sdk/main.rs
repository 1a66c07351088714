//! The S3 operations through the AWS SDK for Rust, unmodified, over HTTPS, against a real node.

#![expect(clippy::unwrap_used, reason = "a test says by a panic that it failed")]

#[path = "../harness/mod.rs"]
mod harness;

mod buckets;
mod client;
mod conditions;
mod copies;
mod full;
mod listing;
mod multipart;
mod objects;
mod promises;
mod restarts;
