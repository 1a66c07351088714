//! The operations: each takes what the protocol layer validated, does it with the engine, and answers.
//!
//! The order within each is: may the user, can it be so (cheap refusals, before a body is read), take in the bytes, draft, commit at the home
//! shard, answer.

mod bucket;
mod completion;
mod copy;
mod delete;
mod listing;
mod multipart;
mod put;
mod read;
mod upload_part;

use proto_s3::Operation;

use super::answer::Answer;
use super::body::Body;
use super::error::Outcome;
use super::exchange::Exchange;

/// Runs an operation.
pub(super) async fn run(x: &Exchange, operation: Operation, body: Body<'_>) -> Outcome<Answer> {
    match operation {
        Operation::ListBuckets(request) => bucket::list(x, &request),
        Operation::CreateBucket(request) => bucket::create(x, &request, body).await,
        Operation::HeadBucket(request) => bucket::head(x, &request),
        Operation::DeleteBucket(request) => bucket::delete(x, &request).await,
        Operation::GetBucketLocation(request) => bucket::location(x, &request),
        Operation::GetBucketDefault(request) => bucket::default(x, &request),
        Operation::ListObjects(request) => listing::objects(x, &request).await,
        Operation::ListObjectsV2(request) => listing::objects_v2(x, &request).await,
        Operation::ListMultipartUploads(request) => listing::uploads(x, &request).await,
        Operation::DeleteObjects(request) => delete::many(x, &request, body).await,
        Operation::PutObject(request) => put::run(x, request, body).await,
        Operation::GetObject(request) => read::get(x, &request).await,
        Operation::HeadObject(request) => read::head(x, &request).await,
        Operation::DeleteObject(request) => delete::one(x, &request).await,
        Operation::CopyObject(request) => copy::object(x, request).await,
        Operation::GetObjectAttributes(request) => read::attributes(x, &request).await,
        Operation::GetObjectDefault(request) => read::default(x, &request).await,
        Operation::CreateMultipartUpload(request) => multipart::create(x, request).await,
        Operation::UploadPart(request) => upload_part::run(x, &request, body).await,
        Operation::UploadPartCopy(request) => copy::part(x, &request).await,
        Operation::CompleteMultipartUpload(request) => multipart::complete(x, &request, body).await,
        Operation::AbortMultipartUpload(request) => multipart::abort(x, &request).await,
        Operation::ListParts(request) => multipart::list_parts(x, &request).await,
    }
}
