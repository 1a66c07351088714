//! The `aws-chunked` content coding: chunks that may be signed, and trailer fields that may be.
//!
//! ```text
//!  Size --n > 0--> Data --n bytes, signature verified--> DataEnd --CR LF--> Size
//!    `--- 0, signature verified --> Trailer --name:value CR LF--> Trailer --CR LF--> Done
//! ```
//!
//! - The decoded length is known from the head, and the chunks must add up to it exactly.
//! - Exactly the fields that `x-amz-trailer` announced come, and for a signed trailer their signature, last.
//! - Two liberties of clients in the field are allowed: a LF before the CR LF of a field (minio-go), and a body that
//!   ends behind the last field, without the empty line.
//!
//! Source: S3 API reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
//! Chunks" and "... Including Trailing Headers".

use std::mem;

use aws_lc_rs::digest::{self, Context};

use crate::body::Trailers;
use crate::encoding;
use crate::error::{Code, Error};
use crate::http::line::LineBuffer;
use crate::limits::Limits;
use crate::sigv4::ChunkChain;

/// The field that signs the others.
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Which parts of the coding are signed.
#[derive(Debug)]
pub(crate) enum Signing {
    /// Chunks, and no trailer comes.
    Chunks(ChunkChain),
    /// Chunks and trailer.
    ChunksAndTrailer(ChunkChain),
    /// Nothing; a trailer comes.
    Nothing,
}

/// The decoder of one body.
pub(crate) struct AwsChunked {
    state: State,
    line: LineBuffer,
    payload_left: u64,
    signed_chunk_len_min: u64,
    signing: Signing,
    /// The signature that the current chunk must have, and the hash of its data so far.
    chunk: Option<([u8; 32], Context)>,
    /// Names that must come, in lowercase.
    announced: Vec<String>,
    fields: Vec<(String, String)>,
    trailer_len_left: usize,
    is_trailer_verified: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer,
    Done,
}

impl AwsChunked {
    /// Expects `payload_len` bytes in chunks, and the announced trailer fields.
    pub fn new(signing: Signing, payload_len: u64, announced: Vec<String>, limits: &Limits) -> Self {
        AwsChunked {
            state: State::Size,
            line: LineBuffer::new(limits.chunk_line_len_max),
            payload_left: payload_len,
            signed_chunk_len_min: limits.signed_chunk_len_min,
            is_trailer_verified: !matches!(signing, Signing::ChunksAndTrailer(_)),
            signing,
            chunk: None,
            announced,
            fields: Vec::new(),
            trailer_len_left: limits.trailer_len_max,
        }
    }

    /// Consumes framing up to the next data, the end of the coding or the end of the input; returns how many bytes.
    pub fn skip_framing(&mut self, input: &[u8]) -> Result<usize, Error> {
        let mut consumed = 0;
        while !matches!(self.state, State::Data { .. } | State::Done) && consumed < input.len() {
            consumed += self.line.fill(&input[consumed..]).map_err(|_| self.malformed())?;
            if self.line.line().is_none() {
                break;
            }
            let line = mem::replace(&mut self.line, LineBuffer::new(0));
            self.accept_line(line.line().unwrap_or_default())?;
            self.line = line;
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

    /// Takes the next data, at most [`AwsChunked::data_left`] bytes; verifies the chunk when it ends.
    pub fn take(&mut self, data: &[u8]) -> Result<(), Error> {
        let left = self.data_left() - data.len() as u64;
        self.payload_left -= data.len() as u64;
        if let Some((_, hash)) = &mut self.chunk {
            hash.update(data);
        }
        if left > 0 {
            self.state = State::Data { left };
            return Ok(());
        }
        self.state = State::DataEnd;
        self.verify_chunk()
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The body is over. `IncompleteBody` unless the coding is, or lacks no more than its empty line.
    pub fn end_of_input(&mut self) -> Result<(), Error> {
        match self.state {
            State::Done => Ok(()),
            State::Trailer if self.line.is_empty() && !self.fields.is_empty() => self.end_trailer(),
            _ => Err(Code::IncompleteBody.into()),
        }
    }

    /// The fields of the trailer, without the signature. Empty afterwards.
    pub fn take_trailers(&mut self) -> Trailers {
        Trailers::from(mem::take(&mut self.fields))
    }

    fn accept_line(&mut self, line: &[u8]) -> Result<(), Error> {
        match self.state {
            State::Size => self.begin_chunk(line),
            State::DataEnd if line.is_empty() => {
                self.state = State::Size;
                Ok(())
            }
            State::Trailer if line.is_empty() => self.end_trailer(),
            State::Trailer => self.accept_field(line),
            State::DataEnd | State::Data { .. } | State::Done => Err(self.malformed()),
        }
    }

    fn begin_chunk(&mut self, line: &[u8]) -> Result<(), Error> {
        let (digits, extension) = match line.iter().position(|byte| *byte == b';') {
            Some(index) => (&line[..index], Some(&line[index + 1..])),
            None => (line, None),
        };
        let size = encoding::hex_number(digits).ok_or_else(|| self.malformed())?;
        let is_signed = !matches!(self.signing, Signing::Nothing);
        self.check_size(size, is_signed)?;
        self.chunk = match (is_signed, extension) {
            (false, None) => None,
            (true, Some(extension)) => {
                let signature = extension.strip_prefix(b"chunk-signature=").and_then(encoding::hex_array);
                Some((signature.ok_or_else(|| self.malformed())?, Context::new(&digest::SHA256)))
            }
            _ => return Err(self.malformed()),
        };
        if size > 0 {
            self.state = State::Data { left: size };
            return Ok(());
        }
        self.state = State::Trailer;
        self.verify_chunk()
    }

    /// The chunks add up to the decoded length, and only the last signed one is short.
    fn check_size(&self, size: u64, is_signed: bool) -> Result<(), Error> {
        if size > self.payload_left || (size == 0 && self.payload_left > 0) {
            return Err(Error::with_message(
                Code::IncompleteBody,
                "The chunks of the body do not add up to x-amz-decoded-content-length.",
            ));
        }
        if is_signed && size < self.signed_chunk_len_min && size < self.payload_left {
            return Err(Error::new(Code::InvalidChunkSizeError).detail("BadChunkSize", size.to_string()));
        }
        Ok(())
    }

    fn verify_chunk(&mut self) -> Result<(), Error> {
        let Some((signature, hash)) = self.chunk.take() else { return Ok(()) };
        match &mut self.signing {
            Signing::Chunks(chain) | Signing::ChunksAndTrailer(chain) => {
                chain.verify_chunk(hash.finish().as_ref(), signature)
            }
            Signing::Nothing => Ok(()),
        }
    }

    fn accept_field(&mut self, line: &[u8]) -> Result<(), Error> {
        let (name, value) = parse_field(line).ok_or(Code::MalformedTrailerError)?;
        self.trailer_len_left =
            self.trailer_len_left.checked_sub(line.len()).ok_or(Code::MalformedTrailerError)?;
        if let Signing::ChunksAndTrailer(chain) = &mut self.signing
            && name == TRAILER_SIGNATURE
            && !self.is_trailer_verified
        {
            let signature = encoding::hex_array(value.as_bytes()).ok_or(Code::MalformedTrailerError)?;
            let canonical: String = self.fields.iter().map(|(n, v)| format!("{n}:{v}\n")).collect();
            chain.verify_trailer(canonical.as_bytes(), signature)?;
            self.is_trailer_verified = true;
            return Ok(());
        }
        let is_late = matches!(self.signing, Signing::ChunksAndTrailer(_)) && self.is_trailer_verified;
        let is_repeated = self.fields.iter().any(|(known, _)| *known == name);
        if is_late || is_repeated || !self.announced.contains(&name) {
            return Err(Code::MalformedTrailerError.into());
        }
        self.fields.push((name, value));
        Ok(())
    }

    fn end_trailer(&mut self) -> Result<(), Error> {
        // Fields are announced and come once, so that equal counts mean the same fields.
        if self.fields.len() != self.announced.len() || !self.is_trailer_verified {
            return Err(Code::MalformedTrailerError.into());
        }
        self.state = State::Done;
        Ok(())
    }

    fn malformed(&self) -> Error {
        match self.state {
            State::Trailer => Code::MalformedTrailerError.into(),
            _ => Error::with_message(
                Code::InvalidRequest,
                "The aws-chunked coding of the body is not well-formed, or not the one that x-amz-content-sha256 \
                 announced.",
            ),
        }
    }
}

/// `name:value`, the name in lowercase and the value trimmed; both visible ASCII.
fn parse_field(line: &[u8]) -> Option<(String, String)> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_visible = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
    if !is_visible(name) || !is_visible(value) {
        return None;
    }
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_string);
    Some((text(name)?.to_ascii_lowercase(), text(value)?))
}
