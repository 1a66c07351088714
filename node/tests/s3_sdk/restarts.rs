use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::client::{BUCKET, Stage, connect, stage};
use crate::harness::bytes;

const MIB: usize = 1024 * 1024;

/// Objects inline and in frames, one deleted, one overwritten, one copied, one from parts, and an upload in progress.
async fn fill(stage: &Stage) -> String {
    stage.put("inline", "small").await;
    stage.put("frames", bytes(300_000, 1)).await;
    stage.put("deleted", bytes(300_000, 2)).await;
    stage.s3.delete_object().bucket(BUCKET).key("deleted").send().await.unwrap();
    stage.put("overwritten", bytes(200_000, 3)).await;
    stage.put("overwritten", "now small").await;
    stage.s3.copy_object().bucket(BUCKET).key("copied").copy_source("bucket/frames").send().await.unwrap();
    let id = upload(stage, "parts").await;
    complete(stage, "parts", &id).await;
    upload(stage, "unfinished").await
}

async fn upload(stage: &Stage, key: &str) -> String {
    let id =
        stage.s3.create_multipart_upload().bucket(BUCKET).key(key).send().await.unwrap().upload_id.unwrap();
    for (number, size) in [(1, 5 * MIB), (2, 77)] {
        let part = stage.s3.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(number);
        part.body(bytes(size, number as u64).into()).send().await.unwrap();
    }
    id
}

async fn complete(stage: &Stage, key: &str, id: &str) {
    let listed = stage.s3.list_parts().bucket(BUCKET).key(key).upload_id(id).send().await.unwrap();
    let parts = listed.parts().iter().map(|part| {
        CompletedPart::builder().set_part_number(part.part_number()).set_e_tag(part.e_tag.clone()).build()
    });
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
    let complete = stage.s3.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id);
    complete.multipart_upload(parts).send().await.unwrap();
}

async fn check(stage: &Stage, unfinished: &str) {
    assert_eq!(stage.keys().await, ["copied", "frames", "inline", "overwritten", "parts"]);
    assert_eq!(stage.get("inline").await.unwrap(), b"small");
    assert!(stage.get("frames").await.unwrap() == bytes(300_000, 1));
    assert!(stage.get("copied").await.unwrap() == bytes(300_000, 1));
    assert_eq!(stage.get("overwritten").await.unwrap(), b"now small");
    assert!(stage.get("parts").await.unwrap() == [bytes(5 * MIB, 1), bytes(77, 2)].concat());
    assert_eq!(stage.uploads().await, [unfinished]);
}

#[tokio::test]
async fn a_restarted_node_serves_what_it_served() {
    let mut stage = stage().await;
    let unfinished = fill(&stage).await;
    stage.node.restart();
    stage.s3 = connect(&stage.node);
    check(&stage, &unfinished).await;
    complete(&stage, "unfinished", &unfinished).await;
    assert_eq!(stage.get("unfinished").await.unwrap().len(), 5 * MIB + 77);
}

#[tokio::test]
async fn a_killed_node_has_lost_nothing_that_was_acknowledged() {
    let mut stage = stage().await;
    let unfinished = fill(&stage).await;
    for _ in 0..3 {
        stage.node.kill_and_restart();
        stage.s3 = connect(&stage.node);
        check(&stage, &unfinished).await;
    }
}

#[tokio::test]
async fn with_either_device_file_gone_everything_is_readable_and_nothing_is_written() {
    let mut stage = stage().await;
    let unfinished = fill(&stage).await;
    for device in ["device-0.basalt", "device-1.basalt"] {
        let (here, away) = (stage.node.data_dir().join(device), stage.node.data_dir().join("away"));
        assert!(stage.node.terminate().success());
        std::fs::rename(&here, &away).unwrap();
        stage.node.start_ended();
        stage.s3 = connect(&stage.node);
        check(&stage, &unfinished).await;
        let put = stage.s3.put_object().bucket(BUCKET).key("new").body(bytes(10, 1).into()).send().await;
        assert_eq!(put.unwrap_err().raw_response().unwrap().status().as_u16(), 507);
        assert!(stage.node.terminate().success());
        std::fs::rename(&away, &here).unwrap();
        stage.node.start_ended();
        stage.s3 = connect(&stage.node);
        stage.put("new", bytes(10, 1)).await;
        stage.s3.delete_object().bucket(BUCKET).key("new").send().await.unwrap();
    }
}

#[tokio::test]
async fn when_all_devices_are_gone_no_empty_store_takes_their_place() {
    let mut stage = stage().await;
    stage.put("k", "v").await;
    assert!(stage.node.terminate().success());
    let devices = ["device-0.basalt", "device-1.basalt"].map(|device| stage.node.data_dir().join(device));
    let away = |path: &std::path::Path| path.with_extension("away");
    devices.iter().for_each(|device| std::fs::rename(device, away(device)).unwrap());
    let refusal = stage.node.refusal();
    assert!(refusal.contains("mount or connect them"), "{refusal}");
    assert!(devices.iter().all(|device| !device.exists()));
    devices.iter().for_each(|device| std::fs::rename(away(device), device).unwrap());
    stage.node.start_ended();
    stage.s3 = connect(&stage.node);
    assert_eq!(stage.get("k").await.unwrap(), b"v");
}

#[tokio::test]
async fn a_start_that_was_interrupted_while_naming_its_devices_is_finished() {
    let mut stage = stage().await;
    stage.put("k", "v").await;
    assert!(stage.node.terminate().success());
    let data = stage.node.data_dir();
    std::fs::rename(data.join("device-1.basalt"), data.join("device-1.basalt.new")).unwrap();
    std::fs::remove_file(data.join("formatted")).unwrap();
    stage.node.start_ended();
    stage.s3 = connect(&stage.node);
    assert_eq!(stage.get("k").await.unwrap(), b"v");
    stage.put("both devices take writes", "v").await;
    assert!(data.join("device-1.basalt").exists() && data.join("formatted").exists());
}

#[tokio::test]
async fn a_device_that_is_not_what_it_should_be_is_refused_and_left_alone() {
    let mut stage = stage().await;
    assert!(stage.node.terminate().success());
    let data = stage.node.data_dir();
    for file in ["device-0.basalt", "device-1.basalt", "formatted"] {
        std::fs::remove_file(data.join(file)).unwrap();
    }
    let device = data.join("device-0.basalt");
    let mut foreign = vec![0; 4 * MIB];
    foreign[1080] = 0x53;
    for (content, says) in
        [(foreign, "carries data that is no store of ours"), (Vec::new(), "too small to be a device")]
    {
        std::fs::write(&device, &content).unwrap();
        let refusal = stage.node.refusal();
        assert!(refusal.contains(says), "{refusal}");
        assert!(std::fs::read(&device).unwrap() == content && !data.join("device-1.basalt").exists());
    }
}

#[tokio::test]
async fn an_orderly_end_leaves_nothing_to_replay_and_a_crash_does() {
    let mut stage = stage().await;
    let unfinished = fill(&stage).await;
    let replayed = |stage: &Stage| stage.node.metric("basalt_memtable_bytes{");
    assert!(replayed(&stage) > 0.0);
    stage.node.restart();
    assert_eq!(replayed(&stage), 0.0);
    stage.s3 = connect(&stage.node);
    check(&stage, &unfinished).await;
    assert_eq!(stage.node.metric("basalt_versions{"), 5.0);
    assert_eq!(stage.node.metric("basalt_directory_runs{"), 1.0);
    stage.put("inline", "small").await;
    stage.node.kill_and_restart();
    assert!(replayed(&stage) > 0.0);
    stage.s3 = connect(&stage.node);
    check(&stage, &unfinished).await;
}
