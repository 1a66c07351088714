//! Reads parameters that several operations share, with AWS's refusals.

use std::ops::RangeInclusive;

use crate::query::Query;
use crate::uri::{self, Slash};
use crate::{Error, Limits};

/// Largest number in a parameter (AWS: a 32-bit signed integer).
pub(crate) const INTEGER_MAX: u32 = i32::MAX as u32;

/// How a listing writes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingType {
    /// `encoding-type=url`: percent-encoded, all but `/` and RFC 3986's unreserved characters.
    Url,
}

impl EncodingType {
    /// Reads `encoding-type`.
    pub(crate) fn from_query(query: &Query) -> Result<Option<Self>, Error> {
        match query.value("encoding-type") {
            None | Some("") => Ok(None),
            Some("url") => Ok(Some(EncodingType::Url)),
            Some(other) => Err(Error::invalid_argument(
                "Invalid Encoding Method specified in Request",
                "encoding-type",
                other,
            )),
        }
    }
}

/// A key, prefix, delimiter or marker as the listing writes it.
pub(crate) fn encoded(text: &str, encoding: Option<EncodingType>) -> std::borrow::Cow<'_, str> {
    match encoding {
        Some(EncodingType::Url) => uri::encode(text.as_bytes(), Slash::Keep).into(),
        None => text.into(),
    }
}

/// A number in the query within `allowed`; `None` when the parameter is absent.
pub(crate) fn integer(query: &Query, name: &str, allowed: RangeInclusive<u32>) -> Result<Option<u32>, Error> {
    query.value(name).map(|text| parse_integer(name, text, allowed)).transpose()
}

/// A number within `allowed`, or `InvalidArgument`.
pub(crate) fn parse_integer(name: &str, text: &str, allowed: RangeInclusive<u32>) -> Result<u32, Error> {
    let Ok(number) = text.trim().parse::<i64>() else {
        return Err(Error::invalid_argument(
            format!("Provided {name} not an integer or within integer range"),
            name,
            text,
        ));
    };
    u32::try_from(number).ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
        let message =
            format!("Argument {name} must be an integer between {} and {}", allowed.start(), allowed.end());
        Error::invalid_argument(message, name, text)
    })
}

/// The number of entries that a page may have: what was asked for, at most `most`, which is also the default.
pub(crate) fn page_size(query: &Query, name: &str, least: u32, most: u32) -> Result<u32, Error> {
    Ok(integer(query, name, least..=INTEGER_MAX)?.map_or(most, |asked| asked.min(most)))
}

/// `partNumber`, 1 to the most parts.
pub(crate) fn part_number(query: &Query, limits: &Limits) -> Result<Option<u32>, Error> {
    let Some(text) = query.value("partNumber") else { return Ok(None) };
    match text.parse::<u32>() {
        Ok(number) if (1..=limits.parts_max).contains(&number) => Ok(Some(number)),
        _ => Err(Error::invalid_argument(
            format!("Part number must be an integer between 1 and {}, inclusive", limits.parts_max),
            "partNumber",
            text,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn size(raw: &str) -> Result<u32, Code> {
        page_size(&Query::parse(raw).unwrap(), "max-keys", 0, 1000).map_err(|error| error.code)
    }

    #[test]
    fn a_page_is_as_large_as_asked_for_up_to_the_limit() {
        assert_eq!(size(""), Ok(1000));
        assert_eq!(size("max-keys=0"), Ok(0));
        assert_eq!(size("max-keys=17"), Ok(17));
        assert_eq!(size("max-keys=1000"), Ok(1000));
        assert_eq!(size("max-keys=2147483647"), Ok(1000));
    }

    #[test]
    fn a_page_size_that_is_no_number_or_out_of_range_is_refused() {
        for raw in
            ["max-keys=", "max-keys=x", "max-keys=-1", "max-keys=2147483648", "max-keys=1.5", "max-keys=1e3"]
        {
            assert_eq!(size(raw), Err(Code::InvalidArgument), "{raw}");
        }
    }

    #[test]
    fn part_numbers_run_from_1_to_10000() {
        let number = |raw: &str| part_number(&Query::parse(raw).unwrap(), &Limits::default());
        assert_eq!(number("").unwrap(), None);
        assert_eq!(number("partNumber=1").unwrap(), Some(1));
        assert_eq!(number("partNumber=10000").unwrap(), Some(10_000));
        for raw in ["partNumber=0", "partNumber=10001", "partNumber=", "partNumber=-1", "partNumber=a"] {
            assert_eq!(number(raw).unwrap_err().code, Code::InvalidArgument, "{raw}");
        }
    }

    #[test]
    fn url_encoding_keeps_slashes_and_unreserved_characters_only() {
        assert_eq!(encoded("a/b c+d%\u{1}é-_.~*", Some(EncodingType::Url)), "a/b%20c%2Bd%25%01%C3%A9-_.~%2A");
        assert_eq!(encoded("a b", None), "a b");
        let query = Query::parse("encoding-type=base64").unwrap();
        assert_eq!(EncodingType::from_query(&query).unwrap_err().code, Code::InvalidArgument);
    }
}
