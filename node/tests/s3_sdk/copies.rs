use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, MetadataDirective};

use crate::client::{BUCKET, bytes_of, stage};
use crate::harness::bytes;
use crate::refused;

#[tokio::test]
async fn a_copy_is_as_its_source_and_outlives_it() {
    let stage = stage().await;
    stage.s3.create_bucket().bucket("other").send().await.unwrap();
    for size in [0usize, 100, 500_000] {
        let put = stage.s3.put_object().bucket(BUCKET).key("source").content_type("a/b").metadata("m", "1");
        let etag = put.body(bytes(size, 3).into()).send().await.unwrap().e_tag.unwrap();
        let copy = stage.s3.copy_object().bucket("other").key("copy").copy_source("bucket/source");
        let result = copy.send().await.unwrap().copy_object_result.unwrap();
        assert_eq!(result.e_tag(), Some(etag.as_str()));
        stage.s3.delete_object().bucket(BUCKET).key("source").send().await.unwrap();
        let got = stage.s3.get_object().bucket("other").key("copy").send().await.unwrap();
        assert_eq!((got.content_type(), got.e_tag()), (Some("a/b"), Some(etag.as_str())));
        assert_eq!(got.metadata().unwrap()["m"], "1");
        assert!(bytes_of(got).await == bytes(size, 3));
    }
}

#[tokio::test]
async fn a_copy_of_a_large_object_moves_no_bytes() {
    let stage = stage().await;
    stage.put("source", bytes(3_000_000, 1)).await;
    let frames = || stage.node.metric("basalt_engine_frames_written_total");
    let before = frames();
    stage.s3.copy_object().bucket(BUCKET).key("copy").copy_source("bucket/source").send().await.unwrap();
    assert_eq!(frames(), before);
    assert!(stage.get("copy").await.unwrap() == bytes(3_000_000, 1));
}

#[tokio::test]
async fn metadata_is_replaced_when_asked_for_also_in_place() {
    let stage = stage().await;
    stage.put("k", bytes(100_000, 1)).await;
    let copy = || stage.s3.copy_object().bucket(BUCKET).key("k").copy_source("bucket/k");
    refused!(copy(), 400, "InvalidRequest");
    copy()
        .metadata_directive(MetadataDirective::Replace)
        .content_type("c/d")
        .metadata("new", "yes")
        .send()
        .await
        .unwrap();
    let got = stage.s3.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(got.content_type(), Some("c/d"));
    assert_eq!(got.metadata().unwrap()["new"], "yes");
    assert!(bytes_of(got).await == bytes(100_000, 1));
}

#[tokio::test]
async fn a_copy_gets_the_checksum_that_is_asked_for() {
    let stage = stage().await;
    for size in [100usize, 300_000] {
        stage.put("source", bytes(size, 2)).await;
        let copy = stage.s3.copy_object().bucket(BUCKET).key("copy").copy_source("bucket/source");
        let answer = copy.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
        assert!(answer.copy_object_result().unwrap().checksum_sha256().is_some());
        // The SDK compares the bytes with it.
        let get = stage.s3.get_object().bucket(BUCKET).key("copy").checksum_mode(ChecksumMode::Enabled);
        let got = get.send().await.unwrap();
        assert!(got.checksum_sha256().is_some());
        assert!(bytes_of(got).await == bytes(size, 2));
    }
}

#[tokio::test]
async fn a_copy_follows_conditions_on_its_source_and_its_target() {
    let stage = stage().await;
    let etag = stage.put("source", "v").await;
    let copy = || stage.s3.copy_object().bucket(BUCKET).key("copy").copy_source("bucket/source");
    refused!(copy().copy_source_if_match("\"0\""), 412, "PreconditionFailed");
    refused!(copy().copy_source_if_none_match(&etag), 412, "PreconditionFailed");
    assert_eq!(stage.get("copy").await, None);
    copy().copy_source_if_match(&etag).if_none_match("*").send().await.unwrap();
    refused!(copy().if_none_match("*"), 412, "PreconditionFailed");
}

#[tokio::test]
async fn a_copy_of_nothing_is_refused() {
    let stage = stage().await;
    let copy = |source: &str| stage.s3.copy_object().bucket(BUCKET).key("copy").copy_source(source);
    refused!(copy("bucket/missing"), 404, "NoSuchKey");
    refused!(copy("missing/missing"), 404, "NoSuchBucket");
    assert!(stage.keys().await.is_empty());
}

#[tokio::test]
async fn keys_that_need_escaping_are_copied() {
    let stage = stage().await;
    stage.put("a b/ü+c", "v").await;
    let copy = stage.s3.copy_object().bucket(BUCKET).key("copy").copy_source("bucket/a%20b/%C3%BC%2Bc");
    copy.send().await.unwrap();
    assert_eq!(stage.get("copy").await.unwrap(), b"v");
}
