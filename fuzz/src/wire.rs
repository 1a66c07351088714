//! What may come over the wire.

use proto_s3::body::BodyDecoder;
use proto_s3::http::{Headers, Method, Parsed, RequestHead, framing, parse_head};
use proto_s3::op::{CopySource, ResumeAfter};
use proto_s3::op::{
    complete_multipart_upload as complete, create_bucket as create, delete_objects as delete,
};
use proto_s3::range::{ByteRange, CopyRange, Resolved};
use proto_s3::sigv4::{Authenticator, Credentials, PayloadAuth, Policy, Secret, adopt_query_headers};
use proto_s3::uri::{self, Plus, Slash};
use proto_s3::xml::Reader;
use proto_s3::{ETag, Error, Limits, Operation, RouteConfig, route, time};

mod example;

/// A request head, and what it is routed to.
pub fn head(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(Parsed::Complete { head, len }) = parse_head(bytes, &limits) else { return };
    assert!(framing(&head).is_ok(), "a head with ambiguous framing is refused");
    let again = parse_head(&bytes[..len], &limits);
    assert!(matches!(again, Ok(Parsed::Complete { len: again, .. }) if again == len));
    let shorter = parse_head(&bytes[..len - 1], &limits);
    assert!(matches!(shorter, Ok(Parsed::Partial)), "a proper beginning is partial: {shorter:?}");
    let _ = adopt_query_headers(&mut head.clone());
    let _ = BodyDecoder::new(&head, &PayloadAuth::Unsigned, &limits);
    if let Ok(operation) = route(&head, &routes()) {
        let _ = operation.body_kind(&limits);
        let _ = operation.body_checksum();
    }
}

/// `Transfer-Encoding: chunked` around aws-chunked: the only way in which S3 knows the length of such a body.
pub fn chunked_body(bytes: &[u8]) {
    body(bytes, vec![("transfer-encoding", "chunked".into())]);
}

/// aws-chunked with an unsigned trailer.
pub fn aws_chunked_body(bytes: &[u8]) {
    let wire = bytes.get(3..).unwrap_or_default();
    body(bytes, vec![("content-length", wire.len().to_string())]);
}

/// The input: how to cut the body, how long the payload is (two bytes), the body.
fn body(bytes: &[u8], framing: Vec<(&str, String)>) {
    let [cut, len_low, len_high, wire @ ..] = bytes else { return };
    let payload_len = u16::from_le_bytes([*len_low, *len_high]);
    let mut headers = framing;
    headers.push(("x-amz-decoded-content-length", payload_len.to_string()));
    headers.push(("x-amz-trailer", "x-amz-checksum-crc32".into()));
    let head = request(Method::Put, "/bucket/key", "", &headers);
    check_cuts(&head, &PayloadAuth::StreamingUnsignedTrailer, wire, usize::from(*cut) + 1);
}

/// The end of a body in signed chunks, with a signed trailer: what comes after the last data of the S3 reference's example, which verifies.
pub fn signed_body(bytes: &[u8]) {
    let wire = [example::signed_chunks(), bytes].concat();
    let head = example::head(wire.len());
    let policy = Policy::at(example::TIME);
    let authentication =
        Authenticator::new().authenticate(&head, &AnyKey, &policy).expect("the example verifies");
    check_cuts(&head, authentication.payload(), &wire, 4096);
}

/// How the input is cut makes no difference, neither to the payload nor to the verdict.
fn check_cuts(head: &RequestHead, auth: &PayloadAuth, wire: &[u8], cut: usize) {
    let whole = decode(head, auth, wire, usize::MAX);
    let pieces = decode(head, auth, wire, cut);
    assert_eq!(whole, pieces, "in pieces of {cut}");
    if let Ok((payload, consumed)) = whole {
        assert!(consumed <= wire.len() && payload.len() <= consumed);
    }
}

/// The payload and how much of the wire it took.
fn decode(
    head: &RequestHead,
    auth: &PayloadAuth,
    wire: &[u8],
    cut: usize,
) -> Result<(Vec<u8>, usize), proto_s3::Code> {
    let mut decoder = BodyDecoder::new(head, auth, &Limits::default()).map_err(|error| error.code)?;
    let (mut payload, mut at) = (Vec::new(), 0);
    while !decoder.is_done() && at < wire.len() {
        let input = &wire[at..at + cut.min(wire.len() - at)];
        let decoded = decoder.decode(input).map_err(|error| error.code)?;
        payload.extend_from_slice(&input[decoded.payload]);
        assert!(decoded.consumed > 0 || decoded.is_done, "a decoder that takes nothing never ends");
        at += decoded.consumed;
    }
    let expected = decoder.payload_len();
    decoder.finish().map_err(|error| error.code)?;
    assert_eq!(payload.len() as u64, expected, "the payload is as long as the head says");
    Ok((payload, at))
}

/// A head whose Authorization header is anything.
pub fn sigv4_header(bytes: &[u8]) {
    if let Ok(Parsed::Complete { head, .. }) = parse_head(bytes, &Limits::default()) {
        authenticate(&head);
    }
}

/// A query, presigned or not.
pub fn sigv4_presigned(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    authenticate(&request(Method::Get, "/test.txt", query, &[]));
}

fn authenticate(head: &RequestHead) {
    for now in [example::TIME, i64::MIN, i64::MAX] {
        let policy = Policy { debug_canonical: true, ..Policy::at(now) };
        let mut authenticator = Authenticator::new();
        let first =
            authenticator.authenticate(head, &AnyKey, &policy).map(|_| ()).map_err(|error| error.code);
        let second =
            authenticator.authenticate(head, &AnyKey, &policy).map(|_| ()).map_err(|error| error.code);
        assert_eq!(first, second, "a kept signing key changes no verdict");
    }
}

/// The document of DeleteObjects. What the response says of its keys reads back.
pub fn delete_objects(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(mut document) = delete::parse_document(bytes, &limits) else { return };
    assert!((1..=limits.delete_keys_max).contains(&document.objects.len()));
    document.report = delete::Report::Everything;
    let outcomes: Vec<Result<(), Error>> = document.objects.iter().map(|_| Ok(())).collect();
    let response = delete::render(&document, &outcomes);
    let proto_s3::http::ResponseBody::Bytes(rendered) = &response.body else {
        panic!("a document is rendered")
    };
    let keys = deleted_keys(rendered).expect("our own documents are well-formed");
    assert!(keys.iter().eq(document.objects.iter().map(|object| &object.key)), "{keys:?}");
}

fn deleted_keys(document: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(document, usize::MAX, 16)?;
    reader.root("DeleteResult")?;
    let mut keys = Vec::new();
    while reader.next_child()?.is_some() {
        while let Some(name) = reader.next_child()? {
            match name {
                "Key" => keys.push(reader.text()?),
                _ => reader.skip()?,
            }
        }
    }
    reader.finish()?;
    Ok(keys)
}

/// The document of CompleteMultipartUpload.
pub fn complete_multipart_upload(bytes: &[u8]) {
    let limits = Limits::default();
    if let Ok(parts) = complete::parse_document(bytes, &limits) {
        assert!(!parts.is_empty() && parts.len() <= limits.parts_max as usize);
        assert!(parts.iter().all(|part| (1..=limits.parts_max).contains(&part.number)));
    }
}

/// The document of CreateBucket.
pub fn create_bucket(bytes: &[u8]) {
    if let Ok(document) = create::parse_document(bytes, &Limits::default()) {
        let _ = document.check_region("eu-central-1");
    }
}

/// Percent coding, both ways.
pub fn uri(bytes: &[u8]) {
    for slash in [Slash::Keep, Slash::Encode] {
        let encoded = uri::encode(bytes, slash);
        assert_eq!(uri::decode(&encoded, Plus::Literal).as_deref(), Ok(bytes));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for plus in [Plus::Literal, Plus::Space] {
        if let Ok(decoded) = uri::decode(text, plus) {
            let again = uri::encode(&decoded, Slash::Encode);
            assert_eq!(uri::decode(&again, plus).as_deref(), Ok(&*decoded));
        }
    }
}

/// The parameters of a query.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for method in [Method::Get, Method::Put, Method::Post, Method::Delete] {
        for path in ["/", "/bucket", "/bucket/key"] {
            let _ = route(&request(method, path, text, &[]), &routes());
        }
    }
}

/// Host and path: a line each.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (host, path) = text.split_once('\n').unwrap_or(("localhost", text));
    let mut head = request(Method::Head, &format!("/{path}"), "", &[]);
    head.headers = [("host", host)].into_iter().collect();
    if let Ok(Operation::HeadObject(request)) = route(&head, &routes()) {
        assert!(!request.key.is_empty() && request.key.len() <= Limits::default().key_len_max);
    }
}

/// Range headers.
pub fn range(bytes: &[u8]) {
    if let Some(range) = ByteRange::parse(bytes) {
        for len in [0, 1, 2, 1000, u64::MAX] {
            match range.resolve(len) {
                Resolved::Part { first, last } => assert!(first <= last && last < len),
                Resolved::NotSatisfiable => drop(range.not_satisfiable(len)),
            }
        }
    }
    if let Ok(range) = CopyRange::parse(bytes) {
        let text = format!("bytes={}-{}", range.first, range.last);
        assert_eq!(CopyRange::parse(text.as_bytes()), Ok(range));
        assert!(range.byte_count() > 0);
        let _ = range.check_within(1000);
    }
}

/// `x-amz-copy-source`.
pub fn copy_source(bytes: &[u8]) {
    let Some(source) = copied_from(bytes) else { return };
    let again = format!("/{}/{}", source.bucket, uri::encode(source.key.as_bytes(), Slash::Keep));
    assert_eq!(copied_from(again.as_bytes()), Some(source));
}

fn copied_from(value: &[u8]) -> Option<CopySource> {
    let mut head = request(Method::Put, "/bucket/key", "", &[]);
    head.headers.push("x-amz-copy-source", value);
    match route(&head, &routes()) {
        Ok(Operation::CopyObject(request)) => Some(request.source),
        _ => None,
    }
}

/// Continuation tokens.
pub fn continuation_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(position) = ResumeAfter::from_token(text) {
        assert_eq!(ResumeAfter::from_token(&position.to_token()), Ok(position));
    }
    let (marker, prefix) = text.split_once('\n').unwrap_or((text, ""));
    assert_eq!(ResumeAfter::marker(marker, prefix, Some("/")).as_str(), marker);
}

/// ETags, and dates in all three forms.
pub fn etag_and_dates(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(etag) = ETag::parse(text) {
        assert_eq!(ETag::parse(&etag.quoted()), Some(etag));
    }
    if let Some(seconds) = time::parse_amz_date(text) {
        assert_eq!(time::parse_amz_date(&time::amz_date(seconds)), Some(seconds));
    }
    if let Some(seconds) = time::parse_http_date(text) {
        assert_eq!(time::parse_http_date(&time::http_date(seconds)), Some(seconds));
    }
    if let Some(seconds) = time::parse_iso8601(text) {
        assert_eq!(time::parse_iso8601(&time::iso8601(seconds.saturating_mul(1000))), Some(seconds));
    }
}

/// Everybody has the secret of AWS's examples.
struct AnyKey;

impl Credentials for AnyKey {
    fn secret(&self, _access_key: &str) -> Option<Secret<'_>> {
        Some(Secret { text: example::SECRET, session_token: None })
    }
}

fn routes() -> RouteConfig {
    RouteConfig {
        domains: vec!["s3.example.com".into()],
        allow_dots_in_bucket_names: true,
        ..RouteConfig::default()
    }
}

fn request(method: Method, path: &str, query: &str, headers: &[(&str, String)]) -> RequestHead {
    let mut all: Headers = [("host", "examplebucket.s3.amazonaws.com")].into_iter().collect();
    all.extend(headers.iter().cloned());
    RequestHead { method, raw_path: path.into(), raw_query: query.into(), minor_version: 1, headers: all }
}
