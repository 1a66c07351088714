//! Hosts, paths, names of buckets and keys.

use super::*;
use crate::http::Method;

fn head(host: &str, path: &str) -> RequestHead {
    RequestHead {
        method: Method::Get,
        raw_path: path.into(),
        raw_query: String::new(),
        minor_version: 1,
        headers: [("host", host)].into_iter().collect(),
    }
}

fn config() -> RouteConfig {
    RouteConfig { domains: vec!["s3.example.com".into(), "localhost".into()], ..RouteConfig::default() }
}

fn target(host: &str, path: &str) -> Result<Target, Code> {
    Target::from_head(&head(host, path), &config()).map_err(|error| error.code)
}

fn bucket(name: &str) -> Result<Target, Code> {
    Ok(Target::Bucket(name.into()))
}

fn object(bucket: &str, key: &str) -> Result<Target, Code> {
    Ok(Target::Object { bucket: bucket.into(), key: key.into() })
}

#[test]
fn path_style_names_the_bucket_first() {
    assert_eq!(target("127.0.0.1:9000", "/"), Ok(Target::Service));
    assert_eq!(target("127.0.0.1:9000", "/bucket"), bucket("bucket"));
    assert_eq!(target("127.0.0.1:9000", "/bucket/"), bucket("bucket"));
    assert_eq!(target("127.0.0.1:9000", "/bucket/a/b"), object("bucket", "a/b"));
    assert_eq!(target("s3.example.com", "/bucket/k"), object("bucket", "k"));
    assert_eq!(target("localhost:9000", "/bucket/k"), object("bucket", "k"));
    assert_eq!(target("[::1]:9000", "/bucket/k"), object("bucket", "k"));
}

#[test]
fn virtual_hosted_style_names_the_bucket_in_the_host() {
    assert_eq!(target("bucket.s3.example.com", "/"), bucket("bucket"));
    assert_eq!(target("bucket.s3.example.com:9000", "/a/b"), object("bucket", "a/b"));
    assert_eq!(target("BUCKET.S3.Example.Com", "/k"), object("bucket", "k"));
    assert_eq!(target("bucket.localhost:9000", "/bucket/k"), object("bucket", "bucket/k"));
    assert_eq!(target("a.b.s3.example.com", "/"), Err(Code::InvalidBucketName));
}

#[test]
fn a_host_that_only_ends_like_a_domain_is_path_style() {
    assert_eq!(target("evils3.example.com", "/bucket"), bucket("bucket"));
    assert_eq!(target(".s3.example.com", "/bucket"), bucket("bucket"));
    assert_eq!(target("", "/bucket"), bucket("bucket"));
}

#[test]
fn keys_that_differ_in_slashes_and_dots_are_different_keys() {
    for key in ["a", "a/", "a//b", "/a", "//", "a/./b", "a/../b", ".", "..", "a+b"] {
        assert_eq!(target("h", &format!("/bucket/{key}")), object("bucket", key));
    }
}

#[test]
fn keys_are_decoded_once() {
    assert_eq!(target("h", "/bucket/a%20b%2Fc%3Fd"), object("bucket", "a b/c?d"));
    assert_eq!(target("h", "/bucket/%2541"), object("bucket", "%41"));
    assert_eq!(target("h", "/bucket/%00%01%C3%A9"), object("bucket", "\0\u{1}é"));
    assert_eq!(target("h", "/buck%65t/k"), object("bucket", "k"));
}

#[test]
fn paths_that_are_not_percent_encoded_utf8_are_refused() {
    for path in ["/bucket/%", "/bucket/%zz", "/bucket/%ff", "/bucket/%C3", "/%ff/k"] {
        assert_eq!(target("h", path), Err(Code::InvalidURI), "{path}");
    }
}

#[test]
fn a_key_has_up_to_1024_bytes() {
    let longest = "é".repeat(512);
    let encoded = "%C3%A9".repeat(512);
    assert_eq!(target("h", &format!("/bucket/{encoded}")), object("bucket", &longest));
    assert_eq!(target("h", &format!("/bucket/{encoded}a")), Err(Code::KeyTooLongError));
}

#[test]
fn names_of_buckets() {
    let longest = "b".repeat(63);
    for name in ["abc", "a-b", "0a0", "a--b", "123", &longest] {
        assert!(check_bucket_name(name, false).is_ok(), "{name}");
        assert!(check_bucket_name(name, true).is_ok(), "{name}");
    }
    let too_long = "b".repeat(64);
    for name in ["", "ab", "Abc", "-ab", "ab-", "a_b", "a b", "aé", "a/b", "a.b\0", &too_long] {
        assert_eq!(check_bucket_name(name, false).unwrap_err().code, Code::InvalidBucketName, "{name}");
        assert_eq!(check_bucket_name(name, true).unwrap_err().code, Code::InvalidBucketName, "{name}");
    }
}

#[test]
fn dots_are_allowed_only_when_configured() {
    for name in ["a.b", "my.bucket", "1.2.3", "a.b.c.d", "1.2.3.x"] {
        assert!(check_bucket_name(name, false).is_err(), "{name}");
        assert!(check_bucket_name(name, true).is_ok(), "{name}");
    }
    for name in [".ab", "ab.", "a..b", "a.-b", "a-.b", "192.168.5.4", "1.2.3.4"] {
        assert!(check_bucket_name(name, true).is_err(), "{name}");
    }
}

#[test]
fn a_refusal_names_bucket_or_sizes() {
    let error = check_bucket_name("No", false).unwrap_err();
    assert_eq!(error.details, [("BucketName", "No".to_string())]);
    let error = check_key(&"k".repeat(1025), &Limits::default()).unwrap_err();
    assert_eq!(error.details, [("Size", "1025".to_string()), ("MaxSizeAllowed", "1024".to_string())]);
}
