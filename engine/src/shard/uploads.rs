//! The multipart uploads of a bucket: in memory, and in every checkpoint.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::format::body::{Extent, PartBody, UploadBody};
use crate::format::settlement::RecordPlace;
use crate::ids::{Lsn, UnixMillis, UploadId, UserId};
use crate::index::directory::{common_prefix, successor};
use crate::limits::PAGE_MAX;

/// The uploads of a bucket, by key and id.
#[derive(Default)]
pub(crate) struct Uploads {
    uploads: BTreeMap<(Box<[u8]>, UploadId), Upload>,
}

/// An upload.
pub(crate) struct Upload {
    pub(crate) record: RecordPlace,
    pub(crate) order: Lsn,
    pub(crate) body: UploadBody,
    pub(crate) parts: BTreeMap<u16, Part>,
}

/// A part of it.
pub(crate) struct Part {
    pub(crate) record: RecordPlace,
    /// Which upload of its number: the LSN that it was first committed with.
    pub(crate) order: Lsn,
    pub(crate) body: PartBody,
}

/// What page of a listing of uploads is wanted.
#[derive(Clone, Debug, Default)]
pub struct UploadPageQuery {
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// Keys that share what comes before this are shown as one; empty for none.
    pub delimiter: Vec<u8>,
    /// Only keys after this; or this key with upload ids after `after_upload`.
    pub after_key: Vec<u8>,
    /// See `after_key`.
    pub after_upload: Option<UploadId>,
    /// Uploads and common prefixes at most.
    pub max: usize,
}

/// An upload as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload {
    /// Its key.
    pub key: Vec<u8>,
    /// Its id.
    pub upload_id: UploadId,
    /// When it began.
    pub initiated: UnixMillis,
    /// Who began it.
    pub owner: UserId,
    /// Storage class.
    pub class: u8,
    /// Checksum algorithm and kind.
    pub checksum: (u8, u8),
}

/// A page of a listing of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// Uploads, by key and id.
    pub uploads: Vec<ListedUpload>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<Vec<u8>>,
    /// Where the next page begins, when more follow: a key (or common prefix) and an upload of it.
    pub next: Option<(Vec<u8>, Option<UploadId>)>,
}

impl Part {
    /// Its bytes in bulk segments.
    pub(crate) fn extents(&self) -> impl Iterator<Item = &Extent> {
        self.body.pieces.iter().flat_map(|piece| &piece.extents)
    }
}

impl Uploads {
    /// The upload of that key and id.
    pub(crate) fn upload(&self, key: &[u8], id: UploadId) -> Option<&Upload> {
        self.uploads.get(&(key.into(), id))
    }

    /// The same, to be changed.
    pub(crate) fn upload_mut(&mut self, key: &[u8], id: UploadId) -> Option<&mut Upload> {
        self.uploads.get_mut(&(key.into(), id))
    }

    /// Puts an upload; gives back what was there under its key and id.
    pub(crate) fn insert(&mut self, upload: Upload) -> Option<Upload> {
        let at = (upload.body.key.as_slice().into(), upload.body.upload_id);
        self.uploads.insert(at, upload)
    }

    /// Takes an upload out.
    pub(crate) fn remove(&mut self, key: &[u8], id: UploadId) -> Option<Upload> {
        self.uploads.remove(&(key.into(), id))
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Upload> {
        self.uploads.values()
    }

    /// Those after that key and id, in order.
    pub(crate) fn after(&self, after: Option<(&[u8], UploadId)>) -> impl Iterator<Item = &Upload> + use<'_> {
        let begin = after.map_or(Bound::Unbounded, |(key, id)| Bound::Excluded((key.into(), id)));
        self.uploads.range((begin, Bound::Unbounded)).map(|(_, upload)| upload)
    }

    /// Takes all of them out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Upload> {
        std::mem::take(&mut self.uploads).into_values()
    }

    /// A page of a listing.
    pub(crate) fn page(&self, query: &UploadPageQuery) -> UploadPage {
        let mut page = UploadPage::default();
        let max = query.max.min(PAGE_MAX);
        let Some(mut from) = first_bound(query) else { return page };
        let mut last = None;
        while max > 0
            && let Some(((key, id), upload)) = self.uploads.range((from.clone(), Bound::Unbounded)).next()
            && key.starts_with(&query.prefix)
        {
            if page.uploads.len() + page.common_prefixes.len() == max {
                page.next = last;
                return page;
            }
            match common_prefix(key, &query.prefix, &query.delimiter) {
                Some(prefix) => {
                    page.common_prefixes.push(prefix.to_vec());
                    last = Some((prefix.to_vec(), None));
                    let Some(end) = successor(prefix) else { return page };
                    from = Bound::Included((end.into(), UploadId::NONE));
                }
                None => {
                    page.uploads.push(listed(&upload.body));
                    last = Some((key.to_vec(), Some(*id)));
                    from = Bound::Excluded((key.clone(), *id));
                }
            }
        }
        page
    }
}

type Place = (Box<[u8]>, UploadId);

/// Where a page begins; `None` when nothing can follow.
fn first_bound(query: &UploadPageQuery) -> Option<Bound<Place>> {
    let after: Box<[u8]> = query.after_key.as_slice().into();
    if query.after_key < query.prefix {
        return Some(Bound::Included((query.prefix.as_slice().into(), UploadId::NONE)));
    }
    if ends_with_delimiter(&query.after_key, query) {
        return Some(Bound::Included((successor(&query.after_key)?.into(), UploadId::NONE)));
    }
    Some(match query.after_upload {
        _ if query.after_key.is_empty() => Bound::Unbounded,
        Some(id) => Bound::Excluded((after, id)),
        // All uploads of that key are passed over.
        None => Bound::Excluded((after, UploadId([0xff; 16]))),
    })
}

/// Whether a marker is itself a common prefix, so that all keys under it were shown.
fn ends_with_delimiter(marker: &[u8], query: &UploadPageQuery) -> bool {
    common_prefix(marker, &query.prefix, &query.delimiter).is_some_and(|prefix| prefix == marker)
}

fn listed(body: &UploadBody) -> ListedUpload {
    ListedUpload {
        key: body.key.clone(),
        upload_id: body.upload_id,
        initiated: body.initiated,
        owner: body.owner,
        class: body.class,
        checksum: (body.checksum_algorithm, body.checksum_kind),
    }
}
