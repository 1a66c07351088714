//! Rate targets through a whole node: ceilings, the gate under a flood, work in the background beside it, and the admin listener.

mod harness;

use std::thread;

use harness::raw::{Connection, Request, Response};
use harness::{Node, bytes};

/// Small devices, one core, and that section of rates.
fn start(rates: &str) -> Node {
    let store = "[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n";
    Node::start_with(&format!("{store}[node]\ncores = \"0\"\n[rates]\n{rates}"))
}

fn create(node: &Node, bucket: &str) {
    Request::new("PUT", &format!("/{bucket}")).header("content-length", "0").succeed(node);
}

/// The answers to requests sent in one piece over one connection.
fn pipelined(node: &Node, request: &Request, count: usize) -> Vec<Response> {
    let mut connection = Connection::open(node);
    connection.send(&request.signed(node).repeat(count));
    (0..count).map(|_| connection.receive(&request.method)).collect()
}

fn requests(node: &Node, bucket: &str, class: &str, standing: &str) -> f64 {
    let labels = format!("{{bucket=\"{bucket}\",class=\"{class}\",standing=\"{standing}\"}}");
    node.metric(&format!("basalt_rate_requests_total{labels}"))
}

#[test]
fn over_the_ceiling_is_slow_down_before_the_body_and_the_connection_goes_on() {
    let node = start("[[rates.buckets]]\nname = \"limited\"\nwrites = 1\nwrites_max = 1\n");
    create(&node, "limited");
    create(&node, "free");
    let put = Request::new("PUT", "/limited/key").body(bytes(10_000, 1));
    // At most one a second and one more in a bunch: fifty at once can't all be within it.
    let answers = pipelined(&node, &put, 50);
    let refused: Vec<&Response> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty());
    for answer in &refused {
        assert_eq!(answer.verdict(), (503, "SlowDown".to_owned()), "{}", answer.text());
        let seconds: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
        assert!((1..=2).contains(&seconds), "{seconds}");
    }
    assert_eq!(requests(&node, "limited", "write", "refused"), refused.len() as f64);
    // Reads of the same bucket and writes to others are not meant.
    let reads = pipelined(&node, &Request::new("HEAD", "/limited"), 20);
    assert!(reads.iter().all(|answer| answer.status == 200));
    let writes = pipelined(&node, &Request::new("PUT", "/free/key").body("x"), 20);
    assert!(writes.iter().all(|answer| answer.status == 200));
}

#[test]
fn beside_a_flood_of_surplus_committed_requests_are_served_and_all_is_counted() {
    const FLOODING: usize = 8;
    const EACH: usize = 200;
    let node = start("in_flight_per_core_max = 1\n[[rates.buckets]]\nname = \"flood\"\nreads = 0\n");
    create(&node, "flood");
    create(&node, "modest");
    for bucket in ["flood", "modest"] {
        Request::new("PUT", &format!("/{bucket}/key")).body(bytes(20_000, 2)).succeed(&node);
    }
    thread::scope(|scope| {
        for _ in 0..FLOODING {
            scope.spawn(|| {
                let answers = pipelined(&node, &Request::new("GET", "/flood/key"), EACH);
                assert!(answers.iter().all(|answer| answer.status == 200));
            });
        }
        let answers = pipelined(&node, &Request::new("GET", "/modest/key"), 25);
        assert!(answers.iter().all(|answer| answer.status == 200));
    });
    assert_eq!(requests(&node, "flood", "read", "surplus"), (FLOODING * EACH) as f64);
    assert_eq!(requests(&node, "flood", "read", "committed"), 0.0);
    assert_eq!(requests(&node, "modest", "read", "committed"), 25.0);
    assert_eq!(node.metric("basalt_rate_wait_seconds_count{bucket=\"modest\"}"), 26.0);
    assert_eq!(node.metric("basalt_requests_waiting"), 0.0);
    assert_eq!(node.metric("basalt_requests_working"), 0.0);
}

#[test]
fn space_comes_back_while_requests_always_wait() {
    let node = start("in_flight_per_core_max = 1\n");
    create(&node, "bucket");
    // More than the devices hold, in records of the log, whose segments come back by checkpoints alone.
    thread::scope(|scope| {
        for writer in 0..6 {
            let put = Request::new("PUT", &format!("/bucket/{writer}")).body(bytes(30_000, writer));
            let node = &node;
            scope.spawn(move || {
                let mut connection = Connection::open(node);
                for _ in 0..500 {
                    connection.send(&put.signed(node));
                    assert_eq!(connection.receive("PUT").status, 200);
                }
            });
        }
    });
    assert!(node.metric("basalt_engine_checkpoints_total") > 0.0);
}

#[test]
fn the_admin_listener_changes_targets_that_count_at_once() {
    let node = start("");
    create(&node, "bucket");
    let get = Request::new("HEAD", "/bucket");
    let (status, _) = node.admin("PUT", "/rates/bucket", r#"{"reads": 1, "reads_max": 1}"#);
    assert_eq!(status, 200);
    assert!(pipelined(&node, &get, 50).iter().any(|answer| answer.status == 503));
    let (status, text) = node.admin("GET", "/rates", "");
    assert!(status == 200 && text.contains("\"reads_max\": 1"), "{text}");
    assert_eq!(node.admin("PUT", "/rates/bucket", r#"{"reads_max": 5}"#).0, 400);
    assert_eq!(node.admin("DELETE", "/rates/bucket", "").0, 200);
    assert!(pipelined(&node, &get, 50).iter().all(|answer| answer.status == 200));
}
