//! Entity tags: the MD5 of an object, or for multipart uploads the MD5 of its parts' MD5s and their count.

use std::fmt;

use md5::{Digest, Md5};

use crate::encoding::{self, Hex};

/// The entity tag of an object or part. Displays without quotes: `d41d8cd98f00b204e9800998ecf8427e`, or with `-N`
/// for an object made of N parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ETag {
    /// MD5 of the bytes, or of the concatenated MD5s of the parts.
    pub md5: [u8; 16],
    /// Number of parts; 0 when the object was not made by a multipart upload.
    pub parts: u32,
}

impl ETag {
    /// The tag of bytes stored in one piece.
    pub fn single(md5: [u8; 16]) -> Self {
        ETag { md5, parts: 0 }
    }

    /// The tag of an object completed from parts whose MD5s these are, in order.
    pub fn multipart<'a>(part_md5s: impl IntoIterator<Item = &'a [u8; 16]>) -> Self {
        let mut hasher = Md5::new();
        let mut parts = 0;
        for md5 in part_md5s {
            hasher.update(md5);
            parts += 1;
        }
        ETag { md5: hasher.finalize().into(), parts }
    }

    /// Reads a tag with or without its quotes. `None` when it is not one of ours (weak tags never are), which then
    /// matches no object.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let (digits, parts) = match bare.split_once('-') {
            None => (bare, 0),
            Some((digits, count)) => (digits, parse_part_count(count)?),
        };
        Some(ETag { md5: encoding::hex_array(digits.as_bytes())?, parts })
    }

    /// The tag in quotes, as headers and documents carry it.
    pub fn quoted(&self) -> String {
        let mut quoted = String::with_capacity(40);
        quoted.push('"');
        encoding::push_hex_text(&mut quoted, &self.md5);
        if self.parts > 0 {
            quoted.push('-');
            quoted.push_str(&self.parts.to_string());
        }
        quoted.push('"');
        quoted
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.md5))?;
        if self.parts > 0 {
            write!(f, "-{}", self.parts)?;
        }
        Ok(())
    }
}

/// A positive count without sign or leading zeros.
fn parse_part_count(digits: &str) -> Option<u32> {
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn a_tag_reads_back_as_written() {
        for text in [EMPTY.to_string(), format!("{EMPTY}-1"), format!("{EMPTY}-10000")] {
            let tag = ETag::parse(&text).unwrap();
            assert_eq!(tag.to_string(), text);
            assert_eq!(ETag::parse(&tag.quoted()), Some(tag));
        }
    }

    #[test]
    fn what_is_not_a_tag_of_ours_is_none() {
        let wrong = ["", "\"", "\"\"", "*", "abc", "W/\"d41d8cd98f00b204e9800998ecf8427e\""];
        for text in wrong.iter().map(ToString::to_string).chain([
            format!("{EMPTY}-"),
            format!("{EMPTY}-0"),
            format!("{EMPTY}-01"),
            format!("{EMPTY}-+1"),
            format!("{EMPTY}-99999999999"),
            format!("\"{EMPTY}"),
            format!("{EMPTY}0"),
        ]) {
            assert_eq!(ETag::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn a_multipart_tag_is_the_md5_of_the_md5s() {
        let part: [u8; 16] = Md5::digest(b"").into();
        let tag = ETag::multipart([&part, &part]);
        let expected: [u8; 16] = Md5::digest([part, part].concat()).into();
        assert_eq!(tag, ETag { md5: expected, parts: 2 });
    }

    #[test]
    fn upper_case_digits_are_read() {
        assert_eq!(ETag::parse(&EMPTY.to_uppercase()), ETag::parse(EMPTY));
    }
}
