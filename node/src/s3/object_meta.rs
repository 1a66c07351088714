//! Stored metadata and protocol values: the codes in which the engine keeps what it never looks into, and back.
//!
//! The codes are on disk: they may be added to and never changed.

use engine::format::body::{Checksum as StoredChecksum, ETag as StoredETag, Pairs, PartSummary, VersionMeta};
use engine::format::catalog::User;
use engine::ids::UnixMillis;
use engine::{Precondition, Version};
use proto_s3::condition::WriteCondition;
use proto_s3::op::create_multipart_upload::UploadChecksum;
use proto_s3::op::{Encryption, Object, ObjectChecksum, ObjectHeaders, Owner};
use proto_s3::{Algorithm, Checksum, ChecksumType, ETag};

/// The code of the storage class `STANDARD`, the only one.
pub(super) const CLASS_STANDARD: u8 = 0;

/// Checksum algorithms and their codes; 0 is none.
const ALGORITHMS: [(Algorithm, u8); 5] = [
    (Algorithm::Crc32, 1),
    (Algorithm::Crc32c, 2),
    (Algorithm::Crc64Nvme, 3),
    (Algorithm::Sha1, 4),
    (Algorithm::Sha256, 5),
];

/// Checksum types and their codes.
const TYPES: [(ChecksumType, u8); 2] = [(ChecksumType::Composite, 1), (ChecksumType::FullObject, 2)];

/// A version with its metadata in the protocol's terms.
pub(super) struct StoredObject {
    /// What the engine read.
    pub(super) version: Version,
    /// Its metadata.
    pub(super) headers: ObjectHeaders,
    /// Its checksum.
    pub(super) checksum: Option<ObjectChecksum>,
    encryption: Encryption,
}

impl StoredObject {
    /// Takes over what the engine read.
    pub(super) fn new(version: Version, encryption: Encryption) -> Self {
        let headers = headers(&version.meta.pairs);
        let checksum = object_checksum(&version.meta);
        StoredObject { version, headers, checksum, encryption }
    }

    /// What is stored about it.
    pub(super) fn meta(&self) -> &VersionMeta {
        &self.version.meta
    }

    /// Its entity tag.
    pub(super) fn etag(&self) -> ETag {
        etag(self.meta().etag)
    }

    /// What a response says about it.
    pub(super) fn object(&self) -> Object<'_> {
        Object {
            etag: self.etag(),
            last_modified_ms: millis(self.meta().modified),
            len: self.meta().size,
            headers: &self.headers,
            checksum: self.checksum,
            encryption: self.encryption,
        }
    }
}

/// Metadata as the engine keeps it.
pub(super) fn pairs(headers: ObjectHeaders) -> Pairs {
    headers.into_pairs().into_iter().map(|(name, value)| (name.into_bytes(), value)).collect()
}

/// Metadata as responses show it.
pub(super) fn headers(pairs: &Pairs) -> ObjectHeaders {
    // Names came from request heads, which are ASCII.
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    ObjectHeaders::from_pairs(pairs.iter().map(|(name, value)| (text(name), value.clone())).collect())
}

/// An entity tag from the store.
pub(super) fn etag(stored: StoredETag) -> ETag {
    ETag { md5: stored.md5, parts: stored.parts }
}

/// An entity tag for the store.
pub(super) fn stored_etag(etag: ETag) -> StoredETag {
    StoredETag { md5: etag.md5, parts: etag.parts }
}

/// A checksum for the store.
pub(super) fn stored_checksum(checksum: Option<Checksum>, checksum_type: ChecksumType) -> StoredChecksum {
    let Some(checksum) = checksum else { return StoredChecksum::default() };
    let mut stored = StoredChecksum {
        algorithm: algorithm_code(checksum.algorithm()),
        kind: type_code(checksum_type),
        len: checksum.value().len() as u8,
        value: [0; 32],
    };
    stored.value[..checksum.value().len()].copy_from_slice(checksum.value());
    stored
}

/// The checksum of an object, if it has one.
pub(super) fn object_checksum(meta: &VersionMeta) -> Option<ObjectChecksum> {
    let checksum = checksum(&meta.checksum)?;
    Some(match checksum_type(meta.checksum.kind)? {
        ChecksumType::Composite => ObjectChecksum::composite(checksum, meta.etag.parts),
        ChecksumType::FullObject => ObjectChecksum::full_object(checksum),
    })
}

/// The checksum of a part, if it has one.
pub(super) fn part_checksum(part: &PartSummary) -> Option<Checksum> {
    checksum(&part.checksum)
}

/// Algorithm and type of a checksum, from their codes.
pub(super) fn checksum_kind((algorithm, kind): (u8, u8)) -> Option<(Algorithm, ChecksumType)> {
    Some((algorithm_of(algorithm)?, checksum_type(kind)?))
}

/// The checksum that an upload was created with, from its codes.
pub(super) fn upload_checksum(codes: (u8, u8)) -> Option<UploadChecksum> {
    checksum_kind(codes).map(|(algorithm, checksum_type)| UploadChecksum { algorithm, checksum_type })
}

/// The codes of the checksum that an upload is created with.
pub(super) fn upload_checksum_codes(checksum: Option<UploadChecksum>) -> (u8, u8) {
    checksum.map_or((0, 0), |c| (algorithm_code(c.algorithm), type_code(c.checksum_type)))
}

/// A condition on a write, as the home shard decides it.
pub(super) fn precondition(condition: WriteCondition) -> Precondition {
    match condition {
        WriteCondition::None => Precondition::None,
        WriteCondition::Absent => Precondition::Absent,
        WriteCondition::Present => Precondition::Present,
        WriteCondition::Etag(tag) => Precondition::ETag(stored_etag(tag)),
        // No object has so many parts.
        WriteCondition::Unmatchable => Precondition::ETag(StoredETag { md5: [0; 16], parts: u32::MAX }),
    }
}

/// A user as documents name it.
pub(super) fn owner(user: &User) -> Owner {
    Owner { id: user.canonical_id.clone(), display_name: user.name.clone() }
}

/// A time as documents show it.
pub(super) fn millis(time: UnixMillis) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn checksum(stored: &StoredChecksum) -> Option<Checksum> {
    Checksum::from_bytes(algorithm_of(stored.algorithm)?, stored.value.get(..usize::from(stored.len))?)
}

fn algorithm_of(code: u8) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(_, known)| *known == code).map(|(algorithm, _)| *algorithm)
}

fn algorithm_code(algorithm: Algorithm) -> u8 {
    ALGORITHMS.iter().find(|(known, _)| *known == algorithm).map_or(0, |(_, code)| *code)
}

fn checksum_type(code: u8) -> Option<ChecksumType> {
    TYPES.iter().find(|(_, known)| *known == code).map(|(checksum_type, _)| *checksum_type)
}

fn type_code(checksum_type: ChecksumType) -> u8 {
    TYPES.iter().find(|(known, _)| *known == checksum_type).map_or(0, |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use proto_s3::Hasher;

    use super::*;

    #[test]
    fn every_checksum_survives_storage() {
        for algorithm in Algorithm::ALL {
            let value = Hasher::hash(algorithm, b"123456789");
            let stored = stored_checksum(Some(value), ChecksumType::FullObject);
            let meta = VersionMeta { checksum: stored, ..VersionMeta::default() };
            assert_eq!(object_checksum(&meta), Some(ObjectChecksum::full_object(value)), "{algorithm:?}");
        }
    }

    #[test]
    fn a_composite_checksum_keeps_its_number_of_parts() {
        let value = Hasher::hash(Algorithm::Sha256, b"a");
        let meta = VersionMeta {
            checksum: stored_checksum(Some(value), ChecksumType::Composite),
            etag: StoredETag { md5: [1; 16], parts: 3 },
            ..VersionMeta::default()
        };
        assert!(object_checksum(&meta).unwrap().to_string().ends_with("-3"));
    }

    #[test]
    fn codes_on_disk_do_not_change() {
        let codes: Vec<u8> = Algorithm::ALL.into_iter().map(algorithm_code).collect();
        assert_eq!(codes, [1, 2, 3, 4, 5]);
        assert_eq!((type_code(ChecksumType::Composite), type_code(ChecksumType::FullObject)), (1, 2));
    }

    #[test]
    fn no_checksum_is_none() {
        assert_eq!(object_checksum(&VersionMeta::default()), None);
        assert_eq!(upload_checksum((0, 0)), None);
        assert_eq!(stored_checksum(None, ChecksumType::FullObject), StoredChecksum::default());
    }

    #[test]
    fn metadata_survives_storage() {
        let kept =
            vec![("content-type".to_owned(), b"a/b".to_vec()), ("x-amz-meta-n".to_owned(), vec![0xe9])];
        let stored = pairs(ObjectHeaders::from_pairs(kept.clone()));
        assert_eq!(headers(&stored).into_pairs(), kept);
    }
}
