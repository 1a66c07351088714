//! CopyObject: `PUT /bucket/key` with `x-amz-copy-source`.

use crate::checksum::Algorithm;
use crate::condition::{Conditions, WriteCondition};
use crate::http::{RequestHead, Response};
use crate::op::{CopySource, Encryption, ObjectChecksum, ObjectHeaders, create_multipart_upload};
use crate::route::RouteConfig;
use crate::xml::Writer;
use crate::{Code, ETag, Error, time};

/// A CopyObject request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket to copy to.
    pub bucket: String,
    /// The key to copy to.
    pub key: String,
    /// What to copy.
    pub source: CopySource,
    /// What has to be true of the source.
    pub source_conditions: Conditions,
    /// Where the metadata of the copy comes from.
    pub metadata: Metadata,
    /// The algorithm that the copy gets a checksum of; the source's when there is none.
    pub checksum_algorithm: Option<Algorithm>,
    /// What has to be true of the object that is there before.
    pub condition: WriteCondition,
}

/// Where the metadata of a copy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// From the source; metadata in the request does not count.
    Copy,
    /// From the request.
    Replace(ObjectHeaders),
}

impl Request {
    /// `InvalidRequest` for a copy of an object onto itself that would change nothing.
    pub(crate) fn from_head(
        head: &RequestHead,
        bucket: String,
        key: String,
        config: &RouteConfig,
    ) -> Result<Self, Error> {
        let request = Request {
            source: CopySource::from_head(head, config.allow_dots_in_bucket_names, &config.limits)?,
            source_conditions: Conditions::of_copy_source(head)?,
            metadata: metadata(head, config)?,
            checksum_algorithm: create_multipart_upload::checksum_algorithm(head)?,
            condition: WriteCondition::from_head(head)?,
            bucket,
            key,
        };
        if request.is_onto_itself() && !request.changes_something(head) {
            return Err(Error::with_message(
                Code::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes.",
            ));
        }
        Ok(request)
    }

    /// Whether source and destination are the same object.
    pub fn is_onto_itself(&self) -> bool {
        self.source.bucket == self.bucket && self.source.key == self.key
    }

    fn changes_something(&self, head: &RequestHead) -> bool {
        self.metadata != Metadata::Copy
            || self.checksum_algorithm.is_some()
            || head.header_bytes("x-amz-server-side-encryption").is_some()
    }
}

fn metadata(head: &RequestHead, config: &RouteConfig) -> Result<Metadata, Error> {
    match head.header_bytes("x-amz-metadata-directive") {
        None | Some(b"COPY") => Ok(Metadata::Copy),
        Some(b"REPLACE") => Ok(Metadata::Replace(ObjectHeaders::from_head(head, &config.limits)?)),
        Some(other) => Err(Error::invalid_argument(
            "Unknown metadata directive.",
            "x-amz-metadata-directive",
            String::from_utf8_lossy(other),
        )),
    }
}

/// The response.
pub fn render(
    etag: &ETag,
    last_modified_ms: i64,
    checksum: Option<&ObjectChecksum>,
    encryption: Encryption,
) -> Response {
    let mut writer = Writer::new("CopyObjectResult");
    writer.value("LastModified", time::iso8601(last_modified_ms)).quoted("ETag", etag);
    if let Some(checksum) = checksum {
        checksum.write(&mut writer);
    }
    let mut response = Response::xml(200, writer.finish());
    encryption.render_into(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Hasher;
    use crate::op::testing::{document, header, refused, routed};
    use crate::operation::Operation;

    const SOURCE: (&str, &str) = ("x-amz-copy-source", "/source/key");
    const SELF: (&str, &str) = ("x-amz-copy-source", "bucket/key");

    fn request(headers: &[(&str, &str)]) -> Request {
        let Ok(Operation::CopyObject(request)) = routed("PUT", "/bucket/key", headers) else {
            panic!("a CopyObject")
        };
        request
    }

    #[test]
    fn metadata_is_copied_unless_it_is_replaced() {
        assert_eq!(request(&[SOURCE, ("x-amz-meta-a", "1")]).metadata, Metadata::Copy);
        let replaced = request(&[SOURCE, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-a", "1")]);
        let expected = ObjectHeaders::from_pairs(vec![("x-amz-meta-a".into(), b"1".to_vec())]);
        assert_eq!(replaced.metadata, Metadata::Replace(expected));
        let unknown = [SOURCE, ("x-amz-metadata-directive", "MERGE")];
        assert_eq!(refused("PUT", "/bucket/key", &unknown), Code::InvalidArgument);
    }

    #[test]
    fn a_copy_onto_itself_has_to_change_something() {
        assert_eq!(refused("PUT", "/bucket/key", &[SELF]), Code::InvalidRequest);
        assert_eq!(
            refused("PUT", "/bucket/key", &[SELF, ("x-amz-storage-class", "STANDARD")]),
            Code::InvalidRequest
        );
        assert!(request(&[SELF, ("x-amz-metadata-directive", "REPLACE")]).is_onto_itself());
        assert!(request(&[SELF, ("x-amz-server-side-encryption", "AES256")]).is_onto_itself());
        assert!(request(&[SELF, ("x-amz-checksum-algorithm", "SHA256")]).is_onto_itself());
    }

    #[test]
    fn source_and_destination_have_their_own_conditions() {
        let request = request(&[SOURCE, ("x-amz-copy-source-if-match", "*"), ("if-none-match", "*")]);
        assert_eq!(request.condition, WriteCondition::Absent);
        assert!(!request.source_conditions.is_empty());
    }

    #[test]
    fn the_response_is_a_document() {
        let etag = ETag::parse("9b2cf535f27731c974343645a3985328").unwrap();
        let checksum = ObjectChecksum::full_object(Hasher::hash(Algorithm::Crc32c, b"123456789"));
        let response = render(&etag, 1_256_762_970_000, Some(&checksum), Encryption::Aes256);
        assert_eq!(
            document(&response),
            "<CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LastModified>2009-10-28T20:49:30.000Z</LastModified>\
             <ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag>\
             <ChecksumCRC32C>4waSgw==</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType></CopyObjectResult>"
        );
        assert_eq!(header(&response, "x-amz-server-side-encryption"), Some("AES256"));
    }
}
