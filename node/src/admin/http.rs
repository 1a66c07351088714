//! Just enough HTTP/1.1 for a few pages, and for changing them: one request per connection.

use std::io;
use std::time::Duration;

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use compio::net::TcpStream;

/// A head may be so long.
const HEAD_LEN_MAX: usize = 8 * 1024;

/// A body may be so long.
const BODY_LEN_MAX: usize = 8 * 1024;

/// A request may take so long, from connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a request wants of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET or HEAD.
    Get,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// Whether only the head of the answer is asked for.
    is_head: bool,
    /// The path, as it came.
    pub path: String,
    /// What came behind the head.
    pub body: Vec<u8>,
}

#[cfg(test)]
impl Request {
    pub(super) fn new(method: Method, path: &str, body: &str) -> Self {
        Request { method, is_head: false, path: path.to_owned(), body: body.as_bytes().to_vec() }
    }
}

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

    /// A JSON document.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Answer { status, content_type: "application/json", body: format!("{value:#}\n") }
    }

    fn encode(&self, is_head: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
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

/// Serves one connection: asks `answer` for what its request wants.
pub async fn serve(mut socket: TcpStream, answer: impl AsyncFnOnce(Request) -> Answer) {
    let exchange = async {
        let (answer, is_head) = match read(&mut socket).await? {
            Ok(request) => {
                let is_head = request.is_head;
                (answer(request).await, is_head)
            }
            Err(refusal) => (refusal, false),
        };
        let BufResult(result, _) = socket.write_all(answer.encode(is_head)).await;
        result?;
        AsyncWrite::shutdown(&mut socket).await
    };
    // A client that is too slow, or gone, gets nothing more.
    let _ = compio::time::timeout(TIMEOUT, exchange).await;
}

/// The whole request, or what it is refused with.
async fn read(socket: &mut TcpStream) -> io::Result<Result<Request, Answer>> {
    let mut received = Vec::with_capacity(HEAD_LEN_MAX);
    let head_len = loop {
        if let Some(end) = received.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        if received.len() >= HEAD_LEN_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        received = read_more(socket, received).await?;
    };
    let (mut request, body_len) = match parse(&received[..head_len]) {
        Ok(parsed) => parsed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if body_len > BODY_LEN_MAX {
        return Ok(Err(Answer::text(400, "the body is too long\n")));
    }
    while received.len() < head_len + body_len {
        received.reserve(head_len + body_len - received.len());
        received = read_more(socket, received).await?;
    }
    request.body = received[head_len..head_len + body_len].to_vec();
    Ok(Ok(request))
}

async fn read_more(socket: &mut TcpStream, received: Vec<u8>) -> io::Result<Vec<u8>> {
    let len = received.len();
    let BufResult(result, slice) = socket.read(received.slice(len..)).await;
    if result? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(slice.into_inner())
}

/// The request of a head, without its body, and how long that is.
fn parse(head: &[u8]) -> Result<(Request, usize), Answer> {
    let not_http = || Answer::text(400, "not an HTTP/1.1 request\n");
    let text = std::str::from_utf8(head).map_err(|_| not_http())?;
    let mut lines = text.split("\r\n");
    let mut parts = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(not_http());
    };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (method, is_head) = match method {
        "GET" => (Method::Get, false),
        "HEAD" => (Method::Get, true),
        "PUT" => (Method::Put, false),
        "DELETE" => (Method::Delete, false),
        _ => return Err(Answer::text(405, "only GET, HEAD, PUT and DELETE\n")),
    };
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let len = match headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        Some((_, len)) => {
            len.trim().parse().map_err(|_| Answer::text(400, "Content-Length is no number\n"))?
        }
        None => 0,
    };
    Ok((Request { method, is_head, path, body: Vec::new() }, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_what_stands_before_the_query() {
        let parsed =
            |head: &[u8]| parse(head).ok().map(|(request, len)| (request.path, request.is_head, len));
        assert_eq!(parsed(b"GET /metrics?x=1 HTTP/1.1\r\n\r\n"), Some(("/metrics".to_owned(), false, 0)));
        assert_eq!(parsed(b"HEAD /healthz HTTP/1.0\r\n\r\n"), Some(("/healthz".to_owned(), true, 0)));
        let put = b"PUT /rates/b HTTP/1.1\r\ncontent-Length: 12\r\n\r\n";
        assert_eq!(parsed(put), Some(("/rates/b".to_owned(), false, 12)));
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
