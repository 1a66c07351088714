//! PutObject: `PUT /bucket/key`, the body being the object.

use crate::checksum::ChecksumRequest;
use crate::condition::WriteCondition;
use crate::http::{RequestHead, Response};
use crate::op::{Encryption, ObjectChecksum, ObjectHeaders};
use crate::{ETag, Error, Limits};

/// A PutObject request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The metadata to keep.
    pub headers: ObjectHeaders,
    /// What has to be true of the object that is there before.
    pub condition: WriteCondition,
    /// What the body has to add up to.
    pub checksum: ChecksumRequest,
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
            condition: WriteCondition::from_head(head)?,
            checksum: ChecksumRequest::from_head(head)?,
        })
    }
}

/// The response.
pub fn render(etag: &ETag, checksum: Option<&ObjectChecksum>, encryption: Encryption) -> Response {
    let mut response = Response::new(200).header("ETag", etag.quoted());
    if let Some(checksum) = checksum {
        checksum.render_into(&mut response);
    }
    encryption.render_into(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::checksum::{Algorithm, Hasher};
    use crate::http::ResponseBody;
    use crate::op::testing::{header, refused, routed};
    use crate::operation::Operation;

    #[test]
    fn a_put_carries_metadata_condition_and_checksum() {
        let headers = [
            ("content-type", "text/plain"),
            ("x-amz-meta-a", "1"),
            ("if-none-match", "*"),
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ];
        let Ok(Operation::PutObject(request)) = routed("PUT", "/bucket/a/b", &headers) else {
            panic!("a PutObject")
        };
        assert_eq!((request.bucket.as_str(), request.key.as_str()), ("bucket", "a/b"));
        assert_eq!(request.headers.value("x-amz-meta-a"), Some(&b"1"[..]));
        assert_eq!(request.condition, WriteCondition::Absent);
        assert_eq!(request.checksum.algorithm(), Some(Algorithm::Crc32));
    }

    #[test]
    fn what_the_head_has_wrong_is_refused_before_the_body() {
        for (name, value, code) in [
            ("content-md5", "x", Code::InvalidDigest),
            ("x-amz-checksum-crc32", "x", Code::InvalidRequest),
            ("x-amz-storage-class", "GLACIER", Code::InvalidStorageClass),
            ("x-amz-tagging", "a=b", Code::NotImplemented),
            ("if-none-match", "\"tag\"", Code::NotImplemented),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT", Code::NotImplemented),
        ] {
            assert_eq!(refused("PUT", "/bucket/k", &[(name, value)]), code, "{name}: {value}");
        }
    }

    #[test]
    fn the_response_has_tag_and_checksum_and_no_body() {
        let checksum = ObjectChecksum::full_object(Hasher::hash(Algorithm::Crc64Nvme, b"123456789"));
        let response = render(&ETag::single([0xab; 16]), Some(&checksum), Encryption::Aes256);
        assert_eq!((response.status, &response.body), (200, &ResponseBody::Empty));
        assert_eq!(header(&response, "ETag"), Some("\"abababababababababababababababab\""));
        assert_eq!(header(&response, "x-amz-checksum-crc64nvme"), Some("rosUhgp5mIg="));
        assert_eq!(header(&response, "x-amz-checksum-type"), Some("FULL_OBJECT"));
        assert_eq!(header(&response, "x-amz-server-side-encryption"), Some("AES256"));
    }
}
