//! ListObjects, ListObjectsV2 and ListMultipartUploads.

use engine::format::catalog::Bucket;
use engine::ids::UploadId;
use engine::index::directory::{After, Listed, Page as StoredPage, PageQuery};
use engine::{UploadPage, UploadPageQuery};
use proto_s3::Error;
use proto_s3::op::listing::{Entry, Page, Scope};
use proto_s3::op::{ResumeAfter, list_multipart_uploads, list_objects, list_objects_v2};

use crate::s3::answer::Answer;
use crate::s3::error::Outcome;
use crate::s3::exchange::Exchange;
use crate::s3::object_meta;

/// Bytes of memory for one entry of a page.
const ENTRY_LEN_MAX: u64 = 8 * 1024;

/// A page of keys, as the first version of the operation shows it.
pub(super) async fn objects(x: &Exchange, request: &list_objects::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let permit = x.admit(document_len_max(request.scope.max_keys)).await?;
    let page = page(x, &bucket, &request.scope, request.resume_after()).await?;
    Ok(Answer::Held { response: list_objects::render(request, &page, &x.owner()), permit })
}

/// A page of keys.
pub(super) async fn objects_v2(x: &Exchange, request: &list_objects_v2::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let permit = x.admit(document_len_max(request.scope.max_keys)).await?;
    let page = page(x, &bucket, &request.scope, request.resume_after()).await?;
    Ok(Answer::Held { response: list_objects_v2::render(request, &page, &x.owner()), permit })
}

/// Memory that a page may take: keys of 1 KiB whose every byte is escaped, the document and its copy behind the head.
fn document_len_max(entries: u32) -> u64 {
    u64::from(entries.min(1000)) * ENTRY_LEN_MAX
}

async fn page(x: &Exchange, bucket: &Bucket, scope: &Scope, after: Option<ResumeAfter>) -> Outcome<Page> {
    let query = PageQuery {
        prefix: scope.prefix.clone().into_bytes(),
        delimiter: scope.delimiter.clone().unwrap_or_default().into_bytes(),
        after: match after {
            None => After::Nothing,
            Some(ResumeAfter::Key(key)) => After::Key(key.into_bytes()),
            Some(ResumeAfter::CommonPrefix(prefix)) => After::CommonPrefix(prefix.into_bytes()),
        },
        max: scope.max_keys as usize,
    };
    let id = bucket.id;
    let page = x.at_home(bucket, move |shard| async move { shard.page(id, &query).await }).await??;
    Ok(shown(page))
}

fn shown(page: StoredPage<Listed>) -> Page {
    Page {
        entries: page.entries.into_iter().map(entry).collect(),
        common_prefixes: page.common_prefixes.into_iter().map(text).collect(),
        next: page.next_after.and_then(|after| match after {
            After::Nothing => None,
            After::Key(key) => Some(ResumeAfter::Key(text(key))),
            After::CommonPrefix(prefix) => Some(ResumeAfter::CommonPrefix(text(prefix))),
        }),
    }
}

fn entry((key, listed): (Vec<u8>, Listed)) -> Entry {
    Entry {
        key: text(key),
        last_modified_ms: object_meta::millis(listed.modified),
        etag: object_meta::etag(listed.etag),
        len: listed.size,
        checksum: object_meta::checksum_kind(listed.checksum),
    }
}

/// A page of uploads that have neither been completed nor aborted.
pub(super) async fn uploads(x: &Exchange, request: &list_multipart_uploads::Request) -> Outcome<Answer> {
    let bucket = x.bucket(&request.bucket)?;
    let query = UploadPageQuery {
        prefix: request.prefix.clone().into_bytes(),
        delimiter: request.delimiter.clone().unwrap_or_default().into_bytes(),
        after_key: request.key_marker.clone().into_bytes(),
        after_upload: upload_marker(&request.upload_id_marker)?,
        max: request.max_uploads as usize,
    };
    let permit = x.admit(document_len_max(request.max_uploads)).await?;
    let id = bucket.id;
    let page = x.at_home(&bucket, move |shard| async move { shard.upload_page(id, &query) }).await??;
    let response = list_multipart_uploads::render(request, &shown_uploads(page), &x.owner());
    Ok(Answer::Held { response, permit })
}

fn upload_marker(text: &str) -> Result<Option<UploadId>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::invalid_argument("Invalid uploadId marker", "upload-id-marker", text);
    UploadId::parse(text).map(Some).ok_or_else(invalid)
}

fn shown_uploads(page: UploadPage) -> list_multipart_uploads::Page {
    let uploads = page.uploads.into_iter().map(|upload| list_multipart_uploads::Upload {
        key: text(upload.key),
        upload_id: upload.upload_id.to_string(),
        initiated_ms: object_meta::millis(upload.initiated),
        checksum: object_meta::upload_checksum(upload.checksum),
    });
    let next = page.next.map(|(key, upload)| list_multipart_uploads::NextMarkers {
        key: text(key),
        upload_id: upload.map(|id| id.to_string()).unwrap_or_default(),
    });
    list_multipart_uploads::Page {
        uploads: uploads.collect(),
        common_prefixes: page.common_prefixes.into_iter().map(text).collect(),
        next,
    }
}

/// Keys are UTF-8: the protocol layer lets no other in. A common prefix ends where a delimiter does.
fn text(key: Vec<u8>) -> String {
    String::from_utf8(key).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
