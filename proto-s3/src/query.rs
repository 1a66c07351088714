//! The query of a request, decoded.
//!
//! S3 reads a query as forms do: `+` is a space. A name that comes twice counts once, the first time.

use crate::Error;
use crate::uri::{self, Plus};

/// The decoded parameters, in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes a raw query. `InvalidURI` when it is not percent-encoded UTF-8.
    pub fn parse(raw_query: &str) -> Result<Self, Error> {
        let pairs = uri::query_pairs(raw_query)
            .map(|(name, value)| {
                Ok((uri::decode_utf8(name, Plus::Space)?, uri::decode_utf8(value, Plus::Space)?))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Query { pairs })
    }

    /// The value of a parameter; empty when it came without one.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter, unless it is absent or empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Whether the parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Whether the query carries a signature.
    pub fn is_presigned(&self) -> bool {
        self.has("X-Amz-Signature")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_the_first_one_counts() {
        let query = Query::parse("prefix=a%2Fb+c&acl&prefix=x&empty=").unwrap();
        assert_eq!(query.value("prefix"), Some("a/b c"));
        assert_eq!(query.value("acl"), Some(""));
        assert!(query.has("empty") && query.non_empty("empty").is_none() && !query.has("other"));
    }

    #[test]
    fn a_query_that_is_not_percent_encoded_utf8_is_refused() {
        for raw in ["a=%", "a=%zz", "%f=1", "a=%ff"] {
            assert_eq!(Query::parse(raw).unwrap_err().code, crate::Code::InvalidURI, "{raw}");
        }
    }
}
