//! How long a peer may keep the node waiting, and how many may.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use node::config::{Config, Period};

use super::support::{Node, ask, metric, read_line, read_to_end, tcp};

/// Limits as short as their resolution of 250 ms allows.
fn short(config: &mut Config) {
    config.limits.head_timeout = Period(Duration::from_millis(800));
    config.limits.idle_timeout = Period(Duration::from_millis(1600));
    config.limits.body_stall_timeout = Period(Duration::from_millis(800));
}

fn short_node() -> Node {
    Node::start_with(vec![None], short)
}

/// How long it takes until the node ends the connection, and what it sent before.
fn time_to_end(stream: &mut impl Read) -> (Duration, String) {
    let begin = Instant::now();
    let rest = read_to_end(stream).unwrap_or_default();
    (begin.elapsed(), String::from_utf8_lossy(&rest).into_owned())
}

#[track_caller]
fn assert_about(elapsed: Duration, expected_ms: u64) {
    let range = Duration::from_millis(expected_ms - 300)..Duration::from_millis(expected_ms + 1500);
    assert!(range.contains(&elapsed), "{elapsed:?} is not about {expected_ms} ms");
}

#[test]
fn a_slow_handshake_is_ended() {
    let node = short_node();
    let mut silent = tcp(node.address);
    assert_about(time_to_end(&mut silent).0, 800);
    let mut half = tcp(node.address);
    half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).expect("sent");
    assert_about(time_to_end(&mut half).0, 800);
    assert_eq!(metric(node.admin, "basalt_connections_timed_out_total{core=\"0\"}"), 2.0);
}

#[test]
fn an_idle_connection_ends_quietly() {
    let node = short_node();
    let (elapsed, answer) = time_to_end(&mut node.connect());
    assert_about(elapsed, 1600);
    assert_eq!(answer, "");
    let mut plain = node.connect_plain();
    assert_eq!(ask(&mut plain, "well"), "well");
    assert_about(time_to_end(&mut plain).0, 1600);
    assert_eq!(metric(node.admin, "basalt_connections_timed_out_total{core=\"0\"}"), 0.0);
}

#[test]
fn a_slow_loris_is_told_and_ended_though_it_drips() {
    let node = short_node();
    let mut socket = node.connect_plain();
    let mut dripping = socket.try_clone().expect("a clone");
    let drip = thread::spawn(move || {
        for _ in 0..40 {
            if dripping.write_all(b"x").is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    let begin = Instant::now();
    assert_eq!(read_line(&mut socket), "error TimedOut");
    assert_about(begin.elapsed(), 800);
    drip.join().expect("no panic");
}

#[test]
fn a_slow_loris_over_tls_is_told_and_ended() {
    let node = short_node();
    let mut client = node.connect();
    client.write_all(b"unfinished").expect("sent");
    let (elapsed, answer) = time_to_end(&mut client);
    assert_about(elapsed, 800);
    assert_eq!(answer, "error TimedOut\n");
}

#[test]
fn a_body_may_be_slow_but_not_stall() {
    let node = short_node();
    let mut socket = node.connect_plain();
    socket.write_all(b"echo 9\n").expect("sent");
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(200));
        socket.write_all(b"x").expect("sent");
    }
    let mut echo = [0; 8];
    socket.read_exact(&mut echo).expect("1.6 s in all were fine");
    assert_about(time_to_end(&mut socket).0, 800);
}

#[test]
fn a_peer_that_takes_nothing_is_ended() {
    let node = short_node();
    let mut client = node.connect();
    writeln!(client, "send {}", 256 << 20).expect("sent");
    client.flush().expect("sent");
    assert_eq!(metric(node.admin, "basalt_connections_open{core=\"0\"}"), 1.0);
    let begin = Instant::now();
    while metric(node.admin, "basalt_connections_open{core=\"0\"}") > 0.0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "the connection is still open");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(metric(node.admin, "basalt_sent_bytes_total{core=\"0\"}") < f64::from(200 << 20));
}

#[test]
fn a_request_in_work_has_no_limit() {
    let node = short_node();
    assert_eq!(ask(&mut node.connect(), "sleep 2500"), "slept");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = short_node();
    let mut socket = node.connect_plain();
    socket.write_all(b"one\necho 3\nabctwo\nsleep 10\nthree\n").expect("sent");
    assert_eq!(read_line(&mut socket), "one");
    assert_eq!(read_line(&mut socket), "abctwo");
    assert_eq!(read_line(&mut socket), "slept");
    assert_eq!(read_line(&mut socket), "three");
}

#[test]
fn connections_beyond_the_limit_wait_for_room() {
    let node = Node::start_with(vec![None], |config| config.limits.connections_per_core_max = 2);
    // Both listeners may take one more while the limit is just being reached.
    let served: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut socket = node.connect_plain();
            assert_eq!(ask(&mut socket, "well"), "well");
            socket
        })
        .collect();
    let mut waiting: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut socket = node.connect_plain();
            socket.write_all(b"late\n").expect("sent");
            socket
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let accepted = metric(node.admin, "basalt_connections_accepted_total{core=\"0\"}");
    assert!(accepted <= 4.0, "{accepted} accepted");
    drop(served);
    for socket in &mut waiting {
        assert_eq!(read_line(socket), "late");
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn many_connections_come_and_go_without_a_trace() {
    let node = Node::start_with(vec![None; 2], |_| {});
    for _ in 0..10 {
        let clients: Vec<TcpStream> = (0..50).map(|_| node.connect_plain()).collect();
        for mut client in clients {
            assert_eq!(ask(&mut client, "well"), "well");
        }
    }
    let open = || {
        (0..2)
            .map(|core| metric(node.admin, &format!("basalt_connections_open{{core=\"{core}\"}}")))
            .sum::<f64>()
    };
    let begin = Instant::now();
    while open() > 0.0 {
        assert!(begin.elapsed() < Duration::from_secs(5), "connections are still open");
        thread::sleep(Duration::from_millis(50));
    }
}
