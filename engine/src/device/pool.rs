//! Memory for device I/O that is used again: carved from huge pages where the kernel gives them, kept per thread.
//!
//! The kernel pins the pages of every O_DIRECT transfer: one huge page instead of 64 small ones halves the cost of 256 KiB. And a buffer that comes back
//! needs neither the allocator nor fresh pages.
//!
//! - Sizes are powers of two of blocks, up to [`SLAB_LEN_MAX`]. A slab belongs to one buffer at a time, and goes back to the pool of the thread where that
//!   buffer ends.
//! - A pool carves at most [`POOL_LEN_MAX`]; what is needed beyond comes from the allocator and returns there. Carved memory stays for the life of the process:
//!   a thread that ends leaves its slabs to the next one.
//! - A slab's bytes are what its last buffer left there; they are always initialised.

use std::cell::RefCell;
use std::sync::Mutex;

use memmap2::{Advice, MmapMut, MmapOptions};
use zerocopy::FromBytes;

use super::buffer::Block;
use crate::limits::BLOCK_SIZE;

/// Blocks of the largest slab: 2 MiB, what a group commit of many small records carries.
const SLAB_LEN_MAX: usize = CHUNK_SIZE / BLOCK_SIZE;

/// Blocks of 256 KiB, what one device read or write of frames carries: there are many at a time.
const SLAB_LEN_USUAL: usize = 64;

/// Sizes of slabs: 1, 2, 4 ... blocks.
const CLASS_COUNT: usize = SLAB_LEN_MAX.ilog2() as usize + 1;

/// Carved at once: a huge page of x86-64 and of ARM with 4 KiB pages.
const CHUNK_SIZE: usize = 2 * 1024 * 1024;

/// What one thread carves at most: some 250 transfers in flight of the usual size.
const POOL_LEN_MAX: usize = 64 * 1024 * 1024;

/// And a quarter of that beside it for larger ones: whichever are asked for first, the others get theirs.
const POOL_LEN_LARGE_MAX: usize = POOL_LEN_MAX / 4;

/// Memory of one buffer.
pub(super) type Slab = &'static mut [Block];

type FreeLists = [Vec<Slab>; CLASS_COUNT];

/// Slabs of threads that have ended.
static ORPHANS: Mutex<FreeLists> = Mutex::new([const { Vec::new() }; CLASS_COUNT]);

thread_local! {
    static POOL: RefCell<Pool> = RefCell::new(Pool::new());
}

struct Pool {
    free: FreeLists,
    /// What is left of the chunk that is being carved.
    chunk: Slab,
    /// Bytes carved for slabs of the usual size and below.
    carved_len: usize,
    /// Bytes carved for larger ones.
    carved_len_large: usize,
}

/// A slab of at least `block_count` blocks; `None` when the allocator has to help.
pub(super) fn take(block_count: usize) -> Option<Slab> {
    if block_count == 0 || block_count > SLAB_LEN_MAX {
        return None;
    }
    let class = block_count.next_power_of_two().ilog2() as usize;
    POOL.try_with(|pool| pool.try_borrow_mut().ok()?.take(class)).ok().flatten()
}

/// Gives a slab back.
pub(super) fn give_back(slab: Slab) {
    if slab.is_empty() {
        return;
    }
    let class = slab.len().ilog2() as usize;
    let mut slab = Some(slab);
    let _ = POOL.try_with(|pool| {
        if let Ok(mut pool) = pool.try_borrow_mut() {
            pool.free[class].extend(slab.take());
        }
    });
    if let (Some(slab), Ok(mut orphans)) = (slab, ORPHANS.lock()) {
        orphans[class].push(slab);
    }
}

impl Pool {
    fn new() -> Self {
        let free = ORPHANS.lock().map(|mut orphans| std::mem::take(&mut *orphans)).unwrap_or_default();
        let carved_len = |is_large| {
            let slabs = free.iter().flatten().filter(|slab| (slab.len() > SLAB_LEN_USUAL) == is_large);
            slabs.map(|slab| slab.len() * BLOCK_SIZE).sum()
        };
        let (carved_len, carved_len_large) = (carved_len(false), carved_len(true));
        Pool { free, chunk: &mut [], carved_len, carved_len_large }
    }

    fn take(&mut self, class: usize) -> Option<Slab> {
        if let Some(slab) = self.free[class].pop() {
            return Some(slab);
        }
        let len = 1 << class;
        if self.chunk.len() < len {
            let chunk = self.new_chunk(len > SLAB_LEN_USUAL)?;
            self.put_rest_away();
            self.chunk = chunk;
        }
        let (slab, rest) = std::mem::take(&mut self.chunk).split_at_mut(len);
        self.chunk = rest;
        Some(slab)
    }

    /// What is left of a chunk is too small for what is asked for, not for others.
    fn put_rest_away(&mut self) {
        let mut rest = std::mem::take(&mut self.chunk);
        while !rest.is_empty() {
            let class = (rest.len().ilog2() as usize).min(CLASS_COUNT - 1);
            let (slab, others) = rest.split_at_mut(1 << class);
            self.free[class].push(slab);
            rest = others;
        }
    }

    fn new_chunk(&mut self, is_for_large: bool) -> Option<Slab> {
        let (carved_len, len_max) = match is_for_large {
            false => (&mut self.carved_len, POOL_LEN_MAX),
            true => (&mut self.carved_len_large, POOL_LEN_LARGE_MAX),
        };
        if *carved_len + CHUNK_SIZE > len_max {
            return None;
        }
        let map = map_chunk()?;
        *carved_len += CHUNK_SIZE;
        // Slabs outlive any one buffer and travel between threads: the map is never undone.
        let map: &'static mut MmapMut = Box::leak(Box::new(map));
        let begin = map.as_ptr().align_offset(CHUNK_SIZE);
        let (_, slabs) = map.split_at_mut(begin);
        <[Block]>::mut_from_bytes(&mut slabs[..CHUNK_SIZE]).ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.put_rest_away();
        if let Ok(mut orphans) = ORPHANS.lock() {
            for (list, mine) in orphans.iter_mut().zip(&mut self.free) {
                list.append(mine);
            }
        }
    }
}

/// Room for an aligned chunk. Transparent huge pages are asked for: reserved ones (`vm.nr_hugepages`) would have to be set aside by the operator.
fn map_chunk() -> Option<MmapMut> {
    let map = MmapOptions::new().len(2 * CHUNK_SIZE).map_anon().ok()?;
    // A kernel without them gives small pages, which work as well.
    let _ = map.advise(Advice::HugePage);
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_that_was_given_back_is_used_again() {
        let slab = take(3).expect("room");
        assert_eq!(slab.len(), 4);
        let address = slab.as_ptr();
        give_back(slab);
        let again = take(4).expect("room");
        assert_eq!(again.as_ptr(), address);
        give_back(again);
    }

    #[test]
    fn what_is_too_large_is_the_allocators() {
        assert!(take(SLAB_LEN_MAX + 1).is_none());
        assert!(take(0).is_none());
    }

    #[test]
    fn a_thread_carves_no_more_than_its_share() {
        // A thread of its own may begin with the slabs of others, but carves no more for that.
        let all = |len| std::iter::from_fn(move || take(len)).take(2000).collect::<Vec<Slab>>();
        let usual = all(SLAB_LEN_USUAL);
        let large = all(SLAB_LEN_MAX);
        assert!(!large.is_empty(), "there is room for large ones when that of the others is used up");
        let carved_len = |slabs: &[Slab]| slabs.iter().map(|slab| slab.len() * BLOCK_SIZE).sum::<usize>();
        assert!(carved_len(&usual) <= POOL_LEN_MAX + POOL_LEN_LARGE_MAX);
        assert!(carved_len(&large) <= POOL_LEN_LARGE_MAX);
        usual.into_iter().chain(large).for_each(give_back);
    }

    #[test]
    fn the_slabs_of_a_thread_that_ends_are_used_by_another() {
        std::thread::spawn(|| give_back(take(16).expect("room"))).join().expect("no panic");
        let count =
            std::thread::spawn(|| POOL.with(|pool| pool.borrow().free.iter().map(Vec::len).sum::<usize>()))
                .join()
                .expect("no panic");
        // Other tests run at the same time and may have taken them: whoever has them, the orphans are nobody's twice.
        let left: usize = ORPHANS.lock().expect("no panic").iter().map(Vec::len).sum();
        assert!(count > 0 || left == 0);
    }
}
