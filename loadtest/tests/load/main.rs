//! The load generator against an S3 in this process that does as it should, or as it should not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../fake/mod.rs"]
mod fake;
mod open_loops;
mod rates;
mod reports;

use std::time::Duration;

use fake::{FakeS3, Faults};
use loadtest::load::{self, Error, Operation, PayloadMode, Report, Row, Scenario, Target, Watch};
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
