//! The outline of a run in memory: what the next group of keys is after a place, and how sure it is that one of them is there.
//!
//! A group is all keys that begin with the same bytes up to and with the first delimiter after a base: what a listing shows as one common prefix.

use std::ops::Range;

use super::run::Fences;
use crate::format::directory::DIRECTORY_DELIMITER;
use crate::format::outline::Stretch;

/// Stretches of a run, side by side.
#[derive(Debug)]
pub(super) struct Outline {
    marks: Fences,
    directory_lens: Vec<u16>,
    /// Of each stretch, keys with an object in all before it; then those of the run. No more than there are.
    keys_before: Vec<u32>,
    /// The same for what hides objects; `u32::MAX` for that or more.
    hiding_before: Vec<u32>,
}

/// What an outline knows of the first entry at or above a place that begins with a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// There is none.
    End,
    /// It is in the group that the mark of that stretch begins with, up to that length.
    Group { stretch: u32, len: usize },
    /// There may be one, not before the mark of that stretch; for none, at the place itself.
    Unknown { from: Option<u32> },
}

/// What is in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Keys that have an object as a version: at least so many.
    pub(super) keys: u64,
    /// Removals and delete markers: at most so many.
    pub(super) hiding: u64,
}

impl Default for Outline {
    fn default() -> Self {
        Outline {
            marks: Fences::default(),
            directory_lens: Vec::new(),
            keys_before: vec![0],
            hiding_before: vec![0],
        }
    }
}

impl Outline {
    /// Adds the next stretch.
    pub(super) fn push(&mut self, stretch: &Stretch) {
        self.marks.push(&stretch.mark);
        self.directory_lens.push(stretch.directory_len);
        let sum = |sums: &mut Vec<u32>, count: u32| {
            sums.push(sums.last().copied().unwrap_or_default().saturating_add(count));
        };
        sum(&mut self.keys_before, stretch.key_count);
        sum(&mut self.hiding_before, stretch.hiding_count);
    }

    pub(super) fn len(&self) -> u32 {
        self.marks.len()
    }

    /// The mark of a stretch.
    pub(super) fn mark(&self, stretch: u32) -> &[u8] {
        self.marks.fence(stretch)
    }

    /// Memory that it takes.
    pub(super) fn len_bytes(&self) -> usize {
        self.marks.len_bytes()
            + self.directory_lens.capacity() * size_of::<u16>()
            + (self.keys_before.capacity() + self.hiding_before.capacity()) * size_of::<u32>()
    }

    /// What is ahead of a place that begins with the base. `near` is a stretch whose mark is at most the place, if there is one, and is moved to the last such.
    pub(super) fn ahead(&self, place: &[u8], base: &[u8], near: &mut u32) -> Ahead {
        let next = match self.last_at(place, near) {
            // Entries in its directory are all below the place, or some of them may not be.
            Some(at) if !place.starts_with(self.directory(at)) => at + 1,
            Some(at) if self.mark(at) == place => at,
            Some(_) => return Ahead::Unknown { from: None },
            None => 0,
        };
        if next == self.len() || !self.mark(next).starts_with(base) {
            return Ahead::End;
        }
        match group_len(self.mark(next), base.len()) {
            Some(len) => Ahead::Group { stretch: next, len },
            None => Ahead::Unknown { from: Some(next) },
        }
    }

    /// What is in a group from a place on that is before the end of the group. `near` as with [`Outline::ahead`].
    pub(super) fn tally(&self, place: &[u8], group: &[u8], group_end: &[u8], near: &mut u32) -> Tally {
        let first = match self.last_at(place, near) {
            Some(at) if place.starts_with(self.directory(at)) => at,
            Some(at) => at + 1,
            None => 0,
        };
        let end = self.first_at(group_end, first);
        if first == end {
            return Tally::default();
        }
        Tally { keys: self.keys_within(first..end, place, group), hiding: self.hiding(first..end) }
    }

    /// Keys of those stretches that lie wholly in the group and at or above the place: all but the first and the last do if they have entries there.
    fn keys_within(&self, stretches: Range<u32>, place: &[u8], group: &[u8]) -> u64 {
        let is_begun = |at: u32| self.mark(at).starts_with(group) && self.mark(at) >= place;
        let Some(first) = (stretches.start..stretches.end).take(2).find(|at| is_begun(*at)) else { return 0 };
        let is_ended = self.directory(stretches.end - 1).starts_with(group);
        let end = if is_ended { stretches.end } else { stretches.end - 1 };
        u64::from(self.keys_before[end as usize].saturating_sub(self.keys_before[first as usize]))
    }

    fn hiding(&self, stretches: Range<u32>) -> u64 {
        match self.hiding_before[stretches.end as usize] {
            u32::MAX => u64::MAX,
            sum => u64::from(sum - self.hiding_before[stretches.start as usize]),
        }
    }

    fn directory(&self, stretch: u32) -> &[u8] {
        &self.mark(stretch)[..self.directory_lens[stretch as usize].into()]
    }

    /// The last stretch whose mark is at most the place.
    fn last_at(&self, place: &[u8], near: &mut u32) -> Option<u32> {
        if self.len() == 0 || self.mark(*near) > place {
            return None;
        }
        *near = self.marks.block_from(place, *near);
        Some(*near)
    }

    /// The first stretch from that one on whose mark is at least that.
    fn first_at(&self, key: &[u8], from: u32) -> u32 {
        // Most times it is near: steps that double, and then halves.
        let (mut low, mut high, mut step) = (from, from, 1);
        while high < self.len() && self.mark(high) < key {
            low = high + 1;
            high = (high + step).min(self.len());
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.mark(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Bytes of the group that a key is in, if it is in one.
pub(super) fn group_len(key: &[u8], base_len: usize) -> Option<usize> {
    let delimiter = key.get(base_len..)?.iter().position(|byte| *byte == DIRECTORY_DELIMITER)?;
    Some(base_len + delimiter + 1)
}

/// The first byte string after all keys of a group.
pub(super) fn group_end(group: &[u8]) -> Vec<u8> {
    let mut end = group.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::format::body::Numbering;
    use crate::format::directory::{
        Entry, EntryExtents, EntryKind, Listed, extent_key, parse_version_key, version_key, version_prefix,
    };
    use crate::format::outline::{OUTLINE_LEN_PER_BLOCK, OutlineBuilder};
    use crate::format::settlement::RecordPlace;
    use crate::ids::{BucketId, Lsn, SegmentId};

    /// So few that neighbours are joined in small runs.
    const BUDGET: usize = 1024;

    type Entries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn value(kind: EntryKind) -> Vec<u8> {
        let entry = Entry {
            listed: Listed::default(),
            kind,
            numbering: Numbering::Null,
            order: Lsn(1),
            place: RecordPlace::default(),
            extents: EntryExtents::Here(Box::default()),
        };
        entry.encode()
    }

    /// Entries of two buckets and of another table. Names are short, or so long that few stretches are within the budget.
    fn entries() -> impl Strategy<Value = Entries> {
        let name = prop_oneof![
            3 => "[ab]{1,2}",
            1 => "[a-d]{150}",
            1 => Just("\0".to_owned()),
        ];
        let key = (1u64..3, prop::collection::vec(name, 1..4), 0u64..3).prop_map(|(bucket, names, slot)| {
            version_key(BucketId(bucket), names.join("/").as_bytes(), slot)
        });
        let change = prop_oneof![
            6 => Just(Some(value(EntryKind::Object))),
            1 => Just(Some(value(EntryKind::Marker))),
            1 => Just(None),
        ];
        prop::collection::btree_map(key, change, 1..150).prop_map(|mut entries| {
            let extent = crate::format::body::Extent { segment: SegmentId(7), block: 9, block_count: 1 };
            entries.insert(extent_key(&extent, BucketId(1), b"a/b", 0), Some(Vec::new()));
            entries
        })
    }

    fn stretches(entries: &Entries, per_block: usize) -> Vec<Stretch> {
        let mut builder = OutlineBuilder::with_budget(BUDGET);
        for (i, (key, value)) in entries.iter().enumerate() {
            builder.add(key, value.as_deref());
            if (i + 1) % per_block == 0 {
                builder.end_block();
            }
        }
        builder.end_block();
        builder.finish()
    }

    fn counts<'a>(entries: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>) -> Tally {
        let (mut tally, mut keys) = (Tally::default(), std::collections::BTreeSet::new());
        for (key, change) in entries {
            let Some((bucket, user_key, _)) = parse_version_key(key) else { continue };
            match change {
                Some(value) if Entry::decode(value).is_ok_and(|entry| entry.kind == EntryKind::Object) => {
                    keys.insert((bucket, user_key));
                }
                _ => tally.hiding += 1,
            }
        }
        tally.keys = keys.len() as u64;
        tally
    }

    proptest! {
        #[test]
        fn stretches_hold_what_they_say(entries in entries(), per_block in 1usize..60) {
            let stretches = stretches(&entries, per_block);
            let ends = stretches.iter().skip(1).map(|stretch| Some(&stretch.mark)).chain([None]);
            for (stretch, end) in stretches.iter().zip(ends) {
                let inside: Vec<_> = entries
                    .range(stretch.mark.clone()..)
                    .take_while(|(key, _)| end.is_none_or(|end| *key < end))
                    .collect();
                prop_assert!(inside[0].0.starts_with(&stretch.mark));
                prop_assert!(inside.iter().all(|(key, _)| key.starts_with(stretch.directory())));
                let tally = Tally { keys: stretch.key_count.into(), hiding: stretch.hiding_count.into() };
                prop_assert_eq!(tally, counts(inside.into_iter()));
                let layout = stretch.encode();
                let decoded = Stretch::decode(&stretch.mark, zerocopy::IntoBytes::as_bytes(&layout));
                prop_assert_eq!(decoded.as_ref(), Ok(stretch));
            }
            prop_assert!(stretches[0].mark <= *entries.keys().next().expect("one at least"));
        }

        #[test]
        fn what_an_outline_says_of_a_place_is_so(
            entries in entries(),
            per_block in 1usize..60,
            mut places in prop::collection::vec((0usize..150, 0usize..400, any::<bool>()), 1..20),
            prefix in prop_oneof![Just(""), Just("a"), Just("a/"), Just("b/a/")],
        ) {
            let mut outline = Outline::default();
            stretches(&entries, per_block).iter().for_each(|stretch| outline.push(stretch));
            let base = version_prefix(BucketId(1), prefix.as_bytes());
            let mut near = 0;
            places.sort_unstable();
            let mut places: Vec<Vec<u8>> = places
                .into_iter()
                .filter_map(|(i, len, is_after)| {
                    let mut place = entries.keys().nth(i)?.clone();
                    place.truncate(len.max(base.len()));
                    if let Some(last) = place.last_mut().filter(|_| is_after) {
                        *last = last.saturating_add(1);
                    }
                    place.starts_with(&base).then_some(place)
                })
                .collect();
            places.sort_unstable();
            for place in places {
                let mut ahead = entries.range(place.clone()..).take_while(|(key, _)| key.starts_with(&base));
                let first = ahead.next().map(|(key, _)| key);
                match outline.ahead(&place, &base, &mut near) {
                    Ahead::End => prop_assert_eq!(first, None),
                    Ahead::Group { stretch, len } => {
                        let group = &outline.mark(stretch)[..len];
                        prop_assert!(first.is_some_and(|first| first.starts_with(group)));
                        prop_assert_eq!(group_len(group, base.len()), Some(len));
                    }
                    Ahead::Unknown { from: Some(stretch) } => {
                        prop_assert!(first.is_some_and(|first| first.starts_with(outline.mark(stretch))));
                    }
                    Ahead::Unknown { from: None } => {}
                }
                let Some(group) = first.and_then(|key| Some(&key[..group_len(key, base.len())?])) else { continue };
                let end = group_end(group);
                let is_in = entries.range(place.clone()..).take_while(|(key, _)| **key < end);
                let (exact, tally) = (counts(is_in), outline.tally(&place, group, &end, &mut near));
                prop_assert!(tally.keys <= exact.keys && tally.hiding >= exact.hiding, "{tally:?} {exact:?}");
            }
        }

        #[test]
        fn an_outline_stays_within_its_budget(
            keys in prop::collection::btree_set("[a-c]{1,3}/[a-c]{1,3}/[a-c]{60}", 100..400),
        ) {
            let put = |key: &String| (version_key(BucketId(1), key.as_bytes(), 0), Some(value(EntryKind::Object)));
            let entries: Entries = keys.iter().map(put).collect();
            let per_block = 20;
            let stretches = stretches(&entries, per_block);
            let cost: usize = stretches.iter().map(|stretch| stretch.mark.len() + 14).sum();
            let block_count = entries.len() / per_block + 1;
            // The last stretch is there, whatever it costs.
            prop_assert!(cost <= BUDGET + OUTLINE_LEN_PER_BLOCK * block_count + 60);
        }
    }

    proptest! {
        #[test]
        fn any_outline_that_ascends_can_be_asked(
            stretches in prop::collection::btree_map(
                "[ab/]{0,6}",
                (0u16..7, prop_oneof![Just(0u32), Just(u32::MAX), 0u32..9], prop_oneof![Just(u32::MAX), 0u32..9]),
                0..12,
            ),
            mut places in prop::collection::vec("[ab/]{0,6}", 1..9),
        ) {
            let mut outline = Outline::default();
            for (mark, (len, key_count, hiding_count)) in stretches {
                let (mark, directory_len) = (mark.into_bytes(), len);
                let directory_len = directory_len.min(mark.len() as u16);
                outline.push(&Stretch { mark, directory_len, key_count, hiding_count });
            }
            places.sort_unstable();
            let mut near = 0;
            for place in places {
                outline.ahead(place.as_bytes(), b"", &mut near);
                if let Some(len) = group_len(place.as_bytes(), 0) {
                    let group = &place.as_bytes()[..len];
                    outline.tally(place.as_bytes(), group, &group_end(group), &mut near);
                }
            }
        }
    }

    #[test]
    fn the_deepest_stretches_become_one_first() {
        let keys = (0..40).flat_map(|a| (0..10).map(move |b| format!("a{a:02}/b{b:02}/c")));
        let entries: Entries = keys
            .map(|key| (version_key(BucketId(1), key.as_bytes(), 0), Some(value(EntryKind::Object))))
            .collect();
        let mut outline = Outline::default();
        stretches(&entries, 20).iter().for_each(|stretch| outline.push(stretch));
        assert!(outline.len() < 100, "400 directories cost too much");
        let base = version_prefix(BucketId(1), b"");
        let (mut place, mut near) = (base.clone(), 0);
        for a in 0..40 {
            let Ahead::Group { stretch, len } = outline.ahead(&place, &base, &mut near) else {
                panic!("what follows {place:?} is not known")
            };
            let group = outline.mark(stretch)[..len].to_vec();
            assert_eq!(group, version_prefix(BucketId(1), format!("a{a:02}/").as_bytes()));
            let end = group_end(&group);
            assert_eq!(outline.tally(&place, &group, &end, &mut near), Tally { keys: 10, hiding: 0 });
            place = end;
        }
        assert_eq!(outline.ahead(&place, &base, &mut near), Ahead::End);
    }

    #[test]
    fn a_count_that_is_not_known_proves_nothing() {
        let mut outline = Outline::default();
        let base = version_prefix(BucketId(1), b"");
        for (name, hiding_count) in [("a/", u32::MAX), ("b/", 5)] {
            let mark = version_prefix(BucketId(1), name.as_bytes());
            let directory_len = mark.len() as u16;
            outline.push(&Stretch { mark, directory_len, key_count: u32::MAX, hiding_count });
        }
        let group = version_prefix(BucketId(1), b"b/");
        let tally = outline.tally(&base, &group, &group_end(&group), &mut 0);
        assert!(tally.hiding == u64::MAX || tally.keys == 0, "{tally:?}");
    }
}
