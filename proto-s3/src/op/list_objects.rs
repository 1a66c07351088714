//! ListObjects, the first version: `GET /bucket`.

use crate::http::Response;
use crate::op::listing::{Page, Scope};
use crate::op::{Owner, ResumeAfter};
use crate::query::Query;
use crate::xml::Writer;
use crate::{Error, Limits};

/// A ListObjects request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// What to list.
    pub scope: Scope,
    /// The page begins behind this key; empty for the first page.
    pub marker: String,
}

impl Request {
    pub(crate) fn from_query(query: &Query, bucket: String, limits: &Limits) -> Result<Self, Error> {
        let marker = query.value("marker").unwrap_or("").to_owned();
        Ok(Request { bucket, scope: Scope::from_query(query, limits)?, marker })
    }

    /// Where the page begins; `None` for the first page.
    pub fn resume_after(&self) -> Option<ResumeAfter> {
        let delimiter = self.scope.delimiter.as_deref();
        (!self.marker.is_empty()).then(|| ResumeAfter::marker(&self.marker, &self.scope.prefix, delimiter))
    }
}

/// The response.
pub fn render(request: &Request, page: &Page, owner: &Owner) -> Response {
    let scope = &request.scope;
    let mut writer = Writer::new("ListBucketResult");
    writer.text("Name", &request.bucket).text("Prefix", &scope.encode(&scope.prefix));
    writer.text("Marker", &scope.encode(&request.marker));
    // Without a delimiter the last key is the next marker, and AWS leaves the client to see that.
    if let Some(next) = page.next.as_ref().filter(|_| scope.delimiter.is_some()) {
        writer.text("NextMarker", &scope.encode(next.as_str()));
    }
    scope.write_limits(&mut writer, page.next.is_some());
    page.write(scope, Some(owner), &mut writer);
    Response::xml(200, writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{Algorithm, ChecksumType};
    use crate::op::listing::Entry;
    use crate::op::testing::{document, refused, routed};
    use crate::operation::Operation;
    use crate::{Code, ETag};

    fn request(target: &str) -> Request {
        let Ok(Operation::ListObjects(request)) = routed("GET", target, &[]) else { panic!("a ListObjects") };
        request
    }

    fn owner() -> Owner {
        Owner { id: "75aa".into(), display_name: "me & you".into() }
    }

    fn entry(key: &str) -> Entry {
        Entry {
            key: key.into(),
            last_modified_ms: 1_255_369_850_000,
            etag: ETag::parse("fba9dede5f27731c9771645a39863328").unwrap(),
            len: 434_234,
            checksum: None,
        }
    }

    #[test]
    fn an_empty_bucket() {
        assert_eq!(
            document(&render(&request("/bucket"), &Page::default(), &owner())),
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name><Prefix></Prefix>\
             <Marker></Marker><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
        );
    }

    #[test]
    fn a_full_page_in_the_order_of_the_schema() {
        let page = Page {
            entries: vec![Entry {
                checksum: Some((Algorithm::Crc32, ChecksumType::Composite)),
                ..entry("p/a<b\u{1}")
            }],
            common_prefixes: vec!["p/c d/".into()],
            next: Some(ResumeAfter::CommonPrefix("p/c d/".into())),
        };
        let target = "/bucket?prefix=p/&marker=p%2F0&delimiter=%2F&max-keys=2";
        assert_eq!(
            document(&render(&request(target), &page, &owner())),
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name>\
             <Prefix>p/</Prefix><Marker>p/0</Marker><NextMarker>p/c d/</NextMarker><MaxKeys>2</MaxKeys>\
             <Delimiter>/</Delimiter><IsTruncated>true</IsTruncated><Contents><Key>p/a&lt;b&#x1;</Key>\
             <LastModified>2009-10-12T17:50:50.000Z</LastModified>\
             <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>\
             <ChecksumType>COMPOSITE</ChecksumType><Size>434234</Size>\
             <Owner><ID>75aa</ID><DisplayName>me &amp; you</DisplayName></Owner>\
             <StorageClass>STANDARD</StorageClass></Contents>\
             <CommonPrefixes><Prefix>p/c d/</Prefix></CommonPrefixes></ListBucketResult>"
        );
    }

    #[test]
    fn url_encoding_covers_keys_prefixes_delimiter_and_markers() {
        let page = Page {
            entries: vec![entry("a b/\u{1}")],
            common_prefixes: vec!["a b/c+".into()],
            next: Some(ResumeAfter::CommonPrefix("a b/c+".into())),
        };
        let target = "/bucket?prefix=a%20b/&marker=%25&delimiter=%2B&encoding-type=url";
        let text = document(&render(&request(target), &page, &owner()));
        for expected in [
            "<Prefix>a%20b/</Prefix><Marker>%25</Marker><NextMarker>a%20b/c%2B</NextMarker>",
            "<Delimiter>%2B</Delimiter><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>",
            "<Key>a%20b/%01</Key>",
            "<CommonPrefixes><Prefix>a%20b/c%2B</Prefix></CommonPrefixes>",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn there_is_a_next_marker_only_with_a_delimiter() {
        let page = Page { next: Some(ResumeAfter::Key("a".into())), ..Page::default() };
        let text = document(&render(&request("/bucket?max-keys=1"), &page, &owner()));
        assert!(text.contains("<IsTruncated>true</IsTruncated>") && !text.contains("NextMarker"), "{text}");
    }

    #[test]
    fn empty_parameters_count_as_absent() {
        let request = request("/bucket?prefix=&marker=&delimiter=&encoding-type=");
        assert_eq!((request.scope.delimiter.as_deref(), request.scope.encoding_type), (None, None));
        assert_eq!(request.resume_after(), None);
    }

    #[test]
    fn a_marker_resumes_behind_itself() {
        let resume = |target| request(target).resume_after();
        assert_eq!(resume("/bucket?marker=a/"), Some(ResumeAfter::Key("a/".into())));
        assert_eq!(resume("/bucket?marker=a/&delimiter=/"), Some(ResumeAfter::CommonPrefix("a/".into())));
    }

    #[test]
    fn bad_parameters_are_refused() {
        for target in ["/bucket?max-keys=-1", "/bucket?max-keys=x", "/bucket?encoding-type=xml"] {
            assert_eq!(refused("GET", target, &[]), Code::InvalidArgument, "{target}");
        }
    }
}
