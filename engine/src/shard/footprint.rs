//! What a shard takes in memory and in runs, for metrics and benches.

use super::Shard;
use crate::device::Device;
use crate::limits::RUN_BLOCK_SIZE;

/// What a shard takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Versions that the index holds, those included that a range tombstone removed and nobody has reaped.
    pub versions: usize,
    /// Memory of the hash index.
    pub index_bytes: usize,
    /// Memory of the directory's active memtable, about.
    pub memtable_bytes: usize,
    /// Memory of the fences of the directory's runs.
    pub fence_bytes: usize,
    /// Runs of the directory.
    pub run_count: usize,
    /// What they take on disk.
    pub run_bytes: u64,
    /// Segments of the log that a start would read.
    pub log_segments: usize,
}

impl<D: Device> Shard<D> {
    /// What it takes now.
    pub fn footprint(&self) -> Footprint {
        let state = self.state.borrow();
        let runs = state.directory.open_runs();
        Footprint {
            versions: state.index.len(),
            index_bytes: state.index.allocated_bytes(),
            memtable_bytes: state.directory.memtable_len_bytes(),
            fence_bytes: runs.iter().map(|run| run.fence_bytes()).sum(),
            run_count: runs.len(),
            run_bytes: runs
                .iter()
                .map(|run| u64::from(run.summary().block_count) * RUN_BLOCK_SIZE as u64)
                .sum(),
            log_segments: self.log.segments().len(),
        }
    }
}
