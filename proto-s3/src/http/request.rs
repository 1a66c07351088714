//! The head of a request, owned.
//!
//! Header names are lowercase; values are the bytes of the wire, trimmed of optional white space. The target is kept
//! raw (still percent-encoded), since SigV4 signs what the client sent, and is split at the first `?`.

use super::headers::Headers;

/// The method of a request. S3 knows no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `PUT`
    Put,
    /// `POST`
    Post,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
}

impl Method {
    /// The token on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }
}

/// The parsed head of one request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path as sent: percent-encoded, beginning with `/`.
    pub raw_path: String,
    /// The query as sent, without the `?`; empty when there is none.
    pub raw_query: String,
    /// The minor version: 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// All headers in wire order; names in lowercase.
    pub headers: Headers,
}

impl RequestHead {
    /// The first header of that (lowercase) name, as bytes.
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers.values(name).next()
    }

    /// The first header of that (lowercase) name, when it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_bytes(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// All headers of that (lowercase) name, as bytes.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers.values(name)
    }
}
