//! How the payload of a request is protected: what `x-amz-content-sha256` says.

use crate::encoding;
use crate::error::{Code, Error};
use crate::sigv4::chain::ChunkChain;

/// The payload is not covered by the signature.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The protection of a payload, ready to be verified by [`crate::BodyDecoder`].
#[derive(Clone, Debug)]
pub enum PayloadAuth {
    /// Nothing is promised about the payload.
    Unsigned,
    /// The payload has that SHA-256.
    Sha256([u8; 32]),
    /// `aws-chunked`, each chunk signed.
    StreamingSigned(ChunkChain),
    /// `aws-chunked`, each chunk and the trailer signed.
    StreamingSignedTrailer(ChunkChain),
    /// `aws-chunked` with a trailer, unsigned.
    StreamingUnsignedTrailer,
}

/// The value of `x-amz-content-sha256`, before a chain can be made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadKind {
    Unsigned,
    Sha256([u8; 32]),
    StreamingSigned,
    StreamingSignedTrailer,
    StreamingUnsignedTrailer,
}

impl PayloadKind {
    pub fn parse(value: &str) -> Result<Self, Error> {
        match value {
            UNSIGNED => Ok(PayloadKind::Unsigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(PayloadKind::StreamingSigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(PayloadKind::StreamingSignedTrailer),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(PayloadKind::StreamingUnsignedTrailer),
            _ => match encoding::hex_array(value.as_bytes()) {
                Some(hash) => Ok(PayloadKind::Sha256(hash)),
                None => Err(Error::invalid_argument(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid \
                     sha256 value.",
                    "x-amz-content-sha256",
                    value.chars().take(128).collect::<String>(),
                )),
            },
        }
    }

    /// The protection; `chain` is called when chunks are signed.
    pub fn into_auth(self, chain: impl FnOnce() -> ChunkChain) -> PayloadAuth {
        match self {
            PayloadKind::Unsigned => PayloadAuth::Unsigned,
            PayloadKind::Sha256(hash) => PayloadAuth::Sha256(hash),
            PayloadKind::StreamingSigned => PayloadAuth::StreamingSigned(chain()),
            PayloadKind::StreamingSignedTrailer => PayloadAuth::StreamingSignedTrailer(chain()),
            PayloadKind::StreamingUnsignedTrailer => PayloadAuth::StreamingUnsignedTrailer,
        }
    }

    /// The protection that an anonymous request can have: there is no key to sign chunks with.
    pub fn into_anonymous_auth(self) -> Result<PayloadAuth, Error> {
        match self {
            PayloadKind::StreamingSigned | PayloadKind::StreamingSignedTrailer => Err(Error::with_message(
                Code::InvalidRequest,
                "x-amz-content-sha256 announces signed chunks, but the request itself is not signed.",
            )),
            PayloadKind::Unsigned => Ok(PayloadAuth::Unsigned),
            PayloadKind::Sha256(hash) => Ok(PayloadAuth::Sha256(hash)),
            PayloadKind::StreamingUnsignedTrailer => Ok(PayloadAuth::StreamingUnsignedTrailer),
        }
    }
}
