//! Opened blocks of runs, within a budget of bytes: one cache per core, for all directories on it.
//!
//! A scan does not empty it: what was seen once leaves before what was seen again. Blocks of a run that is gone are never asked
//! for again, and leave the same way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use crate::format::run::Block;
use crate::limits::RUN_BLOCK_SIZE;

/// A run as the cache knows it: runs get a number when they are opened, which is shorter than their object id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CachedRun(u32);

/// The cache.
pub struct BlockCache {
    blocks: RefCell<Cache<(CachedRun, u32), Rc<Block>, ByMemory>>,
    next_run: Cell<u32>,
}

#[derive(Clone)]
struct ByMemory;

impl Weighter<(CachedRun, u32), Rc<Block>> for ByMemory {
    fn weight(&self, _: &(CachedRun, u32), block: &Rc<Block>) -> u64 {
        block.memory_len() as u64
    }
}

impl BlockCache {
    /// A cache of at most so many bytes.
    pub fn new(budget: usize) -> Rc<Self> {
        let blocks = Cache::with_weighter(budget / RUN_BLOCK_SIZE, budget as u64, ByMemory);
        Rc::new(BlockCache { blocks: RefCell::new(blocks), next_run: Cell::new(0) })
    }

    /// Bytes that it holds.
    pub fn len_bytes(&self) -> usize {
        self.blocks.borrow().weight() as usize
    }

    /// Forgets all blocks.
    pub fn clear(&self) {
        self.blocks.borrow_mut().clear();
    }

    /// A number for a run.
    pub(super) fn register(&self) -> CachedRun {
        let number = self.next_run.get();
        self.next_run.set(number.checked_add(1).expect("a process opens fewer than 2^32 runs"));
        CachedRun(number)
    }

    pub(super) fn block(&self, run: CachedRun, block: u32) -> Option<Rc<Block>> {
        self.blocks.borrow().get(&(run, block)).cloned()
    }

    pub(super) fn contains(&self, run: CachedRun, block: u32) -> bool {
        self.blocks.borrow().contains_key(&(run, block))
    }

    pub(super) fn insert(&self, run: CachedRun, number: u32, block: Rc<Block>) {
        self.blocks.borrow_mut().insert((run, number), block);
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} bytes)", self.len_bytes())
    }
}
