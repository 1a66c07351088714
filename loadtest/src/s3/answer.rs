//! What the server said, taken out of heads and documents.

use super::connection::ResponseHead;
use super::error::Error;
use super::uri;
use super::xml::Element;

/// An object as written: what the server said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Without quotes.
    pub etag: String,
}

/// What GET and HEAD tell of an object besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// `Content-Length`.
    pub len: u64,
    /// Without quotes.
    pub etag: String,
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key, decoded.
    pub key: String,
    /// Length in bytes.
    pub len: u64,
    /// Without quotes.
    pub etag: String,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the order of the answer.
    pub objects: Vec<Listed>,
    /// Where the next page starts; `None` on the last one.
    pub next: Option<String>,
}

/// A part, as Complete names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Without quotes.
    pub etag: String,
}

pub(super) fn refusal(status: u16, text: &[u8]) -> Error {
    let document = Element::parse(text).ok().filter(|root| root.name == "Error");
    let field =
        |name| document.as_ref().and_then(|root| root.child_text(name)).unwrap_or_default().to_owned();
    Error::Refused { status, code: field("Code"), message: field("Message") }
}

pub(super) fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

pub(super) fn etag_header(head: &ResponseHead) -> Result<String, Error> {
    head.header("etag").map(unquoted).ok_or_else(|| Error::protocol("an answer without an ETag"))
}

pub(super) fn object_head(head: &ResponseHead) -> Result<ObjectHead, Error> {
    let len = head.header("content-length").and_then(|len| len.parse().ok());
    let len = len.ok_or_else(|| Error::protocol("an object without a Content-Length"))?;
    Ok(ObjectHead { len, etag: etag_header(head)? })
}

pub(super) fn page(result: &Element) -> Result<Page, Error> {
    let mut objects = Vec::new();
    for entry in result.children("Contents") {
        let key = entry.required("Key")?;
        let key = uri::decode(key).ok_or_else(|| Error::protocol(format!("key {key:?} is not url-coded")))?;
        let len = entry.required("Size")?;
        let len = len.parse().map_err(|_| Error::protocol(format!("Size {len:?}")))?;
        objects.push(Listed { key, len, etag: unquoted(entry.required("ETag")?) });
    }
    let next = match result.required("IsTruncated")? {
        "true" => Some(result.required("NextContinuationToken")?.to_owned()),
        _ => None,
    };
    Ok(Page { objects, next })
}
