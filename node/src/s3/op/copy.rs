//! CopyObject and UploadPartCopy.
//!
//! A copy shares the bytes of its source where it can: its record names the same extents, and no data moves. Bytes are read through when a digest is
//! asked for that is not known, and written anew when they cannot be shared: a range of an object, inline bytes, another namespace.

use std::ops::Range;
use std::sync::Arc;

use engine::crypto::Sealing;
use engine::format::body::{Checksum as StoredChecksum, VersionMeta};
use engine::format::catalog::Bucket;
use engine::{Content, Layout, NewVersion, shared_content};
use proto_s3::condition::Conditions;
use proto_s3::op::copy_object::Metadata;
use proto_s3::op::create_multipart_upload::UploadChecksum;
use proto_s3::op::{CopySource, copy_object, upload_part_copy};
use proto_s3::{Algorithm, BodyDigests, BodyHasher, Checksum, ChecksumType, Code, ETag, Error};

use super::put::ALGORITHM_DEFAULT;
use super::upload_part::{ReceivedPart, checksum_of, commit, find_upload};
use crate::s3::answer::Answer;
use crate::s3::body::TRANSFER_LEN;
use crate::s3::error::{Outcome, Refusal};
use crate::s3::exchange::Exchange;
use crate::s3::object_meta::{self, CLASS_STANDARD, StoredObject};
use crate::s3::writer::Writer;
use crate::stopwatch::Stage;

/// Makes an object that is as another one is now.
pub(super) async fn object(x: &Exchange, request: copy_object::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let source = find_source(x, &request.source, &request.source_conditions).await?;
    x.check_early(&bucket, &request.key, request.condition).await?;
    let len = source.meta().size;
    check_source_len(len, x.limits().single_put_len_max)?;
    let wanted = request.checksum_algorithm.filter(|algorithm| known_checksum(&source, *algorithm).is_none());
    let sealing = x.sealing(&bucket)?;
    let copied = copy_bytes(x, &sealing, &source, 0..len, Layout::InlineIfSmall, wanted.map(Some)).await?;
    let meta = VersionMeta {
        // The bytes are the source's, and so are tag and parts.
        etag: source.meta().etag,
        parts: source.meta().parts.clone(),
        modified: x.service.now_ms(),
        owner: x.user.id,
        class: CLASS_STANDARD,
        checksum: copied_checksum(&source, request.checksum_algorithm, copied.digests),
        pairs: object_meta::pairs(match request.metadata {
            Metadata::Copy => source.headers.clone(),
            Metadata::Replace(headers) => headers,
        }),
        ..VersionMeta::default()
    };
    let (modified, checksum) = (object_meta::millis(meta.modified), object_meta::object_checksum(&meta));
    let new = NewVersion { bucket: bucket.id, key: request.key.as_bytes().to_vec(), meta };
    let draft = x.seal(|core| core.draft_version(&sealing, new, copied.content))?;
    let precondition = object_meta::precondition(request.condition);
    x.store_at_home(&bucket, draft, async move |shard, draft| shard.put(draft, precondition).await)
        .await?
        .map_err(|error| Refusal::of_write(error, request.condition, &request.key))?;
    Ok(copy_object::render(&source.etag(), modified, checksum.as_ref(), x.encryption(&bucket)).into())
}

/// Makes a part of (a range of) an object.
pub(super) async fn part(x: &Exchange, request: &upload_part_copy::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let upload = find_upload(x, &bucket, &request.key, &request.upload_id).await?;
    let source = find_source(x, &request.source, &request.source_conditions).await?;
    let len = source.meta().size;
    let range = match request.source_range {
        None => 0..len,
        Some(range) => {
            range.check_within(len)?;
            range.first..range.first + range.byte_count()
        }
    };
    check_source_len(range.end - range.start, x.limits().part_len_max)?;
    let known = if range == (0..len) { known_digests(&source, checksum_of(&upload)) } else { None };
    let algorithm = checksum_of(&upload).map_or(ALGORITHM_DEFAULT, |upload| upload.algorithm);
    let wanted = known.is_none().then_some(Some(algorithm));
    let copied = copy_bytes(x, &x.sealing(&bucket)?, &source, range, Layout::Frames, wanted).await?;
    let digests = known.or(copied.digests).ok_or(Code::InternalError)?;
    let BodyDigests { md5, checksum } = digests;
    let received = ReceivedPart { number: request.part_number, md5, checksum, content: copied.content };
    let modified = commit(x, &bucket, &upload, received).await?;
    let etag = ETag::single(md5);
    Ok(upload_part_copy::render(&etag, modified, checksum.as_ref(), x.encryption(&bucket)).into())
}

async fn find_source(x: &Exchange, source: &CopySource, conditions: &Conditions) -> Outcome<StoredObject> {
    let bucket: Arc<Bucket> = x.bucket(&source.bucket)?;
    let stored = x.object(&bucket, &source.key).await?;
    conditions.evaluate_copy(&stored.etag(), object_meta::millis(stored.meta().modified))?;
    Ok(stored)
}

fn check_source_len(len: u64, len_max: u64) -> Result<(), Error> {
    if len <= len_max {
        return Ok(());
    }
    let message = format!(
        "The specified copy source is larger than the maximum allowable size for a copy source: {len_max}"
    );
    Err(Error::with_message(Code::InvalidRequest, message))
}

/// The checksum over the object's bytes, if it is of that algorithm.
fn known_checksum(source: &StoredObject, algorithm: Algorithm) -> Option<Checksum> {
    let known = source.checksum.filter(|known| known.checksum_type == ChecksumType::FullObject)?;
    (known.checksum.algorithm() == algorithm).then_some(known.checksum)
}

/// The digests that a part of a whole object has, where they are known: its tag must be the MD5 of its bytes, and its checksum the kind that the upload
/// asks for, if it asks for one.
fn known_digests(source: &StoredObject, upload: Option<UploadChecksum>) -> Option<BodyDigests> {
    let checksum = match upload {
        Some(upload) => Some(known_checksum(source, upload.algorithm)?),
        None => source
            .checksum
            .filter(|known| known.checksum_type == ChecksumType::FullObject)
            .map(|c| c.checksum),
    };
    let etag = source.etag();
    (etag.parts == 0).then_some(BodyDigests { md5: etag.md5, checksum })
}

/// The checksum of a copy: the source's, unless another algorithm was asked for.
fn copied_checksum(
    source: &StoredObject,
    asked: Option<Algorithm>,
    computed: Option<BodyDigests>,
) -> StoredChecksum {
    match (asked, computed) {
        (Some(_), Some(digests)) => object_meta::stored_checksum(digests.checksum, ChecksumType::FullObject),
        _ => source.meta().checksum,
    }
}

/// Bytes of a copy, stored but not committed, and their digests, when they were asked for.
struct Copied {
    content: Content,
    digests: Option<BodyDigests>,
}

/// Takes over bytes of an object: shared where possible, else written anew. `digests` asks for MD5 and perhaps a checksum.
async fn copy_bytes(
    x: &Exchange,
    sealing: &Sealing,
    source: &StoredObject,
    range: Range<u64>,
    layout: Layout,
    digests: Option<Option<Algorithm>>,
) -> Outcome<Copied> {
    let is_whole = range == (0..source.meta().size);
    let mut hasher = digests.map(|algorithm| BodyHasher::new(x.service.md5_lanes(), algorithm));
    let mut writer = if is_whole && is_shareable(source, sealing) {
        None
    } else {
        Some(Writer::open(&x.service, &x.watch, sealing, range.end - range.start, layout).await?)
    };
    if hasher.is_some() || writer.is_some() {
        let _permit = x.admit((range.end - range.start).min(TRANSFER_LEN)).await?;
        let former = x.watch.enter(Stage::Crypto);
        let read = read_through(x, source, range, async |bytes| {
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            match &mut writer {
                Some(writer) => Ok(writer.write(bytes).await?),
                None => Ok(()),
            }
        })
        .await;
        x.watch.enter(former);
        read?;
    }
    let content = match writer {
        Some(writer) => writer.finish().await?,
        None => shared_content(&source.version.pieces, &source.version.pins),
    };
    let digests = match hasher {
        Some(hasher) => Some(x.watch.wait(Stage::Crypto, Stage::Crypto, hasher.finish()).await),
        None => None,
    };
    Ok(Copied { content, digests })
}

/// Whether a record sealed like this may name the object's extents: they are in frames, and under keys of the same namespace.
fn is_shareable(source: &StoredObject, sealing: &Sealing) -> bool {
    let is_alike = |piece: &engine::format::body::Piece| {
        piece.namespace == sealing.namespace && piece.seal_kind == sealing.seal_kind
    };
    !source.version.pieces.is_empty() && source.version.pieces.iter().all(is_alike)
}

/// Gives bytes of an object to `take`, in order.
async fn read_through(
    x: &Exchange,
    source: &StoredObject,
    range: Range<u64>,
    mut take: impl AsyncFnMut(&[u8]) -> Outcome<()>,
) -> Outcome<()> {
    if let Some(bytes) = source.version.inline() {
        // What is inline fits into memory.
        return take(&bytes[range.start as usize..range.end as usize]).await;
    }
    let mut reader = source.version.reader(x.service.core(), range);
    while let Some(chunk) = x.watch.wait(Stage::Device, Stage::Crypto, reader.next()).await? {
        for slice in chunk.slices() {
            take(slice).await?;
        }
    }
    Ok(())
}
