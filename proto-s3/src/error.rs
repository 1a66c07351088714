//! What S3 answers when it refuses: a code, its HTTP status, a message, and the document that carries them.
//!
//! The codes, statuses and default messages are those of the S3 API reference, "Error responses"; codes that AWS does
//! not list say so where they stand.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;

use crate::http::{Response, ResponseBody};

/// One row per code: name on the wire, HTTP status, default message.
macro_rules! codes {
    ($($name:ident $status:literal $message:literal,)*) => {
        /// An S3 error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $message] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// The default message.
            pub fn message(self) -> &'static str {
                match self { $(Code::$name => $message,)* }
            }
        }
    };
}

codes! {
    AccessDenied 403 "Access Denied",
    AuthorizationHeaderMalformed 400 "The authorization header that you provided is not valid.",
    AuthorizationQueryParametersError 400 "The authorization query parameters that you provided are not valid.",
    BadDigest 400 "The Content-MD5 or checksum value that you specified did not match what the server received.",
    BadRequest 400 "The request could not be understood.",
    BucketAlreadyExists 409 "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Select a different name and try again.",
    BucketAlreadyOwnedByYou 409 "Your previous request to create the named bucket succeeded and you already own it.",
    BucketNotEmpty 409 "The bucket you tried to delete is not empty.",
    ConditionalRequestConflict 409 "A conflicting operation occurred during this conditional request. Fetch the object's ETag and try again.",
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed size.",
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed size.",
    ExpiredToken 400 "The provided token has expired.",
    IllegalLocationConstraintException 400 "The specified location-constraint is not valid for the Region that this endpoint serves.",
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    // Ours: every device that could take the write is full (HTTP 507).
    InsufficientStorage 507 "There is not enough free space to store this. Delete objects, then try again.",
    InternalError 500 "We encountered an internal error. Please try again.",
    InvalidAccessKeyId 403 "The access key ID that you provided does not exist in our records.",
    InvalidArgument 400 "Invalid Argument",
    InvalidBucketName 400 "The specified bucket is not valid.",
    InvalidBucketState 409 "The request is not valid for the current state of the bucket.",
    InvalidChunkSizeError 403 "Only the last chunk is allowed to have a size less than 8192 bytes",
    InvalidDigest 400 "The Content-MD5 or checksum value that you specified is not valid.",
    InvalidEncryptionAlgorithmError 400 "The encryption request that you specified is not valid. The valid value is AES256.",
    InvalidHostHeader 400 "The host headers provided in the request used the incorrect style addressing.",
    InvalidHttpMethod 400 "The request was made using an unexpected HTTP method.",
    InvalidLocationConstraint 400 "The specified location constraint is not valid.",
    InvalidObjectState 403 "The operation is not valid for the object's storage class.",
    InvalidPart 400 "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag.",
    InvalidPartNumber 416 "The requested partnumber is not satisfiable",
    InvalidPartOrder 400 "The list of parts was not in ascending order. Parts must be ordered by part number.",
    InvalidRange 416 "The requested range is not satisfiable",
    InvalidRequest 400 "The request is not valid.",
    InvalidStorageClass 400 "The storage class you specified is not valid",
    InvalidTag 400 "The tag provided was not a valid tag.",
    InvalidToken 400 "The provided token is malformed or otherwise not valid.",
    InvalidURI 400 "Couldn't parse the specified URI.",
    KeyTooLongError 400 "Your key is too long",
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    MalformedXML 400 "The XML you provided was not well-formed or did not validate against our published schema",
    MaxMessageLengthExceeded 400 "Your request was too large.",
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size",
    MethodNotAllowed 405 "The specified method is not allowed against this resource.",
    MissingContentLength 411 "You must provide the Content-Length HTTP header.",
    MissingRequestBodyError 400 "Request Body is empty",
    MissingSecurityHeader 400 "Your request was missing a required header",
    NoSuchBucket 404 "The specified bucket does not exist",
    NoSuchBucketPolicy 404 "The bucket policy does not exist",
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist",
    NoSuchKey 404 "The specified key does not exist.",
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist",
    NoSuchObjectLockConfiguration 404 "The specified object does not have a ObjectLock configuration",
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found",
    NoSuchTagSet 404 "The TagSet does not exist",
    NoSuchUpload 404 "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    NoSuchVersion 404 "The specified version does not exist.",
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration",
    NotImplemented 501 "A header or parameter you provided implies functionality that is not implemented",
    NotModified 304 "Not Modified",
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket",
    OperationAborted 409 "A conflicting conditional operation is currently in progress against this resource. Try again.",
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found",
    PreconditionFailed 412 "At least one of the pre-conditions you specified did not hold",
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found",
    RequestHeaderSectionTooLarge 400 "Your request header section exceeds the maximum allowed size.",
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period.",
    RequestTimeTooSkewed 403 "The difference between the request time and the current time is too large.",
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found",
    ServiceUnavailable 503 "Service is unable to handle request.",
    SignatureDoesNotMatch 403 "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    SlowDown 503 "Please reduce your request rate.",
    TooManyBuckets 400 "You have attempted to create more buckets than allowed",
    TooManyParts 400 "You have attempted to create more parts than allowed",
    UnexpectedContent 400 "This request does not support content",
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed.",
}

/// A refusal: the code decides the status, the rest explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The S3 code.
    pub code: Code,
    /// What went wrong and what to do.
    pub message: Cow<'static, str>,
    /// The bucket or object it is about, as `/bucket/key`.
    pub resource: Option<String>,
    /// Further elements of the document, such as `BucketName`, in order.
    pub details: Vec<(&'static str, String)>,
    /// Seconds after which to try again, for `Retry-After`.
    pub retry_after_s: Option<NonZeroU16>,
}

impl Error {
    /// An error with the default message of its code.
    pub fn new(code: Code) -> Self {
        Error::with_message(code, code.message())
    }

    /// An error with its own message.
    pub fn with_message(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Error { code, message: message.into(), resource: None, details: Vec::new(), retry_after_s: None }
    }

    /// Says when to try again, in seconds.
    pub fn retry_after(mut self, seconds: NonZeroU16) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// `InvalidArgument` about one named argument and its value, as AWS reports it.
    pub fn invalid_argument(
        message: impl Into<Cow<'static, str>>,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        Error::with_message(Code::InvalidArgument, message)
            .detail("ArgumentName", name)
            .detail("ArgumentValue", value)
    }

    /// `NotImplemented` naming the header that asks for it.
    pub fn header_not_implemented(header: impl Into<String>) -> Self {
        Error::with_message(
            Code::NotImplemented,
            "A header you provided implies functionality that is not implemented",
        )
        .detail("Header", header)
    }

    /// Names the resource, unless one is named already.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource.get_or_insert_with(|| resource.into());
        self
    }

    /// Adds an element to the document.
    pub fn detail(mut self, element: &'static str, text: impl Into<String>) -> Self {
        self.details.push((element, text.into()));
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The response. Answers to HEAD and 304 have no body.
    pub fn to_response(&self, request_id: &str, host_id: &str, is_head: bool) -> Response {
        if self.code == Code::NotModified {
            return Response::new(304);
        }
        let document = self.to_document(request_id, host_id);
        let body_len = document.len() as u64;
        let mut response = Response::xml(self.status(), document);
        if let Some(seconds) = self.retry_after_s {
            response = response.header("Retry-After", seconds.to_string());
        }
        if is_head { response.with_body(ResponseBody::HeadOnly { len: body_len }) } else { response }
    }

    /// The error document.
    fn to_document(&self, request_id: &str, host_id: &str) -> Vec<u8> {
        let mut out = String::with_capacity(512);
        out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        push_element(&mut out, "Code", self.code.as_str());
        push_element(&mut out, "Message", &self.message);
        for (element, text) in &self.details {
            push_element(&mut out, element, text);
        }
        if let Some(resource) = &self.resource {
            push_element(&mut out, "Resource", resource);
        }
        push_element(&mut out, "RequestId", request_id);
        push_element(&mut out, "HostId", host_id);
        out.push_str("</Error>");
        out.into_bytes()
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Error::new(code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Error {}

/// Appends `<name>text</name>`, escaped.
fn push_element(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            // Not a character of XML 1.0 even as a reference; the replacement keeps the document well-formed.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_an_error_or_not_modified() {
        for code in Code::ALL {
            assert!(code.status() >= 400 || *code == Code::NotModified, "{code:?}");
            assert!(!code.message().is_empty());
        }
    }

    #[test]
    fn the_document_names_code_message_details_resource_and_ids() {
        let error = Error::new(Code::NoSuchBucket).detail("BucketName", "a<b").resource("/a&b");
        let response = error.to_response("R1", "H1", false);
        assert_eq!(response.status, 404);
        let ResponseBody::Bytes(document) = response.body else { panic!("a document") };
        assert_eq!(
            String::from_utf8(document).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchBucket</Code>\
             <Message>The specified bucket does not exist</Message><BucketName>a&lt;b</BucketName>\
             <Resource>/a&amp;b</Resource><RequestId>R1</RequestId><HostId>H1</HostId></Error>"
        );
    }

    #[test]
    fn a_head_request_gets_the_length_but_no_document() {
        let error = Error::new(Code::NoSuchKey);
        let ResponseBody::Bytes(document) = error.to_response("R", "H", false).body else {
            panic!("a document")
        };
        let head = error.to_response("R", "H", true);
        assert_eq!(head.status, 404);
        assert_eq!(head.body, ResponseBody::HeadOnly { len: document.len() as u64 });
    }

    #[test]
    fn not_modified_has_no_body() {
        assert_eq!(Error::new(Code::NotModified).to_response("R", "H", false), Response::new(304));
    }

    #[test]
    fn characters_outside_xml_are_replaced() {
        let error = Error::with_message(Code::InvalidArgument, "a\0b\u{1}c\u{ffff}\n");
        let ResponseBody::Bytes(document) = error.to_response("R", "H", false).body else {
            panic!("a document")
        };
        let text = String::from_utf8(document).unwrap();
        assert!(text.contains("<Message>a\u{fffd}b\u{fffd}c\u{fffd}\n</Message>"), "{text}");
    }

    #[test]
    fn the_first_resource_named_stays() {
        assert_eq!(Error::new(Code::NoSuchKey).resource("/a").resource("/b").resource.as_deref(), Some("/a"));
    }
}
