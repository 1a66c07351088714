use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::client::{BUCKET, Stage, connect, stage, verdict};
use crate::harness::bytes;

/// Stores objects until the store refuses one; how many it took.
async fn fill(stage: &Stage, size: usize) -> usize {
    for count in 0..100_000 {
        let body = ByteStream::from(bytes(size, count as u64));
        if let Err(error) =
            stage.s3.put_object().bucket(BUCKET).key(format!("{count}")).body(body).send().await
        {
            assert_eq!(verdict(error), (507, "InsufficientStorage".to_owned()));
            return count;
        }
    }
    panic!("the store never fills up");
}

#[tokio::test]
async fn a_full_store_refuses_writes_serves_reads_and_takes_deletes() {
    let mut stage = stage().await;
    let size = 2_000_000;
    let count = fill(&stage, size).await;
    assert!(count >= 15, "64 MiB hold more than {count} objects of 2 MB");
    for round in 0..2 {
        for i in 0..count {
            assert!(stage.get(&format!("{i}")).await.unwrap() == bytes(size, i as u64), "object {i}");
        }
        assert_eq!(stage.get(&format!("{count}")).await, None, "what was refused is not there");
        if round == 0 {
            stage.node.kill_and_restart();
            stage.s3 = connect(&stage.node);
        }
    }
    for i in 0..count {
        stage.s3.delete_object().bucket(BUCKET).key(format!("{i}")).send().await.unwrap();
    }
    assert!(stage.keys().await.is_empty());
    stage.put("again", bytes(size, 7)).await;
    assert!(stage.get("again").await.unwrap() == bytes(size, 7));
}

#[tokio::test]
async fn a_store_full_of_small_objects_can_be_emptied() {
    let stage = stage().await;
    let count = fill(&stage, 30_000).await;
    let keys: Vec<String> = (0..count).map(|i| i.to_string()).collect();
    for keys in keys.chunks(1000) {
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build().unwrap()).collect();
        let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
        let answer = stage.s3.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
        assert_eq!((answer.deleted().len(), answer.errors().len()), (keys.len(), 0));
    }
    assert!(stage.keys().await.is_empty());
}
