//! The head of a response and what follows it.

use std::borrow::Cow;

/// Headers that most responses with any stay below.
const HEADER_COUNT_USUAL: usize = 8;

/// What is sent after the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// Nothing; `Content-Length: 0` (or none at all for 204 and 304).
    Empty,
    /// A document that is complete in memory.
    Bytes(Vec<u8>),
    /// `len` bytes of object data that the caller streams after the head.
    Stream {
        /// Length in bytes.
        len: u64,
    },
    /// The head says `Content-Length: len`, and no body follows: the answer to HEAD.
    HeadOnly {
        /// Length in bytes that a GET would have sent.
        len: u64,
    },
}

/// A response, ready to be encoded by `http::encode_response`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// Headers in order; names as they go on the wire.
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
    /// The body.
    pub body: ResponseBody,
}

impl Response {
    /// A response without headers or body.
    pub fn new(status: u16) -> Self {
        Response { status, headers: Vec::with_capacity(HEADER_COUNT_USUAL), body: ResponseBody::Empty }
    }

    /// A response with an XML document as its body.
    pub fn xml(status: u16, document: Vec<u8>) -> Self {
        Response {
            status,
            headers: vec![(Cow::Borrowed("Content-Type"), b"application/xml".to_vec())],
            body: ResponseBody::Bytes(document),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn with_body(mut self, body: ResponseBody) -> Self {
        self.body = body;
        self
    }
}
