//! GetObjectAttributes: `GET /bucket/key?attributes`.

use crate::checksum::Checksum;
use crate::condition::Conditions;
use crate::http::{RequestHead, Response};
use crate::op::fields::{INTEGER_MAX, parse_integer};
use crate::op::{Object, STORAGE_CLASS};
use crate::xml::Writer;
use crate::{Code, Error, Limits, time};

/// The header that lists what to report.
const ATTRIBUTES_HEADER: &str = "x-amz-object-attributes";

/// A GetObjectAttributes request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What to report; at least one, each once.
    pub attributes: Vec<Attribute>,
    /// Only parts with greater numbers are reported.
    pub part_number_marker: u32,
    /// Most parts to report, 0 to 1000.
    pub max_parts: u32,
    /// The conditions; where they say 304, the answer is `get_object::render_not_modified`.
    pub conditions: Conditions,
}

/// Something to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The entity tag.
    ETag,
    /// The checksum.
    Checksum,
    /// The parts that it was uploaded in.
    ObjectParts,
    /// The storage class.
    StorageClass,
    /// The length.
    ObjectSize,
}

impl Attribute {
    /// All of them, in the order of the response.
    const ALL: [(Attribute, &str); 5] = [
        (Attribute::ETag, "ETag"),
        (Attribute::Checksum, "Checksum"),
        (Attribute::ObjectParts, "ObjectParts"),
        (Attribute::StorageClass, "StorageClass"),
        (Attribute::ObjectSize, "ObjectSize"),
    ];
}

impl Request {
    pub(crate) fn from_head(
        head: &RequestHead,
        bucket: String,
        key: String,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let max_parts =
            integer(head, "x-amz-max-parts")?.map_or(limits.list_max, |asked| asked.min(limits.list_max));
        Ok(Request {
            bucket,
            key,
            attributes: attributes(head)?,
            part_number_marker: integer(head, "x-amz-part-number-marker")?.unwrap_or(0),
            max_parts,
            conditions: Conditions::from_head(head),
        })
    }
}

/// `InvalidArgument` for none, or one that is unknown.
fn attributes(head: &RequestHead) -> Result<Vec<Attribute>, Error> {
    let mut asked = Vec::new();
    for value in head.header_all(ATTRIBUTES_HEADER) {
        for name in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
        {
            let known = Attribute::ALL.iter().find(|(_, known)| known.as_bytes() == name);
            let (attribute, _) = known.ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                Error::invalid_argument("Invalid attribute name specified.", ATTRIBUTES_HEADER, name)
            })?;
            if !asked.contains(attribute) {
                asked.push(*attribute);
            }
        }
    }
    if asked.is_empty() {
        return Err(Error::with_message(
            Code::InvalidRequest,
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        ));
    }
    Ok(asked)
}

fn integer(head: &RequestHead, name: &str) -> Result<Option<u32>, Error> {
    let Some(value) = head.header_bytes(name) else { return Ok(None) };
    parse_integer(name, &String::from_utf8_lossy(value), 0..=INTEGER_MAX).map(Some)
}

/// What is known about the parts of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// How many there are.
    pub parts_count: u32,
    /// Some of them. AWS reports parts one by one only when the object has a checksum.
    pub page: Option<PartsPage>,
}

/// A page of parts behind the request's marker, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartsPage {
    /// The parts.
    pub parts: Vec<Part>,
    /// Whether there are more.
    pub is_truncated: bool,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: u32,
    /// Its length in bytes.
    pub len: u64,
    /// Its checksum, if it has one.
    pub checksum: Option<Checksum>,
}

/// The response. `parts` is `None` for an object that was not uploaded in parts.
pub fn render(request: &Request, object: &Object<'_>, parts: Option<&Parts>) -> Response {
    let mut writer = Writer::new("GetObjectAttributesResponse");
    for (attribute, _) in Attribute::ALL.iter().filter(|(known, _)| request.attributes.contains(known)) {
        write_attribute(*attribute, request, object, parts, &mut writer);
    }
    let last_modified = time::http_date(object.last_modified_ms.div_euclid(1000));
    Response::xml(200, writer.finish()).header("Last-Modified", last_modified)
}

fn write_attribute(
    attribute: Attribute,
    request: &Request,
    object: &Object<'_>,
    parts: Option<&Parts>,
    writer: &mut Writer,
) {
    match (attribute, &object.checksum, parts) {
        // Here, and only here, AWS writes the tag without quotes.
        (Attribute::ETag, ..) => _ = writer.value("ETag", object.etag),
        (Attribute::Checksum, Some(checksum), _) => {
            writer.open("Checksum");
            checksum.write(writer);
            writer.close();
        }
        (Attribute::ObjectParts, _, Some(parts)) => parts.write(request, writer),
        (Attribute::StorageClass, ..) => _ = writer.value("StorageClass", STORAGE_CLASS),
        (Attribute::ObjectSize, ..) => _ = writer.value("ObjectSize", object.len),
        (Attribute::Checksum, None, _) | (Attribute::ObjectParts, _, None) => {}
    }
}

impl Parts {
    fn write(&self, request: &Request, writer: &mut Writer) {
        writer.open("ObjectParts");
        if let Some(page) = &self.page {
            let next = page.parts.last().map_or(request.part_number_marker, |part| part.number);
            writer.value("IsTruncated", page.is_truncated).value("MaxParts", request.max_parts);
            writer.value("NextPartNumberMarker", next).value("PartNumberMarker", request.part_number_marker);
            for part in &page.parts {
                writer.open("Part");
                if let Some(checksum) = &part.checksum {
                    writer.value(checksum.algorithm().element_name(), checksum.to_base64());
                }
                writer.value("PartNumber", part.number).value("Size", part.len).close();
            }
        }
        writer.value("PartsCount", self.parts_count).close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ETag;
    use crate::checksum::{Algorithm, Hasher};
    use crate::op::testing::{document, header, refused, routed};
    use crate::op::{Encryption, ObjectChecksum, ObjectHeaders};
    use crate::operation::Operation;

    fn request(headers: &[(&str, &str)]) -> Request {
        let Ok(Operation::GetObjectAttributes(request)) = routed("GET", "/bucket/k?attributes", headers)
        else {
            panic!("a GetObjectAttributes")
        };
        request
    }

    fn rendered(attributes: &str, checksum: Option<ObjectChecksum>, parts: Option<&Parts>) -> Response {
        let headers = ObjectHeaders::default();
        let etag = ETag { parts: 2, ..ETag::parse("d41d8cd98f00b204e9800998ecf8427e").unwrap() };
        let encryption = Encryption::None;
        let object = Object { etag, last_modified_ms: 0, len: 9, headers: &headers, checksum, encryption };
        render(&request(&[(ATTRIBUTES_HEADER, attributes), ("x-amz-max-parts", "1")]), &object, parts)
    }

    #[test]
    fn everything_in_the_order_of_the_schema() {
        let checksum = Hasher::hash(Algorithm::Crc32, b"123456789");
        let page = PartsPage {
            parts: vec![Part { number: 1, len: 5, checksum: Some(checksum) }],
            is_truncated: true,
        };
        let parts = Parts { parts_count: 2, page: Some(page) };
        let composite = ObjectChecksum::composite(checksum, 2);
        let response =
            rendered("ObjectSize, StorageClass,ObjectParts ,Checksum,ETag", Some(composite), Some(&parts));
        assert_eq!(
            document(&response),
            "<GetObjectAttributesResponse xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <ETag>d41d8cd98f00b204e9800998ecf8427e-2</ETag><Checksum><ChecksumCRC32>y/Q5Jg==-2</ChecksumCRC32>\
             <ChecksumType>COMPOSITE</ChecksumType></Checksum><ObjectParts><IsTruncated>true</IsTruncated>\
             <MaxParts>1</MaxParts><NextPartNumberMarker>1</NextPartNumberMarker>\
             <PartNumberMarker>0</PartNumberMarker><Part><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32>\
             <PartNumber>1</PartNumber><Size>5</Size></Part><PartsCount>2</PartsCount></ObjectParts>\
             <StorageClass>STANDARD</StorageClass><ObjectSize>9</ObjectSize></GetObjectAttributesResponse>"
        );
        assert_eq!(header(&response, "Last-Modified"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    }

    #[test]
    fn what_an_object_does_not_have_is_left_out() {
        assert_eq!(
            document(&rendered("Checksum,ObjectParts,ObjectSize", None, None)),
            "<GetObjectAttributesResponse xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <ObjectSize>9</ObjectSize></GetObjectAttributesResponse>"
        );
        let counted = Parts { parts_count: 2, page: None };
        let text = document(&rendered("ObjectParts", None, Some(&counted)));
        assert!(text.contains("<ObjectParts><PartsCount>2</PartsCount></ObjectParts>"), "{text}");
    }

    #[test]
    fn attributes_may_come_in_several_headers() {
        let request = request(&[(ATTRIBUTES_HEADER, "ETag"), (ATTRIBUTES_HEADER, "ObjectSize,ETag")]);
        assert_eq!(request.attributes, [Attribute::ETag, Attribute::ObjectSize]);
    }

    #[test]
    fn bad_headers_are_refused() {
        for (headers, code) in [
            (&[][..], Code::InvalidRequest),
            (&[(ATTRIBUTES_HEADER, "")], Code::InvalidRequest),
            (&[(ATTRIBUTES_HEADER, "ETag,Colour")], Code::InvalidArgument),
            (&[(ATTRIBUTES_HEADER, "ETag"), ("x-amz-max-parts", "-1")], Code::InvalidArgument),
            (&[(ATTRIBUTES_HEADER, "ETag"), ("x-amz-part-number-marker", "x")], Code::InvalidArgument),
        ] {
            assert_eq!(refused("GET", "/bucket/k?attributes", headers), code, "{headers:?}");
        }
    }
}
