//! Where the time of requests goes, through a whole node: `Server-Timing`, and the stages in the metrics.

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::raw::{Connection, Request, Response};
use harness::{Node, bytes};

const STAGES: [&str; 4] = ["queue", "device", "crypto", "network"];

/// Small devices, one core, and those settings of the node.
fn start(settings: &str) -> Node {
    let store = "[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n";
    Node::start_with(&format!("{store}[node]\ncores = \"0\"\n{settings}"))
}

fn create(node: &Node) {
    Request::new("PUT", "/bucket").header("content-length", "0").succeed(node);
}

/// What `Server-Timing` says of one metric, in milliseconds.
fn duration(answer: &Response, name: &str) -> f64 {
    let value = answer.header("server-timing").expect("Server-Timing");
    let metric = value.split(", ").find_map(|metric| metric.strip_prefix(name)?.strip_prefix(";dur="));
    metric.expect(name).parse().expect("milliseconds")
}

/// Seconds, or requests, of a stage.
fn stage(node: &Node, what: &str, class: &str, stage: &str) -> f64 {
    node.metric(&format!("basalt_request_stage_seconds_{what}{{class=\"{class}\",stage=\"{stage}\"}}"))
}

/// Waits until so many requests of a class are counted: that is done when the answer has been sent, not before.
fn await_count(node: &Node, class: &str, count: f64) {
    let begun = Instant::now();
    while stage(node, "count", class, "other") < count {
        assert!(begun.elapsed() < Duration::from_secs(30), "not counted in time");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn server_timing_is_said_only_by_a_node_that_is_told_to() {
    let answers = |node: &Node| {
        create(node);
        let put = Request::new("PUT", "/bucket/key").body("x").run(node);
        let get = Request::new("GET", "/bucket/key").run(node);
        let head = Request::new("HEAD", "/bucket/key").run(node);
        let missing = Request::new("GET", "/bucket/none").run(node);
        let answers = [put, get, head, missing];
        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200, 200, 404]);
        answers.map(|answer| answer.header("server-timing").is_some())
    };
    assert_eq!(answers(&start("")), [false; 4]);
    assert_eq!(answers(&start("server_timing = true\n")), [true; 4]);
}

#[test]
fn the_stages_of_a_response_are_what_it_waited_for_and_add_up_to_no_more_than_its_total() {
    const PAUSE: Duration = Duration::from_millis(30);
    let node = start("server_timing = true\n[limits]\nrecord_cache_per_core = 0\n");
    create(&node);
    let mut answers = Vec::new();
    for len in [0, 4096, 3_000_000] {
        let put = Request::new("PUT", "/bucket/key").body(bytes(len, 1));
        let signed = put.signed(&node);
        let (head, body) = signed.split_at(signed.len() - len);
        let mut connection = Connection::open(&node);
        connection.send(head);
        thread::sleep(PAUSE);
        connection.send(body);
        let put = connection.receive("PUT");
        let get = Request::new("GET", "/bucket/key").succeed(&node);
        assert!(get.body == bytes(len, 1));
        for answer in [&put, &get] {
            assert!(duration(answer, "device") > 0.0 && duration(answer, "crypto") > 0.0, "{answer:?}");
        }
        if len > 0 {
            assert!(duration(&put, "network") >= PAUSE.as_secs_f64() * 1e3, "{put:?}");
        }
        assert_eq!(
            duration(&get, "network"),
            0.0,
            "nothing of the answer has been sent when its head is made"
        );
        answers.extend([put, get]);
    }
    for answer in &answers {
        // In whole microseconds, since sums of decimal fractions are not exact.
        let us = |name| (duration(answer, name) * 1e3).round() as u64;
        assert!(STAGES.map(us).iter().sum::<u64>() <= us("total"), "{:?}", answer.headers);
    }
}

#[test]
fn what_is_in_memory_waits_for_no_device() {
    let node = start("server_timing = true\n");
    create(&node);
    Request::new("PUT", "/bucket/key").body(bytes(4096, 2)).succeed(&node);
    let get = || Request::new("GET", "/bucket/key").succeed(&node);
    let begun = Instant::now();
    while node.metric("basalt_engine_record_cache_hits_total") == 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is kept in memory in the end");
        get();
    }
    assert_eq!(duration(&get(), "device"), 0.0);
}

#[test]
fn the_histograms_count_every_request_in_every_stage_and_add_up_to_the_durations() {
    let node = start("");
    create(&node);
    for n in 0..5 {
        Request::new("PUT", &format!("/bucket/{n}")).body(bytes(100_000, n)).succeed(&node);
    }
    for n in 0..3 {
        Request::new("GET", &format!("/bucket/{n}")).succeed(&node);
    }
    Request::new("GET", "/bucket?list-type=2").succeed(&node);
    Request::new("DELETE", "/bucket/0").run(&node);
    let counts = [("write", 5.0), ("read", 3.0), ("list", 1.0), ("delete", 1.0), ("other", 1.0)];
    for (class, count) in counts {
        await_count(&node, class, count);
        for name in STAGES {
            assert_eq!(stage(&node, "count", class, name), count, "{class} {name}");
        }
    }
    for (class, name) in [("write", "device"), ("write", "crypto"), ("read", "device"), ("read", "network")] {
        assert!(stage(&node, "sum", class, name) > 0.0, "{class} {name}");
    }
    let (stages, durations) =
        (node.metric("basalt_request_stage_seconds_sum"), node.metric("basalt_request_duration_seconds_sum"));
    assert!((stages - durations).abs() < 1e-6, "{stages} {durations}");
}

#[test]
fn waiting_for_a_turn_is_queueing() {
    const CLIENTS: f64 = 6.0;
    const EACH: usize = 50;
    let node = start("[rates]\nin_flight_per_core_max = 1\n[limits]\nrecord_cache_per_core = 0\n");
    create(&node);
    Request::new("PUT", "/bucket/key").body(bytes(20_000, 3)).succeed(&node);
    thread::scope(|scope| {
        for _ in 0..CLIENTS as usize {
            scope.spawn(|| {
                let mut connection = Connection::open(&node);
                connection.send(&Request::new("GET", "/bucket/key").signed(&node).repeat(EACH));
                for _ in 0..EACH {
                    assert_eq!(connection.receive("GET").status, 200);
                }
            });
        }
    });
    await_count(&node, "read", CLIENTS * EACH as f64);
    // Each waits for the device reads of the others.
    let (queue, device) = (stage(&node, "sum", "read", "queue"), stage(&node, "sum", "read", "device"));
    assert!(queue > device && device > 0.0, "{queue} {device}");
}
