//! What is counted of a bucket's requests: by each core apart, each its own writer.

use std::time::Duration;

use super::targets::Class;
use crate::metrics::{Counter, Exposition, Family, Histogram, Kind};

/// How a request came through the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Within the guaranteed rate.
    Committed,
    /// Beyond it.
    Surplus,
    /// Not at all.
    Refused,
}

const PASSAGES: [(Passage, &str); 3] =
    [(Passage::Committed, "committed"), (Passage::Surplus, "surplus"), (Passage::Refused, "refused")];

/// The counts of a bucket, or of all that have no label of their own.
#[derive(Debug)]
pub struct Tally {
    label: String,
    cores: Box<[CoreTally]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct CoreTally {
    /// By class and passage.
    requests: [[Counter; PASSAGES.len()]; 2],
    waits: Histogram,
}

impl Tally {
    /// Zeros.
    pub fn new(label: String, core_count: usize) -> Self {
        Tally { label, cores: (0..core_count).map(|_| CoreTally::default()).collect() }
    }

    /// Counts a request; only core `core` may say that it is core `core`.
    pub fn count(&self, core: usize, class: Class, passage: Passage, wait: Duration) {
        let core = &self.cores[core];
        core.requests[class.index()][passage as usize].add(1);
        core.waits.record(wait);
    }

    /// Of all cores.
    pub fn requests(&self, class: Class, passage: Passage) -> u64 {
        self.cores.iter().map(|core| core.requests[class.index()][passage as usize].value()).sum()
    }
}

/// Renders the counts of those that have any.
pub fn render<'a>(tallies: impl Iterator<Item = &'a Tally> + Clone, out: &mut Exposition) {
    out.family(&REQUESTS);
    for tally in tallies.clone() {
        for class in Class::ALL {
            for (passage, name) in PASSAGES {
                let total = tally.requests(class, passage);
                if total > 0 {
                    let labels =
                        [("bucket", tally.label.as_str()), ("class", class.name()), ("standing", name)];
                    out.sample(REQUESTS.name, &labels, total as f64);
                }
            }
        }
    }
    const WAITS: &str = "basalt_rate_wait_seconds";
    out.histogram_family(WAITS, "Time that requests waited for their turn at a core, by bucket.");
    for tally in tallies {
        Histogram::render(
            tally.cores.iter().map(|core| &core.waits),
            WAITS,
            &[("bucket", &tally.label)],
            out,
        );
    }
}

static REQUESTS: Family = Family {
    name: "basalt_rate_requests_total",
    help: "Requests by bucket and class: within the guaranteed rate, beyond it, or refused with SlowDown.",
    kind: Kind::Counter,
};
