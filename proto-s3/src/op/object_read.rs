//! What GetObject and HeadObject have in common: all of the request, and all of the response but its body.

use crate::condition::{Conditions, Verdict, precondition_failed};
use crate::http::{RequestHead, Response, ResponseBody};
use crate::op::{Object, ObjectHeaders, fields};
use crate::query::Query;
use crate::range::{ByteRange, Resolved};
use crate::{Code, Error, Limits};

/// Query parameters that replace a header of the response.
const OVERRIDES: [(&str, &str); 6] = [
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
    ("response-content-language", "content-language"),
    ("response-content-type", "content-type"),
    ("response-expires", "expires"),
];

/// A GetObject or HeadObject request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The range asked for; never together with a part number.
    pub range: Option<ByteRange>,
    /// The part asked for.
    pub part_number: Option<u32>,
    /// The conditions.
    pub conditions: Conditions,
    /// Whether the response shows the checksum.
    pub checksum_mode: ChecksumMode,
    /// Headers that the response has instead of the stored ones.
    pub overrides: ObjectHeaders,
}

/// `x-amz-checksum-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumMode {
    /// The response shows the checksum.
    Enabled,
    /// It does not.
    Disabled,
}

/// Which bytes of an object a response is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them: 200.
    Whole,
    /// Those from `first` to `last`, inclusive: 206.
    Range {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// Those of a part: 206. An object that was not uploaded in parts is its own part 1.
    Part {
        /// Offset of the part's first byte.
        first: u64,
        /// Length of the part.
        len: u64,
        /// How many parts the object was uploaded in; `None` when it was not uploaded in parts.
        parts_count: Option<u32>,
    },
}

/// What conditions and range come to for the object that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer with these bytes. When a part number was asked for this is `Whole`, and the node finds the part.
    Send(Selection),
    /// Answer with [`render_not_modified`].
    NotModified,
}

impl Request {
    /// Reads the request.
    pub(crate) fn from_head(
        head: &RequestHead,
        query: &Query,
        bucket: String,
        key: String,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let request = Request {
            bucket,
            key,
            range: head.header_bytes("range").and_then(ByteRange::parse),
            part_number: fields::part_number(query, limits)?,
            conditions: Conditions::from_head(head),
            checksum_mode: checksum_mode(head)?,
            overrides: overrides(head, query)?,
        };
        if request.part_number.is_some() && head.header_bytes("range").is_some() {
            return Err(Error::with_message(
                Code::InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter",
            ));
        }
        Ok(request)
    }

    /// Holds conditions and range against the object.
    ///
    /// Errors: `PreconditionFailed`, `InvalidRange`.
    pub fn decide(&self, object: &Object<'_>) -> Result<Decision, Error> {
        match self.conditions.evaluate_read(&object.etag, object.last_modified_ms) {
            Verdict::NotModified => return Ok(Decision::NotModified),
            Verdict::PreconditionFailed { condition } => return Err(precondition_failed(condition)),
            Verdict::Proceed => {}
        }
        let range =
            self.range.filter(|_| self.conditions.range_counts(&object.etag, object.last_modified_ms));
        let Some(range) = range else { return Ok(Decision::Send(Selection::Whole)) };
        match range.resolve(object.len) {
            Resolved::Part { first, last } => Ok(Decision::Send(Selection::Range { first, last })),
            Resolved::NotSatisfiable => Err(range.not_satisfiable(object.len)),
        }
    }
}

impl Selection {
    /// Offset of the first byte and number of bytes.
    pub fn extent(self, object_len: u64) -> (u64, u64) {
        match self {
            Selection::Whole => (0, object_len),
            Selection::Range { first, last } => (first, last - first + 1),
            Selection::Part { first, len, .. } => (first, len),
        }
    }
}

/// The head of the response with a body of `ResponseBody::Empty`, and the number of bytes that the body has.
pub(crate) fn render(request: &Request, object: &Object<'_>, selection: Selection) -> (Response, u64) {
    let (first, byte_count) = selection.extent(object.len);
    let is_partial = selection != Selection::Whole && byte_count > 0;
    let mut response = Response::new(if is_partial { 206 } else { 200 });
    object.render_validators_into(&mut response);
    response.headers.push(("Accept-Ranges".into(), b"bytes".to_vec()));
    if is_partial {
        let content_range = format!("bytes {first}-{}/{}", first + byte_count - 1, object.len);
        response.headers.push(("Content-Range".into(), content_range.into_bytes()));
    }
    object.headers.render_into(&request.overrides, &mut response);
    object.encryption.render_into(&mut response);
    // The checksum of the object says nothing about a range of it, and clients would compare.
    if request.checksum_mode == ChecksumMode::Enabled
        && !matches!(selection, Selection::Range { .. })
        && let Some(checksum) = &object.checksum
    {
        checksum.render_into(&mut response);
    }
    if let Selection::Part { parts_count: Some(parts_count), .. } = selection {
        response.headers.push(("x-amz-mp-parts-count".into(), parts_count.to_string().into_bytes()));
    }
    (response, byte_count)
}

/// The 304 of a condition that says that the client has the object already.
pub fn render_not_modified(object: &Object<'_>) -> Response {
    let mut response = Response::new(304).with_body(ResponseBody::Empty);
    object.render_validators_into(&mut response);
    object.headers.render_caching_into(&mut response);
    response
}

/// The refusal of a part that the object does not have.
pub fn no_such_part(part_number: u32, parts_count: u32) -> Error {
    Error::new(Code::InvalidPartNumber)
        .detail("PartNumberRequested", part_number.to_string())
        .detail("ActualPartCount", parts_count.to_string())
}

fn checksum_mode(head: &RequestHead) -> Result<ChecksumMode, Error> {
    match head.header_bytes("x-amz-checksum-mode") {
        None => Ok(ChecksumMode::Disabled),
        Some(value) if value.eq_ignore_ascii_case(b"ENABLED") => Ok(ChecksumMode::Enabled),
        Some(value) => Err(Error::invalid_argument(
            "Value for x-amz-checksum-mode header is invalid; it has to be ENABLED.",
            "x-amz-checksum-mode",
            String::from_utf8_lossy(value),
        )),
    }
}

/// The `response-*` parameters; only signed requests may have them.
fn overrides(head: &RequestHead, query: &Query) -> Result<ObjectHeaders, Error> {
    let mut pairs = Vec::new();
    for (parameter, header) in OVERRIDES {
        let Some(value) = query.value(parameter) else { continue };
        if value.chars().any(char::is_control) {
            return Err(Error::invalid_argument(
                "Header value cannot hold control characters",
                parameter,
                value,
            ));
        }
        pairs.push((header.to_owned(), value.as_bytes().to_vec()));
    }
    if !pairs.is_empty() && !is_signed(head, query) {
        return Err(Error::with_message(
            Code::InvalidRequest,
            "Request specific response headers cannot be used for anonymous GET requests.",
        ));
    }
    Ok(ObjectHeaders::from_pairs(pairs))
}

/// Whether the request claims to be signed; whether it is, authentication has found out before.
fn is_signed(head: &RequestHead, query: &Query) -> bool {
    head.header_bytes("authorization").is_some() || query.is_presigned()
}
