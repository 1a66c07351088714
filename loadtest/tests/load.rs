//! The load generator against an S3 in this process that does as it should, or as it should not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::io::Cursor;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fake::{FakeS3, Faults};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use loadtest::load::{
    self, Error, Goal, Meaning, Operation, PayloadMode, RateTarget, Report, Row, Scenario, Target, Watch,
};
use loadtest::s3::{Credentials, Endpoint, Trust};
use loadtest::units::{Size, Time};

fn target(server: &FakeS3) -> Target {
    let ca = server.dir.path().join("ca.pem");
    Target {
        endpoint: Endpoint::new(&server.url, Trust::File(&ca)).unwrap(),
        credentials: Credentials { access_key: "ak".into(), secret_key: "sk".into() },
        region: "us-east-1".into(),
        makes_buckets: true,
        server_pids: Vec::new(),
    }
}

/// Ends by its count; the duration is only there so that a fault can't hang the test.
fn scenario(operations: &[(Operation, u32)], count: u64) -> Scenario {
    Scenario {
        operations: operations.iter().copied().collect(),
        connections: 4,
        threads: 2,
        keys: 20,
        count: Some(count),
        warm_up: Time(Duration::ZERO),
        duration: Time(Duration::from_secs(60)),
        seed: Some(1),
        ..Scenario::default()
    }
}

fn run(server: &FakeS3, scenario: &Scenario) -> Report {
    load::run(&target(server), "test", scenario, &mut Watch::silent()).unwrap()
}

fn row(report: &Report, operation: Operation) -> &Row {
    report.total.operations.iter().find(|row| row.operation == operation.name()).unwrap()
}

fn completed(report: &Report) -> u64 {
    report.total.operations.iter().map(|row| row.completed).sum()
}

#[test]
fn every_operation_works_over_tls_1_3_and_is_counted() {
    let server = FakeS3::start(Faults::default());
    let all: Vec<(Operation, u32)> = Operation::ALL.iter().map(|operation| (*operation, 1)).collect();
    let mut scenario = Scenario { buckets: 2, rounds: 2, ..scenario(&all, 600) };
    scenario.multipart.part_size = Size(100_000);
    let report = run(&server, &scenario);
    assert_eq!((&report.failures[..], report.verification_failures), (&[][..], 0));
    assert_eq!(completed(&report), 1200);
    assert!(report.protocol.starts_with("TLS 1.3"), "{}", report.protocol);
    for operation in Operation::ALL {
        let row = row(&report, operation);
        assert!(row.completed > 0 && row.completed == row.latency_us.count, "{row:?}");
        assert!(row.service_us.is_none(), "a closed loop has one latency");
    }
    assert!(row(&report, Operation::Get).missing > 0, "deleted keys are read");
    let requests: u64 = report.rounds.iter().map(|round| round.client.requests).sum();
    assert_eq!(requests, 1200 + 4 * row(&report, Operation::Multipart).completed, "an upload is 5 requests");
}

#[test]
fn every_key_is_stored_before_it_is_read() {
    let server = FakeS3::start(Faults { slow_down_every: 7, ..Faults::default() });
    let report = run(&server, &Scenario { buckets: 3, ..scenario(&[(Operation::Get, 1)], 10) });
    assert_eq!(server.objects.lock().unwrap().len(), 60);
    assert_eq!(report.verification_failures, 0);
}

#[test]
fn large_bodies_are_signed_sent_and_verified_whole() {
    let server = FakeS3::start(Faults::default());
    let mut scenario = scenario(&[(Operation::Get, 1), (Operation::Put, 1)], 60);
    scenario.size = load::Sizes::Uniform(Size(40), Size(3 << 20));
    scenario.payload = PayloadMode::Signed;
    let report = run(&server, &scenario);
    assert_eq!((&report.failures[..], completed(&report)), (&[][..], 60));
}

#[test]
fn one_flipped_bit_is_a_verification_failure() {
    let server = FakeS3::start(Faults { corrupt_every: 50, ..Faults::default() });
    let report = run(&server, &scenario(&[(Operation::Get, 1)], 500));
    assert_eq!(report.verification_failures, 10);
    assert_eq!(row(&report, Operation::Get).failed, 10);
    assert_eq!(report.failures[0].kind, "verification");
    assert!(report.failures[0].example.contains("other bytes from offset"), "{:?}", report.failures);
}

#[test]
fn an_overwrite_that_was_acknowledged_and_forgotten_is_found() {
    let server = FakeS3::start(Faults { forgets_overwrites: true, ..Faults::default() });
    let report = run(&server, &scenario(&[(Operation::Get, 1), (Operation::Put, 1)], 500));
    assert!(report.verification_failures > 0);
    assert!(report.failures[0].example.contains("was acknowledged before"), "{:?}", report.failures);
}

#[test]
fn an_object_that_was_acknowledged_and_forgotten_is_found() {
    let server = FakeS3::start(Faults { forget_every: 10, ..Faults::default() });
    let report = run(&server, &scenario(&[(Operation::Get, 1)], 500));
    assert!(report.verification_failures > 0);
    assert!(report.failures[0].example.contains("missing"), "{:?}", report.failures);
}

#[test]
fn a_server_that_sheds_load_is_counted_apart_from_one_that_fails() {
    let server = FakeS3::start(Faults { slow_down_every: 10, ..Faults::default() });
    let report = run(&server, &scenario(&[(Operation::Put, 1)], 500));
    let row = row(&report, Operation::Put);
    assert_eq!((row.completed, row.slow_down, row.failed), (450, 50, 0));
    assert_eq!((report.failed(), report.failures[0].kind.as_str()), (0, "503 SlowDown"));
}

#[test]
fn a_connection_that_breaks_is_a_failure_and_is_replaced() {
    let server = FakeS3::start(Faults { close_every: 100, ..Faults::default() });
    let report = run(&server, &scenario(&[(Operation::Put, 1)], 500));
    let row = row(&report, Operation::Put);
    assert_eq!((row.completed, row.failed), (495, 5));
    assert_eq!(report.failures[0].kind, "closed");
    assert_eq!(report.verification_failures, 0);
}

#[test]
fn a_connection_that_ends_as_announced_is_no_failure() {
    let server = FakeS3::start(Faults { last_every: 10, ..Faults::default() });
    let report = run(&server, &scenario(&[(Operation::Put, 1)], 500));
    assert_eq!((completed(&report), &report.failures[..]), (500, &[][..]));
    assert!(report.total.client.reconnects >= 40, "{}", report.total.client.reconnects);
}

#[test]
fn objects_of_an_earlier_run_are_verified_by_themselves() {
    let server = FakeS3::start(Faults::default());
    run(&server, &scenario(&[(Operation::Get, 1)], 1));
    let again = Scenario {
        prepare: Some(load::Prepare::None),
        seed: Some(2),
        ..scenario(&[(Operation::Get, 1)], 200)
    };
    let report = run(&server, &again);
    assert_eq!((completed(&report), &report.failures[..]), (200, &[][..]));
}

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

fn histograms(log: &[u8]) -> Vec<Histogram<u64>> {
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

#[test]
fn the_same_seed_makes_the_same_choices() {
    let counts = |seed| {
        let server = FakeS3::start(Faults::default());
        let all = [(Operation::Get, 1), (Operation::Put, 1), (Operation::Delete, 1)];
        let report = run(&server, &Scenario { connections: 1, seed: Some(seed), ..scenario(&all, 200) });
        report.total.operations.iter().map(|row| (row.completed, row.missing)).collect::<Vec<_>>()
    };
    assert_eq!(counts(1), counts(1));
    assert_ne!(counts(1), counts(2));
}

fn rates() -> RateTarget {
    RateTarget {
        gets: 20.0,
        puts: 10.0,
        // The verdict is what is tested, not this machine.
        p99_max: Duration::from_secs(30),
        goal: Goal::Most(3),
        connections_per_bucket: 2,
        flood_connections: 2,
    }
}

fn rate_scenario() -> Scenario {
    let duration = Time(Duration::from_secs(1));
    Scenario { keys: 10, duration, warm_up: Time(Duration::ZERO), threads: 1, ..Scenario::default() }
}

#[test]
fn a_rate_that_holds_is_found_up_to_the_bound_beside_a_flood() {
    let server = FakeS3::start(Faults::default());
    let report = load::search(&target(&server), &rates(), &rate_scenario(), &mut Watch::silent()).unwrap();
    assert_eq!(report.buckets_held, 3, "{report}");
    assert!(report.probes.iter().all(|probe| probe.flood_per_second > 0.0));
    assert_eq!(report.probes.iter().map(|probe| probe.buckets).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_rate_that_is_refused_does_not_hold() {
    let server = FakeS3::start(Faults { slow_down_every: 3, ..Faults::default() });
    let report = load::search(&target(&server), &rates(), &rate_scenario(), &mut Watch::silent()).unwrap();
    assert_eq!(report.buckets_held, 0);
    assert!(report.probes[0].reasons[0].contains("less than 99 % of the rate"), "{report}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_with_advice() {
    let (server, other) = (FakeS3::start(Faults::default()), FakeS3::start(Faults::default()));
    let ca = other.dir.path().join("ca.pem");
    let endpoint = Endpoint::new(&server.url, Trust::File(&ca)).unwrap();
    let target = Target { endpoint, makes_buckets: false, ..target(&server) };
    let error =
        load::run(&target, "test", &scenario(&[(Operation::Put, 1)], 1), &mut Watch::silent()).unwrap_err();
    assert!(
        matches!(&error, Error::Setup(what) if what.starts_with("tls:") && what.contains("--ca FILE")),
        "{error}"
    );
}

#[test]
fn a_server_that_is_not_there_is_reported_as_such() {
    let endpoint = Endpoint::new("http://127.0.0.1:1", Trust::Anyone).unwrap();
    let server = FakeS3::start(Faults::default());
    let target = Target { endpoint, makes_buckets: false, ..target(&server) };
    let error =
        load::run(&target, "test", &scenario(&[(Operation::Put, 1)], 1), &mut Watch::silent()).unwrap_err();
    assert!(matches!(&error, Error::Setup(what) if what.starts_with("connect:")), "{error}");
}
