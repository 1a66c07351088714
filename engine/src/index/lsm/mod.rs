//! An ordered map of byte strings on disk: the machinery of a shard's key directory. It knows neither buckets nor S3,
//! but that keys of versions lie in directories and that some values hide others.
//!
//! ```text
//! insert, remove --> active memtable --freeze--> frozen --write_frozen, install_frozen--> newest run .. oldest run
//!                                                                                          `--merge, install_merged--> one run
//! ```
//! - The newest of active, frozen and runs that says something of a key is right. A removal hides what is below it.
//! - Changes are not durable here: the log is. A run replaces what the log would replay, once a checkpoint names it.
//! - Runs lie in the core's bulk segments, sealed under the catalog's key. A [`Run`] pins its segments while it lives. Live bytes are the caller's:
//!   whoever makes a run count adds its extents to the segment table's, and takes them off when no checkpoint names it any more.
//! - One frozen memtable at most; a merge and a freeze may go on at the same time, since a plan names runs by id.
//!
//! | file | noun |
//! |---|---|
//! | `memtable` | the newest changes |
//! | `sink`, `build` | writing a run |
//! | `run`, `block`, `cache` | reading it |
//! | `source`, `cursor` | walking all in order |
//! | `outline`, `group` | finding common prefixes without reading what is below them |
//! | `choose`, `merge`, `pairs` | few runs from many |

mod block;
mod build;
mod cache;
mod choose;
mod cursor;
mod group;
mod memtable;
mod merge;
mod outline;
mod pairs;
mod run;
mod sink;
mod source;

use std::cell::{Cell, RefCell};
use std::ops::Bound;
use std::rc::Rc;

use futures_util::future::try_join_all;

use self::build::RunWriter;
use self::memtable::{Change, Memtable};
use self::merge::{merge_entries, merge_pairs};
use self::pairs::{NetPairs, corrupt};
use self::run::ReadAhead;
use self::source::MemorySource;
use crate::core::Core;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::run::{BlockKind, RunDescriptor, pair_blocks};
use crate::limits::{RUN_BLOCK_PAYLOAD, RUN_BLOCK_SIZE};
use crate::segment::table::Purpose;

pub use cache::BlockCache;
use choose::bottom_blocks;
pub use choose::{MergePlan, RunSummary, choose_merge, choose_merge_within, is_modest};
pub use cursor::Cursor;
pub(crate) use group::Following;
pub use merge::IndexChanges;
pub use run::{IndexChange, Run};

/// Free segments that a merge leaves: this share of the reserve, and at least so many.
const MERGE_RESERVE_SHARE: u32 = 4;
const MERGE_RESERVE_MIN: u32 = 4;

/// The map.
pub struct Lsm<D: Device> {
    shared: Rc<Shared<D>>,
}

/// What the map and its cursors have in common.
struct Shared<D: Device> {
    core: Rc<Core<D>>,
    cache: Rc<BlockCache>,
    active: RefCell<Memtable>,
    frozen: RefCell<Option<Rc<Memtable>>>,
    /// The newest first.
    runs: RefCell<Rc<[Rc<Run<D>>]>>,
    next_run: Cell<u64>,
    /// Grows with each change of a memtable.
    changes: Cell<u64>,
    /// Grows with each change of the runs.
    installs: Cell<u64>,
    /// A merge came to need more than was expected of it: until the runs change, the most that one may need is what it needs.
    is_misjudged: Cell<bool>,
}

impl<D: Device> Lsm<D> {
    /// An empty map.
    pub fn new(core: Rc<Core<D>>, cache: Rc<BlockCache>) -> Self {
        Self::with_runs(core, cache, Vec::new())
    }

    /// The map of those runs, the newest first. Their extents are counted as live, or nothing is freed yet.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], [`crate::Error::Io`] or [`crate::Error::Key`] when a run cannot be read.
    pub async fn open(core: Rc<Core<D>>, cache: Rc<BlockCache>, runs: Vec<RunDescriptor>) -> Result<Self> {
        let open = |descriptor| Run::open(core.clone(), cache.clone(), descriptor);
        let opened = try_join_all(runs.into_iter().map(open)).await?;
        Ok(Self::with_runs(core, cache, opened))
    }

    fn with_runs(core: Rc<Core<D>>, cache: Rc<BlockCache>, runs: Vec<Rc<Run<D>>>) -> Self {
        let next_run = runs.iter().map(|run| run.id() + 1).max().unwrap_or(1);
        let shared = Shared {
            core,
            cache,
            active: RefCell::default(),
            frozen: RefCell::default(),
            runs: RefCell::new(runs.into()),
            next_run: Cell::new(next_run),
            changes: Cell::new(0),
            installs: Cell::new(0),
            is_misjudged: Cell::new(false),
        };
        Lsm { shared: Rc::new(shared) }
    }

    /// Puts a value in the place of any other.
    pub fn insert(&self, key: &[u8], value: &[u8]) {
        self.shared.active.borrow_mut().put(key, Some(value));
        self.shared.changed();
    }

    /// Removes a key, whether or not it is there.
    pub fn remove(&self, key: &[u8]) {
        self.shared.active.borrow_mut().put(key, None);
        self.shared.changed();
    }

    /// What the memtables say of a key: `None` for nothing, `Some(None)` for removed.
    pub fn memtable_get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let found = |change: &Change| change.as_deref().map(<[u8]>::to_vec);
        if let Some(change) = self.shared.active.borrow().change(key) {
            return Some(found(change));
        }
        self.shared.frozen.borrow().as_ref()?.change(key).map(found)
    }

    /// Memory that the active memtable takes, about.
    pub fn memtable_len_bytes(&self) -> usize {
        self.shared.active.borrow().len_bytes()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when no copy of a block verifies, [`crate::Error::Io`] when none can be read.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(change) = self.memtable_get(key) {
            return Ok(change);
        }
        let runs = self.shared.runs();
        for run in runs.iter() {
            if let Some(change) = run.change(key).await? {
                return Ok(change);
            }
        }
        Ok(None)
    }

    /// A cursor before the first entry. It follows all changes.
    pub fn cursor(&self) -> Cursor<D> {
        Cursor::new(self.shared.clone())
    }

    /// Makes the active memtable the frozen one. There is none frozen yet.
    pub fn freeze(&self) {
        let mut frozen = self.shared.frozen.borrow_mut();
        assert!(frozen.is_none(), "one memtable is frozen at a time");
        *frozen = Some(Rc::new(self.shared.active.take()));
        self.shared.changed();
    }

    /// Whether a memtable is frozen.
    pub fn is_frozen(&self) -> bool {
        self.shared.frozen.borrow().is_some()
    }

    /// Writes the frozen memtable and the changes of the hash index that belong to it as a run, durable but not part of the map yet.
    ///
    /// # Errors
    /// [`crate::Error::Full`], [`crate::Error::ReadOnly`] or [`crate::Error::Fenced`]; then nothing has changed.
    pub async fn write_frozen(&self, changes: IndexChanges) -> Result<Rc<Run<D>>> {
        let frozen = self.shared.frozen.borrow().clone().expect("a memtable was frozen");
        let changes = changes.netted();
        // Below the first run there is nothing to remove.
        let is_bottom = self.shared.runs().is_empty();
        let pairs = pair_blocks(changes.added.len() as u64) + pair_blocks(changes.removed.len() as u64);
        let expected = frozen.len_bytes() / RUN_BLOCK_PAYLOAD + pairs as usize + 2;
        // It may use the reserve: without it the log could not be shortened, and nothing reclaimed.
        let mut writer = self.shared.run_writer(Purpose::Upkeep, expected as u32)?;
        for (key, value) in frozen.iter().filter(|(_, value)| value.is_some() || !is_bottom) {
            writer.add(key, value).await?;
        }
        for pair in changes.added {
            writer.add_pair(BlockKind::Added, pair).await?;
        }
        writer.end_pairs(BlockKind::Added).await?;
        for pair in changes.removed.into_iter().filter(|_| !is_bottom) {
            writer.add_pair(BlockKind::Removed, pair).await?;
        }
        writer.end_pairs(BlockKind::Removed).await?;
        writer.finish(self.shared.cache.clone()).await
    }

    /// Puts the run of the frozen memtable in its place; `None` when it was empty and needs none.
    pub fn install_frozen(&self, run: Option<Rc<Run<D>>>) {
        let frozen = self.shared.frozen.take();
        assert!(frozen.is_some(), "the run is that of the frozen memtable");
        if let Some(run) = run {
            self.shared.replace_runs(0..0, run);
        }
        self.shared.changed();
    }

    /// Puts the frozen memtable back under the active one: its run could not be written.
    pub fn thaw(&self) {
        if let Some(frozen) = self.shared.frozen.take() {
            let newer = self.shared.active.take();
            *self.shared.active.borrow_mut() = Rc::unwrap_or_clone(frozen).overlaid(newer);
            self.shared.changed();
        }
    }

    /// Merges the runs of a plan into one, durable but not part of the map yet. Plans that are under way at a time do not overlap.
    ///
    /// # Errors
    /// Those of reading the runs and of [`Lsm::write_frozen`], [`crate::Error::Full`] when there is no room for it; then nothing has changed.
    pub async fn merge(&self, plan: &MergePlan) -> Result<Rc<Run<D>>> {
        let runs = self.shared.runs();
        let runs = &runs[self.shared.place_of(plan)];
        self.shared.check_room(self.shared.expected_blocks(runs, plan.is_bottom))?;
        let merged = self.write_merged(runs, plan.is_bottom).await;
        if matches!(merged, Err(Error::Full)) {
            self.shared.is_misjudged.set(true);
        }
        merged
    }

    async fn write_merged(&self, runs: &[Rc<Run<D>>], is_bottom: bool) -> Result<Rc<Run<D>>> {
        let most = runs.iter().map(|run| run.summary().block_count).sum();
        let mut writer = self.shared.run_writer(Purpose::Upkeep, most)?;
        merge_entries(&mut writer, runs, is_bottom).await?;
        merge_pairs(&mut writer, runs, BlockKind::Added).await?;
        if !is_bottom {
            merge_pairs(&mut writer, runs, BlockKind::Removed).await?;
        }
        writer.finish(self.shared.cache.clone()).await
    }

    /// Segments that have to be free for a merge to be begun.
    pub(crate) fn segments_needed(&self, plan: &MergePlan) -> u32 {
        let runs = self.shared.runs();
        let runs = &runs[self.shared.place_of(plan)];
        self.shared.segments_needed(self.shared.expected_blocks(runs, plan.is_bottom))
    }

    /// Whether there is room for a merge of so many blocks.
    pub(crate) fn has_room(&self, block_count: u64) -> bool {
        u32::try_from(block_count).is_ok_and(|count| self.shared.check_room(count).is_ok())
    }

    /// Puts the merged run in the place of those of the plan; gives those back.
    pub fn install_merged(&self, plan: &MergePlan, run: Rc<Run<D>>) -> Vec<Rc<Run<D>>> {
        self.shared.replace_runs(self.shared.place_of(plan), run)
    }

    /// What a checkpoint keeps of the runs, the newest first.
    pub fn runs(&self) -> Vec<RunDescriptor> {
        self.shared.runs().iter().map(|run| run.descriptor().clone()).collect()
    }

    /// Gives all pairs that the hash index has by the runs, in the order in which [`crate::index::hash::HashIndex::load`] takes them.
    ///
    /// # Errors
    /// Those of reading the runs; [`Error::Corrupt`] when one of them removes what none put there.
    pub(crate) async fn index_pairs(&self, mut take: impl FnMut(u64, u64)) -> Result<()> {
        let runs = self.shared.runs();
        let mut pairs = NetPairs::of(&runs, ReadAhead::Deep).await;
        while let Some(batch) = pairs.next().await? {
            for ((hash, location), net) in batch {
                if *net < 0 {
                    let what = "a run removes from the index what no older run put there";
                    return Err(runs.first().map_or(Error::NotFound, |run| corrupt(run, what)));
                }
                (0..*net).for_each(|_| take(*hash, *location));
            }
        }
        Ok(())
    }

    /// The runs, the newest first.
    pub(crate) fn open_runs(&self) -> Rc<[Rc<Run<D>>]> {
        self.shared.runs()
    }

    /// Whether the frozen memtable is empty: then there is nothing to write.
    pub(crate) fn is_frozen_empty(&self) -> bool {
        self.shared.frozen.borrow().as_ref().is_none_or(|frozen| frozen.iter().next().is_none())
    }

    /// What choosing a merge needs of the runs, the newest first.
    pub fn summaries(&self) -> Vec<RunSummary> {
        self.shared.runs().iter().map(|run| run.summary()).collect()
    }
}

impl<D: Device> Shared<D> {
    fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
    }

    fn runs(&self) -> Rc<[Rc<Run<D>>]> {
        self.runs.borrow().clone()
    }

    fn run_writer(&self, purpose: Purpose, expected: u32) -> Result<RunWriter<D>> {
        let id = self.next_run.get();
        self.next_run.set(id + 1);
        RunWriter::new(self.core.clone(), id, purpose, expected)
    }

    /// Whether there is room for a merge, which is asked beforehand: one that ends half-way has written for nothing.
    ///
    /// It may use most of the reserve. Writers that take all that is free would otherwise keep runs from ever being merged, and what they hold twice from ever
    /// coming back. What is left suffices for the checkpoint that gives the merged runs back.
    fn check_room(&self, block_count: u32) -> Result<()> {
        let is_room = self.segments_needed(block_count) <= self.core.store.table.free_and_reserve().0;
        if is_room { Ok(()) } else { Err(Error::Full) }
    }

    /// Blocks that a merge of those runs will write.
    fn expected_blocks(&self, runs: &[Rc<Run<D>>], is_bottom: bool) -> u32 {
        let most = runs.iter().map(|run| run.summary().block_count).sum();
        if !is_bottom || self.is_misjudged.get() {
            return most;
        }
        let added = runs.iter().map(|run| run.descriptor().added_count).sum();
        let removed = runs.iter().map(|run| run.descriptor().removed_count).sum();
        bottom_blocks(most, added, removed)
    }

    /// Segments that have to be free before so many blocks are written.
    fn segments_needed(&self, block_count: u32) -> u32 {
        let left = (self.core.store.table.free_and_reserve().1 / MERGE_RESERVE_SHARE).max(MERGE_RESERVE_MIN);
        // The checkpoint after it writes this.
        let next = self.active.borrow().len_bytes() as u64 / self.core.store.segment_size;
        let taken = (u64::from(block_count) * RUN_BLOCK_SIZE as u64).div_ceil(self.core.store.segment_size);
        left + next as u32 + taken as u32
    }

    /// Where the runs of a plan are: they stay together, since plans do not overlap.
    fn place_of(&self, plan: &MergePlan) -> std::ops::Range<usize> {
        let runs = self.runs.borrow();
        let begin = runs.iter().position(|run| Some(&run.id()) == plan.runs.first());
        let begin = begin.expect("the runs of a plan are there until it is installed");
        let place = begin..begin + plan.runs.len();
        assert!(
            runs[place.clone()].iter().map(|run| run.id()).eq(plan.runs.iter().copied()),
            "the runs of a plan follow each other"
        );
        assert!(!plan.is_bottom || place.end == runs.len(), "removals go only where nothing is below them");
        place
    }

    /// Puts a run in the place of others; one that holds nothing just makes them go.
    fn replace_runs(&self, place: std::ops::Range<usize>, run: Rc<Run<D>>) -> Vec<Rc<Run<D>>> {
        let mut runs = self.runs().to_vec();
        let new = (run.descriptor().block_count() > 0).then_some(run);
        let replaced = runs.splice(place, new).collect();
        *self.runs.borrow_mut() = runs.into();
        self.installs.set(self.installs.get() + 1);
        self.is_misjudged.set(false);
        replaced
    }

    /// Copies the first entry of the memtables from that bound on.
    fn place_in_memory(&self, bound: Bound<&[u8]>, out: &mut MemorySource) {
        let (active, frozen) = (self.active.borrow(), self.frozen.borrow());
        let newest = active.first_from(bound);
        let older = frozen.as_ref().and_then(|frozen| frozen.first_from(bound));
        let first = match (newest, older) {
            (Some(newest), Some(older)) if older.0 < newest.0 => Some(older),
            (newest, older) => newest.or(older),
        };
        out.is_stale = false;
        out.is_placed = first.is_some();
        let Some((key, change)) = first else { return };
        out.key.clear();
        out.key.extend_from_slice(key);
        out.value.clear();
        out.value.extend_from_slice(change.as_deref().unwrap_or_default());
        out.is_removal = change.is_none();
    }
}

impl<D: Device> std::fmt::Debug for Lsm<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lsm").field("runs", &self.summaries()).finish_non_exhaustive()
    }
}
