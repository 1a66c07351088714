//! From the head of a request to its operation.
//!
//! Everything that the head tells is parsed and validated here, so that a refusal comes before the body and before any
//! stored state is read. The query names a sub-resource, or none: `?uploads`, `?acl`, `?delete`. Sub-resources that AWS
//! knows and we do not are `NotImplemented`; other unknown parameters are ignored, as AWS does (SDKs send `x-id`).

use crate::http::{Method, RequestHead};
use crate::op::{self, CopySource, amz_headers};
use crate::operation::Operation;
use crate::query::Query;
use crate::sigv4::adopt_query_headers;
use crate::target::{self, Target};
use crate::uri;
use crate::{Code, Error, Limits};

/// What routing needs to know about the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteConfig {
    /// Domains in front of which the host may name a bucket: with `s3.example.com`, `b.s3.example.com` is bucket `b`.
    pub domains: Vec<String>,
    /// Whether names of buckets may have dots.
    pub allow_dots_in_bucket_names: bool,
    /// The limits of the node.
    pub limits: Limits,
    /// The account that owns all buckets, which `x-amz-expected-bucket-owner` is compared with. Without one, that header
    /// is not implemented.
    pub account_id: Option<String>,
}

/// Sub-resources of buckets that AWS knows.
const OF_BUCKETS: [&str; 35] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "resourcePolicy",
    "session",
    "tagging",
    "torrent",
    "uploads",
    "versioning",
    "versions",
    "website",
    "websiteConfiguration",
];

/// Sub-resources of objects that AWS knows.
const OF_OBJECTS: [&str; 15] = [
    "acl",
    "annotation",
    "annotations",
    "append",
    "attributes",
    "encryption",
    "legal-hold",
    "renameObject",
    "restore",
    "retention",
    "select",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
];

/// The operation that a request asks for.
///
/// Comes after authentication. Presigned `x-amz-*` parameters count as headers; whoever reads the head for other purposes
/// calls [`adopt_query_headers`] on it before, which makes no difference here.
pub fn route(head: &RequestHead, config: &RouteConfig) -> Result<Operation, Error> {
    let adopted = with_query_headers(head)?;
    let head = adopted.as_ref().unwrap_or(head);
    let query = Query::parse(&head.raw_query)?;
    let target = Target::from_head(head, config).map_err(|error| error.resource(&head.raw_path))?;
    operation(head, &query, target, config).map_err(|error| match Target::from_head(head, config) {
        Ok(target) => error.resource(target.resource()),
        Err(_) => error,
    })
}

/// The head with its presigned headers, when there may be any.
fn with_query_headers(head: &RequestHead) -> Result<Option<RequestHead>, Error> {
    let is_amz = |name: &str| name.get(..6).is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"));
    if !uri::query_pairs(&head.raw_query).any(|(name, _)| is_amz(name)) {
        return Ok(None);
    }
    let mut adopted = head.clone();
    adopt_query_headers(&mut adopted)?;
    Ok(Some(adopted))
}

fn operation(
    head: &RequestHead,
    query: &Query,
    target: Target,
    config: &RouteConfig,
) -> Result<Operation, Error> {
    amz_headers::check(head)?;
    check_expected_owner(head, config)?;
    match target {
        Target::Service => of_service(head, query, config),
        Target::Bucket(bucket) => of_bucket(head, query, bucket, config),
        Target::Object { bucket, key } => of_object(head, query, bucket, key, config),
    }
}

fn of_service(head: &RequestHead, query: &Query, config: &RouteConfig) -> Result<Operation, Error> {
    match head.method {
        Method::Get => {
            Ok(Operation::ListBuckets(op::list_buckets::Request::from_query(query, &config.limits)?))
        }
        method => Err(method_not_allowed(method, "SERVICE")),
    }
}

fn of_bucket(
    head: &RequestHead,
    query: &Query,
    bucket: String,
    config: &RouteConfig,
) -> Result<Operation, Error> {
    use Method::{Delete, Get, Head, Options, Post, Put};
    let limits = &config.limits;
    let sub_resource = sub_resource(query, &OF_BUCKETS)?;
    if let (Get, Some(kind)) = (head.method, sub_resource.and_then(op::get_bucket_default::Kind::of)) {
        return Ok(Operation::GetBucketDefault(op::get_bucket_default::Request { bucket, kind }));
    }
    Ok(match (head.method, sub_resource) {
        (Get, None) if query.has("list-type") => {
            Operation::ListObjectsV2(op::list_objects_v2::Request::from_query(query, bucket, limits)?)
        }
        (Get, None) => Operation::ListObjects(op::list_objects::Request::from_query(query, bucket, limits)?),
        (Get, Some("location")) => Operation::GetBucketLocation(op::get_bucket_location::Request { bucket }),
        (Get, Some("uploads")) => Operation::ListMultipartUploads(
            op::list_multipart_uploads::Request::from_query(query, bucket, limits)?,
        ),
        (Head, None) => Operation::HeadBucket(op::head_bucket::Request { bucket }),
        (Put, None) => Operation::CreateBucket(op::create_bucket::Request::from_head(head, bucket)?),
        (Delete, None) => Operation::DeleteBucket(op::delete_bucket::Request { bucket }),
        (Post, Some("delete")) => {
            Operation::DeleteObjects(op::delete_objects::Request::from_head(head, bucket)?)
        }
        (Post, None) => {
            return Err(not_implemented("Uploads by POST of an HTML form are not implemented".into()));
        }
        (Options, _) => return Err(no_cors()),
        (method, Some(name)) => return Err(sub_resource_not_implemented(method, name)),
    })
}

fn of_object(
    head: &RequestHead,
    query: &Query,
    bucket: String,
    key: String,
    config: &RouteConfig,
) -> Result<Operation, Error> {
    use Method::{Delete, Get, Head, Options, Post, Put};
    let limits = &config.limits;
    if let Some(version_id) = query.value("versionId") {
        target::check_version_id(version_id)?;
    }
    let sub_resource = sub_resource(query, &OF_OBJECTS)?;
    if let (Get, Some(kind)) = (head.method, sub_resource.and_then(op::get_object_default::Kind::of)) {
        return Ok(Operation::GetObjectDefault(op::get_object_default::Request { bucket, key, kind }));
    }
    Ok(match (head.method, sub_resource) {
        (Get, None) => {
            Operation::GetObject(op::get_object::Request::from_head(head, query, bucket, key, limits)?)
        }
        (Head, None) => {
            Operation::HeadObject(op::head_object::Request::from_head(head, query, bucket, key, limits)?)
        }
        (Get, Some("attributes")) => Operation::GetObjectAttributes(
            op::get_object_attributes::Request::from_head(head, bucket, key, limits)?,
        ),
        (Get, Some("uploadId")) => {
            let upload_id = upload_id(query)?;
            Operation::ListParts(op::list_parts::Request::from_query(query, bucket, key, upload_id, limits)?)
        }
        (Put, None | Some("uploadId")) => put(head, query, bucket, key, config)?,
        (Post, Some("uploads")) => Operation::CreateMultipartUpload(
            op::create_multipart_upload::Request::from_head(head, bucket, key, limits)?,
        ),
        (Post, Some("uploadId")) => Operation::CompleteMultipartUpload(
            op::complete_multipart_upload::Request::from_head(head, bucket, key, upload_id(query)?)?,
        ),
        (Delete, None) => Operation::DeleteObject(op::delete_object::Request::from_head(head, bucket, key)?),
        (Delete, Some("uploadId")) => {
            let upload_id = upload_id(query)?;
            Operation::AbortMultipartUpload(op::abort_multipart_upload::Request { bucket, key, upload_id })
        }
        (Post, None) => return Err(method_not_allowed(Post, "OBJECT")),
        (Options, _) => return Err(no_cors()),
        (method, Some(name)) => return Err(sub_resource_not_implemented(method, name)),
    })
}

/// PUT of an object or a part, from the body or from another object.
fn put(
    head: &RequestHead,
    query: &Query,
    bucket: String,
    key: String,
    config: &RouteConfig,
) -> Result<Operation, Error> {
    let limits = &config.limits;
    let is_part = query.has("uploadId") || query.has("partNumber");
    Ok(match (is_part, CopySource::is_in(head)) {
        (false, false) => {
            Operation::PutObject(op::put_object::Request::from_head(head, bucket, key, limits)?)
        }
        (false, true) => {
            Operation::CopyObject(op::copy_object::Request::from_head(head, bucket, key, config)?)
        }
        (true, false) => {
            Operation::UploadPart(op::upload_part::Request::from_head(head, query, bucket, key, limits)?)
        }
        (true, true) => Operation::UploadPartCopy(op::upload_part_copy::Request::from_head(
            head, query, bucket, key, config,
        )?),
    })
}

fn upload_id(query: &Query) -> Result<String, Error> {
    query.non_empty("uploadId").map(str::to_owned).ok_or_else(|| Error::new(Code::NoSuchUpload))
}

/// The one sub-resource that the query names; `InvalidArgument` for several.
fn sub_resource(query: &Query, known: &[&'static str]) -> Result<Option<&'static str>, Error> {
    let named: Vec<&'static str> = known.iter().copied().filter(|name| query.has(name)).collect();
    match named[..] {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        _ => Err(Error::invalid_argument(
            format!("Conflicting query string parameters: {}", named.join(", ")),
            "ResourceType",
            named[0],
        )),
    }
}

/// `AccessDenied` when the client expects another owner than there is.
fn check_expected_owner(head: &RequestHead, config: &RouteConfig) -> Result<(), Error> {
    for name in ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"] {
        match (head.header_bytes(name), &config.account_id) {
            (None, _) => {}
            (Some(expected), Some(account_id)) if expected == account_id.as_bytes() => {}
            (Some(_), Some(_)) => return Err(Error::new(Code::AccessDenied)),
            (Some(_), None) => return Err(Error::header_not_implemented(name)),
        }
    }
    Ok(())
}

fn not_implemented(message: String) -> Error {
    Error::with_message(Code::NotImplemented, message)
}

fn sub_resource_not_implemented(method: Method, name: &str) -> Error {
    not_implemented(format!("{} of the sub-resource {name} is not implemented", method.as_str()))
}

fn method_not_allowed(method: Method, resource_type: &'static str) -> Error {
    Error::new(Code::MethodNotAllowed).detail("Method", method.as_str()).detail("ResourceType", resource_type)
}

/// The answer to a preflight request without a CORS configuration.
fn no_cors() -> Error {
    Error::with_message(Code::AccessDenied, "CORSResponse: CORS is not enabled for this bucket.")
}

#[cfg(test)]
mod tests;
