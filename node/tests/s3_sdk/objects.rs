use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, Delete, ObjectAttributes, ObjectIdentifier,
    ServerSideEncryption,
};

use crate::client::{BUCKET, bytes_of, stage};
use crate::harness::bytes;
use crate::refused;

#[tokio::test]
async fn an_object_of_any_size_comes_back_as_it_was() {
    let stage = stage().await;
    // Around what is inline (32 KiB), a frame (65 520 bytes), a device write (4 frames), a reservation.
    let sizes = [0, 1, 4096, 32_767, 32_768, 32_769, 65_519, 65_520, 65_521, 262_080, 262_081, 3_000_001];
    for (seed, size) in sizes.into_iter().enumerate() {
        let body = bytes(size, seed as u64);
        stage.put(&format!("{size}"), body).await;
    }
    for (seed, size) in sizes.into_iter().enumerate() {
        let body = stage.get(&format!("{size}")).await.unwrap();
        assert!(body == bytes(size, seed as u64), "an object of {size} bytes");
        let head = stage.s3.head_object().bucket(BUCKET).key(format!("{size}")).send().await.unwrap();
        assert_eq!(head.content_length(), Some(size as i64));
    }
}

#[tokio::test]
async fn the_tag_of_an_object_is_the_md5_of_its_bytes() {
    let stage = stage().await;
    assert_eq!(stage.put("k", "").await, "\"d41d8cd98f00b204e9800998ecf8427e\"");
    assert_eq!(stage.put("k", "hello\n").await, "\"b1946ac92492d2347c6235b4d2611184\"");
}

#[tokio::test]
async fn metadata_comes_back_as_it_was() {
    let stage = stage().await;
    let put = stage.s3.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"body"));
    put.cache_control("max-age=1")
        .content_disposition("attachment")
        .content_encoding("gzip")
        .content_language("de")
        .content_type("text/x-test")
        .metadata("colour", "blue")
        .metadata("empty", "")
        .send()
        .await
        .unwrap();
    let head = stage.s3.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.cache_control(), Some("max-age=1"));
    assert_eq!(head.content_disposition(), Some("attachment"));
    assert_eq!(head.content_encoding(), Some("gzip"), "without aws-chunked");
    assert_eq!(head.content_language(), Some("de"));
    assert_eq!(head.content_type(), Some("text/x-test"));
    assert_eq!(head.metadata().unwrap()["colour"], "blue");
    assert_eq!(head.metadata().unwrap()["empty"], "");
    assert_eq!(head.server_side_encryption(), Some(&ServerSideEncryption::Aes256));
    stage.put("k", "plain").await;
    let head = stage.s3.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.cache_control(), None);
    assert!(head.metadata().is_none_or(|metadata| metadata.is_empty()));
}

#[tokio::test]
async fn responses_may_have_other_headers_than_are_stored() {
    let stage = stage().await;
    stage.put("k", "v").await;
    let get = stage.s3.get_object().bucket(BUCKET).key("k");
    let answer =
        get.response_content_type("a/b").response_content_disposition("inline").send().await.unwrap();
    assert_eq!((answer.content_type(), answer.content_disposition()), (Some("a/b"), Some("inline")));
}

#[tokio::test]
async fn every_checksum_is_verified_kept_and_shown() {
    let stage = stage().await;
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        for size in [10, 100_000] {
            let put = stage.s3.put_object().bucket(BUCKET).key("k").body(ByteStream::from(bytes(size, 1)));
            let put = put.checksum_algorithm(algorithm.clone()).send().await.unwrap();
            assert_eq!(put.checksum_type(), Some(&ChecksumType::FullObject));
            // The SDK compares what it gets with the checksum that comes with it.
            let get = stage.s3.get_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled);
            let got = get.send().await.unwrap();
            let shown = [
                got.checksum_crc32(),
                got.checksum_crc32_c(),
                got.checksum_crc64_nvme(),
                got.checksum_sha1(),
                got.checksum_sha256(),
            ];
            assert_eq!(shown.iter().flatten().count(), 1, "{algorithm:?}");
            assert!(bytes_of(got).await == bytes(size, 1));
        }
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_refused_and_stores_nothing() {
    let stage = stage().await;
    let put = stage.s3.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"body"));
    refused!(put.checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), 400, "BadDigest");
    assert_eq!(stage.get("k").await, None);
}

#[tokio::test]
async fn every_kind_of_key_is_its_own() {
    let stage = stage().await;
    let long = "k".repeat(1024);
    let mut keys = vec![
        "a",
        "a/",
        "a//b",
        "a/b",
        "a/./b",
        "a/../b",
        ".",
        "..",
        "/",
        "//",
        "ä ö+%&?#=\"'<>",
        "日本",
        &long,
    ];
    for key in &keys {
        stage.put(key, format!("the value of {key}")).await;
    }
    for key in &keys {
        assert_eq!(stage.get(key).await.unwrap(), format!("the value of {key}").into_bytes(), "{key}");
    }
    keys.sort_unstable();
    assert_eq!(stage.keys().await, keys);
}

#[tokio::test]
async fn an_overwritten_object_is_the_new_one() {
    let stage = stage().await;
    for (round, size) in [10, 100_000, 20, 200_000, 0].into_iter().enumerate() {
        let body = bytes(size, round as u64);
        stage.put("k", body.clone()).await;
        assert!(stage.get("k").await.unwrap() == body);
    }
    assert_eq!(stage.keys().await, ["k"]);
}

#[tokio::test]
async fn ranges_are_served() {
    let stage = stage().await;
    for size in [1000usize, 300_000] {
        let body = bytes(size, 9);
        stage.put("k", body.clone()).await;
        let get = |range: String| stage.s3.get_object().bucket(BUCKET).key("k").range(range).send();
        for (first, last) in
            [(0, 0), (1, 999), (size - 1, size - 1), (65_519, 65_521), (65_520, 131_041), (5, size - 2)]
        {
            if last >= size {
                continue;
            }
            let answer = get(format!("bytes={first}-{last}")).await.unwrap();
            assert_eq!(answer.content_range(), Some(format!("bytes {first}-{last}/{size}").as_str()));
            assert!(bytes_of(answer).await == body[first..=last], "{first} to {last} of {size}");
        }
        assert!(bytes_of(get("bytes=-7".into()).await.unwrap()).await == body[size - 7..]);
        assert!(bytes_of(get(format!("bytes={}-", size - 9)).await.unwrap()).await == body[size - 9..]);
        assert!(bytes_of(get(format!("bytes=3-{}", size * 9)).await.unwrap()).await == body[3..]);
        refused!(
            stage.s3.get_object().bucket(BUCKET).key("k").range(format!("bytes={size}-")),
            416,
            "InvalidRange"
        );
        let whole = get("bytes=0-1,3-4".into()).await.unwrap();
        assert_eq!(whole.content_range(), None);
        assert!(bytes_of(whole).await == body);
    }
}

#[tokio::test]
async fn a_deleted_object_is_gone_and_deleting_it_again_succeeds() {
    let stage = stage().await;
    stage.put("k", "v").await;
    for _ in 0..2 {
        stage.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(stage.get("k").await, None);
        refused!(stage.s3.head_object().bucket(BUCKET).key("k"), 404, "NotFound");
    }
    assert!(stage.keys().await.is_empty());
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let stage = stage().await;
    for i in 0..20 {
        stage.put(&format!("k{i:02}"), "v").await;
    }
    let flushes_before = stage.node.metric("basalt_engine_device_flushes_total");
    let object = |i| ObjectIdentifier::builder().key(format!("k{i:02}")).build().unwrap();
    let delete =
        Delete::builder().set_objects(Some((0..19).chain([77]).map(object).collect())).build().unwrap();
    let answer = stage.s3.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    assert_eq!((answer.deleted().len(), answer.errors().len()), (20, 0));
    assert_eq!(stage.keys().await, ["k19"]);
    let flushes = stage.node.metric("basalt_engine_device_flushes_total") - flushes_before;
    assert!(flushes <= 8.0, "19 deletes share flushes, but there were {flushes}");
}

#[tokio::test]
async fn deleting_many_reports_each_failure_and_quietly_nothing_else() {
    let stage = stage().await;
    stage.put("kept", "v").await;
    stage.put("gone", "v").await;
    let objects = [
        ObjectIdentifier::builder().key("gone").build().unwrap(),
        ObjectIdentifier::builder()
            .key("kept")
            .e_tag("\"00000000000000000000000000000000\"")
            .build()
            .unwrap(),
    ];
    let delete = Delete::builder().set_objects(Some(objects.to_vec())).quiet(true).build().unwrap();
    let answer = stage.s3.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    assert!(answer.deleted().is_empty());
    let failed: Vec<_> = answer.errors().iter().map(|e| (e.key().unwrap(), e.code().unwrap())).collect();
    assert_eq!(failed, [("kept", "PreconditionFailed")]);
    assert_eq!(stage.keys().await, ["kept"]);
}

#[tokio::test]
async fn attributes_are_those_of_the_object() {
    let stage = stage().await;
    let etag = stage.put("k", bytes(50_000, 1)).await;
    let answer = stage
        .s3
        .get_object_attributes()
        .bucket(BUCKET)
        .key("k")
        .object_attributes(ObjectAttributes::Etag)
        .object_attributes(ObjectAttributes::ObjectSize)
        .object_attributes(ObjectAttributes::Checksum)
        .object_attributes(ObjectAttributes::ObjectParts)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.e_tag(), Some(etag.trim_matches('"')));
    assert_eq!(answer.object_size(), Some(50_000));
    assert!(answer.checksum().is_some_and(|checksum| checksum.checksum_crc32().is_some()));
    assert!(answer.object_parts().is_none());
}

#[tokio::test]
async fn an_object_that_nobody_tagged_has_no_tags() {
    let stage = stage().await;
    stage.put("k", "v").await;
    let tags = stage.s3.get_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    assert!(tags.tag_set().is_empty());
    refused!(stage.s3.get_object_tagging().bucket(BUCKET).key("other"), 404, "NoSuchKey");
    assert_eq!(stage.s3.get_object_acl().bucket(BUCKET).key("k").send().await.unwrap().grants().len(), 1);
}

#[tokio::test]
async fn presigned_requests_put_and_get() {
    let stage = stage().await;
    let expires = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = stage.s3.put_object().bucket(BUCKET).key("a key").presigned(expires.clone()).await.unwrap();
    let get = stage.s3.get_object().bucket(BUCKET).key("a key").presigned(expires).await.unwrap();
    let mut connection = crate::harness::raw::Connection::open(&stage.node);
    let mut send = |request: &aws_sdk_s3::presigning::PresignedRequest, body: &str| {
        let target = request.uri().strip_prefix(&stage.node.url()).expect("this node");
        let headers: String = request.headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (method, host, len) = (request.method(), stage.node.endpoint(), body.len());
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n{headers}\r\n");
        connection.send((head + body).as_bytes());
        connection.receive(method)
    };
    let stored = send(&put, "from a browser");
    assert_eq!(stored.status, 200, "{}", stored.text());
    assert_eq!(send(&get, "").text(), "from a browser");
}

#[tokio::test]
async fn concurrent_writers_of_one_key_leave_one_of_their_objects() {
    let stage = stage().await;
    for size in [1000usize, 100_000] {
        let puts = (0..16u64).map(|seed| stage.put("k", bytes(size, seed)));
        futures_util::future::join_all(puts).await;
        let body = stage.get("k").await.unwrap();
        assert!((0..16u64).any(|seed| body == bytes(size, seed)), "a mixture of {size} bytes");
    }
}
