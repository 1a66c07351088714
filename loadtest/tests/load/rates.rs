//! Rate targets: the verdict, and the search.

use std::time::Duration;

use loadtest::load::{self, Goal, RateTarget, Scenario, Watch};
use loadtest::units::Time;

use super::fake::{FakeS3, Faults};
use super::target;

fn rates() -> RateTarget {
    RateTarget {
        gets: 20.0,
        puts: 10.0,
        // The verdict is what is tested, not this machine.
        p99_max: Duration::from_secs(30),
        goal: Goal::Most(3),
        // Enough that none is missing if this machine stalls at the end of a measurement.
        connections_per_bucket: 30,
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
fn one_number_of_buckets_is_judged_without_a_search() {
    let (server, goal) = (FakeS3::start(Faults::default()), Goal::Exactly(2));
    let rates = RateTarget { goal, ..rates() };
    let report = load::search(&target(&server), &rates, &rate_scenario(), &mut Watch::silent()).unwrap();
    assert_eq!((report.buckets_held, report.probes.len()), (2, 1), "{report}");
    assert!(report.to_string().ends_with("\n2 buckets can count on it\n"), "{report}");
    let server = FakeS3::start(Faults { slow_down_every: 3, ..Faults::default() });
    let report = load::search(&target(&server), &rates, &rate_scenario(), &mut Watch::silent()).unwrap();
    assert!(report.to_string().ends_with("\n2 buckets can NOT count on it\n"), "{report}");
}
