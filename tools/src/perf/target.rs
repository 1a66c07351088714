//! The figures to reach, and whether a case reaches them.

use std::fmt;

use super::outcome::{Case, Outcome, Work};
use super::spread::Spread;

/// A client whose core is that busy can't ask for more.
const CLIENT_FULL: f64 = 0.97;

/// Above this share of a core others disturb the figures.
pub(super) const OTHERS_MAX: f64 = 0.05;

/// How far "exactly one" may be off: a few reads of the background fall into every run.
const READS_TOLERANCE: f64 = 0.005;

/// A figure, its target, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub case: Case,
    pub figure: &'static str,
    pub bound: Bound,
    pub measured: Spread,
    pub verdict: Verdict,
}

/// A target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Exactly(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Bound::AtMost(most) => figure <= most,
            Bound::AtLeast(least) => figure >= least,
            Bound::Exactly(it) => (figure - it).abs() <= READS_TOLERANCE,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(it) => write!(f, "<= {it}"),
            Bound::AtLeast(it) => write!(f, ">= {it}"),
            Bound::Exactly(it) => write!(f, "= {it}"),
        }
    }
}

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    /// Not reached, but the client could not have asked for more.
    ClientIsCeiling,
    NotReached,
    /// Some requests failed: the figures are not of the work that was asked for.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Reached => "reached",
            Verdict::ClientIsCeiling => "the client is the ceiling",
            Verdict::NotReached => "NOT REACHED",
            Verdict::Failed => "FAILED, see errors",
        })
    }
}

/// Whether the client filled its core beside Basalt, in the median. A core that others fill is no excuse.
pub(super) fn is_client_full(outcome: &Outcome) -> bool {
    let busy = outcome.basalt(|it| it.client_core).is_some_and(|busy| busy.median >= CLIENT_FULL);
    busy && outcome.basalt(|it| it.client_core_others).is_some_and(|others| others.median <= OTHERS_MAX)
}

/// Holds a case against the targets that there are for it.
pub(super) fn judge(outcome: &Outcome) -> Vec<Judgement> {
    let requests = || outcome.ratio(|it| it.requests_per_second);
    let cpu = || outcome.ratio(|it| it.cpu_us);
    let Case { work, size, connections } = outcome.case;
    let targets: Vec<(&'static str, Bound, Option<Spread>)> = match (work, size) {
        (Work::GetCache, 0x1000) => vec![
            ("CPU per request / nginx", Bound::AtMost(0.8), cpu()),
            (REQUESTS, Bound::AtLeast(1.1), requests()),
        ],
        (Work::GetDevice, 0x1000) if connections >= 256 => vec![
            ("CPU per request / nginx", Bound::AtMost(1.1), cpu()),
            (REQUESTS, Bound::AtLeast(0.9), requests()),
            ("device reads per GET", Bound::Exactly(1.0), outcome.spread(|it| it.basalt.device_reads)),
        ],
        (Work::GetCache | Work::GetDevice, 0x10_0000 | 0x100_0000) => {
            vec![("bytes / nginx", Bound::AtLeast(1.2), requests())]
        }
        (Work::PutSmall, _) => {
            let ratio = outcome.spread(|it| Some(it.basalt.requests_per_second / it.fio?.writes_per_second));
            vec![("requests / fio's 4 KiB writes", Bound::AtLeast(0.5), ratio)]
        }
        (Work::PutLarge, _) => {
            let ratio = outcome
                .spread(|it| Some(it.basalt.bytes_per_second / it.fio?.bytes_per_second.min(it.hash_limit?)));
            vec![("bytes / lower of fio and hash limit", Bound::AtLeast(0.8), ratio)]
        }
        _ => Vec::new(),
    };
    let judge = |(figure, bound, measured): (&'static str, Bound, Option<Spread>)| {
        let measured = measured?;
        let verdict = match bound.holds(measured.median) {
            _ if outcome.errors() > 0 => Verdict::Failed,
            true => Verdict::Reached,
            false if work == Work::GetCache && figure == REQUESTS && is_client_full(outcome) => {
                Verdict::ClientIsCeiling
            }
            false => Verdict::NotReached,
        };
        Some(Judgement { case: outcome.case, figure, bound, measured, verdict })
    };
    targets.into_iter().filter_map(judge).collect()
}

const REQUESTS: &str = "requests / nginx";

#[cfg(test)]
mod tests {
    use super::super::fio;
    use super::super::outcome::tests::sample;
    use super::super::outcome::{Round, Sample};
    use super::*;

    fn outcome(work: Work, size: u64, basalt: Sample, nginx: Sample) -> Outcome {
        let fio = fio::Figures { writes_per_second: 1000.0, bytes_per_second: 4_096_000.0 };
        let round = Round { basalt, nginx: Some(nginx), fio: Some(fio), hash_limit: Some(2_048_000.0) };
        Outcome { case: Case { work, size, connections: 256 }, rounds: vec![round; 3] }
    }

    fn verdicts(outcome: &Outcome) -> Vec<Verdict> {
        judge(outcome).iter().map(|it| it.verdict).collect()
    }

    #[test]
    fn a_figure_on_its_bound_reaches_it() {
        let reached = outcome(Work::GetCache, 4096, sample(110.0, 8.0), sample(100.0, 10.0));
        assert_eq!(verdicts(&reached), [Verdict::Reached, Verdict::Reached]);
        let short = outcome(Work::GetCache, 4096, sample(109.0, 8.1), sample(100.0, 10.0));
        assert_eq!(verdicts(&short), [Verdict::NotReached, Verdict::NotReached]);
    }

    #[test]
    fn a_full_client_excuses_requests_but_not_cpu_time() {
        let full = Sample { client_core: 0.98, ..sample(100.0, 9.0) };
        let by_client = outcome(Work::GetCache, 4096, full, sample(100.0, 10.0));
        assert_eq!(verdicts(&by_client), [Verdict::NotReached, Verdict::ClientIsCeiling]);
        let others = Sample { client_core_others: 0.3, ..full };
        let by_others = outcome(Work::GetCache, 4096, others, sample(100.0, 10.0));
        assert_eq!(verdicts(&by_others), [Verdict::NotReached, Verdict::NotReached]);
    }

    #[test]
    fn failed_requests_spoil_every_verdict() {
        let failing = Sample { errors: 1, ..sample(900.0, 1.0) };
        let outcome = outcome(Work::GetCache, 4096, failing, sample(100.0, 10.0));
        assert_eq!(verdicts(&outcome), [Verdict::Failed, Verdict::Failed]);
    }

    #[test]
    fn a_get_from_the_device_reads_once_neither_more_nor_less() {
        for (reads, verdict) in
            [(1.004, Verdict::Reached), (0.9, Verdict::NotReached), (1.1, Verdict::NotReached)]
        {
            let basalt = Sample { device_reads: Some(reads), ..sample(100.0, 10.0) };
            let outcome = outcome(Work::GetDevice, 4096, basalt, sample(100.0, 10.0));
            assert_eq!(verdicts(&outcome), [Verdict::Reached, Verdict::Reached, verdict], "{reads}");
        }
    }

    #[test]
    fn large_gets_are_held_against_a_higher_bound_and_middling_ones_against_none() {
        let of = |size| outcome(Work::GetDevice, size, sample(119.0, 10.0), sample(100.0, 10.0));
        assert_eq!(verdicts(&of(1 << 20)), [Verdict::NotReached]);
        assert_eq!(verdicts(&of(64 << 10)), []);
    }

    #[test]
    fn puts_are_held_against_fio_and_large_ones_against_the_hash_too() {
        let small = outcome(Work::PutSmall, 4096, sample(500.0, 10.0), sample(1.0, 1.0));
        assert_eq!(verdicts(&small), [Verdict::Reached]);
        // 0.8 of the hash limit, which is half of what fio writes.
        let large = outcome(Work::PutLarge, 16 << 20, sample(400.0, 10.0), sample(1.0, 1.0));
        assert_eq!(verdicts(&large), [Verdict::Reached]);
        let slow = outcome(Work::PutLarge, 16 << 20, sample(399.0, 10.0), sample(1.0, 1.0));
        assert_eq!(verdicts(&slow), [Verdict::NotReached]);
    }
}
