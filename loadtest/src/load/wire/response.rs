//! Takes an HTTP/1.1 answer apart as it arrives. Strict: a body has a length or is chunked, and nothing may follow it.

use crate::load::failure::Failure;

/// AWS's own heads are well under a kilobyte plus 2 KiB of metadata.
const HEAD_LEN_MAX: usize = 64 * 1024;

/// Takes the body of an answer.
pub(in crate::load) trait Take {
    /// The head has come: its status, and the length of the body where one is named.
    fn begin(&mut self, status: u16, len: Option<u64>);
    /// A piece of the body.
    fn piece(&mut self, piece: &[u8]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    Done,
}

/// One answer, and what of it is still missing.
pub(in crate::load) struct Response {
    stage: Stage,
    /// A head or a line that has not arrived whole.
    partial: Vec<u8>,
    is_to_head: bool,
    pub status: u16,
    pub keeps_alive: bool,
    /// Without quotes; only where it was asked for.
    pub etag: String,
    pub wants_etag: bool,
}

impl Response {
    pub fn new() -> Self {
        let (partial, etag) = (Vec::new(), String::new());
        Self {
            stage: Stage::Done,
            partial,
            is_to_head: false,
            status: 0,
            keeps_alive: true,
            etag,
            wants_etag: false,
        }
    }

    /// Makes it ready for the answer to another request.
    pub fn expect(&mut self, is_to_head: bool, wants_etag: bool) {
        self.stage = Stage::Head;
        self.partial.clear();
        (self.is_to_head, self.wants_etag) = (is_to_head, wants_etag);
        (self.status, self.keeps_alive) = (0, true);
        self.etag.clear();
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Nothing of it has arrived.
    pub fn is_untouched(&self) -> bool {
        self.stage == Stage::Head && self.partial.is_empty()
    }

    /// Takes what arrived.
    pub fn take(&mut self, mut bytes: &[u8], body: &mut impl Take) -> Result<(), Failure> {
        while !bytes.is_empty() {
            bytes = match self.stage {
                Stage::Done => return Err(Failure::protocol("bytes after the end of an answer")),
                Stage::Head => self.take_head(bytes, body)?,
                Stage::Length(rest) => {
                    let (piece, after) = split(bytes, rest);
                    body.piece(piece);
                    let rest = rest - piece.len() as u64;
                    self.stage = if rest == 0 { Stage::Done } else { Stage::Length(rest) };
                    after
                }
                Stage::Chunk(rest) => {
                    let (piece, after) = split(bytes, rest);
                    body.piece(piece);
                    let rest = rest - piece.len() as u64;
                    self.stage = if rest == 0 { Stage::ChunkEnd } else { Stage::Chunk(rest) };
                    after
                }
                Stage::ChunkSize | Stage::ChunkEnd | Stage::Trailer => self.take_line(bytes)?,
            };
        }
        Ok(())
    }

    /// In the common case the whole head is in one record, and is read where it lies.
    fn take_head<'b>(&mut self, bytes: &'b [u8], body: &mut impl Take) -> Result<&'b [u8], Failure> {
        if self.partial.is_empty() {
            if let Some(len) = self.parse_head(bytes, body)? {
                return Ok(&bytes[len..]);
            }
            self.partial.extend_from_slice(bytes);
        } else {
            let before = self.partial.len();
            self.partial.extend_from_slice(bytes);
            let partial = std::mem::take(&mut self.partial);
            if let Some(len) = self.parse_head(&partial, body)? {
                return Ok(&bytes[len - before..]);
            }
            self.partial = partial;
        }
        if self.partial.len() > HEAD_LEN_MAX {
            return Err(Failure::protocol("a response head without an end"));
        }
        Ok(&[])
    }

    /// The length of the head, if it is there as a whole.
    fn parse_head(&mut self, bytes: &[u8], body: &mut impl Take) -> Result<Option<usize>, Failure> {
        let mut lines = Lines { bytes, at: 0 };
        let Some(status_line) = lines.next() else { return Ok(None) };
        let status = parse_status(status_line)?;
        let (mut len, mut is_chunked) = (None, false);
        loop {
            let Some(line) = lines.next() else { return Ok(None) };
            if line.is_empty() {
                break;
            }
            // Most headers are of no interest, and looking closer at each would be a good part of the client's own time.
            if !matches!(line[0] | 0x20, b'c' | b't' | b'e') {
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let colon = colon.ok_or_else(|| Failure::protocol(format!("header {}", text(line))))?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => len = Some(parse_len(value)?),
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    is_chunked = value.eq_ignore_ascii_case(b"chunked");
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    self.keeps_alive = !value.eq_ignore_ascii_case(b"close");
                }
                4 if self.wants_etag && name.eq_ignore_ascii_case(b"etag") => {
                    self.etag = text(value).trim_matches('"').to_owned();
                }
                _ => {}
            }
        }
        let head_len = lines.at;
        if status < 200 {
            // An interim answer: the real one follows.
            return Ok(Some(head_len));
        }
        self.status = status;
        body.begin(status, len);
        self.stage = match (is_chunked, len) {
            _ if self.is_to_head || status == 204 || status == 304 => Stage::Done,
            (true, None) => Stage::ChunkSize,
            (false, Some(0)) => Stage::Done,
            (false, Some(len)) => Stage::Length(len),
            _ => return Err(Failure::protocol("a body with neither or both of a length and chunks")),
        };
        Ok(Some(head_len))
    }

    fn take_line<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Failure> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.partial.extend_from_slice(bytes);
            if self.partial.len() > HEAD_LEN_MAX {
                return Err(Failure::protocol("a chunk without the end of its line"));
            }
            return Ok(&[]);
        };
        self.partial.extend_from_slice(&bytes[..end]);
        let line = std::mem::take(&mut self.partial);
        let line =
            line.strip_suffix(b"\r").ok_or_else(|| Failure::protocol("a line that ends without CR"))?;
        self.stage = match self.stage {
            Stage::ChunkSize => match parse_chunk_size(line)? {
                0 => Stage::Trailer,
                len => Stage::Chunk(len),
            },
            Stage::ChunkEnd if line.is_empty() => Stage::ChunkSize,
            Stage::Trailer if line.is_empty() => Stage::Done,
            Stage::Trailer => Stage::Trailer,
            _ => return Err(Failure::protocol("a chunk longer than its size")),
        };
        Ok(&bytes[end + 1..])
    }
}

/// Lines that end with CR LF, without it.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        self.at += end + 1;
        Some(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]))
    }
}

fn split(bytes: &[u8], rest: u64) -> (&[u8], &[u8]) {
    bytes.split_at(rest.min(bytes.len() as u64) as usize)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parse_status(line: &[u8]) -> Result<u16, Failure> {
    let digits = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.first_chunk::<3>());
    let status = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.ok_or_else(|| Failure::protocol(format!("status line {:?}", text(line))))
}

fn parse_len(value: &[u8]) -> Result<u64, Failure> {
    let is_number = !value.is_empty() && value.len() < 20 && value.iter().all(u8::is_ascii_digit);
    if !is_number {
        return Err(Failure::protocol(format!("Content-Length {:?}", text(value))));
    }
    Ok(value.iter().fold(0, |len, digit| len * 10 + u64::from(digit - b'0')))
}

fn parse_chunk_size(line: &[u8]) -> Result<u64, Failure> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    size.ok_or_else(|| Failure::protocol(format!("chunk size {:?}", text(line))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Taken {
        status: u16,
        len: Option<u64>,
        body: Vec<u8>,
    }

    impl Take for Taken {
        fn begin(&mut self, status: u16, len: Option<u64>) {
            (self.status, self.len) = (status, len);
        }

        fn piece(&mut self, piece: &[u8]) {
            self.body.extend_from_slice(piece);
        }
    }

    fn parse(text: &str, piece_len: usize, is_to_head: bool) -> Result<(Response, Taken), Failure> {
        let (mut response, mut taken) = (Response::new(), Taken::default());
        response.expect(is_to_head, true);
        for piece in text.as_bytes().chunks(piece_len) {
            response.take(piece, &mut taken)?;
        }
        Ok((response, taken))
    }

    #[test]
    fn an_answer_is_the_same_however_it_arrives() {
        let plain = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = "HTTP/1.1 200 OK\r\netag: \"e\"\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nt: 1\r\n\r\n";
        let after_interim = format!("HTTP/1.1 100 Continue\r\n\r\n{plain}");
        for text in [plain, chunked, &after_interim] {
            for piece_len in 1..=text.len() {
                let (response, taken) = parse(text, piece_len, false).unwrap();
                assert!(response.is_done() && response.keeps_alive);
                assert_eq!((taken.status, &taken.body[..]), (200, &b"hello"[..]));
                assert_eq!(response.etag, "e");
            }
        }
    }

    #[test]
    fn an_answer_without_a_body_is_done_with_its_head() {
        for (text, is_to_head) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 77\r\nConnection: close\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ] {
            assert!(parse(text, 7, is_to_head).unwrap().0.is_done(), "{text}");
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for text in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "garbage\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            assert!(parse(text, 1000, false).is_err(), "{text}");
        }
    }
}
