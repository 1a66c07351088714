//! TLS whose records the kernel makes, through a whole node.
//!
//! Where the kernel has no TLS, what is claimed of it is skipped with a line that says so; `cargo xtask vm` runs all of it in a virtual machine. That everything
//! works without it is tested everywhere.

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use harness::raw::Request;
use harness::{Node, bytes};
use node::stream::kernel::Offer;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

const SETTINGS: &str = "[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n[log]\nlevel = \"info,node=debug\"\n[network]\n";

/// More than the kernel queues for a connection, and no multiple of a record.
const LARGE_LEN: usize = 3_000_001;

const PATIENCE: Duration = Duration::from_secs(120);

type Client = StreamOwned<ClientConnection, TcpStream>;

/// What the kernel offers; `None`, and a line about it, when that is nothing.
fn offer() -> Option<Offer> {
    let offer = Offer::probe().ok().filter(|offer| !offer.is_nothing());
    if offer.is_none() {
        eprintln!("SKIPPED: this kernel has no TLS (modprobe tls); see cargo xtask vm");
    }
    offer
}

/// A node with a bucket and an object, `auto` being set.
fn start(object_len: usize) -> Node {
    let node = Node::start_with(&format!("{SETTINGS}kernel_tls = \"auto\"\n"));
    Request::new("PUT", "/bucket").header("content-length", "0").succeed(&node);
    Request::new("PUT", "/bucket/key").body(bytes(object_len, 7)).succeed(&node);
    node
}

fn kernel_connections(node: &Node) -> f64 {
    let total = node.metric("basalt_tls_connections_total");
    let by_node: f64 = node
        .admin("GET", "/metrics", "")
        .1
        .lines()
        .filter(|line| line.starts_with("basalt_tls_connections_total") && line.contains("records=\"node\""))
        .map(|line| line.rsplit_once(' ').expect("a sample").1.parse::<f64>().expect("a number"))
        .sum();
    total - by_node
}

/// A client of one version and, if one is named, of one suite.
fn client(node: &Node, version: &'static SupportedProtocolVersion, suite: Option<CipherSuite>) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&node.ca()).expect("a certificate")).expect("an authority");
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|known| suite.is_none_or(|suite| known.suite() == suite));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().expect("an address");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let socket = TcpStream::connect(node.endpoint()).expect("connecting");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    StreamOwned::new(client, socket)
}

fn send(client: &mut Client, bytes: &[u8]) {
    client.write_all(bytes).expect("sent");
    client.flush().expect("sent");
}

/// The head of an answer, byte by byte, and its body.
fn receive(client: &mut impl Read, has_body: bool) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let len = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let len = if has_body { len.map_or(0, |len| len.parse().expect("a length")) } else { 0 };
    let mut body = vec![0; len];
    client.read_exact(&mut body).expect("a body");
    (head, body)
}

fn get(node: &Node) -> Vec<u8> {
    Request::new("GET", "/bucket/key").signed(node)
}

fn succeed(client: &mut Client, request: &[u8], has_body: bool) -> Vec<u8> {
    send(client, request);
    let (head, body) = receive(client, has_body);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body
}

/// Every suite that the node speaks, by version.
fn suites() -> [(&'static SupportedProtocolVersion, CipherSuite); 6] {
    [
        (&TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256),
        (&TLS13, CipherSuite::TLS13_AES_256_GCM_SHA384),
        (&TLS13, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ]
}

#[test]
fn with_the_setting_on_every_suite_serves_whatever_the_kernel_offers() {
    let node = start(LARGE_LEN);
    let before = node.metric("basalt_tls_connections_total");
    for (version, suite) in suites() {
        let mut client = client(&node, version, Some(suite));
        let body = succeed(&mut client, &get(&node), true);
        assert!(body == bytes(LARGE_LEN, 7), "{suite:?}");
        let put = Request::new("PUT", "/bucket/other").body(bytes(LARGE_LEN, 8)).signed(&node);
        succeed(&mut client, &put, false);
        let other = Request::new("GET", "/bucket/other").signed(&node);
        assert!(succeed(&mut client, &other, true) == bytes(LARGE_LEN, 8), "{suite:?}");
        assert_eq!(client.conn.negotiated_cipher_suite().expect("agreed").suite(), suite);
    }
    assert_eq!(node.metric("basalt_tls_connections_total") - before, 6.0);
    assert_eq!(node.metric("basalt_kernel_tls_refusals_total"), 0.0);
    let log = node.log();
    assert_eq!(log.matches("kernel TLS: the kernel").count(), 1, "it is said once");
    if offer().is_none() {
        assert_eq!(kernel_connections(&node), 0.0);
        assert!(log.contains("TLS stays in the node"));
    }
}

#[test]
fn without_the_setting_no_connection_is_given_to_the_kernel() {
    let node = Node::start_with(SETTINGS);
    Request::new("PUT", "/bucket").header("content-length", "0").succeed(&node);
    assert_eq!((kernel_connections(&node), node.metric("basalt_tls_connections_total")), (0.0, 1.0));
}

#[test]
fn the_kernel_makes_the_records_of_every_suite_that_it_offers() {
    if offer().is_none() {
        return;
    }
    let node = start(1_000);
    for (version, suite) in suites() {
        let before = kernel_connections(&node);
        let mut client = client(&node, version, Some(suite));
        for _ in 0..3 {
            assert!(succeed(&mut client, &get(&node), true) == bytes(1_000, 7), "{suite:?}");
        }
        // Debian's kernels take all of them.
        assert_eq!(kernel_connections(&node) - before, 1.0, "{suite:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    if offer().is_none() {
        return;
    }
    let node = start(40_000);
    for version in [&TLS12, &TLS13] {
        for cut in [1, 100, 5_000, 20_000] {
            let before = kernel_connections(&node);
            let mut client = client(&node, version, None);
            let put = Request::new("PUT", "/bucket/other").body(bytes(30_000, cut as u64)).signed(&node);
            let other = Request::new("GET", "/bucket/other").signed(&node);
            let all = [get(&node), put, other, get(&node)].concat();
            // The first bytes leave with the end of the handshake; a record breaks off in the middle.
            let (mut wire, mut rest) = (Vec::new(), &all[..]);
            while client.conn.is_handshaking() {
                client.conn.complete_io(&mut client.sock).expect("a handshake");
            }
            while !rest.is_empty() {
                let count = client.conn.writer().write(rest).expect("buffered");
                rest = &rest[count..];
                client.conn.write_tls(&mut wire).expect("a Vec takes all");
            }
            while client.conn.wants_write() {
                client.conn.write_tls(&mut wire).expect("a Vec takes all");
            }
            client.sock.write_all(&wire[..cut]).expect("sent");
            thread::sleep(Duration::from_millis(50));
            client.sock.write_all(&wire[cut..]).expect("sent");
            assert!(receive(&mut client, true).1 == bytes(40_000, 7));
            assert!(receive(&mut client, false).0.starts_with("HTTP/1.1 200"));
            assert!(receive(&mut client, true).1 == bytes(30_000, cut as u64));
            assert!(receive(&mut client, true).1 == bytes(40_000, 7));
            assert_eq!(kernel_connections(&node) - before, 1.0, "cut at {cut}");
        }
    }
}

#[test]
fn close_notify_is_said_and_understood() {
    if offer().is_none() {
        return;
    }
    let node = start(LARGE_LEN);
    for version in [&TLS12, &TLS13] {
        let before = kernel_connections(&node);
        // The client has said all; it still gets its answer, and the node's goodbye: `read_to_end` fails without.
        let mut first = client(&node, version, None);
        // A connection that is half closed before the kernel gets it stays with the node.
        succeed(&mut first, &get(&node), true);
        send(&mut first, &get(&node));
        first.conn.send_close_notify();
        first.flush().expect("sent");
        first.sock.shutdown(Shutdown::Write).expect("half closed");
        assert!(receive(&mut first, true).1 == bytes(LARGE_LEN, 7));
        assert_eq!(first.read_to_end(&mut Vec::new()).expect("an orderly end"), 0);
        // The node closes by itself, and not before a slow reader can have all.
        let mut second = client(&node, version, None);
        let request = Request::new("GET", "/bucket/key").header("connection", "close").signed(&node);
        send(&mut second, &request);
        thread::sleep(Duration::from_millis(500));
        assert!(receive(&mut second, true).1 == bytes(LARGE_LEN, 7));
        assert_eq!(second.read_to_end(&mut Vec::new()).expect("an orderly end"), 0);
        assert_eq!(kernel_connections(&node) - before, 2.0);
    }
}

#[test]
fn key_updates_are_followed_and_answered_or_end_the_connection_with_an_alert() {
    let Some(offer) = offer() else { return };
    let node = start(1_000);
    let before = kernel_connections(&node);
    let mut client = client(&node, &TLS13, None);
    succeed(&mut client, &get(&node), true);
    for _ in 0..5 {
        client.conn.refresh_traffic_keys().expect("TLS 1.3 can");
        if offer.can_rekey() {
            assert!(succeed(&mut client, &get(&node), true) == bytes(1_000, 7));
            continue;
        }
        send(&mut client, &get(&node));
        let error = client.read(&mut [0]).expect_err("the connection is over");
        assert!(error.to_string().contains("InternalError"), "{error}");
        break;
    }
    eprintln!("key updates are {}", if offer.can_rekey() { "followed" } else { "refused by an alert" });
    assert_eq!(kernel_connections(&node) - before, 1.0);
}

#[test]
fn a_damaged_record_is_answered_with_an_alert_and_hurts_nobody_else() {
    if offer().is_none() {
        return;
    }
    let node = start(1_000);
    let mut bystander = client(&node, &TLS13, None);
    for version in [&TLS12, &TLS13] {
        let mut client = client(&node, version, None);
        succeed(&mut client, &get(&node), true);
        let mut record = vec![23, 3, 3, 0, 40];
        record.extend([0; 40]);
        client.sock.write_all(&record).expect("sent");
        let error = client.read(&mut [0]).expect_err("the connection is over");
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
    }
    succeed(&mut bystander, &get(&node), true);
    assert!(kernel_connections(&node) >= 3.0);
}

/// `openssl s_client` to the node, its standard error thrown away; `None` where there is no `openssl`.
fn s_client(node: &Node, arguments: &[&str]) -> Option<std::process::Child> {
    let child = Command::new("openssl")
        .args(["s_client", "-connect", &node.endpoint().to_string(), "-CAfile"])
        .arg(node.data_dir().join("ca.pem"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    child.ok()
}

#[test]
fn openssl_speaks_with_the_kernel_and_updates_its_keys() {
    let Some(offer) = offer() else { return };
    let node = start(100_000);
    for version in ["-tls1_2", "-tls1_3"] {
        let before = kernel_connections(&node);
        let Some(mut child) = s_client(&node, &[version, "-quiet"]) else {
            eprintln!("SKIPPED: there is no openssl");
            return;
        };
        let mut stdin = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        for _ in 0..2 {
            stdin.write_all(&get(&node)).expect("sent");
            assert!(receive(&mut stdout, true).1 == bytes(100_000, 7), "{version}");
        }
        let last = Request::new("GET", "/bucket/key").header("connection", "close").signed(&node);
        stdin.write_all(&last).expect("sent");
        assert!(receive(&mut stdout, true).1 == bytes(100_000, 7), "{version}");
        assert!(child.wait().expect("it ends").success(), "{version}");
        assert_eq!(kernel_connections(&node) - before, 1.0, "{version}");
    }
    // Without -quiet the lines K and k are commands: update the keys, with and without asking the peer to.
    let mut child = s_client(&node, &["-tls1_3"]).expect("it was there a moment ago");
    let mut stdin = child.stdin.take().expect("piped");
    let request = Request::new("HEAD", "/bucket/key").signed(&node);
    let last = Request::new("HEAD", "/bucket/key").header("connection", "close").signed(&node);
    let mut stdout = child.stdout.take().expect("piped");
    let mut answers = 0;
    for (request, command) in [(&request, "K\n"), (&request, "k\n"), (&last, "")] {
        if stdin.write_all(request).is_err() || !reads_head(&mut stdout) {
            break;
        }
        answers += 1;
        // It takes a command only at the beginning of what it reads at once.
        let _ = stdin.write_all(command.as_bytes());
        thread::sleep(Duration::from_secs(3));
    }
    drop(stdin);
    child.wait().expect("it ends");
    assert_eq!(answers, if offer.can_rekey() { 3 } else { 1 });
}

/// Reads up to the end of an answer's head; whether there is one.
fn reads_head(stdout: &mut impl Read) -> bool {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while matches!(stdout.read(&mut byte), Ok(1)) {
        text.push(byte[0]);
        if text.ends_with(b"\r\n\r\n") {
            return String::from_utf8_lossy(&text).contains("HTTP/1.1 200");
        }
    }
    false
}
