//! Sixteen lanes: one 32-bit word of each of 16 streams in a register.
//!
//! A step is a chain of four instructions of one cycle each, because a function of three words is one `vpternlogd` and a
//! rotation one `vprold`. That chain is the limit: 256 cycles for the 1024 bytes of 16 blocks. The transposition of the next
//! blocks fits into its gaps.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_shuffle_i32x4,
    _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::rounds::rounds;
use crate::{BLOCK_LEN, Block, State};

/// Streams at a time.
pub(crate) const LANES: usize = 16;

/// Hashes as many blocks of each stream as the shortest has.
#[target_feature(enable = "avx512f")]
pub(crate) fn compress(states: &mut [State; LANES], blocks: &[&[Block]; LANES]) {
    let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let blocks = blocks.map(|blocks| &blocks[..count]);
    let [mut a, mut b, mut c, mut d] = [0, 1, 2, 3].map(|word| load_column(states, word));
    for index in 0..count {
        let words = load_words(&blocks, index);
        let before = [a, b, c, d];
        macro_rules! step {
            ($function:ident, [$a:ident, $b:ident, $c:ident, $d:ident], $rotation:literal, $word:expr, $constant:expr) => {
                let constant = _mm512_set1_epi32($constant.cast_signed());
                let early = _mm512_add_epi32($a, _mm512_add_epi32(words[$word], constant));
                let sum = _mm512_add_epi32(early, $function($b, $c, $d));
                $a = _mm512_add_epi32($b, _mm512_rol_epi32::<$rotation>(sum));
            };
        }
        rounds!(step, [a, b, c, d]);
        a = _mm512_add_epi32(a, before[0]);
        b = _mm512_add_epi32(b, before[1]);
        c = _mm512_add_epi32(c, before[2]);
        d = _mm512_add_epi32(d, before[3]);
    }
    for (word, column) in [a, b, c, d].into_iter().enumerate() {
        store_column(states, word, column);
    }
}

// The immediate of `vpternlogd` is the truth table: bit `x << 2 | y << 1 | z` is the function of the bits x, y, z.

/// `(b & c) | (!b & d)`
#[inline]
#[target_feature(enable = "avx512f")]
fn f(b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1100_1010>(b, c, d)
}

/// `(b & d) | (c & !d)`
#[inline]
#[target_feature(enable = "avx512f")]
fn g(b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1110_0100>(b, c, d)
}

/// `b ^ c ^ d`
#[inline]
#[target_feature(enable = "avx512f")]
fn h(b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1001_0110>(b, c, d)
}

/// `c ^ (b | !d)`
#[inline]
#[target_feature(enable = "avx512f")]
fn i(b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b0011_1001>(b, c, d)
}

/// The words of one block of each stream: register `w` has word `w` of all, in the order of the streams.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(blocks: &[&[Block]; LANES], index: usize) -> [__m512i; 16] {
    let mut words = [_mm512_set1_epi32(0); 16];
    let quads: [[__m512i; 4]; 4] = [0, 4, 8, 12].map(|first| {
        transpose_quads([
            load(&blocks[first][index]),
            load(&blocks[first + 1][index]),
            load(&blocks[first + 2][index]),
            load(&blocks[first + 3][index]),
        ])
    });
    for word in 0..4 {
        let [q0, q1, q2, q3] = quads.map(|quad| quad[word]);
        // Of four 128-bit quarters, 0x88 picks the even and 0xdd the odd ones.
        let even = (_mm512_shuffle_i32x4::<0x88>(q0, q1), _mm512_shuffle_i32x4::<0x88>(q2, q3));
        let odd = (_mm512_shuffle_i32x4::<0xdd>(q0, q1), _mm512_shuffle_i32x4::<0xdd>(q2, q3));
        words[word] = _mm512_shuffle_i32x4::<0x88>(even.0, even.1);
        words[word + 4] = _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1);
        words[word + 8] = _mm512_shuffle_i32x4::<0xdd>(even.0, even.1);
        words[word + 12] = _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1);
    }
    words
}

/// Blocks of four streams to registers whose quarter `q` has word `4 * q + w` of the four; `w` is the register's index.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_quads([r0, r1, r2, r3]: [__m512i; 4]) -> [__m512i; 4] {
    let low = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpacklo_epi32(r2, r3));
    let high = (_mm512_unpackhi_epi32(r0, r1), _mm512_unpackhi_epi32(r2, r3));
    [
        _mm512_unpacklo_epi64(low.0, low.1),
        _mm512_unpackhi_epi64(low.0, low.1),
        _mm512_unpacklo_epi64(high.0, high.1),
        _mm512_unpackhi_epi64(high.0, high.1),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(block: &Block) -> __m512i {
    const { assert!(size_of::<__m512i>() == BLOCK_LEN) };
    // SAFETY: the reference covers the bytes of a register, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_column(states: &[State; LANES], word: usize) -> __m512i {
    let column = states.map(|state| state[word]);
    // SAFETY: 16 words of 32 bits are the bytes of a register, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(column.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_column(states: &mut [State; LANES], word: usize, register: __m512i) {
    let mut column = [0; LANES];
    // SAFETY: 16 words of 32 bits are the bytes of a register, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(column.as_mut_ptr().cast(), register) };
    for (state, value) in states.iter_mut().zip(column) {
        state[word] = value;
    }
}
