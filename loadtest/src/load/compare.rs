//! Two reports side by side: ratios, and which of them are more than noise.
//!
//! Noise is what the rounds of each report say it is. A difference counts when the ranges of the rounds do not overlap
//! and the medians differ by more than one percent: with three rounds on each side, ranges of equal servers part by
//! chance one time in ten, with five one time in 126. With fewer than three rounds nothing is known of the noise, and
//! nothing is claimed.

use std::fmt;

use super::report::{Report, Round, Row};

/// Below this no difference matters.
const LEAST_RATIO: f64 = 0.01;
/// Fewer rounds tell nothing of the noise.
const ROUNDS_MIN: usize = 3;

/// What a ratio means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Too few rounds to tell.
    Unknown,
    /// The difference is no more than rounds differ.
    Noise,
    /// B is better.
    Better,
    /// B is worse.
    Worse,
}

/// One figure of both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Like `get p99 ms`.
    pub name: String,
    /// Median of A's rounds.
    pub a: f64,
    /// Median of B's rounds.
    pub b: f64,
    /// B divided by A.
    pub ratio: f64,
    /// What it means.
    pub meaning: Meaning,
}

/// All figures that both reports have.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Of the reports.
    pub names: (String, String),
    /// Settings that differ, so that the figures may not be comparable.
    pub differences: Vec<String>,
    /// The figures.
    pub ratios: Vec<Ratio>,
}

/// Compares two reports.
pub fn compare(a: &Report, b: &Report) -> Comparison {
    let mut ratios = Vec::new();
    for row in &a.total.operations {
        type Pick = fn(&Row) -> f64;
        let figures: [(&str, bool, Pick); 5] = [
            ("op/s", true, |row| row.per_second),
            ("MiB/s", true, |row| row.mib_per_second),
            ("p50 ms", false, |row| row.latency_us.p50 as f64 / 1e3),
            ("p99 ms", false, |row| row.latency_us.p99 as f64 / 1e3),
            ("p99.9 ms", false, |row| row.latency_us.p999 as f64 / 1e3),
        ];
        for (name, more_is_better, pick) in figures {
            let of = |report: &Report| per_round(report, |round| find(round, &row.operation).map(pick));
            ratios.extend(ratio(format!("{} {name}", row.operation), &of(a), &of(b), more_is_better));
        }
    }
    let client = |round: &Round| Some(round.client.cpu_us_per_request);
    ratios.extend(ratio("client CPU us".into(), &per_round(a, client), &per_round(b, client), false));
    let server = |round: &Round| round.server_cpu_us_per_request;
    ratios.extend(ratio("server CPU us".into(), &per_round(a, server), &per_round(b, server), false));
    Comparison { names: (a.name.clone(), b.name.clone()), differences: differences(a, b), ratios }
}

fn find<'r>(round: &'r Round, operation: &str) -> Option<&'r Row> {
    round.operations.iter().find(|row| row.operation == operation)
}

fn per_round(report: &Report, pick: impl Fn(&Round) -> Option<f64>) -> Vec<f64> {
    report.rounds.iter().filter_map(pick).collect()
}

fn ratio(name: String, a: &[f64], b: &[f64], more_is_better: bool) -> Option<Ratio> {
    let (median_a, median_b) = (median(a), median(b));
    if !(median_a > 0.0 && median_b > 0.0) {
        return None;
    }
    let ratio = median_b / median_a;
    let (low_a, high_a) = range(a);
    let (low_b, high_b) = range(b);
    let overlap = low_a <= high_b && low_b <= high_a;
    let meaning = if a.len() < ROUNDS_MIN || b.len() < ROUNDS_MIN {
        Meaning::Unknown
    } else if overlap || (ratio - 1.0).abs() < LEAST_RATIO {
        Meaning::Noise
    } else if (ratio > 1.0) == more_is_better {
        Meaning::Better
    } else {
        Meaning::Worse
    };
    Some(Ratio { name, a: median_a, b: median_b, ratio, meaning })
}

fn differences(a: &Report, b: &Report) -> Vec<String> {
    let settings = |report: &Report| serde_json::to_value(&report.scenario).unwrap_or_default();
    let (of_a, of_b) = (settings(a), settings(b));
    let mut found = Vec::new();
    for (name, value) in of_a.as_object().into_iter().flatten() {
        let other = &of_b[name];
        if value != other && !matches!(name.as_str(), "seed" | "about" | "rounds") {
            found.push(format!("{name}: {value} and {other}"));
        }
    }
    for (name, left, right) in [
        ("threads", a.threads.to_string(), b.threads.to_string()),
        ("TLS", a.protocol.clone(), b.protocol.clone()),
    ] {
        if left != right {
            found.push(format!("{name}: {left} and {right}"));
        }
    }
    for (name, report) in [("A", a), ("B", b)] {
        if report.total.client.busy > 0.9 {
            found.push(format!(
                "in {name} the client was busy all the time: its figures are the client's limits"
            ));
        }
    }
    found
}

fn range(values: &[f64]) -> (f64, f64) {
    let fold = |pick: fn(f64, f64) -> f64, start| values.iter().copied().fold(start, pick);
    (fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY))
}

/// The middle value; 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// The range in proportion to the median.
pub(super) fn spread(values: &[f64]) -> f64 {
    let (low, high) = range(values);
    if values.is_empty() || median(values) == 0.0 { 0.0 } else { (high - low) / median(values) }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "A: {}\nB: {}", self.names.0, self.names.1)?;
        for difference in &self.differences {
            writeln!(f, "NOT ALIKE: {difference}")?;
        }
        writeln!(f, "{:20} {:>12} {:>12} {:>8}", "", "A", "B", "B / A")?;
        for Ratio { name, a, b, ratio, meaning } in &self.ratios {
            let meaning = match meaning {
                Meaning::Unknown => "noise unknown",
                Meaning::Noise => "within noise",
                Meaning::Better => "B is better",
                Meaning::Worse => "B is worse",
            };
            writeln!(f, "{name:20} {a:12.3} {b:12.3} {ratio:8.3}  {meaning}")?;
        }
        if self.ratios.iter().any(|ratio| ratio.meaning == Meaning::Unknown) {
            writeln!(
                f,
                "The noise is unknown with fewer than {ROUNDS_MIN} rounds: run both with --rounds 5."
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(a: &[f64], b: &[f64]) -> Meaning {
        ratio(String::new(), a, b, true).unwrap().meaning
    }

    #[test]
    fn only_ranges_that_part_count_as_a_difference() {
        let base = [100.0, 105.0, 110.0];
        assert_eq!(meaning(&base, &[109.0, 120.0, 130.0]), Meaning::Noise);
        assert_eq!(meaning(&base, &[111.0, 120.0, 130.0]), Meaning::Better);
        assert_eq!(meaning(&base, &[80.0, 90.0, 99.0]), Meaning::Worse);
        assert_eq!(meaning(&[100.0; 3], &[100.5; 3]), Meaning::Noise, "below one percent");
        assert_eq!(meaning(&base[..2], &[200.0, 200.0, 200.0]), Meaning::Unknown);
    }

    #[test]
    fn a_figure_that_one_report_lacks_is_left_out() {
        assert_eq!(ratio(String::new(), &[], &[1.0], true), None);
        assert_eq!(ratio(String::new(), &[0.0], &[1.0], true), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
    }
}
