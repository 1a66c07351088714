//! Frames: how the bytes of a large object lie in bulk segments.
//!
//! A frame is 64 KiB on disk: 65 520 bytes and their 16-byte seal. The last frame of a piece is as long as its data needs: the seal
//! follows the data at once, and zeroes fill the block. Frame `k` of a piece begins `k * 64 KiB` into its extents, taken as one.

use crate::limits::{BLOCK_SIZE, FRAME_PAYLOAD, FRAME_SIZE, SEAL_SIZE};

/// Frames that `len` bytes take.
pub fn frame_count(len: u64) -> u64 {
    len.div_ceil(FRAME_PAYLOAD as u64)
}

/// Plaintext bytes of frame `index` of `len` bytes.
pub fn frame_payload_len(len: u64, index: u64) -> usize {
    let begin = index * FRAME_PAYLOAD as u64;
    assert!(begin < len, "frame {index} of {len} bytes");
    (len - begin).min(FRAME_PAYLOAD as u64) as usize
}

/// Bytes on disk of a frame with that much plaintext.
pub fn frame_disk_len(payload_len: usize) -> usize {
    (payload_len + SEAL_SIZE).next_multiple_of(BLOCK_SIZE)
}

/// Bytes on disk of a piece of `len` bytes.
pub fn disk_len(len: u64) -> u64 {
    let full = len / FRAME_PAYLOAD as u64;
    let rest = (len % FRAME_PAYLOAD as u64) as usize;
    full * FRAME_SIZE as u64 + if rest == 0 { 0 } else { frame_disk_len(rest) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_frame_fills_its_64_kib() {
        assert_eq!(frame_disk_len(FRAME_PAYLOAD), FRAME_SIZE);
        assert_eq!(disk_len(FRAME_PAYLOAD as u64), FRAME_SIZE as u64);
    }

    #[test]
    fn lengths_agree_frame_by_frame() {
        for len in [1u64, 4080, 4081, 65_519, 65_520, 65_521, 131_040, 1_000_000] {
            let frames = frame_count(len);
            let payload: u64 = (0..frames).map(|i| frame_payload_len(len, i) as u64).sum();
            let disk: u64 = (0..frames).map(|i| frame_disk_len(frame_payload_len(len, i)) as u64).sum();
            assert_eq!((payload, disk), (len, disk_len(len)));
        }
        assert_eq!(frame_count(0), 0);
    }
}
