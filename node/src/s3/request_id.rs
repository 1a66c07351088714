//! Names of requests: what `x-amz-request-id` says, and the log.
//!
//! A core numbers its requests and scrambles the numbers, from a random start: names of different cores and of different lives of the node don't
//! meet, and tell nobody how many requests there were. They are no secret.

use std::cell::Cell;

/// Digits of a name.
const LEN: usize = 16;

/// The name of a request: hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; LEN]);

impl RequestId {
    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

/// The names that one core gives.
#[derive(Debug)]
pub struct RequestIds {
    state: Cell<u64>,
}

impl RequestIds {
    /// From a random number on.
    pub fn new(start: u64) -> Self {
        RequestIds { state: Cell::new(start) }
    }

    /// One that this core has not given before: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection of a counter.
    pub fn next(&self) -> RequestId {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let digit = |i: usize| b"0123456789ABCDEF"[(z >> (60 - 4 * i) & 15) as usize];
        RequestId(std::array::from_fn(digit))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_sixteen_digits_and_do_not_repeat() {
        let ids = RequestIds::new(7);
        let names: HashSet<String> = (0..10_000).map(|_| ids.next().as_str().to_owned()).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| u64::from_str_radix(name, 16).is_ok() && name.len() == LEN));
    }
}
