//! The S3 operations that the load generator and the crash tester need, each one request on one connection.

mod exchange;

use super::answer::{ObjectHead, Page, Part, Stored, etag_header, object_head, page, unquoted};
use super::connection::Connection;
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::Error;
use super::payload::{Payload, PayloadSigning};
use super::sign::Signer;
use super::uri::{self, Slash};
use exchange::Request;

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
}
