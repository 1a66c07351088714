//! A load, as one thread sees it: which connections are free, what is due, which key is next.

use crate::load::draw::{KeyOrder, Keys};
use crate::load::pace::Schedule;
use crate::load::phase::Load;
use crate::rng::Rng;

/// A load, as one thread sees it.
pub(super) struct Part {
    pub(super) first_series: usize,
    pub(super) idle: Vec<usize>,
    pub(super) schedule: Option<Schedule>,
    pub(super) rng: Rng,
    pub(super) reads: Keys,
    pub(super) writes: Keys,
    /// Keys left, with [`Quota::EachKeyOnce`].
    pub(super) rest: u64,
    /// Keys to be tried again.
    pub(super) again: Vec<(u32, u64)>,
    /// A connection was free when the thread last went to sleep, so that whatever is due since is late by its own fault.
    pub(super) had_idle: bool,
}

impl Part {
    pub(super) fn choose_key(
        &mut self,
        load: &Load,
        is_write: bool,
        bucket: Option<u32>,
        index: u32,
        thread_count: u32,
    ) -> (u32, u64) {
        let bucket_count = load.buckets.len() as u64;
        let keys = if is_write { &mut self.writes } else { &mut self.reads };
        let mut drawn = keys.draw(&mut self.rng);
        let mut in_order = 0;
        if load.key_order == KeyOrder::Sequential {
            (drawn, in_order) = (drawn / bucket_count, drawn % bucket_count);
        } else if bucket.is_none() && bucket_count > 1 {
            in_order = self.rng.below(bucket_count);
        }
        let bucket = bucket.unwrap_or(load.buckets.start + in_order as u32);
        // Each thread writes keys of its own.
        let key = if is_write { drawn * u64::from(thread_count) + u64::from(index) } else { drawn };
        (bucket, key)
    }
}
