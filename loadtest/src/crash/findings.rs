//! What should not be, in three kinds.

use super::model::Verdict;

/// More of one kind tell nothing new.
const FINDINGS_MAX: usize = 50;

/// Lists of what was found wrong, each entry with its key, what was expected and what was seen.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Acknowledged writes or deletes that did not survive.
    pub losses: Vec<String>,
    /// Objects that were a mixture, or nothing that was ever written.
    pub torn: Vec<String>,
    /// Anything else: a listing that disagrees, an error without a kill.
    pub faults: Vec<String>,
}

impl Findings {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.losses.is_empty() && self.torn.is_empty() && self.faults.is_empty()
    }

    pub(super) fn note(&mut self, verdict: Verdict) {
        let (list, what) = match verdict {
            Verdict::Settled | Verdict::Applied => return,
            Verdict::Lost(what) => (&mut self.losses, what),
            Verdict::Torn(what) => (&mut self.torn, what),
            Verdict::WrongEtag(what) => (&mut self.faults, what),
        };
        list.push(what);
    }

    pub(super) fn add(&mut self, other: Self) {
        let pairs = [
            (&mut self.losses, other.losses),
            (&mut self.torn, other.torn),
            (&mut self.faults, other.faults),
        ];
        for (list, more) in pairs {
            let room = FINDINGS_MAX.saturating_sub(list.len());
            list.extend(more.into_iter().take(room));
        }
    }
}
