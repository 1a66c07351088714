//! Just enough HTTP/1.1 for GET and HEAD of two pages: one request per connection.

use std::io;
use std::time::Duration;

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::TcpStream;

/// A head may be so long.
const HEAD_LEN_MAX: usize = 8 * 1024;

/// A request may take so long, from connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is answered.
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Content-Type.
    pub content_type: &'static str,
    /// The page.
    pub body: String,
}

impl Answer {
    /// A line of text.
    pub fn text(status: u16, body: &str) -> Self {
        Answer { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }

    fn encode(&self, is_head: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Service Unavailable",
        };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        let body = if is_head { "" } else { &self.body };
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

/// Serves one connection: asks `answer` for the page at the path of its request.
pub async fn serve(mut socket: TcpStream, answer: impl AsyncFnOnce(String) -> Answer) {
    let exchange = async {
        let head = read_head(&mut socket).await?;
        let (answer, is_head) = match parse(&head) {
            Ok((path, is_head)) => (answer(path).await, is_head),
            Err(refusal) => (refusal, false),
        };
        let BufResult(result, _) = socket.write_all(answer.encode(is_head)).await;
        result?;
        AsyncWrite::shutdown(&mut socket).await
    };
    // A client that is too slow, or gone, gets nothing more.
    let _ = compio::time::timeout(TIMEOUT, exchange).await;
}

async fn read_head(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_LEN_MAX);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let len = head.len();
        if len >= HEAD_LEN_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let BufResult(result, slice) = socket.read(head.slice(len..)).await;
        head = slice.into_inner();
        if result? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The path, and whether only the head is asked for.
fn parse(head: &[u8]) -> Result<(String, bool), Answer> {
    let line = head
        .split(|byte| *byte == b'\r')
        .next()
        .and_then(|line| std::str::from_utf8(line).ok())
        .unwrap_or_default();
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Answer::text(400, "not an HTTP/1.1 request\n"));
    };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    match method {
        "GET" => Ok((path, false)),
        "HEAD" => Ok((path, true)),
        _ => Err(Answer::text(405, "only GET and HEAD\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_what_stands_before_the_query() {
        assert_eq!(parse(b"GET /metrics?x=1 HTTP/1.1\r\n\r\n").ok(), Some(("/metrics".to_owned(), false)));
        assert_eq!(parse(b"HEAD /healthz HTTP/1.0\r\n\r\n").ok(), Some(("/healthz".to_owned(), true)));
    }

    #[test]
    fn what_is_no_request_for_a_page_is_refused() {
        let status = |head: &[u8]| parse(head).err().map(|answer| answer.status);
        assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n"), Some(405));
        for head in [
            &b"\x16\x03\x01"[..],
            b"GET / HTTP/2\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / x HTTP/1.1\r\n\r\n",
            b"\xff\r\n",
        ] {
            assert_eq!(status(head), Some(400));
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body_but_its_length() {
        let answer = Answer::text(200, "ok\n");
        let text = String::from_utf8(answer.encode(true)).expect("text");
        assert!(text.contains("Content-Length: 3\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
