//! A multipart upload that its client has begun, across restarts of the node.

use super::choose::PART_LEN;
use super::model::Version;
use crate::s3::Part;

/// More parts than any upload here has.
pub(super) const PARTS_MAX: usize = 100;

/// How far the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// Complete was sent, and not answered so far.
    Completing,
    /// Abort was sent, and not answered so far.
    Aborting,
}

#[derive(Clone, Debug)]
pub(super) struct Upload {
    /// Index of the key's slot.
    pub slot: usize,
    pub id: String,
    pub stage: Stage,
    generation: u64,
    len: u64,
    acknowledged: Vec<Option<Part>>,
}

impl Upload {
    pub fn new(slot: usize, id: String, generation: u64, len: u64) -> Self {
        let part_count = len.div_ceil(PART_LEN) as usize;
        Self { slot, id, stage: Stage::Open, generation, len, acknowledged: vec![None; part_count] }
    }

    /// The object that it will make; its ETag is known once all parts are.
    pub fn version(&self, key: &str) -> Version {
        Version { origin: key.to_owned(), generation: self.generation, len: self.len, etag: None }
    }

    /// Whether this object came of it.
    pub fn made(&self, version: &Version) -> bool {
        version.generation == self.generation && version.len == self.len
    }

    /// Numbers of the parts without an answer.
    pub fn missing_parts(&self) -> Vec<u32> {
        let all = self.acknowledged.iter().zip(1..);
        all.filter(|(part, _)| part.is_none()).map(|(_, number)| number).collect()
    }

    /// Start and length of a part.
    pub fn range(&self, number: u32) -> (u64, u64) {
        let start = u64::from(number - 1) * PART_LEN;
        (start, PART_LEN.min(self.len - start))
    }

    pub fn stored(&mut self, part: Part) {
        let index = part.number as usize - 1;
        self.acknowledged[index] = Some(part);
    }

    pub fn parts(&self) -> Vec<Part> {
        self.acknowledged.iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_object_and_only_the_last_is_short() {
        let mut upload = Upload::new(0, "id".into(), 1, 2 * PART_LEN + 7);
        assert_eq!(upload.missing_parts(), [1, 2, 3]);
        assert_eq!(
            [1, 2, 3].map(|number| upload.range(number)),
            [(0, PART_LEN), (PART_LEN, PART_LEN), (2 * PART_LEN, 7)]
        );
        upload.stored(Part { number: 2, etag: "e".into() });
        assert_eq!(upload.missing_parts(), [1, 3]);
    }
}
