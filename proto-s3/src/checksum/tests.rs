//! Known answers, combination, and what a request may state.

use proptest::prelude::*;

use md5_lanes::Kernel;

use super::*;
use crate::body::Trailers;
use crate::error::{Code, Error};
use crate::http::{Method, RequestHead};

/// The check input of the CRC catalogue.
const CHECK: &[u8] = b"123456789";
/// Its CRC-32 in base64.
const CHECK_CRC32: &str = "y/Q5Jg==";

#[test]
fn known_answers() {
    for (algorithm, base64) in [
        (Algorithm::Crc32, CHECK_CRC32),
        (Algorithm::Crc32c, "4waSgw=="),
        (Algorithm::Crc64Nvme, "rosUhgp5mIg="),
        (Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
        (Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ] {
        assert_eq!(Hasher::hash(algorithm, CHECK).to_base64(), base64, "{}", algorithm.name());
    }
}

#[test]
fn nothing_hashes_to_the_known_answers() {
    for (algorithm, base64) in [
        (Algorithm::Crc32, "AAAAAA=="),
        (Algorithm::Crc32c, "AAAAAA=="),
        (Algorithm::Crc64Nvme, "AAAAAAAAAAA="),
        (Algorithm::Sha1, "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        (Algorithm::Sha256, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ] {
        assert_eq!(Hasher::new(algorithm).finish().to_base64(), base64, "{}", algorithm.name());
    }
}

#[test]
fn names_read_back() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        assert_eq!(Algorithm::parse(&algorithm.name().to_lowercase()), Some(algorithm));
        assert_eq!(Algorithm::from_header_name(algorithm.header_name()), Some(algorithm));
        assert!(algorithm.supports(algorithm.default_type()));
        assert_eq!(Hasher::hash(algorithm, b"").value().len(), algorithm.digest_len());
    }
    assert_eq!(Algorithm::parse("MD5"), None);
    assert_eq!(Algorithm::from_header_name("x-amz-checksum-type"), None);
    for kind in [ChecksumType::Composite, ChecksumType::FullObject] {
        assert_eq!(ChecksumType::parse(kind.name()), Some(kind));
    }
}

#[test]
fn a_value_reads_back_and_only_in_its_own_length() {
    for algorithm in Algorithm::ALL {
        let checksum = Hasher::hash(algorithm, CHECK);
        let text = checksum.to_base64();
        assert_eq!(Checksum::from_base64(algorithm, &text), Some(checksum));
        assert_eq!(Checksum::from_bytes(algorithm, checksum.value()), Some(checksum));
        assert_eq!(Checksum::from_bytes(algorithm, &[]), None);
        assert_eq!(Checksum::from_base64_of_parts(algorithm, &text), Some((checksum, None)));
        assert_eq!(
            Checksum::from_base64_of_parts(algorithm, &format!("{text}-7")),
            Some((checksum, Some(7)))
        );
        for wrong in [format!("{text}A"), format!("A{text}"), text[1..].to_string(), "\u{e9}".repeat(4)] {
            assert_eq!(Checksum::from_base64(algorithm, &wrong), None, "{wrong}");
        }
        for count in ["", "x", "-1", "99999999999"] {
            assert_eq!(
                Checksum::from_base64_of_parts(algorithm, &format!("{text}-{count}")),
                None,
                "{count}"
            );
        }
    }
}

#[test]
fn a_composite_is_the_checksum_of_the_checksums() {
    for algorithm in Algorithm::ALL {
        let parts = [Hasher::hash(algorithm, b"1234"), Hasher::hash(algorithm, b"56789")];
        let concatenated = [parts[0].value(), parts[1].value()].concat();
        assert_eq!(composite(&parts), Some(Hasher::hash(algorithm, &concatenated)));
    }
    assert_eq!(composite(&[]), None);
    let mixed = [Hasher::hash(Algorithm::Crc32, b"a"), Hasher::hash(Algorithm::Crc32c, b"a")];
    assert_eq!(composite(&mixed), None);
}

#[test]
fn only_crcs_combine() {
    for algorithm in Algorithm::ALL {
        let parts = [(Hasher::hash(algorithm, b"1234"), 4), (Hasher::hash(algorithm, b"56789"), 5)];
        let expected = algorithm.supports(ChecksumType::FullObject).then(|| Hasher::hash(algorithm, CHECK));
        assert_eq!(full_object(&parts), expected, "{}", algorithm.name());
    }
    assert_eq!(full_object(&[]), None);
    let mixed = [(Hasher::hash(Algorithm::Crc32, b"a"), 1), (Hasher::hash(Algorithm::Crc32c, b"a"), 1)];
    assert_eq!(full_object(&mixed), None);
}

#[test]
fn a_body_is_hashed_in_one_pass() {
    let lanes = Lanes::new(Kernel::detect());
    let mut hasher = BodyHasher::new(&lanes, Some(Algorithm::Crc32));
    hasher.update(b"1234");
    hasher.update(b"56789");
    let digests = hasher.finish_now();
    assert_eq!(encoding::to_base64(&digests.md5), "JfnnlDI7RTiF9RgfG2JNCw==");
    assert_eq!(digests.checksum.unwrap().to_base64(), CHECK_CRC32);
    assert_eq!(BodyHasher::new(&lanes, None).finish_now().checksum, None);
}

fn head(headers: &[(&str, &str)]) -> RequestHead {
    RequestHead {
        method: Method::Put,
        raw_path: "/b/k".into(),
        raw_query: String::new(),
        minor_version: 1,
        headers: headers.iter().copied().collect(),
    }
}

fn request(headers: &[(&str, &str)]) -> Result<ChecksumRequest, Error> {
    ChecksumRequest::from_head(&head(headers))
}

/// The verdict on a body of `CHECK`.
fn verdict(headers: &[(&str, &str)], trailers: &[(&str, &str)]) -> Result<(), Code> {
    let request = request(headers).unwrap();
    let mut hasher = BodyHasher::new(&Lanes::new(Kernel::detect()), request.algorithm());
    hasher.update(CHECK);
    let fields: Vec<_> = trailers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    request.verify(&hasher.finish_now(), &Trailers::from(fields)).map_err(|error| error.code)
}

#[test]
fn a_stated_checksum_is_compared() {
    for algorithm in Algorithm::ALL {
        let name = algorithm.header_name();
        let right = Hasher::hash(algorithm, CHECK).to_base64();
        let wrong = Hasher::hash(algorithm, b"other").to_base64();
        assert_eq!(verdict(&[(name, &right)], &[]), Ok(()));
        assert_eq!(verdict(&[(name, &wrong)], &[]), Err(Code::BadDigest));
        let trailer = [("x-amz-trailer", name), ("x-amz-sdk-checksum-algorithm", algorithm.name())];
        assert_eq!(verdict(&trailer, &[(name, &right)]), Ok(()));
        assert_eq!(verdict(&trailer, &[(name, &wrong)]), Err(Code::BadDigest));
        assert_eq!(verdict(&trailer, &[(name, "AA")]), Err(Code::InvalidRequest));
        assert_eq!(verdict(&trailer, &[]), Err(Code::MalformedTrailerError));
    }
}

#[test]
fn content_md5_is_compared() {
    assert_eq!(verdict(&[("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")], &[]), Ok(()));
    assert_eq!(verdict(&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], &[]), Err(Code::BadDigest));
    for value in ["", "JfnnlDI7RTiF9RgfG2JNCw", "JfnnlDI7RTiF9RgfG2JN", "25f9e794323b453885f5181f1b624d0b"] {
        assert_eq!(request(&[("content-md5", value)]).unwrap_err().code, Code::InvalidDigest, "{value}");
    }
    let twice = [("content-md5", "JfnnlDI7RTiF9RgfG2JNCw=="); 2];
    assert_eq!(request(&twice).unwrap_err().code, Code::InvalidDigest);
}

#[test]
fn both_content_md5_and_checksum_are_compared() {
    let md5 = ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==");
    assert_eq!(verdict(&[md5, ("x-amz-checksum-crc32", CHECK_CRC32)], &[]), Ok(()));
    assert_eq!(verdict(&[md5, ("x-amz-checksum-crc32", "AAAAAA==")], &[]), Err(Code::BadDigest));
}

#[test]
fn nothing_stated_is_nothing_compared() {
    let request = request(&[("x-amz-checksum-type", "FULL_OBJECT")]).unwrap();
    assert_eq!(request, ChecksumRequest::default());
    assert!(!request.is_stated());
    assert_eq!(verdict(&[], &[]), Ok(()));
}

#[test]
fn contradictions_are_refused() {
    let crc32 = ("x-amz-checksum-crc32", CHECK_CRC32);
    for headers in [
        &[crc32, ("x-amz-checksum-crc32c", "4waSgw==")][..],
        &[crc32, crc32],
        &[crc32, ("x-amz-trailer", "x-amz-checksum-crc32")],
        &[("x-amz-trailer", "x-amz-checksum-crc32, x-amz-checksum-sha1")],
        &[("x-amz-trailer", "x-amz-meta-a")],
        &[("x-amz-trailer", "")],
        &[("x-amz-checksum-crc32", "y/Q5Jg=")],
        &[("x-amz-checksum-crc32", "\u{e9}")],
        &[("x-amz-sdk-checksum-algorithm", "CRC32")],
        &[crc32, ("x-amz-sdk-checksum-algorithm", "SHA1")],
        &[crc32, ("x-amz-sdk-checksum-algorithm", "MD5")],
    ] {
        assert_eq!(request(headers).unwrap_err().code, Code::InvalidRequest, "{headers:?}");
    }
}

proptest! {
    #[test]
    fn parts_combine_to_the_checksum_of_the_whole(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 1..8)
    ) {
        let whole = parts.concat();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let crcs: Vec<_> =
                parts.iter().map(|part| (Hasher::hash(algorithm, part), part.len() as u64)).collect();
            prop_assert_eq!(full_object(&crcs), Some(Hasher::hash(algorithm, &whole)));
        }
    }

    #[test]
    fn how_updates_are_cut_makes_no_difference(
        bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut in any::<usize>()
    ) {
        let (left, right) = bytes.split_at(cut % (bytes.len() + 1));
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(left);
            hasher.update(right);
            prop_assert_eq!(hasher.finish(), Hasher::hash(algorithm, &bytes));
        }
    }
}
