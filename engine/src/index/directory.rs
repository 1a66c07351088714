//! The key directory of a bucket: its keys in order, each with what a listing shows.
//!
//! It lies in memory for now. Its interface is that of the one on disk to come: entries are changed in memory at once ([`Directory::insert`],
//! [`Directory::remove`]), and a page ([`Directory::page`]) costs what it returns: common prefixes are passed over by seeking.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::hash::Location;
use crate::format::body::{ETag, Extent};
use crate::ids::{SegmentId, UnixMillis, UserId};
use crate::limits::PAGE_MAX;

/// What a listing shows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Bytes of the object.
    pub size: u64,
    /// Its ETag.
    pub etag: ETag,
    /// When it was made.
    pub modified: UnixMillis,
    /// Its owner.
    pub owner: UserId,
    /// Its storage class.
    pub class: u8,
    /// Algorithm and kind of its checksum; the digest is in the record.
    pub checksum: (u8, u8),
}

/// What is kept of a key: what a listing shows, and where the rest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What a listing shows.
    pub listed: Listed,
    /// The record.
    pub location: Location,
    /// The segment of the record, in full.
    pub segment: SegmentId,
    /// Bytes of the record in its segment.
    pub record_len: u32,
    /// Its bytes in bulk segments: what dies with it.
    pub extents: Box<[Extent]>,
}

/// The ordered keys of a bucket.
#[derive(Default)]
pub struct Directory {
    entries: BTreeMap<Box<[u8]>, Entry>,
}

/// What page of a listing is wanted.
#[derive(Clone, Debug, Default)]
pub struct PageQuery {
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// Keys that share what comes before this are shown as one; empty for none.
    pub delimiter: Vec<u8>,
    /// Where the page before ended.
    pub after: After,
    /// Keys and common prefixes at most.
    pub max: usize,
}

/// What a page comes after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// Nothing: it is the first.
    #[default]
    Nothing,
    /// That key. Keys that it is a prefix of are after it.
    Key(Vec<u8>),
    /// All keys that begin with that.
    CommonPrefix(Vec<u8>),
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Keys, in order.
    pub entries: Vec<(Vec<u8>, T)>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<Vec<u8>>,
    /// The last key or common prefix of the page, when more follow: what the next page comes after.
    pub next_after: Option<After>,
}

impl Directory {
    /// Puts a key; gives back what it was before.
    pub fn insert(&mut self, key: &[u8], entry: Entry) -> Option<Entry> {
        self.entries.insert(key.into(), entry)
    }

    /// Removes a key; gives back what it was.
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        self.entries.remove(key)
    }

    /// What is known of a key.
    pub fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries in order: for what dies with the bucket.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_ref(), entry))
    }

    /// A page.
    pub fn page(&self, query: &PageQuery) -> Page<Listed> {
        page(&self.entries, query, |entry| entry.listed)
    }
}

/// A page of any ordered map of keys.
fn page<T, U>(map: &BTreeMap<Box<[u8]>, T>, query: &PageQuery, show: impl Fn(&T) -> U) -> Page<U> {
    let mut page = Page::default();
    let max = query.max.min(PAGE_MAX);
    let Some(mut from) = first_bound(query) else { return page };
    let mut last = After::Nothing;
    if max == 0 {
        return page;
    }
    while let Some((key, value)) =
        map.range::<[u8], _>((from.as_ref().map(Vec::as_slice), Bound::Unbounded)).next()
    {
        if !key.starts_with(&query.prefix) {
            return page;
        }
        if page.entries.len() + page.common_prefixes.len() == max {
            page.next_after = Some(last);
            return page;
        }
        match common_prefix(key, &query.prefix, &query.delimiter) {
            Some(prefix) => {
                page.common_prefixes.push(prefix.to_vec());
                last = After::CommonPrefix(prefix.to_vec());
                let Some(end) = successor(prefix) else { return page };
                from = Bound::Included(end);
            }
            None => {
                page.entries.push((key.to_vec(), show(value)));
                last = After::Key(key.to_vec());
                from = Bound::Excluded(key.to_vec());
            }
        }
    }
    page
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Page { entries: Vec::new(), common_prefixes: Vec::new(), next_after: None }
    }
}

/// Where a page begins; `None` when nothing can follow.
fn first_bound(query: &PageQuery) -> Option<Bound<Vec<u8>>> {
    match &query.after {
        After::Key(key) if *key >= query.prefix => Some(Bound::Excluded(key.clone())),
        After::CommonPrefix(prefix) if *prefix >= query.prefix => successor(prefix).map(Bound::Included),
        _ => Some(Bound::Included(query.prefix.clone())),
    }
}

/// What of the key, up to and with the delimiter after the prefix, it shares with others.
pub(crate) fn common_prefix<'a>(key: &'a [u8], prefix: &[u8], delimiter: &[u8]) -> Option<&'a [u8]> {
    let rest = key.strip_prefix(prefix)?;
    if delimiter.is_empty() {
        return None;
    }
    let at = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// The first byte string that is after all those that begin with `prefix`; `None` when there is none.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(keys: &[&str]) -> BTreeMap<Box<[u8]>, ()> {
        keys.iter().map(|key| (key.as_bytes().into(), ())).collect()
    }

    fn query(prefix: &str, delimiter: &str, after: &str, max: usize) -> PageQuery {
        let after = if after.is_empty() { After::Nothing } else { After::Key(after.into()) };
        PageQuery { prefix: prefix.into(), delimiter: delimiter.into(), after, max }
    }

    fn texts(keys: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
        keys.into_iter().map(|key| String::from_utf8(key).expect("text")).collect()
    }

    /// All pages one after the other, as (keys, common prefixes).
    fn walk(map: &BTreeMap<Box<[u8]>, ()>, mut query: PageQuery) -> (Vec<String>, Vec<String>) {
        let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
        loop {
            let page = page(map, &query, |()| ());
            assert!(page.entries.len() + page.common_prefixes.len() <= query.max);
            keys.extend(texts(page.entries.into_iter().map(|(key, ())| key)));
            prefixes.extend(texts(page.common_prefixes));
            match page.next_after {
                Some(after) => query.after = after,
                None => return (keys, prefixes),
            }
        }
    }

    #[test]
    fn common_prefixes_count_and_never_repeat_across_pages() {
        let map = map(&["a", "a/", "a/b", "a//b", "b/1", "b/2", "c"]);
        for max in 1..8 {
            let (keys, prefixes) = walk(&map, query("", "/", "", max));
            assert_eq!(keys, ["a", "c"]);
            assert_eq!(prefixes, ["a/", "b/"]);
        }
        assert_eq!(
            walk(&map, query("a/", "/", "", 1)),
            (vec!["a/".into(), "a/b".into()], vec!["a//".into()])
        );
    }

    #[test]
    fn a_page_of_none_is_empty_and_not_truncated() {
        assert_eq!(page(&map(&["a"]), &query("", "", "", 0), |()| ()).next_after, None);
    }

    #[test]
    fn the_last_page_says_so() {
        assert_eq!(page(&map(&["a", "b"]), &query("", "", "", 2), |()| ()).next_after, None);
        assert_eq!(
            page(&map(&["a", "b"]), &query("", "", "", 1), |()| ()).next_after,
            Some(After::Key(b"a".to_vec()))
        );
        assert_eq!(page(&map(&["a", "b"]), &query("", "", "zz", 5), |()| ()).entries.len(), 0);
    }

    #[test]
    fn a_page_after_a_key_shows_what_lies_under_it_and_one_after_a_common_prefix_does_not() {
        let map = map(&["a/", "a/b", "c"]);
        let shown =
            |after| texts(page(&map, &PageQuery { after, ..query("", "/", "", 9) }, |()| ()).common_prefixes);
        assert_eq!(shown(After::Key(b"a/".to_vec())), ["a/"]);
        assert_eq!(shown(After::CommonPrefix(b"a/".to_vec())), [""; 0]);
    }

    #[test]
    fn a_prefix_of_ff_has_no_successor() {
        assert_eq!(successor(&[0xff, 0xff]), None);
        assert_eq!(successor(&[1, 0xff]), Some(vec![2]));
    }

    proptest! {
        #[test]
        fn paging_gives_what_a_scan_gives(
            keys in prop::collection::btree_set("[ab/]{1,5}", 0..30),
            prefix in "[ab/]{0,2}", delimiter in "(/|ab|)", max in 1usize..5,
        ) {
            let map: BTreeMap<Box<[u8]>, ()> = keys.iter().map(|k| (k.as_bytes().into(), ())).collect();
            let (mut expected_keys, mut expected_prefixes) = (Vec::new(), Vec::new());
            for key in keys.iter().filter(|key| key.starts_with(&prefix)) {
                let at = if delimiter.is_empty() { None } else { key[prefix.len()..].find(&delimiter) };
                match at {
                    Some(at) => {
                        let common = key[..prefix.len() + at + delimiter.len()].to_owned();
                        if expected_prefixes.last() != Some(&common) {
                            expected_prefixes.push(common);
                        }
                    }
                    None => expected_keys.push(key.clone()),
                }
            }
            prop_assert_eq!(walk(&map, query(&prefix, &delimiter, "", max)), (expected_keys, expected_prefixes));
        }
    }
}
