//! Every wrapping, cut everywhere, truncated everywhere, and damaged.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::checksum::{Algorithm, Hasher};
use crate::sigv4::ChunkChain;

const PAYLOAD_LEN: usize = 20_000;

fn payload() -> Vec<u8> {
    (0..PAYLOAD_LEN).map(|index| (index * 7 % 251) as u8).collect()
}

fn head(headers: &[(&str, String)]) -> RequestHead {
    RequestHead {
        method: Method::Put,
        raw_path: "/b/k".into(),
        raw_query: String::new(),
        minor_version: 1,
        headers: headers.iter().cloned().collect(),
    }
}

/// A request as a client would send it, and how its payload is protected.
#[derive(Clone)]
struct Upload {
    head: RequestHead,
    auth: PayloadAuth,
    wire: Vec<u8>,
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap()
}

/// `Transfer-Encoding: chunked` around some bytes, in chunks of that length.
fn transfer_chunked(bytes: &[u8], chunk_len: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in bytes.chunks(chunk_len) {
        wire.extend_from_slice(format!("{:X};ext=\"v\"\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

fn aws_chunked_unsigned(payload: &[u8], chunk_len: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in payload.chunks(chunk_len) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    let checksum = Hasher::hash(Algorithm::Crc32, payload).to_base64();
    wire.extend_from_slice(format!("0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n").as_bytes());
    wire
}

/// Signed chunks, and a signed trailer when wanted; the chain is keyed with a key known to both sides.
fn aws_chunked_signed(payload: &[u8], chunk_len: usize, has_trailer: bool) -> (Vec<u8>, ChunkChain) {
    let (chain, mut signer) = ChunkChain::for_tests();
    let mut wire = Vec::new();
    for chunk in payload.chunks(chunk_len).chain([&[][..]]) {
        let signature = signer.sign_chunk(&sha256(chunk));
        wire.extend_from_slice(
            format!("{:x};chunk-signature={}\r\n", chunk.len(), Hex(&signature)).as_bytes(),
        );
        wire.extend_from_slice(chunk);
        if !chunk.is_empty() {
            wire.extend_from_slice(b"\r\n");
        }
    }
    if has_trailer {
        let field = format!("x-amz-checksum-crc32:{}", Hasher::hash(Algorithm::Crc32, payload).to_base64());
        let signature = signer.sign_trailer(format!("{field}\n").as_bytes());
        wire.extend_from_slice(
            format!("{field}\r\nx-amz-trailer-signature:{}\r\n", Hex(&signature)).as_bytes(),
        );
    }
    wire.extend_from_slice(b"\r\n");
    (wire, chain)
}

/// Every way to wrap the payload.
fn uploads(payload: &[u8]) -> Vec<(&'static str, Upload)> {
    let decoded = ("x-amz-decoded-content-length", payload.len().to_string());
    let trailer = ("x-amz-trailer", "x-amz-checksum-crc32".to_string());
    let length = |wire: &[u8]| ("content-length", wire.len().to_string());
    let chunked = ("transfer-encoding", "chunked".to_string());
    let coding = ("content-encoding", "gzip, aws-chunked".to_string());
    let mut uploads = Vec::new();
    let mut add = |name, headers: &[(&str, String)], auth, wire| {
        uploads.push((name, Upload { head: head(headers), auth, wire }));
    };
    add("plain", &[length(payload)], PayloadAuth::Unsigned, payload.to_vec());
    add("hashed", &[length(payload)], PayloadAuth::Sha256(sha256(payload)), payload.to_vec());
    let wire = aws_chunked_unsigned(payload, 3000);
    let auth = PayloadAuth::StreamingUnsignedTrailer;
    add("unsigned trailer", &[length(&wire), decoded.clone(), trailer.clone()], auth.clone(), wire.clone());
    let nested = transfer_chunked(&wire, 700);
    add("nested", &[chunked.clone(), decoded.clone(), trailer.clone(), coding.clone()], auth, nested);
    let (wire, chain) = aws_chunked_signed(payload, 8192, false);
    let auth = PayloadAuth::StreamingSigned(chain);
    add("signed", &[length(&wire), decoded.clone(), coding.clone()], auth, wire);
    let (wire, chain) = aws_chunked_signed(payload, 8192, true);
    let auth = PayloadAuth::StreamingSignedTrailer(chain);
    let headers = [length(&wire), decoded.clone(), trailer.clone()];
    add("signed trailer", &headers, auth.clone(), wire.clone());
    add("nested signed trailer", &[chunked, decoded, trailer], auth, transfer_chunked(&wire, 4096));
    uploads
}

/// The payload, the trailer fields, and the number of bytes left over.
type Outcome = (Vec<u8>, Vec<(String, String)>, usize);

/// Decodes with the input cut at those offsets.
fn decode_cut(upload: &Upload, cuts: &[usize]) -> Result<Outcome, Error> {
    let mut decoder = BodyDecoder::new(&upload.head, &upload.auth, &Limits::default())?;
    let mut payload = Vec::new();
    let (mut at, mut left_over) = (0, 0);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (upload.wire.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(upload.wire.len());
    for end in ends {
        while at < end && !decoder.is_done() {
            let decoded = decoder.decode(&upload.wire[at..end])?;
            assert!(decoded.payload.end <= decoded.consumed && decoded.consumed <= end - at);
            assert!(decoded.consumed > 0, "no progress");
            assert_eq!(decoded.is_done, decoder.is_done());
            payload.extend_from_slice(&upload.wire[at..end][decoded.payload]);
            at += decoded.consumed;
        }
        left_over = upload.wire.len() - at;
    }
    let trailers = decoder.finish()?;
    assert_eq!(payload.len() as u64, decoder.payload_len());
    let fields = trailers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Ok((payload, fields, left_over))
}

fn code_of(upload: &Upload) -> Code {
    match decode_cut(upload, &[]) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.code,
    }
}

/// A plain unsigned body in aws-chunked, with that text on the wire.
fn unsigned(wire: &str, payload_len: usize) -> Upload {
    Upload {
        head: head(&[
            ("content-length", wire.len().to_string()),
            ("x-amz-decoded-content-length", payload_len.to_string()),
            ("x-amz-trailer", "x-amz-checksum-crc32".into()),
        ]),
        auth: PayloadAuth::StreamingUnsignedTrailer,
        wire: wire.into(),
    }
}

fn with_header(upload: &Upload, name: &str, value: &str) -> Upload {
    let mut changed = upload.clone();
    changed.head.headers = upload.head.headers.iter().filter(|(found, _)| *found != name).collect();
    changed.head.headers.push(name, value.as_ref());
    changed
}

#[test]
fn every_wrapping_gives_the_payload_back() {
    for payload in [payload(), vec![b'x'], vec![0; 8192], vec![0; 8193]] {
        for (name, upload) in uploads(&payload) {
            let (decoded, trailers, left_over) = decode_cut(&upload, &[]).unwrap();
            assert!(decoded == payload, "{name}");
            assert_eq!(trailers.len(), usize::from(name.contains("trailer") || name == "nested"), "{name}");
            assert_eq!(left_over, 0, "{name}");
        }
    }
}

#[test]
fn an_empty_payload_is_a_payload() {
    for (name, upload) in uploads(&[]) {
        assert!(decode_cut(&upload, &[]).unwrap().0.is_empty(), "{name}");
    }
}

#[test]
fn one_byte_at_a_time_gives_the_same() {
    let payload = &payload()[..9000];
    for (name, upload) in uploads(payload) {
        let cuts: Vec<usize> = (0..upload.wire.len()).collect();
        assert!(decode_cut(&upload, &cuts).unwrap().0 == payload, "{name}");
    }
}

#[test]
fn the_next_request_is_left_alone() {
    for (name, mut upload) in uploads(&payload()) {
        upload.wire.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(decode_cut(&upload, &[]).unwrap().2, 16, "{name}");
    }
}

#[test]
fn every_truncation_is_incomplete() {
    for (name, upload) in uploads(&payload()[..9000]) {
        for len in 0..upload.wire.len() {
            let cut = Upload { wire: upload.wire[..len].to_vec(), ..upload.clone() };
            assert_eq!(code_of(&cut), Code::IncompleteBody, "{name} {len}");
        }
    }
}

#[test]
fn any_changed_payload_byte_is_found_where_something_protects_it() {
    for (name, upload) in uploads(&payload()) {
        for index in [200, 9000, 18_000] {
            let mut changed = upload.clone();
            changed.wire[index] ^= 0x55;
            let expected = match &changed.auth {
                PayloadAuth::Sha256(_) => Code::XAmzContentSHA256Mismatch,
                PayloadAuth::StreamingSigned(_) | PayloadAuth::StreamingSignedTrailer(_) => {
                    Code::SignatureDoesNotMatch
                }
                PayloadAuth::Unsigned | PayloadAuth::StreamingUnsignedTrailer => continue,
            };
            assert_eq!(code_of(&changed), expected, "{name} {index}");
        }
    }
}

#[test]
fn signed_chunks_cannot_be_reordered_or_left_out() {
    let payload = vec![7; 3 * 8192];
    let (wire, chain) = aws_chunked_signed(&payload, 8192, false);
    let chunk_len = 6 + 16 + 64 + 1 + 8192 + 2;
    assert!(wire[chunk_len..].starts_with(b"2000;chunk-signature="));
    let swapped = [&wire[chunk_len..2 * chunk_len], &wire[..chunk_len], &wire[2 * chunk_len..]].concat();
    let repeated = [&wire[..chunk_len], &wire[..chunk_len], &wire[2 * chunk_len..]].concat();
    for wire in [swapped, repeated] {
        let headers = [
            ("content-length", wire.len().to_string()),
            ("x-amz-decoded-content-length", payload.len().to_string()),
        ];
        let upload = Upload { head: head(&headers), auth: PayloadAuth::StreamingSigned(chain.clone()), wire };
        assert_eq!(code_of(&upload), Code::SignatureDoesNotMatch);
    }
}

#[test]
fn only_the_last_signed_chunk_is_short() {
    let payload = payload();
    let (wire, chain) = aws_chunked_signed(&payload, 8191, false);
    let headers = [
        ("content-length", wire.len().to_string()),
        ("x-amz-decoded-content-length", payload.len().to_string()),
    ];
    let upload = Upload { head: head(&headers), auth: PayloadAuth::StreamingSigned(chain), wire };
    assert_eq!(code_of(&upload), Code::InvalidChunkSizeError);
}

#[test]
fn chunks_must_add_up_to_the_decoded_length() {
    for payload_len in [0, 4, 6, 10] {
        let upload = unsigned("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", payload_len);
        assert_eq!(code_of(&upload), Code::IncompleteBody, "{payload_len}");
    }
}

#[test]
fn malformed_aws_chunks_are_refused() {
    for (wire, code) in [
        ("5;chunk-signature=00\r\nhello\r\n0\r\n\r\n", Code::InvalidRequest),
        ("5 \r\nhello\r\n0\r\n\r\n", Code::InvalidRequest),
        ("+5\r\nhello\r\n0\r\n\r\n", Code::InvalidRequest),
        ("\r\n5\r\nhello\r\n0\r\n\r\n", Code::InvalidRequest),
        ("5\nhello\r\n0\r\n\r\n", Code::InvalidRequest),
        ("5\r\nhelloX\r\n0\r\n\r\n", Code::InvalidRequest),
        ("5\r\nhello\r\n0\r\n\r\n", Code::MalformedTrailerError),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-crc32\r\n\r\n", Code::MalformedTrailerError),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:\r\n\r\n", Code::MalformedTrailerError),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:A B\r\n\r\n", Code::MalformedTrailerError),
        ("5\r\nhello\r\n0\r\n:A\r\n\r\n", Code::MalformedTrailerError),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-sha1:A\r\n\r\n", Code::MalformedTrailerError),
        ("5\r\nhello\r\n0\r\nx-amz-trailer-signature:A\r\n\r\n", Code::MalformedTrailerError),
        (
            "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:A\r\nx-amz-checksum-crc32:A\r\n\r\n",
            Code::MalformedTrailerError,
        ),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:A\r\n\r\n\r\n", Code::InvalidRequest),
        ("ffffffffffffffff\r\nhello", Code::IncompleteBody),
        ("10000000000000000\r\nhello", Code::InvalidRequest),
    ] {
        assert_eq!(code_of(&unsigned(wire, 5)), code, "{wire:?}");
    }
}

#[test]
fn announced_fields_come_once_each() {
    let field = "x-amz-checksum-crc32:A\r\n";
    for (trailer, is_accepted) in [
        (format!("{field}x-amz-t:B\r\n"), true),
        (format!("x-amz-t:B\r\n{field}"), true),
        (format!("{field}{field}"), false),
        (field.to_string(), false),
    ] {
        let upload = unsigned(&format!("5\r\nhello\r\n0\r\n{trailer}\r\n"), 5);
        let upload = with_header(&upload, "x-amz-trailer", "x-amz-checksum-crc32, X-Amz-T");
        match decode_cut(&upload, &[]) {
            Ok(_) => assert!(is_accepted, "{trailer}"),
            Err(error) => assert!(!is_accepted && error.code == Code::MalformedTrailerError, "{trailer}"),
        }
    }
}

#[test]
fn no_field_hides_behind_the_signature_of_the_trailer() {
    let (name, mut upload) = uploads(b"hello").remove(5);
    assert_eq!(name, "signed trailer");
    upload.wire.truncate(upload.wire.len() - 2);
    upload.wire.extend_from_slice(b"x-amz-t:B\r\n\r\n");
    let upload = with_header(&upload, "content-length", &upload.wire.len().to_string());
    let upload = with_header(&upload, "x-amz-trailer", "x-amz-checksum-crc32,x-amz-t");
    assert_eq!(code_of(&upload), Code::MalformedTrailerError);
}

#[test]
fn lines_and_trailers_are_bounded() {
    let long = "x".repeat(Limits::default().chunk_line_len_max);
    assert_eq!(code_of(&unsigned(&format!("5;{long}\r\nhello\r\n0\r\n\r\n"), 5)), Code::InvalidRequest);
    let wire = format!("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{long}\r\n\r\n");
    assert_eq!(code_of(&unsigned(&wire, 5)), Code::MalformedTrailerError);
    let mut wire = String::from("5\r\nhello\r\n0\r\n");
    let mut names = Vec::new();
    for number in 0..8 {
        names.push(format!("x-amz-t{number}"));
        write!(wire, "x-amz-t{number}:{}\r\n", "v".repeat(200)).unwrap();
    }
    wire.push_str("\r\n");
    let upload = with_header(&unsigned(&wire, 5), "x-amz-trailer", &names.join(","));
    assert_eq!(code_of(&upload), Code::MalformedTrailerError);
    let upload = with_header(&upload, "x-amz-trailer", &format!("{},x-amz-t8", names.join(",")));
    assert_eq!(code_of(&upload), Code::InvalidRequest);
}

#[test]
fn the_length_of_the_payload_must_be_known() {
    let new = |headers: &[(&str, String)], auth: &PayloadAuth| {
        BodyDecoder::new(&head(headers), auth, &Limits::default()).map(|decoder| decoder.payload_len())
    };
    let code = |result: Result<u64, Error>| result.map_err(|error| error.code);
    let streaming = PayloadAuth::StreamingUnsignedTrailer;
    let length = |text: &str| ("content-length", text.to_string());
    let decoded = |text: &str| ("x-amz-decoded-content-length", text.to_string());
    let chunked = ("transfer-encoding", "chunked".to_string());
    for (headers, auth, expected) in [
        (vec![length("5")], &PayloadAuth::Unsigned, Ok(5)),
        (vec![length("5"), decoded("5")], &PayloadAuth::Unsigned, Ok(5)),
        (vec![length("50"), decoded("5")], &streaming, Ok(5)),
        (vec![chunked.clone(), decoded("5")], &streaming, Ok(5)),
        (vec![], &PayloadAuth::Unsigned, Err(Code::MissingContentLength)),
        (vec![chunked.clone()], &PayloadAuth::Unsigned, Err(Code::MissingContentLength)),
        (vec![chunked.clone(), decoded("5")], &PayloadAuth::Unsigned, Err(Code::MissingContentLength)),
        (vec![length("50")], &streaming, Err(Code::MissingContentLength)),
        (vec![length("5"), decoded("4")], &PayloadAuth::Unsigned, Err(Code::InvalidRequest)),
        (vec![length("50"), decoded("-5")], &streaming, Err(Code::InvalidArgument)),
        (vec![length("50"), decoded("5"), decoded("5")], &streaming, Err(Code::InvalidArgument)),
        (vec![length("0"), decoded("0")], &streaming, Err(Code::IncompleteBody)),
        (vec![length("5"), chunked.clone()], &PayloadAuth::Unsigned, Err(Code::BadRequest)),
    ] {
        assert_eq!(code(new(&headers, auth)), expected, "{headers:?}");
    }
}

#[test]
fn a_post_without_a_body_is_empty() {
    let head = RequestHead { method: Method::Post, ..head(&[]) };
    let mut decoder = BodyDecoder::new(&head, &PayloadAuth::Unsigned, &Limits::default()).unwrap();
    assert!(decoder.is_done());
    assert_eq!(decoder.finish(), Ok(Trailers::default()));
}

#[test]
fn a_payload_over_the_limit_is_too_large() {
    let limits = Limits { single_put_len_max: 10, ..Limits::default() };
    for (len, is_accepted) in [(10, true), (11, false), (u64::MAX, false)] {
        let head = head(&[("content-length", len.to_string())]);
        match BodyDecoder::new(&head, &PayloadAuth::Unsigned, &limits) {
            Ok(_) => assert!(is_accepted, "{len}"),
            Err(error) => assert!(!is_accepted && error.code == Code::EntityTooLarge, "{error:?}"),
        }
    }
}

#[test]
fn headers_must_agree_with_the_coding() {
    let plain = &uploads(b"hello")[0].1;
    for (name, value) in [("content-encoding", "aws-chunked"), ("x-amz-trailer", "x-amz-checksum-crc32")] {
        assert_eq!(code_of(&with_header(plain, name, value)), Code::InvalidRequest, "{name}");
    }
    for value in ["", "a,,b", "a,A"] {
        let upload = with_header(&uploads(b"hello")[2].1, "x-amz-trailer", value);
        assert_eq!(code_of(&upload), Code::InvalidRequest, "{value}");
    }
}

#[test]
fn a_wrong_hash_shows_both() {
    let mut upload = uploads(b"hello")[1].1.clone();
    upload.auth = PayloadAuth::Sha256([0; 32]);
    let error = decode_cut(&upload, &[]).unwrap_err();
    assert_eq!(error.details[0], ("ClientComputedContentSHA256", "00".repeat(32)));
    assert_eq!(error.details[1].1, Hex(&sha256(b"hello")).to_string());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn how_the_input_is_cut_makes_no_difference(
        payload in proptest::collection::vec(any::<u8>(), 0..20_000),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        for (name, upload) in uploads(&payload) {
            let whole = decode_cut(&upload, &[]).unwrap();
            prop_assert!(whole.0 == payload, "{}", name);
            prop_assert!(decode_cut(&upload, &cuts).unwrap() == whole, "{}", name);
        }
    }

    #[test]
    fn damage_gets_the_same_verdict_however_the_input_is_cut(
        index in any::<usize>(),
        byte in any::<u8>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..10),
    ) {
        for (name, upload) in uploads(&payload()[..9000]) {
            let mut damaged = upload.clone();
            let index = index % damaged.wire.len();
            damaged.wire[index] = byte;
            let code = |result: Result<_, Error>| result.map_err(|error| error.code);
            let whole = code(decode_cut(&damaged, &[]));
            prop_assert_eq!(&code(decode_cut(&damaged, &cuts)), &whole, "{} {}", name, index);
        }
    }

    #[test]
    fn no_bytes_panic(wire in proptest::collection::vec(any::<u8>(), 1..300)) {
        for (_, upload) in uploads(b"hello") {
            let length = wire.len().to_string();
            let mut upload = Upload { wire: wire.clone(), ..upload };
            if upload.head.header("transfer-encoding").is_none() {
                upload = with_header(&upload, "content-length", &length);
            }
            let _ = decode_cut(&upload, &[7, 50]);
        }
    }

    #[test]
    fn no_chunk_like_bytes_panic(wire in "[0-9a-f;:\r\n]{1,80}") {
        let _ = decode_cut(&unsigned(&wire, 5), &[3, 9]);
    }
}
