//! CreateMultipartUpload: `POST /bucket/key?uploads`.

use crate::checksum::{Algorithm, ChecksumType};
use crate::http::{RequestHead, Response};
use crate::op::{Encryption, ObjectHeaders};
use crate::xml::Writer;
use crate::{Code, Error, Limits};

/// A CreateMultipartUpload request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key that the completed object gets.
    pub key: String,
    /// The metadata that the completed object gets.
    pub headers: ObjectHeaders,
    /// The checksum of the parts and the object.
    pub checksum: Option<UploadChecksum>,
}

/// The checksum that an upload is created with. The pair is one that AWS allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadChecksum {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Whether the object's checksum is over its bytes or over its parts' checksums.
    pub checksum_type: ChecksumType,
}

impl Request {
    pub(crate) fn from_head(
        head: &RequestHead,
        bucket: String,
        key: String,
        limits: &Limits,
    ) -> Result<Self, Error> {
        Ok(Request {
            bucket,
            key,
            headers: ObjectHeaders::from_head(head, limits)?,
            checksum: UploadChecksum::from_head(head)?,
        })
    }
}

impl UploadChecksum {
    /// `InvalidRequest` for a type without an algorithm, or one that the algorithm does not have.
    fn from_head(head: &RequestHead) -> Result<Option<Self>, Error> {
        let checksum_type = checksum_type(head)?;
        let Some(algorithm) = checksum_algorithm(head)? else {
            return match checksum_type {
                None => Ok(None),
                Some(_) => Err(Error::with_message(
                    Code::InvalidRequest,
                    "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
                )),
            };
        };
        let checksum_type = checksum_type.unwrap_or(algorithm.default_type());
        if !algorithm.supports(checksum_type) {
            let (kind, name) = (checksum_type.name(), algorithm.name().to_ascii_lowercase());
            return Err(Error::with_message(
                Code::InvalidRequest,
                format!("The {kind} checksum type cannot be used with the {name} checksum algorithm."),
            ));
        }
        Ok(Some(UploadChecksum { algorithm, checksum_type }))
    }
}

/// `x-amz-checksum-algorithm`; `InvalidRequest` when it is none of the five.
pub(crate) fn checksum_algorithm(head: &RequestHead) -> Result<Option<Algorithm>, Error> {
    let Some(name) = head.header_bytes("x-amz-checksum-algorithm") else { return Ok(None) };
    match std::str::from_utf8(name).ok().and_then(Algorithm::parse) {
        Some(algorithm) => Ok(Some(algorithm)),
        None => Err(Error::with_message(
            Code::InvalidRequest,
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
             [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        )),
    }
}

/// `x-amz-checksum-type`; `InvalidRequest` when it is neither of the two.
pub(crate) fn checksum_type(head: &RequestHead) -> Result<Option<ChecksumType>, Error> {
    let Some(name) = head.header_bytes("x-amz-checksum-type") else { return Ok(None) };
    match std::str::from_utf8(name).ok().and_then(ChecksumType::parse) {
        Some(checksum_type) => Ok(Some(checksum_type)),
        None => Err(Error::with_message(
            Code::InvalidRequest,
            "Value for x-amz-checksum-type header is invalid; it has to be COMPOSITE or FULL_OBJECT.",
        )),
    }
}

/// The response.
pub fn render(request: &Request, upload_id: &str, encryption: Encryption) -> Response {
    let mut writer = Writer::new("InitiateMultipartUploadResult");
    writer.text("Bucket", &request.bucket).text("Key", &request.key).text("UploadId", upload_id);
    let mut response = Response::xml(200, writer.finish());
    if let Some(checksum) = &request.checksum {
        response.headers.push(("x-amz-checksum-algorithm".into(), checksum.algorithm.name().into()));
        response.headers.push(("x-amz-checksum-type".into(), checksum.checksum_type.name().into()));
    }
    encryption.render_into(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{document, header, refused, routed};
    use crate::operation::Operation;

    fn checksum(headers: &[(&str, &str)]) -> Option<UploadChecksum> {
        let Ok(Operation::CreateMultipartUpload(request)) = routed("POST", "/bucket/k?uploads", headers)
        else {
            panic!("a CreateMultipartUpload")
        };
        request.checksum
    }

    #[test]
    fn every_algorithm_has_its_default_type() {
        assert_eq!(checksum(&[]), None);
        for algorithm in Algorithm::ALL {
            let found = checksum(&[("x-amz-checksum-algorithm", algorithm.name())]);
            let checksum_type = match algorithm {
                Algorithm::Crc64Nvme => ChecksumType::FullObject,
                _ => ChecksumType::Composite,
            };
            assert_eq!(found, Some(UploadChecksum { algorithm, checksum_type }));
        }
    }

    #[test]
    fn pairs_that_aws_does_not_have_are_refused() {
        for (algorithm, checksum_type, is_allowed) in [
            ("CRC32", "FULL_OBJECT", true),
            ("CRC32C", "FULL_OBJECT", true),
            ("CRC64NVME", "FULL_OBJECT", true),
            ("SHA1", "FULL_OBJECT", false),
            ("SHA256", "FULL_OBJECT", false),
            ("CRC32", "COMPOSITE", true),
            ("CRC32C", "COMPOSITE", true),
            ("CRC64NVME", "COMPOSITE", false),
            ("SHA1", "COMPOSITE", true),
            ("SHA256", "COMPOSITE", true),
        ] {
            let headers = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", checksum_type)];
            let outcome = routed("POST", "/bucket/k?uploads", &headers);
            assert_eq!(outcome.is_ok(), is_allowed, "{algorithm} {checksum_type}");
        }
    }

    #[test]
    fn unknown_names_and_a_lone_type_are_refused() {
        for header in [
            ("x-amz-checksum-algorithm", "MD5"),
            ("x-amz-checksum-type", "FULL_OBJECT"),
            ("x-amz-checksum-type", "PARTIAL"),
        ] {
            assert_eq!(refused("POST", "/bucket/k?uploads", &[header]), Code::InvalidRequest, "{header:?}");
        }
    }

    #[test]
    fn the_response_names_the_upload() {
        let headers = [("x-amz-checksum-algorithm", "sha256")];
        let Ok(Operation::CreateMultipartUpload(request)) = routed("POST", "/bucket/a%26b?uploads", &headers)
        else {
            panic!("a CreateMultipartUpload")
        };
        let response = render(&request, "U1", Encryption::Aes256);
        assert_eq!(
            document(&response),
            "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Bucket>bucket</Bucket><Key>a&amp;b</Key><UploadId>U1</UploadId></InitiateMultipartUploadResult>"
        );
        assert_eq!(header(&response, "x-amz-checksum-algorithm"), Some("SHA256"));
        assert_eq!(header(&response, "x-amz-checksum-type"), Some("COMPOSITE"));
    }
}
