//! The upload in signed chunks with a signed trailer that the S3 API reference works out, so that a fuzzer gets past signatures.

use std::sync::LazyLock;

use proto_s3::http::{Method, RequestHead};
use proto_s3::time::UnixSeconds;

/// The secret key of all examples.
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// 2013-05-24T00:00:00Z, the time of all examples.
pub(super) const TIME: UnixSeconds = 1_369_353_600;

/// 64 KiB and 1 KiB of `a` with the signatures of their chunks; the end of the second chunk's data is the end.
pub(super) fn signed_chunks() -> &'static [u8] {
    static CHUNKS: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let chunk = |size: usize, signature: &str| {
            let mut chunk = format!("{size:x};chunk-signature={signature}\r\n").into_bytes();
            chunk.resize(chunk.len() + size, b'a');
            chunk
        };
        [
            chunk(0x10000, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
            b"\r\n".to_vec(),
            chunk(0x400, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
        ]
        .concat()
    });
    &CHUNKS
}

/// The head; Content-Length is not signed.
pub(super) fn head(content_len: usize) -> RequestHead {
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
        SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
        x-amz-storage-class;x-amz-trailer,\
        Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    let headers = [
        ("host", "s3.amazonaws.com"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("authorization", authorization),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
        ("content-length", &content_len.to_string()),
    ];
    RequestHead {
        method: Method::Put,
        raw_path: "/examplebucket/chunkObject.txt".into(),
        raw_query: String::new(),
        minor_version: 1,
        headers: headers.iter().copied().collect(),
    }
}
