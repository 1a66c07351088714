//! The outline of a run: which directories of keys it holds, in a few bytes a block.
//!
//! ```text
//! keys      a/1   a/2 | a/b/1   a/b/2 | a/c/1 | a/d | b/1          a directory is what a key is up to and with its last `/`
//! stretches a/        | a/b/          | a/c/  | a/  | b/
//! marks     a/        | a/b/          | a/c/  | a/d | b/
//! ```
//! - A **stretch** is some entries that follow each other, all in one directory or below it. Each entry of the run lies in one, and a stretch has at least one.
//! - Its **mark** is above all entries before it, and its first entry begins with it; the directory is what the mark begins with. Marks ascend strictly.
//! - It counts its keys that have an object as a version, and what may hide objects: removals and delete markers.
//! - First each directory is a stretch of its own. When they cost more than [`OUTLINE_LEN_BASE`] and [`OUTLINE_LEN_PER_BLOCK`] for each entry block,
//!   the newest that are complete become one with their neighbours, those first that are deepest and smallest. So a run with a directory for every key or two
//!   costs no more, and pages of its upper levels still find what they need.
//!
//! An outline follows from the entries and where their blocks end: fsck makes it again and compares.

use std::cmp::Reverse;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Malformed;
use super::directory::{common_directory_len, directory_len, is_object, version_stem};
use super::run::common_len;

/// What stretches may cost in any run: those of a page of common prefixes, whose names are short, do not cost more.
pub const OUTLINE_LEN_BASE: usize = 32 * 1024;

/// What they may cost for each entry block beside it. Its fence takes some 28 bytes and a block holds some 168 versions: together less than half a byte a version.
pub const OUTLINE_LEN_PER_BLOCK: usize = 48;

/// What a stretch costs in memory beside its mark.
const STRETCH_OVERHEAD: usize = 14;

/// Stretches from before the newest block that are looked at too when some must become one.
const WINDOW: usize = 64;

/// Value of a stretch; its key is the mark.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct StretchLayout {
    /// Bytes of the mark that are the directory.
    pub directory_len: U16,
    /// Keys in it with an object as a version, or more than 32 bits hold.
    pub key_count: U32,
    /// Removals and delete markers in it, or more than 32 bits hold.
    pub hiding_count: U32,
}

const _: () = assert!(size_of::<StretchLayout>() == 10);

/// Entries of a run that lie in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// What its first entry begins with, above all entries before it.
    pub mark: Vec<u8>,
    /// Bytes of the mark that are the directory.
    pub directory_len: u16,
    /// Keys with an object as a version; no more than there are.
    pub key_count: u32,
    /// Removals and delete markers; `u32::MAX` for that or more.
    pub hiding_count: u32,
}

impl Stretch {
    /// The value of its entry.
    pub fn encode(&self) -> StretchLayout {
        StretchLayout {
            directory_len: U16::new(self.directory_len),
            key_count: U32::new(self.key_count),
            hiding_count: U32::new(self.hiding_count),
        }
    }

    /// Reads one from an entry of an outline block.
    pub fn decode(mark: &[u8], value: &[u8]) -> Result<Self, Malformed> {
        let layout = StretchLayout::ref_from_bytes(value).map_err(|_| Malformed("stretch: length"))?;
        let directory_len = layout.directory_len.get();
        if usize::from(directory_len) > mark.len() {
            return Err(Malformed("stretch: its directory is longer than its mark"));
        }
        let (key_count, hiding_count) = (layout.key_count.get(), layout.hiding_count.get());
        Ok(Stretch { mark: mark.to_vec(), directory_len, key_count, hiding_count })
    }

    /// The directory that all its entries lie in or below.
    pub fn directory(&self) -> &[u8] {
        &self.mark[..self.directory_len.into()]
    }

    /// Takes in the next one; `joint` is what both lie in.
    fn join(&mut self, next: &Stretch, joint: u16) {
        self.directory_len = self.directory_len.min(joint);
        self.key_count = self.key_count.saturating_add(next.key_count);
        self.hiding_count = self.hiding_count.saturating_add(next.hiding_count);
    }

    fn cost(&self) -> usize {
        self.mark.len() + STRETCH_OVERHEAD
    }

    fn is_in(&self, directory: &[u8]) -> bool {
        self.directory() == directory
    }
}

/// Makes the outline of a run from its entries, in order.
#[derive(Debug)]
pub struct OutlineBuilder {
    /// The last one is not complete.
    stretches: Vec<Stretch>,
    /// Of each, the bytes of the longest directory that it and the one before it lie in.
    joints: Vec<u16>,
    cost: usize,
    /// What they may cost.
    budget: usize,
    /// Where those begin that may become one with others.
    window: usize,
    last_key: Vec<u8>,
    /// Whether an object of the key of that was counted.
    is_counted: bool,
}

impl Default for OutlineBuilder {
    fn default() -> Self {
        Self::with_budget(OUTLINE_LEN_BASE)
    }
}

impl OutlineBuilder {
    /// For stretches that cost so much before the first block ends.
    pub(crate) fn with_budget(budget: usize) -> Self {
        OutlineBuilder {
            stretches: Vec::new(),
            joints: Vec::new(),
            cost: 0,
            budget,
            window: 0,
            last_key: Vec::new(),
            is_counted: false,
        }
    }

    /// Takes an entry, above all before it. No value is a removal.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        let directory = &key[..directory_len(key)];
        if self.stretches.last().is_none_or(|open| !open.is_in(directory)) {
            self.begin(key, directory.len());
        }
        self.count(key, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    fn count(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(stem) = version_stem(key) else { return };
        if version_stem(&self.last_key) != Some(stem) {
            self.is_counted = false;
        }
        let open = self.stretches.last_mut().expect("the entry lies in one");
        if !value.is_some_and(is_object) {
            open.hiding_count = open.hiding_count.saturating_add(1);
        } else if !std::mem::replace(&mut self.is_counted, true) {
            open.key_count = open.key_count.saturating_add(1);
        }
    }

    /// The entries so far end a block.
    pub fn end_block(&mut self) {
        self.budget += OUTLINE_LEN_PER_BLOCK;
        if self.cost > self.budget {
            self.join_neighbours();
        }
        self.window = self.stretches.len().saturating_sub(WINDOW);
    }

    /// The outline.
    pub fn finish(self) -> Vec<Stretch> {
        self.stretches
    }

    fn begin(&mut self, key: &[u8], directory_len: usize) {
        let (mut joint, mut mark_len) = (0, directory_len);
        if let Some(last) = self.stretches.last() {
            joint = common_directory_len(last.directory(), &key[..directory_len]);
            mark_len = mark_len.max(common_len(&self.last_key, key) + 1);
        }
        let stretch = Stretch {
            mark: key[..mark_len].to_vec(),
            directory_len: directory_len as u16,
            key_count: 0,
            hiding_count: 0,
        };
        self.cost += stretch.cost();
        self.stretches.push(stretch);
        self.joints.push(joint as u16);
    }

    /// Makes stretches one with the one before them until they cost no more than they may, as far as those suffice that are complete and in the window.
    fn join_neighbours(&mut self) {
        let (begin, open) = (self.window, self.stretches.len() - 1);
        let keys = |at: usize| u64::from(self.stretches[at].key_count);
        let mut order: Vec<usize> = (begin + 1..open).collect();
        order.sort_by_key(|at| (Reverse(self.joints[*at]), keys(at - 1) + keys(*at), *at));
        let mut is_joined = vec![false; open + 1 - begin];
        for at in order {
            if self.cost <= self.budget {
                break;
            }
            self.cost -= self.stretches[at].cost();
            is_joined[at - begin] = true;
        }
        let (stretches, joints) = (self.stretches.split_off(begin), self.joints.split_off(begin));
        for (i, (stretch, joint)) in stretches.into_iter().zip(joints).enumerate() {
            match self.stretches.last_mut() {
                Some(last) if is_joined[i] => last.join(&stretch, joint),
                last => {
                    // The one before it may have become less deep.
                    self.joints.push(joint.min(last.map_or(0, |last| last.directory_len)));
                    self.stretches.push(stretch);
                }
            }
        }
    }
}
