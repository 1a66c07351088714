use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, ObjectAttributes,
};

use crate::client::{BUCKET, Stage, bytes_of, stage};
use crate::harness::bytes;
use crate::refused;

const MIB: usize = 1024 * 1024;
const KEY: &str = "whole";

async fn create(stage: &Stage) -> String {
    begin(stage.s3.create_multipart_upload()).await
}

async fn begin(create: CreateMultipartUploadFluentBuilder) -> String {
    create.bucket(BUCKET).key(KEY).send().await.expect("an upload").upload_id.expect("an id")
}

async fn upload(stage: &Stage, id: &str, number: i32, body: Vec<u8>) -> CompletedPart {
    let part = stage.s3.upload_part().bucket(BUCKET).key(KEY).upload_id(id).part_number(number);
    let answer = part.body(ByteStream::from(body)).send().await.expect("a part");
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(answer.e_tag)
        .set_checksum_crc32(answer.checksum_crc32)
        .set_checksum_sha256(answer.checksum_sha256)
        .build()
}

fn listing(parts: Vec<CompletedPart>) -> CompletedMultipartUpload {
    CompletedMultipartUpload::builder().set_parts(Some(parts)).build()
}

macro_rules! complete {
    ($stage:expr, $id:expr, $parts:expr) => {
        $stage
            .s3
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key(KEY)
            .upload_id($id)
            .multipart_upload(listing($parts))
    };
}

#[tokio::test]
async fn parts_make_an_object() {
    let stage = stage().await;
    let id = begin(stage.s3.create_multipart_upload().content_type("a/b").metadata("m", "1")).await;
    assert_eq!(stage.get(KEY).await, None, "not before it is completed");
    let (first, last) = (bytes(5 * MIB, 1), bytes(1000, 2));
    let parts = vec![upload(&stage, &id, 1, first.clone()).await, upload(&stage, &id, 9, last.clone()).await];
    let done = complete!(stage, &id, parts).send().await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-2\""));
    assert!(done.location().unwrap().ends_with("/bucket/whole"));
    let got = stage.s3.get_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    assert_eq!((got.content_type(), got.e_tag()), (Some("a/b"), done.e_tag()));
    assert_eq!(got.metadata().unwrap()["m"], "1");
    assert!(bytes_of(got).await == [first, last].concat());
    assert!(stage.uploads().await.is_empty());
}

#[tokio::test]
async fn a_completed_object_is_read_by_ranges_and_parts() {
    let stage = stage().await;
    let id = create(&stage).await;
    let (first, last) = (bytes(5 * MIB, 1), bytes(70_000, 2));
    let parts = vec![upload(&stage, &id, 1, first.clone()).await, upload(&stage, &id, 2, last.clone()).await];
    complete!(stage, &id, parts).send().await.unwrap();
    let whole = [first.clone(), last.clone()].concat();
    let get = || stage.s3.get_object().bucket(BUCKET).key(KEY);
    for (begin, end) in [(0, 10), (5 * MIB - 3, 5 * MIB + 3), (5 * MIB, whole.len() - 1)] {
        let got = get().range(format!("bytes={begin}-{end}")).send().await.unwrap();
        assert!(bytes_of(got).await == whole[begin..=end]);
    }
    let got = get().part_number(2).send().await.unwrap();
    assert_eq!((got.parts_count(), got.content_length()), (Some(2), Some(70_000)));
    assert!(bytes_of(got).await == last);
    let head = stage.s3.head_object().bucket(BUCKET).key(KEY).part_number(1).send().await.unwrap();
    assert_eq!((head.parts_count(), head.content_length()), (Some(2), Some(5 * MIB as i64)));
    refused!(get().part_number(3), 416, "InvalidPartNumber");
}

#[tokio::test]
async fn completing_moves_no_bytes() {
    let stage = stage().await;
    let id = create(&stage).await;
    let parts =
        vec![upload(&stage, &id, 1, bytes(5 * MIB, 1)).await, upload(&stage, &id, 2, bytes(10, 2)).await];
    let frames = stage.node.metric("basalt_engine_frames_");
    complete!(stage, &id, parts).send().await.unwrap();
    assert_eq!(stage.node.metric("basalt_engine_frames_"), frames);
}

#[tokio::test]
async fn a_repeated_completion_succeeds_until_the_object_is_another() {
    let stage = stage().await;
    let id = create(&stage).await;
    let part = upload(&stage, &id, 1, b"only".to_vec()).await;
    let first = complete!(stage, &id, vec![part.clone()]).send().await.unwrap();
    let again = complete!(stage, &id, vec![part.clone()]).send().await.unwrap();
    assert_eq!(first.e_tag(), again.e_tag());
    stage.put(KEY, "another").await;
    refused!(complete!(stage, &id, vec![part]), 404, "NoSuchUpload");
    assert_eq!(stage.get(KEY).await.unwrap(), b"another");
}

#[tokio::test]
async fn a_part_uploaded_again_is_the_new_one() {
    let stage = stage().await;
    let id = create(&stage).await;
    let old = upload(&stage, &id, 1, b"old".to_vec()).await;
    let new = upload(&stage, &id, 1, b"new".to_vec()).await;
    refused!(complete!(stage, &id, vec![old]), 400, "InvalidPart");
    complete!(stage, &id, vec![new]).send().await.unwrap();
    assert_eq!(stage.get(KEY).await.unwrap(), b"new");
}

#[tokio::test]
async fn an_object_of_one_empty_part_is_empty() {
    let stage = stage().await;
    let id = create(&stage).await;
    let part = upload(&stage, &id, 1, Vec::new()).await;
    complete!(stage, &id, vec![part]).send().await.unwrap();
    assert_eq!(stage.get(KEY).await.unwrap(), b"");
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let stage = stage().await;
    let id = create(&stage).await;
    let part = upload(&stage, &id, 1, bytes(100_000, 1)).await;
    let abort = || stage.s3.abort_multipart_upload().bucket(BUCKET).key(KEY).upload_id(&id);
    abort().send().await.unwrap();
    refused!(abort(), 404, "NoSuchUpload");
    refused!(complete!(stage, &id, vec![part]), 404, "NoSuchUpload");
    refused!(stage.s3.list_parts().bucket(BUCKET).key(KEY).upload_id(&id), 404, "NoSuchUpload");
    let late = stage.s3.upload_part().bucket(BUCKET).key(KEY).upload_id(&id).part_number(1);
    refused!(late, 404, "NoSuchUpload");
    assert_eq!(stage.get(KEY).await, None);
    assert!(stage.uploads().await.is_empty());
}

#[tokio::test]
async fn a_conditional_completion_that_fails_keeps_the_upload() {
    let stage = stage().await;
    let etag = stage.put(KEY, "there before").await;
    let id = create(&stage).await;
    let part = upload(&stage, &id, 1, b"part".to_vec()).await;
    refused!(complete!(stage, &id, vec![part.clone()]).if_none_match("*"), 412, "PreconditionFailed");
    assert_eq!(stage.get(KEY).await.unwrap(), b"there before");
    complete!(stage, &id, vec![part]).if_match(etag).send().await.unwrap();
    assert_eq!(stage.get(KEY).await.unwrap(), b"part");
}

#[tokio::test]
async fn parts_are_listed_in_pages() {
    let stage = stage().await;
    let id = create(&stage).await;
    for number in [3, 1, 7] {
        upload(&stage, &id, number, bytes(number as usize, 1)).await;
    }
    let list = || stage.s3.list_parts().bucket(BUCKET).key(KEY).upload_id(&id);
    let first = list().max_parts(2).send().await.unwrap();
    let numbers = |parts: &[aws_sdk_s3::types::Part]| -> Vec<(i32, i64)> {
        parts.iter().map(|part| (part.part_number().unwrap(), part.size().unwrap())).collect()
    };
    assert_eq!((numbers(first.parts()), first.is_truncated()), (vec![(1, 1), (3, 3)], Some(true)));
    let rest = list().part_number_marker(first.next_part_number_marker().unwrap()).send().await.unwrap();
    assert_eq!((numbers(rest.parts()), rest.is_truncated()), (vec![(7, 7)], Some(false)));
}

#[tokio::test]
async fn uploads_are_listed_in_pages_and_by_prefix() {
    let stage = stage().await;
    for key in ["a/1", "a/2", "b", "b", "c"] {
        stage.s3.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap();
    }
    let list = || stage.s3.list_multipart_uploads().bucket(BUCKET);
    let (mut seen, mut key, mut id) = (Vec::new(), None, None);
    loop {
        let page = list().max_uploads(1).delimiter("/").set_key_marker(key).set_upload_id_marker(id);
        let page = page.send().await.unwrap();
        seen.extend(page.uploads().iter().map(|upload| upload.key().unwrap().to_owned()));
        seen.extend(page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap().to_owned()));
        (key, id) =
            (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
        if page.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(seen, ["a/", "b", "b", "c"]);
    assert_eq!(list().prefix("a/").send().await.unwrap().uploads().len(), 2);
}

#[tokio::test]
async fn composite_and_full_object_checksums_are_the_objects() {
    let stage = stage().await;
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Crc32, ChecksumType::Composite),
        (ChecksumAlgorithm::Crc32, ChecksumType::FullObject),
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
    ] {
        let create = stage.s3.create_multipart_upload().checksum_algorithm(algorithm.clone());
        let id = begin(create.checksum_type(kind.clone())).await;
        let mut parts = Vec::new();
        for (number, size) in [(1, 5 * MIB), (2, 100)] {
            let part = stage.s3.upload_part().bucket(BUCKET).key(KEY).upload_id(&id).part_number(number);
            let part = part.checksum_algorithm(algorithm.clone()).body(bytes(size, 1).into());
            let part = part.send().await.unwrap();
            let listed = CompletedPart::builder().part_number(number).set_e_tag(part.e_tag);
            let listed =
                listed.set_checksum_crc32(part.checksum_crc32).set_checksum_sha256(part.checksum_sha256);
            parts.push(listed.build());
        }
        let done = complete!(stage, &id, parts).send().await.unwrap();
        assert_eq!(done.checksum_type(), Some(&kind));
        let get = stage.s3.get_object().bucket(BUCKET).key(KEY).checksum_mode(ChecksumMode::Enabled);
        let got = get.send().await.unwrap();
        let shown = got.checksum_crc32().or(got.checksum_sha256()).unwrap().to_owned();
        assert_eq!(shown.ends_with("-2"), kind == ChecksumType::Composite, "{shown}");
        // Where the checksum is over the bytes, the SDK compares them.
        assert_eq!(bytes_of(got).await.len(), 5 * MIB + 100);
    }
}

#[tokio::test]
async fn a_part_has_the_checksum_of_its_upload() {
    let stage = stage().await;
    let id = begin(stage.s3.create_multipart_upload().checksum_algorithm(ChecksumAlgorithm::Sha256)).await;
    let part = stage.s3.upload_part().bucket(BUCKET).key(KEY).upload_id(&id).part_number(1);
    let part = part.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from_static(b"part"));
    refused!(part, 400, "InvalidRequest");
}

#[tokio::test]
async fn the_attributes_of_an_object_name_its_parts() {
    let stage = stage().await;
    let id = create(&stage).await;
    let parts =
        vec![upload(&stage, &id, 1, bytes(5 * MIB, 1)).await, upload(&stage, &id, 2, bytes(10, 2)).await];
    complete!(stage, &id, parts).send().await.unwrap();
    let ask = || {
        let ask = stage.s3.get_object_attributes().bucket(BUCKET).key(KEY);
        ask.object_attributes(ObjectAttributes::ObjectParts).object_attributes(ObjectAttributes::ObjectSize)
    };
    let answer = ask().send().await.unwrap();
    assert_eq!(answer.object_size(), Some(5 * MIB as i64 + 10));
    let parts = answer.object_parts().unwrap();
    assert_eq!(parts.total_parts_count(), Some(2));
    let sizes: Vec<i64> = parts.parts().iter().map(|part| part.size().unwrap()).collect();
    assert_eq!(sizes, [5 * MIB as i64, 10]);
    let page = ask().max_parts(1).send().await.unwrap();
    assert_eq!(page.object_parts().unwrap().is_truncated(), Some(true));
}

#[tokio::test]
async fn parts_are_copied_from_objects_whole_and_in_ranges() {
    let stage = stage().await;
    let large = bytes(6 * MIB, 1);
    stage.put("large", large.clone()).await;
    stage.put("small", "inline").await;
    let id = create(&stage).await;
    let copy = |number: i32, source: &str| {
        let copy = stage.s3.upload_part_copy().bucket(BUCKET).key(KEY).upload_id(&id).part_number(number);
        copy.copy_source(format!("bucket/{source}"))
    };
    let listed = |number, etag: Option<&str>| {
        CompletedPart::builder().part_number(number).e_tag(etag.unwrap()).build()
    };
    let whole = copy(1, "large").send().await.unwrap();
    let range = copy(2, "large").copy_source_range(format!("bytes=7-{}", 5 * MIB + 6)).send().await.unwrap();
    let small = copy(3, "small").send().await.unwrap();
    refused!(copy(4, "small").copy_source_range("bytes=0-6"), 400, "InvalidArgument");
    refused!(copy(4, "missing"), 404, "NoSuchKey");
    let parts = vec![
        listed(1, whole.copy_part_result().unwrap().e_tag()),
        listed(2, range.copy_part_result().unwrap().e_tag()),
        listed(3, small.copy_part_result().unwrap().e_tag()),
    ];
    complete!(stage, &id, parts).send().await.unwrap();
    stage.s3.delete_object().bucket(BUCKET).key("large").send().await.unwrap();
    let expected = [&large[..], &large[7..5 * MIB + 7], b"inline"].concat();
    assert!(stage.get(KEY).await.unwrap() == expected);
}

#[tokio::test]
async fn a_copy_of_a_completed_object_keeps_its_tag_and_its_parts() {
    let stage = stage().await;
    let id = create(&stage).await;
    let parts =
        vec![upload(&stage, &id, 1, bytes(5 * MIB, 1)).await, upload(&stage, &id, 2, bytes(10, 2)).await];
    let done = complete!(stage, &id, parts).send().await.unwrap();
    stage.s3.copy_object().bucket(BUCKET).key("copy").copy_source("bucket/whole").send().await.unwrap();
    let got = stage.s3.get_object().bucket(BUCKET).key("copy").part_number(2).send().await.unwrap();
    assert_eq!((got.e_tag(), got.parts_count()), (done.e_tag(), Some(2)));
    assert!(bytes_of(got).await == bytes(10, 2));
}
