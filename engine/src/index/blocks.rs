//! Blocks of equal length, side by side in pages: an array that grows and shrinks at its end and is never moved as a whole.
//!
//! ```text
//! root        tables            pages
//! [ .. ] -> [ 256 pages ] -> [ block | block | .. ]
//! ```
//! The blocks of the hash index are too many and too small for a general allocator: with one heap block for each bin, a single removal out of 30 million
//! entries took up to a quarter of a second in glibc's malloc, which was tidying its free lists. It sees pages of 8 KiB instead, all of one size
//! but for the last, which grows with its content so that a small index is small too.

/// Bytes of a page: large enough that what doesn't fill up at its end is little, small enough to be moved while it grows.
const PAGE_BYTES: usize = 8192;

/// Pages that a table of 6 KiB leads to.
const TABLE_PAGES: usize = 256;

/// Bytes that the allocator spends on a heap block beside its content: a header of 8, and rounding to 16.
const BLOCK_OVERHEAD: usize = 16;

/// What a heap block of that content takes.
pub(super) fn heap_block_bytes(content: usize) -> usize {
    if content == 0 { 0 } else { content + BLOCK_OVERHEAD }
}

/// The blocks.
pub(super) struct Blocks<T> {
    block_len: usize,
    page_blocks: usize,
    count: usize,
    root: Vec<Vec<Vec<T>>>,
}

impl<T: Copy> Blocks<T> {
    /// No blocks, of that many items each.
    pub(super) fn new(block_len: usize) -> Self {
        let page_blocks = PAGE_BYTES / (block_len * size_of::<T>());
        assert!(page_blocks > 0, "a page holds a block");
        Blocks { block_len, page_blocks, count: 0, root: Vec::new() }
    }

    /// Adds a block whose first items are these, at least one; returns its index, and how many bytes were moved to make room.
    pub(super) fn push(&mut self, items: &[T]) -> (usize, usize) {
        assert!(!items.is_empty() && items.len() <= self.block_len);
        let (index, page_index) = (self.count, self.count / self.page_blocks);
        if index.is_multiple_of(self.page_blocks) {
            if page_index.is_multiple_of(TABLE_PAGES) {
                grow(&mut self.root);
            }
            grow(&mut self.root[page_index / TABLE_PAGES]);
        }
        let (block_len, page_len) = (self.block_len, self.page_blocks * self.block_len);
        let growth = self.growth();
        let start = index % self.page_blocks * block_len;
        let page = self.page_mut(page_index);
        let mut moved = 0;
        if page.capacity() - page.len() < block_len {
            moved = page.len() * size_of::<T>();
            page.reserve_exact(growth.min(page_len - page.len()));
        }
        page.extend_from_slice(items);
        page.resize(start + block_len, items[0]);
        self.count += 1;
        (index, moved)
    }

    /// Removes the last block.
    pub(super) fn pop(&mut self) {
        let index = self.count.checked_sub(1).expect("there is a block");
        let (block_len, page_index) = (self.block_len, index / self.page_blocks);
        self.count = index;
        let growth = self.growth();
        let page = self.page_mut(page_index);
        page.truncate(page.len() - block_len);
        if page.capacity() - page.len() > growth {
            page.shrink_to(page.len() + (growth / 2).next_multiple_of(block_len));
        }
        if index.is_multiple_of(self.page_blocks) {
            shrink(&mut self.root[page_index / TABLE_PAGES]);
            if page_index.is_multiple_of(TABLE_PAGES) {
                shrink(&mut self.root);
            }
        }
        if index == 0 {
            self.root = Vec::new();
        }
    }

    /// Removes a block and puts the last one in its place; whether that was another.
    pub(super) fn swap_remove(&mut self, index: usize) -> bool {
        let last = self.count - 1;
        if index != last {
            let ((from, start), (to, target)) = (self.position(last), self.position(index));
            let end = start + self.block_len;
            if from == to {
                self.page_mut(from).copy_within(start..end, target);
            } else {
                // Out of the array while the other page is borrowed: a pointer moves, not the page.
                let source = std::mem::take(self.page_mut(from));
                let target = target..target + self.block_len;
                self.page_mut(to)[target].copy_from_slice(&source[start..end]);
                *self.page_mut(from) = source;
            }
        }
        self.pop();
        index != last
    }

    /// A block, to change.
    pub(super) fn block_mut(&mut self, index: usize) -> &mut [T] {
        let (page, start) = self.position(index);
        let end = start + self.block_len;
        &mut self.page_mut(page)[start..end]
    }

    /// A block.
    pub(super) fn block(&self, index: usize) -> &[T] {
        let (page, start) = self.position(index);
        &self.root[page / TABLE_PAGES][page % TABLE_PAGES][start..start + self.block_len]
    }

    /// Blocks.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes on the heap. Takes time in proportion to the tables, 2 MiB each.
    pub(super) fn heap_bytes(&self) -> usize {
        let Some(last_page) = self.count.checked_sub(1).map(|last| last / self.page_blocks) else { return 0 };
        let tables: usize =
            self.root.iter().map(|table| heap_block_bytes(table.capacity() * size_of::<Vec<T>>())).sum();
        let page = |index: usize| {
            let page = &self.root[index / TABLE_PAGES][index % TABLE_PAGES];
            heap_block_bytes(page.capacity() * size_of::<T>())
        };
        // All before the last are full.
        heap_block_bytes(self.root.capacity() * size_of::<Vec<Vec<T>>>())
            + tables
            + last_page * page(0)
            + page(last_page)
    }

    /// Items by which the last page grows: an eighth of all, in whole blocks.
    fn growth(&self) -> usize {
        (self.count / 8).max(1) * self.block_len
    }

    fn position(&self, index: usize) -> (usize, usize) {
        (index / self.page_blocks, index % self.page_blocks * self.block_len)
    }

    fn page_mut(&mut self, index: usize) -> &mut Vec<T> {
        &mut self.root[index / TABLE_PAGES][index % TABLE_PAGES]
    }
}

/// Adds an empty array to one that starts small.
fn grow<T>(arrays: &mut Vec<Vec<T>>) {
    if arrays.is_empty() {
        arrays.reserve_exact(1);
    }
    arrays.push(Vec::new());
}

/// Removes the last array, and gives back what is unused when it is most.
fn shrink<T>(arrays: &mut Vec<Vec<T>>) {
    arrays.pop();
    if arrays.capacity() >= 4 * arrays.len().max(1) {
        arrays.shrink_to(2 * arrays.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 60_000;

    fn filled() -> Blocks<u64> {
        let mut blocks = Blocks::new(20);
        for i in 0..COUNT {
            assert_eq!(blocks.push(&[i as u64, i as u64 + 1]).0, i);
        }
        blocks
    }

    #[test]
    fn a_block_keeps_its_place_while_others_come_and_go() {
        let mut blocks = filled();
        assert!(blocks.root.len() > 1, "the test covers several tables");
        for i in 0..COUNT {
            let block = blocks.block(i);
            assert_eq!((block.len(), block[0], block[1]), (20, i as u64, i as u64 + 1));
        }
        for left in (0..COUNT).rev() {
            blocks.pop();
            assert_eq!(blocks.count(), left);
            if left > 0 {
                assert_eq!(blocks.block(left - 1)[0], left as u64 - 1);
            }
        }
        assert_eq!(blocks.heap_bytes(), 0);
    }

    #[test]
    fn the_last_block_takes_the_place_of_one_removed() {
        let mut blocks = filled();
        assert!(blocks.swap_remove(7));
        assert_eq!(blocks.block(7)[0], COUNT as u64 - 1);
        assert!(blocks.swap_remove(COUNT - 3));
        assert_eq!(blocks.block(COUNT - 3)[0], COUNT as u64 - 2);
        assert!(!blocks.swap_remove(COUNT - 3));
        assert_eq!(blocks.count(), COUNT - 3);
    }

    #[test]
    fn what_is_unused_stays_about_an_eighth() {
        let mut blocks: Blocks<u64> = Blocks::new(8);
        let used = |blocks: &Blocks<u64>| blocks.count * 64;
        let within = |blocks: &Blocks<u64>| blocks.heap_bytes() <= used(blocks) * 118 / 100 + 320;
        for _ in 0..3000 {
            assert!(blocks.push(&[1]).1 < PAGE_BYTES, "no more than a page moves");
            assert!(within(&blocks), "{} for {}", blocks.heap_bytes(), used(&blocks));
        }
        for _ in 0..3000 {
            blocks.pop();
            assert!(within(&blocks), "{} for {}", blocks.heap_bytes(), used(&blocks));
        }
    }
}
