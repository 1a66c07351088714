use futures_util::future::join_all;

use crate::client::{BUCKET, Stage, stage};
use crate::refused;

async fn stage_with(keys: &[&str]) -> Stage {
    let stage = stage().await;
    join_all(keys.iter().map(|key| stage.put(key, *key))).await;
    stage
}

/// All pages one after the other: keys and common prefixes.
async fn walk(stage: &Stage, prefix: &str, delimiter: &str, max: i32) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let list = stage.s3.list_objects_v2().bucket(BUCKET).prefix(prefix).max_keys(max);
        let list = list.set_delimiter((!delimiter.is_empty()).then(|| delimiter.to_owned()));
        let page = list.set_continuation_token(token).send().await.unwrap();
        assert!(page.key_count().unwrap() <= max);
        keys.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        prefixes.extend(page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap().to_owned()));
        assert_eq!(page.is_truncated(), Some(page.next_continuation_token().is_some()));
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            return (keys, prefixes);
        }
    }
}

#[tokio::test]
async fn a_listing_shows_each_object_as_it_is() {
    let stage = stage().await;
    let etag = stage.put("k", "four").await;
    let page = stage.s3.list_objects_v2().bucket(BUCKET).fetch_owner(true).send().await.unwrap();
    let object = &page.contents()[0];
    assert_eq!((object.key(), object.size(), object.e_tag()), (Some("k"), Some(4), Some(etag.as_str())));
    assert_eq!(object.storage_class().map(|class| class.as_str()), Some("STANDARD"));
    assert!(object.owner().is_some() && object.last_modified().is_some());
    let page = stage.s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert!(page.contents()[0].owner().is_none());
}

#[tokio::test]
async fn pages_of_any_size_give_the_same_keys_and_prefixes() {
    let keys = ["a", "a/", "a/b", "a//b", "b/1", "b/2", "b/c/d", "c", "c-", "日/本"];
    let stage = stage_with(&keys).await;
    let mut sorted = keys.map(str::to_owned);
    sorted.sort_unstable();
    for max in 1..12 {
        assert_eq!(walk(&stage, "", "", max).await, (sorted.to_vec(), Vec::new()));
        let (keys, prefixes) = walk(&stage, "", "/", max).await;
        assert_eq!((keys, prefixes), (texts(&["a", "c", "c-"]), texts(&["a/", "b/", "日/"])));
        assert_eq!(walk(&stage, "b/", "/", max).await, (texts(&["b/1", "b/2"]), texts(&["b/c/"])));
        assert_eq!(walk(&stage, "a/", "", max).await, (texts(&["a/", "a//b", "a/b"]), Vec::new()));
        assert_eq!(walk(&stage, "none", "/", max).await, (Vec::new(), Vec::new()));
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn a_page_begins_after_a_key() {
    let stage = stage_with(&["a", "b/1", "b/2", "c"]).await;
    let list = || stage.s3.list_objects_v2().bucket(BUCKET);
    let page = list().start_after("b/1").send().await.unwrap();
    assert_eq!(page.contents().len(), 2);
    let page = list().start_after("b/1").delimiter("/").send().await.unwrap();
    assert_eq!((page.common_prefixes().len(), page.contents().len()), (1, 1), "there is more under b/");
    let page = list().start_after("b/").delimiter("/").send().await.unwrap();
    assert_eq!(page.common_prefixes().len(), 1, "b/ is a key here, and more lies under it");
    let page = list().start_after("b/2").delimiter("/").send().await.unwrap();
    assert_eq!((page.common_prefixes().len(), page.contents().len()), (0, 1));
    refused!(list().continuation_token("nonsense"), 400, "InvalidArgument");
}

#[tokio::test]
async fn no_keys_at_all_may_be_asked_for() {
    let stage = stage_with(&["a"]).await;
    let page = stage.s3.list_objects_v2().bucket(BUCKET).max_keys(0).send().await.unwrap();
    assert_eq!((page.key_count(), page.is_truncated()), (Some(0), Some(false)));
}

#[tokio::test]
async fn the_first_version_pages_by_markers() {
    let stage = stage_with(&["a", "b/1", "b/2", "c", "d"]).await;
    let (mut seen, mut marker) = (Vec::new(), None);
    loop {
        let list = stage.s3.list_objects().bucket(BUCKET).delimiter("/").max_keys(1).set_marker(marker);
        let page = list.send().await.unwrap();
        seen.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        seen.extend(page.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap().to_owned()));
        assert!(page.contents().iter().all(|object| object.owner().is_some()));
        marker = page.next_marker().map(str::to_owned);
        if page.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(seen, ["a", "b/", "c", "d"]);
}

#[tokio::test]
async fn keys_that_xml_cannot_hold_are_listed_url_encoded() {
    let stage = stage_with(&["a b", "tab\there", "new\nline", "\u{1}"]).await;
    let list = stage.s3.list_objects_v2().bucket(BUCKET);
    let page = list.encoding_type(aws_sdk_s3::types::EncodingType::Url).send().await.unwrap();
    let keys: Vec<&str> = page.contents().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(keys, ["%01", "a%20b", "new%0Aline", "tab%09here"]);
}

#[tokio::test]
async fn a_listing_of_more_than_a_page_is_whole() {
    let stage = stage().await;
    let names: Vec<String> = (0..1100).map(|i| format!("key-{i:04}")).collect();
    for names in names.chunks(100) {
        join_all(names.iter().map(|name| stage.put(name, ""))).await;
    }
    assert_eq!(stage.keys().await.len(), 1000);
    assert_eq!(walk(&stage, "", "", 1000).await.0, names);
}
