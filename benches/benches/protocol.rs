//! What every request costs before it does anything, the head parsed and the signature verified; bodies in chunks; a listing as XML.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto_s3::http::{Parsed, RequestHead, ResponseBody, parse_head};
use proto_s3::op::list_objects_v2::{self, Owners};
use proto_s3::op::listing::{Entry, Page, Scope};
use proto_s3::op::{Owner, ResumeAfter};
use proto_s3::sigv4::{Authenticator, Credentials, PayloadAuth, Policy, Secret, authenticate};
use proto_s3::{Algorithm, BodyDecoder, ChecksumType, ETag, Hasher, Limits};

/// The example of the S3 API reference: "GET Object", signed by its published key.
const HEAD: &[u8] = b"GET /test.txt HTTP/1.1\r\n\
    Host: examplebucket.s3.amazonaws.com\r\n\
    Range: bytes=0-9\r\n\
    x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n\
    x-amz-date: 20130524T000000Z\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n\r\n";

/// 2013-05-24T00:00:00Z, when the examples are of.
const EXAMPLE_TIME: i64 = 1_369_353_600;

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
    let head = complete(HEAD);
    let policy = Policy::at(EXAMPLE_TIME);
    let mut authenticator = Authenticator::new();
    authenticator.authenticate(&head, &Published, &policy).expect("the published signature");
    criterion.bench_function("verify signature, cached signing key", |b| {
        b.iter(|| authenticator.authenticate(&head, &Published, &policy).is_ok());
    });
}

/// The reference's "Transferring Payload in Multiple Chunks": 65 KiB in signed chunks of 64 KiB.
const CHUNKED_HEAD: &[u8] = b"PUT /examplebucket/chunkObject.txt HTTP/1.1\r\n\
    Host: s3.amazonaws.com\r\n\
    x-amz-date: 20130524T000000Z\r\n\
    x-amz-storage-class: REDUCED_REDUNDANCY\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
x-amz-decoded-content-length;x-amz-storage-class,\
Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9\r\n\
    x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n\
    Content-Encoding: aws-chunked\r\n\
    x-amz-decoded-content-length: 66560\r\n\
    Content-Length: 66824\r\n\r\n";

/// Its chunks: lengths and signatures.
const CHUNKS: [(usize, &str); 3] = [
    (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
];

const CHUNKED_LEN: usize = 66_560;

fn signed_chunks() -> Vec<u8> {
    let mut wire = Vec::new();
    for (len, signature) in CHUNKS {
        wire.extend_from_slice(format!("{len:x};chunk-signature={signature}\r\n").as_bytes());
        wire.resize(wire.len() + len, b'a');
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// The same bytes as SDKs send them over TLS: chunks without signatures, and a checksum behind them.
fn unsigned_chunks() -> (Vec<u8>, Vec<u8>) {
    let payload = vec![b'a'; CHUNKED_LEN];
    let mut wire = Vec::new();
    for chunk in payload.chunks(65_536) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    let checksum = Hasher::hash(Algorithm::Crc32, &payload).to_base64();
    wire.extend_from_slice(format!("0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n").as_bytes());
    let head = format!(
        "PUT /examplebucket/chunkObject.txt HTTP/1.1\r\nHost: h\r\nContent-Encoding: aws-chunked\r\n\
         x-amz-decoded-content-length: {CHUNKED_LEN}\r\nx-amz-trailer: x-amz-checksum-crc32\r\n\
         Content-Length: {}\r\n\r\n",
        wire.len()
    );
    (head.into_bytes(), wire)
}

fn complete(bytes: &[u8]) -> RequestHead {
    match parse_head(bytes, &Limits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        _ => unreachable!("the head is complete"),
    }
}

/// Decodes a body to its end; how much payload there was.
fn decode(head: &RequestHead, payload: &PayloadAuth, wire: &[u8]) -> usize {
    let mut decoder = BodyDecoder::new(head, payload, &Limits::default()).expect("a good head");
    let (mut at, mut len) = (0, 0);
    while !decoder.is_done() {
        let decoded = decoder.decode(&wire[at..]).expect("a good body");
        at += decoded.consumed;
        len += decoded.payload.len();
    }
    decoder.finish().expect("a good body");
    len
}

fn chunked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("aws-chunked 65 KiB");
    group.throughput(Throughput::Bytes(CHUNKED_LEN as u64));
    let (head, wire) = (complete(CHUNKED_HEAD), signed_chunks());
    let authentication = authenticate(&head, &Published, &Policy::at(EXAMPLE_TIME));
    let payload = authentication.expect("the published signature").payload().clone();
    assert_eq!(decode(&head, &payload, &wire), CHUNKED_LEN);
    group.bench_function("decode signed chunks", |b| b.iter(|| decode(&head, &payload, &wire)));
    let (head, wire) = unsigned_chunks();
    let (head, payload) = (complete(&head), PayloadAuth::StreamingUnsignedTrailer);
    assert_eq!(decode(&head, &payload, &wire), CHUNKED_LEN);
    group.bench_function("decode unsigned chunks", |b| b.iter(|| decode(&head, &payload, &wire)));
    group.finish();
}

/// A page of ListObjectsV2 as the engine found it.
fn page() -> (list_objects_v2::Request, Page) {
    let etag = ETag::parse("70ee1738b6b21e2c8a43f3a5ab0eee71").expect("a digest");
    let entry = |i: u16| Entry {
        key: format!("photos/2026/{i:04}/holiday & more.jpg"),
        last_modified_ms: 1_790_000_000_000 + i64::from(i),
        etag,
        len: 4096 + u64::from(i),
        checksum: Some((Algorithm::Crc64Nvme, ChecksumType::FullObject)),
    };
    let entries: Vec<Entry> = (0..1000).map(entry).collect();
    let next = entries.last().map(|entry| ResumeAfter::Key(entry.key.clone()));
    let scope = Scope { prefix: "photos/".into(), delimiter: None, max_keys: 1000, encoding_type: None };
    let request = list_objects_v2::Request {
        bucket: "bucket".into(),
        scope,
        start_after: None,
        continuation: None,
        owners: Owners::Hidden,
    };
    (request, Page { entries, common_prefixes: Vec::new(), next })
}

fn list(criterion: &mut Criterion) {
    let ((request, page), owner) = (page(), Owner { id: "75aa".into(), display_name: "me".into() });
    let ResponseBody::Bytes(document) = list_objects_v2::render(&request, &page, &owner).body else {
        unreachable!("a listing is a document")
    };
    let is_whole = document.ends_with(b"</ListBucketResult>") && document.len() > 1000 * 200;
    assert!(is_whole, "{} bytes", document.len());
    criterion.bench_function("write a listing of 1000 keys as XML", |b| {
        b.iter(|| list_objects_v2::render(&request, &page, &owner));
    });
}

criterion_group!(benches, protocol, chunked, list);
criterion_main!(benches);
