//! What a client does next: a pure choice from its keys and a random source.

use super::model::Slot;
use crate::rng::Rng;

/// Up to here an object is likely to lie inside its record.
pub(super) const SMALL_LEN_MAX: u64 = 32 * 1024;
/// Payload of one sealed frame in the store's format; its multiples are where off-by-one errors live.
const FRAME_PAYLOAD_LEN: u64 = 65_520;
/// The least that S3 allows for a part that is not the last.
pub(super) const PART_LEN: u64 = 5 * 1024 * 1024;

/// One thing to do. Slots are named by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Put {
        slot: usize,
        len: u64,
    },
    PutIfAbsent {
        slot: usize,
        len: u64,
    },
    /// Over the object that is there.
    PutIfMatch {
        slot: usize,
        len: u64,
    },
    /// With an ETag that nothing has.
    PutIfOther {
        slot: usize,
        len: u64,
    },
    Get {
        slot: usize,
    },
    Delete {
        slot: usize,
    },
    Copy {
        from: usize,
        to: usize,
    },
    Multipart {
        slot: usize,
        len: u64,
        fate: Fate,
    },
}

/// How an upload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Complete,
    Abort,
    /// Left open, for a later round.
    Abandon,
}

/// The next action. `None` when every key is in doubt.
pub(super) fn choose_action(slots: &[Slot], rng: &mut Rng) -> Option<Action> {
    let certain: Vec<usize> = (0..slots.len()).filter(|index| slots[*index].is_certain()).collect();
    if certain.is_empty() {
        return None;
    }
    let slot = certain[rng.below(certain.len() as u64) as usize];
    let is_present = slots[slot].settled().is_some();
    let len = choose_len(rng);
    Some(match rng.below(100) {
        0..46 => Action::Put { slot, len },
        46..51 => Action::PutIfAbsent { slot, len },
        51..56 if is_present => Action::PutIfMatch { slot, len },
        56..59 => Action::PutIfOther { slot, len },
        59..72 => Action::Delete { slot },
        72..82 => Action::Get { slot },
        82..92 => copy_to(slots, &certain, slot, rng).unwrap_or(Action::Put { slot, len }),
        92..94 => {
            let full_parts = if rng.percent(80) { 1 } else { 2 };
            let len = PART_LEN * full_parts + rng.between(1, 1 << 20);
            Action::Multipart { slot, len, fate: choose_fate(rng) }
        }
        _ => Action::Put { slot, len },
    })
}

fn copy_to(slots: &[Slot], certain: &[usize], to: usize, rng: &mut Rng) -> Option<Action> {
    let present: Vec<usize> =
        certain.iter().copied().filter(|index| *index != to && slots[*index].settled().is_some()).collect();
    let from = *present.get(rng.below(present.len().max(1) as u64) as usize)?;
    Some(Action::Copy { from, to })
}

fn choose_fate(rng: &mut Rng) -> Fate {
    match rng.below(10) {
        0..7 => Fate::Complete,
        7 => Fate::Abort,
        _ => Fate::Abandon,
    }
}

/// Mostly small, with a weight on the borders between the ways in which a store may keep an object.
fn choose_len(rng: &mut Rng) -> u64 {
    match rng.below(100) {
        0..5 => 0,
        5..20 => rng.between(1, 100),
        20..50 => rng.between(100, 5000),
        50..72 => rng.between(4096, SMALL_LEN_MAX),
        72..79 => SMALL_LEN_MAX - 2 + rng.below(5),
        79..86 => FRAME_PAYLOAD_LEN * rng.between(1, 4) - 1 + rng.below(3),
        86..96 => rng.between(SMALL_LEN_MAX, 512 * 1024),
        _ => rng.between(512 * 1024, 3 << 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn stored(key: &str) -> Slot {
        let mut slot = Slot::new("bucket", key.into());
        slot.begin(Some(super::super::model::Version {
            origin: key.into(),
            generation: 1,
            len: 1,
            etag: None,
        }));
        slot.acknowledge(Some("etag"));
        slot
    }

    #[test]
    fn every_action_and_every_fate_comes_up() {
        let slots = [stored("a"), stored("b")];
        let mut rng = Rng::new(1);
        let mut kinds = BTreeSet::new();
        for _ in 0..2000 {
            let action = choose_action(&slots, &mut rng).unwrap();
            let debug = format!("{action:?}");
            let fate = debug.split("fate: ").nth(1).unwrap_or_default().to_owned();
            kinds.insert((debug.split(' ').next().unwrap().to_owned(), fate));
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }

    #[test]
    fn a_key_in_doubt_is_left_alone() {
        let mut slots = [stored("a"), stored("b")];
        slots[0].begin(None);
        let mut rng = Rng::new(1);
        for _ in 0..500 {
            let action = choose_action(&slots, &mut rng).unwrap();
            assert!(
                !format!("{action:?}").contains(": 0,") || format!("{action:?}").contains("len: 0"),
                "{action:?}"
            );
            assert!(!matches!(action, Action::Copy { .. }), "there is nothing certain to copy from");
        }
        slots[1].begin(None);
        assert_eq!(choose_action(&slots, &mut rng), None);
    }
}
