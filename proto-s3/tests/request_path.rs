//! A connection's bytes through the public interface: head, signature, body, checksums, response.

use md5_lanes::{Kernel, Lanes};
use proto_s3::http::{self, Parsed, ResponseContext, encode_response, parse_head};
use proto_s3::sigv4::{Authenticator, Credentials, Policy, Secret};
use proto_s3::{BodyDecoder, BodyHasher, ChecksumRequest, Code, ETag, Error, Limits};

struct OneKey;

impl Credentials for OneKey {
    fn secret(&self, access_key: &str) -> Option<Secret<'_>> {
        (access_key == "AKIAIOSFODNN7EXAMPLE")
            .then_some(Secret { text: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", session_token: None })
    }
}

/// What an upload came to.
struct Stored {
    payload: Vec<u8>,
    etag: ETag,
    checksum: Option<String>,
}

/// Reads one request from the front of `wire`, as a node does; returns what is left.
fn receive<'a>(
    authenticator: &mut Authenticator,
    wire: &'a [u8],
    now: i64,
) -> Result<(Stored, &'a [u8]), Error> {
    let limits = Limits::default();
    let Parsed::Complete { head, len } = parse_head(wire, &limits)? else { panic!("a whole head") };
    let authentication = authenticator.authenticate(&head, &OneKey, &Policy::at(now))?;
    let mut decoder = BodyDecoder::new(&head, authentication.payload(), &limits)?;
    let checksums = ChecksumRequest::from_head(&head)?;
    let mut hasher = BodyHasher::new(&Lanes::new(Kernel::detect()), checksums.algorithm());
    let mut rest = &wire[len..];
    let mut payload = Vec::new();
    while !decoder.is_done() && !rest.is_empty() {
        let decoded = decoder.decode(rest)?;
        hasher.update(&rest[decoded.payload.clone()]);
        payload.extend_from_slice(&rest[decoded.payload]);
        rest = &rest[decoded.consumed..];
    }
    let trailers = decoder.finish()?;
    let digests = hasher.finish_now();
    checksums.verify(&digests, &trailers)?;
    let checksum = digests.checksum.map(|checksum| checksum.to_base64());
    Ok((Stored { payload, etag: ETag::single(digests.md5), checksum }, rest))
}

/// As boto3 sends it over HTTPS: aws-chunked with an unsigned trailer, inside chunked transfer coding. Anonymous.
const NESTED: &str = "PUT /b/k HTTP/1.1\r\nHost: localhost:9000\r\nContent-Encoding: aws-chunked\r\n\
    Transfer-Encoding: chunked\r\nX-Amz-Trailer: x-amz-checksum-crc32\r\nX-Amz-Decoded-Content-Length: 9\r\n\
    X-Amz-Content-SHA256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nx-amz-sdk-checksum-algorithm: CRC32\r\n\r\n\
    e\r\n9\r\n123456789\r\n\r\n24\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n\r\n0\r\n\r\n";

/// The documentation's PUT example, whose payload is signed by its hash.
const SIGNED: &str = "PUT /test%24file.text HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n\
    Date: Fri, 24 May 2013 00:00:00 GMT\r\nx-amz-date: 20130524T000000Z\r\nContent-Length: 21\r\n\
    Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
    SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
    Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd\r\n\
    x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\r\n\
    x-amz-storage-class: REDUCED_REDUNDANCY\r\n\r\nWelcome to Amazon S3.";

/// The time of the documentation's examples.
const NOW: i64 = 1_369_353_600;

#[test]
fn pipelined_uploads_are_taken_one_after_the_other() {
    let wire = [NESTED, SIGNED, NESTED].concat();
    let mut authenticator = Authenticator::new();
    let (first, rest) = receive(&mut authenticator, wire.as_bytes(), NOW).unwrap();
    assert_eq!(first.payload, b"123456789");
    assert_eq!(first.etag.to_string(), "25f9e794323b453885f5181f1b624d0b");
    assert_eq!(first.checksum.as_deref(), Some("y/Q5Jg=="));
    let (second, rest) = receive(&mut authenticator, rest, NOW).unwrap();
    assert_eq!(second.payload, b"Welcome to Amazon S3.");
    assert_eq!(second.checksum, None);
    let (_, rest) = receive(&mut authenticator, rest, NOW).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn each_kind_of_damage_has_its_code() {
    for (wire, from, to, code) in [
        (NESTED, "123456789", "123456780", Code::BadDigest),
        (NESTED, "y/Q5Jg==", "y/Q5JA==", Code::BadDigest),
        (NESTED, "y/Q5Jg==", "y/Q5Jg=x", Code::InvalidRequest),
        (NESTED, "crc32:", "sha1x:", Code::MalformedTrailerError),
        (NESTED, "Length: 9\r", "Length: 8\r", Code::IncompleteBody),
        (NESTED, "CRC32\r", "SHA1\r", Code::InvalidRequest),
        (NESTED, "UNSIGNED", "AWS4-HMAC-SHA256", Code::InvalidRequest),
        (SIGNED, "Amazon S3.", "Amazon S4.", Code::XAmzContentSHA256Mismatch),
        (SIGNED, "Amazon S3.", "Amazon S3", Code::IncompleteBody),
        (SIGNED, "REDUCED_REDUNDANCY", "STANDARD", Code::SignatureDoesNotMatch),
        (SIGNED, "Content-Length: 21\r\n", "", Code::MissingContentLength),
        (SIGNED, "Content-Length: 21", "Content-Length: 5368709121", Code::EntityTooLarge),
        (SIGNED, "Host:", "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\nHost:", Code::BadDigest),
    ] {
        assert!(wire.contains(from), "{from}");
        let damaged = wire.replacen(from, to, 1);
        let result = receive(&mut Authenticator::new(), damaged.as_bytes(), NOW);
        assert_eq!(result.map(|_| ()).unwrap_err().code, code, "{from} -> {to}");
    }
}

#[test]
fn an_error_becomes_a_response_that_ends_the_connection() {
    let late = receive(&mut Authenticator::new(), SIGNED.as_bytes(), NOW + 901).map(|_| ()).unwrap_err();
    let context = ResponseContext {
        request_id: "R",
        host_id: "H",
        date: "Fri, 24 May 2013 00:15:01 GMT",
        server: "Basalt",
        server_timing: None,
        keep_alive: false,
    };
    let mut out = Vec::new();
    encode_response(&late.resource("/b/k").to_response("R", "H", false), &context, &mut out);
    let text = String::from_utf8(out).unwrap();
    let (head, document) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 403 Forbidden\r\n") && head.ends_with("\r\nConnection: close"),
        "{head}"
    );
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", document.len())), "{head}");
    assert!(document.contains("<Code>RequestTimeTooSkewed</Code>"), "{document}");
    assert!(document.contains("<RequestTime>20130524T000000Z</RequestTime>"), "{document}");
    assert!(http::CONTINUE.ends_with(b"\r\n\r\n"));
}
