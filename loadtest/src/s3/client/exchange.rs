//! One request and its answer: signed, sent, read.

use jiff::Timestamp;

use super::Client;
use crate::s3::answer::refusal;
use crate::s3::connection::{Connection, ResponseHead};
use crate::s3::error::Error;
use crate::s3::payload::{self, Payload, PayloadSigning};
use crate::s3::sign::{self, ToSign};
use crate::s3::uri::{self, Slash};
use crate::s3::xml::Element;

/// Documents and error bodies; a LIST page of 1000 keys of 1024 percent-coded bytes is the largest.
const DOCUMENT_LEN_MAX: usize = 8 * 1024 * 1024;
const AGENT: &str = concat!("loadtest/", env!("CARGO_PKG_VERSION"));

/// One request, before it is signed.
pub(super) struct Request<'a> {
    pub method: &'static str,
    pub bucket: &'a str,
    pub key: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub headers: Vec<(String, String)>,
    pub signing: PayloadSigning,
}

impl<'a> Request<'a> {
    pub fn new(method: &'static str, bucket: &'a str, key: &'a str) -> Self {
        Self { method, bucket, key, query: &[], headers: Vec::new(), signing: PayloadSigning::Signed }
    }

    fn path(&self) -> String {
        let mut path = String::from("/");
        path.push_str(self.bucket);
        if !self.key.is_empty() {
            path.push('/');
            uri::encode_into(self.key, Slash::Keep, &mut path);
        }
        path
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl Client {
    /// A request answered by a document. Copy and Complete may say 200 and then carry an error.
    pub(super) fn document(&mut self, request: &Request<'_>, body: &[u8]) -> Result<Element, Error> {
        let (head, text) = self.answer(request, body)?;
        let root = Element::parse(&text)?;
        if root.name == "Error" { Err(refusal(head.status, &text)) } else { Ok(root) }
    }

    /// A request whose answer is short enough to keep.
    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
        body: &(impl Payload + ?Sized),
    ) -> Result<(ResponseHead, Vec<u8>), Error> {
        let mut text = Vec::new();
        let head = self.exchange(request, body, &mut |piece| keep_document(&mut text, piece))?;
        Ok((head, text))
    }

    /// Sends a request and reads its answer; `take` gets the body of a success.
    pub(super) fn exchange(
        &mut self,
        request: &Request<'_>,
        body: &(impl Payload + ?Sized),
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<ResponseHead, Error> {
        let head_text = self.signed_head(request, body);
        let mut connection = match self.connection.take().map(|mut open| (open.is_stale(), open)) {
            Some((false, open)) => open,
            _ => Connection::open(&self.endpoint)?,
        };
        let sent = send_all(&mut connection, head_text.as_bytes(), body);
        // A server may refuse before it has read the whole body; its answer tells more than a broken pipe.
        let head = match (sent, connection.read_head()) {
            (Ok(()), answer) => answer?,
            (Err(_), Ok(head)) if head.status >= 300 => head,
            (Err(broken), _) => return Err(broken.into()),
        };
        if head.status < 300 {
            let is_reusable = connection.read_body(request.method, &head, take)?;
            self.connection = is_reusable.then_some(connection);
            return Ok(head);
        }
        let mut text = Vec::new();
        let is_reusable =
            connection.read_body(request.method, &head, &mut |piece| keep_document(&mut text, piece))?;
        self.connection = is_reusable.then_some(connection);
        Err(refusal(head.status, &text))
    }

    fn signed_head(&mut self, request: &Request<'_>, body: &(impl Payload + ?Sized)) -> String {
        let date_time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let payload_hash = match request.signing {
            PayloadSigning::Signed => payload::sha256_hex(body),
            PayloadSigning::Unsigned => sign::UNSIGNED_PAYLOAD.to_owned(),
        };
        let (path, query) = (request.path(), uri::canonical_query(request.query));
        let mut headers = request.headers.clone();
        headers.push(("host".into(), self.endpoint.authority()));
        headers.push(("x-amz-content-sha256".into(), payload_hash.clone()));
        headers.push(("x-amz-date".into(), date_time.clone()));
        let authorization = self.signer.authorization(&ToSign {
            method: request.method,
            path: &path,
            query: &query,
            headers: &headers,
            payload_hash: &payload_hash,
            date_time: &date_time,
        });
        let question = if query.is_empty() { "" } else { "?" };
        let mut head = format!("{} {path}{question}{query} HTTP/1.1\r\n", request.method);
        for (name, value) in &headers {
            head += &format!("{name}: {value}\r\n");
        }
        if matches!(request.method, "PUT" | "POST") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += &format!("user-agent: {AGENT}\r\nauthorization: {authorization}\r\n\r\n");
        head
    }
}

fn send_all(connection: &mut Connection, head: &[u8], body: &(impl Payload + ?Sized)) -> std::io::Result<()> {
    connection.send(head)?;
    payload::for_each_piece(body, |piece| connection.send(piece))?;
    connection.flush()
}

fn keep_document(text: &mut Vec<u8>, piece: &[u8]) {
    let room = DOCUMENT_LEN_MAX.saturating_sub(text.len());
    text.extend_from_slice(&piece[..piece.len().min(room)]);
}
