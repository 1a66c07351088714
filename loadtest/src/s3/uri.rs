//! Percent-coding as SigV4 wants it: every byte but the unreserved ones, with upper-case hexadecimal digits.

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// What happens to `/`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slash {
    /// It separates path segments.
    Keep,
    /// It is data, as in a query value.
    Encode,
}

pub(super) fn encode_into(text: &str, slash: Slash, out: &mut String) {
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~')
            || (byte == b'/' && slash == Slash::Keep);
        if is_plain {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

pub(super) fn encode(text: &str, slash: Slash) -> String {
    let mut out = String::with_capacity(text.len());
    encode_into(text, slash, &mut out);
    out
}

/// Undoes the percent-coding of a listing with `encoding-type=url`; `None` when it is malformed.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => out.push(16 * hex_value(bytes.next()?)? + hex_value(bytes.next()?)?),
            b'+' => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The query in canonical form: encoded, then sorted by name and value. It is also sent in this form.
pub(super) fn canonical_query(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| (encode(name, Slash::Encode), encode(value, Slash::Encode)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_then_decoding_gives_the_key_back() {
        let key = "a b/ü+&=%2F~";
        let encoded = encode(key, Slash::Keep);
        assert_eq!(encoded, "a%20b/%C3%BC%2B%26%3D%252F~");
        assert_eq!(decode(&encoded).as_deref(), Some(key));
    }

    #[test]
    fn malformed_percent_coding_is_refused() {
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%FF"), None, "not UTF-8");
    }

    #[test]
    fn a_canonical_query_is_sorted_by_encoded_name() {
        assert_eq!(
            canonical_query(&[("prefix", "J/"), ("max-keys", "2"), ("acl", "")]),
            "acl=&max-keys=2&prefix=J%2F"
        );
    }
}
