//! ListParts: `GET /bucket/key?uploadId=`.

use crate::checksum::Checksum;
use crate::http::Response;
use crate::op::create_multipart_upload::UploadChecksum;
use crate::op::fields::{self, EncodingType, INTEGER_MAX, encoded};
use crate::op::{Owner, STORAGE_CLASS};
use crate::query::Query;
use crate::xml::Writer;
use crate::{ETag, Error, Limits, time};

/// A ListParts request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// Only parts with greater numbers are listed.
    pub part_number_marker: u32,
    /// Most parts of the page, 0 to 1000.
    pub max_parts: u32,
    /// How the key is written.
    pub encoding_type: Option<EncodingType>,
}

impl Request {
    pub(crate) fn from_query(
        query: &Query,
        bucket: String,
        key: String,
        upload_id: String,
        limits: &Limits,
    ) -> Result<Self, Error> {
        Ok(Request {
            bucket,
            key,
            upload_id,
            part_number_marker: fields::integer(query, "part-number-marker", 0..=INTEGER_MAX)?.unwrap_or(0),
            max_parts: fields::page_size(query, "max-parts", 0, limits.list_max)?,
            encoding_type: EncodingType::from_query(query)?,
        })
    }
}

/// One part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: u32,
    /// When it was stored, in milliseconds since 1970.
    pub last_modified_ms: i64,
    /// Its tag.
    pub etag: ETag,
    /// Its length in bytes.
    pub len: u64,
    /// Its checksum, if it has one.
    pub checksum: Option<Checksum>,
}

/// One page of the parts of an upload, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The parts.
    pub parts: Vec<Part>,
    /// Whether there are more.
    pub is_truncated: bool,
    /// The checksum that the upload was created with.
    pub checksum: Option<UploadChecksum>,
}

/// The response.
pub fn render(request: &Request, page: &Page, owner: &Owner) -> Response {
    let mut writer = Writer::new("ListPartsResult");
    writer.text("Bucket", &request.bucket).text("Key", &encoded(&request.key, request.encoding_type));
    writer.text("UploadId", &request.upload_id);
    owner.write("Initiator", &mut writer);
    owner.write("Owner", &mut writer);
    writer.value("StorageClass", STORAGE_CLASS).value("PartNumberMarker", request.part_number_marker);
    let next = page.parts.last().map_or(request.part_number_marker, |part| part.number);
    writer.value("NextPartNumberMarker", next).value("MaxParts", request.max_parts);
    if request.encoding_type == Some(EncodingType::Url) {
        writer.value("EncodingType", "url");
    }
    writer.value("IsTruncated", page.is_truncated);
    if let Some(checksum) = &page.checksum {
        writer.value("ChecksumAlgorithm", checksum.algorithm.name());
        writer.value("ChecksumType", checksum.checksum_type.name());
    }
    for part in &page.parts {
        part.write(&mut writer);
    }
    Response::xml(200, writer.finish())
}

impl Part {
    fn write(&self, writer: &mut Writer) {
        writer.open("Part").value("PartNumber", self.number);
        writer.value("LastModified", time::iso8601(self.last_modified_ms)).quoted("ETag", self.etag);
        writer.value("Size", self.len);
        if let Some(checksum) = &self.checksum {
            writer.value(checksum.algorithm().element_name(), checksum.to_base64());
        }
        writer.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::checksum::{Algorithm, ChecksumType, Hasher};
    use crate::op::testing::{document, refused, routed};
    use crate::operation::Operation;

    fn request(parameters: &str) -> Request {
        let target = format!("/bucket/k?uploadId=U1&{parameters}");
        let Ok(Operation::ListParts(request)) = routed("GET", &target, &[]) else { panic!("a ListParts") };
        request
    }

    #[test]
    fn a_page_of_parts() {
        let checksum = Hasher::hash(Algorithm::Crc32, b"123456789");
        let page = Page {
            parts: vec![Part {
                number: 3,
                last_modified_ms: 0,
                etag: ETag::parse("7778aef83f66abc1fa1e8477f296d394").unwrap(),
                len: 10_485_760,
                checksum: Some(checksum),
            }],
            is_truncated: true,
            checksum: Some(UploadChecksum {
                algorithm: Algorithm::Crc32,
                checksum_type: ChecksumType::FullObject,
            }),
        };
        let owner = Owner { id: "75aa".into(), display_name: "me".into() };
        assert_eq!(
            document(&render(&request("part-number-marker=1&max-parts=1"), &page, &owner)),
            "<ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>bucket</Bucket><Key>k</Key>\
             <UploadId>U1</UploadId><Initiator><ID>75aa</ID><DisplayName>me</DisplayName></Initiator>\
             <Owner><ID>75aa</ID><DisplayName>me</DisplayName></Owner><StorageClass>STANDARD</StorageClass>\
             <PartNumberMarker>1</PartNumberMarker><NextPartNumberMarker>3</NextPartNumberMarker>\
             <MaxParts>1</MaxParts><IsTruncated>true</IsTruncated><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>\
             <ChecksumType>FULL_OBJECT</ChecksumType><Part><PartNumber>3</PartNumber>\
             <LastModified>1970-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;7778aef83f66abc1fa1e8477f296d394&quot;</ETag><Size>10485760</Size>\
             <ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part></ListPartsResult>"
        );
    }

    #[test]
    fn parameters_have_their_ranges() {
        assert_eq!(request("max-parts=5000").max_parts, 1000);
        assert_eq!(request("max-parts=0").max_parts, 0);
        for parameters in ["max-parts=-1", "max-parts=x", "part-number-marker=-1", "part-number-marker=x"] {
            let target = format!("/bucket/k?uploadId=U1&{parameters}");
            assert_eq!(refused("GET", &target, &[]), Code::InvalidArgument, "{target}");
        }
    }
}
