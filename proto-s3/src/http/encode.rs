//! Responses to wire bytes.

use std::io::Write;

use crate::http::response::{Response, ResponseBody};

/// The interim response that asks a waiting client for its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What every response carries beside its own headers.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// `x-amz-request-id`
    pub request_id: &'a str,
    /// `x-amz-id-2`
    pub host_id: &'a str,
    /// `Date`, as [`crate::time::http_date`] writes it.
    pub date: &'a str,
    /// `Server`
    pub server: &'a str,
    /// `Server-Timing`
    pub server_timing: Option<&'a str>,
    /// Whether the connection goes on; else `Connection: close` is said.
    pub keep_alive: bool,
}

/// Appends the whole head, and the body when it is [`ResponseBody::Bytes`]; a stream is left to the caller.
///
/// Bytes in header values that could end a line are sent as spaces: no value splits a response.
pub fn encode_response(response: &Response, context: &ResponseContext<'_>, out: &mut Vec<u8>) {
    let (status, reason) = (response.status, reason(response.status));
    out.reserve(512);
    write!(out, "HTTP/1.1 {status} {reason}\r\n").expect("writing to a Vec does not fail");
    push_header(out, "x-amz-id-2", context.host_id.as_bytes());
    push_header(out, "x-amz-request-id", context.request_id.as_bytes());
    push_header(out, "Date", context.date.as_bytes());
    for (name, value) in &response.headers {
        push_header(out, name, value);
    }
    if let Some(len) = content_length(response) {
        write!(out, "Content-Length: {len}\r\n").expect("writing to a Vec does not fail");
    }
    push_header(out, "Server", context.server.as_bytes());
    if let Some(timing) = context.server_timing {
        push_header(out, "Server-Timing", timing.as_bytes());
    }
    if !context.keep_alive {
        push_header(out, "Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if let ResponseBody::Bytes(bytes) = &response.body {
        out.extend_from_slice(bytes);
    }
}

/// The length to state; 204 and 304 state none (RFC 9110, 8.6).
fn content_length(response: &Response) -> Option<u64> {
    match &response.body {
        ResponseBody::Empty if response.status == 204 || response.status == 304 => None,
        ResponseBody::Empty => Some(0),
        ResponseBody::Bytes(bytes) => Some(bytes.len() as u64),
        ResponseBody::Stream { len } | ResponseBody::HeadOnly { len } => Some(*len),
    }
}

fn push_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let begin = out.len();
    out.extend_from_slice(value);
    for byte in &mut out[begin..] {
        // Without a branch, so that the compiler vectorises it.
        let is_control = (*byte < 0x20 || *byte == 0x7f) && *byte != b'\t';
        *byte = if is_control { b' ' } else { *byte };
    }
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of the statuses that S3 uses.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        416 => "Requested Range Not Satisfiable",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn encoded(response: &Response, keep_alive: bool) -> String {
        let mut out = Vec::new();
        let context = ResponseContext {
            request_id: "R",
            host_id: "H",
            date: "D",
            server: "S",
            server_timing: None,
            keep_alive,
        };
        encode_response(response, &context, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_document_follows_its_head() {
        assert_eq!(
            encoded(&Response::xml(200, b"<a/>".to_vec()).header("ETag", "\"x\""), true),
            "HTTP/1.1 200 OK\r\nx-amz-id-2: H\r\nx-amz-request-id: R\r\nDate: D\r\nContent-Type: application/xml\r\n\
             ETag: \"x\"\r\nContent-Length: 4\r\nServer: S\r\n\r\n<a/>"
        );
    }

    #[test]
    fn a_stream_and_a_head_only_answer_state_their_length() {
        for body in [ResponseBody::Stream { len: 7 }, ResponseBody::HeadOnly { len: 7 }] {
            let text = encoded(&Response::new(200).with_body(body), true);
            assert!(text.contains("\r\nContent-Length: 7\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        }
    }

    #[test]
    fn only_no_content_and_not_modified_state_no_length() {
        assert!(!encoded(&Response::new(204), true).contains("Content-Length"));
        assert!(!encoded(&Response::new(304), true).contains("Content-Length"));
        assert!(encoded(&Response::new(200), true).contains("\r\nContent-Length: 0\r\n"));
    }

    #[test]
    fn the_end_of_the_connection_is_announced() {
        assert!(encoded(&Response::new(200), false).contains("\r\nConnection: close\r\n"));
        assert!(!encoded(&Response::new(200), true).contains("Connection"));
    }

    #[test]
    fn a_value_cannot_split_the_response() {
        let text = encoded(&Response::new(200).header("A", b"b\r\nSet-Cookie: c\0\x7f\td".to_vec()), true);
        assert!(text.contains("\r\nA: b  Set-Cookie: c  \td\r\n"), "{text:?}");
    }

    #[test]
    fn every_error_code_has_a_reason_phrase() {
        for code in Code::ALL {
            assert_ne!(reason(code.status()), "Unknown", "{code:?}");
        }
    }
}
