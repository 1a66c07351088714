//! What is counted: plain numbers of one core, read by whoever exports them.

use std::cell::Cell;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// The counters of one core.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Metric name and help text of each, in the order of [`Counters::values`].
            pub const NAMES: &'static [(&'static str, &'static str)] =
                &[$((concat!("basalt_engine_", stringify!($name), "_total"), concat!($($doc),*)),)*];

            /// The value of each.
            pub fn values(&self) -> impl Iterator<Item = u64> {
                [$(self.$name.value(),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Device reads.
    device_reads,
    /// Bytes read from devices.
    device_read_bytes,
    /// Objects found in the cache of records.
    record_cache_hits,
    /// Device writes, each copy counted.
    device_writes,
    /// Bytes written to devices, each copy counted.
    device_write_bytes,
    /// Device flushes.
    device_flushes,
    /// Devices fenced after a failed write or flush.
    devices_fenced,
    /// Damaged superblock copies that were written again from the other one of their device.
    superblocks_mended,
    /// Batches of records appended to commit logs.
    log_appends,
    /// Records committed.
    log_records,
    /// Bytes of records committed, padding included.
    log_bytes,
    /// Bytes of records committed that neither compaction nor a checkpoint wrote.
    accepted_bytes,
    /// Frames sealed and written.
    frames_written,
    /// Frames read and opened.
    frames_read,
    /// Checkpoints made.
    checkpoints,
    /// Merges of directory runs.
    merges,
    /// Live bytes that compaction moved.
    relocated_bytes,
    /// Extents of large objects that compaction copied.
    relocated_extents,
    /// Segments that compaction gave up on, since no copy of something in them verifies.
    relocations_stuck,
    /// Directory blocks found in the cache.
    block_cache_hits,
    /// Directory blocks that were not in the cache when they were needed.
    block_cache_misses,
    /// Bytes of directory runs written, each once.
    run_bytes_written,
    /// Copies that did not read or verify, so that another copy was read.
    copies_skipped,
    /// Log consumers that fell behind, and for which the log is not kept any longer.
    consumers_behind,
}
