//! Runs of the directory: every block on every copy, and the order of all that they hold.

use super::finding::{Fault, Severity, Stage};
use super::report::{CopyVerdict, Where};
use super::{Finding, Fsck, ReadOnly};
use crate::core::Core;
use crate::crypto::{CATALOG_NAMESPACE, FramePosition, ObjectKey, Seal};
use crate::device::{AlignedBuffer, Device};
use crate::format::body::Extent;
use crate::format::outline::{OutlineBuilder, Stretch};
use crate::format::run::{Block, BlockKind, RunDescriptor, pair_order};
use crate::ids::ShardId;
use crate::limits::{RUN_BLOCK_PAYLOAD, RUN_BLOCK_SIZE, RUN_BLOCKS_PER_IO};

/// What the blocks of a run hold, as far as it was read.
#[derive(Default)]
struct Walk {
    last_key: Option<Vec<u8>>,
    last_pair: Option<(u64, u64)>,
    entries: u64,
    removals: u64,
    added: u64,
    removed: u64,
    /// First and last key of each entry block, until the fences are compared with them.
    ends: Vec<(Vec<u8>, Vec<u8>)>,
    fences: usize,
    outline: OutlineBuilder,
    /// What the outline should hold, once the entries were walked.
    stretches: Option<std::vec::IntoIter<Stretch>>,
}

impl<D: Device> Fsck<'_, D> {
    pub(super) async fn check_run(&mut self, shard: ShardId, run: &RunDescriptor) {
        let keyring = &self.core.store.keyring;
        let key = match keyring.object_key(run.seal_kind, CATALOG_NAMESPACE, run.key_version, run.object_id) {
            Ok(key) => key,
            Err(error) => return self.shard_error(Fault::Run, shard, error),
        };
        let (mut number, mut walk, mut is_whole) = (0, Walk::default(), true);
        for extent in &run.extents {
            self.note_gone(extent.segment);
            let blocks = (extent.disk_len() / RUN_BLOCK_SIZE as u64) as u32;
            let mut done = 0;
            while done < blocks {
                let count = (blocks - done).min(RUN_BLOCKS_PER_IO as u32);
                let offset = extent.offset() + u64::from(done) * RUN_BLOCK_SIZE as u64;
                let looked = look_at_blocks(&self.core, &key, extent, offset, number, count).await;
                for (i, (block, copies)) in (0..).zip(looked) {
                    let of = format!("block {} of directory run {}", number + i, run.id);
                    let at = Where {
                        fault: Fault::RunBlock,
                        shard: Some(shard),
                        segment: extent.segment,
                        offset: offset + u64::from(i) * RUN_BLOCK_SIZE as u64,
                        of: &of,
                    };
                    is_whole &= self.report.copies(at, &copies);
                    self.report.summary.run_blocks += 1;
                    let fault = block.and_then(|block| walk.take(run, number + i, &block).err());
                    if let Some(what) = fault.filter(|_| is_whole) {
                        let finding = Finding::new(Fault::Run, Severity::Lost, &format!("{of}: {what}"));
                        self.report.add(finding.shard(shard).segment(at.segment).offset(at.offset));
                    }
                }
                (done, number) = (done + count, number + count);
                self.report.progress(Stage::Runs, Some(shard), number.into(), Some(run.block_count().into()));
            }
        }
        if is_whole && walk.lacks_stretches() {
            self.shard_finding(Fault::Run, shard, &format!("run {} lacks stretches of its outline", run.id));
        }
        let counted = (walk.entries, walk.removals, walk.added, walk.removed, walk.fences as u64);
        let said = (
            run.entry_count,
            run.removal_count,
            run.added_count,
            run.removed_count,
            u64::from(run.entry_blocks),
        );
        if is_whole && counted != said {
            let detail = format!(
                "run {} holds {counted:?} entries, removals, pairs gained, pairs lost and fences, and says {said:?}",
                run.id
            );
            self.shard_finding(Fault::Run, shard, &detail);
        }
    }
}

/// Each block from a copy that verifies, and what is wrong with each copy.
async fn look_at_blocks<D: Device>(
    core: &Core<ReadOnly<D>>,
    key: &ObjectKey,
    extent: &Extent,
    offset: u64,
    first: u32,
    count: u32,
) -> Vec<(Option<Block>, Vec<CopyVerdict>)> {
    let mut blocks: Vec<(Option<Block>, Vec<CopyVerdict>)> = (0..count).map(|_| (None, Vec::new())).collect();
    for place in core.store.table.places(extent.segment).unwrap_or_default() {
        let buffer = AlignedBuffer::zeroed(count as usize * RUN_BLOCK_SIZE);
        let (result, mut buffer) = core.read_copy(place, offset, buffer).await;
        let bytes = buffer.chunks_exact_mut(RUN_BLOCK_SIZE);
        for ((number, (block, copies)), bytes) in (first..).zip(&mut blocks).zip(bytes) {
            let opened = match &result {
                Ok(()) => open(key, number, bytes),
                Err(_) => Err("it can't be read"),
            };
            copies.push((place, opened.as_ref().err().copied()));
            *block = block.take().or(opened.ok());
        }
    }
    blocks
}

fn open(key: &ObjectKey, number: u32, bytes: &mut [u8]) -> Result<Block, &'static str> {
    let (payload, seal) = bytes.split_at_mut(RUN_BLOCK_PAYLOAD);
    let seal: Seal = (&*seal).try_into().map_err(|_| "its seal is cut off")?;
    let opened = key.open_frame(number.into(), FramePosition::Middle, payload, &seal);
    opened.map_err(|_| "its seal does not match")?;
    Block::decode(payload).map_err(|malformed| malformed.0)
}

impl Walk {
    /// Takes the next block: what it holds comes after what the ones before hold.
    fn take(&mut self, run: &RunDescriptor, number: u32, block: &Block) -> Result<(), &'static str> {
        if !run.section(block.kind()).contains(&number) {
            return Err("a block of another kind than belongs there");
        }
        match block.kind() {
            BlockKind::Entries => self.take_entries(block),
            BlockKind::Fences => self.take_fences(block),
            BlockKind::Outline => self.take_outline(block),
            kind => self.take_pairs(kind, block),
        }
    }

    fn take_entries(&mut self, block: &Block) -> Result<(), &'static str> {
        let (mut key, mut first) = (Vec::new(), None);
        let mut at = block.first();
        while let Some(entry) = block.entry(at) {
            key.truncate(entry.shared_len);
            key.extend_from_slice(entry.rest);
            if self.last_key.as_ref().is_some_and(|last| *last >= key) {
                return Err("its keys do not ascend");
            }
            first.get_or_insert_with(|| key.clone());
            self.last_key = Some(key.clone());
            self.entries += 1;
            self.removals += u64::from(entry.value.is_none());
            self.outline.add(&key, entry.value.as_ref().map(|value| block.value(value)));
            at = entry.next;
        }
        self.outline.end_block();
        self.ends.push((first.ok_or("it is empty")?, key));
        Ok(())
    }

    fn take_fences(&mut self, block: &Block) -> Result<(), &'static str> {
        let mut fence = Vec::new();
        let mut at = block.first();
        while let Some(entry) = block.entry(at) {
            fence.truncate(entry.shared_len);
            fence.extend_from_slice(entry.rest);
            let (first, _) = self.ends.get(self.fences).ok_or("more fences than blocks")?;
            let before = self.fences.checked_sub(1).map(|before| &self.ends[before].1);
            if fence > *first || before.is_some_and(|before| fence <= *before) {
                return Err("a fence does not stand between its block and the one before");
            }
            self.fences += 1;
            at = entry.next;
        }
        Ok(())
    }

    fn take_outline(&mut self, block: &Block) -> Result<(), &'static str> {
        let made = std::mem::take(&mut self.outline);
        let expected = self.stretches.get_or_insert_with(|| made.finish().into_iter());
        let mut mark = Vec::new();
        let mut at = block.first();
        while let Some(entry) = block.entry(at) {
            mark.truncate(entry.shared_len);
            mark.extend_from_slice(entry.rest);
            let value = entry.value.as_ref().map_or(&[][..], |value| block.value(value));
            let stretch = Stretch::decode(&mark, value).map_err(|malformed| malformed.0)?;
            if expected.next().as_ref() != Some(&stretch) {
                return Err("its outline is not that of its entries");
            }
            at = entry.next;
        }
        Ok(())
    }

    /// Whether the outline ended before the entries did.
    fn lacks_stretches(&self) -> bool {
        self.stretches.as_ref().map_or(self.entries > 0, |left| left.len() > 0)
    }

    fn take_pairs(&mut self, kind: BlockKind, block: &Block) -> Result<(), &'static str> {
        let count = if kind == BlockKind::Removed { &mut self.removed } else { &mut self.added };
        if *count == 0 {
            self.last_pair = None;
        }
        *count += block.count() as u64;
        for pair in block.pairs() {
            let pair = pair.get();
            if self.last_pair.is_some_and(|last| pair_order(&last) > pair_order(&pair)) {
                return Err("its pairs are not in order");
            }
            self.last_pair = Some(pair);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::format::directory::version_key;
    use crate::format::record::SealKind;
    use crate::format::run::{BlockBuilder, PAIRS_PER_BLOCK, encode_pairs};
    use crate::ids::{BucketId, KeyVersion, ObjectId};

    fn entries_block(keys: &[&str]) -> Block {
        let mut builder = BlockBuilder::new(BlockKind::Entries);
        for key in keys {
            assert!(builder.add(&version_key(BucketId(1), key.as_bytes(), 0), None));
        }
        built(builder)
    }

    fn outline_block(keys: &[&str]) -> Block {
        let mut outline = OutlineBuilder::default();
        keys.iter().for_each(|key| outline.add(&version_key(BucketId(1), key.as_bytes(), 0), None));
        outline.end_block();
        let mut builder = BlockBuilder::new(BlockKind::Outline);
        for stretch in outline.finish() {
            assert!(builder.add(&stretch.mark, Some(stretch.encode().as_bytes())));
        }
        built(builder)
    }

    fn built(mut builder: BlockBuilder) -> Block {
        let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
        builder.finish(&mut payload);
        Block::decode(&payload).expect("whole")
    }

    #[test]
    fn an_outline_that_is_not_that_of_the_entries_is_found() {
        let keys = ["a/1", "a/2", "b/1"];
        let wrong = Err("its outline is not that of its entries");
        let cases: [(&[&str], Result<(), &str>, bool); 5] = [
            (&keys, Ok(()), false),
            (&["a/1", "b/1"], wrong, false),
            (&["a/1", "a/2", "c/1"], wrong, false),
            (&["a/1", "a/2", "b/1", "b/c/1"], wrong, false),
            (&["a/1", "a/2"], Ok(()), true),
        ];
        for (outlined, expected, is_lacking) in cases {
            let mut walk = Walk::default();
            assert_eq!(walk.take_entries(&entries_block(&keys)), Ok(()));
            assert!(walk.lacks_stretches(), "there is no outline yet");
            assert_eq!(walk.take_outline(&outline_block(outlined)), expected, "{outlined:?}");
            assert!(expected.is_err() || walk.lacks_stretches() == is_lacking, "{outlined:?}");
        }
    }

    #[test]
    fn pairs_of_a_block_that_do_not_come_after_those_of_the_one_before_are_found() {
        let run = RunDescriptor {
            id: 1,
            object_id: ObjectId([0; 16]),
            key_version: KeyVersion(0),
            seal_kind: SealKind::Checksum,
            entry_count: 0,
            removal_count: 0,
            added_count: PAIRS_PER_BLOCK as u64 + 1,
            removed_count: 1,
            entry_blocks: 0,
            fence_blocks: 0,
            outline_blocks: 0,
            extents: Vec::new(),
        };
        let block = |kind, pair| {
            let mut payload = vec![0; RUN_BLOCK_PAYLOAD];
            encode_pairs(kind, &[pair], &mut payload);
            Block::decode(&payload).expect("whole")
        };
        // As numbers the first two ascend, by the bits of their hashes the other two. What is lost begins anew.
        let cases = [((3, 7), (5, 0), Err("its pairs are not in order")), ((5, 7), (3, 0), Ok(()))];
        for (first, second, expected) in cases {
            let mut walk = Walk::default();
            assert_eq!(walk.take(&run, 0, &block(BlockKind::Added, first)), Ok(()));
            assert_eq!(walk.take(&run, 1, &block(BlockKind::Added, second)), expected);
            assert_eq!(walk.take(&run, 2, &block(BlockKind::Removed, (2, 2))), Ok(()));
        }
    }
}
