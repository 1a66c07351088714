//! What listings ask of the key directory, and what they get: pages of keys and of versions.
//!
//! The directory itself is an ordered map on the devices ([`super::lsm`]); its keys and values are in [`crate::format::directory`].

pub use crate::format::directory::{EntryKind, Listed};
use crate::ids::{Lsn, VersionId};

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

impl<T> Default for Page<T> {
    fn default() -> Self {
        Page { entries: Vec::new(), common_prefixes: Vec::new(), next_after: None }
    }
}

/// What page of a listing of versions is wanted.
#[derive(Clone, Debug, Default)]
pub struct VersionPageQuery {
    /// Only keys that begin with this.
    pub prefix: Vec<u8>,
    /// Keys that share what comes before this are shown as one; empty for none.
    pub delimiter: Vec<u8>,
    /// Where the page before ended.
    pub after: VersionAfter,
    /// Versions and common prefixes at most.
    pub max: usize,
}

/// What a page of versions comes after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VersionAfter {
    /// Nothing: it is the first.
    #[default]
    Nothing,
    /// All versions of that key.
    Key(Vec<u8>),
    /// The version of that key that was first committed with that LSN, whether or not it is still there.
    Version(Vec<u8>, Lsn),
    /// All keys that begin with that.
    CommonPrefix(Vec<u8>),
}

/// A version as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionListed {
    /// The key.
    pub key: Vec<u8>,
    /// The version.
    pub version: VersionId,
    /// Object or delete marker.
    pub kind: EntryKind,
    /// Whether it is the current version.
    pub is_latest: bool,
    /// The rest.
    pub listed: Listed,
}

/// A page of a listing of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// Versions, by key and from the newest on.
    pub versions: Vec<VersionListed>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<Vec<u8>>,
    /// What the next page comes after, when more follow.
    pub next_after: Option<VersionAfter>,
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
    use super::*;

    #[test]
    fn a_prefix_of_ff_has_no_successor() {
        assert_eq!(successor(&[0xff, 0xff]), None);
        assert_eq!(successor(&[1, 0xff]), Some(vec![2]));
    }

    #[test]
    fn a_common_prefix_ends_with_the_first_delimiter_after_the_prefix() {
        assert_eq!(common_prefix(b"a/b/c", b"a/", b"/"), Some(b"a/b/".as_slice()));
        assert_eq!(common_prefix(b"a/b", b"a/", b"/"), None);
        assert_eq!(common_prefix(b"a/b", b"", b""), None);
    }
}
