//! Signs requests in their headers (SigV4), once, for a client that sends the same bytes again and again.
//!
//! Such a request costs the server what any other signed one costs: it is verified each time. It stays valid for 15 minutes.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use proto_s3::time::amz_date;

const REGION: &str = "us-east-1";

/// The payload is not covered: TLS protects it, and hashing it twice is no usual client's way over HTTPS.
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";

const SIGNED_HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";

/// An access key and its secret.
#[derive(Clone)]
pub(super) struct Credentials {
    access_key: String,
    secret_key: String,
}

impl Credentials {
    /// Of the AWS shared-credentials file that a node makes.
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(path)?)
            .ok_or_else(|| io::Error::other(format!("{}: no access key", path.display())))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let of_name = |line: &str| {
                line.split_once('=').filter(|(it, _)| it.trim() == name).map(|(_, it)| it.trim().to_owned())
            };
            text.lines().find_map(of_name)
        };
        Some(Self { access_key: value("aws_access_key_id")?, secret_key: value("aws_secret_access_key")? })
    }
}

/// Signs for one access key, one host, one moment.
pub(super) struct Signer {
    host: String,
    date_time: String,
    scope: String,
    access_key: String,
    key: hmac::Key,
}

impl Signer {
    /// Signatures made now.
    pub fn new(credentials: &Credentials, host: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Self::at(credentials, host, i64::try_from(now.as_secs()).expect("the clock is sane"))
    }

    fn at(credentials: &Credentials, host: &str, seconds: i64) -> Self {
        let date_time = amz_date(seconds);
        let day = &date_time[..8];
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{}", credentials.secret_key).as_bytes());
        for part in [day, REGION, "s3", "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        Self { host: host.to_owned(), scope, access_key: credentials.access_key.clone(), key, date_time }
    }

    /// The head of a request, its blank line included. The path is made of characters that need no coding.
    pub fn head(&self, method: &str, path: &str, body_len: Option<usize>) -> String {
        let Self { host, date_time, scope, access_key, .. } = self;
        let canonical = format!(
            "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{date_time}\n\n{SIGNED_HEADERS}\n{PAYLOAD}"
        );
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n{date_time}\n{scope}\n{hash}");
        let signature = hex(hmac::sign(&self.key, to_sign.as_bytes()).as_ref());
        let length = body_len.map(|len| format!("Content-Length: {len}\r\n")).unwrap_or_default();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}x-amz-content-sha256: {PAYLOAD}\r\nx-amz-date: {date_time}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={access_key}/{scope},SignedHeaders={SIGNED_HEADERS},Signature={signature}\r\n\r\n"
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proto_s3::Limits;
    use proto_s3::http::{Parsed, parse_head};
    use proto_s3::sigv4::{self, Authentication, Authenticator, Policy, Secret};

    use super::*;

    struct Known;

    impl sigv4::Credentials for Known {
        fn secret(&self, access_key: &str) -> Option<Secret<'_>> {
            (access_key == "AK").then_some(Secret { text: "a/b=c", session_token: None })
        }
    }

    fn authenticate(head: &str, now: i64) -> Result<Authentication, proto_s3::Error> {
        let Ok(Parsed::Complete { head, .. }) = parse_head(head.as_bytes(), &Limits::default()) else {
            panic!("no head: {head}")
        };
        Authenticator::new().authenticate(&head, &Known, &Policy::at(now))
    }

    #[test]
    fn the_server_accepts_what_is_signed_here_and_nothing_else() {
        let file = "[default]\naws_access_key_id = AK\naws_secret_access_key = a/b=c\n";
        let now = 1_700_000_000;
        let signer = Signer::at(&Credentials::parse(file).unwrap(), "127.0.0.1:9", now);
        for head in [signer.head("GET", "/perf/4K/000001", None), signer.head("PUT", "/perf/x", Some(4096))] {
            let signed = authenticate(&head, now + 800).expect("verified");
            assert!(matches!(signed, Authentication::Signed(signed) if signed.access_key == "AK"));
            assert!(authenticate(&head.replace("/perf/", "/other/"), now).is_err(), "another path");
            assert!(authenticate(&head, now + 1000).is_err(), "too old");
        }
    }
}
