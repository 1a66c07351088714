//! `Transfer-Encoding: chunked` (RFC 9112, 7.1), strictly.
//!
//! ```text
//!  Size --n > 0--> Data --n bytes--> DataEnd --CR LF--> Size
//!    `--- 0 -----> LastEnd --CR LF--> Done
//! ```
//!
//! Extensions are skipped, as the RFC says. Trailer fields are refused: S3 has its own, inside aws-chunked, and a
//! checksum in the wrong place must not be overlooked.

use crate::encoding;
use crate::error::{Code, Error};
use crate::http::line::LineBuffer;
use crate::limits::Limits;

/// The decoder of one body.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
    line: LineBuffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    LastEnd,
    Done,
}

impl Chunked {
    pub fn new(limits: &Limits) -> Self {
        Chunked { state: State::Size, line: LineBuffer::new(limits.chunk_line_len_max) }
    }

    /// Consumes framing up to the next data, the end of the body or the end of the input; returns how many bytes.
    pub fn skip_framing(&mut self, input: &[u8]) -> Result<usize, Error> {
        let mut consumed = 0;
        while !matches!(self.state, State::Data { .. } | State::Done) && consumed < input.len() {
            consumed += self.line.fill(&input[consumed..]).map_err(|_| malformed())?;
            let Some(line) = self.line.line() else { break };
            self.state = match self.state {
                State::Size => match parse_size(line)? {
                    0 => State::LastEnd,
                    left => State::Data { left },
                },
                State::DataEnd if line.is_empty() => State::Size,
                State::LastEnd if line.is_empty() => State::Done,
                State::LastEnd => return Err(Code::MalformedTrailerError.into()),
                State::DataEnd | State::Data { .. } | State::Done => return Err(malformed()),
            };
            self.line.clear();
        }
        Ok(consumed)
    }

    /// Data bytes that are next.
    pub fn data_left(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Accounts for `len` bytes of data, at most [`Chunked::data_left`].
    pub fn take(&mut self, len: u64) {
        let left = self.data_left() - len;
        self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// The size of a chunk; extensions are skipped when they are text.
fn parse_size(line: &[u8]) -> Result<u64, Error> {
    let (digits, extension) = match line.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t')) {
        Some(index) => line.split_at(index),
        None => (line, &[][..]),
    };
    let is_text = extension.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    let is_extension = extension.is_empty() || extension.trim_ascii_start().starts_with(b";");
    encoding::hex_number(digits).filter(|_| is_text && is_extension).ok_or_else(malformed)
}

fn malformed() -> Error {
    Error::with_message(Code::BadRequest, "The chunked transfer coding of the body is not well-formed.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(wire: &[u8]) -> Result<(Vec<u8>, usize, bool), Code> {
        let mut decoder = Chunked::new(&Limits::default());
        let (mut at, mut data) = (0, Vec::new());
        loop {
            at += decoder.skip_framing(&wire[at..]).map_err(|error| error.code)?;
            let len = (wire.len() - at).min(decoder.data_left() as usize);
            if len == 0 {
                return Ok((data, at, decoder.is_done()));
            }
            data.extend_from_slice(&wire[at..at + len]);
            decoder.take(len as u64);
            at += len;
        }
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        let wire = b"5\r\nhello\r\n00a;x=\"y z\" ; q\r\n, chunked!\r\n0\r\n\r\nGET /";
        assert_eq!(decode(wire), Ok((b"hello, chunked!".to_vec(), wire.len() - 5, true)));
    }

    #[test]
    fn every_proper_beginning_is_not_done() {
        let wire = b"5\r\nhello\r\n0\r\n\r\n";
        for len in 0..wire.len() {
            assert!(matches!(decode(&wire[..len]), Ok((_, consumed, false)) if consumed == len));
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for wire in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "\r\n5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "g\r\n",
            "10000000000000000\r\n",
            ";\r\n",
        ] {
            assert_eq!(decode(wire.as_bytes()), Err(Code::BadRequest), "{wire:?}");
        }
    }

    #[test]
    fn trailer_fields_outside_aws_chunked_are_refused() {
        assert_eq!(decode(b"0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n"), Err(Code::MalformedTrailerError));
    }

    #[test]
    fn a_size_line_is_bounded() {
        let wire = format!("5;{}\r\nhello\r\n", "x".repeat(Limits::default().chunk_line_len_max));
        assert_eq!(decode(wire.as_bytes()), Err(Code::BadRequest));
    }
}
