//! What the key directory, checkpoints and compaction put on a device.

use engine::format::body::Extent;
use engine::format::checkpoint::{CheckpointBody, Image, Pointer};
use engine::format::directory::{
    Entry, extent_key, parse_extent_key, parse_version_key, parse_version_prefix, version_key, version_prefix,
};
use engine::format::due::{DueBody, due_key, item_key, parse_due_key, parse_item_key};
use engine::format::lease::Lease;
use engine::format::outline::{Stretch, StretchLayout};
use engine::format::run::{Block, RunDescriptor, encode_pairs};
use engine::format::settlement::Settlement;
use engine::format::upkeep::{CursorBody, ReapBody, Scope};
use engine::ids::{BucketId, ShardId, StoreId};
use engine::limits::RUN_BLOCK_PAYLOAD;
use zerocopy::IntoBytes;

use crate::disk::block_images;

/// A block of the checkpoint area.
pub fn checkpoint_pointer(bytes: &[u8]) {
    for image in block_images(bytes, 4) {
        let store = image.get(8..24).and_then(|id| id.try_into().ok()).map(StoreId).unwrap_or_default();
        let shard =
            image.get(24..26).and_then(|id| id.try_into().ok()).map(u16::from_le_bytes).unwrap_or_default();
        if let Some(pointer) = Pointer::decode(&image, store, ShardId(shard)) {
            let again = pointer.encode(store);
            assert_eq!(Pointer::decode(again.as_bytes(), store, ShardId(shard)), Some(pointer));
        }
    }
}

/// A block that says how far ids are given.
pub fn lease(bytes: &[u8]) {
    for image in block_images(bytes, 4) {
        let store = image.get(8..24).and_then(|id| id.try_into().ok()).map(StoreId).unwrap_or_default();
        if let Some(lease) = Lease::decode(&image, store) {
            assert_eq!(Lease::decode(lease.encode(store).as_bytes(), store), Some(lease));
        }
    }
}

/// The payload of a checkpoint record.
pub fn checkpoint(bytes: &[u8]) {
    if let Ok(body) = CheckpointBody::decode(bytes) {
        assert_eq!(CheckpointBody::decode(&body.encode()), Ok(body));
    }
}

/// The body that a checkpoint record leads to.
pub fn checkpoint_image(bytes: &[u8]) {
    if let Ok(image) = Image::decode(bytes) {
        assert_eq!(Image::decode(&image.encode()), Ok(image));
    }
}

/// A block of a run.
pub fn run_block(bytes: &[u8]) {
    let Ok(block) = Block::decode(bytes) else { return };
    let pairs: Vec<(u64, u64)> =
        block.pairs().iter().map(|pair| (pair.hash.get(), pair.location.get())).collect();
    if pairs.is_empty() {
        return;
    }
    let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
    encode_pairs(block.kind(), &pairs, &mut payload);
    let again = Block::decode(&payload).expect("what we encode decodes");
    assert_eq!(again.pairs().as_bytes(), block.pairs().as_bytes());
}

/// What describes a run.
pub fn run_descriptor(bytes: &[u8]) {
    if let Ok((descriptor, rest)) = RunDescriptor::decode(bytes) {
        assert!(rest.len() < bytes.len());
        let _ = descriptor.block_count();
        let mut again = Vec::new();
        descriptor.encode(&mut again);
        assert_eq!(RunDescriptor::decode(&again), Ok((descriptor, &[][..])));
    }
}

/// A stretch of an outline: its value, then its mark.
pub fn run_stretch(bytes: &[u8]) {
    let Some((value, mark)) = bytes.split_at_checked(size_of::<StretchLayout>()) else { return };
    if let Ok(stretch) = Stretch::decode(mark, value) {
        assert!(stretch.mark.starts_with(stretch.directory()));
        assert_eq!(stretch.encode().as_bytes(), value);
    }
}

/// A value of the directory.
pub fn directory_entry(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode(bytes) {
        let _ = entry.slot();
        let again = entry.encode();
        if again.len() == bytes.len() {
            assert_eq!(Entry::decode(&again), Ok(entry));
        }
    }
}

/// Keys of the directory.
pub fn directory_key(bytes: &[u8]) {
    if let Some((bucket, key, slot)) = parse_version_key(bytes) {
        assert_eq!(version_key(bucket, &key, slot), bytes);
    }
    if let Some(prefix) = parse_version_prefix(bytes) {
        let bucket = bytes[1..9].try_into().map(u64::from_be_bytes).map(BucketId).expect("eight bytes");
        assert_eq!(version_prefix(bucket, &prefix), bytes);
    }
    if let Some((segment, block, (bucket, key, slot))) = parse_extent_key(bytes) {
        let extent = Extent { segment, block, block_count: 1 };
        assert_eq!(extent_key(&extent, bucket, &key, slot), bytes);
    }
}

/// What lies behind the payload of a record.
pub fn settlement(bytes: &[u8]) {
    if let Ok(settlement) = Settlement::decode(bytes) {
        assert_eq!(Settlement::decode(&settlement.encode()), Ok(settlement));
    }
}

/// The payload of a range tombstone.
pub fn range_tombstone(bytes: &[u8]) {
    if let Ok(scope) = Scope::decode(bytes) {
        assert_eq!(Scope::decode(&scope.encode()), Ok(scope));
    }
}

/// The payload of a reap record.
pub fn reap(bytes: &[u8]) {
    if let Ok(body) = ReapBody::decode(bytes) {
        assert_eq!(ReapBody::decode(&body.encode()), Ok(body));
    }
}

/// The payload of a cursor record.
pub fn cursor(bytes: &[u8]) {
    if let Ok(body) = CursorBody::decode(bytes) {
        assert_eq!(CursorBody::decode(&body.encode()), Ok(body));
    }
}

/// The payload of a due record, and keys and values of the due-time index.
pub fn due(bytes: &[u8]) {
    if let Ok(body) = DueBody::decode(bytes) {
        assert_eq!(DueBody::decode(&body.encode()), Ok(body));
    }
    if let Some((time, (bucket, key, item))) = parse_due_key(bytes) {
        assert_eq!(due_key(time, bucket, &key, item), bytes);
    }
    if let Some((bucket, key, item)) = parse_item_key(bytes) {
        assert_eq!(item_key(bucket, &key, item), bytes);
    }
}
