//! The limits of what a scenario can ask for, so that no run is without an end.

use std::time::Duration;

use super::Scenario;
use crate::body::HEADER_LEN;

/// Sockets of one process; more needs a second machine anyway.
pub const CONNECTIONS_MAX: u32 = 4096;
/// As many as an account has by default on AWS.
pub const BUCKETS_MAX: u32 = 1000;
/// Keys of all buckets together: their book-keeping takes 20 bytes each.
pub const KEYS_MAX: u64 = 50_000_000;
/// A day for one round.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
const ROUNDS_MAX: u32 = 100;
const THREADS_MAX: u32 = 256;
/// Requests a second: beyond what one process can send.
const RATE_MAX: f64 = 10e6;
/// The largest object of one PUT on AWS.
const OBJECT_LEN_MAX: u64 = 5 << 30;
/// Both from the S3 API reference.
const PARTS_MAX: u32 = 10_000;
const PAGE_MAX: u32 = 1000;

impl Scenario {
    /// Says what can't be meant.
    pub fn check(&self) -> Result<(), String> {
        let thread_count = u64::from(self.thread_count());
        let multipart_len = u64::from(self.multipart.parts).checked_mul(self.multipart.part_size.0);
        let rules = [
            (
                self.operations.values().any(|weight| *weight > 0),
                "operations: give one at least a weight above 0, like get = 1",
            ),
            ((1..=CONNECTIONS_MAX).contains(&self.connections), "connections: 1 to 4096"),
            (self.threads <= THREADS_MAX, "threads: 256 at most"),
            (
                self.rate.is_none_or(|rate| rate > 0.0 && rate <= RATE_MAX),
                "rate: above 0, up to 10000000 a second",
            ),
            ((1..=BUCKETS_MAX).contains(&self.buckets), "buckets: 1 to 1000"),
            (
                is_bucket_prefix(&self.bucket_prefix),
                "bucket-prefix: 1 to 50 lower-case letters, digits and dashes, not a dash first",
            ),
            (
                self.keys > 0 && self.key_count() <= KEYS_MAX,
                "keys: at least 1, and at most 50 million over all buckets",
            ),
            (
                self.keys >= thread_count,
                "keys: as many as threads at least, since each writes keys of its own",
            ),
            (
                self.size.len_min() >= HEADER_LEN as u64,
                "size: a body that says what it is takes 40 bytes at least",
            ),
            (self.size.len_max() <= OBJECT_LEN_MAX, "size: 5GiB at most"),
            ((0.0..=1.0).contains(&self.verify), "verify: from 0 to 1"),
            (!self.duration.0.is_zero() && self.duration.0 <= DURATION_MAX, "duration: above 0, up to 24h"),
            (self.warm_up.0 <= DURATION_MAX, "warm-up: up to 24h"),
            (self.count != Some(0), "count: at least 1"),
            ((1..=ROUNDS_MAX).contains(&self.rounds), "rounds: 1 to 100"),
            (
                !self.timeout.0.is_zero() && self.timeout.0 <= Duration::from_secs(600),
                "timeout: above 0, up to 10m",
            ),
            ((1..=PAGE_MAX).contains(&self.list.page), "list.page: 1 to 1000"),
            ((1..=PARTS_MAX).contains(&self.multipart.parts), "multipart.parts: 1 to 10000"),
            (self.multipart.part_size.0 >= HEADER_LEN as u64, "multipart.part-size: 40 bytes at least"),
            (multipart_len.is_some_and(|len| len <= 5 << 40), "multipart: 5 TiB at most"),
        ];
        let broken: Vec<&str> = rules.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
        if !broken.is_empty() {
            return Err(broken.join("\n"));
        }
        self.size.check()?;
        self.key_order.check()
    }
}

fn is_bucket_prefix(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=50).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('-')
}
