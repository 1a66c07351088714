//! The strict parser of request heads.
//!
//! `httparse` finds the parts with SIMD; this file refuses what it lets through and what smuggling is made of:
//! bare CR or LF, a body announced twice, a Host that is missing, doubled or differs from the target. A head that
//! passes here has one meaning to every proxy in front of us. See RFC 9112, sections 2.2, 3, 5.1, 6.3 and 11.2.

use std::mem::MaybeUninit;

use crate::error::{Code, Error};
use crate::http::framing::framing;
use crate::http::headers::Headers;
use crate::http::request::{Method, RequestHead};
use crate::limits::Limits;

/// Headers that are parsed without an allocation for their table.
const HEADER_TABLE_LEN: usize = 128;

/// What the bytes so far amount to.
#[derive(Debug)]
pub enum Parsed {
    /// The head goes on after the bytes at hand.
    Partial,
    /// A whole head.
    Complete {
        /// The head.
        head: RequestHead,
        /// Bytes it took; the body or the next request follows.
        len: usize,
    },
}

/// Parses the head at the beginning of `buf`. Call again with more bytes after [`Parsed::Partial`].
///
/// Errors end the connection, since where the next request begins is no longer known: `RequestHeaderSectionTooLarge`
/// above the limits (also while partial), `MethodNotAllowed` for a method S3 does not have, `InvalidURI` for a target
/// that is not a path, `BadRequest` for everything else.
pub fn parse_head(buf: &[u8], limits: &Limits) -> Result<Parsed, Error> {
    let mut table = [const { MaybeUninit::uninit() }; HEADER_TABLE_LEN];
    let header_count_max = limits.header_count_max.min(HEADER_TABLE_LEN);
    let mut request = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_request_with_uninit_headers(&mut request, buf, &mut table[..header_count_max])
        .map_err(refusal)?;
    let len = match status {
        httparse::Status::Partial if buf.len() >= limits.head_len_max => return Err(too_large()),
        httparse::Status::Partial => {
            check_line_ends(buf)?;
            return Ok(Parsed::Partial);
        }
        httparse::Status::Complete(len) if len > limits.head_len_max => return Err(too_large()),
        httparse::Status::Complete(len) => len,
    };
    check_line_ends(&buf[..len])?;
    Ok(Parsed::Complete { head: owned_head(&request, len)?, len })
}

fn too_large() -> Error {
    Error::new(Code::RequestHeaderSectionTooLarge)
}

fn bad_request(message: &'static str) -> Error {
    Error::with_message(Code::BadRequest, message)
}

fn refusal(error: httparse::Error) -> Error {
    match error {
        httparse::Error::TooManyHeaders => too_large(),
        httparse::Error::Version => bad_request("Only HTTP/1.1 and HTTP/1.0 are spoken here."),
        httparse::Error::NewLine => bad_request("A line of the request head does not end with CR LF."),
        _ => bad_request("The request head is not well-formed."),
    }
}

/// Every LF must follow a CR and every CR precede an LF; the last byte may be a CR whose LF has not come yet.
fn check_line_ends(bytes: &[u8]) -> Result<(), Error> {
    let mut ends = memchr::memchr2_iter(b'\r', b'\n', bytes);
    while let Some(at) = ends.next() {
        let is_pair = bytes[at] == b'\r'
            && (at + 1 == bytes.len() || ends.next() == Some(at + 1) && bytes[at + 1] == b'\n');
        if !is_pair {
            return Err(bad_request("A line of the request head does not end with CR LF."));
        }
    }
    Ok(())
}

/// Copies and checks what `httparse` found.
fn owned_head(request: &httparse::Request<'_, '_>, len: usize) -> Result<RequestHead, Error> {
    let method = parse_method(request.method.unwrap_or_default())?;
    let target = parse_target(request.path.unwrap_or_default())?;
    let mut headers = Headers::with_capacity(request.headers.len(), len);
    for header in request.headers.iter() {
        headers.push(header.name, header.value.trim_ascii());
    }
    let head = RequestHead {
        method,
        raw_path: target.path.to_string(),
        raw_query: target.query.to_string(),
        minor_version: request.version.unwrap_or_default(),
        headers,
    };
    check_host(&head, target.authority)?;
    framing(&head)?;
    Ok(head)
}

fn parse_method(token: &str) -> Result<Method, Error> {
    const METHODS: [Method; 6] =
        [Method::Get, Method::Head, Method::Put, Method::Post, Method::Delete, Method::Options];
    METHODS.into_iter().find(|method| method.as_str() == token).ok_or_else(|| {
        Error::new(Code::MethodNotAllowed).detail("Method", token.chars().take(32).collect::<String>())
    })
}

/// The parts of a request target.
struct Target<'a> {
    /// Named by the absolute form only.
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

/// Reads the origin form, `/path?query`, and the absolute form, `http://host/path?query`.
fn parse_target(target: &str) -> Result<Target<'_>, Error> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Code::InvalidURI.into());
    }
    let (authority, rest) = if target.starts_with('/') {
        (None, target)
    } else {
        let rest = strip_scheme(target).ok_or(Code::InvalidURI)?;
        let path_offset = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(path_offset);
        (Some(authority), if rest.starts_with('/') { rest } else { return Err(Code::InvalidURI.into()) })
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok(Target { authority, path, query })
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// One Host in HTTP/1.1, at most one in 1.0, made of the characters of a host and port, and the same as the target's.
fn check_host(head: &RequestHead, authority: Option<&str>) -> Result<(), Error> {
    let mut hosts = head.header_all("host");
    let Some(host) = hosts.next() else {
        return if head.minor_version == 0 && authority.is_none() {
            Ok(())
        } else {
            Err(bad_request("The Host header is missing."))
        };
    };
    if hosts.next().is_some() {
        return Err(bad_request("The Host header is there more than once."));
    }
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    if host.is_empty() || !host.iter().all(is_host) {
        return Err(bad_request("The Host header is not a host and port."));
    }
    match authority {
        Some(authority) if !authority.as_bytes().eq_ignore_ascii_case(host) => {
            Err(bad_request("The Host header and the host of the request target differ."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(text: &str) -> (RequestHead, usize) {
        match parse_head(text.as_bytes(), &Limits::default()) {
            Ok(Parsed::Complete { head, len }) => (head, len),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn refused(text: impl AsRef<[u8]>) -> Code {
        match parse_head(text.as_ref(), &Limits::default()) {
            Err(error) => error.code,
            Ok(parsed) => panic!("{:?}: {parsed:?}", String::from_utf8_lossy(text.as_ref())),
        }
    }

    #[test]
    fn a_head_is_taken_apart() {
        let text = "PUT /b/k%20x?partNumber=1&uploadId=a?b HTTP/1.1\r\nHOST: h:9000\r\nX-Amz-Meta-A: \t v  w \t\r\n\
                    Content-Length: 3\r\nX-Empty:\r\n\r\nabcGET";
        let (head, len) = complete(text);
        assert_eq!(len, text.len() - 6);
        assert_eq!(head.method, Method::Put);
        assert_eq!(head.raw_path, "/b/k%20x");
        assert_eq!(head.raw_query, "partNumber=1&uploadId=a?b");
        assert_eq!(head.minor_version, 1);
        assert_eq!(head.header("host"), Some("h:9000"));
        assert_eq!(head.header("x-amz-meta-a"), Some("v  w"));
        assert_eq!(head.header("x-empty"), Some(""));
    }

    #[test]
    fn header_values_may_have_bytes_above_ascii() {
        let (head, _) = complete("GET / HTTP/1.1\r\nHost: h\r\nx-amz-meta-a: \u{e9}\r\n\r\n");
        assert_eq!(head.header_bytes("x-amz-meta-a"), Some("\u{e9}".as_bytes()));
    }

    #[test]
    fn every_proper_beginning_is_partial() {
        let text = "GET /b?x HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        for len in 0..text.len() {
            let parsed = parse_head(&text.as_bytes()[..len], &Limits::default());
            assert!(matches!(parsed, Ok(Parsed::Partial)), "{len}: {parsed:?}");
        }
    }

    #[test]
    fn what_smuggling_is_made_of_is_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\tfolded\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA\t: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA(: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA\u{e9}: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\u{7f}c\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / x HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
            "GET /\r\nHost: h\r\n\r\n",
            "GET / http/1.1\r\nHost: h\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(refused(head), Code::BadRequest, "{head:?}");
        }
    }

    #[test]
    fn a_bare_line_end_is_refused_before_the_head_is_whole() {
        for head in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\nHost: h", "GET / HTTP/1.1\r\nHost: h\nA: b"] {
            assert_eq!(refused(head), Code::BadRequest, "{head:?}");
        }
    }

    #[test]
    fn a_body_announced_ambiguously_is_refused() {
        for headers in [
            "Content-Length: 3\r\nContent-Length: 3",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3, 3",
            "Content-Length: +3",
            "Content-Length: -3",
            "Content-Length: 0x3",
            "Content-Length: 3 3",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding:",
        ] {
            assert_eq!(
                refused(format!("PUT / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n")),
                Code::BadRequest,
                "{headers}"
            );
        }
        assert_eq!(refused("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Code::BadRequest);
    }

    #[test]
    fn the_host_is_there_once_and_is_a_host() {
        for headers in
            ["A: b", "Host: h\r\nHost: h", "Host:", "Host: a b", "Host: a/b", "Host: u@h", "Host: h\u{e9}"]
        {
            assert_eq!(
                refused(format!("GET / HTTP/1.1\r\n{headers}\r\n\r\n")),
                Code::BadRequest,
                "{headers}"
            );
        }
        complete("GET / HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n");
        complete("GET / HTTP/1.0\r\n\r\n");
    }

    #[test]
    fn the_absolute_form_must_name_the_same_host() {
        let (head, _) = complete("GET http://H:1/b?q HTTP/1.1\r\nHost: h:1\r\n\r\n");
        assert_eq!((head.raw_path.as_str(), head.raw_query.as_str()), ("/b", "q"));
        assert_eq!(refused("GET http://other/b HTTP/1.1\r\nHost: h\r\n\r\n"), Code::BadRequest);
        assert_eq!(refused("GET http://h/b HTTP/1.0\r\n\r\n"), Code::BadRequest);
    }

    #[test]
    fn a_target_that_is_not_a_path_is_an_invalid_uri() {
        for target in ["*", "b", "h:443", "ftp://h/", "http://h", "http://h?q", "/a#b", "http:/"] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(refused(head), Code::InvalidURI, "{target}");
        }
        assert_eq!(refused("GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n"), Code::InvalidURI);
    }

    #[test]
    fn a_method_s3_does_not_have_is_not_allowed() {
        for method in ["PATCH", "get", "TRACE", "CONNECT", "PROPFIND"] {
            assert_eq!(refused(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")), Code::MethodNotAllowed);
        }
    }

    #[test]
    fn a_head_over_the_limits_is_too_large_even_before_it_ends() {
        let limits = Limits { head_len_max: 64, header_count_max: 2, ..Limits::default() };
        let code = |text: &str| parse_head(text.as_bytes(), &limits).map_err(|error| error.code);
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(64));
        assert_eq!(code(&long).unwrap_err(), Code::RequestHeaderSectionTooLarge);
        assert_eq!(code(&long[..64]).unwrap_err(), Code::RequestHeaderSectionTooLarge);
        assert!(matches!(code(&long[..63]), Ok(Parsed::Partial)));
        assert!(matches!(code("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"), Ok(Parsed::Complete { .. })));
        assert_eq!(
            code("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\n\r\n").unwrap_err(),
            Code::RequestHeaderSectionTooLarge
        );
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_accepted() {
        let mut head = String::from("GET / HTTP/1.1\r\nHost: h\r\nA: ");
        let limits = Limits::default();
        head.push_str(&"b".repeat(limits.head_len_max - head.len() - 4));
        head.push_str("\r\n\r\n");
        assert_eq!(complete(&head).1, limits.head_len_max);
        assert_eq!(refused(head.replace("A: ", "A: b")), Code::RequestHeaderSectionTooLarge);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_head(&bytes, &Limits::default());
        }

        #[test]
        fn a_damaged_head_never_panics_and_never_reads_past_its_end(
            index in 0usize..60, byte in any::<u8>()
        ) {
            let mut bytes = b"PUT /b/k?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789".to_vec();
            bytes[index] = byte;
            if let Ok(Parsed::Complete { len, .. }) = parse_head(&bytes, &Limits::default()) {
                prop_assert!(len <= bytes.len());
                prop_assert!(bytes[..len].ends_with(b"\r\n\r\n"));
            }
        }
    }
}
