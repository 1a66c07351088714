//! One HTTP/1.1 connection, over TCP or TLS, that is kept for the next request whenever both sides agree.
//!
//! The connection is strict about what a server may send: a body has a length or is chunked, and it must arrive whole.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use super::endpoint::Endpoint;
use super::error::Error;

/// No server that works is silent for so long.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A response head; AWS's own are well under a kilobyte plus 2 KiB of metadata.
const HEAD_LEN_MAX: usize = 64 * 1024;
const BUFFER_LEN: usize = 128 * 1024;

/// Status and headers of a response.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl ResponseHead {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| Error::protocol(format!("status line {status_line:?}")))?;
        let mut headers = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) =
                line.split_once(':').ok_or_else(|| Error::protocol(format!("header {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Self { status, headers })
    }

    fn keeps_alive(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn body_framing(&self, method: &str) -> Result<Framing, Error> {
        if method == "HEAD" || self.status == 204 || self.status == 304 {
            return Ok(Framing::Length(0));
        }
        match (self.header("transfer-encoding"), self.header("content-length")) {
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (None, Some(len)) => {
                let len = len.parse().map_err(|_| Error::protocol(format!("Content-Length {len:?}")))?;
                Ok(Framing::Length(len))
            }
            (coding, len) => Err(Error::protocol(format!(
                "a body framed by Transfer-Encoding {coding:?} and Content-Length {len:?}"
            ))),
        }
    }
}

enum Framing {
    Length(u64),
    Chunked,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// An open connection with nothing in flight between requests.
pub(super) struct Connection {
    stream: Stream,
    /// Bytes received and not yet used are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    pub fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, endpoint.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SILENCE_MAX))?;
        tcp.set_write_timeout(Some(SILENCE_MAX))?;
        let stream = match &endpoint.tls {
            None => Stream::Plain(tcp),
            Some((name, config)) => {
                let connection =
                    ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(connection, tcp)))
            }
        };
        Ok(Self { stream, buffer: vec![0; BUFFER_LEN], start: 0, end: 0 })
    }

    /// The server has closed, or sent what nobody asked for: not fit for another request.
    pub fn is_stale(&mut self) -> bool {
        if self.start < self.end {
            return true;
        }
        match &mut self.stream {
            Stream::Plain(tcp) => {
                let seen = without_blocking(tcp, |tcp| tcp.peek(&mut [0; 1]));
                !seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            Stream::Tls(tls) => !is_tls_idle(tls),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }

    /// The next response head that is not an interim one.
    pub fn read_head(&mut self) -> Result<ResponseHead, Error> {
        loop {
            let head = self.read_one_head()?;
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    fn read_one_head(&mut self) -> Result<ResponseHead, Error> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
                let head_len = searched + at;
                let text = std::str::from_utf8(&unread[..head_len])
                    .map_err(|_| Error::protocol("a response head that is not UTF-8"))?;
                let head = ResponseHead::parse(text)?;
                self.start += head_len + 4;
                return Ok(head);
            }
            if unread.len() > HEAD_LEN_MAX {
                return Err(Error::protocol("a response head without an end"));
            }
            searched = unread.len().saturating_sub(3);
            self.fill()?;
        }
    }

    /// Hands the whole body to `take`, piece by piece. Returns whether the connection may be used again.
    pub fn read_body(
        &mut self,
        method: &str,
        head: &ResponseHead,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        match head.body_framing(method)? {
            Framing::Length(len) => self.read_exactly(len, take)?,
            Framing::Chunked => self.read_chunks(take)?,
        }
        Ok(head.keeps_alive())
    }

    fn read_exactly(&mut self, len: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let mut rest = len;
        while rest > 0 {
            if self.start == self.end {
                self.fill()?;
            }
            let count = rest.min((self.end - self.start) as u64) as usize;
            take(&self.buffer[self.start..self.start + count]);
            self.start += count;
            rest -= count as u64;
        }
        Ok(())
    }

    fn read_chunks(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        loop {
            let line = self.read_line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let len = u64::from_str_radix(digits, 16)
                .map_err(|_| Error::protocol(format!("chunk size {line:?}")))?;
            if len == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(());
            }
            self.read_exactly(len, take)?;
            if !self.read_line()?.is_empty() {
                return Err(Error::protocol("a chunk longer than its size"));
            }
        }
    }

    fn read_line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() > HEAD_LEN_MAX {
                return Err(Error::protocol("a chunk size line without an end"));
            }
            self.read_exactly(1, &mut |byte| line.extend_from_slice(byte))?;
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(|_| Error::protocol("a chunk size line that is not UTF-8"))
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = &mut self.buffer[self.end..];
        let count = match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(room)?,
            Stream::Tls(tls) => tls.read(room)?,
        };
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed in mid-answer"));
        }
        self.end += count;
        Ok(())
    }
}

fn without_blocking<T>(
    tcp: &mut TcpStream,
    act: impl FnOnce(&mut TcpStream) -> io::Result<T>,
) -> io::Result<T> {
    tcp.set_nonblocking(true)?;
    let result = act(tcp);
    tcp.set_nonblocking(false)?;
    result
}

/// Takes in what waits unread: session tickets may, a goodbye or data may not.
fn is_tls_idle(tls: &mut StreamOwned<ClientConnection, TcpStream>) -> bool {
    loop {
        match without_blocking(&mut tls.sock, |tcp| tls.conn.read_tls(tcp)) {
            Ok(0) => return false,
            Ok(_) => match tls.conn.process_new_packets() {
                Ok(state) if !state.peer_has_closed() && state.plaintext_bytes_to_read() == 0 => {}
                _ => return false,
            },
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
