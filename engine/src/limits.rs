//! Every limit of the engine, with where it comes from.

/// Unit of device I/O and of alignment on disk: the largest logical block in common use.
pub const BLOCK_SIZE: usize = 4096;

/// A frame on disk: 16 of them make a 1 MiB read, one fits AES-GCM's fast path (17 GB/s at 64 KiB).
pub const FRAME_SIZE: usize = 64 * 1024;

/// A GCM tag or an XXH3-128.
pub const SEAL_SIZE: usize = 16;

/// Plaintext bytes of a full frame.
pub const FRAME_PAYLOAD: usize = FRAME_SIZE - SEAL_SIZE;

/// Frames that one device read or write carries: 256 KiB, where a queue depth of two saturates the devices we know.
pub const FRAMES_PER_IO: usize = 4;

/// Device writes in flight per object being written, and reads per object being read.
pub const IO_DEPTH: usize = 4;

/// Objects up to this size lie in their record, if the configuration does not say otherwise.
pub const INLINE_MAX_DEFAULT: u32 = 32 * 1024;

/// Upper bound of `inline_max`: a record with inline data must stay a single cheap read.
pub const INLINE_MAX_MAX: u32 = 256 * 1024;

/// Longest key, as S3 has it.
pub const KEY_LEN_MAX: usize = 1024;

/// Longest record, header included: the extents and parts of a 5 TB object in 10 000 parts take about 6 MiB.
pub const RECORD_LEN_MAX: usize = 16 * 1024 * 1024;

/// Records start at multiples of this, so that an index entry addresses 1 GiB segments with 24 bits.
pub const RECORD_ALIGN: usize = 64;

/// Bytes of records that one group commit writes at most; more wait for the next.
pub const BATCH_LEN_MAX: usize = 4 * 1024 * 1024;

/// Contiguous bytes that one object reserves at a time in a bulk segment: keeps extents few and abandoned tails small.
pub const RESERVE_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Copies of a segment.
pub const COPIES_MAX: usize = 4;

/// Devices of a store: their ids fit the superblock block.
pub const DEVICES_MAX: usize = 64;

/// Smallest segment: it must hold a few of the largest inline records.
pub const SEGMENT_SIZE_MIN: u64 = 1024 * 1024;

/// Largest segment: record offsets are 24 bits of 64 bytes.
pub const SEGMENT_SIZE_MAX: u64 = 1024 * 1024 * 1024;

/// Fewest segment slots that a device may have.
pub const SLOTS_MIN: u64 = 8;

/// Most segment slots that a device may have: those of the most devices fill the 24 bits of a segment index. 64 TiB of 256 MiB segments.
pub const SLOTS_MAX: u32 = 1 << 18;

const _: () = assert!(SLOTS_MAX as usize * DEVICES_MAX <= 1 << 24);

/// Parts of an upload, as S3 has it.
pub const PARTS_MAX: usize = 10_000;

/// Keys and common prefixes of one page, as S3 has it.
pub const PAGE_MAX: usize = 1000;

/// Memory of a shard's memtable, about: when it is reached a checkpoint writes it out. Some ten times what a page of blocks takes, so that merges stay rare.
pub const MEMTABLE_LEN_MAX: usize = 16 * 1024 * 1024;

/// A memtable takes no more than the bytes of the reserve divided by this: its run is smaller, and four of them are merged at a time.
pub const MEMTABLE_RESERVE_SHARE: u64 = 8;

/// A memtable may always take so much, about: a block of a run or some.
pub const MEMTABLE_LEN_MIN: u64 = 256 * 1024;

/// Bytes of a shard's log after which a checkpoint is due: what a replay reads in a fraction of a second.
pub const CHECKPOINT_LOG_LEN_MAX: u64 = 256 * 1024 * 1024;

/// A checkpoint is due when a shard's share of the store, divided by this, is log: a small store must not fill with a log that nobody needs.
pub const CHECKPOINT_LOG_SHARE: u64 = 32;

/// Versions that one reap counts as dead: some milliseconds of work.
pub const REAP_COUNT_MAX: usize = 256;

/// Extents of the versions that one reap counts as dead, about: 16 bytes each in its record.
pub const REAP_EXTENTS_MAX: usize = 4096;

/// Live bytes that compaction moves in one step, about. The keys concerned are locked until the move is durable, and a put of one of them waits for it.
pub const RELOCATE_LEN_MAX: u64 = 256 * 1024;

/// The same of records of a commit segment while there is space: few keys, and one batch of the log. With 1 MiB the p99 of small puts was 60 to 80 ms beside compaction, with 192 KiB
/// 22 to 30 ms, with this 14 to 17 ms (`cargo xtask perf --only rate --rounds 1`, ten buckets).
pub const RELOCATE_RECORDS_LEN_MAX: u64 = 64 * 1024;

/// Bytes of a commit segment that compaction reads at a time.
pub const RELOCATE_WINDOW_LEN: usize = 128 * 1024;

/// Memory for decrypted blocks of directory runs, of each core.
pub const BLOCK_CACHE_LEN: usize = 64 * 1024 * 1024;
/// A block of a directory run on disk: a page of a listing fits about ten, and a seek reads one.
pub const RUN_BLOCK_SIZE: usize = 16 * 1024;

/// Plaintext bytes of a block of a run.
pub const RUN_BLOCK_PAYLOAD: usize = RUN_BLOCK_SIZE - SEAL_SIZE;

/// Blocks of a run that one device read or write carries at most: 256 KiB, as [`FRAMES_PER_IO`] has it.
pub const RUN_BLOCKS_PER_IO: usize = 16;

/// Runs of a directory that are left alone: one more and some are merged. Each costs a seek.
pub const RUNS_MAX: usize = 10;

/// Longest key of a directory: a bucket, the longest S3 key with every byte escaped to two, a delimiter, a version and an upload id need 2090.
pub const DIRECTORY_KEY_LEN_MAX: usize = 2200;

/// Longest value of a directory: what a listing shows of a key.
pub const DIRECTORY_VALUE_LEN_MAX: usize = 1024;

/// The record length limit in a store of that segment size: half a segment, so that two fit.
pub fn record_len_max(segment_size: u64) -> usize {
    RECORD_LEN_MAX.min((segment_size / 2) as usize - BLOCK_SIZE)
}

/// Log consumers of a shard: some for each service of the node, all in memory and in every checkpoint.
pub const CONSUMERS_MAX: usize = 64;

/// Longest name of a log consumer.
pub const CONSUMER_NAME_LEN_MAX: usize = 255;

/// Bytes of log that are kept for a consumer at most, if nothing else is said: what a busy shard writes in some hours.
pub const CONSUMER_LOG_LEN_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// And no more than a shard's share of the store, divided by this: four times what is written between two checkpoints of a small store
/// ([`CHECKPOINT_LOG_SHARE`]), so that nobody falls behind who comes as often as they do.
pub const CONSUMER_LOG_SHARE: u64 = 8;

/// Changes that one record of the due-time index holds: with the longest keys it fits the smallest segment twice over.
pub const DUE_CHANGES_MAX: usize = 200;

const _: () = assert!(DUE_CHANGES_MAX * (KEY_LEN_MAX + 48) < SEGMENT_SIZE_MIN as usize / 4);
