//! Headers that a presigned URL carries as parameters.
//!
//! Signers that know only the URL put the headers that the request should have (`x-amz-acl`, `x-amz-meta-*`,
//! checksums) into the query, where the signature covers them; S3 reads them as if they were headers.

use crate::error::{Code, Error};
use crate::http::RequestHead;
use crate::uri::{self, Plus};

/// Parameters of the signature itself, which stay where they are.
const SIGNATURE_PARAMETERS: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// Adds every `x-amz-*` parameter of the query as a header, unless the header is there already. For verified presigned
/// requests, before routing. `InvalidURI` when the query does not decode, or to something that no header could hold.
pub fn adopt_query_headers(head: &mut RequestHead) -> Result<(), Error> {
    let mut adopted: Vec<(String, Vec<u8>)> = Vec::new();
    for (raw_name, raw_value) in uri::query_pairs(&head.raw_query) {
        let mut name = uri::decode_utf8(raw_name, Plus::Space)?;
        name.make_ascii_lowercase();
        if name.starts_with("x-amz-")
            && !SIGNATURE_PARAMETERS.contains(&name.as_str())
            && head.header_bytes(&name).is_none()
        {
            let value = uri::decode(raw_value, Plus::Space)?.trim_ascii().to_vec();
            if !is_header(&name, &value) {
                return Err(Code::InvalidURI.into());
            }
            adopted.push((name, value));
        }
    }
    head.headers.extend(adopted);
    Ok(())
}

/// Whether the pair could have stood in the head.
fn is_header(name: &str, value: &[u8]) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    name.bytes().all(is_token) && value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Method;

    fn head(raw_query: &str) -> RequestHead {
        RequestHead {
            method: Method::Put,
            raw_path: "/".into(),
            raw_query: raw_query.into(),
            minor_version: 1,
            headers: [("x-amz-acl", b"private")].into_iter().collect(),
        }
    }

    #[test]
    fn parameters_become_headers_unless_they_sign_or_are_there() {
        let mut head = head("X-Amz-Date=x&x-id=PutObject&x-amz-acl=public-read&X-Amz-Meta-A=b%20c&prefix=p");
        adopt_query_headers(&mut head).unwrap();
        assert_eq!(
            head.headers.iter().collect::<Vec<_>>(),
            [("x-amz-acl", &b"private"[..]), ("x-amz-meta-a", b"b c")]
        );
    }

    #[test]
    fn what_no_header_could_hold_is_refused() {
        for query in ["x-amz-meta-a=b%0d%0ac", "x-amz-meta-a%3a=b", "x-amz-meta-a%0a=b", "x-amz-meta-a=%00"] {
            assert_eq!(adopt_query_headers(&mut head(query)).unwrap_err().code, Code::InvalidURI, "{query}");
        }
    }
}
