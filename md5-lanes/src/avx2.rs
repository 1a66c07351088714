//! Eight lanes: one 32-bit word of each of 8 streams in a register.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
    _mm256_xor_si256,
};

use crate::rounds::rounds;
use crate::{Block, State};

/// Streams at a time.
pub(crate) const LANES: usize = 8;

/// Bytes of a register.
const REGISTER_LEN: usize = 32;

/// Hashes as many blocks of each stream as the shortest has.
#[target_feature(enable = "avx2")]
pub(crate) fn compress(states: &mut [State; LANES], blocks: &[&[Block]; LANES]) {
    let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let blocks = blocks.map(|blocks| &blocks[..count]);
    let [mut a, mut b, mut c, mut d] = [0, 1, 2, 3].map(|word| load_column(states, word));
    for index in 0..count {
        let words = load_words(&blocks, index);
        let before = [a, b, c, d];
        macro_rules! step {
            ($function:ident, [$a:ident, $b:ident, $c:ident, $d:ident], $rotation:literal, $word:expr, $constant:expr) => {
                let constant = _mm256_set1_epi32($constant.cast_signed());
                let early = _mm256_add_epi32($a, _mm256_add_epi32(words[$word], constant));
                let sum = _mm256_add_epi32(early, $function($b, $c, $d));
                let (left, right) =
                    (_mm256_slli_epi32::<$rotation>(sum), _mm256_srli_epi32::<{ 32 - $rotation }>(sum));
                $a = _mm256_add_epi32($b, _mm256_or_si256(left, right));
            };
        }
        rounds!(step, [a, b, c, d]);
        a = _mm256_add_epi32(a, before[0]);
        b = _mm256_add_epi32(b, before[1]);
        c = _mm256_add_epi32(c, before[2]);
        d = _mm256_add_epi32(d, before[3]);
    }
    for (word, column) in [a, b, c, d].into_iter().enumerate() {
        store_column(states, word, column);
    }
}

/// `(b & c) | (!b & d)`
#[inline]
#[target_feature(enable = "avx2")]
fn f(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(c, d), b), d)
}

/// `(b & d) | (c & !d)`
#[inline]
#[target_feature(enable = "avx2")]
fn g(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_and_si256(b, d), _mm256_andnot_si256(d, c))
}

/// `b ^ c ^ d`
#[inline]
#[target_feature(enable = "avx2")]
fn h(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(c, d), b)
}

/// `c ^ (b | !d)`
#[inline]
#[target_feature(enable = "avx2")]
fn i(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(c, _mm256_or_si256(b, _mm256_xor_si256(d, _mm256_set1_epi32(-1))))
}

/// The words of one block of each stream: register `w` has word `w` of all, in the order of the streams.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(blocks: &[&[Block]; LANES], index: usize) -> [__m256i; 16] {
    let [low, high] =
        [0, 1].map(|half| transpose(std::array::from_fn(|lane| load_half(&blocks[lane][index], half))));
    std::array::from_fn(|word| if word < 8 { low[word] } else { high[word - 8] })
}

/// Rows to columns, 8 by 8.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let upper = transpose_quads([r0, r1, r2, r3]);
    let lower = transpose_quads([r4, r5, r6, r7]);
    let mut columns = rows;
    for word in 0..4 {
        columns[word] = _mm256_permute2x128_si256::<0x20>(upper[word], lower[word]);
        columns[word + 4] = _mm256_permute2x128_si256::<0x31>(upper[word], lower[word]);
    }
    columns
}

/// Halves of blocks of four streams to registers whose half `h` has word `4 * h + w` of the four; `w` is the register's index.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_quads([r0, r1, r2, r3]: [__m256i; 4]) -> [__m256i; 4] {
    let low = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpacklo_epi32(r2, r3));
    let high = (_mm256_unpackhi_epi32(r0, r1), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(low.0, low.1),
        _mm256_unpackhi_epi64(low.0, low.1),
        _mm256_unpacklo_epi64(high.0, high.1),
        _mm256_unpackhi_epi64(high.0, high.1),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(block: &Block, half: usize) -> __m256i {
    let bytes = &block.as_chunks::<REGISTER_LEN>().0[half];
    // SAFETY: the reference covers the bytes of a register, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_column(states: &[State; LANES], word: usize) -> __m256i {
    let column = states.map(|state| state[word]);
    // SAFETY: 8 words of 32 bits are the bytes of a register, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(column.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_column(states: &mut [State; LANES], word: usize, register: __m256i) {
    let mut column = [0; LANES];
    // SAFETY: 8 words of 32 bits are the bytes of a register, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(column.as_mut_ptr().cast(), register) };
    for (state, value) in states.iter_mut().zip(column) {
        state[word] = value;
    }
}
