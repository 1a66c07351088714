//! Hexadecimal and base64, bounded and without panics.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Displays bytes as lowercase hexadecimal.
pub(crate) struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Appends lowercase hexadecimal.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// The same, to a text.
pub(crate) fn push_hex_text(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// The value of one hexadecimal digit of either case.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Exactly `N` bytes from `2 * N` hexadecimal digits of either case.
pub(crate) fn hex_array<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

/// A number in hexadecimal, at most 16 digits, without sign.
pub(crate) fn hex_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| Some(number << 4 | u64::from(hex_digit(*digit)?)))
}

/// A number in decimal without sign or white space.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

/// Base64 with padding.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes padded base64 into `out`; true when it filled `out` exactly.
pub(crate) fn base64_exact(text: &[u8], out: &mut [u8]) -> bool {
    if text.len() != out.len().div_ceil(3) * 4 {
        return false;
    }
    // The decoder wants room for whole groups of three bytes.
    let mut buffer = [0; 48];
    match STANDARD.decode_slice(text, &mut buffer) {
        Ok(len) if len == out.len() => {
            out.copy_from_slice(&buffer[..len]);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips() {
        let mut out = Vec::new();
        push_hex(&mut out, &[0, 1, 0xab, 0xff]);
        assert_eq!(out, b"0001abff");
        assert_eq!(Hex(&[0, 1, 0xab, 0xff]).to_string(), "0001abff");
        assert_eq!(hex_array::<4>(b"0001ABff"), Some([0, 1, 0xab, 0xff]));
        assert_eq!(hex_array::<4>(b"0001ABf"), None);
        assert_eq!(hex_array::<1>(b"+1"), None);
    }

    #[test]
    fn numbers_have_no_sign_and_do_not_overflow() {
        assert_eq!(hex_number(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(hex_number(b"00000000000000001"), None);
        assert_eq!(hex_number(b""), None);
        assert_eq!(hex_number(b"-1"), None);
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [&b"18446744073709551616"[..], b"", b"+1", b"-1", b"1 ", b"0x1"] {
            assert_eq!(decimal(wrong), None);
        }
    }

    #[test]
    fn base64_fills_exactly_or_fails() {
        let mut out = [0; 4];
        assert!(base64_exact(b"y/Q5Jg==", &mut out));
        assert_eq!(out, [0xcb, 0xf4, 0x39, 0x26]);
        for wrong in ["", "y/Q5Jg", "y/Q5Jg=", "y/Q5J===", "y/Q5Jh==", "y/Q5JgAA", "y_Q5Jg==", " y/Q5Jg="] {
            assert!(!base64_exact(wrong.as_bytes(), &mut out), "{wrong}");
        }
    }
}
