//! UploadPart: `PUT /bucket/key?partNumber=&uploadId=`, the body being the part.

use crate::checksum::{Checksum, ChecksumRequest};
use crate::http::{RequestHead, Response};
use crate::op::{Encryption, fields};
use crate::query::Query;
use crate::{Code, ETag, Error, Limits};

/// An UploadPart request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// The number of the part, 1 to 10 000.
    pub part_number: u32,
    /// What the body has to add up to.
    pub checksum: ChecksumRequest,
}

impl Request {
    pub(crate) fn from_head(
        head: &RequestHead,
        query: &Query,
        bucket: String,
        key: String,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let (upload_id, part_number) = part_of_upload(query, limits)?;
        Ok(Request { bucket, key, upload_id, part_number, checksum: ChecksumRequest::from_head(head)? })
    }
}

/// Upload and part number, which go together.
pub(crate) fn part_of_upload(query: &Query, limits: &Limits) -> Result<(String, u32), Error> {
    let missing = |name: &'static str| {
        Error::with_message(
            Code::InvalidRequest,
            format!("An uploaded part needs both uploadId and partNumber; {name} is missing"),
        )
    };
    let upload_id = query.non_empty("uploadId").ok_or_else(|| missing("uploadId"))?.to_owned();
    let part_number = fields::part_number(query, limits)?.ok_or_else(|| missing("partNumber"))?;
    Ok((upload_id, part_number))
}

/// The response.
pub fn render(etag: &ETag, checksum: Option<&Checksum>, encryption: Encryption) -> Response {
    let mut response = Response::new(200).header("ETag", etag.quoted());
    if let Some(checksum) = checksum {
        response.headers.push((checksum.algorithm().header_name().into(), checksum.to_base64().into_bytes()));
    }
    encryption.render_into(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{Algorithm, Hasher};
    use crate::op::testing::{header, refused, routed};
    use crate::operation::Operation;

    #[test]
    fn a_part_names_its_upload_and_number() {
        let Ok(Operation::UploadPart(request)) = routed("PUT", "/bucket/k?partNumber=7&uploadId=U1", &[])
        else {
            panic!("an UploadPart")
        };
        assert_eq!((request.upload_id.as_str(), request.part_number), ("U1", 7));
    }

    #[test]
    fn half_a_name_is_refused_and_so_is_a_number_out_of_range() {
        for (target, code) in [
            ("/bucket/k?partNumber=7", Code::InvalidRequest),
            ("/bucket/k?uploadId=U1", Code::InvalidRequest),
            ("/bucket/k?uploadId=&partNumber=1", Code::InvalidRequest),
            ("/bucket/k?partNumber=0&uploadId=U1", Code::InvalidArgument),
            ("/bucket/k?partNumber=10001&uploadId=U1", Code::InvalidArgument),
        ] {
            assert_eq!(refused("PUT", target, &[]), code, "{target}");
        }
    }

    #[test]
    fn the_response_has_the_tag_and_checksum_of_the_part() {
        let checksum = Hasher::hash(Algorithm::Crc32, b"123456789");
        let response = render(&ETag::single([0; 16]), Some(&checksum), Encryption::None);
        assert_eq!(header(&response, "ETag"), Some("\"00000000000000000000000000000000\""));
        assert_eq!(header(&response, "x-amz-checksum-crc32"), Some("y/Q5Jg=="));
    }
}
