//! The metadata that a client gives an object and gets back: system headers and `x-amz-meta-*`.
//!
//! They are kept as pairs of a lowercase name and the bytes of the wire, in a fixed order for system headers and in the
//! client's for the rest. Content-Encoding is kept without `aws-chunked`, which describes the request, not the object.
//!
//! Values that are not ASCII come back as AWS's "Working with object metadata" describes: read as ISO 8859-1, written as
//! UTF-8 in an encoded word of RFC 2047.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::{RequestHead, Response};
use crate::{Code, Error, Limits};

/// The prefix of user metadata.
const USER_PREFIX: &str = "x-amz-meta-";

/// System headers that are kept: the stored name, and the name in responses.
const SYSTEM: [(&str, &str); 6] = [
    ("cache-control", "Cache-Control"),
    ("content-disposition", "Content-Disposition"),
    ("content-encoding", "Content-Encoding"),
    ("content-language", "Content-Language"),
    ("content-type", "Content-Type"),
    ("expires", "Expires"),
];

/// What AWS answers for objects that were stored without a Content-Type.
const CONTENT_TYPE_DEFAULT: &[u8] = b"binary/octet-stream";

/// The metadata of an object, as pairs of a lowercase name and a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    pairs: Vec<(String, Vec<u8>)>,
}

impl ObjectHeaders {
    /// Reads the metadata of a PUT, a copy or a new upload. A name that comes twice gets both values, with a comma.
    ///
    /// Errors: `MetadataTooLarge` when names (without prefix) and values of user metadata exceed the limit together.
    pub fn from_head(head: &RequestHead, limits: &Limits) -> Result<Self, Error> {
        let mut pairs = Vec::new();
        for (name, _) in SYSTEM {
            let value = if name == "content-encoding" {
                content_encoding(head)
            } else {
                head.header_bytes(name).map(<[u8]>::to_vec)
            };
            pairs.extend(value.map(|value| (name.to_owned(), value)));
        }
        let user_from = pairs.len();
        for (name, value) in head.headers.iter().filter(|(name, _)| name.starts_with(USER_PREFIX)) {
            match pairs[user_from..].iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => {
                    known.push(b',');
                    known.extend_from_slice(value);
                }
                None => pairs.push((name.to_owned(), value.to_vec())),
            }
        }
        check_len(&pairs[user_from..], limits)?;
        Ok(ObjectHeaders { pairs })
    }

    /// Metadata as it was stored.
    pub fn from_pairs(pairs: Vec<(String, Vec<u8>)>) -> Self {
        ObjectHeaders { pairs }
    }

    /// The pairs, to be stored.
    pub fn pairs(&self) -> &[(String, Vec<u8>)] {
        &self.pairs
    }

    /// The pairs, to be stored.
    pub fn into_pairs(self) -> Vec<(String, Vec<u8>)> {
        self.pairs
    }

    /// The value of that (lowercase) name.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// Adds system headers, unless `overrides` has them, and user metadata to a response.
    pub(crate) fn render_into(&self, overrides: &ObjectHeaders, response: &mut Response) {
        for (name, wire_name) in SYSTEM {
            let value = overrides.value(name).or_else(|| self.value(name));
            let default = (name == "content-type").then_some(CONTENT_TYPE_DEFAULT);
            if let Some(value) = value.or(default) {
                response.headers.push((wire_name.into(), value.to_vec()));
            }
        }
        for (name, value) in self.pairs.iter().filter(|(name, _)| name.starts_with(USER_PREFIX)) {
            response.headers.push((name.clone().into(), to_ascii(value)));
        }
    }

    /// The headers that a 304 repeats (RFC 9110, section 15.4.5).
    pub(crate) fn render_caching_into(&self, response: &mut Response) {
        for (name, wire_name) in SYSTEM {
            if let Some(value) = self.value(name).filter(|_| matches!(name, "cache-control" | "expires")) {
                response.headers.push((wire_name.into(), value.to_vec()));
            }
        }
    }
}

/// Content-Encoding without `aws-chunked`; `None` when nothing is left.
fn content_encoding(head: &RequestHead) -> Option<Vec<u8>> {
    let codings: Vec<&[u8]> = head
        .header_all("content-encoding")
        .flat_map(|value| value.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"aws-chunked"))
        .collect();
    (!codings.is_empty()).then(|| codings.join(&b','))
}

fn check_len(user_pairs: &[(String, Vec<u8>)], limits: &Limits) -> Result<(), Error> {
    let len: usize =
        user_pairs.iter().map(|(name, value)| name.len() - USER_PREFIX.len() + value.len()).sum();
    if len > limits.user_metadata_len_max {
        return Err(Error::new(Code::MetadataTooLarge)
            .detail("Size", len.to_string())
            .detail("MaxSizeAllowed", limits.user_metadata_len_max.to_string()));
    }
    Ok(())
}

/// The value as it is, or as an encoded word of RFC 2047 when it is not ASCII.
fn to_ascii(value: &[u8]) -> Vec<u8> {
    if value.is_ascii() {
        return value.to_vec();
    }
    let text: String = value.iter().map(|byte| char::from(*byte)).collect();
    format!("=?UTF-8?B?{}?=", STANDARD.encode(text)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{head, header};

    fn stored(headers: &[(&str, &str)]) -> ObjectHeaders {
        ObjectHeaders::from_head(&head("PUT", "/b/k", headers), &Limits::default()).unwrap()
    }

    fn rendered(headers: &ObjectHeaders, overrides: &ObjectHeaders) -> Response {
        let mut response = Response::new(200);
        headers.render_into(overrides, &mut response);
        response
    }

    #[test]
    fn system_and_user_headers_are_kept_and_others_are_not() {
        let headers = stored(&[
            ("x-amz-meta-b", "2"),
            ("expires", "never"),
            ("content-type", "text/plain"),
            ("content-length", "5"),
            ("x-amz-acl", "private"),
            ("x-amz-meta-a", "1"),
        ]);
        let names: Vec<&str> = headers.pairs().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "expires", "x-amz-meta-b", "x-amz-meta-a"]);
        let response = rendered(&headers, &ObjectHeaders::default());
        assert_eq!(header(&response, "Content-Type"), Some("text/plain"));
        assert_eq!(header(&response, "Expires"), Some("never"));
        assert_eq!(header(&response, "x-amz-meta-a"), Some("1"));
        assert_eq!(response.headers.len(), 4);
    }

    #[test]
    fn aws_chunked_is_not_an_encoding_of_the_object() {
        assert_eq!(stored(&[("content-encoding", "aws-chunked")]).pairs(), []);
        let both = stored(&[("content-encoding", "aws-chunked, gzip")]);
        assert_eq!(both.value("content-encoding"), Some(&b"gzip"[..]));
        let lines = stored(&[("content-encoding", "gzip"), ("content-encoding", "AWS-Chunked,br")]);
        assert_eq!(lines.value("content-encoding"), Some(&b"gzip,br"[..]));
    }

    #[test]
    fn a_name_that_comes_twice_gets_both_values() {
        assert_eq!(
            stored(&[("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")]).value("x-amz-meta-a"),
            Some(&b"1,2"[..])
        );
    }

    #[test]
    fn user_metadata_is_limited_without_its_prefix() {
        let fits = "v".repeat(2047);
        stored(&[("x-amz-meta-a", &fits)]);
        let over = head("PUT", "/b/k", &[("x-amz-meta-a", &fits), ("x-amz-meta-b", "")]);
        let error = ObjectHeaders::from_head(&over, &Limits::default()).unwrap_err();
        assert_eq!(error.code, Code::MetadataTooLarge);
    }

    #[test]
    fn values_that_are_not_ascii_come_back_as_aws_documents() {
        let headers = stored(&[("x-amz-meta-nonascii", "ÄMÄZÕÑ S3")]);
        let response = rendered(&headers, &ObjectHeaders::default());
        assert_eq!(
            header(&response, "x-amz-meta-nonascii"),
            Some("=?UTF-8?B?w4PChE3Dg8KEWsODwpXDg8KRIFMz?=")
        );
    }

    #[test]
    fn overrides_win_and_there_is_always_a_content_type() {
        let overrides = ObjectHeaders::from_pairs(vec![("content-type".into(), b"a/b".to_vec())]);
        let headers = stored(&[("content-type", "text/plain")]);
        assert_eq!(header(&rendered(&headers, &overrides), "Content-Type"), Some("a/b"));
        let bare = rendered(&ObjectHeaders::default(), &ObjectHeaders::default());
        assert_eq!(header(&bare, "Content-Type"), Some("binary/octet-stream"));
    }
}
