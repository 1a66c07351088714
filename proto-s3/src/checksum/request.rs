//! What a request says about the integrity of its payload, and the comparison.

use crate::body::Trailers;
use crate::checksum::{Algorithm, BodyDigests, Checksum};
use crate::encoding;
use crate::error::{Code, Error};
use crate::http::RequestHead;

/// The checksums that a request states, in its head or in its trailer.
///
/// At most one `x-amz-checksum-*` is stated, in one of the two places. Content-MD5 may come beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChecksumRequest {
    algorithm: Option<Algorithm>,
    expected: Expected,
    content_md5: Option<[u8; 16]>,
}

/// Where the expected value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expected {
    #[default]
    Nowhere,
    Header(Checksum),
    Trailer,
}

impl ChecksumRequest {
    /// Reads `x-amz-checksum-*`, `x-amz-trailer`, `x-amz-sdk-checksum-algorithm` and `content-md5`.
    ///
    /// Errors: `InvalidRequest` when the checksum headers contradict each other or do not decode, `InvalidDigest` when
    /// Content-MD5 does not decode.
    pub fn from_head(head: &RequestHead) -> Result<Self, Error> {
        let in_header = checksum_in_header(head)?;
        let in_trailer = checksum_in_trailer(head)?;
        let (algorithm, expected) = match (in_header, in_trailer) {
            (Some(_), Some(_)) => return Err(several_checksums()),
            (Some(checksum), None) => (Some(checksum.algorithm()), Expected::Header(checksum)),
            (None, Some(algorithm)) => (Some(algorithm), Expected::Trailer),
            (None, None) => (None, Expected::Nowhere),
        };
        check_sdk_algorithm(head, algorithm)?;
        Ok(ChecksumRequest { algorithm, expected, content_md5: content_md5(head)? })
    }

    /// The algorithm that the request names, to be computed over the payload.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// The value stated in the head.
    pub fn header_value(&self) -> Option<Checksum> {
        match self.expected {
            Expected::Header(checksum) => Some(checksum),
            Expected::Trailer | Expected::Nowhere => None,
        }
    }

    /// The MD5 stated in the head.
    pub fn content_md5(&self) -> Option<[u8; 16]> {
        self.content_md5
    }

    /// Whether anything is stated: some operations ask for that.
    pub fn is_stated(&self) -> bool {
        self.algorithm.is_some() || self.content_md5.is_some()
    }

    /// Compares what was stated with what was computed.
    ///
    /// Errors: `BadDigest` when they differ; `MalformedTrailerError` when a trailer was announced and did not come,
    /// `InvalidRequest` when its value does not decode.
    pub fn verify(&self, digests: &BodyDigests, trailers: &Trailers) -> Result<(), Error> {
        if let Some(expected) = self.content_md5
            && expected != digests.md5
        {
            return Err(md5_differs(&expected, &digests.md5));
        }
        let Some(algorithm) = self.algorithm else { return Ok(()) };
        let expected = match self.expected {
            Expected::Header(checksum) => checksum,
            Expected::Nowhere | Expected::Trailer => {
                let text = trailers.field(algorithm.header_name()).ok_or(Code::MalformedTrailerError)?;
                Checksum::from_base64(algorithm, text)
                    .ok_or_else(|| invalid_value(algorithm.header_name()))?
            }
        };
        if digests.checksum == Some(expected) { Ok(()) } else { Err(checksum_differs(algorithm)) }
    }
}

/// The one `x-amz-checksum-*` header, decoded.
fn checksum_in_header(head: &RequestHead) -> Result<Option<Checksum>, Error> {
    let mut found = None;
    for (name, value) in &head.headers {
        let Some(algorithm) = Algorithm::from_header_name(name) else { continue };
        let checksum = std::str::from_utf8(value)
            .ok()
            .and_then(|text| Checksum::from_base64(algorithm, text))
            .ok_or_else(|| invalid_value(algorithm.header_name()))?;
        if found.replace(checksum).is_some() {
            return Err(several_checksums());
        }
    }
    Ok(found)
}

/// The algorithm that `x-amz-trailer` announces.
fn checksum_in_trailer(head: &RequestHead) -> Result<Option<Algorithm>, Error> {
    let mut found = None;
    for value in head.header_all("x-amz-trailer") {
        for name in value.split(|byte| *byte == b',') {
            let name = name.trim_ascii().to_ascii_lowercase();
            let algorithm =
                std::str::from_utf8(&name).ok().and_then(Algorithm::from_header_name).ok_or_else(|| {
                    request_error("The value specified in the x-amz-trailer header is not supported")
                })?;
            if found.replace(algorithm).is_some() {
                return Err(several_checksums());
            }
        }
    }
    Ok(found)
}

/// `x-amz-sdk-checksum-algorithm` must name the checksum that is there.
fn check_sdk_algorithm(head: &RequestHead, algorithm: Option<Algorithm>) -> Result<(), Error> {
    let Some(value) = head.header_bytes("x-amz-sdk-checksum-algorithm") else { return Ok(()) };
    let named = std::str::from_utf8(value)
        .ok()
        .and_then(Algorithm::parse)
        .ok_or_else(|| invalid_value("x-amz-sdk-checksum-algorithm"))?;
    match algorithm {
        Some(algorithm) if algorithm == named => Ok(()),
        Some(_) => Err(invalid_value("x-amz-sdk-checksum-algorithm")),
        None => Err(request_error(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer \
             headers were found.",
        )),
    }
}

fn content_md5(head: &RequestHead) -> Result<Option<[u8; 16]>, Error> {
    let mut values = head.header_all("content-md5");
    let Some(value) = values.next() else { return Ok(None) };
    let mut md5 = [0; 16];
    if values.next().is_none() && encoding::base64_exact(value, &mut md5) {
        return Ok(Some(md5));
    }
    Err(Error::with_message(Code::InvalidDigest, "The Content-MD5 you specified was invalid.")
        .detail("Content-MD5", String::from_utf8_lossy(value)))
}

fn request_error(message: &'static str) -> Error {
    Error::with_message(Code::InvalidRequest, message)
}

fn several_checksums() -> Error {
    request_error("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
}

fn invalid_value(header: &'static str) -> Error {
    Error::with_message(Code::InvalidRequest, format!("Value for {header} header is invalid."))
}

fn md5_differs(expected: &[u8; 16], computed: &[u8; 16]) -> Error {
    Error::with_message(Code::BadDigest, "The Content-MD5 you specified did not match what we received.")
        .detail("ExpectedDigest", encoding::to_base64(expected))
        .detail("CalculatedDigest", encoding::to_base64(computed))
}

fn checksum_differs(algorithm: Algorithm) -> Error {
    Error::with_message(
        Code::BadDigest,
        format!("The {} you specified did not match the calculated checksum.", algorithm.name()),
    )
}
