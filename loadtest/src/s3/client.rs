//! The S3 operations that the load generator and the crash tester need, each one request on one connection.

use jiff::Timestamp;

use super::connection::{Connection, ResponseHead};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::Error;
use super::payload::{self, Payload, PayloadSigning};
use super::sign::{self, Signer, ToSign};
use super::uri::{self, Slash};
use super::xml::Element;

/// Documents and error bodies; a LIST page of 1000 keys of 1024 percent-coded bytes is the largest.
const DOCUMENT_LEN_MAX: usize = 8 * 1024 * 1024;
const AGENT: &str = concat!("loadtest/", env!("CARGO_PKG_VERSION"));

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

/// When a PUT is to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutCondition<'a> {
    /// Always.
    None,
    /// Only where the key does not exist: `If-None-Match: *`.
    IfAbsent,
    /// Only over the object with this ETag: `If-Match`.
    IfMatch(&'a str),
}

/// One request, before it is signed.
struct Request<'a> {
    method: &'static str,
    bucket: &'a str,
    key: &'a str,
    query: &'a [(&'a str, &'a str)],
    headers: Vec<(String, String)>,
    signing: PayloadSigning,
}

impl<'a> Request<'a> {
    fn new(method: &'static str, bucket: &'a str, key: &'a str) -> Self {
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

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A client with one connection, for one thread. Path-style addressing.
pub struct Client {
    endpoint: Endpoint,
    signer: Signer,
    connection: Option<Connection>,
}

impl Client {
    /// Connects with the first request.
    pub fn new(endpoint: Endpoint, credentials: Credentials, region: &str) -> Self {
        Self { endpoint, signer: Signer::new(credentials, region.to_owned()), connection: None }
    }

    /// Names of the buckets.
    pub fn list_buckets(&mut self) -> Result<Vec<String>, Error> {
        let document = self.document(&Request::new("GET", "", ""), &[])?;
        let names = document.children("Buckets").flat_map(|buckets| buckets.children("Bucket"));
        names.map(|bucket| bucket.required("Name").map(str::to_owned)).collect()
    }

    /// Makes the bucket; one that is already ours will do.
    pub fn create_bucket(&mut self, bucket: &str) -> Result<(), Error> {
        match self.answer(&Request::new("PUT", bucket, ""), [].as_slice()) {
            Ok(_) => Ok(()),
            // Servers differ in the code they give for our own bucket.
            Err(error) if error.status() == Some(409) => match self.list_buckets()? {
                names if names.iter().any(|name| name == bucket) => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Stores an object in one request.
    pub fn put(
        &mut self,
        bucket: &str,
        key: &str,
        body: &(impl Payload + ?Sized),
        condition: PutCondition<'_>,
        signing: PayloadSigning,
    ) -> Result<Stored, Error> {
        let mut request = Request { signing, ..Request::new("PUT", bucket, key) };
        match condition {
            PutCondition::None => {}
            PutCondition::IfAbsent => request = request.header("if-none-match", "*"),
            PutCondition::IfMatch(etag) => request = request.header("if-match", format!("\"{etag}\"")),
        }
        let (head, _) = self.answer(&request, body)?;
        Ok(Stored { etag: etag_header(&head)? })
    }

    /// Reads an object; its bytes go to `take` as they arrive, so on an error some may have gone there.
    pub fn get(&mut self, bucket: &str, key: &str, take: &mut dyn FnMut(&[u8])) -> Result<ObjectHead, Error> {
        let request = Request::new("GET", bucket, key);
        let head = self.exchange(&request, [].as_slice(), take)?;
        object_head(&head)
    }

    /// Length and ETag of an object.
    pub fn head(&mut self, bucket: &str, key: &str) -> Result<ObjectHead, Error> {
        let (head, _) = self.answer(&Request::new("HEAD", bucket, key), [].as_slice())?;
        object_head(&head)
    }

    /// Deletes a key, whether it exists or not.
    pub fn delete(&mut self, bucket: &str, key: &str) -> Result<(), Error> {
        self.answer(&Request::new("DELETE", bucket, key), [].as_slice()).map(|_| ())
    }

    /// Copies an object on the server.
    pub fn copy(
        &mut self,
        (from_bucket, from_key): (&str, &str),
        bucket: &str,
        key: &str,
    ) -> Result<Stored, Error> {
        let source = uri::encode(&format!("{from_bucket}/{from_key}"), Slash::Keep);
        let request = Request::new("PUT", bucket, key).header("x-amz-copy-source", format!("/{source}"));
        let result = self.document(&request, &[])?;
        Ok(Stored { etag: unquoted(result.required("ETag")?) })
    }

    /// One page of ListObjectsV2.
    pub fn list_v2(
        &mut self,
        bucket: &str,
        prefix: &str,
        keys_max: u32,
        continuation: Option<&str>,
    ) -> Result<Page, Error> {
        let keys_max = keys_max.to_string();
        let mut query =
            vec![("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix), ("max-keys", &keys_max)];
        query.extend(continuation.map(|token| ("continuation-token", token)));
        let result = self.document(&Request { query: &query, ..Request::new("GET", bucket, "") }, &[])?;
        page(&result)
    }

    /// Starts a multipart upload and returns its id.
    pub fn create_multipart(&mut self, bucket: &str, key: &str) -> Result<String, Error> {
        let request = Request { query: &[("uploads", "")], ..Request::new("POST", bucket, key) };
        Ok(self.document(&request, &[])?.required("UploadId")?.to_owned())
    }

    /// Stores one part.
    pub fn upload_part(
        &mut self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u32,
        body: &(impl Payload + ?Sized),
    ) -> Result<Part, Error> {
        let text = number.to_string();
        let query = [("partNumber", text.as_str()), ("uploadId", upload_id)];
        let signing = PayloadSigning::Unsigned;
        let request = Request { query: &query, signing, ..Request::new("PUT", bucket, key) };
        let (head, _) = self.answer(&request, body)?;
        Ok(Part { number, etag: etag_header(&head)? })
    }

    /// Makes an object of the parts.
    pub fn complete_multipart(
        &mut self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Stored, Error> {
        let mut list = String::from("<CompleteMultipartUpload>");
        for Part { number, etag } in parts {
            list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>");
        }
        list += "</CompleteMultipartUpload>";
        let query = [("uploadId", upload_id)];
        let request = Request { query: &query, ..Request::new("POST", bucket, key) };
        let result = self.document(&request, list.as_bytes())?;
        Ok(Stored { etag: unquoted(result.required("ETag")?) })
    }

    /// Drops an upload and its parts.
    pub fn abort_multipart(&mut self, bucket: &str, key: &str, upload_id: &str) -> Result<(), Error> {
        let query = [("uploadId", upload_id)];
        let request = Request { query: &query, ..Request::new("DELETE", bucket, key) };
        self.answer(&request, [].as_slice()).map(|_| ())
    }

    /// A request answered by a document. Copy and Complete may say 200 and then carry an error.
    fn document(&mut self, request: &Request<'_>, body: &[u8]) -> Result<Element, Error> {
        let (head, text) = self.answer(request, body)?;
        let root = Element::parse(&text)?;
        if root.name == "Error" { Err(refusal(head.status, &text)) } else { Ok(root) }
    }

    /// A request whose answer is short enough to keep.
    fn answer(
        &mut self,
        request: &Request<'_>,
        body: &(impl Payload + ?Sized),
    ) -> Result<(ResponseHead, Vec<u8>), Error> {
        let mut text = Vec::new();
        let head = self.exchange(request, body, &mut |piece| keep_document(&mut text, piece))?;
        Ok((head, text))
    }

    /// Sends a request and reads its answer; `take` gets the body of a success.
    fn exchange(
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

fn refusal(status: u16, text: &[u8]) -> Error {
    let document = Element::parse(text).ok().filter(|root| root.name == "Error");
    let field =
        |name| document.as_ref().and_then(|root| root.child_text(name)).unwrap_or_default().to_owned();
    Error::Refused { status, code: field("Code"), message: field("Message") }
}

fn unquoted(etag: &str) -> String {
    etag.trim().trim_matches('"').to_owned()
}

fn etag_header(head: &ResponseHead) -> Result<String, Error> {
    head.header("etag").map(unquoted).ok_or_else(|| Error::protocol("an answer without an ETag"))
}

fn object_head(head: &ResponseHead) -> Result<ObjectHead, Error> {
    let len = head.header("content-length").and_then(|len| len.parse().ok());
    let len = len.ok_or_else(|| Error::protocol("an object without a Content-Length"))?;
    Ok(ObjectHead { len, etag: etag_header(head)? })
}

fn page(result: &Element) -> Result<Page, Error> {
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
