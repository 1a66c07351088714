//! Reports are read back, and say what happened.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use loadtest::load::{self, Meaning, Operation, Report, Scenario};

use super::fake::{FakeS3, Faults};
use super::{run, scenario};

#[test]
fn the_histogram_log_is_read_back_with_every_operation_in_it() {
    let server = FakeS3::start(Faults::default());
    let report =
        run(&server, &Scenario { rounds: 2, ..scenario(&[(Operation::Get, 1), (Operation::Put, 1)], 300) });
    assert!(report.hdr_log.starts_with(b"#[Histogram log format version 1.3]\n"));
    let total: u64 = histograms(&report.hdr_log).iter().map(Histogram::len).sum();
    assert_eq!(total, 600);
    let tags: Vec<String> = IntervalLogIterator::new(&report.hdr_log)
        .filter_map(|entry| match entry.unwrap() {
            LogEntry::Interval(interval) => interval.tag().map(|tag| tag.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert!(tags.contains(&"get".to_owned()) && tags.contains(&"put".to_owned()), "{tags:?}");
}

#[test]
fn the_page_loads_nothing_from_anywhere() {
    let server = FakeS3::start(Faults::default());
    let report = run(&server, &scenario(&[(Operation::Get, 1), (Operation::Put, 1)], 300));
    let page = report.to_html();
    for reference in ["src=", "href", "url(", "@import", "<link", "<script", "<img", "<iframe", "xmlns"] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.matches("<polyline").count() >= 8, "a curve per plot and operation");
    assert!(!page.contains("NaN") && !page.contains("inf"), "every coordinate is a number");
}

#[test]
fn a_report_is_read_back_and_differs_from_itself_by_noise_alone() {
    let server = FakeS3::start(Faults::default());
    let report = run(&server, &Scenario { rounds: 3, ..scenario(&[(Operation::Get, 1)], 200) });
    let again = Report::from_json(&report.to_json()).unwrap();
    // JSON keeps the integers to the digit; of some fractions it changes the last.
    let counts = |report: &Report| {
        let rows = report.rounds.iter().flat_map(|round| &round.operations);
        rows.map(|row| (row.completed, row.latency_us.p50, row.latency_us.p999, row.failed))
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&again), counts(&report));
    assert_eq!(
        (&again.scenario, again.seed, again.timeline.len()),
        (&report.scenario, 1, report.timeline.len())
    );
    let comparison = load::compare(&report, &again);
    assert!(comparison.ratios.len() >= 5);
    assert!(comparison.ratios.iter().all(|ratio| ratio.meaning == Meaning::Noise), "{comparison}");
    assert_eq!(comparison.differences.len(), usize::from(report.total.client.busy > 0.9) * 2);
    assert!(Report::from_json("{}").is_err());
}

/// Those of a histogram log.
pub fn histograms(log: &[u8]) -> Vec<Histogram<u64>> {
    let mut deserializer = Deserializer::new();
    let mut found = Vec::new();
    for entry in IntervalLogIterator::new(log) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            found.push(deserializer.deserialize(&mut Cursor::new(bytes)).unwrap());
        }
    }
    found
}
