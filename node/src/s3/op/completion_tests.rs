use engine::format::body::Checksum as StoredChecksum;
use engine::ids::{UnixMillis, UploadId};
use proto_s3::condition::WriteCondition;
use proto_s3::op::complete_multipart_upload::StatedChecksum;
use proto_s3::{Algorithm, ChecksumRequest, Hasher};

use super::*;

const MIB: u64 = 1024 * 1024;

const COMPOSITE: UploadChecksum =
    UploadChecksum { algorithm: Algorithm::Crc32, checksum_type: ChecksumType::Composite };
const FULL: UploadChecksum =
    UploadChecksum { algorithm: Algorithm::Crc32, checksum_type: ChecksumType::FullObject };

fn request() -> Request {
    Request {
        bucket: "b".into(),
        key: "k".into(),
        upload_id: "u".into(),
        condition: WriteCondition::None,
        object_len: None,
        object_checksum: None,
        checksum_type: None,
        document_checksum: ChecksumRequest::default(),
    }
}

fn checksum(number: u16) -> Checksum {
    Hasher::hash(Algorithm::Crc32, &[number as u8])
}

/// A part whose MD5 is its number, sixteen times.
fn uploaded(number: u16, size: u64) -> (Lsn, PartBody) {
    let summary = PartSummary {
        number,
        size,
        md5: [number as u8; 16],
        checksum: object_meta::stored_checksum(Some(checksum(number)), ChecksumType::FullObject),
    };
    let body = PartBody {
        upload_id: UploadId([1; 16]),
        key: b"k".to_vec(),
        summary,
        modified: UnixMillis(0),
        pieces: Vec::new(),
    };
    (Lsn(u64::from(number) + 100), body)
}

fn listed(number: u16) -> Part {
    Part {
        number: number.into(),
        etag: Some(ETag::single([number as u8; 16])),
        checksum: Some(checksum(number)),
    }
}

fn choose_plain(listed: &[Part], uploaded: &[(Lsn, PartBody)]) -> Result<Completion, Code> {
    choose(&request(), listed, None, uploaded, &Limits::default()).map_err(|error| error.code)
}

#[test]
fn listed_parts_are_chosen_and_others_are_not() {
    let parts = [uploaded(1, 5 * MIB), uploaded(2, 5 * MIB), uploaded(7, 1)];
    let chosen = choose_plain(&[listed(1), listed(7)], &parts).unwrap();
    let numbers: Vec<(u16, u64)> = chosen.chosen.iter().map(|part| (part.number, part.lsn.0)).collect();
    assert_eq!(numbers, [(1, 101), (7, 107)]);
    assert_eq!(chosen.etag, ETag::multipart([&[1; 16], &[7; 16]]));
    assert_eq!(chosen.parts.len(), 2);
}

#[test]
fn a_part_that_is_not_there_or_is_another_is_invalid() {
    let parts = [uploaded(1, 5 * MIB)];
    assert_eq!(choose_plain(&[listed(2)], &parts).unwrap_err(), Code::InvalidPart);
    for wrong in [
        Part { etag: Some(ETag::single([9; 16])), ..listed(1) },
        Part { etag: None, ..listed(1) },
        Part { etag: Some(ETag { md5: [1; 16], parts: 1 }), ..listed(1) },
        Part { checksum: Some(checksum(2)), ..listed(1) },
    ] {
        assert_eq!(choose_plain(&[wrong], &parts).unwrap_err(), Code::InvalidPart, "{wrong:?}");
    }
}

#[test]
fn only_the_last_part_may_be_small() {
    let parts = [uploaded(1, 5 * MIB - 1), uploaded(2, 0)];
    assert_eq!(choose_plain(&[listed(1), listed(2)], &parts).unwrap_err(), Code::EntityTooSmall);
    assert!(choose_plain(&[listed(1)], &parts).is_ok());
    assert!(choose_plain(&[listed(2)], &parts).is_ok());
}

#[test]
fn an_object_over_the_limit_is_too_large() {
    let limits = Limits { object_len_max: 10 * MIB, ..Limits::default() };
    let parts = [uploaded(1, 5 * MIB), uploaded(2, 5 * MIB + 1)];
    let error = choose(&request(), &[listed(1), listed(2)], None, &parts, &limits).unwrap_err();
    assert_eq!(error.code, Code::EntityTooLarge);
}

#[test]
fn the_stated_length_must_be_the_objects() {
    let parts = [uploaded(1, 7)];
    for (stated, is_right) in [(7, true), (8, false)] {
        let request = Request { object_len: Some(stated), ..request() };
        assert_eq!(choose(&request, &[listed(1)], None, &parts, &Limits::default()).is_ok(), is_right);
    }
}

#[test]
fn a_composite_upload_needs_every_parts_checksum() {
    let parts = [uploaded(1, 1)];
    let bare = Part { checksum: None, ..listed(1) };
    let limits = Limits::default();
    let error = choose(&request(), &[bare], Some(COMPOSITE), &parts, &limits).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(choose(&request(), &[bare], Some(FULL), &parts, &limits).is_ok());
}

#[test]
fn the_objects_checksum_is_of_the_uploads_type() {
    let parts = [uploaded(1, 5 * MIB), uploaded(2, 1)];
    let both = [listed(1), listed(2)];
    let limits = Limits::default();
    let chosen = choose(&request(), &both, Some(COMPOSITE), &parts, &limits).unwrap();
    assert!(chosen.checksum.unwrap().to_string().ends_with("-2"));
    for upload in [Some(FULL), None] {
        let chosen = choose(&request(), &both, upload, &parts, &limits).unwrap();
        let expected = full_object(&[(checksum(1), 5 * MIB), (checksum(2), 1)]).unwrap();
        assert_eq!(chosen.checksum, Some(ObjectChecksum::full_object(expected)));
    }
}

#[test]
fn parts_of_an_upload_without_checksum_may_have_none_in_common() {
    let mut parts = [uploaded(1, 5 * MIB), uploaded(2, 1)];
    parts[1].1.summary.checksum = StoredChecksum::default();
    let plain = |number| Part { checksum: None, ..listed(number) };
    assert_eq!(choose_plain(&[plain(1), plain(2)], &parts).unwrap().checksum, None);
}

#[test]
fn what_is_stated_about_the_object_must_hold() {
    let parts = [uploaded(1, 1)];
    let limits = Limits::default();
    let code = |request: &Request| {
        choose(request, &[listed(1)], Some(FULL), &parts, &limits).map(|_| ()).map_err(|error| error.code)
    };
    let stated = |checksum| Some(StatedChecksum { checksum, parts_count: None });
    assert_eq!(code(&Request { object_checksum: stated(checksum(1)), ..request() }), Ok(()));
    assert_eq!(code(&Request { object_checksum: stated(checksum(2)), ..request() }), Err(Code::BadDigest));
    let other = Hasher::hash(Algorithm::Sha1, b"");
    assert_eq!(code(&Request { object_checksum: stated(other), ..request() }), Err(Code::InvalidRequest));
    let composite = Request { checksum_type: Some(ChecksumType::Composite), ..request() };
    assert_eq!(code(&composite), Err(Code::InvalidRequest));
    let full = Request { checksum_type: Some(ChecksumType::FullObject), ..request() };
    assert_eq!(code(&full), Ok(()));
}
