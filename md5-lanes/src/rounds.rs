//! The 64 steps of MD5, written once for all kernels. Source: RFC 1321, section 3.4.
//!
//! A kernel brings a macro `step!(function, [a, b, c, d], rotation, word_index, constant)` that does
//! `a = b + rotate(a + function(b, c, d) + words[word_index] + constant, rotation)` on its kind of register.

/// What is added in each step: the first 32 bits of the fractions of `abs(sin(step + 1))`.
#[rustfmt::skip]
pub(crate) const CONSTANTS: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// The word of the block that a step takes.
pub(crate) const fn word_index(step: usize) -> usize {
    match step / 16 {
        0 => step % 16,
        1 => (5 * step + 1) % 16,
        2 => (3 * step + 5) % 16,
        _ => (7 * step) % 16,
    }
}

/// All steps of one block on the variables `a`, `b`, `c`, `d`.
macro_rules! rounds {
    ($step:ident, $state:tt) => {
        rounds!(@round $step, f, $state, (7, 12, 17, 22), 0, 4, 8, 12);
        rounds!(@round $step, g, $state, (5, 9, 14, 20), 16, 20, 24, 28);
        rounds!(@round $step, h, $state, (4, 11, 16, 23), 32, 36, 40, 44);
        rounds!(@round $step, i, $state, (6, 10, 15, 21), 48, 52, 56, 60);
    };
    (@round $step:ident, $function:ident, $state:tt, $rotations:tt, $($first:literal),+) => {
        $(rounds!(@four $step, $function, $state, $rotations, $first);)+
    };
    (@four $step:ident, $function:ident, [$a:ident, $b:ident, $c:ident, $d:ident],
        ($r0:literal, $r1:literal, $r2:literal, $r3:literal), $first:literal) => {
        rounds!(@one $step, $function, [$a, $b, $c, $d], $r0, $first);
        rounds!(@one $step, $function, [$d, $a, $b, $c], $r1, $first + 1);
        rounds!(@one $step, $function, [$c, $d, $a, $b], $r2, $first + 2);
        rounds!(@one $step, $function, [$b, $c, $d, $a], $r3, $first + 3);
    };
    (@one $step:ident, $function:ident, $state:tt, $rotation:literal, $index:expr) => {
        $step!(
            $function, $state, $rotation,
            const { $crate::rounds::word_index($index) }, const { $crate::rounds::CONSTANTS[$index] }
        );
    };
}
pub(crate) use rounds;
