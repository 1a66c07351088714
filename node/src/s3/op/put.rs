//! PutObject.

use engine::format::body::VersionMeta;
use engine::{Layout, NewVersion};
use proto_s3::op::ObjectChecksum;
use proto_s3::op::put_object::{Request, render};
use proto_s3::{Algorithm, ChecksumType, ETag};

use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::error::{Outcome, Refusal};
use crate::s3::exchange::Exchange;
use crate::s3::object_meta::{self, CLASS_STANDARD};

/// The checksum of objects for which the client names none, as AWS does it since 2024.
pub(super) const ALGORITHM_DEFAULT: Algorithm = Algorithm::Crc64Nvme;

/// Stores the body under the key.
pub(super) async fn run(x: &Exchange, request: Request, body: Body<'_>) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    x.check_early(&bucket, &request.key, request.condition).await?;
    let sealing = x.sealing(&bucket)?;
    let algorithm = request.checksum.algorithm().unwrap_or(ALGORITHM_DEFAULT);
    let taken =
        body.into_content(&x.service, &sealing, Layout::InlineIfSmall, algorithm, &request.checksum).await?;
    let etag = ETag::single(taken.digests.md5);
    let meta = VersionMeta {
        etag: object_meta::stored_etag(etag),
        modified: x.service.now_ms(),
        owner: x.user.id,
        class: CLASS_STANDARD,
        checksum: object_meta::stored_checksum(taken.digests.checksum, ChecksumType::FullObject),
        pairs: object_meta::pairs(request.headers),
        ..VersionMeta::default()
    };
    let new = NewVersion { bucket: bucket.id, key: request.key.as_bytes().to_vec(), meta };
    let draft = x.seal(|core| core.draft_version(&sealing, new, taken.content))?;
    let precondition = object_meta::precondition(request.condition);
    x.store_at_home(&bucket, draft, async move |shard, draft| shard.put(draft, precondition).await)
        .await?
        .map_err(|error| Refusal::of_write(error, request.condition, &request.key))?;
    let checksum = taken.digests.checksum.map(ObjectChecksum::full_object);
    Ok(render(&etag, checksum.as_ref(), x.encryption(&bucket)).into())
}
