//! UploadPartCopy: UploadPart whose body is (a range of) a stored object, named by `x-amz-copy-source`.

use crate::checksum::Checksum;
use crate::condition::Conditions;
use crate::http::{RequestHead, Response};
use crate::op::upload_part::part_of_upload;
use crate::op::{CopySource, Encryption};
use crate::query::Query;
use crate::range::CopyRange;
use crate::route::RouteConfig;
use crate::xml::Writer;
use crate::{ETag, Error, time};

/// An UploadPartCopy request.
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
    /// What to copy.
    pub source: CopySource,
    /// The bytes of the source to copy; all when there is no range.
    pub source_range: Option<CopyRange>,
    /// What has to be true of the source.
    pub source_conditions: Conditions,
}

impl Request {
    pub(crate) fn from_head(
        head: &RequestHead,
        query: &Query,
        bucket: String,
        key: String,
        config: &RouteConfig,
    ) -> Result<Self, Error> {
        let (upload_id, part_number) = part_of_upload(query, &config.limits)?;
        Ok(Request {
            bucket,
            key,
            upload_id,
            part_number,
            source: CopySource::from_head(head, config.allow_dots_in_bucket_names, &config.limits)?,
            source_range: head.header_bytes("x-amz-copy-source-range").map(CopyRange::parse).transpose()?,
            source_conditions: Conditions::of_copy_source(head)?,
        })
    }
}

/// The response.
pub fn render(
    etag: &ETag,
    last_modified_ms: i64,
    checksum: Option<&Checksum>,
    encryption: Encryption,
) -> Response {
    let mut writer = Writer::new("CopyPartResult");
    writer.value("LastModified", time::iso8601(last_modified_ms)).quoted("ETag", etag);
    if let Some(checksum) = checksum {
        writer.value(checksum.algorithm().element_name(), checksum.to_base64());
    }
    let mut response = Response::xml(200, writer.finish());
    encryption.render_into(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::op::testing::{document, refused, routed};
    use crate::operation::Operation;

    const SOURCE: (&str, &str) = ("x-amz-copy-source", "/source/key");

    #[test]
    fn a_part_can_be_a_range_of_an_object() {
        let headers = [SOURCE, ("x-amz-copy-source-range", "bytes=5-9")];
        let Ok(Operation::UploadPartCopy(request)) =
            routed("PUT", "/bucket/k?partNumber=2&uploadId=U", &headers)
        else {
            panic!("an UploadPartCopy")
        };
        assert_eq!(request.source_range, Some(CopyRange { first: 5, last: 9 }));
        assert_eq!((request.source.bucket.as_str(), request.source.key.as_str()), ("source", "key"));
    }

    #[test]
    fn an_open_range_is_refused() {
        for range in ["bytes=5-", "bytes=-5", "0-5"] {
            let headers = [SOURCE, ("x-amz-copy-source-range", range)];
            assert_eq!(
                refused("PUT", "/bucket/k?partNumber=2&uploadId=U", &headers),
                Code::InvalidArgument,
                "{range}"
            );
        }
    }

    #[test]
    fn the_response_is_a_document() {
        let response = render(&ETag::single([0x11; 16]), 0, None, Encryption::None);
        assert_eq!(
            document(&response),
            "<CopyPartResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LastModified>1970-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;11111111111111111111111111111111&quot;</ETag></CopyPartResult>"
        );
    }
}
