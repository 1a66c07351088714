//! The worked examples of the S3 API reference.

use super::*;
use crate::body::BodyDecoder;

const PREFIX: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";

fn verify(text: &str) -> Signed {
    check(&text.replace("AWS4…", PREFIX), &Policy::at(EXAMPLE_TIME)).unwrap()
}

#[test]
fn get_object_with_a_range() {
    let signed = verify(&format!(
        "GET /test.txt HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nRange: bytes=0-9\n\
         x-amz-content-sha256: {EMPTY_SHA256}\nx-amz-date: 20130524T000000Z\n\
         Authorization: AWS4…,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
         Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    ));
    assert_eq!((signed.access_key.as_str(), signed.region.as_str()), (ACCESS_KEY, "us-east-1"));
    assert_eq!((signed.signed_at, signed.form), (EXAMPLE_TIME, Form::Header));
}

#[test]
fn put_object() {
    let signed = verify(
        "PUT /test%24file.text HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\n\
         Date: Fri, 24 May 2013 00:00:00 GMT\nx-amz-date: 20130524T000000Z\n\
         x-amz-storage-class: REDUCED_REDUNDANCY\n\
         x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\n\
         Authorization: AWS4…,SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,\
         Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    assert!(matches!(signed.payload, PayloadAuth::Sha256([0x44, 0xce, ..])));
}

#[test]
fn get_bucket_lifecycle() {
    verify(&format!(
        "GET /?lifecycle HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nx-amz-date: 20130524T000000Z\n\
         x-amz-content-sha256: {EMPTY_SHA256}\n\
         Authorization: AWS4…,SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
         Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    ));
}

#[test]
fn list_objects() {
    verify(&format!(
        "GET /?max-keys=2&prefix=J HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nx-amz-date: 20130524T000000Z\n\
         x-amz-content-sha256: {EMPTY_SHA256}\n\
         Authorization: AWS4…,SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
         Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    ));
}

#[test]
fn a_presigned_url() {
    let signed = verify(
        "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\n\
         Host: examplebucket.s3.amazonaws.com",
    );
    assert!(signed.is_presigned());
    assert!(matches!(signed.payload, PayloadAuth::Unsigned));
}

/// The object of the chunked examples: 65 KiB of `a`, in chunks of 64 KiB and 1 KiB.
const CHUNKED_LEN: usize = 66_560;

fn chunked_body(signatures: [&str; 3], end: &str) -> Vec<u8> {
    let mut body = format!("10000;chunk-signature={}\r\n", signatures[0]).into_bytes();
    body.extend_from_slice(&[b'a'; 0x10000]);
    body.extend_from_slice(format!("\r\n400;chunk-signature={}\r\n", signatures[1]).as_bytes());
    body.extend_from_slice(&[b'a'; 0x400]);
    body.extend_from_slice(format!("\r\n0;chunk-signature={}\r\n{end}", signatures[2]).as_bytes());
    body
}

/// Authenticates the head, then decodes the body.
fn upload(head_text: &str, body: &[u8]) -> Result<crate::Trailers, Error> {
    let head = head(&head_text.replace("AWS4…", PREFIX));
    let authentication = authenticate(&head, &KEYS, &Policy::at(EXAMPLE_TIME))?;
    let mut decoder = BodyDecoder::new(&head, authentication.payload(), &Limits::default())?;
    assert_eq!(decoder.payload_len(), CHUNKED_LEN as u64);
    let mut payload = Vec::new();
    let mut at = 0;
    while !decoder.is_done() {
        let decoded = decoder.decode(&body[at..])?;
        payload.extend_from_slice(&body[at..][decoded.payload]);
        at += decoded.consumed;
    }
    assert_eq!((at, payload.len()), (body.len(), CHUNKED_LEN));
    decoder.finish()
}

const CHUNKED_HEAD: &str = "PUT /examplebucket/chunkObject.txt HTTP/1.1\nHost: s3.amazonaws.com\n\
    x-amz-date: 20130524T000000Z\nx-amz-storage-class: REDUCED_REDUNDANCY\n\
    Authorization: AWS4…,SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
    x-amz-decoded-content-length;x-amz-storage-class,\
    Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9\n\
    x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\nContent-Encoding: aws-chunked\n\
    x-amz-decoded-content-length: 66560\nContent-Length: 66824";

const CHUNK_SIGNATURES: [&str; 3] = [
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
];

#[test]
fn an_upload_in_signed_chunks() {
    let body = chunked_body(CHUNK_SIGNATURES, "\r\n");
    assert_eq!(body.len(), 66_824);
    assert_eq!(upload(CHUNKED_HEAD, &body), Ok(crate::Trailers::default()));
}

#[test]
fn a_changed_byte_in_a_signed_chunk_is_found() {
    for index in [200, 66_000] {
        let mut body = chunked_body(CHUNK_SIGNATURES, "\r\n");
        body[index] ^= 1;
        assert_eq!(upload(CHUNKED_HEAD, &body).unwrap_err().code, Code::SignatureDoesNotMatch);
    }
}

#[test]
fn a_changed_chunk_signature_is_found() {
    for index in 0..3 {
        let mut signatures = CHUNK_SIGNATURES;
        signatures[index] = EMPTY_SHA256;
        let body = chunked_body(signatures, "\r\n");
        assert_eq!(upload(CHUNKED_HEAD, &body).unwrap_err().code, Code::SignatureDoesNotMatch, "{index}");
    }
}

const TRAILER_HEAD: &str = "PUT /examplebucket/chunkObject.txt HTTP/1.1\nHost: s3.amazonaws.com\n\
    x-amz-date: 20130524T000000Z\nx-amz-storage-class: REDUCED_REDUNDANCY\n\
    Authorization: AWS4…,SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;\
    x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,\
    Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e\n\
    x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER\nContent-Encoding: aws-chunked\n\
    x-amz-decoded-content-length: 66560\nx-amz-trailer: x-amz-checksum-crc32c\nContent-Length: LENGTH";

const TRAILER_CHUNK_SIGNATURES: [&str; 3] = [
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
];

const TRAILER_SIGNATURE: &str = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";

fn upload_with_trailer(trailer: &str) -> Result<crate::Trailers, Error> {
    let body = chunked_body(TRAILER_CHUNK_SIGNATURES, trailer);
    upload(&TRAILER_HEAD.replace("LENGTH", &body.len().to_string()), &body)
}

#[test]
fn an_upload_in_signed_chunks_with_a_signed_trailer() {
    // As the reference has it, as minio-go writes it, and without the last empty line.
    for trailer in [
        "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:SIGNATURE\r\n\r\n",
        "x-amz-checksum-crc32c:sOO8/Q==\n\r\nx-amz-trailer-signature:SIGNATURE\r\n\r\n",
        "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:SIGNATURE\r\n",
    ] {
        let trailers = upload_with_trailer(&trailer.replace("SIGNATURE", TRAILER_SIGNATURE)).unwrap();
        let fields: Vec<_> = trailers.iter().collect();
        assert_eq!(fields, [("x-amz-checksum-crc32c", "sOO8/Q==")]);
    }
}

#[test]
fn a_changed_trailer_is_found() {
    for (trailer, code) in [
        (
            "x-amz-checksum-crc32c:sOO8/A==\r\nx-amz-trailer-signature:SIGNATURE\r\n\r\n",
            Code::SignatureDoesNotMatch,
        ),
        ("x-amz-trailer-signature:SIGNATURE\r\n\r\n", Code::SignatureDoesNotMatch),
        ("x-amz-checksum-crc32c:sOO8/Q==\r\n\r\n", Code::MalformedTrailerError),
        ("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:00\r\n\r\n", Code::MalformedTrailerError),
        (
            "x-amz-trailer-signature:SIGNATURE\r\nx-amz-checksum-crc32c:sOO8/Q==\r\n\r\n",
            Code::SignatureDoesNotMatch,
        ),
        (
            "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:SIGNATURE\r\nx-amz-a:b\r\n\r\n",
            Code::MalformedTrailerError,
        ),
        ("\r\n", Code::MalformedTrailerError),
    ] {
        let trailer = trailer.replace("SIGNATURE", TRAILER_SIGNATURE);
        assert_eq!(upload_with_trailer(&trailer).unwrap_err().code, code, "{trailer}");
    }
}
