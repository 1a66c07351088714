//! Every operation that a node can be asked to do, with its request.
//!
//! The enum is exhaustive on purpose: whoever dispatches on it learns from the compiler when there is a new one.

use crate::Limits;
use crate::checksum::ChecksumRequest;
use crate::op;

/// Declares the enum and what follows from its list of variants.
macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident($module:ident),)*) => {
        /// An operation and its validated request.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Operation {
            $($(#[$doc])* $variant(op::$module::Request),)*
        }

        impl Operation {
            /// The names of all of them.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($variant),)*];

            /// The name that AWS gives it, for logs and metrics.
            pub fn name(&self) -> &'static str {
                match self { $(Operation::$variant(_) => stringify!($variant),)* }
            }
        }
    };
}

operations! {
    /// `GET /`
    ListBuckets(list_buckets),
    /// `PUT /bucket`
    CreateBucket(create_bucket),
    /// `HEAD /bucket`
    HeadBucket(head_bucket),
    /// `DELETE /bucket`
    DeleteBucket(delete_bucket),
    /// `GET /bucket?location`
    GetBucketLocation(get_bucket_location),
    /// `GET /bucket?versioning` and other configurations that are always the default
    GetBucketDefault(get_bucket_default),
    /// `GET /bucket`
    ListObjects(list_objects),
    /// `GET /bucket?list-type=2`
    ListObjectsV2(list_objects_v2),
    /// `GET /bucket?uploads`
    ListMultipartUploads(list_multipart_uploads),
    /// `POST /bucket?delete`
    DeleteObjects(delete_objects),
    /// `PUT /bucket/key`
    PutObject(put_object),
    /// `GET /bucket/key`
    GetObject(get_object),
    /// `HEAD /bucket/key`
    HeadObject(head_object),
    /// `DELETE /bucket/key`
    DeleteObject(delete_object),
    /// `PUT /bucket/key` with `x-amz-copy-source`
    CopyObject(copy_object),
    /// `GET /bucket/key?attributes`
    GetObjectAttributes(get_object_attributes),
    /// `GET /bucket/key?tagging` and others that are always the default
    GetObjectDefault(get_object_default),
    /// `POST /bucket/key?uploads`
    CreateMultipartUpload(create_multipart_upload),
    /// `PUT /bucket/key?partNumber=&uploadId=`
    UploadPart(upload_part),
    /// `PUT /bucket/key?partNumber=&uploadId=` with `x-amz-copy-source`
    UploadPartCopy(upload_part_copy),
    /// `POST /bucket/key?uploadId=`
    CompleteMultipartUpload(complete_multipart_upload),
    /// `DELETE /bucket/key?uploadId=`
    AbortMultipartUpload(abort_multipart_upload),
    /// `GET /bucket/key?uploadId=`
    ListParts(list_parts),
}

/// What the body of a request is to its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// Nothing: what comes is read and dropped.
    None,
    /// A document that is collected before the operation begins.
    Document {
        /// Longest document in bytes; a longer one is refused.
        len_max: usize,
    },
    /// Object data, streamed.
    Data,
}

impl Operation {
    /// What its body is.
    pub fn body_kind(&self, limits: &Limits) -> BodyKind {
        match self {
            Operation::PutObject(_) | Operation::UploadPart(_) => BodyKind::Data,
            Operation::CreateBucket(_) => BodyKind::Document { len_max: limits.xml_len_max },
            Operation::DeleteObjects(_) | Operation::CompleteMultipartUpload(_) => {
                BodyKind::Document { len_max: limits.xml_list_len_max }
            }
            Operation::ListBuckets(_)
            | Operation::HeadBucket(_)
            | Operation::DeleteBucket(_)
            | Operation::GetBucketLocation(_)
            | Operation::GetBucketDefault(_)
            | Operation::ListObjects(_)
            | Operation::ListObjectsV2(_)
            | Operation::ListMultipartUploads(_)
            | Operation::GetObject(_)
            | Operation::HeadObject(_)
            | Operation::DeleteObject(_)
            | Operation::CopyObject(_)
            | Operation::GetObjectAttributes(_)
            | Operation::GetObjectDefault(_)
            | Operation::CreateMultipartUpload(_)
            | Operation::UploadPartCopy(_)
            | Operation::AbortMultipartUpload(_)
            | Operation::ListParts(_) => BodyKind::None,
        }
    }

    /// The bucket that it is about.
    pub fn bucket(&self) -> Option<&str> {
        Some(match self {
            Operation::ListBuckets(_) => return None,
            Operation::CreateBucket(request) => &request.bucket,
            Operation::HeadBucket(request) => &request.bucket,
            Operation::DeleteBucket(request) => &request.bucket,
            Operation::GetBucketLocation(request) => &request.bucket,
            Operation::GetBucketDefault(request) => &request.bucket,
            Operation::ListObjects(request) => &request.bucket,
            Operation::ListObjectsV2(request) => &request.bucket,
            Operation::ListMultipartUploads(request) => &request.bucket,
            Operation::DeleteObjects(request) => &request.bucket,
            Operation::PutObject(request) => &request.bucket,
            Operation::GetObject(request) => &request.bucket,
            Operation::HeadObject(request) => &request.bucket,
            Operation::DeleteObject(request) => &request.bucket,
            Operation::CopyObject(request) => &request.bucket,
            Operation::GetObjectAttributes(request) => &request.bucket,
            Operation::GetObjectDefault(request) => &request.bucket,
            Operation::CreateMultipartUpload(request) => &request.bucket,
            Operation::UploadPart(request) => &request.bucket,
            Operation::UploadPartCopy(request) => &request.bucket,
            Operation::CompleteMultipartUpload(request) => &request.bucket,
            Operation::AbortMultipartUpload(request) => &request.bucket,
            Operation::ListParts(request) => &request.bucket,
        })
    }

    /// What the head states about the digest of the body, for operations that have one.
    pub fn body_checksum(&self) -> Option<&ChecksumRequest> {
        match self {
            Operation::PutObject(request) => Some(&request.checksum),
            Operation::UploadPart(request) => Some(&request.checksum),
            Operation::CreateBucket(request) => Some(&request.checksum),
            Operation::DeleteObjects(request) => Some(&request.checksum),
            Operation::CompleteMultipartUpload(request) => Some(&request.document_checksum),
            _ => None,
        }
    }
}
