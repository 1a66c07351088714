//! The life of a multipart upload: create, complete, abort, list its parts.

use engine::format::body::{UploadBody, VersionMeta};
use engine::format::catalog::Bucket;
use engine::ids::UploadId;
use engine::{Content, Error as EngineError, NewVersion, UploadView};
use proto_s3::op::complete_multipart_upload::{Part, parse_document};
use proto_s3::op::{
    ObjectChecksum, Owner, abort_multipart_upload, complete_multipart_upload, create_multipart_upload,
    list_parts,
};
use proto_s3::{ChecksumType, Code, ETag};

use super::completion::{self, Completion};
use super::upload_part::checksum_of;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::error::{Outcome, Refusal, no_such_upload};
use crate::s3::exchange::{self, Exchange};
use crate::s3::object_meta::{self, CLASS_STANDARD};

/// Attempts to complete an upload whose parts are replaced meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// Begins an upload.
pub(super) async fn create(x: &Exchange, request: create_multipart_upload::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let upload_id = x.service.core().new_upload_id(x.now);
    let response = create_multipart_upload::render(&request, &upload_id.to_string(), x.encryption(&bucket));
    let (checksum_algorithm, checksum_kind) = object_meta::upload_checksum_codes(request.checksum);
    let upload = UploadBody {
        upload_id,
        key: request.key.into_bytes(),
        initiated: x.now,
        owner: x.user.id,
        class: CLASS_STANDARD,
        checksum_algorithm,
        checksum_kind,
        pairs: object_meta::pairs(request.headers),
    };
    let draft = x.service.core().draft_upload(&x.sealing(&bucket)?, bucket.id, upload)?;
    x.store_at_home(&bucket, draft, async |shard, draft| shard.create_upload(draft).await).await??;
    Ok(response.into())
}

/// Makes an object of the listed parts. A repeat of a completion that succeeded succeeds.
pub(super) async fn complete(
    x: &Exchange,
    request: &complete_multipart_upload::Request,
    body: Body<'_>,
) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let id = exchange::upload_id(&request.upload_id)?;
    let document = body.into_document(&x.service, &request.document_checksum).await?;
    let listed = parse_document(&document, x.limits())?;
    for _ in 0..ATTEMPTS_MAX {
        let view = match view(x, &bucket, &request.key, id).await? {
            Err(EngineError::UploadNotFound) => return repeat(x, request, &bucket, id).await,
            other => other?,
        };
        match attempt(x, request, &bucket, &listed, view).await? {
            Ok((etag, checksum)) => return Ok(completed(x, request, &bucket, etag, checksum)),
            // A part was uploaded again: look again.
            Err(EngineError::Conflict) => {}
            Err(EngineError::UploadNotFound) => return repeat(x, request, &bucket, id).await,
            Err(error) => return Err(Refusal::of_write(error, request.condition, &request.key)),
        }
    }
    Err(Code::OperationAborted.into())
}

async fn view(x: &Exchange, bucket: &Bucket, key: &str, id: UploadId) -> Outcome<engine::Result<UploadView>> {
    let (bucket_id, key) = (bucket.id, key.as_bytes().to_vec());
    x.at_home(bucket, move |shard| async move { shard.upload(bucket_id, &key, id).await }).await
}

/// Commits what the parts come to, if they are still those that were looked at.
async fn attempt(
    x: &Exchange,
    request: &complete_multipart_upload::Request,
    bucket: &Bucket,
    listed: &[Part],
    view: UploadView,
) -> Outcome<engine::Result<(ETag, Option<ObjectChecksum>)>> {
    let upload_checksum = checksum_of(&view.upload);
    let Completion { chosen, parts, pieces, etag, checksum } =
        completion::choose(request, listed, upload_checksum, &view.parts, x.limits())?;
    let content = if pieces.is_empty() {
        Content::Inline(Vec::new())
    } else {
        Content::Frames { pieces, pins: view.pins }
    };
    let checksum_type = checksum.map_or(ChecksumType::FullObject, |checksum| checksum.checksum_type);
    let meta = VersionMeta {
        etag: object_meta::stored_etag(etag),
        modified: x.service.now_ms(),
        owner: x.user.id,
        class: view.upload.class,
        upload_id: view.upload.upload_id,
        checksum: object_meta::stored_checksum(checksum.map(|checksum| checksum.checksum), checksum_type),
        pairs: view.upload.pairs,
        parts,
        ..VersionMeta::default()
    };
    let new = NewVersion { bucket: bucket.id, key: view.upload.key, meta };
    let sealing = x.sealing(bucket)?;
    let draft = x.seal(|core| core.draft_version(&sealing, new, content))?;
    let precondition = object_meta::precondition(request.condition);
    let done = x
        .at_home(
            bucket,
            move |shard| async move { shard.complete_upload(draft, &chosen, precondition).await },
        )
        .await?;
    Ok(done.map(|_| (etag, checksum)))
}

/// The upload is over. When the key's object came from it, the client has not heard our answer, and asks again.
async fn repeat(
    x: &Exchange,
    request: &complete_multipart_upload::Request,
    bucket: &Bucket,
    id: UploadId,
) -> Outcome<Answer> {
    match x.object(bucket, &request.key).await {
        Ok(stored) if stored.meta().upload_id == id => {
            Ok(completed(x, request, bucket, stored.etag(), stored.checksum))
        }
        Err(refusal) if refusal.error.code != Code::NoSuchKey => Err(refusal),
        _ => Err(no_such_upload(&request.upload_id).into()),
    }
}

fn completed(
    x: &Exchange,
    request: &complete_multipart_upload::Request,
    bucket: &Bucket,
    etag: ETag,
    checksum: Option<ObjectChecksum>,
) -> Answer {
    let scheme = if x.is_tls { "https" } else { "http" };
    let host = x.head.header("host").unwrap_or_default();
    let location = format!("{scheme}://{host}{}", x.head.raw_path);
    complete_multipart_upload::render(request, &location, &etag, checksum.as_ref(), x.encryption(bucket))
        .into()
}

/// Gives an upload up.
pub(super) async fn abort(x: &Exchange, request: &abort_multipart_upload::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let id = exchange::upload_id(&request.upload_id)?;
    let draft =
        x.service.core().draft_upload_end(&x.sealing(&bucket)?, bucket.id, request.key.as_bytes(), id)?;
    match x.at_home(&bucket, move |shard| async move { shard.abort_upload(draft).await }).await? {
        Err(EngineError::UploadNotFound) => Err(no_such_upload(&request.upload_id).into()),
        other => {
            other?;
            Ok(abort_multipart_upload::render().into())
        }
    }
}

/// A page of an upload's parts.
pub(super) async fn list_parts(x: &Exchange, request: &list_parts::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let id = exchange::upload_id(&request.upload_id)?;
    let (bucket_id, key) = (bucket.id, request.key.as_bytes().to_vec());
    let (after, max) =
        (u16::try_from(request.part_number_marker).unwrap_or(u16::MAX), request.max_parts as usize);
    let page = x
        .at_home(&bucket, move |shard| async move { shard.part_page(bucket_id, &key, id, after, max) })
        .await?;
    let page = match page {
        Err(EngineError::UploadNotFound) => return Err(no_such_upload(&request.upload_id).into()),
        other => other?,
    };
    let parts = page.parts.iter().map(|(summary, modified)| list_parts::Part {
        number: summary.number.into(),
        last_modified_ms: object_meta::millis(*modified),
        etag: ETag::single(summary.md5),
        len: summary.size,
        checksum: object_meta::part_checksum(summary),
    });
    let is_truncated = max > 0 && page.is_truncated;
    let shown =
        list_parts::Page { parts: parts.collect(), is_truncated, checksum: checksum_of(&page.upload) };
    Ok(list_parts::render(request, &shown, &initiator(x, &page.upload)).into())
}

fn initiator(x: &Exchange, upload: &UploadBody) -> Owner {
    x.catalog.users.get(&upload.owner).map_or_else(|| x.owner(), |user| object_meta::owner(user))
}
