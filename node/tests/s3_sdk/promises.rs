//! What the design promises beyond answers: nothing in the clear, shared flushes, every core at work.

use futures_util::future::join_all;

use crate::client::{BUCKET, connect, stage};
use crate::harness::bytes;

#[tokio::test]
async fn nothing_that_a_client_stores_lies_on_a_device_in_the_clear() {
    let mut stage = stage().await;
    let markers = ["plaintext-data-marker", "plaintext-key-marker", "plaintext-metadata-marker"];
    let [data, key, metadata] = markers;
    for size in [100, 300_000] {
        let body = data.repeat(size / data.len() + 1).into_bytes();
        let put = stage.s3.put_object().bucket(BUCKET).key(format!("{key}-{size}")).body(body.into());
        put.metadata("m", metadata).send().await.unwrap();
    }
    let upload = stage.s3.create_multipart_upload().bucket(BUCKET).key(key).metadata("m", metadata);
    let id = upload.send().await.unwrap().upload_id.unwrap();
    let part = stage.s3.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(1);
    part.body(data.repeat(1000).into_bytes().into()).send().await.unwrap();
    assert!(stage.node.terminate().success());
    let mut looked_at = 0;
    for entry in std::fs::read_dir(stage.node.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "basalt") {
            let device = std::fs::read(&path).unwrap();
            looked_at += 1;
            for marker in markers {
                let is_there = device.windows(marker.len()).any(|window| window == marker.as_bytes());
                assert!(!is_there, "{marker} is in {}", path.display());
            }
        }
    }
    assert_eq!(looked_at, 2);
}

#[tokio::test]
async fn a_small_put_costs_one_append_and_concurrent_ones_share_flushes() {
    let stage = stage().await;
    let appends = || stage.node.metric("basalt_engine_log_appends_total");
    stage.put("the first of a session begins it", bytes(4096, 0)).await;
    let before = appends();
    for i in 0..10 {
        stage.put(&format!("one-{i}"), bytes(4096, i)).await;
    }
    assert_eq!(appends() - before, 10.0);
    let flushes = || stage.node.metric("basalt_engine_device_flushes_total");
    // Connections first, so that the requests meet.
    let put = async |i: u64| stage.put(&format!("many-{i}"), bytes(4096, i)).await;
    join_all((0..64).map(put)).await;
    let (appends_before, flushes_before) = (appends(), flushes());
    join_all((0..64).map(put)).await;
    let (appends, flushes) = (appends() - appends_before, flushes() - flushes_before);
    assert!(appends < 64.0, "64 concurrent writes took {appends} appends");
    assert!(flushes < 128.0, "64 concurrent writes took {flushes} flushes of two devices");
}

#[tokio::test]
async fn one_buckets_large_reads_use_every_core() {
    let stage = stage().await;
    let size = 4_000_000;
    stage.put("k", bytes(size, 1)).await;
    let before = stage.node.metric_per_core("basalt_sent_bytes_total");
    // New connections: the kernel spreads them over the cores.
    for _ in 0..32 {
        let s3 = connect(&stage.node);
        let object = s3.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        assert_eq!(object.body.collect().await.unwrap().into_bytes().len(), size);
    }
    let after = stage.node.metric_per_core("basalt_sent_bytes_total");
    for (core, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(after - before >= size as f64, "core {core} sent {} bytes", after - before);
    }
}
