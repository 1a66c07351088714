//! CompleteMultipartUpload: `POST /bucket/key?uploadId=`, a document that lists the parts.
//!
//! The checksum headers of this request are about the object, not about the document, so that
//! `checksum::ChecksumRequest` must not be read from its head as it stands: [`Request::document_checksum`] holds what is
//! stated about the document.

use crate::checksum::{Algorithm, Checksum, ChecksumRequest, ChecksumType};
use crate::condition::WriteCondition;
use crate::http::{RequestHead, Response};
use crate::op::create_multipart_upload::checksum_type;
use crate::op::{Encryption, ObjectChecksum};
use crate::xml::reader::{malformed, set_once};
use crate::xml::{Reader, Writer};
use crate::{Code, ETag, Error, Limits};

/// A CompleteMultipartUpload request, without its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// What has to be true of the object that is there before.
    pub condition: WriteCondition,
    /// The length that the object has to come to.
    pub object_len: Option<u64>,
    /// The checksum that the object has to come to.
    pub object_checksum: Option<StatedChecksum>,
    /// The type that the upload has to have been created with.
    pub checksum_type: Option<ChecksumType>,
    /// What the document has to add up to.
    pub document_checksum: ChecksumRequest,
}

/// A checksum of the object, as the client states it: with or without `-N` when it is composite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedChecksum {
    /// The value.
    pub checksum: Checksum,
    /// The number of parts behind it, when the client wrote one.
    pub parts_count: Option<u32>,
}

impl StatedChecksum {
    /// Whether this is the checksum that the object came to.
    pub fn agrees_with(&self, computed: &ObjectChecksum) -> bool {
        let parts_agree = match (self.parts_count, computed.checksum_type) {
            (None, _) => true,
            (Some(stated), ChecksumType::Composite) => stated == computed.parts_count,
            (Some(_), ChecksumType::FullObject) => false,
        };
        self.checksum == computed.checksum && parts_agree
    }
}

impl Request {
    pub(crate) fn from_head(
        head: &RequestHead,
        bucket: String,
        key: String,
        upload_id: String,
    ) -> Result<Self, Error> {
        Ok(Request {
            bucket,
            key,
            upload_id,
            condition: WriteCondition::from_head(head)?,
            object_len: object_len(head)?,
            object_checksum: object_checksum(head)?,
            checksum_type: checksum_type(head)?,
            document_checksum: document_checksum(head)?,
        })
    }

    /// Checks the length that the object came to; `InvalidRequest` when another one was stated.
    pub fn check_object_len(&self, computed: u64) -> Result<(), Error> {
        match self.object_len {
            Some(stated) if stated != computed => Err(Error::with_message(
                Code::InvalidRequest,
                format!(
                    "The provided 'x-amz-mp-object-size' header value {stated} does not match what was computed: \
                     {computed}"
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn object_len(head: &RequestHead) -> Result<Option<u64>, Error> {
    let Some(value) = head.header_bytes("x-amz-mp-object-size") else { return Ok(None) };
    crate::encoding::decimal(value).map(Some).ok_or_else(|| {
        Error::with_message(Code::InvalidRequest, "Value for x-amz-mp-object-size header is invalid.")
    })
}

fn object_checksum(head: &RequestHead) -> Result<Option<StatedChecksum>, Error> {
    let mut found = None;
    for (name, value) in &head.headers {
        let Some(algorithm) = Algorithm::from_header_name(name) else { continue };
        let (checksum, parts_count) = std::str::from_utf8(value)
            .ok()
            .and_then(|text| Checksum::from_base64_of_parts(algorithm, text))
            .ok_or_else(|| {
                let message = format!("Value for {name} header is invalid.");
                Error::with_message(Code::InvalidRequest, message)
            })?;
        if found.replace(StatedChecksum { checksum, parts_count }).is_some() {
            return Err(Error::with_message(
                Code::InvalidRequest,
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            ));
        }
    }
    Ok(found)
}

/// What is stated about the document: Content-MD5 and a trailer.
fn document_checksum(head: &RequestHead) -> Result<ChecksumRequest, Error> {
    let is_about_document = |name: &str| matches!(name, "content-md5" | "x-amz-trailer");
    let headers = head.headers.iter().filter(|(name, _)| is_about_document(name)).collect();
    let RequestHead { method, minor_version, .. } = *head;
    let (raw_path, raw_query) = (String::new(), String::new());
    ChecksumRequest::from_head(&RequestHead { method, raw_path, raw_query, minor_version, headers })
}

/// One part of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number; numbers ascend.
    pub number: u32,
    /// Its tag; `None` when it is one that no part can have, which is `InvalidPart`.
    pub etag: Option<ETag>,
    /// Its checksum, when the client states it.
    pub checksum: Option<Checksum>,
}

/// Reads the document: at least one part, in ascending order.
///
/// Errors: `MalformedXML`, `InvalidPartOrder`, `InvalidArgument` for a number out of range, `InvalidRequest` for a checksum
/// that does not decode, `NotImplemented` for one that we do not know.
pub fn parse_document(document: &[u8], limits: &Limits) -> Result<Vec<Part>, Error> {
    let mut reader = Reader::new(document, limits.xml_list_len_max, limits.xml_depth_max)?;
    reader.root("CompleteMultipartUpload")?;
    let mut parts: Vec<Part> = Vec::new();
    while let Some(name) = reader.next_child()? {
        if name == "Part" {
            parts.push(parse_part(&mut reader, limits)?);
        } else {
            reader.skip()?;
        }
    }
    reader.finish()?;
    if parts.is_empty() {
        return Err(malformed("The document lists no part"));
    }
    if !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(Error::new(Code::InvalidPartOrder));
    }
    Ok(parts)
}

fn parse_part(reader: &mut Reader<'_>, limits: &Limits) -> Result<Part, Error> {
    let (mut number, mut etag, mut checksum) = (None, None, None);
    while let Some(name) = reader.next_child()? {
        match name {
            "PartNumber" => set_once(&mut number, part_number(&reader.trimmed_text()?, limits)?)?,
            "ETag" => set_once(&mut etag, ETag::parse(&reader.trimmed_text()?))?,
            name if name.starts_with("Checksum") => {
                let algorithm = checksum_algorithm(name)?;
                set_once(&mut checksum, part_checksum(algorithm, &reader.trimmed_text()?)?)?;
            }
            _ => reader.skip()?,
        }
    }
    Ok(Part {
        number: number.ok_or_else(|| malformed("A Part has no PartNumber"))?,
        etag: etag.ok_or_else(|| malformed("A Part has no ETag"))?,
        checksum,
    })
}

fn part_number(text: &str, limits: &Limits) -> Result<u32, Error> {
    let number: i64 = text.parse().map_err(|_| malformed("A PartNumber is not a number"))?;
    u32::try_from(number).ok().filter(|number| (1..=limits.parts_max).contains(number)).ok_or_else(|| {
        Error::invalid_argument(
            format!("Part number must be an integer between 1 and {}, inclusive", limits.parts_max),
            "partNumber",
            text,
        )
    })
}

fn checksum_algorithm(element: &str) -> Result<Algorithm, Error> {
    Algorithm::ALL.into_iter().find(|algorithm| algorithm.element_name() == element).ok_or_else(|| {
        Error::with_message(
            Code::NotImplemented,
            format!("The checksum {element} of a part is not implemented"),
        )
    })
}

fn part_checksum(algorithm: Algorithm, text: &str) -> Result<Checksum, Error> {
    Checksum::from_base64(algorithm, text).ok_or_else(|| {
        let message = format!("Value for {} of a part is invalid.", algorithm.element_name());
        Error::with_message(Code::InvalidRequest, message)
    })
}

/// The response. `location` is the URL of the object.
pub fn render(
    request: &Request,
    location: &str,
    etag: &ETag,
    checksum: Option<&ObjectChecksum>,
    encryption: Encryption,
) -> Response {
    let mut writer = Writer::new("CompleteMultipartUploadResult");
    writer.text("Location", location).text("Bucket", &request.bucket).text("Key", &request.key);
    writer.quoted("ETag", etag);
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
    use crate::op::testing::{document, refused, routed};
    use crate::operation::Operation;

    const TAG: &str = "d41d8cd98f00b204e9800998ecf8427e";

    fn parse(text: &str) -> Result<Vec<Part>, Code> {
        parse_document(text.as_bytes(), &Limits::default()).map_err(|error| error.code)
    }

    fn part(number: i64, more: &str) -> String {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{TAG}\"</ETag>{more}</Part>")
    }

    fn document_of(parts: &[String]) -> String {
        format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.concat())
    }

    fn request(headers: &[(&str, &str)]) -> Request {
        let Ok(Operation::CompleteMultipartUpload(request)) =
            routed("POST", "/bucket/k?uploadId=U1", headers)
        else {
            panic!("a CompleteMultipartUpload")
        };
        request
    }

    #[test]
    fn parts_are_read_with_quoted_and_bare_tags_and_checksums() {
        let text = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Part><ETag>&quot;{TAG}&quot;</ETag><PartNumber> 1 </PartNumber></Part>\n\
             <Part><PartNumber>3</PartNumber><ETag>{TAG}</ETag><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part>\n\
             <Part><PartNumber>10000</PartNumber><ETag>elsewhere</ETag><Size>5</Size></Part>\
             </CompleteMultipartUpload>"
        );
        let etag = ETag::parse(TAG);
        let checksum = Checksum::from_base64(Algorithm::Crc32, "y/Q5Jg==");
        assert_eq!(
            parse(&text).unwrap(),
            [
                Part { number: 1, etag, checksum: None },
                Part { number: 3, etag, checksum },
                Part { number: 10_000, etag: None, checksum: None },
            ]
        );
    }

    #[test]
    fn ten_thousand_parts_are_read() {
        let parts: Vec<String> = (1..=10_000).map(|number| part(number, "")).collect();
        assert_eq!(parse(&document_of(&parts)).unwrap().len(), 10_000);
    }

    #[test]
    fn parts_have_to_ascend() {
        assert_eq!(parse(&document_of(&[part(2, ""), part(1, "")])), Err(Code::InvalidPartOrder));
        assert_eq!(parse(&document_of(&[part(1, ""), part(1, "")])), Err(Code::InvalidPartOrder));
    }

    #[test]
    fn numbers_out_of_range_are_invalid() {
        for number in [0, -1, 10_001, 4_294_967_297] {
            assert_eq!(parse(&document_of(&[part(number, "")])), Err(Code::InvalidArgument), "{number}");
        }
    }

    #[test]
    fn checksums_have_to_decode_and_be_known() {
        let with = |more: &str| parse(&document_of(&[part(1, more)]));
        assert_eq!(with("<ChecksumSHA1>x</ChecksumSHA1>"), Err(Code::InvalidRequest));
        assert_eq!(with("<ChecksumSHA512>x</ChecksumSHA512>"), Err(Code::NotImplemented));
        let two = "<ChecksumCRC32>y/Q5Jg==</ChecksumCRC32><ChecksumCRC32C>y/Q5Jg==</ChecksumCRC32C>";
        assert_eq!(with(two), Err(Code::MalformedXML));
    }

    #[test]
    fn what_does_not_follow_the_schema_is_malformed() {
        let etag = format!("<ETag>{TAG}</ETag>");
        for text in [
            String::new(),
            "<CompleteMultipartUpload/>".into(),
            "<CompleteMultipartUpload><Part/></CompleteMultipartUpload>".into(),
            document_of(&["<Part><PartNumber>1</PartNumber></Part>".into()]),
            document_of(&[format!("<Part>{etag}</Part>")]),
            document_of(&[format!("<Part><PartNumber>one</PartNumber>{etag}</Part>")]),
            document_of(&[format!("<Part><PartNumber>1</PartNumber>{etag}{etag}</Part>")]),
            document_of(&[part(1, "")]).replace("CompleteMultipartUpload", "Complete"),
        ] {
            assert_eq!(parse(&text), Err(Code::MalformedXML), "{text}");
        }
    }

    #[test]
    fn checksum_headers_are_about_the_object_and_content_md5_about_the_document() {
        let request = request(&[
            ("x-amz-checksum-crc32", "y/Q5Jg==-2"),
            ("x-amz-checksum-type", "COMPOSITE"),
            ("x-amz-mp-object-size", "10"),
            ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            ("if-match", TAG),
        ]);
        let checksum = Checksum::from_base64(Algorithm::Crc32, "y/Q5Jg==").unwrap();
        assert_eq!(request.object_checksum, Some(StatedChecksum { checksum, parts_count: Some(2) }));
        assert_eq!(request.checksum_type, Some(ChecksumType::Composite));
        assert!(request.document_checksum.content_md5().is_some());
        assert_eq!(request.document_checksum.algorithm(), None);
        assert_eq!(request.condition, WriteCondition::Etag(ETag::parse(TAG).unwrap()));
        assert!(request.check_object_len(10).is_ok());
        assert_eq!(request.check_object_len(11).unwrap_err().code, Code::InvalidRequest);
    }

    #[test]
    fn a_stated_checksum_may_leave_out_the_number_of_parts() {
        let checksum = Hasher::hash(Algorithm::Sha256, b"x");
        let stated = |parts_count| StatedChecksum { checksum, parts_count };
        assert!(stated(None).agrees_with(&ObjectChecksum::composite(checksum, 2)));
        assert!(stated(Some(2)).agrees_with(&ObjectChecksum::composite(checksum, 2)));
        assert!(!stated(Some(3)).agrees_with(&ObjectChecksum::composite(checksum, 2)));
        assert!(stated(None).agrees_with(&ObjectChecksum::full_object(checksum)));
        assert!(!stated(Some(2)).agrees_with(&ObjectChecksum::full_object(checksum)));
        let other = Hasher::hash(Algorithm::Sha256, b"y");
        assert!(!stated(None).agrees_with(&ObjectChecksum::full_object(other)));
    }

    #[test]
    fn malformed_headers_are_refused() {
        for header in [
            ("x-amz-mp-object-size", "-1"),
            ("x-amz-mp-object-size", "ten"),
            ("x-amz-checksum-crc32", "y/Q5Jg==-x"),
            ("x-amz-checksum-crc32", "short"),
            ("x-amz-checksum-type", "composite?"),
        ] {
            assert_eq!(
                refused("POST", "/bucket/k?uploadId=U1", &[header]),
                Code::InvalidRequest,
                "{header:?}"
            );
        }
    }

    #[test]
    fn the_response_is_a_document() {
        let checksum = ObjectChecksum::composite(Hasher::hash(Algorithm::Crc32, b"123456789"), 2);
        let etag = ETag { parts: 2, ..ETag::parse(TAG).unwrap() };
        let response = render(&request(&[]), "https://h/bucket/k", &etag, Some(&checksum), Encryption::None);
        assert_eq!(
            document(&response),
            "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Location>https://h/bucket/k</Location><Bucket>bucket</Bucket><Key>k</Key>\
             <ETag>&quot;d41d8cd98f00b204e9800998ecf8427e-2&quot;</ETag>\
             <ChecksumCRC32>y/Q5Jg==-2</ChecksumCRC32><ChecksumType>COMPOSITE</ChecksumType>\
             </CompleteMultipartUploadResult>"
        );
    }
}
