//! The operations on buckets themselves.

use engine::Error as EngineError;
use engine::format::catalog::{Bucket, CatalogChange};
use engine::ids::ShardId;
use proto_s3::op::{
    create_bucket, delete_bucket, get_bucket_default, get_bucket_location, head_bucket, list_buckets,
};
use proto_s3::{Code, Error};

use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::error::Outcome;
use crate::s3::exchange::Exchange;
use crate::s3::object_meta;

/// The shard that the catalog belongs to.
const CATALOG_SHARD: ShardId = ShardId(0);

/// The region in which creating a bucket again succeeds, as in AWS.
const LENIENT_REGION: &str = "us-east-1";

/// Lists the user's buckets.
pub(super) fn list(x: &Exchange, request: &list_buckets::Request) -> Outcome<Answer> {
    let region = &x.service.config.region;
    let is_wanted = |bucket: &&std::sync::Arc<Bucket>| {
        bucket.owner == x.user.id
            && request.prefix.as_ref().is_none_or(|prefix| bucket.name.starts_with(prefix))
            && request.after.as_ref().is_none_or(|after| bucket.name > *after)
            && request.region.as_ref().is_none_or(|wanted| wanted == region)
    };
    let max = request.max_buckets as usize;
    let mut buckets: Vec<_> = x.catalog.buckets.values().filter(is_wanted).take(max + 1).map(shown).collect();
    let is_truncated = buckets.len() > max;
    buckets.truncate(max);
    let page = list_buckets::Page { buckets, is_truncated };
    Ok(list_buckets::render(request, &page, &x.owner(), region).into())
}

fn shown(bucket: &std::sync::Arc<Bucket>) -> list_buckets::Bucket {
    list_buckets::Bucket { name: bucket.name.clone(), created_ms: object_meta::millis(bucket.created) }
}

/// Makes a bucket. Answered when every core knows it.
pub(super) async fn create(
    x: &Exchange,
    request: &create_bucket::Request,
    body: Body<'_>,
) -> Outcome<Answer> {
    let document = body.into_document(&x.service, &request.checksum).await?;
    let document = create_bucket::parse_document(&document, x.limits())?;
    let region = &x.service.config.region;
    document.check_region(region)?;
    if let Some(existing) = x.catalog.buckets.get(&request.bucket) {
        return exists_already(x, request, existing);
    }
    let owned_count = x.catalog.buckets.values().filter(|bucket| bucket.owner == x.user.id).count();
    if owned_count >= x.limits().buckets_max {
        return Err(Code::TooManyBuckets.into());
    }
    let location = document.location_constraint.unwrap_or_default();
    let (name, namespace, owner, now) = (request.bucket.clone(), x.user.namespace, x.user.id, x.now);
    let made = x
        .on_shard(CATALOG_SHARD, move |shard| async move {
            shard.create_bucket(&name, namespace, owner, &location, now).await
        })
        .await?;
    match made {
        Ok(catalog) => x.publish(catalog).await?,
        Err(EngineError::AlreadyExists) => return made_meanwhile(x, request).await,
        Err(error) => return Err(error.into()),
    }
    Ok(create_bucket::render(request).into())
}

/// Somebody else made it since this request began, or is about to.
async fn made_meanwhile(x: &Exchange, request: &create_bucket::Request) -> Outcome<Answer> {
    let catalog = x.on_shard(CATALOG_SHARD, |shard| async move { shard.catalog() }).await?;
    let Some(existing) = catalog.buckets.get(&request.bucket).cloned() else {
        return Err(Code::OperationAborted.into());
    };
    x.publish(catalog).await?;
    exists_already(x, request, &existing)
}

fn exists_already(x: &Exchange, request: &create_bucket::Request, existing: &Bucket) -> Outcome<Answer> {
    let code = match existing.owner == x.user.id {
        true if x.service.config.region == LENIENT_REGION => return Ok(create_bucket::render(request).into()),
        true => Code::BucketAlreadyOwnedByYou,
        false => Code::BucketAlreadyExists,
    };
    Err(Error::new(code).detail("BucketName", request.bucket.clone()).into())
}

/// Tells whether a bucket exists.
pub(super) fn head(x: &Exchange, request: &head_bucket::Request) -> Outcome<Answer> {
    x.bucket(&request.bucket)?;
    Ok(head_bucket::render(&x.service.config.region).into())
}

/// Removes an empty bucket. Answered when every core has forgotten it.
pub(super) async fn delete(x: &Exchange, request: &delete_bucket::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let id = bucket.id;
    x.at_home(&bucket, move |shard| async move { shard.close_bucket_if_empty(id).await }).await?.map_err(
        |error| match error {
            EngineError::BucketNotEmpty => {
                Error::new(Code::BucketNotEmpty).detail("BucketName", request.bucket.clone()).into()
            }
            other => crate::s3::error::Refusal::from(other),
        },
    )?;
    let removed = x
        .on_shard(CATALOG_SHARD, move |shard| async move {
            shard.change_catalog(vec![CatalogChange::RemoveBucket(id)]).await
        })
        .await;
    let catalog = match removed {
        Ok(Ok(catalog)) => catalog,
        failed => {
            x.on_shard(bucket.home, move |shard| async move { shard.reopen_bucket(id) }).await?;
            failed??
        }
    };
    x.publish(catalog).await?;
    x.on_shard(bucket.home, move |shard| async move { shard.drop_bucket(id) }).await?;
    Ok(delete_bucket::render().into())
}

/// Tells where a bucket is: where this node is.
pub(super) fn location(x: &Exchange, request: &get_bucket_location::Request) -> Outcome<Answer> {
    x.bucket(&request.bucket)?;
    Ok(get_bucket_location::render(&x.service.config.region).into())
}

/// Answers what is the same for every bucket.
pub(super) fn default(x: &Exchange, request: &get_bucket_default::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    Ok(get_bucket_default::render(request, &x.owner(), x.encryption(&bucket))?.into())
}
