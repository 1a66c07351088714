//! The settings of the network, through a whole node.

mod harness;

use std::thread;
use std::time::Duration;

use harness::raw::{Connection, Request};
use harness::{Node, bytes};

const SETTINGS: &str = "[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n[network]\n";

fn start(network: &str) -> Node {
    Node::start_with(&format!("{SETTINGS}{network}"))
}

fn sends(node: &Node) -> f64 {
    node.metric("basalt_zero_copy_sends_total")
}

/// A node with an object of that many bytes.
fn with_object(network: &str, len: usize) -> Node {
    let node = start(network);
    Request::new("PUT", "/bucket").header("content-length", "0").succeed(&node);
    Request::new("PUT", "/bucket/key").body(bytes(len, 7)).succeed(&node);
    node
}

#[test]
fn large_bodies_sent_in_place_are_whole_though_their_readers_are_slow() {
    const LEN: usize = 9_000_001;
    let node = with_object("zero_copy_send_min = \"16KiB\"\n", LEN);
    thread::scope(|scope| {
        for pause_ms in [0, 1, 3] {
            let node = &node;
            scope.spawn(move || {
                let mut connection = Connection::open(node);
                // The next answers go into buffers that the former ones have left.
                for _ in 0..3 {
                    connection.send(&Request::new("GET", "/bucket/key").signed(node));
                    thread::sleep(Duration::from_millis(100));
                    let pause = || thread::sleep(Duration::from_millis(pause_ms));
                    assert!(connection.receive_slowly("GET", pause).body == bytes(LEN, 7));
                }
                // Small answers go between.
                assert_eq!(Request::new("HEAD", "/bucket/key").run_on(node, &mut connection).status, 200);
            });
        }
    });
    assert!(sends(&node) >= (9 * LEN / (300 * 1024)) as f64, "{}", sends(&node));
}

#[test]
fn without_the_setting_and_below_it_nothing_is_sent_in_place() {
    let get = |node: &Node| Request::new("GET", "/bucket/key").succeed(node);
    let node = with_object("", 1_000_000);
    get(&node);
    assert_eq!(sends(&node), 0.0);
    let node = with_object("zero_copy_send_min = \"64KiB\"\n", 50_000);
    get(&node);
    assert_eq!(sends(&node), 0.0);
}

#[test]
fn a_congestion_control_that_the_kernel_has_serves_and_another_is_refused_at_the_start() {
    let mut node = with_object("tcp_congestion_control = \"reno\"\n", 1_000);
    Request::new("GET", "/bucket/key").succeed(&node);
    assert!(node.terminate().success());
    node.configure(&format!("{SETTINGS}tcp_congestion_control = \"nonesuch\"\n"));
    let refusal = node.refusal();
    for part in
        ["nonesuch", "tcp_congestion_control", "/proc/sys/net/ipv4/tcp_available_congestion_control", "reno"]
    {
        assert!(refusal.contains(part), "{refusal:?} lacks {part:?}");
    }
}
