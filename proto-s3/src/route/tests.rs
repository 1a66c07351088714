//! Every row of method and sub-resource, and what the head alone decides.

use proptest::prelude::*;

use super::*;
use crate::op::testing::{head, refused, routed};
use crate::operation::BodyKind;

/// What a row comes to: the name of the operation, or the code of the refusal.
fn answer(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<&'static str, Code> {
    routed(method, target, headers).map(|operation| operation.name()).map_err(|error| error.code)
}

const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"];
const MD5: (&str, &str) = ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
const SOURCE: (&str, &str) = ("x-amz-copy-source", "source/key");
const ATTRIBUTES: (&str, &str) = ("x-amz-object-attributes", "ETag");

#[test]
fn every_method_on_every_target_without_a_sub_resource() {
    use Code::{AccessDenied, MethodNotAllowed, NotImplemented};
    let no = Err(MethodNotAllowed);
    for (target, expected) in [
        ("/", [Ok("ListBuckets"), no, no, no, no, no]),
        (
            "/bucket",
            [
                Ok("ListObjects"),
                Ok("HeadBucket"),
                Ok("CreateBucket"),
                Err(NotImplemented),
                Ok("DeleteBucket"),
                Err(AccessDenied),
            ],
        ),
        (
            "/bucket/key",
            [Ok("GetObject"), Ok("HeadObject"), Ok("PutObject"), no, Ok("DeleteObject"), Err(AccessDenied)],
        ),
    ] {
        for (method, expected) in METHODS.into_iter().zip(expected) {
            assert_eq!(answer(method, target, &[]), expected, "{method} {target}");
        }
    }
}

#[test]
fn every_operation_with_a_sub_resource() {
    for (method, target, headers, expected) in [
        ("GET", "/bucket?list-type=2", &[][..], "ListObjectsV2"),
        ("GET", "/bucket?location", &[], "GetBucketLocation"),
        ("GET", "/bucket?uploads", &[], "ListMultipartUploads"),
        ("POST", "/bucket?delete", &[MD5], "DeleteObjects"),
        ("PUT", "/bucket/key", &[SOURCE], "CopyObject"),
        ("GET", "/bucket/key?attributes", &[ATTRIBUTES], "GetObjectAttributes"),
        ("GET", "/bucket/key?partNumber=1", &[], "GetObject"),
        ("HEAD", "/bucket/key?partNumber=1", &[], "HeadObject"),
        ("POST", "/bucket/key?uploads", &[], "CreateMultipartUpload"),
        ("PUT", "/bucket/key?partNumber=1&uploadId=u", &[], "UploadPart"),
        ("PUT", "/bucket/key?uploadId=u&partNumber=1", &[SOURCE], "UploadPartCopy"),
        ("POST", "/bucket/key?uploadId=u", &[], "CompleteMultipartUpload"),
        ("DELETE", "/bucket/key?uploadId=u", &[], "AbortMultipartUpload"),
        ("GET", "/bucket/key?uploadId=u", &[], "ListParts"),
    ] {
        assert_eq!(answer(method, target, headers), Ok(expected), "{method} {target}");
    }
}

/// The rows of the test above that are operations, as method and sub-resource.
fn is_operation_of_bucket(method: &str, name: &str) -> Option<&'static str> {
    match (method, name) {
        ("GET", "location") => Some("GetBucketLocation"),
        ("GET", "uploads") => Some("ListMultipartUploads"),
        ("POST", "delete") => Some("DeleteObjects"),
        ("GET", name) if op::get_bucket_default::Kind::ALL.iter().any(|(_, known)| *known == name) => {
            Some("GetBucketDefault")
        }
        _ => None,
    }
}

#[test]
fn every_other_sub_resource_of_a_bucket_is_not_implemented_and_named() {
    for name in OF_BUCKETS {
        for method in METHODS.into_iter().filter(|method| *method != "OPTIONS") {
            let target = format!("/bucket?{name}");
            match is_operation_of_bucket(method, name) {
                Some(operation) => {
                    assert_eq!(answer(method, &target, &[MD5]), Ok(operation), "{method} {target}")
                }
                None => {
                    let error = routed(method, &target, &[]).unwrap_err();
                    assert_eq!(error.code, Code::NotImplemented, "{method} {target}");
                    assert!(
                        error.message.contains(name) && error.message.contains(method),
                        "{}",
                        error.message
                    );
                }
            }
        }
        assert_eq!(refused("OPTIONS", &format!("/bucket?{name}"), &[]), Code::AccessDenied);
    }
}

fn is_operation_of_object(method: &str, name: &str) -> Option<&'static str> {
    match (method, name) {
        ("GET", "acl" | "legal-hold" | "retention" | "tagging") => Some("GetObjectDefault"),
        ("GET", "attributes") => Some("GetObjectAttributes"),
        ("POST", "uploads") => Some("CreateMultipartUpload"),
        ("GET", "uploadId") => Some("ListParts"),
        ("PUT", "uploadId") => Some("UploadPart"),
        ("POST", "uploadId") => Some("CompleteMultipartUpload"),
        ("DELETE", "uploadId") => Some("AbortMultipartUpload"),
        _ => None,
    }
}

#[test]
fn every_other_sub_resource_of_an_object_is_not_implemented_and_named() {
    for name in OF_OBJECTS {
        for method in METHODS.into_iter().filter(|method| *method != "OPTIONS") {
            let target = format!("/bucket/key?{name}=u&partNumber=1");
            match is_operation_of_object(method, name) {
                Some(operation) => {
                    assert_eq!(answer(method, &target, &[ATTRIBUTES]), Ok(operation), "{method} {target}");
                }
                None => {
                    let error = routed(method, &target, &[]).unwrap_err();
                    assert_eq!(error.code, Code::NotImplemented, "{method} {target}");
                    assert!(
                        error.message.contains(name) && error.message.contains(method),
                        "{}",
                        error.message
                    );
                }
            }
        }
    }
}

#[test]
fn two_sub_resources_conflict() {
    for (method, target) in [
        ("GET", "/bucket?acl&policy"),
        ("GET", "/bucket/key?tagging&acl"),
        ("POST", "/bucket/key?uploads&uploadId=u"),
        ("PUT", "/bucket/key?uploadId=u&partNumber=1&tagging"),
    ] {
        let error = routed(method, target, &[]).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{method} {target}");
        assert!(error.message.starts_with("Conflicting query string parameters: "), "{}", error.message);
    }
}

#[test]
fn unknown_parameters_and_those_of_the_signature_do_not_matter() {
    let presigned = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2Fb&X-Amz-Date=20130524T000000Z\
                     &X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Security-Token=t\
                     &X-Amz-Content-Sha256=UNSIGNED-PAYLOAD";
    assert_eq!(answer("GET", &format!("/bucket/key?{presigned}"), &[]), Ok("GetObject"));
    assert_eq!(answer("PUT", "/bucket/key?x-id=PutObject&whatever=1", &[]), Ok("PutObject"));
    assert_eq!(answer("GET", "/?x-id=ListBuckets", &[]), Ok("ListBuckets"));
}

#[test]
fn sub_resources_of_objects_are_nothing_to_buckets_and_the_other_way_round() {
    assert_eq!(answer("GET", "/bucket?uploadId=u", &[]), Ok("ListObjects"));
    assert_eq!(answer("GET", "/bucket/key?location", &[]), Ok("GetObject"));
}

#[test]
fn presigned_headers_count() {
    let target = |query: &str| format!("/bucket/key?X-Amz-Signature=0&{query}");
    assert_eq!(refused("PUT", &target("x-amz-acl=public-read"), &[]), Code::NotImplemented);
    let Ok(Operation::PutObject(request)) = routed("PUT", &target("x-amz-meta-a=b%20c"), &[]) else {
        panic!("a PutObject")
    };
    assert_eq!(request.headers.value("x-amz-meta-a"), Some(&b"b c"[..]));
    assert_eq!(answer("PUT", &target("x-amz-copy-source=source%2Fkey"), &[]), Ok("CopyObject"));
}

#[test]
fn an_upload_without_an_id_is_none() {
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(refused(method, "/bucket/key?uploadId=", &[]), Code::NoSuchUpload, "{method}");
    }
}

#[test]
fn only_the_null_version_exists() {
    for method in ["GET", "HEAD", "DELETE"] {
        assert!(routed(method, "/bucket/key?versionId=null", &[]).is_ok());
        assert_eq!(refused(method, "/bucket/key?versionId=x", &[]), Code::NoSuchVersion);
    }
}

#[test]
fn the_expected_owner_has_to_be_the_owner() {
    let answer = |account_id: Option<&str>, name: &str| {
        let config = RouteConfig { account_id: account_id.map(str::to_owned), ..RouteConfig::default() };
        route(&head("GET", "/bucket", &[(name, "111122223333")]), &config)
            .map(drop)
            .map_err(|error| error.code)
    };
    for name in ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"] {
        assert_eq!(answer(Some("111122223333"), name), Ok(()));
        assert_eq!(answer(Some("444455556666"), name), Err(Code::AccessDenied));
        assert_eq!(answer(None, name), Err(Code::NotImplemented));
    }
}

#[test]
fn a_refusal_names_what_it_is_about() {
    let error = routed("GET", "/bucket/a%20b?versionId=x", &[]).unwrap_err();
    assert_eq!(error.resource.as_deref(), Some("/bucket/a b"));
    let error = routed("GET", "/No/a%20b", &[]).unwrap_err();
    assert_eq!(error.resource.as_deref(), Some("/No/a%20b"));
}

#[test]
fn bodies_are_data_documents_or_nothing() {
    let limits = Limits::default();
    let kind = |method, target: &str, headers: &[(&str, &str)]| {
        routed(method, target, headers).unwrap().body_kind(&limits)
    };
    let list = BodyKind::Document { len_max: limits.xml_list_len_max };
    assert_eq!(kind("PUT", "/bucket/key", &[]), BodyKind::Data);
    assert_eq!(kind("PUT", "/bucket/key?partNumber=1&uploadId=u", &[]), BodyKind::Data);
    assert_eq!(kind("PUT", "/bucket", &[]), BodyKind::Document { len_max: limits.xml_len_max });
    assert_eq!(kind("POST", "/bucket?delete", &[MD5]), list);
    assert_eq!(kind("POST", "/bucket/key?uploadId=u", &[]), list);
    assert_eq!(kind("PUT", "/bucket/key", &[SOURCE]), BodyKind::None);
    assert_eq!(kind("POST", "/bucket/key?uploads", &[]), BodyKind::None);
    assert_eq!(kind("GET", "/bucket/key", &[]), BodyKind::None);
}

#[test]
fn the_digest_of_a_body_is_stated_by_the_head_of_its_operation() {
    let stated = |method, target: &str| {
        routed(method, target, &[MD5]).unwrap().body_checksum().is_some_and(|c| c.is_stated())
    };
    assert!(stated("PUT", "/bucket/key"));
    assert!(stated("PUT", "/bucket/key?partNumber=1&uploadId=u"));
    assert!(stated("PUT", "/bucket"));
    assert!(stated("POST", "/bucket?delete"));
    assert!(stated("POST", "/bucket/key?uploadId=u"));
    assert!(!stated("GET", "/bucket/key"));
}

proptest! {
    #[test]
    fn no_head_panics(
        method in prop::sample::select(METHODS.to_vec()),
        path in "(/|bucket|key|%[0-9a-fA-F]{0,2}|\\PC){0,8}",
        query in "((uploads|uploadId|partNumber|delete|list-type|max-keys|continuation-token|marker|x-amz-acl|versionId\
                  |response-expires|attributes)(=[%0-9a-z+é-]{0,4})?&?){0,4}",
        headers in prop::collection::vec((any_header(), prop::collection::vec(any::<u8>(), 0..24)), 0..4),
    ) {
        let mut head = head(method, "/", &[]);
        (head.raw_path, head.raw_query) = (format!("/{path}"), query);
        head.headers.extend(headers.into_iter().map(|(name, value)| (name.to_owned(), value)));
        if let Err(error) = route(&head, &RouteConfig::default()) {
            prop_assert!(error.status() < 500 || error.code == Code::NotImplemented, "{error}");
        }
    }
}

/// The headers whose values are parsed.
fn any_header() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "range",
        "if-match",
        "if-none-match",
        "if-range",
        "if-modified-since",
        "content-encoding",
        "content-md5",
        "x-amz-copy-source",
        "x-amz-copy-source-range",
        "x-amz-copy-source-if-unmodified-since",
        "x-amz-checksum-sha256",
        "x-amz-checksum-type",
        "x-amz-mp-object-size",
        "x-amz-object-attributes",
        "x-amz-max-parts",
        "x-amz-meta-é",
    ])
}
