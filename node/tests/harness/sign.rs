//! A second opinion on Signature Version 4: signs what the raw client sends, right or wrong as the test wants it.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use proto_s3::time::amz_date;

use super::Credentials;

/// The SHA-256 of nothing.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64
}

/// Lowercase hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of the bytes, in digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Signs at one moment for one key.
pub struct Signer {
    credentials: Credentials,
    /// `20130524T000000Z`
    pub date: String,
    key: hmac::Key,
}

impl Signer {
    /// A signer whose clock shows that time.
    pub fn at(credentials: &Credentials, seconds: i64) -> Self {
        let date = amz_date(seconds);
        let mut key = format!("AWS4{}", credentials.secret).into_bytes();
        for step in [&date[..8], "us-east-1", "s3", "aws4_request"] {
            key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), step.as_bytes()).as_ref().to_vec();
        }
        Signer { credentials: credentials.clone(), date, key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// The scope of all its signatures.
    pub fn scope(&self) -> String {
        format!("{}/us-east-1/s3/aws4_request", &self.date[..8])
    }

    /// The access key and the scope.
    pub fn credential(&self) -> String {
        format!("{}/{}", self.credentials.access_key, self.scope())
    }

    /// The signature of a request. Path and query are as on the wire; header names are lowercase.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(String, String)],
        payload: &str,
    ) -> String {
        let mut pairs: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
            .collect();
        pairs.sort();
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        lines.sort();
        let (query, lines, names) = (pairs.join("&"), lines.concat(), signed_headers(headers));
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}");
        self.sign(&format!(
            "AWS4-HMAC-SHA256\n{}\n{}\n{}",
            self.date,
            self.scope(),
            sha256(canonical.as_bytes())
        ))
    }

    /// The signature of a chunk that follows what `previous` signs.
    pub fn chunk(&self, previous: &str, data: &[u8]) -> String {
        let (date, scope, data) = (&self.date, self.scope(), sha256(data));
        self.sign(&format!("AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{EMPTY_SHA256}\n{data}"))
    }

    fn sign(&self, text: &str) -> String {
        hex(hmac::sign(&self.key, text.as_bytes()).as_ref())
    }
}

/// The names of the headers, as SignedHeaders lists them.
pub fn signed_headers(headers: &[(String, String)]) -> String {
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.join(";")
}
