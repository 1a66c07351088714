//! AWS's published vectors, and every way to be refused.

mod examples;
mod refusals;
mod suite;

use super::*;
use crate::http::{Parsed, parse_head};

/// The example credentials of the S3 documentation.
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z, the time of its examples.
const EXAMPLE_TIME: UnixSeconds = 1_369_353_600;
/// SHA-256 of nothing.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// One access key, perhaps temporary.
struct OneKey {
    session_token: Option<&'static str>,
}

impl Credentials for OneKey {
    fn secret(&self, access_key: &str) -> Option<Secret<'_>> {
        (access_key == ACCESS_KEY).then_some(Secret { text: SECRET, session_token: self.session_token })
    }
}

const KEYS: OneKey = OneKey { session_token: None };

/// Parses a head written with bare line ends.
fn head(text: &str) -> RequestHead {
    let wire = format!("{}\r\n\r\n", text.trim_end().replace('\n', "\r\n"));
    match parse_head(wire.as_bytes(), &Limits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("{text}: {other:?}"),
    }
}

fn check(text: &str, policy: &Policy) -> Result<Signed, Error> {
    match authenticate(&head(text), &KEYS, policy)? {
        Authentication::Signed(signed) => Ok(signed),
        Authentication::Anonymous { .. } => panic!("{text}: not anonymous"),
    }
}

fn scope_of(region: &str, amz_date: &str) -> String {
    format!("{}/{region}/s3/aws4_request", &amz_date[..8])
}

/// The signature of a head without one, as a client would compute it.
fn signature(text: &str, signed_headers: &str, payload_hash: &str, amz_date: &str) -> String {
    let head = head(text);
    let credential = format!("{ACCESS_KEY}/{}", scope_of("us-east-1", amz_date));
    let scope = Scope::parse(&credential, Form::Header).unwrap();
    let mut workspace = Workspace::default();
    workspace
        .build(&Subject {
            method: head.method.as_str(),
            raw_path: &head.raw_path,
            raw_query: &head.raw_query,
            headers: &head.headers,
            signed_headers,
            payload_hash,
            amz_date,
            scope: scope.text,
        })
        .unwrap();
    Hex(&SigningKey::derive(SECRET, &scope).sign(workspace.string_to_sign())).to_string()
}

/// The text with an Authorization header that signs it.
fn signed(text: &str, signed_headers: &str, payload_hash: &str, amz_date: &str) -> String {
    let signature = signature(text, signed_headers, payload_hash, amz_date);
    format!(
        "{text}\nAuthorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{}, SignedHeaders={signed_headers}, \
         Signature={signature}",
        scope_of("us-east-1", amz_date)
    )
}

/// A presigned URL's head.
fn presigned(method: &str, amz_date: &str, expires: &str, more_query: &str) -> String {
    let scope = scope_of("us-east-1", amz_date).replace('/', "%2F");
    let target = format!(
        "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={ACCESS_KEY}%2F{scope}&X-Amz-Date={amz_date}\
         &X-Amz-Expires={expires}&X-Amz-SignedHeaders=host{more_query}"
    );
    let text = format!("{method} {target} HTTP/1.1\nHost: h");
    let signature = signature(&text, "host", "UNSIGNED-PAYLOAD", amz_date);
    format!("{method} {target}&X-Amz-Signature={signature} HTTP/1.1\nHost: h")
}
