//! The admin pages.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::support::{Node, ask, get, metric, read_line, read_to_end, tcp};

#[test]
fn a_serving_node_is_healthy() {
    let node = Node::start_with(vec![None; 3], |_| {});
    assert_eq!(get(node.admin, "/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn a_core_that_hangs_is_named_within_seconds() {
    let node = Node::start_with(vec![None; 2], |_| {});
    let mut client = node.connect_plain();
    let core = ask(&mut client, "core");
    client.write_all(b"hang 3000\n").expect("sent");
    thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    let (status, text) = get(node.admin, "/healthz");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!((status, text.trim_end()), (503, &*format!("no answer within 1s from core {core}")));
    assert_eq!(metric(node.admin, &format!("basalt_core_up{{core=\"{core}\"}}")), 0.0);
    assert_eq!(read_line(&mut client), "hung");
    assert_eq!(get(node.admin, "/healthz").0, 200, "well again");
}

#[test]
fn every_family_has_one_head_and_its_samples_follow_it() {
    let node = Node::start_with(vec![None; 2], |_| {});
    assert_eq!(ask(&mut node.connect(), "well"), "well");
    let (status, text) = get(node.admin, "/metrics");
    assert_eq!(status, 200);
    let mut family = "";
    let mut seen = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            family = head.split(' ').next().expect("a name");
            assert!(seen.insert(family), "{family} has two heads");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(kind.starts_with(&format!("{family} ")), "{line}");
        } else {
            assert!(line.starts_with(family), "{line} stands under {family}");
            assert!(line.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()), "{line}");
        }
    }
    assert!(
        seen.contains("test_echoes_total") && seen.contains("basalt_request_duration_seconds"),
        "{seen:?}"
    );
}

#[test]
fn what_happens_is_counted() {
    let node = Node::start();
    let mut client = node.connect();
    client.write_all(b"echo 1000\n").expect("sent");
    client.write_all(&[0; 1000]).expect("sent");
    let mut echo = [0; 1000];
    std::io::Read::read_exact(&mut client, &mut echo).expect("an echo");
    assert_eq!(ask(&mut client, "well"), "well");
    let value = |name: &str| metric(node.admin, name);
    assert_eq!(value("basalt_connections_open{core=\"0\"}"), 1.0);
    assert_eq!(value("basalt_connections_accepted_total{core=\"0\"}"), 1.0);
    assert_eq!(value("basalt_tls_handshakes_total{core=\"0\"}"), 1.0);
    assert_eq!(value("basalt_requests_total{operation=\"Echo\",status=\"2xx\"}"), 1.0);
    assert_eq!(value("basalt_request_duration_seconds_bucket{operation=\"Echo\",le=\"0.00025\"}"), 1.0);
    assert_eq!(value("test_echoes_total{core=\"0\"}"), 1.0);
    assert!(value("basalt_received_bytes_total{core=\"0\"}") > 1000.0);
    assert!(value("basalt_sent_bytes_total{core=\"0\"}") > 1000.0);
}

#[test]
fn other_requests_are_refused_politely() {
    let node = Node::start();
    assert_eq!(get(node.admin, "/").0, 404);
    let answer = |request: &[u8]| {
        let mut socket = tcp(node.admin);
        socket.write_all(request).expect("sent");
        String::from_utf8(read_to_end(&mut socket).unwrap_or_default()).expect("text")
    };
    assert!(answer(b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(answer(b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(answer(b"HEAD /healthz HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    assert_eq!(answer(&[b'x'; 9000]), "", "a head without end gets no answer");
}
