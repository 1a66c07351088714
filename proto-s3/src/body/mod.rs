//! From wire bytes to payload: one decoder for every way that S3 wraps a body.
//!
//! ```text
//!  wire --outer: Content-Length or chunked--> --inner: nothing or aws-chunked--> payload --SHA-256--> verified
//! ```
//!
//! - The payload is never copied: [`Decoded::payload`] is a range of the input.
//! - How the input is cut makes no difference, neither to the payload nor to the verdict.
//! - Payload is handed out before its chunk or the whole is verified; it counts only after [`BodyDecoder::finish`].

use std::ops::Range;

use aws_lc_rs::digest::{self, Context};

use crate::encoding::{self, Hex};
use crate::error::{Code, Error};
use crate::http::aws_chunked::{AwsChunked, Signing};
use crate::http::chunked::Chunked;
use crate::http::{Framing, Method, RequestHead, framing};
use crate::limits::Limits;
use crate::sigv4::PayloadAuth;

/// Names that one `x-amz-trailer` may announce.
const ANNOUNCED_MAX: usize = 8;

/// What one call of [`BodyDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are dealt with.
    pub consumed: usize,
    /// The range of the input that is payload, possibly empty; it ends at or before `consumed`.
    pub payload: Range<usize>,
    /// Whether the body is over: what follows in the input is the next request.
    pub is_done: bool,
}

/// The decoder of one body.
pub struct BodyDecoder {
    outer: Outer,
    inner: Option<AwsChunked>,
    payload_len: u64,
    /// What the payload must hash to, and the hash so far.
    sha256: Option<([u8; 32], Context)>,
}

/// What delimits the body on the connection.
enum Outer {
    Length { left: u64 },
    Chunked(Chunked),
}

impl BodyDecoder {
    /// A decoder for the body of that request.
    ///
    /// Errors: `MissingContentLength` when the length of the payload is not known in advance, `EntityTooLarge` when it
    /// is above the limit, `InvalidRequest` when headers contradict each other, `BadRequest` when the framing does.
    pub fn new(head: &RequestHead, payload: &PayloadAuth, limits: &Limits) -> Result<Self, Error> {
        let outer = match framing(head)? {
            Framing::Length(left) => Outer::Length { left },
            Framing::Chunked => Outer::Chunked(Chunked::new(limits)),
            Framing::None if head.method == Method::Put => return Err(Code::MissingContentLength.into()),
            Framing::None => Outer::Length { left: 0 },
        };
        let signing = signing(payload);
        check_coding(head, signing.is_some())?;
        let payload_len = payload_len(head, &outer, signing.is_some())?;
        if payload_len > limits.single_put_len_max {
            return Err(Error::new(Code::EntityTooLarge)
                .detail("ProposedSize", payload_len.to_string())
                .detail("MaxSizeAllowed", limits.single_put_len_max.to_string()));
        }
        if signing.is_some() && outer.is_done() {
            return Err(Error::with_message(Code::IncompleteBody, "The aws-chunked body is empty."));
        }
        let announced = announced_trailers(head, payload)?;
        let inner = signing.map(|signing| AwsChunked::new(signing, payload_len, announced, limits));
        let sha256 = match payload {
            PayloadAuth::Sha256(expected) => Some((*expected, Context::new(&digest::SHA256))),
            _ => None,
        };
        Ok(BodyDecoder { outer, inner, payload_len, sha256 })
    }

    /// Length of the whole payload.
    pub fn payload_len(&self) -> u64 {
        self.payload_len
    }

    /// Whether the body is over. True from the beginning when it is empty.
    pub fn is_done(&self) -> bool {
        let is_inner_done = self.inner.as_ref().is_none_or(AwsChunked::is_done);
        self.outer.is_done() && is_inner_done
    }

    /// Decodes up to one piece of payload. Call again with the rest of the input until all is consumed or the body is
    /// done; after an error the body is worthless and the connection must end.
    ///
    /// Errors: `IncompleteBody`, `SignatureDoesNotMatch`, `InvalidChunkSizeError`, `MalformedTrailerError`,
    /// `InvalidRequest`, `BadRequest`.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Error> {
        let mut consumed = 0;
        let mut payload = 0..0;
        loop {
            consumed += self.outer.skip_framing(&input[consumed..])?;
            let available = bounded_len(self.outer.data_left(), input.len() - consumed);
            if available == 0 || !payload.is_empty() {
                break;
            }
            let data = &input[consumed..consumed + available];
            let (skipped, payload_len) = self.inner_step(data)?;
            self.outer.take((skipped + payload_len) as u64);
            payload = consumed + skipped..consumed + skipped + payload_len;
            consumed = payload.end;
        }
        if let Some(inner) = &mut self.inner
            && self.outer.is_done()
        {
            inner.end_of_input()?;
        }
        Ok(Decoded { consumed, payload, is_done: self.is_done() })
    }

    /// Verifies the whole and hands over the trailer fields.
    ///
    /// Errors: `IncompleteBody` when the body is not done, `XAmzContentSHA256Mismatch` when it is not the one signed.
    pub fn finish(&mut self) -> Result<Trailers, Error> {
        if !self.is_done() {
            return Err(Code::IncompleteBody.into());
        }
        if let Some((expected, context)) = self.sha256.take() {
            let computed = context.finish();
            if computed.as_ref() != expected {
                return Err(Error::new(Code::XAmzContentSHA256Mismatch)
                    .detail("ClientComputedContentSHA256", Hex(&expected).to_string())
                    .detail("S3ComputedContentSHA256", Hex(computed.as_ref()).to_string()));
            }
        }
        Ok(self.inner.as_mut().map(AwsChunked::take_trailers).unwrap_or_default())
    }

    /// Takes framing and then payload from the outer layer's data; returns the lengths of both.
    fn inner_step(&mut self, data: &[u8]) -> Result<(usize, usize), Error> {
        let mut skipped = 0;
        let mut payload_len = data.len();
        if let Some(inner) = &mut self.inner {
            skipped = inner.skip_framing(data)?;
            if inner.is_done() && skipped < data.len() {
                return Err(Error::with_message(
                    Code::InvalidRequest,
                    "The body goes on after the end of its aws-chunked coding.",
                ));
            }
            payload_len = bounded_len(inner.data_left(), data.len() - skipped);
            if payload_len > 0 {
                inner.take(&data[skipped..skipped + payload_len])?;
            }
        }
        if let Some((_, context)) = &mut self.sha256 {
            context.update(&data[skipped..skipped + payload_len]);
        }
        Ok((skipped, payload_len))
    }
}

impl Outer {
    fn skip_framing(&mut self, input: &[u8]) -> Result<usize, Error> {
        match self {
            Outer::Length { .. } => Ok(0),
            Outer::Chunked(chunked) => chunked.skip_framing(input),
        }
    }

    fn data_left(&self) -> u64 {
        match self {
            Outer::Length { left } => *left,
            Outer::Chunked(chunked) => chunked.data_left(),
        }
    }

    fn take(&mut self, len: u64) {
        match self {
            Outer::Length { left } => *left -= len,
            Outer::Chunked(chunked) => chunked.take(len),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Outer::Length { left } => *left == 0,
            Outer::Chunked(chunked) => chunked.is_done(),
        }
    }
}

/// The trailer fields that followed a body, names in lowercase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    fields: Vec<(String, String)>,
}

impl Trailers {
    /// The value of the field of that (lowercase) name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All fields in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl From<Vec<(String, String)>> for Trailers {
    fn from(fields: Vec<(String, String)>) -> Self {
        Trailers { fields }
    }
}

/// The lesser of what a layer has left and what is at hand.
fn bounded_len(left: u64, at_hand: usize) -> usize {
    usize::try_from(left).map_or(at_hand, |left| left.min(at_hand))
}

/// How the aws-chunked coding is signed; `None` when there is no such coding.
fn signing(payload: &PayloadAuth) -> Option<Signing> {
    match payload {
        PayloadAuth::Unsigned | PayloadAuth::Sha256(_) => None,
        PayloadAuth::StreamingSigned(chain) => Some(Signing::Chunks(chain.clone())),
        PayloadAuth::StreamingSignedTrailer(chain) => Some(Signing::ChunksAndTrailer(chain.clone())),
        PayloadAuth::StreamingUnsignedTrailer => Some(Signing::Nothing),
    }
}

/// `Content-Encoding: aws-chunked` must not be said of a body that does not have it. The converse is allowed: many
/// clients leave it out.
fn check_coding(head: &RequestHead, is_aws_chunked: bool) -> Result<(), Error> {
    let says_aws_chunked = head.header_all("content-encoding").any(|value| {
        value
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"aws-chunked"))
    });
    if says_aws_chunked && !is_aws_chunked {
        return Err(Error::with_message(
            Code::InvalidRequest,
            "Content-Encoding names aws-chunked, but x-amz-content-sha256 does not announce a STREAMING payload.",
        ));
    }
    Ok(())
}

/// The length of the payload: `x-amz-decoded-content-length` inside aws-chunked, else Content-Length.
fn payload_len(head: &RequestHead, outer: &Outer, is_aws_chunked: bool) -> Result<u64, Error> {
    let mut values = head.header_all("x-amz-decoded-content-length");
    let decoded_len = match values.next() {
        None => None,
        Some(value) => {
            Some(encoding::decimal(value).filter(|_| values.next().is_none()).ok_or_else(|| {
                Error::invalid_argument(
                    "x-amz-decoded-content-length must be one number.",
                    "x-amz-decoded-content-length",
                    String::from_utf8_lossy(value),
                )
            })?)
        }
    };
    match (is_aws_chunked, decoded_len, outer) {
        (true, Some(len), _) => Ok(len),
        (false, None, Outer::Length { left }) => Ok(*left),
        (false, Some(len), Outer::Length { left }) if len == *left => Ok(len),
        (false, Some(_), Outer::Length { .. }) => Err(Error::with_message(
            Code::InvalidRequest,
            "x-amz-decoded-content-length differs from Content-Length, and the payload is not STREAMING.",
        )),
        (true, None, _) | (false, _, Outer::Chunked(_)) => Err(Code::MissingContentLength.into()),
    }
}

/// The names that `x-amz-trailer` announces, in lowercase.
fn announced_trailers(head: &RequestHead, payload: &PayloadAuth) -> Result<Vec<String>, Error> {
    let has_trailer =
        matches!(payload, PayloadAuth::StreamingSignedTrailer(_) | PayloadAuth::StreamingUnsignedTrailer);
    let invalid = |message: &'static str| Error::with_message(Code::InvalidRequest, message);
    let mut announced: Vec<String> = Vec::new();
    for value in head.header_all("x-amz-trailer") {
        if !has_trailer {
            return Err(invalid(
                "x-amz-trailer needs a payload that x-amz-content-sha256 announces as STREAMING-...-TRAILER.",
            ));
        }
        for name in value.split(|byte| *byte == b',') {
            let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
            if name.is_empty() || announced.contains(&name) || announced.len() == ANNOUNCED_MAX {
                return Err(invalid("The value specified in the x-amz-trailer header is not supported"));
            }
            announced.push(name);
        }
    }
    Ok(announced)
}

#[cfg(test)]
mod tests;
