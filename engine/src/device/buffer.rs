//! Memory that the kernel can read and write directly: block-aligned, a whole number of blocks.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::pool;
use crate::limits::BLOCK_SIZE;
use crate::segment::table::SegmentPin;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
pub(super) struct Block([u8; BLOCK_SIZE]);

/// An owned, initialised, block-aligned buffer.
pub struct AlignedBuffer {
    memory: Memory,
    block_count: usize,
    /// What must live as long as the kernel may use the buffer.
    held: Option<SegmentPin>,
}

/// At least as long as the buffer.
enum Memory {
    Pooled(pool::Slab),
    Allocated(Vec<Block>),
}

impl AlignedBuffer {
    /// A buffer of `len` zeroes; `len` is a multiple of the block size.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::with_memory(len);
        if let Memory::Pooled(_) = buffer.memory {
            buffer.fill(0);
        }
        buffer
    }

    /// A buffer of `len` bytes of any value, to be overwritten as a whole; `len` is a multiple of the block size.
    pub fn scratch(len: usize) -> Self {
        Self::with_memory(len)
    }

    fn with_memory(len: usize) -> Self {
        assert!(len.is_multiple_of(BLOCK_SIZE), "{len} is not a whole number of blocks");
        let block_count = len / BLOCK_SIZE;
        let memory = match pool::take(block_count) {
            Some(slab) => Memory::Pooled(slab),
            None => Memory::Allocated(
                Block::new_vec_zeroed(block_count)
                    .expect("the allocator aborts the process when it has no memory"),
            ),
        };
        AlignedBuffer { memory, block_count, held: None }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.block_count * BLOCK_SIZE
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.block_count == 0
    }

    /// Keeps that pin until the buffer is dropped: an I/O in flight owns its buffer, also when nobody waits for it any more.
    pub(crate) fn hold(&mut self, pin: SegmentPin) {
        self.held = Some(pin);
    }

    /// Cuts it to `len` bytes, a multiple of the block size.
    pub fn truncate(&mut self, len: usize) {
        assert!(len.is_multiple_of(BLOCK_SIZE), "{len} is not a whole number of blocks");
        self.block_count = self.block_count.min(len / BLOCK_SIZE);
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let Memory::Pooled(slab) = &mut self.memory {
            pool::give_back(std::mem::take(slab));
        }
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Pooled(slab) => slab[..self.block_count].as_bytes(),
            Memory::Allocated(blocks) => blocks[..self.block_count].as_bytes(),
        }
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Pooled(slab) => slab[..self.block_count].as_mut_bytes(),
            Memory::Allocated(blocks) => blocks[..self.block_count].as_mut_bytes(),
        }
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_zeroed() {
        let buffer = AlignedBuffer::zeroed(3 * BLOCK_SIZE);
        assert_eq!(buffer.as_ptr() as usize % BLOCK_SIZE, 0);
        assert!(buffer.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_buffer_is_zeroed_also_where_another_one_was() {
        let mut first = AlignedBuffer::zeroed(2 * BLOCK_SIZE);
        first.fill(7);
        drop(first);
        assert!(AlignedBuffer::zeroed(2 * BLOCK_SIZE).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_cut_buffer_ends_where_it_was_cut() {
        let mut buffer = AlignedBuffer::zeroed(3 * BLOCK_SIZE);
        buffer.truncate(BLOCK_SIZE);
        assert_eq!((buffer.len(), buffer.iter().count()), (BLOCK_SIZE, BLOCK_SIZE));
    }
}
