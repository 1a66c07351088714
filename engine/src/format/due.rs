//! The due-time index: when a version or upload becomes due for something, in two tables of the directory, and the record that changes them.
//!
//! ```text
//! due     03 | due time (8, big-endian) | bucket (8) | key, escaped | 00 00 | item      -> nothing
//! items   04 | bucket (8) | key, escaped | 00 00 | item                                 -> DueTimeLayout
//! item    00 | slot (8, big-endian)         a version
//!         01 | upload id (16)               an upload
//! ```
//! - Both tables say the same: the first is read up to a time, the second tells what has to be taken out of the first when an item's time changes.
//! - A record says what it takes out as well as what it puts in, so that replay reads neither table.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::cursor::Cursor;
use super::directory::{escape, slot_of, unescape, version_in};
use crate::ids::{BucketId, Lsn, UnixMillis, UploadId, VersionId};

const TABLE_DUE: u8 = 3;
const TABLE_ITEMS: u8 = 4;

const ITEM_VERSION: u8 = 0;
const ITEM_UPLOAD: u8 = 1;

const FLAG_BEFORE: u8 = 1;
const FLAG_AFTER: u8 = 2;

/// Fixed part of a due record; the consumer's name follows, and then the changes.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DueLayout {
    /// The first LSN that the consumer has not seen, once these changes are made; 0 when its cursor stays where it is.
    pub seen: U64,
    /// Changes.
    pub change_count: U32,
    /// Bytes of the consumer's name.
    pub name_len: U16,
    /// Zeroes.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<DueLayout>() == 16);

/// A change of the due-time index; its key follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DueChangeLayout {
    /// The bucket.
    pub bucket: U64,
    /// When it was due, Unix milliseconds.
    pub before_ms: U64,
    /// When it is due from now on, Unix milliseconds.
    pub after_ms: U64,
    /// The version's slot in its first eight bytes, or the upload's id.
    pub item: [u8; 16],
    /// Bytes of the key.
    pub key_len: U16,
    /// 0 a version, 1 an upload.
    pub kind: u8,
    /// Bit 0: it was due; 1: it is due from now on.
    pub flags: u8,
    /// Zeroes.
    pub reserved: [u8; 4],
}

const _: () = assert!(size_of::<DueChangeLayout>() == 48);

/// Value of an item.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DueTimeLayout {
    /// When it is due, Unix milliseconds.
    pub due_ms: U64,
}

const _: () = assert!(size_of::<DueTimeLayout>() == 8);

/// What becomes due: of a key, one version or one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DueItem {
    /// A version.
    Version(VersionId),
    /// An upload.
    Upload(UploadId),
}

/// A change of the due-time index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueChange {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Vec<u8>,
    /// What of it.
    pub item: DueItem,
    /// When it was due.
    pub before: Option<UnixMillis>,
    /// When it is due from now on; `None` for never.
    pub after: Option<UnixMillis>,
}

/// What a due record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueBody {
    /// The consumer that made the changes.
    pub consumer: String,
    /// The first LSN that it has not seen now; `None` when its cursor stays where it is.
    pub seen: Option<Lsn>,
    /// The changes.
    pub changes: Vec<DueChange>,
}

impl DueBody {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fixed = DueLayout {
            seen: U64::new(self.seen.map_or(0, |lsn| lsn.0)),
            change_count: U32::new(self.changes.len() as u32),
            name_len: U16::new(self.consumer.len() as u16),
            reserved: [0; 2],
        };
        let mut out = [fixed.as_bytes(), self.consumer.as_bytes()].concat();
        self.changes.iter().for_each(|change| change.encode(&mut out));
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let fixed: &DueLayout = cursor.fixed("due record")?;
        let name = cursor.bytes(fixed.name_len.get().into(), "due record: name")?;
        let name = std::str::from_utf8(name).map_err(|_| Malformed("due record: name"))?;
        let mut changes = Vec::new();
        for _ in 0..fixed.change_count.get() {
            changes.push(DueChange::decode(&mut cursor)?);
        }
        cursor.end("due record: bytes left over")?;
        let seen = Some(Lsn(fixed.seen.get())).filter(|lsn| lsn.0 != 0);
        Ok(DueBody { consumer: name.to_owned(), seen, changes })
    }
}

impl DueChange {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, item) = match self.item {
            DueItem::Version(version) => {
                let mut item = [0; 16];
                item[..8].copy_from_slice(&slot_of(version).to_le_bytes());
                (ITEM_VERSION, item)
            }
            DueItem::Upload(upload) => (ITEM_UPLOAD, upload.0),
        };
        let flag = |time: Option<UnixMillis>, flag| if time.is_some() { flag } else { 0 };
        let layout = DueChangeLayout {
            bucket: U64::new(self.bucket.0),
            before_ms: U64::new(self.before.unwrap_or_default().0),
            after_ms: U64::new(self.after.unwrap_or_default().0),
            item,
            key_len: U16::new(self.key.len() as u16),
            kind,
            flags: flag(self.before, FLAG_BEFORE) | flag(self.after, FLAG_AFTER),
            reserved: [0; 4],
        };
        out.extend_from_slice(layout.as_bytes());
        out.extend_from_slice(&self.key);
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let layout: DueChangeLayout = *cursor.fixed::<DueChangeLayout>("due change")?;
        let key = cursor.bytes(layout.key_len.get().into(), "due change: key")?;
        let (slot, rest) = layout.item.split_first_chunk::<8>().ok_or(Malformed("due change: item"))?;
        let item = match layout.kind {
            ITEM_VERSION if rest == [0; 8] => DueItem::Version(version_in(u64::from_le_bytes(*slot))),
            ITEM_UPLOAD => DueItem::Upload(UploadId(layout.item)),
            _ => return Err(Malformed("due change: item")),
        };
        if layout.flags & !(FLAG_BEFORE | FLAG_AFTER) != 0 {
            return Err(Malformed("due change: flags"));
        }
        let time = |ms: U64, flag| (layout.flags & flag != 0).then_some(UnixMillis(ms.get()));
        Ok(DueChange {
            bucket: BucketId(layout.bucket.get()),
            key: key.to_vec(),
            item,
            before: time(layout.before_ms, FLAG_BEFORE),
            after: time(layout.after_ms, FLAG_AFTER),
        })
    }
}

/// The directory's key of an item by its time.
pub fn due_key(due: UnixMillis, bucket: BucketId, key: &[u8], item: DueItem) -> Vec<u8> {
    let mut out = due_prefix(due);
    owner_into(bucket, key, item, &mut out);
    out
}

/// Where what is due at that time or later begins.
pub fn due_prefix(due: UnixMillis) -> Vec<u8> {
    let mut out = vec![TABLE_DUE];
    out.extend_from_slice(&due.0.to_be_bytes());
    out
}

/// The directory's key of an item's time.
pub fn item_key(bucket: BucketId, key: &[u8], item: DueItem) -> Vec<u8> {
    let mut out = vec![TABLE_ITEMS];
    owner_into(bucket, key, item, &mut out);
    out
}

/// Where the items of a bucket begin.
pub fn item_prefix(bucket: BucketId) -> Vec<u8> {
    let mut out = vec![TABLE_ITEMS];
    out.extend_from_slice(&bucket.0.to_be_bytes());
    out
}

/// The value of an item.
pub fn encode_due_time(due: UnixMillis) -> Vec<u8> {
    DueTimeLayout { due_ms: U64::new(due.0) }.as_bytes().to_vec()
}

/// Reads the value of an item.
pub fn decode_due_time(value: &[u8]) -> Result<UnixMillis, Malformed> {
    let mut cursor = Cursor(value);
    let fixed: &DueTimeLayout = cursor.fixed("due time")?;
    cursor.end("due time: bytes left over")?;
    Ok(UnixMillis(fixed.due_ms.get()))
}

/// Whose time it is.
pub type DueOwner = (BucketId, Vec<u8>, DueItem);

/// Time and owner of an item; `None` when the key is of another table.
pub fn parse_due_key(bytes: &[u8]) -> Option<(UnixMillis, DueOwner)> {
    let rest = bytes.strip_prefix(&[TABLE_DUE])?;
    let (due, rest) = rest.split_first_chunk::<8>()?;
    Some((UnixMillis(u64::from_be_bytes(*due)), parse_owner(rest)?))
}

/// The owner of an item; `None` when the key is of another table.
pub fn parse_item_key(bytes: &[u8]) -> Option<DueOwner> {
    parse_owner(bytes.strip_prefix(&[TABLE_ITEMS])?)
}

fn owner_into(bucket: BucketId, key: &[u8], item: DueItem, out: &mut Vec<u8>) {
    out.extend_from_slice(&bucket.0.to_be_bytes());
    escape(key, out);
    out.extend_from_slice(&[0, 0]);
    match item {
        DueItem::Version(version) => {
            out.push(ITEM_VERSION);
            out.extend_from_slice(&slot_of(version).to_be_bytes());
        }
        DueItem::Upload(upload) => {
            out.push(ITEM_UPLOAD);
            out.extend_from_slice(&upload.0);
        }
    }
}

fn parse_owner(bytes: &[u8]) -> Option<DueOwner> {
    let (bucket, rest) = bytes.split_first_chunk::<8>()?;
    let (key, rest) = unescape(rest)?;
    let item = match rest.split_first()? {
        (&ITEM_VERSION, slot) => {
            DueItem::Version(version_in(u64::from_be_bytes(<[u8; 8]>::try_from(slot).ok()?)))
        }
        (&ITEM_UPLOAD, id) => DueItem::Upload(UploadId(<[u8; 16]>::try_from(id).ok()?)),
        _ => return None,
    };
    Some((BucketId(u64::from_be_bytes(*bucket)), key, item))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner() -> impl Strategy<Value = DueOwner> {
        let key = prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..5);
        let item = prop_oneof![
            Just(DueItem::Version(VersionId::Null)),
            (1u64..9).prop_map(|n| DueItem::Version(VersionId::Number(Lsn(n)))),
            any::<[u8; 16]>().prop_map(|id| DueItem::Upload(UploadId(id))),
        ];
        (0u64..3, key, item).prop_map(|(bucket, key, item)| (BucketId(bucket), key, item))
    }

    proptest! {
        #[test]
        fn due_keys_sort_by_time_and_both_keys_give_back_their_owner(
            (a, b) in (owner(), owner()),
            (due_a, due_b) in (0u64..4, 0u64..4),
        ) {
            let (due_a, due_b) = (UnixMillis(due_a), UnixMillis(due_b));
            let key_a = due_key(due_a, a.0, &a.1, a.2);
            let key_b = due_key(due_b, b.0, &b.1, b.2);
            if due_a < due_b {
                prop_assert!(key_a < key_b && key_a < due_prefix(due_b));
            }
            prop_assert!(due_prefix(due_a) < key_a);
            prop_assert_eq!(key_a == key_b, (due_a, &a) == (due_b, &b));
            prop_assert_eq!(parse_due_key(&key_a), Some((due_a, a.clone())));
            let item = item_key(a.0, &a.1, a.2);
            prop_assert!(item_prefix(a.0) < item && key_b < item);
            prop_assert_eq!(parse_item_key(&item), Some(a));
        }
    }
}
