//! Open loops: what a stall costs, and whom.

use std::time::Duration;

use loadtest::load::{self, Operation, Report, Scenario};
use loadtest::units::Time;

use super::fake::{FakeS3, Faults};
use super::reports::histograms;
use super::{row, run, scenario};

/// Requests are due each millisecond, and the server stands still for a second: some thousand of them have to wait, of
/// which only the few that were in flight show it when the clock starts with the sending.
#[test]
fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
    let server = FakeS3::start(Faults { stall_at: 700, stall: Duration::from_secs(1), ..Faults::default() });
    let scenario = Scenario {
        rate: Some(1000.0),
        prepare: Some(load::Prepare::None),
        duration: Time(Duration::from_secs(3)),
        ..scenario(&[(Operation::Put, 1)], u64::MAX)
    };
    let report = run(&server, &scenario);
    let (latency, service) = slow_counts(&report, 100_000);
    assert!(latency >= 500, "{latency} of the requests that were due in the stall show it");
    assert!(
        latency >= 10 * service,
        "{latency} waited, and {service} by the clock that starts with the sending"
    );
    let row = row(&report, Operation::Put);
    assert_eq!(row.latency_us.count, 3000, "every request that was due is counted");
    assert!(row.latency_us.p99 > 500_000, "{:?}", row.latency_us);
}

/// How many operations took longer, by both clocks.
fn slow_counts(report: &Report, limit_us: u64) -> (u64, u64) {
    let mut latency = 0;
    for histogram in histograms(&report.hdr_log) {
        latency += histogram.count_between(limit_us, u64::MAX);
    }
    let service = row(report, Operation::Put).service_us.as_ref().unwrap();
    // Of the other clock the report has percentiles: what lies above the highest that is within the limit may exceed it.
    let shares = [(service.p999, 0.001), (service.p99, 0.01), (service.p90, 0.1)];
    let share = shares.into_iter().find(|(value, _)| *value <= limit_us).map_or(1.0, |(_, share)| share);
    (latency, (service.count as f64 * share).ceil() as u64)
}

#[test]
fn requests_that_were_never_sent_are_in_the_latency() {
    let server = FakeS3::start(Faults { stall_at: 200, stall: Duration::from_secs(2), ..Faults::default() });
    let scenario = Scenario {
        rate: Some(500.0),
        prepare: Some(load::Prepare::None),
        duration: Time(Duration::from_secs(1)),
        ..scenario(&[(Operation::Put, 1)], u64::MAX)
    };
    let report = run(&server, &scenario);
    let row = row(&report, Operation::Put);
    assert!(row.unsent >= 100, "{row:?}");
    assert_eq!(row.latency_us.count, 500);
}
