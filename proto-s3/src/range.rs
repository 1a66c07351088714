//! Byte ranges: of GET and HEAD (RFC 9110, section 14.1.2), and of UploadPartCopy, which is stricter.
//!
//! ```text
//!  Range: bytes=0-9   bytes 0 to 9, fewer when the object is shorter
//!         bytes=5-    from byte 5 on
//!         bytes=-5    the last 5 bytes, all when the object is shorter
//! ```
//!
//! A Range header that is none of these, names several ranges or another unit is ignored: the answer is the whole
//! object, as AWS does. A well-formed range that begins behind the end, or asks for the last 0 bytes, cannot be satisfied.

use crate::{Code, Error};

/// A well-formed range, not yet held against an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first to the last byte, inclusive; to the end when there is no last.
    FromTo {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte, not before the first.
        last: Option<u64>,
    },
    /// So many bytes at the end.
    Suffix(u64),
}

/// What a range comes to for an object of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// There are bytes in the range: these, inclusive.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// There are none: 416.
    NotSatisfiable,
}

impl ByteRange {
    /// Reads a Range header; `None` when it is to be ignored.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (unit, spec) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = spec.trim().split_once('-')?;
        match (first.trim_end(), last.trim_start()) {
            ("", suffix) => Some(ByteRange::Suffix(offset(suffix)?)),
            (first, "") => Some(ByteRange::FromTo { first: offset(first)?, last: None }),
            (first, last) => {
                let (first, last) = (offset(first)?, offset(last)?);
                (first <= last).then_some(ByteRange::FromTo { first, last: Some(last) })
            }
        }
    }

    /// Holds the range against an object.
    pub fn resolve(self, len: u64) -> Resolved {
        let Some(end) = len.checked_sub(1) else { return Resolved::NotSatisfiable };
        match self {
            ByteRange::FromTo { first, .. } if first > end => Resolved::NotSatisfiable,
            ByteRange::FromTo { first, last } => Resolved::Part { first, last: last.unwrap_or(end).min(end) },
            ByteRange::Suffix(0) => Resolved::NotSatisfiable,
            ByteRange::Suffix(count) => Resolved::Part { first: len.saturating_sub(count), last: end },
        }
    }

    /// The range as a header says it.
    fn to_header(self) -> String {
        match self {
            ByteRange::FromTo { first, last: Some(last) } => format!("bytes={first}-{last}"),
            ByteRange::FromTo { first, last: None } => format!("bytes={first}-"),
            ByteRange::Suffix(count) => format!("bytes=-{count}"),
        }
    }

    /// `InvalidRange`, for an object of that length.
    pub fn not_satisfiable(self, len: u64) -> Error {
        Error::new(Code::InvalidRange)
            .detail("RangeRequested", self.to_header())
            .detail("ActualObjectSize", len.to_string())
    }
}

/// The source range of UploadPartCopy: both ends given, and both within the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, not before the first.
    pub last: u64,
}

impl CopyRange {
    /// Reads `x-amz-copy-source-range`. `InvalidArgument` unless it is `bytes=first-last`.
    pub fn parse(value: &[u8]) -> Result<Self, Error> {
        let range =
            std::str::from_utf8(value).ok().and_then(|text| text.strip_prefix("bytes=")).and_then(|spec| {
                let (first, last) = spec.split_once('-')?;
                Some(CopyRange { first: offset(first)?, last: offset(last)? })
            });
        match range {
            Some(range) if range.first <= range.last => Ok(range),
            _ => Err(Error::invalid_argument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
                 zero-based offsets of the first and last bytes to copy",
                "x-amz-copy-source-range",
                String::from_utf8_lossy(value),
            )),
        }
    }

    /// Number of bytes in the range.
    pub fn byte_count(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// `InvalidArgument` unless a source of that length has all these bytes.
    pub fn check_within(self, source_len: u64) -> Result<(), Error> {
        if self.last < source_len {
            return Ok(());
        }
        Err(Error::invalid_argument(
            format!("Range specified is not valid for source object of size: {source_len}"),
            "x-amz-copy-source-range",
            format!("bytes={}-{}", self.first, self.last),
        ))
    }
}

/// Digits and nothing else. What does not fit is behind the end of every object, like the largest number.
fn offset(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(header: &str, len: u64) -> Option<Resolved> {
        ByteRange::parse(header.as_bytes()).map(|range| range.resolve(len))
    }

    fn part(first: u64, last: u64) -> Option<Resolved> {
        Some(Resolved::Part { first, last })
    }

    #[test]
    fn every_form_of_a_range_resolves() {
        assert_eq!(resolve("bytes=0-0", 10), part(0, 0));
        assert_eq!(resolve("bytes=0-9", 10), part(0, 9));
        assert_eq!(resolve("bytes=2-5", 10), part(2, 5));
        assert_eq!(resolve("bytes=9-", 10), part(9, 9));
        assert_eq!(resolve("bytes=0-", 10), part(0, 9));
        assert_eq!(resolve("bytes=-3", 10), part(7, 9));
        assert_eq!(resolve("Bytes = 2-5", 10), part(2, 5));
    }

    #[test]
    fn a_range_ends_with_the_object() {
        assert_eq!(resolve("bytes=5-100", 10), part(5, 9));
        assert_eq!(resolve("bytes=-100", 10), part(0, 9));
        assert_eq!(resolve("bytes=0-99999999999999999999999", 10), part(0, 9));
        assert_eq!(resolve("bytes=-99999999999999999999999", 10), part(0, 9));
    }

    #[test]
    fn what_holds_no_byte_is_not_satisfiable() {
        for (header, len) in [
            ("bytes=10-", 10),
            ("bytes=10-20", 10),
            ("bytes=99999999999999999999999-", 10),
            ("bytes=-0", 10),
            ("bytes=0-0", 0),
            ("bytes=0-", 0),
            ("bytes=-1", 0),
        ] {
            assert_eq!(resolve(header, len), Some(Resolved::NotSatisfiable), "{header} of {len}");
        }
    }

    #[test]
    fn what_is_no_single_byte_range_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-1,4-5",
            "bytes=+1-2",
            "bytes=1--2",
            "items=0-1",
            "0-1",
            "bytes=1",
            "bytes:0-1",
        ] {
            assert_eq!(ByteRange::parse(header.as_bytes()), None, "{header}");
        }
        assert_eq!(ByteRange::parse(b"bytes=\xff-1"), None);
    }

    #[test]
    fn the_refusal_names_range_and_length() {
        let error = ByteRange::Suffix(0).not_satisfiable(7);
        assert_eq!(error.code, Code::InvalidRange);
        let details = [("RangeRequested", "bytes=-0".to_string()), ("ActualObjectSize", "7".to_string())];
        assert_eq!(error.details, details);
    }

    #[test]
    fn a_copy_range_has_both_ends() {
        let range = CopyRange::parse(b"bytes=5-14").unwrap();
        assert_eq!((range, range.byte_count()), (CopyRange { first: 5, last: 14 }, 10));
        for wrong in
            ["", "bytes=5-", "bytes=-5", "5-14", "bytes=14-5", "bytes=1-2,3-4", "bytes= 1-2", "Bytes=1-2"]
        {
            assert_eq!(
                CopyRange::parse(wrong.as_bytes()).unwrap_err().code,
                Code::InvalidArgument,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_copy_range_lies_within_its_source() {
        let range = CopyRange { first: 5, last: 14 };
        assert!(range.check_within(15).is_ok());
        assert_eq!(range.check_within(14).unwrap_err().code, Code::InvalidArgument);
    }
}
