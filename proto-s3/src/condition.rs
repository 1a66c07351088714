//! Conditions on reads, on copies and on writes.
//!
//! Reads follow RFC 9110, section 13.2.2, which is also what the S3 reference describes for its combinations:
//!
//! ```text
//!  If-Match there?             no match -> 412; a match makes If-Unmodified-Since irrelevant
//!  else If-Unmodified-Since?   modified -> 412
//!  If-None-Match there?        match -> 304; no match makes If-Modified-Since irrelevant
//!  else If-Modified-Since?     not modified -> 304
//! ```
//!
//! Copies have the same four under other names; where a read answers 304, a copy answers 412. Writes know `If-Match` and
//! `If-None-Match: *` only, and not both.

use crate::http::RequestHead;
use crate::time::{self, UnixSeconds};
use crate::{Code, ETag, Error};

/// What the conditions of a read say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Proceed,
    /// 304: the client has it already.
    NotModified,
    /// 412.
    PreconditionFailed {
        /// The header whose condition does not hold.
        condition: &'static str,
    },
}

/// The conditions of a read or of the source of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    if_modified_since: Option<UnixSeconds>,
    if_unmodified_since: Option<UnixSeconds>,
    if_range: Option<IfRange>,
}

impl Conditions {
    /// Reads the conditions of GET and HEAD. Dates that are none are ignored, as RFC 9110 asks for.
    pub fn from_head(head: &RequestHead) -> Self {
        Conditions {
            if_match: Tags::from_head(head, "if-match"),
            if_none_match: Tags::from_head(head, "if-none-match"),
            if_modified_since: head.header("if-modified-since").and_then(time::parse_http_date),
            if_unmodified_since: head.header("if-unmodified-since").and_then(time::parse_http_date),
            if_range: head.header("if-range").map(IfRange::parse),
        }
    }

    /// Reads the conditions on the source of a copy. Here a date that is none is `InvalidArgument`: to ignore it would
    /// be to copy what the client did not ask for.
    pub fn of_copy_source(head: &RequestHead) -> Result<Self, Error> {
        Ok(Conditions {
            if_match: Tags::from_head(head, "x-amz-copy-source-if-match"),
            if_none_match: Tags::from_head(head, "x-amz-copy-source-if-none-match"),
            if_modified_since: date(head, "x-amz-copy-source-if-modified-since")?,
            if_unmodified_since: date(head, "x-amz-copy-source-if-unmodified-since")?,
            if_range: None,
        })
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        *self == Conditions::default()
    }

    /// Holds the conditions of a read against an object.
    pub fn evaluate_read(&self, etag: &ETag, last_modified_ms: i64) -> Verdict {
        // HTTP dates have whole seconds, and so has the Last-Modified that the client got.
        let last_modified = last_modified_ms.div_euclid(1000);
        if let Some(tags) = &self.if_match {
            if !tags.match_strongly(etag) {
                return Verdict::PreconditionFailed { condition: "If-Match" };
            }
        } else if self.if_unmodified_since.is_some_and(|since| last_modified > since) {
            return Verdict::PreconditionFailed { condition: "If-Unmodified-Since" };
        }
        if let Some(tags) = &self.if_none_match {
            if tags.match_weakly(etag) {
                return Verdict::NotModified;
            }
        } else if self.if_modified_since.is_some_and(|since| last_modified <= since) {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// Holds the conditions of a copy against its source; `PreconditionFailed` when they do not hold.
    pub fn evaluate_copy(&self, etag: &ETag, last_modified_ms: i64) -> Result<(), Error> {
        let condition = match self.evaluate_read(etag, last_modified_ms) {
            Verdict::Proceed => return Ok(()),
            Verdict::NotModified if self.if_none_match.is_some() => "x-amz-copy-source-If-None-Match",
            Verdict::NotModified => "x-amz-copy-source-If-Modified-Since",
            Verdict::PreconditionFailed { condition: "If-Match" } => "x-amz-copy-source-If-Match",
            Verdict::PreconditionFailed { .. } => "x-amz-copy-source-If-Unmodified-Since",
        };
        Err(precondition_failed(condition))
    }

    /// Whether the Range of the request counts: without If-Range always, else when its validator is the object's.
    pub fn range_counts(&self, etag: &ETag, last_modified_ms: i64) -> bool {
        match &self.if_range {
            None => true,
            Some(IfRange::Tag(tag)) => tag.as_ref() == Some(etag),
            Some(IfRange::Date(date)) => *date == last_modified_ms.div_euclid(1000),
        }
    }
}

/// The condition of a write or of a delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// No condition.
    #[default]
    None,
    /// `If-None-Match: *`: there is no such object.
    Absent,
    /// `If-Match: *`: there is such an object.
    Present,
    /// `If-Match`: the object has this tag.
    Etag(ETag),
    /// `If-Match` with a tag that no object can have.
    Unmatchable,
}

impl WriteCondition {
    /// Reads the condition of a PUT, copy or completed upload.
    ///
    /// `NotImplemented`, as AWS answers: both headers at once, `If-None-Match` with anything but `*`, and the conditions
    /// on dates.
    pub fn from_head(head: &RequestHead) -> Result<Self, Error> {
        refuse_dates(head)?;
        match (head.header_bytes("if-match"), head.header_bytes("if-none-match")) {
            (None, None) => Ok(WriteCondition::None),
            (Some(tag), None) => Ok(WriteCondition::from_tag(&String::from_utf8_lossy(tag))),
            (None, Some(b"*")) => Ok(WriteCondition::Absent),
            (None, Some(_)) => Err(Error::header_not_implemented("If-None-Match").detail(
                "additionalMessage",
                "We don't accept the provided value of If-None-Match header for this API",
            )),
            (Some(_), Some(_)) => Err(Error::header_not_implemented("If-Match,If-None-Match")
                .detail("additionalMessage", "Multiple conditional request headers present in the request")),
        }
    }

    /// Reads the condition of a delete, which knows `If-Match` only.
    pub fn of_delete(head: &RequestHead) -> Result<Self, Error> {
        if head.header_bytes("if-none-match").is_some() {
            return Err(Error::header_not_implemented("If-None-Match"));
        }
        WriteCondition::from_head(head)
    }

    /// The condition that a tag in a document or an `If-Match` header states.
    pub fn from_tag(tag: &str) -> Self {
        match tag.trim() {
            "*" => WriteCondition::Present,
            tag => ETag::parse(tag).map_or(WriteCondition::Unmatchable, WriteCondition::Etag),
        }
    }

    /// Holds the condition against the object that is there now, if any.
    ///
    /// Errors: `NoSuchKey` when a tag is asked for and there is no object, else `PreconditionFailed`.
    pub fn evaluate(&self, current: Option<&ETag>) -> Result<(), Error> {
        match (self, current) {
            (WriteCondition::None, _)
            | (WriteCondition::Absent, None)
            | (WriteCondition::Present, Some(_)) => Ok(()),
            (WriteCondition::Etag(expected), Some(found)) if expected == found => Ok(()),
            (WriteCondition::Absent, Some(_)) => Err(precondition_failed("If-None-Match")),
            (WriteCondition::Etag(_) | WriteCondition::Unmatchable, Some(_)) => {
                Err(precondition_failed("If-Match"))
            }
            (_, None) => Err(Error::new(Code::NoSuchKey)),
        }
    }
}

/// `PreconditionFailed`, naming the header.
pub fn precondition_failed(condition: &'static str) -> Error {
    Error::new(Code::PreconditionFailed).detail("Condition", condition)
}

/// `*`, or a list of entity tags.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<Tag>),
}

/// One entity tag of a list. Tags that no object of ours can have are left out of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    etag: ETag,
    is_weak: bool,
}

impl Tags {
    /// All headers of that name as one list; `None` when there is none.
    fn from_head(head: &RequestHead, name: &str) -> Option<Self> {
        head.header_bytes(name)?;
        let mut list = Vec::new();
        for value in head.header_all(name) {
            let value = String::from_utf8_lossy(value);
            if value.trim() == "*" {
                return Some(Tags::Any);
            }
            // No tag that an object can have holds a comma, so that one inside of quotes needs no care.
            list.extend(value.split(',').filter_map(Tag::parse));
        }
        Some(Tags::List(list))
    }

    /// Strong comparison: a weak tag matches nothing.
    fn match_strongly(&self, etag: &ETag) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(list) => list.iter().any(|tag| !tag.is_weak && tag.etag == *etag),
        }
    }

    /// Weak comparison: weakness does not matter.
    fn match_weakly(&self, etag: &ETag) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(list) => list.iter().any(|tag| tag.etag == *etag),
        }
    }
}

impl Tag {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (is_weak, opaque) = text.strip_prefix("W/").map_or((false, text), |opaque| (true, opaque));
        Some(Tag { etag: ETag::parse(opaque)?, is_weak })
    }
}

/// The validator of If-Range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfRange {
    Date(UnixSeconds),
    /// `None` for a tag that matches nothing.
    Tag(Option<ETag>),
}

impl IfRange {
    fn parse(value: &str) -> Self {
        time::parse_http_date(value).map_or_else(|| IfRange::Tag(ETag::parse(value)), IfRange::Date)
    }
}

/// A date that has to be one, when it is there.
fn date(head: &RequestHead, name: &'static str) -> Result<Option<UnixSeconds>, Error> {
    let Some(value) = head.header_bytes(name) else { return Ok(None) };
    let parsed = std::str::from_utf8(value)
        .ok()
        .and_then(|text| time::parse_http_date(text).or_else(|| time::parse_iso8601(text)));
    match parsed {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Error::invalid_argument(
            "The value is not an HTTP date, such as Sun, 06 Nov 1994 08:49:37 GMT",
            name,
            String::from_utf8_lossy(value),
        )),
    }
}

fn refuse_dates(head: &RequestHead) -> Result<(), Error> {
    for (name, spelled) in
        [("if-modified-since", "If-Modified-Since"), ("if-unmodified-since", "If-Unmodified-Since")]
    {
        if head.header_bytes(name).is_some() {
            return Err(Error::header_not_implemented(spelled));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
