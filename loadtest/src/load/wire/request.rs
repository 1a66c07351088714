//! Writes signed request heads. The same four headers are signed each time, in buffers that are used again, so that a
//! request costs two hashes and no allocation.

use jiff::Timestamp;

use crate::s3::sign::{Signer, UNSIGNED_PAYLOAD};
use crate::s3::{Credentials, Endpoint};

const EMPTY_HASH: &[u8] = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SIGNED_HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";

/// What the body is, to the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Payload {
    /// There is none.
    Empty,
    /// Not covered by the signature.
    Unsigned,
    /// Its SHA-256, in hexadecimal.
    Hash([u8; 64]),
}

/// What is asked for. Bucket, key and query need no percent-coding, or have it.
#[derive(Clone, Copy, Debug)]
pub(in crate::load) struct Target<'a> {
    pub method: &'static str,
    pub bucket: &'a str,
    pub key: &'a str,
    /// In canonical form.
    pub query: &'a str,
}

/// The writer of a thread.
pub(in crate::load) struct Requests {
    signer: Signer,
    host: String,
    second: i64,
    date_time: String,
    canonical: Vec<u8>,
    path: Vec<u8>,
}

impl Requests {
    pub fn new(endpoint: &Endpoint, credentials: &Credentials, region: &str) -> Self {
        Self {
            signer: Signer::new(credentials.clone(), region.to_owned()),
            host: endpoint.authority(),
            second: -1,
            date_time: String::new(),
            canonical: Vec::new(),
            path: Vec::new(),
        }
    }

    /// Appends the head of a request that is sent at `second` of the Unix era. `len` is that of its body, for the methods that have one.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        target: &Target<'_>,
        payload: &Payload,
        len: Option<u64>,
        second: i64,
    ) {
        self.tick(second);
        self.path.clear();
        for part in [target.bucket, target.key].into_iter().filter(|part| !part.is_empty()) {
            self.path.push(b'/');
            self.path.extend_from_slice(part.as_bytes());
        }
        if self.path.is_empty() {
            self.path.push(b'/');
        }
        let hash = match payload {
            Payload::Empty => EMPTY_HASH,
            Payload::Unsigned => UNSIGNED_PAYLOAD.as_bytes(),
            Payload::Hash(hash) => hash,
        };
        let signature = self.sign(target, hash);
        let parts: [&[u8]; 10] = [
            target.method.as_bytes(),
            b" ",
            &self.path,
            if target.query.is_empty() { b"" } else { b"?" },
            target.query.as_bytes(),
            b" HTTP/1.1\r\nhost: ",
            self.host.as_bytes(),
            b"\r\nx-amz-content-sha256: ",
            hash,
            b"\r\nx-amz-date: ",
        ];
        parts.iter().for_each(|part| out.extend_from_slice(part));
        let (access_key, scope) = self.signer.credential(&self.date_time);
        let parts: [&[u8]; 9] = [
            self.date_time.as_bytes(),
            b"\r\nauthorization: AWS4-HMAC-SHA256 Credential=",
            access_key.as_bytes(),
            b"/",
            scope.as_bytes(),
            b",SignedHeaders=",
            SIGNED_HEADERS.as_bytes(),
            b",Signature=",
            &signature,
        ];
        parts.iter().for_each(|part| out.extend_from_slice(part));
        if let Some(len) = len {
            out.extend_from_slice(format!("\r\ncontent-length: {len}").as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }

    fn sign(&mut self, target: &Target<'_>, hash: &[u8]) -> [u8; 64] {
        let canonical = &mut self.canonical;
        canonical.clear();
        let parts: [&[u8]; 16] = [
            target.method.as_bytes(),
            b"\n",
            &self.path,
            b"\n",
            target.query.as_bytes(),
            b"\nhost:",
            self.host.as_bytes(),
            b"\nx-amz-content-sha256:",
            hash,
            b"\nx-amz-date:",
            self.date_time.as_bytes(),
            b"\n\n",
            SIGNED_HEADERS.as_bytes(),
            b"\n",
            hash,
            b"",
        ];
        parts.iter().for_each(|part| canonical.extend_from_slice(part));
        self.signer.sign(&self.date_time, canonical)
    }

    fn tick(&mut self, second: i64) {
        if second != self.second {
            self.second = second;
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.date_time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::Trust;

    /// 2013-05-24T00:00:00Z, the time of the examples in "Authenticating Requests: Using the Authorization Header" of
    /// the S3 API reference.
    const SECOND: i64 = 1_369_353_600;

    fn head(target: &Target<'_>, payload: &Payload) -> String {
        let endpoint = Endpoint::new("https://examplebucket.s3.amazonaws.com", Trust::Anyone).unwrap();
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        };
        let mut out = Vec::new();
        Requests::new(&endpoint, &credentials, "us-east-1").write(&mut out, target, payload, None, SECOND);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_published_examples_that_sign_these_headers_are_reproduced() {
        for (query, signature) in [
            ("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            let head = head(&Target { method: "GET", bucket: "", key: "", query }, &Payload::Empty);
            assert!(head.starts_with(&format!("GET /?{query} HTTP/1.1\r\n")), "{head}");
            assert!(head.contains("\r\nx-amz-date: 20130524T000000Z\r\n"), "{head}");
            assert!(head.ends_with(&format!("Signature={signature}\r\n\r\n")), "{head}");
        }
    }

    #[test]
    fn the_payload_hash_is_sent_as_it_was_signed() {
        let target = Target { method: "PUT", bucket: "b", key: "k/1", query: "" };
        let signatures: Vec<String> = [Payload::Unsigned, Payload::Hash([b'a'; 64])]
            .iter()
            .map(|payload| {
                let head = head(&target, payload);
                assert!(head.starts_with("PUT /b/k/1 HTTP/1.1\r\n"), "{head}");
                head.rsplit_once("Signature=").unwrap().1.to_owned()
            })
            .collect();
        assert_ne!(signatures[0], signatures[1]);
        assert!(head(&target, &Payload::Unsigned).contains("x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"));
    }
}
