//! Where a body ends, and what becomes of the connection after it.

use crate::encoding;
use crate::error::{Code, Error};
use crate::http::request::RequestHead;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body was announced.
    None,
    /// That many bytes follow the head.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The framing of a request's body. `BadRequest` when it is ambiguous (RFC 9112, 6.3): two lengths, even equal ones; a
/// length that is not digits; a length beside a transfer coding; a coding other than `chunked` alone; any coding in
/// HTTP/1.0.
pub fn framing(head: &RequestHead) -> Result<Framing, Error> {
    let content_length = single_value(head, "content-length")?;
    let transfer_encoding = single_value(head, "transfer-encoding")?;
    match (content_length, transfer_encoding) {
        (None, None) => Ok(Framing::None),
        (Some(length), None) => match encoding::decimal(length) {
            Some(length) => Ok(Framing::Length(length)),
            None => Err(bad_request("The Content-Length header is not a number.")),
        },
        (None, Some(coding)) if head.minor_version == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (None, Some(_)) => Err(bad_request("The only Transfer-Encoding understood is chunked, in HTTP/1.1.")),
        (Some(_), Some(_)) => {
            Err(bad_request("Content-Length and Transfer-Encoding must not come together."))
        }
    }
}

fn single_value<'a>(head: &'a RequestHead, name: &'static str) -> Result<Option<&'a [u8]>, Error> {
    let mut values = head.header_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(bad_request("A header that frames the body is there more than once."));
    }
    Ok(first)
}

fn bad_request(message: &'static str) -> Error {
    Error::with_message(Code::BadRequest, message)
}

/// Whether the client expects the connection to go on after this request.
pub fn keeps_alive(head: &RequestHead) -> bool {
    let has_option = |wanted: &[u8]| {
        head.headers.values("connection").any(|value| {
            value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted))
        })
    };
    !has_option(b"close") && (head.minor_version == 1 || has_option(b"keep-alive"))
}

/// Whether the client waits for `100 Continue` before it sends the body.
pub fn expects_continue(head: &RequestHead) -> bool {
    head.minor_version == 1
        && head.header_bytes("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::Method;

    fn head(minor_version: u8, headers: &[(&str, &str)]) -> RequestHead {
        RequestHead {
            method: Method::Put,
            raw_path: "/".into(),
            raw_query: String::new(),
            minor_version,
            headers: headers.iter().copied().collect(),
        }
    }

    #[test]
    fn a_body_is_framed_by_one_header() {
        assert_eq!(framing(&head(1, &[])).unwrap(), Framing::None);
        assert_eq!(framing(&head(1, &[("content-length", "0")])).unwrap(), Framing::Length(0));
        assert_eq!(
            framing(&head(1, &[("content-length", "18446744073709551615")])).unwrap(),
            Framing::Length(u64::MAX)
        );
        assert_eq!(framing(&head(1, &[("transfer-encoding", "Chunked")])).unwrap(), Framing::Chunked);
    }

    #[test]
    fn the_connection_goes_on_unless_one_side_says_otherwise() {
        for (minor_version, connection, expected) in [
            (1, "", true),
            (1, "close", false),
            (1, "Keep-Alive, CLOSE", false),
            (1, "closed", true),
            (0, "", false),
            (0, "keep-alive", true),
            (0, "keep-alive, close", false),
        ] {
            let head = head(minor_version, &[("connection", connection)]);
            assert_eq!(keeps_alive(&head), expected, "1.{minor_version} {connection}");
        }
    }

    #[test]
    fn only_http_1_1_can_expect_continue() {
        assert!(expects_continue(&head(1, &[("expect", "100-Continue")])));
        assert!(!expects_continue(&head(0, &[("expect", "100-continue")])));
        assert!(!expects_continue(&head(1, &[("expect", "200-ok")])));
        assert!(!expects_continue(&head(1, &[])));
    }
}
