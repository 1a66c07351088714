//! What may lie on a device.

use crc_fast::CrcAlgorithm;
use engine::format::FORMAT_VERSION;
use engine::format::body::{PartBody, TombstoneBody, UploadBody, UploadEndBody, VersionBody};
use engine::format::catalog::CatalogChange;
use engine::format::record::{RECORD_VERSION, RecordHeader};
use engine::format::segment::SegmentHeader;
use engine::format::superblock::{Superblock, Verdict};
use engine::ids::StoreId;
use engine::limits::BLOCK_SIZE;
use xxhash_rust::xxh3::xxh3_128;
use zerocopy::IntoBytes;

/// One copy of a superblock.
pub fn superblock(bytes: &[u8]) {
    for image in block_images(bytes, 8) {
        if let Verdict::Present(superblock) = Superblock::decode(&image) {
            let again = Superblock::decode(superblock.encode().as_bytes());
            assert_eq!(again, Verdict::Present(superblock));
        }
    }
}

/// The header block of a segment slot.
pub fn segment_header(bytes: &[u8]) {
    for image in block_images(bytes, 4) {
        // The store is the one that the header names: another one is the first thing that is refused.
        let store = image.get(8..24).and_then(|id| id.try_into().ok()).map(StoreId).unwrap_or_default();
        if let Some(header) = SegmentHeader::decode(&image, store) {
            assert_eq!(SegmentHeader::decode(header.encode(store).as_bytes(), store), Some(header));
        }
    }
}

/// The header of a record, and whether the rest is its payload and settlement.
pub fn record_header(bytes: &[u8]) {
    for image in [bytes.to_vec(), with_header_crc(bytes)] {
        if let Some(header) = RecordHeader::decode(&image) {
            let body = &image[128..];
            let _ = header.matches_body(&body[..body.len().min(header.record_len() - 128)]);
            let _ = header.order();
            let _ = header.identity.associated_data();
            assert_eq!(RecordHeader::decode(header.encode().as_bytes()), Some(header));
        }
    }
}

/// The payload of a version record.
pub fn version(bytes: &[u8]) {
    if let Ok(body) = VersionBody::decode(bytes) {
        let again = VersionBody::encode(&body.key, &body.meta, &body.pieces, &bytes[body.inline.clone()]);
        assert_eq!(VersionBody::decode(&again).as_ref(), Ok(&body));
        assert_eq!(again[body.inline.clone()], bytes[body.inline]);
    }
}

/// The payload of a tombstone.
pub fn tombstone(bytes: &[u8]) {
    if let Ok(body) = TombstoneBody::decode(bytes) {
        assert_eq!(TombstoneBody::decode(&body.encode()), Ok(body));
    }
}

/// The payload of an upload record.
pub fn upload(bytes: &[u8]) {
    if let Ok(body) = UploadBody::decode(bytes) {
        assert_eq!(UploadBody::decode(&body.encode()), Ok(body));
    }
}

/// The payload of a part record.
pub fn part(bytes: &[u8]) {
    if let Ok(body) = PartBody::decode(bytes) {
        assert_eq!(PartBody::decode(&body.encode()), Ok(body));
    }
}

/// The payload of an upload's end.
pub fn upload_end(bytes: &[u8]) {
    if let Ok(body) = UploadEndBody::decode(bytes) {
        assert_eq!(UploadEndBody::decode(&body.encode()), Ok(body));
    }
}

/// The payload of a catalog change.
pub fn catalog_change(bytes: &[u8]) {
    if let Ok(change) = CatalogChange::decode(bytes) {
        assert_eq!(CatalogChange::decode(&change.encode()), Ok(change));
    }
}

/// The bytes as they are, and as a block of this format version whose last 16 bytes are the checksum of the others.
pub(crate) fn block_images(bytes: &[u8], version_at: usize) -> [Vec<u8>; 2] {
    let mut block = bytes.to_vec();
    block.resize(BLOCK_SIZE, 0);
    block[version_at..version_at + 4].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let checksum = xxh3_128(&block[..BLOCK_SIZE - 16]).to_le_bytes();
    block[BLOCK_SIZE - 16..].copy_from_slice(&checksum);
    [bytes.to_vec(), block]
}

/// The bytes with the version and the CRC that a record header has.
fn with_header_crc(bytes: &[u8]) -> Vec<u8> {
    let mut image = bytes.to_vec();
    image.resize(bytes.len().max(128), 0);
    image[9] = RECORD_VERSION;
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &image[8..128]) as u32;
    image[4..8].copy_from_slice(&crc.to_le_bytes());
    image
}
