use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
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

/// Writers that fill a store together.
const WRITERS: usize = 16;

/// Stores objects, many at a time, until the store refuses one of each writer, and then of one alone; the keys of those it took.
async fn fill_together(stage: &Stage, size: usize) -> Vec<String> {
    let next = Arc::new(AtomicUsize::new(0));
    let write = |s3: Client, next: Arc<AtomicUsize>| async move {
        let mut taken = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let body = ByteStream::from(bytes(size, number as u64));
            match s3.put_object().bucket(BUCKET).key(number.to_string()).body(body).send().await {
                Ok(_) => taken.push(number.to_string()),
                Err(error) => {
                    assert_eq!(verdict(error), (507, "InsufficientStorage".to_owned()));
                    return taken;
                }
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(stage.s3.clone(), next.clone()))).collect();
    let mut keys = Vec::new();
    for writer in writers {
        keys.extend(writer.await.expect("a writer"));
    }
    // Together they run out of space with many objects half-way; what those held is there for one.
    keys.extend(write(stage.s3.clone(), next).await);
    keys
}

async fn delete_all(stage: &Stage, keys: &[String]) {
    for keys in keys.chunks(1000) {
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build().unwrap()).collect();
        let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
        let answer = stage.s3.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
        assert_eq!((answer.deleted().len(), answer.errors().len()), (keys.len(), 0), "{:?}", answer.errors());
    }
    assert!(stage.keys().await.is_empty());
}

/// Whether compaction ends by itself while nobody writes.
async fn comes_to_rest(stage: &Stage) -> bool {
    let moved = || stage.node.metric("basalt_engine_relocated_bytes_total");
    for _ in 0..30 {
        let before = moved();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if moved() == before {
            return true;
        }
    }
    false
}

/// Fills a store and empties it, again and again: what was deleted makes room for as much.
async fn fill_and_empty(size: usize, count_min: usize) {
    let stage = stage().await;
    let first = fill_together(&stage, size).await;
    assert!(comes_to_rest(&stage).await, "a store that is as full as it can be is rewritten for ever");
    assert!(first.len() >= count_min, "64 MiB hold more than {} objects of {size} bytes", first.len());
    delete_all(&stage, &first).await;
    for round in 1..=3 {
        let keys = fill_together(&stage, size).await;
        assert!(
            keys.len() * 100 >= first.len() * 95,
            "refill {round} took {} objects of {size} bytes, the first fill {}",
            keys.len(),
            first.len()
        );
        let some = &keys[keys.len() / 2];
        let number = some.parse().expect("a number");
        assert!(stage.get(some).await.unwrap() == bytes(size, number), "object {some}");
        delete_all(&stage, &keys).await;
    }
}

#[tokio::test]
async fn a_store_full_of_small_objects_takes_as_many_again_once_they_are_deleted() {
    fill_and_empty(10 * 1024, 3000).await;
}

#[tokio::test]
async fn a_store_full_of_large_objects_takes_as_many_again_once_they_are_deleted() {
    fill_and_empty(1_000_000, 30).await;
}
