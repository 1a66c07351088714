//! ListMultipartUploads: `GET /bucket?uploads`.

use crate::http::Response;
use crate::op::create_multipart_upload::UploadChecksum;
use crate::op::fields::{self, EncodingType, encoded};
use crate::op::{Owner, ResumeAfter, STORAGE_CLASS};
use crate::query::Query;
use crate::xml::Writer;
use crate::{Error, Limits, time};

/// A ListMultipartUploads request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// Only uploads to keys that begin with this.
    pub prefix: String,
    /// Keys are rolled up into common prefixes at the first occurrence of this behind the prefix. Never empty.
    pub delimiter: Option<String>,
    /// The page begins behind this key; empty for the first page.
    pub key_marker: String,
    /// With a key marker: the page begins behind this upload to that very key; empty when all of them are behind us.
    pub upload_id_marker: String,
    /// Most uploads and common prefixes of the page, 1 to 1000.
    pub max_uploads: u32,
    /// How keys are written.
    pub encoding_type: Option<EncodingType>,
}

impl Request {
    pub(crate) fn from_query(query: &Query, bucket: String, limits: &Limits) -> Result<Self, Error> {
        let text = |name| query.value(name).unwrap_or("").to_owned();
        let key_marker = text("key-marker");
        // AWS: "If key-marker is not specified, the upload-id-marker parameter is ignored."
        let upload_id_marker = if key_marker.is_empty() { String::new() } else { text("upload-id-marker") };
        Ok(Request {
            bucket,
            prefix: text("prefix"),
            delimiter: query.non_empty("delimiter").map(str::to_owned),
            key_marker,
            upload_id_marker,
            max_uploads: fields::page_size(query, "max-uploads", 1, limits.list_max)?,
            encoding_type: EncodingType::from_query(query)?,
        })
    }

    /// Where the page begins; with an upload marker, uploads to that key with a greater id are still to come.
    pub fn resume_after(&self) -> Option<ResumeAfter> {
        let delimiter = self.delimiter.as_deref();
        (!self.key_marker.is_empty()).then(|| ResumeAfter::marker(&self.key_marker, &self.prefix, delimiter))
    }

    fn encode<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        encoded(text, self.encoding_type)
    }
}

/// One upload of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// When it was created, in milliseconds since 1970.
    pub initiated_ms: i64,
    /// The checksum that it was created with.
    pub checksum: Option<UploadChecksum>,
}

/// One page: uploads in byte order of key and upload id, common prefixes in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The uploads.
    pub uploads: Vec<Upload>,
    /// The common prefixes.
    pub common_prefixes: Vec<String>,
    /// The markers of the next page, when there is one.
    pub next: Option<NextMarkers>,
}

/// The markers of the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextMarkers {
    /// The last key or common prefix of this page.
    pub key: String,
    /// The last upload of this page; empty when the page ends with a common prefix.
    pub upload_id: String,
}

/// The response.
pub fn render(request: &Request, page: &Page, owner: &Owner) -> Response {
    let mut writer = Writer::new("ListMultipartUploadsResult");
    writer.text("Bucket", &request.bucket).text("KeyMarker", &request.encode(&request.key_marker));
    writer.text("UploadIdMarker", &request.upload_id_marker);
    if let Some(next) = &page.next {
        writer.text("NextKeyMarker", &request.encode(&next.key)).text("NextUploadIdMarker", &next.upload_id);
    }
    if let Some(delimiter) = &request.delimiter {
        writer.text("Delimiter", &request.encode(delimiter));
    }
    writer.text("Prefix", &request.encode(&request.prefix));
    if request.encoding_type == Some(EncodingType::Url) {
        writer.value("EncodingType", "url");
    }
    writer.value("MaxUploads", request.max_uploads).value("IsTruncated", page.next.is_some());
    for upload in &page.uploads {
        upload.write(request, owner, &mut writer);
    }
    for prefix in &page.common_prefixes {
        writer.open("CommonPrefixes").text("Prefix", &request.encode(prefix)).close();
    }
    Response::xml(200, writer.finish())
}

impl Upload {
    fn write(&self, request: &Request, owner: &Owner, writer: &mut Writer) {
        writer.open("Upload").text("Key", &request.encode(&self.key)).text("UploadId", &self.upload_id);
        owner.write("Initiator", writer);
        owner.write("Owner", writer);
        writer.value("StorageClass", STORAGE_CLASS).value("Initiated", time::iso8601(self.initiated_ms));
        if let Some(checksum) = &self.checksum {
            writer.value("ChecksumAlgorithm", checksum.algorithm.name());
            writer.value("ChecksumType", checksum.checksum_type.name());
        }
        writer.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::checksum::{Algorithm, ChecksumType};
    use crate::op::testing::{document, refused, routed};
    use crate::operation::Operation;

    fn request(parameters: &str) -> Request {
        let target = format!("/bucket?uploads&{parameters}");
        let Ok(Operation::ListMultipartUploads(request)) = routed("GET", &target, &[]) else {
            panic!("a ListMultipartUploads")
        };
        request
    }

    fn owner() -> Owner {
        Owner { id: "75aa".into(), display_name: "me".into() }
    }

    #[test]
    fn no_uploads() {
        assert_eq!(
            document(&render(&request(""), &Page::default(), &owner())),
            "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>bucket</Bucket>\
             <KeyMarker></KeyMarker><UploadIdMarker></UploadIdMarker><Prefix></Prefix><MaxUploads>1000</MaxUploads>\
             <IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
        );
    }

    #[test]
    fn a_page_of_uploads() {
        let checksum =
            Some(UploadChecksum { algorithm: Algorithm::Sha1, checksum_type: ChecksumType::Composite });
        let page = Page {
            uploads: vec![Upload { key: "k 1".into(), upload_id: "U2".into(), initiated_ms: 0, checksum }],
            common_prefixes: vec!["l/".into()],
            next: Some(NextMarkers { key: "l/".into(), upload_id: String::new() }),
        };
        let parameters =
            "key-marker=k%200&upload-id-marker=U1&prefix=&delimiter=/&max-uploads=2&encoding-type=url";
        assert_eq!(
            document(&render(&request(parameters), &page, &owner())),
            "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>bucket</Bucket>\
             <KeyMarker>k%200</KeyMarker><UploadIdMarker>U1</UploadIdMarker><NextKeyMarker>l/</NextKeyMarker>\
             <NextUploadIdMarker></NextUploadIdMarker><Delimiter>/</Delimiter><Prefix></Prefix>\
             <EncodingType>url</EncodingType><MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>\
             <Upload><Key>k%201</Key><UploadId>U2</UploadId>\
             <Initiator><ID>75aa</ID><DisplayName>me</DisplayName></Initiator>\
             <Owner><ID>75aa</ID><DisplayName>me</DisplayName></Owner><StorageClass>STANDARD</StorageClass>\
             <Initiated>1970-01-01T00:00:00.000Z</Initiated><ChecksumAlgorithm>SHA1</ChecksumAlgorithm>\
             <ChecksumType>COMPOSITE</ChecksumType></Upload><CommonPrefixes><Prefix>l/</Prefix></CommonPrefixes>\
             </ListMultipartUploadsResult>"
        );
    }

    #[test]
    fn an_upload_marker_needs_a_key_marker() {
        assert_eq!(request("upload-id-marker=U").upload_id_marker, "");
        assert_eq!(request("key-marker=k&upload-id-marker=U").upload_id_marker, "U");
    }

    #[test]
    fn a_page_has_at_least_one_upload() {
        for parameters in ["max-uploads=0", "max-uploads=-1", "max-uploads=x", "encoding-type=x"] {
            let target = format!("/bucket?uploads&{parameters}");
            assert_eq!(refused("GET", &target, &[]), Code::InvalidArgument, "{target}");
        }
        assert_eq!(request("max-uploads=2000").max_uploads, 1000);
    }
}
