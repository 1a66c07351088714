//! The instruction set that does the work, chosen once by what the CPU has.

use crate::{Block, State};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// The most lanes that a kernel has.
pub(crate) const LANES_MAX: usize = 16;

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Set);

/// Invariant of [`Kernel`]: it holds no set that this CPU does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// The one that every CPU has.
    pub const PORTABLE: Kernel = Kernel(Set::Portable);

    /// The best that this CPU has.
    pub fn detect() -> Self {
        Kernel::all().into_iter().next_back().unwrap_or(Kernel::PORTABLE)
    }

    /// All that this CPU has, the best last.
    pub fn all() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "there is but one"))]
        let mut all = vec![Kernel::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                all.push(Kernel(Set::Avx2));
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                all.push(Kernel(Set::Avx512));
            }
        }
        all
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512",
        }
    }

    /// Streams that it hashes at a time.
    pub fn lane_count(self) -> usize {
        match self.0 {
            Set::Portable => 1,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => avx512::LANES,
        }
    }

    /// Hashes the blocks of some streams, at most [`Kernel::lane_count`] of them, each with as many blocks as the others.
    pub(crate) fn compress(self, states: &mut [State], blocks: &[&[Block]]) {
        assert_eq!(states.len(), blocks.len(), "each lane has a state and blocks");
        assert!(blocks.iter().all(|lane| lane.len() == blocks[0].len()), "lanes are as long as each other");
        match self.0 {
            _ if states.len() < 2 => compress_each(states, blocks),
            Set::Portable => compress_each(states, blocks),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => {
                // SAFETY: by the invariant of `Kernel` this CPU has AVX2.
                padded(states, blocks, |states, blocks| unsafe { avx2::compress(states, blocks) });
            }
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => {
                // SAFETY: by the invariant of `Kernel` this CPU has AVX-512F.
                padded(states, blocks, |states, blocks| unsafe { avx512::compress(states, blocks) });
            }
        }
    }
}

/// Hashes the blocks of one stream: alone it gains nothing from a register that has room for more.
pub(crate) fn compress_one(state: &mut State, blocks: &[Block]) {
    md5::block_api::compress(state, blocks);
}

/// One stream after the other.
fn compress_each(states: &mut [State], blocks: &[&[Block]]) {
    for (state, blocks) in states.iter_mut().zip(blocks) {
        compress_one(state, blocks);
    }
}

/// Calls a kernel of `LANES` lanes with fewer streams: lanes without one hash the first stream's blocks, for nobody.
#[cfg(target_arch = "x86_64")]
fn padded<const LANES: usize>(
    states: &mut [State],
    blocks: &[&[Block]],
    compress: impl Fn(&mut [State; LANES], &[&[Block]; LANES]),
) {
    assert!(blocks.len() <= LANES, "no more streams than lanes");
    let all_blocks = std::array::from_fn(|lane| *blocks.get(lane).unwrap_or(&blocks[0]));
    let mut all_states = [crate::STATE_INITIAL; LANES];
    all_states[..states.len()].copy_from_slice(states);
    compress(&mut all_states, &all_blocks);
    states.copy_from_slice(&all_states[..states.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Numbers;

    #[test]
    fn any_number_of_lanes_does_what_the_reference_does() {
        let mut numbers = Numbers(4);
        for kernel in Kernel::all() {
            for (count, block_count) in
                (1..=kernel.lane_count()).flat_map(|count| [0, 1, 2, 5].map(|blocks| (count, blocks)))
            {
                let bytes: Vec<Vec<u8>> = (0..count).map(|_| numbers.bytes(block_count * 64)).collect();
                let blocks: Vec<&[Block]> = bytes.iter().map(|bytes| bytes.as_chunks().0).collect();
                let mut states: Vec<State> =
                    (0..count).map(|_| [0; 4].map(|_: u32| numbers.next() as u32)).collect();
                let mut expected = states.clone();
                compress_each(&mut expected, &blocks);
                kernel.compress(&mut states, &blocks);
                assert_eq!(states, expected, "{count} lanes of {} on {}", block_count, kernel.name());
            }
        }
    }
}
