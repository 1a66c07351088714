//! UploadPart, and what all ways to make a part have in common.

use engine::format::body::{PartSummary, UploadBody};
use engine::format::catalog::Bucket;
use engine::{Content, Error as EngineError, Layout, NewPart};
use proto_s3::op::create_multipart_upload::UploadChecksum;
use proto_s3::op::upload_part::{Request, render};
use proto_s3::{Algorithm, Checksum, ChecksumType, Code, ETag, Error};

use super::put::ALGORITHM_DEFAULT;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::error::{Outcome, no_such_upload};
use crate::s3::exchange::{self, Exchange};
use crate::s3::object_meta;

/// Stores the body as a part of an upload.
pub(super) async fn run(x: &Exchange, request: &Request, body: Body<'_>) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let upload = find_upload(x, &bucket, &request.key, &request.upload_id).await?;
    check_part_len(x, body.payload_len())?;
    let algorithm = choose_algorithm(checksum_of(&upload), request.checksum.algorithm())?;
    let sealing = x.sealing(&bucket)?;
    let taken = body.into_content(&x.service, &sealing, Layout::Frames, algorithm, &request.checksum).await?;
    let part = ReceivedPart {
        number: request.part_number,
        md5: taken.digests.md5,
        checksum: taken.digests.checksum,
        content: taken.content,
    };
    commit(x, &bucket, &upload, part).await?;
    let etag = ETag::single(taken.digests.md5);
    Ok(render(&etag, taken.digests.checksum.as_ref(), x.encryption(&bucket)).into())
}

/// A part, stored but not committed.
pub(super) struct ReceivedPart {
    /// Its number.
    pub(super) number: u32,
    /// Its digest.
    pub(super) md5: [u8; 16],
    /// Its checksum.
    pub(super) checksum: Option<Checksum>,
    /// Its bytes.
    pub(super) content: Content,
}

/// Makes it a part of the upload, in place of an earlier one with its number. Answers when.
pub(super) async fn commit(
    x: &Exchange,
    bucket: &Bucket,
    upload: &UploadBody,
    part: ReceivedPart,
) -> Outcome<i64> {
    let modified = x.service.now_ms();
    let new = NewPart {
        bucket: bucket.id,
        key: upload.key.clone(),
        upload_id: upload.upload_id,
        summary: PartSummary {
            // The protocol layer lets no greater one through.
            number: u16::try_from(part.number).unwrap_or(u16::MAX),
            size: 0,
            md5: part.md5,
            checksum: object_meta::stored_checksum(part.checksum, ChecksumType::FullObject),
        },
        modified,
    };
    let sealing = x.sealing(bucket)?;
    let draft = x.seal(|core| core.draft_part(&sealing, new, part.content))?;
    x.store_at_home(bucket, draft, async |shard, draft| shard.put_part(draft).await).await??;
    Ok(object_meta::millis(modified))
}

/// What an upload was created with.
pub(super) async fn find_upload(
    x: &Exchange,
    bucket: &Bucket,
    key: &str,
    upload_id: &str,
) -> Outcome<UploadBody> {
    let id = exchange::upload_id(upload_id)?;
    let (bucket_id, wanted) = (bucket.id, key.as_bytes().to_vec());
    let found =
        x.at_home(bucket, move |shard| async move { shard.upload_body(bucket_id, &wanted, id) }).await?;
    match found {
        Err(EngineError::UploadNotFound) => Err(no_such_upload(upload_id).into()),
        other => Ok(other?),
    }
}

/// The checksum that an upload was created with.
pub(super) fn checksum_of(upload: &UploadBody) -> Option<UploadChecksum> {
    object_meta::upload_checksum((upload.checksum_algorithm, upload.checksum_kind))
}

/// `EntityTooLarge` for a part over the limit.
pub(super) fn check_part_len(x: &Exchange, len: u64) -> Result<(), Error> {
    let len_max = x.limits().part_len_max;
    if len <= len_max {
        return Ok(());
    }
    let error = Error::new(Code::EntityTooLarge).detail("ProposedSize", len.to_string());
    Err(error.detail("MaxSizeAllowed", len_max.to_string()))
}

/// The algorithm of a part's checksum: the one that the upload was created with, which the client has to state where only it can vouch for the
/// parts (`COMPOSITE`). Parts of an upload that was created without may state any.
fn choose_algorithm(upload: Option<UploadChecksum>, stated: Option<Algorithm>) -> Result<Algorithm, Error> {
    match (upload, stated) {
        (None, stated) => Ok(stated.unwrap_or(ALGORITHM_DEFAULT)),
        (Some(upload), Some(stated)) if upload.algorithm == stated => Ok(stated),
        (Some(UploadChecksum { algorithm, checksum_type: ChecksumType::FullObject }), None) => Ok(algorithm),
        (Some(upload), stated) => Err(type_mismatch(Some(upload.algorithm), stated)),
    }
}

/// `InvalidRequest` for a checksum of another algorithm than the upload's.
pub(super) fn type_mismatch(expected: Option<Algorithm>, actual: Option<Algorithm>) -> Error {
    let name = |algorithm: Option<Algorithm>| {
        algorithm.map_or_else(|| "null".to_owned(), |algorithm| algorithm.name().to_ascii_lowercase())
    };
    let (expected, actual) = (name(expected), name(actual));
    let message = format!(
        "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
    );
    Error::with_message(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPOSITE: Option<UploadChecksum> =
        Some(UploadChecksum { algorithm: Algorithm::Crc32, checksum_type: ChecksumType::Composite });
    const FULL: Option<UploadChecksum> =
        Some(UploadChecksum { algorithm: Algorithm::Crc32, checksum_type: ChecksumType::FullObject });

    #[test]
    fn a_part_has_the_checksum_of_its_upload() {
        assert_eq!(choose_algorithm(COMPOSITE, Some(Algorithm::Crc32)), Ok(Algorithm::Crc32));
        assert_eq!(choose_algorithm(FULL, None), Ok(Algorithm::Crc32));
        for (upload, stated) in
            [(COMPOSITE, None), (COMPOSITE, Some(Algorithm::Sha1)), (FULL, Some(Algorithm::Sha1))]
        {
            assert_eq!(choose_algorithm(upload, stated).unwrap_err().code, Code::InvalidRequest);
        }
    }

    #[test]
    fn parts_of_an_upload_without_checksum_may_state_any() {
        assert_eq!(choose_algorithm(None, None), Ok(ALGORITHM_DEFAULT));
        assert_eq!(choose_algorithm(None, Some(Algorithm::Sha256)), Ok(Algorithm::Sha256));
    }
}
