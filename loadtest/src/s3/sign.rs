//! Signature Version 4, header form, as "Authenticating Requests: Using the Authorization Header" of the S3 API
//! reference describes it. Checked against the examples published there.

use aws_lc_rs::{digest, hmac};

use super::credentials::Credentials;

/// The payload hash of a request whose body is not covered by the signature.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// What of a request is signed. The caller has put `host`, `x-amz-date` and `x-amz-content-sha256` among the headers.
pub(super) struct ToSign<'a> {
    pub method: &'a str,
    /// Percent-coded once.
    pub path: &'a str,
    /// In canonical form.
    pub query: &'a str,
    /// Names in lower case; all are signed.
    pub headers: &'a [(String, String)],
    /// Hexadecimal SHA-256 of the body, or [`UNSIGNED_PAYLOAD`].
    pub payload_hash: &'a str,
    /// `20130524T000000Z`
    pub date_time: &'a str,
}

/// Signs requests, and remembers the signing key of the day.
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    day: Option<Day>,
    to_sign: Vec<u8>,
}

/// What is the same for all requests of a day.
struct Day {
    date: [u8; 8],
    scope: String,
    key: hmac::Key,
}

impl Signer {
    pub fn new(credentials: Credentials, region: String) -> Self {
        Self { credentials, region, day: None, to_sign: Vec::new() }
    }

    /// The access key and the scope of the day, as `Credential=` names them.
    pub fn credential(&mut self, date_time: &str) -> (&str, &str) {
        self.prepare(date_time);
        let day = self.day.as_ref().expect("the day has just been prepared");
        (&self.credentials.access_key, &day.scope)
    }

    /// The signature of a canonical request, in hexadecimal. Allocates nothing but once a day.
    pub fn sign(&mut self, date_time: &str, canonical: &[u8]) -> [u8; 64] {
        self.prepare(date_time);
        let day = self.day.as_ref().expect("the day has just been prepared");
        self.to_sign.clear();
        self.to_sign.extend_from_slice(b"AWS4-HMAC-SHA256\n");
        self.to_sign.extend_from_slice(date_time.as_bytes());
        self.to_sign.push(b'\n');
        self.to_sign.extend_from_slice(day.scope.as_bytes());
        self.to_sign.push(b'\n');
        self.to_sign.extend_from_slice(&hex_32(digest::digest(&digest::SHA256, canonical).as_ref()));
        hex_32(hmac::sign(&day.key, &self.to_sign).as_ref())
    }

    /// The value of the `Authorization` header.
    pub(super) fn authorization(&mut self, request: &ToSign<'_>) -> String {
        let mut headers: Vec<(&str, String)> =
            request.headers.iter().map(|(name, value)| (name.as_str(), canonical_value(value))).collect();
        headers.sort();
        let signed_names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let canonical_headers: String =
            headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{canonical_headers}\n{signed_names}\n{}",
            request.method, request.path, request.query, request.payload_hash
        );
        let signature = self.sign(request.date_time, canonical.as_bytes());
        let (access_key, scope) = self.credential(request.date_time);
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/{scope},SignedHeaders={signed_names},Signature={}",
            String::from_utf8_lossy(&signature)
        )
    }

    fn prepare(&mut self, date_time: &str) {
        let date =
            date_time.as_bytes().first_chunk::<8>().expect("a date and time of the form 20130524T000000Z");
        if self.day.as_ref().is_some_and(|day| day.date == *date) {
            return;
        }
        let text = &date_time[..8];
        let scope = format!("{text}/{}/s3/aws4_request", self.region);
        let key = derive_key(&self.credentials.secret_key, text, &self.region);
        self.day = Some(Day { date: *date, scope, key });
    }
}

fn derive_key(secret: &str, day: &str, region: &str) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    for part in [day, region, "s3", "aws4_request"] {
        let tag = hmac::sign(&key, part.as_bytes());
        key = hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref());
    }
    key
}

/// Trimmed, and each run of spaces made one.
fn canonical_value(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// 32 bytes in hexadecimal.
pub(crate) fn hex_32(bytes: &[u8]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 64];
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn signature(method: &str, path: &str, query: &str, hash: &str, extra: &[(&str, &str)]) -> String {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        };
        let mut headers = vec![
            ("host".to_owned(), "examplebucket.s3.amazonaws.com".to_owned()),
            ("x-amz-content-sha256".to_owned(), hash.to_owned()),
            ("x-amz-date".to_owned(), "20130524T000000Z".to_owned()),
        ];
        headers.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let date_time = "20130524T000000Z";
        let request = ToSign { method, path, query, headers: &headers, payload_hash: hash, date_time };
        let value = Signer::new(credentials, "us-east-1".into()).authorization(&request);
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_published_get_object_example_is_reproduced() {
        let seen = signature("GET", "/test.txt", "", EMPTY, &[("range", "bytes=0-9")]);
        assert_eq!(seen, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    }

    #[test]
    fn the_published_put_object_example_is_reproduced() {
        let hash = hex(digest::digest(&digest::SHA256, b"Welcome to Amazon S3.").as_ref());
        let extra =
            [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let seen = signature("PUT", "/test%24file.text", "", &hash, &extra);
        assert_eq!(seen, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    }

    #[test]
    fn the_published_query_examples_are_reproduced() {
        assert_eq!(
            signature("GET", "/", "lifecycle=", EMPTY, &[]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature("GET", "/", "max-keys=2&prefix=J", EMPTY, &[]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn runs_of_spaces_in_a_header_value_are_signed_as_one() {
        assert_eq!(canonical_value("  a   b c "), "a b c");
    }
}
