//! Percent coding, as RFC 3986 reads it and SigV4 writes it.
//!
//! Decoding is strict: a `%` without two hexadecimal digits is an error, never a literal. Encoding leaves exactly
//! RFC 3986's unreserved characters, with upper-case digits, as "Signature Calculations for the Authorization
//! Header" of the S3 API reference wants.

use std::borrow::Cow;

use crate::encoding::hex_digit;
use crate::error::{Code, Error};

/// What becomes of `/` when encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slash {
    /// It stays: paths.
    Keep,
    /// It becomes `%2F`: names and values of queries.
    Encode,
}

/// What `+` means when decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    /// Itself: paths.
    Literal,
    /// A space: names and values of queries, as HTML forms write them and AWS reads them.
    Space,
}

/// Decodes one path or query component. `InvalidURI` when a `%` is not followed by two hexadecimal digits.
pub fn decode(raw: &str, plus: Plus) -> Result<Cow<'_, [u8]>, Error> {
    let has_plus = plus == Plus::Space && raw.contains('+');
    if !has_plus && !raw.contains('%') {
        return Ok(Cow::Borrowed(raw.as_bytes()));
    }
    let mut out = Vec::with_capacity(raw.len());
    decode_into(&mut out, raw, plus)?;
    Ok(Cow::Owned(out))
}

/// Decodes one component that must be UTF-8, as keys and parameters are. `InvalidURI` otherwise.
pub fn decode_utf8(raw: &str, plus: Plus) -> Result<String, Error> {
    String::from_utf8(decode(raw, plus)?.into_owned()).map_err(|_| Code::InvalidURI.into())
}

/// Decodes to the end of `out`.
pub(crate) fn decode_into(out: &mut Vec<u8>, raw: &str, plus: Plus) -> Result<(), Error> {
    let mut rest = raw.as_bytes();
    loop {
        let plain = memchr::memchr2(b'%', b'+', rest).unwrap_or(rest.len());
        let (as_it_is, escaped) = rest.split_at(plain);
        out.extend_from_slice(as_it_is);
        let Some((byte, tail)) = escaped.split_first() else { return Ok(()) };
        rest = tail;
        match byte {
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2).ok_or(Code::InvalidURI)?;
                let (high, low) = hex_digit(digits[0]).zip(hex_digit(digits[1])).ok_or(Code::InvalidURI)?;
                out.push(high << 4 | low);
                rest = tail;
            }
            b'+' if plus == Plus::Space => out.push(b' '),
            byte => out.push(*byte),
        }
    }
}

/// Whether a byte stands for itself in an encoded component.
static IS_UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Appends `bytes`, encoded.
pub(crate) fn encode_into(out: &mut Vec<u8>, bytes: &[u8], slash: Slash) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain = |byte: &u8| IS_UNRESERVED[usize::from(*byte)] || (*byte == b'/' && slash == Slash::Keep);
    let mut rest = bytes;
    loop {
        let plain = rest.iter().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
        let (as_it_is, others) = rest.split_at(plain);
        out.extend_from_slice(as_it_is);
        let Some((byte, tail)) = others.split_first() else { return };
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
        rest = tail;
    }
}

/// Encodes `bytes`; the result is ASCII.
pub fn encode(bytes: &[u8], slash: Slash) -> String {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    encode_into(&mut out, bytes, slash);
    String::from_utf8(out).expect("percent-encoded text is ASCII")
}

/// The `name=value` pairs of a raw query, still encoded, in order. A name without `=` has an empty value, and empty
/// pairs (`a&&b`) are left out.
pub fn query_pairs(raw_query: &str) -> impl Iterator<Item = (&str, &str)> {
    raw_query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_percent_without_two_digits_is_an_error() {
        for raw in ["%", "%2", "a%", "%zz", "%2x", "%+1", "%%41"] {
            assert_eq!(decode(raw, Plus::Literal).unwrap_err().code, Code::InvalidURI, "{raw}");
        }
    }

    #[test]
    fn a_plus_is_a_space_in_queries_only() {
        assert_eq!(decode("a+b%2B", Plus::Literal).unwrap().as_ref(), b"a+b+");
        assert_eq!(decode("a+b%2B", Plus::Space).unwrap().as_ref(), b"a b+");
    }

    #[test]
    fn nothing_to_decode_is_borrowed() {
        assert!(matches!(decode("/plain/key", Plus::Literal).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error_where_utf8_is_wanted() {
        assert_eq!(decode_utf8("%C3%A9", Plus::Literal).unwrap(), "\u{e9}");
        assert_eq!(decode_utf8("%C3", Plus::Literal).unwrap_err().code, Code::InvalidURI);
    }

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(encode(b"/a b~c_d-e.f+g=h*i\xff", Slash::Keep), "/a%20b~c_d-e.f%2Bg%3Dh%2Ai%FF");
        assert_eq!(encode(b"a/b", Slash::Encode), "a%2Fb");
    }

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        let pairs: Vec<_> = query_pairs("a=1&b&&c==2&=x&").collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("c", "=2"), ("", "x")]);
        assert_eq!(query_pairs("").count(), 0);
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for slash in [Slash::Keep, Slash::Encode] {
                let encoded = encode(&bytes, slash);
                for plus in [Plus::Literal, Plus::Space] {
                    let decoded = decode(&encoded, plus).unwrap();
                    prop_assert_eq!(decoded.as_ref(), &bytes[..]);
                }
            }
        }

        #[test]
        fn decoding_never_panics(raw in "\\PC*") {
            let _ = decode(&raw, Plus::Space);
        }
    }
}
