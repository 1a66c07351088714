//! Memory that the kernel can read and write directly: block-aligned, a whole number of blocks.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::limits::BLOCK_SIZE;
use crate::segment::table::SegmentPin;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_SIZE]);

/// An owned, zeroed, block-aligned buffer.
pub struct AlignedBuffer {
    blocks: Vec<Block>,
    /// What must live as long as the kernel may use the buffer.
    held: Option<SegmentPin>,
}

impl AlignedBuffer {
    /// A buffer of `len` zeroes; `len` is a multiple of the block size.
    pub fn zeroed(len: usize) -> Self {
        assert!(len.is_multiple_of(BLOCK_SIZE), "{len} is not a whole number of blocks");
        let blocks = Block::new_vec_zeroed(len / BLOCK_SIZE)
            .expect("the allocator aborts the process when it has no memory");
        AlignedBuffer { blocks, held: None }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.blocks.len() * BLOCK_SIZE
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Keeps that pin until the buffer is dropped: an I/O in flight owns its buffer, also when nobody waits for it any more.
    pub(crate) fn hold(&mut self, pin: SegmentPin) {
        self.held = Some(pin);
    }

    /// Cuts it to `len` bytes, a multiple of the block size.
    pub fn truncate(&mut self, len: usize) {
        assert!(len.is_multiple_of(BLOCK_SIZE), "{len} is not a whole number of blocks");
        self.blocks.truncate(len / BLOCK_SIZE);
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.blocks.as_bytes()
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.blocks.as_mut_bytes()
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
}
