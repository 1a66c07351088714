//! The payload of a catalog change: one namespace, user, access key or bucket that was put or removed.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::cursor::Cursor;
use super::record::SealKind;
use crate::ids::{BucketId, KeyVersion, NamespaceId, ShardId, UnixMillis, UserId};

/// A tenant: the unit of encryption at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its id.
    pub id: NamespaceId,
    /// Its name.
    pub name: String,
    /// Whether new data is encrypted.
    pub seal_kind: SealKind,
    /// Its keys, wrapped by the key source's key; the last one seals new data.
    pub keys: Vec<WrappedKey>,
}

/// A namespace key as it lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its generation.
    pub version: KeyVersion,
    /// Nonce of the wrapping.
    pub nonce: [u8; 12],
    /// The sealed key and its tag.
    pub sealed: [u8; 48],
}

/// Somebody who owns buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its namespace.
    pub namespace: NamespaceId,
    /// What S3 shows as the owner's DisplayName.
    pub name: String,
    /// What S3 shows as the owner's ID: 64 hexadecimal digits.
    pub canonical_id: String,
}

/// A pair of access key and secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The public half.
    pub id: String,
    /// The secret half.
    pub secret: String,
    /// Whose it is.
    pub user: UserId,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its id, never reused.
    pub id: BucketId,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its owner.
    pub owner: UserId,
    /// The shard that its index and log belong to.
    pub home: ShardId,
    /// When it was made.
    pub created: UnixMillis,
    /// The location constraint it was made with; empty for the default region.
    pub location: String,
}

/// One change of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogChange {
    /// A namespace is new or changed.
    PutNamespace(Namespace),
    /// A user is new or changed.
    PutUser(User),
    /// An access key is new or changed.
    PutAccessKey(AccessKey),
    /// A bucket is new or changed.
    PutBucket(Bucket),
    /// A bucket is gone.
    RemoveBucket(BucketId),
}

/// Head of a change.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChangeLayout {
    /// 1 namespace, 2 user, 3 access key, 4 bucket, 5 bucket removed.
    pub kind: u8,
    /// Zeroes.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<ChangeLayout>() == 4);

/// Fixed part of a namespace; the name and the wrapped keys follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NamespaceLayout {
    /// Its id.
    pub id: U32,
    /// See [`SealKind`].
    pub seal_kind: u8,
    /// Zero.
    pub reserved: u8,
    /// Bytes of the name.
    pub name_len: U16,
    /// Wrapped keys.
    pub key_count: U32,
}

const _: () = assert!(size_of::<NamespaceLayout>() == 12);

/// A wrapped key.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct WrappedKeyLayout {
    /// Its generation.
    pub version: U32,
    /// Nonce of the wrapping.
    pub nonce: [u8; 12],
    /// The sealed key and its tag.
    pub sealed: [u8; 48],
}

const _: () = assert!(size_of::<WrappedKeyLayout>() == 64);

/// Fixed part of a user; name and canonical id follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UserLayout {
    /// Its id.
    pub id: U64,
    /// Its namespace.
    pub namespace: U32,
    /// Bytes of the name.
    pub name_len: U16,
    /// Bytes of the canonical id.
    pub canonical_id_len: U16,
}

const _: () = assert!(size_of::<UserLayout>() == 16);

/// Fixed part of an access key; id and secret follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AccessKeyLayout {
    /// Whose it is.
    pub user: U64,
    /// Bytes of the id.
    pub id_len: U16,
    /// Bytes of the secret.
    pub secret_len: U16,
    /// Zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<AccessKeyLayout>() == 16);

/// Fixed part of a bucket; name and location follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BucketLayout {
    /// Its id.
    pub id: U64,
    /// Its owner.
    pub owner: U64,
    /// Unix milliseconds.
    pub created_ms: U64,
    /// Its namespace.
    pub namespace: U32,
    /// Its home shard.
    pub home: U16,
    /// Bytes of the name.
    pub name_len: U16,
    /// Bytes of the location.
    pub location_len: U16,
    /// Zeroes.
    pub reserved: [u8; 6],
}

const _: () = assert!(size_of::<BucketLayout>() == 40);

impl CatalogChange {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            CatalogChange::PutNamespace(namespace) => {
                head(1, &mut out);
                let fixed = NamespaceLayout {
                    id: U32::new(namespace.id.0),
                    seal_kind: namespace.seal_kind.code(),
                    reserved: 0,
                    name_len: U16::new(namespace.name.len() as u16),
                    key_count: U32::new(namespace.keys.len() as u32),
                };
                out.extend_from_slice(fixed.as_bytes());
                out.extend_from_slice(namespace.name.as_bytes());
                for key in &namespace.keys {
                    let layout = WrappedKeyLayout {
                        version: U32::new(key.version.0),
                        nonce: key.nonce,
                        sealed: key.sealed,
                    };
                    out.extend_from_slice(layout.as_bytes());
                }
            }
            CatalogChange::PutUser(user) => {
                head(2, &mut out);
                let fixed = UserLayout {
                    id: U64::new(user.id.0),
                    namespace: U32::new(user.namespace.0),
                    name_len: U16::new(user.name.len() as u16),
                    canonical_id_len: U16::new(user.canonical_id.len() as u16),
                };
                out.extend_from_slice(fixed.as_bytes());
                out.extend_from_slice(user.name.as_bytes());
                out.extend_from_slice(user.canonical_id.as_bytes());
            }
            CatalogChange::PutAccessKey(key) => {
                head(3, &mut out);
                let fixed = AccessKeyLayout {
                    user: U64::new(key.user.0),
                    id_len: U16::new(key.id.len() as u16),
                    secret_len: U16::new(key.secret.len() as u16),
                    reserved: U32::ZERO,
                };
                out.extend_from_slice(fixed.as_bytes());
                out.extend_from_slice(key.id.as_bytes());
                out.extend_from_slice(key.secret.as_bytes());
            }
            CatalogChange::PutBucket(bucket) => {
                head(4, &mut out);
                let fixed = BucketLayout {
                    id: U64::new(bucket.id.0),
                    owner: U64::new(bucket.owner.0),
                    created_ms: U64::new(bucket.created.0),
                    namespace: U32::new(bucket.namespace.0),
                    home: U16::new(bucket.home.0),
                    name_len: U16::new(bucket.name.len() as u16),
                    location_len: U16::new(bucket.location.len() as u16),
                    reserved: [0; 6],
                };
                out.extend_from_slice(fixed.as_bytes());
                out.extend_from_slice(bucket.name.as_bytes());
                out.extend_from_slice(bucket.location.as_bytes());
            }
            CatalogChange::RemoveBucket(id) => {
                head(5, &mut out);
                out.extend_from_slice(&id.0.to_le_bytes());
            }
        }
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let head: &ChangeLayout = cursor.fixed("catalog change")?;
        let change = match head.kind {
            1 => CatalogChange::PutNamespace(decode_namespace(&mut cursor)?),
            2 => CatalogChange::PutUser(decode_user(&mut cursor)?),
            3 => CatalogChange::PutAccessKey(decode_access_key(&mut cursor)?),
            4 => CatalogChange::PutBucket(decode_bucket(&mut cursor)?),
            5 => CatalogChange::RemoveBucket(BucketId(cursor.fixed::<U64>("bucket id")?.get())),
            _ => return Err(Malformed("catalog change of an unknown kind")),
        };
        cursor.end("catalog change: bytes left over")?;
        Ok(change)
    }
}

fn head(kind: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(ChangeLayout { kind, reserved: [0; 3] }.as_bytes());
}

fn decode_namespace(cursor: &mut Cursor<'_>) -> Result<Namespace, Malformed> {
    let fixed: &NamespaceLayout = cursor.fixed("namespace")?;
    Ok(Namespace {
        id: NamespaceId(fixed.id.get()),
        name: text(cursor, fixed.name_len, "namespace name")?,
        seal_kind: SealKind::from_code(fixed.seal_kind).ok_or(Malformed("namespace: seal kind"))?,
        keys: cursor
            .slice::<WrappedKeyLayout>(fixed.key_count.get() as usize, "namespace keys")?
            .iter()
            .map(|key| WrappedKey {
                version: KeyVersion(key.version.get()),
                nonce: key.nonce,
                sealed: key.sealed,
            })
            .collect(),
    })
}

fn decode_user(cursor: &mut Cursor<'_>) -> Result<User, Malformed> {
    let fixed: &UserLayout = cursor.fixed("user")?;
    Ok(User {
        id: UserId(fixed.id.get()),
        namespace: NamespaceId(fixed.namespace.get()),
        name: text(cursor, fixed.name_len, "user name")?,
        canonical_id: text(cursor, fixed.canonical_id_len, "canonical id")?,
    })
}

fn decode_access_key(cursor: &mut Cursor<'_>) -> Result<AccessKey, Malformed> {
    let fixed: &AccessKeyLayout = cursor.fixed("access key")?;
    Ok(AccessKey {
        user: UserId(fixed.user.get()),
        id: text(cursor, fixed.id_len, "access key id")?,
        secret: text(cursor, fixed.secret_len, "secret")?,
    })
}

fn decode_bucket(cursor: &mut Cursor<'_>) -> Result<Bucket, Malformed> {
    let fixed: &BucketLayout = cursor.fixed("bucket")?;
    Ok(Bucket {
        id: BucketId(fixed.id.get()),
        namespace: NamespaceId(fixed.namespace.get()),
        owner: UserId(fixed.owner.get()),
        home: ShardId(fixed.home.get()),
        created: UnixMillis(fixed.created_ms.get()),
        name: text(cursor, fixed.name_len, "bucket name")?,
        location: text(cursor, fixed.location_len, "location")?,
    })
}

fn text(cursor: &mut Cursor<'_>, len: U16, what: &'static str) -> Result<String, Malformed> {
    let bytes = cursor.bytes(len.get().into(), what)?;
    Ok(std::str::from_utf8(bytes).map_err(|_| Malformed(what))?.to_owned())
}
