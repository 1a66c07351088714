//! CreateBucket: `PUT /bucket`, with an optional document that names the region.

use crate::checksum::ChecksumRequest;
use crate::http::{RequestHead, Response};
use crate::xml::Reader;
use crate::xml::reader::{malformed, set_once};
use crate::{Code, Error, Limits};

/// A CreateBucket request, without its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// What the document has to add up to.
    pub checksum: ChecksumRequest,
}

impl Request {
    pub(crate) fn from_head(head: &RequestHead, bucket: String) -> Result<Self, Error> {
        Ok(Request { bucket, checksum: ChecksumRequest::from_head(head)? })
    }
}

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The region that the bucket shall be in; any when there is none.
    pub location_constraint: Option<String>,
}

impl Document {
    /// `IllegalLocationConstraintException` when the bucket shall be in another region than this.
    pub fn check_region(&self, region: &str) -> Result<(), Error> {
        match &self.location_constraint {
            Some(asked) if asked != region => Err(Error::with_message(
                Code::IllegalLocationConstraintException,
                format!(
                    "The {asked} location constraint is incompatible for the region specific endpoint this request \
                     was sent to. Use {region}, or none."
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// Reads the document, which may be empty.
///
/// Errors: `MalformedXML`; `NotImplemented` for tags and for the elements of directory buckets.
pub fn parse_document(document: &[u8], limits: &Limits) -> Result<Document, Error> {
    if document.trim_ascii().is_empty() {
        return Ok(Document::default());
    }
    let mut reader = Reader::new(document, limits.xml_len_max, limits.xml_depth_max)?;
    reader.root("CreateBucketConfiguration")?;
    let mut location_constraint = None;
    while let Some(name) = reader.next_child()? {
        match name {
            "LocationConstraint" => set_once(&mut location_constraint, reader.trimmed_text()?)?,
            "Tags" => refuse_tags(&mut reader)?,
            "Location" | "Bucket" => {
                return Err(Error::with_message(
                    Code::NotImplemented,
                    "Directory buckets are not implemented",
                ));
            }
            _ => reader.skip()?,
        }
    }
    reader.finish()?;
    Ok(Document { location_constraint: location_constraint.filter(|region: &String| !region.is_empty()) })
}

/// An empty list of tags is none.
fn refuse_tags(reader: &mut Reader<'_>) -> Result<(), Error> {
    match reader.next_child()? {
        None => Ok(()),
        Some("Tag") => Err(Error::with_message(Code::NotImplemented, "Tags of buckets are not implemented")),
        Some(_) => Err(malformed("Tags may hold nothing but Tag")),
    }
}

/// The response.
pub fn render(request: &Request) -> Response {
    Response::new(200).header("Location", format!("/{}", request.bucket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{header, refused, routed};
    use crate::operation::Operation;

    fn parse(text: &str) -> Result<Option<String>, Code> {
        parse_document(text.as_bytes(), &Limits::default())
            .map(|document| document.location_constraint)
            .map_err(|error| error.code)
    }

    #[test]
    fn the_document_and_the_constraint_are_optional() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse(" \n"), Ok(None));
        assert_eq!(parse("<CreateBucketConfiguration/>"), Ok(None));
        let text = |inner| format!("<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>");
        assert_eq!(parse(&text("<LocationConstraint/>")), Ok(None));
        assert_eq!(parse(&text("<Tags/>")), Ok(None));
        let constraint = "<LocationConstraint>\n eu-central-1 </LocationConstraint><New>x</New>";
        assert_eq!(parse(&text(constraint)), Ok(Some("eu-central-1".into())));
    }

    #[test]
    fn what_is_not_there_is_not_implemented() {
        for inner in ["<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>", "<Bucket/>", "<Location/>"] {
            let text = format!("<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>");
            assert_eq!(parse(&text), Err(Code::NotImplemented), "{inner}");
        }
        for header in [
            ("x-amz-acl", "public-read"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-grant-read", "x"),
        ] {
            assert_eq!(refused("PUT", "/bucket", &[header]), Code::NotImplemented, "{header:?}");
        }
    }

    #[test]
    fn another_root_is_malformed() {
        assert_eq!(parse("<Delete/>"), Err(Code::MalformedXML));
        assert_eq!(parse("not xml"), Err(Code::MalformedXML));
    }

    #[test]
    fn the_region_has_to_be_ours() {
        let document = |region: Option<&str>| Document { location_constraint: region.map(str::to_owned) };
        assert!(document(None).check_region("us-east-1").is_ok());
        assert!(document(Some("us-east-1")).check_region("us-east-1").is_ok());
        let error = document(Some("eu-central-1")).check_region("us-east-1").unwrap_err();
        assert_eq!(error.code, Code::IllegalLocationConstraintException);
    }

    #[test]
    fn the_response_names_the_bucket() {
        let Ok(Operation::CreateBucket(request)) = routed("PUT", "/bucket", &[("x-amz-acl", "private")])
        else {
            panic!("a CreateBucket")
        };
        assert_eq!(header(&render(&request), "Location"), Some("/bucket"));
    }
}
