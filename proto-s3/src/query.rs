//! The query of a request, decoded.
//!
//! S3 reads a query as forms do: `+` is a space. A name that comes twice counts once, the first time.

use crate::Error;
use crate::http::RequestHead;
use crate::uri::{self, Plus};

/// Parameters that belong to the signature of a presigned URL, not to the operation (lowercase).
const PRESIGN_PARAMETERS: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
];

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

/// The head as it was meant: SDKs that presign a request move `x-amz-*` headers into its query, and S3 reads them there
/// as if they had come as headers. `None` when there is nothing to move. A header that is there already wins.
///
/// The signature covers the head as it was sent, so this comes after authentication.
pub fn hoist_headers(head: &RequestHead) -> Result<Option<RequestHead>, Error> {
    let mut hoisted: Option<RequestHead> = None;
    for (name, value) in uri::query_pairs(&head.raw_query) {
        if !name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-")) {
            continue;
        }
        let name = uri::decode_utf8(name, Plus::Space)?.to_ascii_lowercase();
        if PRESIGN_PARAMETERS.contains(&name.as_str()) || head.header_bytes(&name).is_some() {
            continue;
        }
        let value = uri::decode_utf8(value, Plus::Space)?;
        if value.chars().any(char::is_control) {
            return Err(Error::invalid_argument(
                "The value of a parameter holds a control character",
                name,
                "",
            ));
        }
        hoisted.get_or_insert_with(|| head.clone()).headers.push((name, value.into_bytes()));
    }
    Ok(hoisted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;

    fn head(raw_query: &str, headers: &[(&str, &str)]) -> RequestHead {
        RequestHead {
            method: Method::Put,
            raw_path: "/b/k".into(),
            raw_query: raw_query.into(),
            minor_version: 1,
            headers: headers.iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect(),
        }
    }

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

    #[test]
    fn presigned_headers_count_as_headers_unless_sent_as_such() {
        let raw = "X-Amz-Signature=1&X-Amz-Date=2&x-amz-acl=public-read&X-Amz-Meta-A=b%20c&x-amz-storage-class=GLACIER";
        let hoisted = hoist_headers(&head(raw, &[("x-amz-storage-class", "STANDARD")])).unwrap().unwrap();
        assert_eq!(hoisted.header("x-amz-acl"), Some("public-read"));
        assert_eq!(hoisted.header("x-amz-meta-a"), Some("b c"));
        assert_eq!(hoisted.header("x-amz-storage-class"), Some("STANDARD"));
        assert_eq!(hoisted.headers.len(), 3);
    }

    #[test]
    fn without_such_parameters_the_head_stays_as_it_is() {
        assert!(hoist_headers(&head("X-Amz-Signature=1&prefix=x-amz-acl", &[])).unwrap().is_none());
    }

    #[test]
    fn a_hoisted_value_cannot_smuggle_lines() {
        assert!(hoist_headers(&head("x-amz-meta-a=b%0d%0ac", &[])).is_err());
    }
}
