//! DeleteObject and DeleteObjects.

use engine::Error as EngineError;
use engine::format::catalog::Bucket;
use engine::ids::VersionId;
use futures_util::future::join_all;
use proto_s3::Error;
use proto_s3::op::delete_objects::{Document, Object, parse_document};
use proto_s3::op::{delete_object, delete_objects};

use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::error::{Outcome, Refusal};
use crate::s3::exchange::Exchange;
use crate::s3::object_meta;

/// Removes an object, if there is one.
pub(super) async fn one(x: &Exchange, request: &delete_object::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let draft = draft(x, &bucket, &request.key)?;
    let precondition = object_meta::precondition(request.condition);
    let _committing = x.leave.commit();
    x.at_home(&bucket, move |shard| async move { shard.delete(draft, precondition).await })
        .await?
        .map_err(|error| Refusal::of_write(error, request.condition, &request.key))?;
    Ok(delete_object::render().into())
}

/// Removes many objects; each succeeds or fails by itself.
pub(super) async fn many(x: &Exchange, request: &delete_objects::Request, body: Body<'_>) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let document = body.into_document(&x.service, &request.checksum).await?;
    let document = parse_document(&document, x.limits())?;
    let outcomes = delete_all(x, &bucket, &document).await?;
    Ok(delete_objects::render(&document, &outcomes).into())
}

/// What becomes of each object, in order. All go to the home shard at once, so that they share its flushes.
async fn delete_all(x: &Exchange, bucket: &Bucket, document: &Document) -> Outcome<Vec<Result<(), Error>>> {
    let mut drafts = Vec::with_capacity(document.objects.len());
    for object in document.objects.iter().filter(|object| object.refusal.is_none()) {
        drafts.push((draft(x, bucket, &object.key)?, object_meta::precondition(object.condition)));
    }
    let results = x
        .at_home(bucket, move |shard| async move {
            let delete = |(draft, precondition)| shard.delete(draft, precondition);
            Ok(join_all(drafts.into_iter().map(delete)).await)
        })
        .await??;
    let mut results = results.into_iter();
    let outcome = |object: &Object| match &object.refusal {
        Some(refusal) => Err(refusal.clone()),
        None => {
            results.next().expect("one result per draft").map(|_| ()).map_err(|error| refuse(error, object))
        }
    };
    Ok(document.objects.iter().map(outcome).collect())
}

fn draft(x: &Exchange, bucket: &Bucket, key: &str) -> Outcome<engine::Draft> {
    let sealing = x.sealing(bucket)?;
    Ok(x.service.core().draft_tombstone(&sealing, bucket.id, key.as_bytes(), VersionId::Null, x.now)?)
}

fn refuse(error: EngineError, object: &Object) -> Error {
    let refusal = Refusal::of_write(error, object.condition, &object.key);
    if refusal.error.status() >= 500 {
        // The request as a whole succeeds, so that nobody else logs this.
        tracing::error!(key = object.key, %error, "an object of DeleteObjects could not be deleted");
    }
    refusal.error
}
