//! Which runs to merge: a pure choice.
//!
//! Runs are merged when some that follow each other in age are of similar size, so that an entry is rewritten only when what it lies in
//! at least doubles, and the number of runs grows with the logarithm of the entries.
//!
//! Where keys are overwritten, several runs as large as the whole directory would come of that alone. So all runs are merged once the newer ones together are
//! half of the oldest: at most half as much again lies on disk as is needed, and a key that is inserted once is written hardly more often.

use crate::limits::RUNS_MAX;

/// Runs of similar size that are worth a merge.
const SIMILAR_MIN: usize = 4;

/// Runs of one merge at most. Where there was no room to merge them there are many, and there is none to merge them all at once.
const GROUP_MAX: usize = 8;

/// What the choice needs to know of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub id: u64,
    /// Its blocks.
    pub block_count: u32,
}

/// Runs to be merged into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePlan {
    /// Their ids, the newest first. They follow each other in age.
    pub runs: Vec<u64>,
    /// Whether the oldest of all is among them: then there is nothing that a removal could hide.
    pub is_bottom: bool,
}

/// Chooses among runs, the newest first: the newest that form a group of similar size, or a cheap group when there are too many runs.
pub fn choose_merge(runs: &[RunSummary]) -> Option<MergePlan> {
    if is_oldest_due(runs) {
        return Some(MergePlan { runs: runs.iter().map(|run| run.id).collect(), is_bottom: true });
    }
    let group = (0..runs.len())
        .map(|begin| begin..similar_end(runs, begin))
        .find(|group| group.len() >= SIMILAR_MIN)
        .or_else(|| cheapest_group(runs))?;
    let is_bottom = group.end == runs.len();
    Some(MergePlan { runs: runs[group].iter().map(|run| run.id).collect(), is_bottom })
}

/// Whether the newer runs are so much, next to the oldest, that it should take them in.
fn is_oldest_due(runs: &[RunSummary]) -> bool {
    let Some((oldest, newer)) = runs.split_last() else { return false };
    let newer_blocks: u64 = newer.iter().map(|run| u64::from(run.block_count)).sum();
    runs.len() >= SIMILAR_MIN && newer_blocks * 2 >= u64::from(oldest.block_count)
}

/// The end of the group that begins there: each older run joins that is no larger than all before it together.
fn similar_end(runs: &[RunSummary], begin: usize) -> usize {
    let mut sum = 0u64;
    let joins = |run: &&RunSummary| {
        let fits = sum == 0 || u64::from(run.block_count) <= sum;
        sum += u64::from(run.block_count).max(1);
        fits
    };
    begin + runs[begin..].iter().take_while(joins).take(GROUP_MAX).count()
}

/// As few blocks as bring the number of runs back to the limit, when it is above.
fn cheapest_group(runs: &[RunSummary]) -> Option<std::ops::Range<usize>> {
    let excess = runs.len().checked_sub(RUNS_MAX).filter(|excess| *excess > 0)?;
    let blocks = |group: &[RunSummary]| group.iter().map(|run| u64::from(run.block_count)).sum::<u64>();
    let len = (excess + 1).min(GROUP_MAX);
    let (begin, _) = runs.windows(len).enumerate().min_by_key(|(_, group)| blocks(group))?;
    Some(begin..begin + len)
}

/// Where there is no room for the merge that is wanted: the runs that become fewer for the fewest blocks written, of those for which there is room; none while
/// they are neither too many nor too large. Runs that nobody merges grow with every checkpoint, and take the room for each merge to come.
pub fn choose_merge_within(runs: &[RunSummary], has_room: impl Fn(u64) -> bool) -> Option<MergePlan> {
    if runs.len() < RUNS_MAX && is_modest(runs) {
        return None;
    }
    let groups = (0..runs.len())
        .flat_map(|begin| (2..=GROUP_MAX).map(move |len| begin..begin + len))
        .filter(|group| group.end <= runs.len());
    let blocks = |group: &std::ops::Range<usize>| {
        runs[group.clone()].iter().map(|run| u64::from(run.block_count)).sum::<u64>()
    };
    // Compared as fractions, without any: blocks written for each run that is gone then.
    let costs_less = |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| {
        (blocks(a) * (b.len() as u64 - 1)).cmp(&(blocks(b) * (a.len() as u64 - 1)))
    };
    let group = groups.filter(|group| has_room(blocks(group))).min_by(costs_less)?;
    let is_bottom = group.end == runs.len();
    Some(MergePlan { runs: runs[group].iter().map(|run| run.id).collect(), is_bottom })
}

/// Whether the newer runs hold no more than the oldest: all of them together take twice the space that is needed at most.
pub fn is_modest(runs: &[RunSummary]) -> bool {
    let Some((oldest, newer)) = runs.split_last() else { return true };
    newer.iter().map(|run| u64::from(run.block_count)).sum::<u64>() <= u64::from(oldest.block_count)
}

/// Blocks that a bottom merge of runs of so many blocks will write. Removals cancel there what they remove; the pairs of the hash index tell how much that is, and
/// entries go with them. A store whose runs hold most things several times could otherwise never get the room to have them once.
pub(super) fn bottom_blocks(most: u32, added: u64, removed: u64) -> u32 {
    if added == 0 {
        return most;
    }
    let left = u128::from(most) * u128::from(added.saturating_sub(removed)) / u128::from(added);
    // A quarter more, for what pairs do not tell.
    u32::try_from(left + left / 4 + 1).map_or(most, |expected| expected.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(sizes: &[u32]) -> Option<(Vec<u64>, bool)> {
        let runs: Vec<_> = (0..).zip(sizes).map(|(id, size)| RunSummary { id, block_count: *size }).collect();
        choose_merge(&runs).map(|plan| (plan.runs, plan.is_bottom))
    }

    #[test]
    fn four_of_similar_size_are_merged_and_three_are_not() {
        assert_eq!(chosen(&[10, 10, 10]), None);
        assert_eq!(chosen(&[10, 9, 11, 10]), Some((vec![0, 1, 2, 3], true)));
        assert_eq!(chosen(&[10, 10, 10, 10, 1000]), Some((vec![0, 1, 2, 3], false)));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn a_large_newest_run_does_not_hide_the_group_after_it() {
        assert_eq!(chosen(&[1, 100, 100, 100, 100, 10_000]), Some((vec![1, 2, 3, 4], false)));
    }

    #[test]
    fn without_room_for_more_the_cheapest_that_fit_are_merged_once_runs_are_many() {
        let runs: Vec<_> =
            (0..10).map(|id| RunSummary { id, block_count: if id == 9 { 1000 } else { 10 } }).collect();
        assert_eq!(choose_merge_within(&runs[1..], |_| true), None);
        let chosen = |room| choose_merge_within(&runs, |blocks| blocks <= room).map(|plan| plan.runs);
        assert_eq!(chosen(19), None);
        assert_eq!(chosen(25), Some(vec![0, 1]));
        // Seven are gone for eighty blocks.
        assert_eq!(chosen(500), Some((0..8).collect()));
        let old = |id| RunSummary { id, block_count: if id < 8 { 100 } else { 1 } };
        let plan = choose_merge_within(&(0..10).map(old).collect::<Vec<_>>(), |blocks| blocks < 100);
        assert_eq!(plan, Some(MergePlan { runs: vec![8, 9], is_bottom: true }));
    }

    #[test]
    fn a_bottom_merge_is_expected_to_write_what_is_left_and_a_quarter_but_never_more_than_it_reads() {
        // Three of four pairs are removed by others.
        assert_eq!(bottom_blocks(400, 4000, 3000), 126);
        assert_eq!(bottom_blocks(400, 4000, 0), 400);
        assert_eq!(bottom_blocks(400, 4000, 4000), 1);
        // Without pairs nobody knows.
        assert_eq!(bottom_blocks(400, 0, 0), 400);
        assert_eq!(bottom_blocks(u32::MAX, u64::MAX, 1), u32::MAX);
    }

    #[test]
    fn runs_are_modest_while_the_newer_are_no_more_than_the_oldest() {
        let is = |sizes: &[u32]| {
            let runs: Vec<_> =
                (0..).zip(sizes).map(|(id, size)| RunSummary { id, block_count: *size }).collect();
            is_modest(&runs)
        };
        assert!(is(&[]) && is(&[7]) && is(&[3, 4, 7]));
        assert!(!is(&[4, 4, 7]));
    }

    #[test]
    fn the_oldest_takes_in_the_others_once_they_are_half_of_it() {
        assert_eq!(chosen(&[10, 20, 19, 100]), None);
        assert_eq!(chosen(&[10, 20, 20, 100]), Some((vec![0, 1, 2, 3], true)));
        assert_eq!(chosen(&[50, 100]), None);
    }

    #[test]
    fn keys_that_are_overwritten_lie_on_disk_half_as_often_again_at_most() {
        // Each run has a twentieth of the keys, of which a merge leaves one each.
        let mut runs: Vec<u32> = vec![10_000];
        for _ in 0..1000 {
            runs.insert(0, 500);
            while let Some((group, _)) = chosen(&runs) {
                let merged: u32 = group.iter().map(|i| runs[*i as usize]).sum::<u32>().min(10_000);
                runs.splice(group[0] as usize..=group[group.len() - 1] as usize, [merged]);
            }
            assert!(runs.iter().sum::<u32>() <= 15_500, "{runs:?}");
        }
    }

    #[test]
    fn too_many_runs_are_merged_where_it_is_cheapest() {
        let sizes: Vec<u32> = (0..12).map(|i| 4u32.pow(i) + 1).collect();
        assert_eq!(chosen(&sizes[..10]), None);
        assert_eq!(chosen(&sizes), Some((vec![0, 1, 2], false)));
    }

    #[test]
    fn runs_stay_few_and_each_entry_is_rewritten_seldom() {
        let (mut sizes, mut written, flushes) = (Vec::new(), 0u64, 4000u64);
        for _ in 0..flushes {
            sizes.insert(0, 10u32);
            while let Some((group, _)) = chosen(&sizes) {
                let merged: u32 = group.iter().map(|i| sizes[*i as usize]).sum();
                sizes.splice(group[0] as usize..=group[group.len() - 1] as usize, [merged]);
                written += u64::from(merged);
            }
            assert!(sizes.len() <= RUNS_MAX);
        }
        let rewrites = written as f64 / (flushes * 10) as f64;
        assert!(rewrites <= 8.0, "each block was written {rewrites:.1} times more");
    }
}
