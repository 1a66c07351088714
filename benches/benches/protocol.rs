//! What every request costs before it does anything: the head parsed, the signature verified.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use proto_s3::Limits;
use proto_s3::http::{Parsed, parse_head};
use proto_s3::sigv4::{Authenticator, Credentials, Policy, Secret};

/// The example of the S3 API reference: "GET Object", signed by its published key.
const HEAD: &[u8] = b"GET /test.txt HTTP/1.1\r\n\
    Host: examplebucket.s3.amazonaws.com\r\n\
    Range: bytes=0-9\r\n\
    x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n\
    x-amz-date: 20130524T000000Z\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n\r\n";

struct Published;

impl Credentials for Published {
    fn secret(&self, _: &str) -> Option<Secret<'_>> {
        Some(Secret { text: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", session_token: None })
    }
}

fn protocol(criterion: &mut Criterion) {
    let limits = Limits::default();
    criterion.bench_function("parse head", |b| {
        b.iter(|| matches!(parse_head(HEAD, &limits), Ok(Parsed::Complete { .. })));
    });
    let Ok(Parsed::Complete { head, .. }) = parse_head(HEAD, &limits) else {
        unreachable!("the head is complete")
    };
    // 2013-05-24T00:00:00Z
    let policy = Policy::at(1_369_353_600);
    let mut authenticator = Authenticator::new();
    authenticator.authenticate(&head, &Published, &policy).expect("the published signature");
    criterion.bench_function("verify signature, cached signing key", |b| {
        b.iter(|| authenticator.authenticate(&head, &Published, &policy).is_ok());
    });
}

criterion_group!(benches, protocol);
criterion_main!(benches);
