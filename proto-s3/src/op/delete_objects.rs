//! DeleteObjects: `POST /bucket?delete`, a document of up to 1000 keys.

use crate::checksum::ChecksumRequest;
use crate::condition::WriteCondition;
use crate::http::{RequestHead, Response};
use crate::target;
use crate::xml::reader::{malformed, set_once};
use crate::xml::{Reader, Writer};
use crate::{Code, Error, Limits};

/// A DeleteObjects request, without its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// What the document has to add up to; something is always stated.
    pub checksum: ChecksumRequest,
}

impl Request {
    /// `InvalidRequest` when neither Content-MD5 nor a checksum protects the document.
    pub(crate) fn from_head(head: &RequestHead, bucket: String) -> Result<Self, Error> {
        let checksum = ChecksumRequest::from_head(head)?;
        if !checksum.is_stated() {
            return Err(Error::with_message(
                Code::InvalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ));
        }
        Ok(Request { bucket, checksum })
    }
}

/// The document of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What the response lists.
    pub report: Report,
    /// What to delete, in the order of the document; 1 to 1000.
    pub objects: Vec<Object>,
}

/// What the response lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Every key.
    Everything,
    /// Only keys that could not be deleted: `<Quiet>true</Quiet>`.
    FailuresOnly,
}

/// One object to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The key.
    pub key: String,
    /// `null` or nothing, unless refused.
    pub version_id: Option<String>,
    /// What has to be true of the object.
    pub condition: WriteCondition,
    /// Why this entry fails, whatever is stored; the others go on.
    pub refusal: Option<Error>,
}

/// Reads the document.
///
/// Errors: `MalformedXML`, also for no key or more than the limit.
pub fn parse_document(document: &[u8], limits: &Limits) -> Result<Document, Error> {
    let mut reader = Reader::new(document, limits.xml_list_len_max, limits.xml_depth_max)?;
    reader.root("Delete")?;
    let mut objects = Vec::new();
    let mut quiet = None;
    while let Some(name) = reader.next_child()? {
        match name {
            "Object" if objects.len() == limits.delete_keys_max => {
                return Err(malformed("The document names too many objects"));
            }
            "Object" => objects.push(parse_object(&mut reader, limits)?),
            "Quiet" => set_once(&mut quiet, parse_quiet(&reader.trimmed_text()?)?)?,
            _ => reader.skip()?,
        }
    }
    reader.finish()?;
    if objects.is_empty() {
        return Err(malformed("The document names no object"));
    }
    Ok(Document { report: quiet.unwrap_or(Report::Everything), objects })
}

fn parse_quiet(text: &str) -> Result<Report, Error> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Report::FailuresOnly),
        "false" | "0" => Ok(Report::Everything),
        _ => Err(malformed("Quiet has to be true or false")),
    }
}

fn parse_object(reader: &mut Reader<'_>, limits: &Limits) -> Result<Object, Error> {
    let (mut key, mut version_id, mut etag, mut refusal) = (None, None, None, None);
    while let Some(name) = reader.next_child()? {
        match name {
            "Key" => set_once(&mut key, reader.text()?)?,
            "VersionId" => set_once(&mut version_id, reader.trimmed_text()?)?,
            "ETag" => set_once(&mut etag, reader.trimmed_text()?)?,
            "LastModifiedTime" | "Size" => {
                let what = if name == "Size" { "Size" } else { "LastModifiedTime" };
                refusal = Some(Error::with_message(
                    Code::NotImplemented,
                    format!("The condition {what} of an object to delete is not implemented"),
                ));
                reader.skip()?;
            }
            _ => reader.skip()?,
        }
    }
    let key: String =
        key.filter(|key: &String| !key.is_empty()).ok_or_else(|| malformed("An Object has no Key"))?;
    let version_id = version_id.filter(|id: &String| !id.is_empty());
    let refusal = refusal
        .or_else(|| target::check_key(&key, limits).err())
        .or_else(|| version_id.as_deref().and_then(|id| target::check_version_id(id).err()));
    let condition = etag.map_or(WriteCondition::None, |tag: String| WriteCondition::from_tag(&tag));
    Ok(Object { key, version_id, condition, refusal })
}

/// The response; `outcomes` are those of the document's objects, in order.
pub fn render(document: &Document, outcomes: &[Result<(), Error>]) -> Response {
    let mut writer = Writer::new("DeleteResult");
    for (object, outcome) in document.objects.iter().zip(outcomes) {
        match outcome {
            Ok(()) if document.report == Report::FailuresOnly => {}
            Ok(()) => {
                writer.open("Deleted").text("Key", &object.key);
                writer.optional_text("VersionId", object.version_id.as_deref()).close();
            }
            Err(error) => {
                writer.open("Error").text("Key", &object.key);
                writer.optional_text("VersionId", object.version_id.as_deref());
                writer.text("Code", error.code.as_str()).text("Message", &error.message).close();
            }
        }
    }
    Response::xml(200, writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ETag;
    use crate::op::testing::{document, refused, routed};

    fn parse(text: &str) -> Result<Document, Error> {
        parse_document(text.as_bytes(), &Limits::default())
    }

    fn object(key: &str) -> Object {
        Object { key: key.into(), version_id: None, condition: WriteCondition::None, refusal: None }
    }

    #[test]
    fn the_document_must_be_protected_by_a_digest() {
        assert_eq!(refused("POST", "/bucket?delete", &[]), Code::InvalidRequest);
        assert!(routed("POST", "/bucket?delete", &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]).is_ok());
        assert!(routed("POST", "/bucket?delete", &[("x-amz-checksum-crc32", "y/Q5Jg==")]).is_ok());
        assert!(routed("POST", "/bucket/?delete=", &[("x-amz-trailer", "x-amz-checksum-crc32")]).is_ok());
    }

    #[test]
    fn keys_are_taken_to_the_letter() {
        let parsed = parse(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  \
             <Object><Key> a&amp;b&#x1;\u{e9} </Key></Object>\n<Object><Key><![CDATA[<c>]]></Key>\
             <Unknown><Key>x</Key></Unknown></Object><Later/></Delete>",
        )
        .unwrap();
        assert_eq!(parsed.report, Report::Everything);
        assert_eq!(parsed.objects, [object(" a&b\u{1}\u{e9} "), object("<c>")]);
    }

    #[test]
    fn entries_may_have_conditions_and_the_null_version() {
        let parsed = parse(
            "<Delete><Quiet>true</Quiet><Object><Key>a</Key><VersionId>null</VersionId>\
             <ETag>\"d41d8cd98f00b204e9800998ecf8427e\"</ETag></Object></Delete>",
        )
        .unwrap();
        let etag = ETag::parse("d41d8cd98f00b204e9800998ecf8427e").unwrap();
        assert_eq!(parsed.report, Report::FailuresOnly);
        let expected =
            Object { version_id: Some("null".into()), condition: WriteCondition::Etag(etag), ..object("a") };
        assert_eq!(parsed.objects, [expected]);
    }

    #[test]
    fn an_entry_can_be_refused_alone() {
        let long = "k".repeat(1025);
        let parsed = parse(&format!(
            "<Delete><Object><Key>a</Key><VersionId>other</VersionId></Object><Object><Key>{long}</Key></Object>\
             <Object><Key>b</Key><Size>5</Size></Object><Object><Key>c</Key></Object></Delete>"
        ))
        .unwrap();
        let codes: Vec<Option<Code>> =
            parsed.objects.iter().map(|object| object.refusal.as_ref().map(|error| error.code)).collect();
        assert_eq!(
            codes,
            [Some(Code::NoSuchVersion), Some(Code::KeyTooLongError), Some(Code::NotImplemented), None]
        );
    }

    #[test]
    fn what_does_not_follow_the_schema_is_malformed() {
        let too_many = format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(1001));
        for text in [
            "",
            "<Delete/>",
            "<Delete><Quiet>true</Quiet></Delete>",
            "<Delete><Object/></Delete>",
            "<Delete><Object><Key></Key></Object></Delete>",
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
            "<Delete><Object><Key><b/></Key></Object></Delete>",
            "<Delete><Quiet>perhaps</Quiet><Object><Key>a</Key></Object></Delete>",
            "<Remove><Object><Key>a</Key></Object></Remove>",
            "<Delete><Object><Key>a</Key></Object>",
            "<Delete><Object><Key>a</Key></Object></Delete><Delete/>",
            &too_many,
        ] {
            assert_eq!(parse(text).unwrap_err().code, Code::MalformedXML, "{text:.80}");
        }
    }

    #[test]
    fn a_thousand_keys_are_read() {
        let text = format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(1000));
        assert_eq!(parse(&text).unwrap().objects.len(), 1000);
    }

    #[test]
    fn the_response_lists_outcomes_in_order() {
        let mut request = Document { report: Report::Everything, objects: vec![object("a&b"), object("c")] };
        request.objects[1].version_id = Some("null".into());
        let outcomes = [Ok(()), Err(Error::new(Code::PreconditionFailed))];
        assert_eq!(
            document(&render(&request, &outcomes)),
            "<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Deleted><Key>a&amp;b</Key></Deleted>\
             <Error><Key>c</Key><VersionId>null</VersionId><Code>PreconditionFailed</Code>\
             <Message>At least one of the pre-conditions you specified did not hold</Message></Error></DeleteResult>"
        );
        request.report = Report::FailuresOnly;
        assert!(!document(&render(&request, &outcomes)).contains("<Deleted>"));
    }
}
