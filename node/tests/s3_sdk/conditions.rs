use aws_sdk_s3::primitives::{ByteStream, DateTime};
use futures_util::future::join_all;

use crate::client::{BUCKET, stage};
use crate::refused;

#[tokio::test]
async fn of_writers_that_want_to_be_the_first_exactly_one_is() {
    let stage = stage().await;
    for round in 0..5 {
        let key = format!("k{round}");
        let put = |i: usize| {
            let body = ByteStream::from(format!("{i}").into_bytes());
            stage.s3.put_object().bucket(BUCKET).key(&key).if_none_match("*").body(body).send()
        };
        let outcomes = join_all((0..16).map(put)).await;
        let winners: Vec<usize> = (0..16).filter(|i| outcomes[*i].is_ok()).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(stage.get(&key).await.unwrap(), format!("{}", winners[0]).into_bytes());
        for failed in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(crate::client::verdict(failed), (412, "PreconditionFailed".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_write_that_expects_a_tag_replaces_only_that_object() {
    let stage = stage().await;
    let put = |etag: &str| {
        let put = stage.s3.put_object().bucket(BUCKET).key("k").if_match(etag);
        put.body(ByteStream::from_static(b"new"))
    };
    refused!(put("\"00000000000000000000000000000000\""), 404, "NoSuchKey");
    let etag = stage.put("k", "old").await;
    refused!(put("\"00000000000000000000000000000000\""), 412, "PreconditionFailed");
    refused!(put("\"no tag of ours\""), 412, "PreconditionFailed");
    assert_eq!(stage.get("k").await.unwrap(), b"old");
    put(&etag).send().await.unwrap();
    assert_eq!(stage.get("k").await.unwrap(), b"new");
    refused!(put(&etag), 412, "PreconditionFailed");
}

#[tokio::test]
async fn a_delete_that_expects_a_tag_removes_only_that_object() {
    let stage = stage().await;
    let etag = stage.put("k", "v").await;
    let delete = |etag: &str| stage.s3.delete_object().bucket(BUCKET).key("k").if_match(etag);
    refused!(delete("\"00000000000000000000000000000000\""), 412, "PreconditionFailed");
    assert!(stage.get("k").await.is_some());
    delete(&etag).send().await.unwrap();
    assert!(stage.get("k").await.is_none());
    refused!(delete(&etag), 404, "NoSuchKey");
}

#[tokio::test]
async fn reads_follow_their_conditions() {
    let stage = stage().await;
    let etag = stage.put("k", "v").await;
    let get = || stage.s3.get_object().bucket(BUCKET).key("k");
    let status = |error: aws_sdk_s3::error::SdkError<aws_sdk_s3::operation::get_object::GetObjectError>| {
        error.raw_response().unwrap().status().as_u16()
    };
    assert!(get().if_match(&etag).send().await.is_ok());
    assert!(get().if_match("*").send().await.is_ok());
    assert_eq!(status(get().if_match("\"0\"").send().await.unwrap_err()), 412);
    assert_eq!(status(get().if_none_match(&etag).send().await.unwrap_err()), 304);
    assert_eq!(status(get().if_none_match("*").send().await.unwrap_err()), 304);
    assert!(get().if_none_match("\"0\"").send().await.is_ok());
    let (past, future) = (DateTime::from_secs(1_000_000_000), DateTime::from_secs(4_000_000_000));
    assert!(get().if_modified_since(past).send().await.is_ok());
    assert_eq!(status(get().if_modified_since(future).send().await.unwrap_err()), 304);
    assert!(get().if_unmodified_since(future).send().await.is_ok());
    assert_eq!(status(get().if_unmodified_since(past).send().await.unwrap_err()), 412);
    assert!(get().if_match(&etag).if_unmodified_since(past).send().await.is_ok(), "the tag decides");
}

#[tokio::test]
async fn what_an_unwanted_body_would_be_is_not_asked_for() {
    let stage = stage().await;
    stage.put("k", "v").await;
    let received = || stage.node.metric("basalt_received_bytes_total");
    let before = received();
    use crate::harness::raw::{Connection, Request};
    let request = Request::new("PUT", "/bucket/k")
        .body(vec![b'x'; 1_000_000])
        .header("expect", "100-continue")
        .header("if-none-match", "*");
    let mut connection = Connection::open(&stage.node);
    connection.send(&request.head(&stage.node, &stage.node.credentials()).0);
    assert_eq!(connection.receive("PUT").verdict(), (412, "PreconditionFailed".to_owned()));
    assert!(received() - before < 100_000.0);
}
