//! Which sealed segments to empty: the cleaning policy of a log-structured store (Rosenblum and Ousterhout, "The Design and
//! Implementation of a Log-Structured File System", ACM TOCS 1992, section 3.6).
//!
//! Emptying a segment that is live to the share u costs reading it and writing u again, and gains 1 - u. What is gained is worth more where
//! the rest will stay live for long: there the next gain is far off. The paper's measure of that is age, and its order is benefit over cost,
//! `(1 - u) * age / (1 + u)`. It lets cold segments be emptied when little in them is dead, and hot ones only when most is: what is still live in
//! them will die by itself if it is given time. When space is nearly out there is no time, and the segments that are cheapest to empty
//! come first (greedy).
//!
//! ```text
//! free segments    0 ........ reserve ........ target ........
//!                  greedy     |  cost-benefit   |  only where garbage is more than it may be
//! ```
//! `benches/compaction_model.rs` shows what comes of it. There cold segments were also tried as older or younger than they are, by factors of 2 and 4, and
//! age with other exponents: nothing wrote noticeably less than the paper's formula.

use crate::format::segment::SegmentKind;
use crate::ids::SegmentId;

/// A sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub segment: SegmentId,
    /// What it holds.
    pub kind: SegmentKind,
    /// Bytes that it takes from the store.
    pub capacity: u64,
    /// Bytes in it that are still referred to. An extent that is shared may count more than once, so this may exceed the capacity.
    pub live: u64,
    /// Segments that were allocated since it was sealed.
    pub age: u64,
    /// Whether compaction wrote it. What is moved out of it has survived twice at least, and goes to a stream apart from what survived once.
    pub is_cold: bool,
}

/// How the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Segments that are free, the reserve among them.
    pub free: u64,
    /// Free segments that new data doesn't get: at so few space is critical.
    pub reserve: u64,
    /// Free segments that compaction keeps the store at.
    pub free_target: u64,
    /// Dead bytes that may stay in sealed segments while enough is free, in percent of their capacity.
    pub garbage_percent_max: u64,
    /// Victims of one plan at most, those that are wholly dead aside. Fewer make plans follow what happens, and pace the work.
    pub victims_max: usize,
}

/// Why segments are emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Enough is free and there is little garbage.
    None,
    /// Enough is free, but much of what isn't is garbage.
    Garbage,
    /// Less is free than should be.
    Space,
    /// Only the reserve is left.
    Critical,
}

/// What to empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Why.
    pub urgency: Urgency,
    /// In this order: the wholly dead, then the best first.
    pub victims: Vec<SegmentId>,
    /// Live bytes to be moved out of them.
    pub live: u64,
    /// Free segments that what is moved takes at most, before any victim is free. Never more than there are.
    pub segments_needed: u64,
}

/// Chooses the segments to empty next. Those that are wholly dead are always among them: they cost nothing.
pub fn choose_victims(candidates: &[Candidate], situation: &Situation) -> Plan {
    let (dead, mut rest): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(|candidate| candidate.live == 0);
    // What is full, or counts as more than full, has nothing to give.
    rest.retain(|candidate| candidate.live < candidate.capacity);
    let urgency = urgency(candidates, dead.len() as u64, situation);
    let victims = dead.iter().map(|candidate| candidate.segment).collect();
    let mut plan = Plan { urgency, victims, live: 0, segments_needed: 0 };
    let wanted = match urgency {
        Urgency::None => return plan,
        Urgency::Garbage => 1,
        Urgency::Space | Urgency::Critical => situation.free_target.saturating_sub(situation.free),
    };
    order(&mut rest, urgency);
    let mut moved = Moved::default();
    let mut chosen = 0;
    for candidate in rest {
        let gained = (plan.victims.len() as u64).saturating_sub(plan.segments_needed);
        if gained >= wanted || chosen == situation.victims_max {
            break;
        }
        let with_it = moved.and(candidate);
        let needed = with_it.segments(situation.segment_size);
        if needed <= situation.free {
            moved = with_it;
            chosen += 1;
            plan.victims.push(candidate.segment);
            plan.live += candidate.live;
            plan.segments_needed = needed;
        }
    }
    plan
}

/// How urgent it is, once the dead are gone.
fn urgency(candidates: &[Candidate], dead: u64, situation: &Situation) -> Urgency {
    let free = situation.free + dead;
    if free <= situation.reserve {
        return Urgency::Critical;
    }
    if free < situation.free_target {
        return Urgency::Space;
    }
    let living = candidates.iter().filter(|candidate| candidate.live > 0);
    let (garbage, capacity) = living.fold((0u128, 0u128), |(garbage, capacity), candidate| {
        let dead = candidate.capacity.saturating_sub(candidate.live);
        (garbage + u128::from(dead), capacity + u128::from(candidate.capacity))
    });
    let is_much = garbage * 100 > capacity * u128::from(situation.garbage_percent_max);
    if is_much { Urgency::Garbage } else { Urgency::None }
}

/// Best first; of equals the older id, so that the order is one and the same always.
fn order(candidates: &mut [&Candidate], urgency: Urgency) {
    let worth = |candidate: &Candidate| match urgency {
        Urgency::Critical => 1.0 - utilisation(candidate),
        _ => benefit_over_cost(candidate),
    };
    candidates.sort_by(|a, b| worth(b).total_cmp(&worth(a)).then(a.segment.cmp(&b.segment)));
}

fn benefit_over_cost(candidate: &Candidate) -> f64 {
    let utilisation = utilisation(candidate);
    // One more than it is, so that of segments that were sealed just now the emptier is the better.
    (1.0 - utilisation) * (candidate.age + 1) as f64 / (1.0 + utilisation)
}

fn utilisation(candidate: &Candidate) -> f64 {
    candidate.live as f64 / candidate.capacity as f64
}

/// Live bytes to move, by the stream that they go to: one for each kind and temperature.
#[derive(Clone, Copy, Default)]
struct Moved {
    streams: [u64; 4],
}

impl Moved {
    fn and(mut self, candidate: &Candidate) -> Self {
        let kind = match candidate.kind {
            SegmentKind::Commit => 0,
            SegmentKind::Bulk => 2,
        };
        self.streams[kind + usize::from(candidate.is_cold)] += candidate.live;
        self
    }

    /// Segments that it fills, the last of each stream not wholly.
    fn segments(self, segment_size: u64) -> u64 {
        self.streams.iter().map(|live| live.div_ceil(segment_size)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentIndex;

    const SIZE: u64 = 1000;

    /// Number, live per mille, age.
    fn candidate(number: u32, live: u64, age: u64) -> Candidate {
        Candidate { segment: id(number), kind: SegmentKind::Bulk, capacity: SIZE, live, age, is_cold: false }
    }

    fn id(number: u32) -> SegmentId {
        SegmentId::new(u64::from(number), SegmentIndex(number))
    }

    fn with_free(free: u64) -> Situation {
        Situation {
            segment_size: SIZE,
            free,
            reserve: 2,
            free_target: 10,
            garbage_percent_max: 20,
            victims_max: 8,
        }
    }

    fn victims(candidates: &[Candidate], situation: &Situation) -> Vec<SegmentId> {
        choose_victims(candidates, situation).victims
    }

    #[test]
    fn nothing_is_emptied_while_enough_is_free_and_little_is_garbage() {
        let candidates = [candidate(1, 850, 100), candidate(2, 900, 5)];
        let plan = choose_victims(&candidates, &with_free(10));
        assert_eq!((plan.urgency, plan.victims.len()), (Urgency::None, 0));
    }

    #[test]
    fn much_garbage_is_a_reason_even_while_enough_is_free() {
        let candidates = [candidate(1, 750, 100), candidate(2, 750, 5)];
        let plan = choose_victims(&candidates, &with_free(10));
        assert_eq!((plan.urgency, plan.victims[0]), (Urgency::Garbage, id(1)));
        assert_eq!(plan.live, plan.victims.len() as u64 * 750);
    }

    #[test]
    fn the_wholly_dead_come_first_and_always() {
        let candidates = [candidate(1, 100, 1000), candidate(2, 0, 0), candidate(3, 900, 0)];
        assert_eq!(victims(&candidates, &with_free(5)), [id(2), id(1), id(3)]);
        assert_eq!(victims(&candidates[1..], &with_free(100)), [id(2)]);
        assert_eq!(victims(&candidates, &with_free(0)), [id(2)]);
    }

    #[test]
    fn the_dead_may_be_enough() {
        let candidates: Vec<Candidate> =
            (0..5).map(|i| candidate(i, 0, 1)).chain([candidate(9, 850, 1)]).collect();
        assert_eq!(victims(&candidates, &with_free(5)), (0..5).map(id).collect::<Vec<_>>());
    }

    #[test]
    fn an_old_segment_is_emptied_before_a_young_one_that_is_emptier() {
        let candidates = [candidate(1, 500, 1), candidate(2, 700, 50)];
        assert_eq!(victims(&candidates, &with_free(9)), [id(2), id(1)]);
    }

    #[test]
    fn when_space_is_critical_only_emptiness_counts() {
        let candidates = [candidate(1, 500, 1), candidate(2, 700, 50)];
        let plan = choose_victims(&candidates, &with_free(2));
        assert_eq!((plan.urgency, plan.victims), (Urgency::Critical, vec![id(1), id(2)]));
    }

    #[test]
    fn what_is_moved_fits_what_is_free() {
        let candidates: Vec<Candidate> = (0..100).map(|i| candidate(i, 600 + u64::from(i), 1)).collect();
        for free in 0..9 {
            let plan = choose_victims(&candidates, &with_free(free));
            assert!(plan.live <= free * SIZE && plan.segments_needed <= free, "{plan:?}");
            assert_eq!(plan.victims.is_empty(), free == 0);
        }
    }

    #[test]
    fn a_smaller_one_is_taken_where_a_better_one_does_not_fit() {
        let large = Candidate { capacity: 4 * SIZE, live: 2 * SIZE, ..candidate(1, 0, 1000) };
        assert_eq!(victims(&[large, candidate(2, 900, 1)], &with_free(1)), [id(2)]);
    }

    #[test]
    fn each_kind_and_temperature_needs_a_segment_of_its_own() {
        let commit = Candidate { kind: SegmentKind::Commit, ..candidate(1, 100, 1) };
        let both = [commit, candidate(2, 200, 1)];
        assert_eq!(victims(&both, &with_free(1)), [id(1)]);
        assert_eq!(choose_victims(&both, &with_free(2)).segments_needed, 2);
        let cold = Candidate { is_cold: true, ..candidate(3, 300, 1) };
        let all = [commit, candidate(2, 200, 1), cold];
        assert_eq!(choose_victims(&all, &with_free(3)).segments_needed, 3);
        assert_eq!(victims(&all, &with_free(2)), [id(1), id(2)]);
    }

    #[test]
    fn a_full_segment_is_never_a_victim() {
        let shared = Candidate { live: 3 * SIZE, ..candidate(2, 0, 1000) };
        assert!(victims(&[candidate(1, SIZE, 1000), shared], &with_free(1)).is_empty());
    }

    #[test]
    fn a_plan_ends_at_its_target_and_at_its_size() {
        let candidates: Vec<Candidate> = (0..100).map(|i| candidate(i, 500, 1)).collect();
        // Two halves give one.
        assert_eq!(victims(&candidates, &with_free(9)).len(), 2);
        assert_eq!(victims(&candidates, &Situation { victims_max: 3, ..with_free(4) }).len(), 3);
    }

    #[test]
    fn of_equals_the_older_id_comes_first_in_whatever_order_they_are_given() {
        let mut candidates = [candidate(3, 500, 1), candidate(1, 500, 1), candidate(2, 500, 1)];
        let chosen = victims(&candidates, &with_free(8));
        candidates.reverse();
        assert_eq!(victims(&candidates, &with_free(8)), chosen);
        assert_eq!(chosen, [id(1), id(2), id(3)]);
    }
}
