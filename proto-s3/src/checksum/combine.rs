//! CRCs of concatenations, from the CRCs and lengths of what is concatenated (the method of zlib's `crc32_combine`).
//!
//! A CRC is a polynomial over GF(2), reduced by the CRC's own. Appending `n` bytes multiplies it by x^(8n); so the CRC of `a` then `b` is
//! `crc(a) * x^(8 len(b)) + crc(b)`. The power is computed once for each run of equal lengths, which parts nearly always have: ten thousand parts
//! cost ten thousand multiplications of 32 or 64 steps.

use super::Algorithm;

/// A reflected CRC whose start value and final inversion are all ones.
#[derive(Clone, Copy)]
struct Field {
    /// The polynomial, reflected, without its highest term.
    polynomial: u64,
    width: u32,
}

/// Combines CRCs of one algorithm.
pub(super) struct Combiner {
    field: Field,
    /// The last length, and x^(8 length).
    power: Option<(u64, u64)>,
}

impl Combiner {
    /// For that algorithm; `None` when it is no CRC.
    pub(super) fn new(algorithm: Algorithm) -> Option<Self> {
        let field = match algorithm {
            Algorithm::Crc32 => Field { polynomial: 0xedb8_8320, width: 32 },
            Algorithm::Crc32c => Field { polynomial: 0x82f6_3b78, width: 32 },
            Algorithm::Crc64Nvme => Field { polynomial: 0x9a6c_9329_ac4b_c9b5, width: 64 },
            Algorithm::Sha1 | Algorithm::Sha256 => return None,
        };
        Some(Combiner { field, power: None })
    }

    /// The CRC of what `first` is of, followed by `second_len` bytes that `second` is of.
    pub(super) fn combine(&mut self, first: u64, second: u64, second_len: u64) -> u64 {
        let power = match self.power {
            Some((len, power)) if len == second_len => power,
            _ => {
                let power = self.field.power_of_bytes(second_len);
                self.power = Some((second_len, power));
                power
            }
        };
        self.field.multiply(power, first) ^ second
    }
}

impl Field {
    /// The highest bit stands for 1, the next for x, and so on.
    fn one(self) -> u64 {
        1 << (self.width - 1)
    }

    fn multiply(self, a: u64, mut b: u64) -> u64 {
        let mut product = 0;
        let mut bit = self.one();
        while bit != 0 {
            if a & bit != 0 {
                product ^= b;
            }
            b = if b & 1 == 1 { b >> 1 ^ self.polynomial } else { b >> 1 };
            bit >>= 1;
        }
        product
    }

    /// x^(8 len), by repeated squaring.
    fn power_of_bytes(self, mut len: u64) -> u64 {
        let mut power = self.one();
        let mut square = self.one() >> 8;
        while len > 0 {
            if len & 1 == 1 {
                power = self.multiply(square, power);
            }
            square = self.multiply(square, square);
            len >>= 1;
        }
        power
    }
}
