use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

use crate::client::{BUCKET, connect, stage, stage_on};
use crate::harness::Node;
use crate::refused;

#[tokio::test]
async fn a_bucket_is_made_found_listed_and_removed() {
    let stage = stage().await;
    let head = stage.s3.head_bucket().bucket(BUCKET).send().await.unwrap();
    assert_eq!(head.bucket_region(), Some("us-east-1"));
    stage.s3.create_bucket().bucket("another").send().await.unwrap();
    let listed = stage.s3.list_buckets().send().await.unwrap();
    let names: Vec<&str> = listed.buckets().iter().filter_map(|bucket| bucket.name()).collect();
    assert_eq!(names, ["another", BUCKET]);
    assert!(listed.owner().is_some_and(|owner| owner.id().is_some_and(|id| id.len() == 64)));
    stage.s3.delete_bucket().bucket("another").send().await.unwrap();
    refused!(stage.s3.delete_bucket().bucket("another"), 404, "NoSuchBucket");
    assert_eq!(stage.s3.list_buckets().send().await.unwrap().buckets().len(), 1);
}

#[tokio::test]
async fn every_core_knows_a_bucket_when_its_creation_is_answered() {
    let stage = stage().await;
    for round in 0..8 {
        let name = format!("bucket-{round}");
        stage.s3.create_bucket().bucket(&name).send().await.unwrap();
        // New connections: the kernel spreads them over the cores.
        for _ in 0..4 {
            connect(&stage.node).head_bucket().bucket(&name).send().await.unwrap();
        }
        stage.s3.delete_bucket().bucket(&name).send().await.unwrap();
        for _ in 0..4 {
            let gone = connect(&stage.node).head_bucket().bucket(&name).send().await.unwrap_err();
            assert!(gone.into_service_error().is_not_found());
        }
    }
}

#[tokio::test]
async fn a_bucket_is_not_found_before_it_is_made() {
    let stage = stage().await;
    refused!(stage.s3.list_objects_v2().bucket("missing"), 404, "NoSuchBucket");
    refused!(stage.s3.get_object().bucket("missing").key("k"), 404, "NoSuchBucket");
    refused!(stage.s3.put_object().bucket("missing").key("k"), 404, "NoSuchBucket");
    refused!(stage.s3.create_multipart_upload().bucket("missing").key("k"), 404, "NoSuchBucket");
    refused!(stage.s3.get_bucket_location().bucket("missing"), 404, "NoSuchBucket");
    refused!(stage.s3.get_bucket_versioning().bucket("missing"), 404, "NoSuchBucket");
}

#[tokio::test]
async fn a_bucket_that_holds_an_object_stays() {
    let stage = stage().await;
    stage.put("k", "v").await;
    refused!(stage.s3.delete_bucket().bucket(BUCKET), 409, "BucketNotEmpty");
    assert_eq!(stage.get("k").await.unwrap(), b"v");
    stage.s3.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    stage.s3.delete_bucket().bucket(BUCKET).send().await.unwrap();
}

#[tokio::test]
async fn a_bucket_made_again_is_empty_even_of_uploads() {
    let stage = stage().await;
    stage.s3.create_multipart_upload().bucket(BUCKET).key("k").send().await.unwrap();
    stage.s3.delete_bucket().bucket(BUCKET).send().await.unwrap();
    stage.s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    assert!(stage.keys().await.is_empty());
    assert!(stage.uploads().await.is_empty());
}

#[tokio::test]
async fn making_a_bucket_again_succeeds_in_the_first_region_only() {
    let stage = stage().await;
    stage.s3.create_bucket().bucket(BUCKET).send().await.unwrap();
    let node = Node::start_with(
        "[node]\nregion = \"eu-north-7\"\n[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n",
    );
    let elsewhere = stage_on(node).await;
    refused!(elsewhere.s3.create_bucket().bucket(BUCKET), 409, "BucketAlreadyOwnedByYou");
    let location = elsewhere.s3.get_bucket_location().bucket(BUCKET).send().await.unwrap();
    assert_eq!(location.location_constraint().map(|region| region.as_str()), Some("eu-north-7"));
}

#[tokio::test]
async fn a_bucket_is_made_in_this_region_or_none() {
    let stage = stage().await;
    let there = |region| CreateBucketConfiguration::builder().location_constraint(region).build();
    let elsewhere = there(BucketLocationConstraint::EuWest1);
    refused!(
        stage.s3.create_bucket().bucket("elsewhere").create_bucket_configuration(elsewhere),
        400,
        "IllegalLocationConstraintException"
    );
    refused!(stage.s3.head_bucket().bucket("elsewhere"), 404, "NotFound");
}

#[tokio::test]
async fn an_unconfigured_bucket_says_so() {
    let stage = stage().await;
    let versioning = stage.s3.get_bucket_versioning().bucket(BUCKET).send().await.unwrap();
    assert_eq!(versioning.status(), None);
    let acl = stage.s3.get_bucket_acl().bucket(BUCKET).send().await.unwrap();
    assert_eq!(acl.grants().len(), 1);
    let encryption = stage.s3.get_bucket_encryption().bucket(BUCKET).send().await.unwrap();
    assert_eq!(encryption.server_side_encryption_configuration().unwrap().rules().len(), 1);
    refused!(stage.s3.get_bucket_policy().bucket(BUCKET), 404, "NoSuchBucketPolicy");
    refused!(stage.s3.get_bucket_cors().bucket(BUCKET), 404, "NoSuchCORSConfiguration");
    refused!(stage.s3.get_bucket_tagging().bucket(BUCKET), 404, "NoSuchTagSet");
}

#[tokio::test]
async fn buckets_come_in_pages() {
    let stage = stage().await;
    for name in ["list-a", "list-b", "list-c"] {
        stage.s3.create_bucket().bucket(name).send().await.unwrap();
    }
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let page = stage.s3.list_buckets().prefix("list-").max_buckets(2).set_continuation_token(token);
        let page = page.send().await.unwrap();
        names.extend(page.buckets().iter().map(|bucket| bucket.name().unwrap().to_owned()));
        token = page.continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["list-a", "list-b", "list-c"]);
}

#[tokio::test]
async fn a_virtual_hosted_client_reaches_its_bucket() {
    let node = Node::start_with(
        "[node]\ndomains = [\"s3.localhost\"]\n[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n",
    );
    let stage = stage_on(node).await;
    stage.put("k", "v").await;
    // No resolver knows the name, so that the raw client speaks it.
    let answer =
        crate::harness::raw::Request::new("GET", "/k").host("bucket.s3.localhost:443").run(&stage.node);
    assert_eq!(answer.text(), "v");
}
