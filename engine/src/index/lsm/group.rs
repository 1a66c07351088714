//! Finding the next common prefix of a listing without reading what is below it.
//!
//! The outlines of the runs say which group of keys comes next, and that it has a key: of the keys that have an object in one run, each removal and each delete
//! marker, wherever it is, hides one at most. So one is there if a run has more of such keys in the group than there are of those in all runs and memtables.
//! Whatever is not certain is found by reading: blocks of a run whose outline does not tell what is next in it, and a group that nothing proves, entry by entry.

use super::cursor::{Cursor, Lag};
use super::memtable::{Memtable, hides};
use super::outline::{Ahead, Tally, group_end, group_len};
use super::source::RunSource;
use crate::device::Device;
use crate::error::Result;
use crate::format::directory::version_stem;

/// Entries of the memtables that are looked at for one group: some tens of microseconds. Beyond that, reading blocks costs no more.
const MEMORY_ENTRIES_MAX: usize = 500;

/// What is known to follow a place below a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Following {
    /// The next entry is in the group of that prefix, which certainly has a key with an object that is not hidden.
    Group(Vec<u8>),
    /// Nothing that begins with the base.
    Nothing,
    /// That is for [`Cursor::next`] to tell.
    Unknown,
}

/// What comes next, as far as outlines and open blocks tell.
enum Sight {
    /// An entry in that group, an entry in none, or no entry.
    Known(Following),
    /// Blocks of marked sources tell.
    Blocks,
}

impl<D: Device> Cursor<D> {
    /// What follows the position, if that is a place below the base. The position stays.
    ///
    /// # Errors
    /// Those of [`Cursor::next`].
    pub(crate) async fn following(&mut self, base: &[u8]) -> Result<Following> {
        if self.position.is_passed || !self.position.key.starts_with(base) {
            return Ok(Following::Unknown);
        }
        loop {
            self.follow();
            if self.lag == Lag::Any {
                self.catch_up();
            }
            match self.look(base) {
                Sight::Known(Following::Group(group)) if !self.is_surely_there(&group) => {
                    return Ok(Following::Unknown);
                }
                Sight::Known(following) => return Ok(following),
                Sight::Blocks => self.load().await?,
            }
        }
    }

    /// Looks for the least group that anything is in.
    fn look(&mut self, base: &[u8]) -> Sight {
        for source in &mut self.runs {
            source.look_ahead(&self.position, base);
        }
        let in_memory = self.memory.key().filter(|key| key.starts_with(base));
        let least = self.runs.iter().filter_map(|source| source.known_ahead(base)).chain(in_memory).min();
        let is_nothing = least.is_none();
        let group = least.and_then(|key| Some(key[..group_len(key, base.len())?].to_vec()));
        // A key that is in no group is as good a limit as the end of a group.
        let limit = group.as_deref().map(group_end).or(least.map(<[u8]>::to_vec));
        let mut is_any = false;
        for source in &mut self.runs {
            let from = source.unknown_from(&self.position.key);
            source.is_wanted = from.is_some_and(|from| limit.as_deref().is_none_or(|limit| from < limit));
            is_any |= source.is_wanted;
        }
        match group {
            _ if is_any => Sight::Blocks,
            Some(group) => Sight::Known(Following::Group(group)),
            None if is_nothing => Sight::Known(Following::Nothing),
            None => Sight::Known(Following::Unknown),
        }
    }

    /// Whether what is known of a group proves that it has a key.
    fn is_surely_there(&mut self, group: &[u8]) -> bool {
        let (place, end) = (self.position.key.as_slice(), group_end(group));
        let mut known = Tally::default();
        for source in &mut self.runs {
            let tally = source.run.outline().tally(place, group, &end, &mut source.near);
            known.keys = known.keys.max(tally.keys);
            known.hiding = known.hiding.saturating_add(tally.hiding);
        }
        let (active, frozen) = (self.shared.active.borrow(), self.shared.frozen.borrow());
        let tables = [Some(&*active), frozen.as_deref()];
        is_proven(known, tables.into_iter().flatten(), place.max(group), &end)
    }
}

impl<D: Device> RunSource<D> {
    /// Asks the outline what is ahead of the position; where it does not know, the open block, if it is open.
    fn look_ahead(&mut self, position: &super::source::Position, base: &[u8]) {
        let ahead = self.run.outline().ahead(&position.key, base, &mut self.near);
        if matches!(ahead, Ahead::Unknown { .. }) {
            self.seek(position, true);
        }
        self.ahead_in_outline = ahead;
    }

    /// What the next entry begins with, at least up to the end of its group: if it is known, and begins with the base.
    fn known_ahead(&self, base: &[u8]) -> Option<&[u8]> {
        match self.ahead_in_outline {
            Ahead::End => None,
            Ahead::Group { stretch, len } => Some(&self.run.outline().mark(stretch)[..len]),
            Ahead::Unknown { .. } => self.key().filter(|key| key.starts_with(base)),
        }
    }

    /// A place that the next entry is not before, when nothing tells more of it.
    fn unknown_from<'a>(&'a self, position: &'a [u8]) -> Option<&'a [u8]> {
        let Ahead::Unknown { from } = self.ahead_in_outline else { return None };
        let fence = self.pending()?;
        let mark = from.map_or(position, |stretch| self.run.outline().mark(stretch));
        Some(fence.max(mark))
    }
}

/// Whether a group has a key, by what is known of it in the runs and what the memtables hold.
fn is_proven<'a>(
    runs: Tally,
    tables: impl Iterator<Item = &'a Memtable> + Clone,
    from: &[u8],
    end: &[u8],
) -> bool {
    let hiding_max = runs.hiding.saturating_add(tables.clone().map(Memtable::hiding_count).sum());
    if runs.keys > hiding_max {
        return true;
    }
    let (mut known, mut left) = (runs, MEMORY_ENTRIES_MAX);
    for table in tables {
        let (mut keys, mut counted) = (0, None);
        for (key, change) in table.range(from, end) {
            let Some(fewer) = left.checked_sub(1) else { return false };
            left = fewer;
            if hides(change) {
                known.hiding = known.hiding.saturating_add(1);
            } else if counted != version_stem(key) {
                counted = version_stem(key);
                keys += 1;
            }
            if keys > hiding_max {
                return true;
            }
        }
        known.keys = known.keys.max(keys);
    }
    known.keys > known.hiding
}
