//! TLS as clients see it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use node::signals::Request;
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConnection, HandshakeKind, ProtocolVersion};

use super::support::{Node, ask, client_config, connect, metric, pattern, read_line, read_to_end, tcp};

/// A ClientHello of TLS 1.1 with one RSA and one ECDHE suite, as an old client would send it.
fn client_hello_1_1() -> Vec<u8> {
    let mut body = vec![0x03, 0x02];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0xc0, 0x13, 0x00, 0x2f]);
    body.extend([1, 0]);
    // supported_groups: secp256r1; ec_point_formats: uncompressed.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend((body.len() as u16).to_be_bytes());
    handshake.extend(body);
    let mut record = vec![22, 0x03, 0x01];
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    record
}

#[test]
fn tls_1_1_is_refused_with_an_alert() {
    let node = Node::start();
    let mut socket = tcp(node.address);
    socket.write_all(&client_hello_1_1()).expect("sent");
    let answer = read_to_end(&mut socket).expect("an orderly end");
    // An alert (21), fatal (2): protocol_version (70), or handshake_failure (40) since 1.1 has no signature_algorithms.
    assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "{answer:?}");
    assert!([40, 70].contains(&answer[6]), "{answer:?}");
    // It is counted after the client has been told.
    for _ in 0..500 {
        if metric(node.admin, "basalt_tls_handshake_failures_total{core=\"0\"}") == 1.0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the failure was not counted");
}

#[test]
fn tls_1_2_and_1_3_carry_data_both_ways() {
    let node = Node::start();
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut client =
            connect(node.address, client_config(&node.boot, &[version]).into()).expect("a handshake");
        assert_eq!(client.conn.protocol_version(), Some(expected));
        client.write_all(b"echo 5\nhello").expect("sent");
        let mut echo = [0; 5];
        client.read_exact(&mut echo).expect("an echo");
        assert_eq!(&echo, b"hello");
    }
    assert_eq!(metric(node.admin, "basalt_tls_handshakes_total{core=\"0\"}"), 2.0);
}

#[test]
fn aes_256_is_taken_though_the_client_prefers_others() {
    let node = Node::start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = client_config(&node.boot, &[version]);
        let mut provider = (**config.crypto_provider()).clone();
        provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("CHACHA20"));
        config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier(&node))
            .with_no_client_auth();
        let client = connect(node.address, config.into()).expect("a handshake");
        let suite = client.conn.negotiated_cipher_suite().expect("agreed on").suite();
        assert!(
            matches!(
                suite,
                CipherSuite::TLS13_AES_256_GCM_SHA384 | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            ),
            "{suite:?}"
        );
    }
}

fn verifier(node: &Node) -> Arc<rustls::client::WebPkiServerVerifier> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(node.boot.data_dir.join("ca.pem")).expect("a certificate"))
        .expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .expect("a verifier")
}

#[test]
fn the_certificate_is_good_for_every_local_name_and_no_other() {
    let node = Node::start();
    let config = Arc::new(node.client_config());
    for (name, is_good) in [("localhost", true), ("127.0.0.1", true), ("::1", true), ("example.com", false)] {
        let name = ServerName::try_from(name).expect("a name");
        let mut connection = ClientConnection::new(config.clone(), name.clone()).expect("a client");
        let mut socket = tcp(node.address);
        assert_eq!(connection.complete_io(&mut socket).is_ok(), is_good, "{name:?}");
    }
}

#[test]
fn http_1_1_is_agreed_on_and_h2_alone_refused() {
    let node = Node::start();
    let connect_with = |protocols: &[&[u8]]| {
        let mut config = node.client_config();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        connect(node.address, config.into())
    };
    let client = connect_with(&[b"h2", b"http/1.1"]).expect("a handshake");
    assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(connect_with(&[b"h2"]).is_err());
    assert_eq!(connect_with(&[]).expect("a handshake").conn.alpn_protocol(), None);
}

#[test]
fn any_core_resumes_a_session_of_any_other_with_one_ticket_each() {
    let node = Node::start_with(vec![None; 3], |_| {});
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(client_config(&node.boot, &[version]));
        let mut kinds = Vec::new();
        let mut serving = std::collections::HashSet::new();
        for _ in 0..24 {
            let mut client = connect(node.address, config.clone()).expect("a handshake");
            serving.insert(ask(&mut client, "core"));
            kinds.push(client.conn.handshake_kind().expect("done"));
            if *version == rustls::version::TLS13 {
                assert_eq!(client.conn.tls13_tickets_received(), 1);
            }
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
        assert!(serving.len() > 1, "only core {serving:?} has served");
    }
}

#[test]
fn large_transfers_are_whole_both_ways() {
    const LEN: usize = 9 << 20;
    let node = Node::start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client =
            connect(node.address, client_config(&node.boot, &[version]).into()).expect("a handshake");
        writeln!(client, "send {LEN}").expect("sent");
        let mut received = vec![0; LEN];
        client.read_exact(&mut received).expect("all of it");
        assert!(received == pattern(LEN));
    }
    let mut socket = node.connect_plain();
    let mut sender = socket.try_clone().expect("a clone");
    let sending = thread::spawn(move || {
        writeln!(sender, "echo {LEN}").expect("sent");
        sender.write_all(&pattern(LEN)).expect("sent");
    });
    let mut received = vec![0; LEN];
    socket.read_exact(&mut received).expect("all of it");
    assert!(received == pattern(LEN));
    sending.join().expect("no panic");
}

#[test]
fn a_large_upload_over_tls_is_whole() {
    const LEN: usize = 200 << 10;
    let node = Node::start();
    let mut client = node.connect();
    let mut received = vec![0; LEN];
    for _ in 0..10 {
        writeln!(client, "echo {LEN}").expect("sent");
        client.write_all(&pattern(LEN)).expect("sent");
        client.read_exact(&mut received).expect("all of it");
        assert!(received == pattern(LEN));
    }
}

#[test]
fn key_updates_of_the_client_are_followed_and_answered() {
    let node = Node::start();
    let mut client = connect(node.address, client_config(&node.boot, &[&rustls::version::TLS13]).into())
        .expect("a handshake");
    for round in 0..50 {
        client.conn.refresh_traffic_keys().expect("TLS 1.3 can");
        assert_eq!(ask(&mut client, &format!("round{round}")), format!("round{round}"));
    }
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let node = Node::start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client =
            connect(node.address, client_config(&node.boot, &[version]).into()).expect("a handshake");
        client.write_all(b"sleep 100\n").expect("sent");
        client.conn.send_close_notify();
        client.flush().expect("sent");
        client.sock.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(read_line(&mut client), "slept");
        // `read_to_end` fails without close_notify.
        assert_eq!(read_to_end(&mut client).expect("an orderly end"), b"");
    }
}

#[test]
fn the_node_says_close_notify_before_it_closes() {
    let node = Node::start();
    let mut client = node.connect();
    assert_eq!(ask(&mut client, "bye"), "bye");
    assert_eq!(read_to_end(&mut client).expect("an orderly end"), b"");
}

#[test]
fn a_client_that_still_sends_gets_the_answer_that_ends_the_connection() {
    let node = Node::start();
    let mut client = node.connect();
    client.write_all(b"bye\n").expect("sent");
    // Without lingering, these bytes would reset the connection under the answer.
    for _ in 0..64 {
        if client.write_all(&[0; 16 * 1024]).is_err() {
            break;
        }
    }
    assert_eq!(read_line(&mut client), "bye");
}

#[test]
fn garbage_ends_one_connection_and_nothing_else() {
    let node = Node::start();
    let mut bystander = node.connect();
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 600], &[255; 70_000], &[22, 3, 1, 0xff, 0xff, 0]]
    {
        let mut socket = tcp(node.address);
        let _ = socket.write_all(garbage);
        let _ = socket.shutdown(Shutdown::Write);
        match read_to_end(&mut socket) {
            Ok(answer) => assert!(answer.first().is_none_or(|kind| *kind == 21), "only an alert: {answer:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(ask(&mut bystander, "well"), "well");
    assert_eq!(metric(node.admin, "basalt_tls_handshake_failures_total{core=\"0\"}"), 4.0);
}

#[test]
fn a_damaged_record_is_answered_with_an_alert() {
    let node = Node::start();
    let mut client = node.connect();
    assert_eq!(ask(&mut client, "well"), "well");
    let mut record = vec![23, 3, 3, 0, 40];
    record.extend([0; 40]);
    client.sock.write_all(&record).expect("sent");
    let error = read_to_end(&mut client).expect_err("the connection is over");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
}

#[test]
fn a_handshake_byte_by_byte_succeeds() {
    let node = Node::start();
    let mut connection = ClientConnection::new(
        node.client_config().into(),
        ServerName::try_from("localhost").expect("a name"),
    )
    .expect("a client");
    let mut socket = tcp(node.address);
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("written");
    for byte in hello {
        socket.write_all(&[byte]).expect("sent");
    }
    connection.complete_io(&mut socket).expect("a handshake");
    let mut client = rustls::StreamOwned::new(connection, socket);
    assert_eq!(ask(&mut client, "well"), "well");
}

#[test]
fn every_damaged_client_hello_is_survived() {
    let node = Node::start();
    let mut connection = ClientConnection::new(
        node.client_config().into(),
        ServerName::try_from("localhost").expect("a name"),
    )
    .expect("a client");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("written");
    for at in (0..hello.len()).step_by(17) {
        let mut damaged = hello.clone();
        damaged[at] ^= 0x55;
        let mut socket = tcp(node.address);
        let _ = socket.write_all(&damaged);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = read_to_end(&mut socket);
    }
    assert_eq!(ask(&mut node.connect(), "well"), "well");
}

#[test]
fn a_reload_serves_the_new_certificate_and_a_broken_one_changes_nothing() {
    let node = Node::start();
    let serial = || {
        let client = node.connect();
        client.conn.peer_certificates().expect("there is one")[0].to_vec()
    };
    let path = node.boot.certificate_files.certificate.clone();
    let first = serial();
    fs::write(&path, "broken").expect("written");
    // The generated certificate is made anew when it is broken: take one of the operator's instead.
    let other = tempfile::tempdir().expect("a directory");
    let made = node::boot::LocalCertificate::new(other.path(), vec!["localhost".into()]);
    made.ensure(jiff::Timestamp::now()).expect("made");
    fs::remove_file(&path).expect("there");
    assert!(node.stopper.request(Request::Reload));
    wait_until(|| fs::exists(&path).is_ok_and(|there| there) && serial() != first);
    let second = serial();
    // A certificate that doesn't belong to the key is renewed as well; a key that is no key can't be.
    fs::write(&node.boot.certificate_files.key, "broken").expect("written");
    assert!(node.stopper.request(Request::Reload));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(serial(), second);
}

#[test]
fn a_broken_certificate_of_the_operator_is_not_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = node::boot::LocalCertificate::new(directory.path(), vec!["localhost".into()]);
    made.ensure(jiff::Timestamp::now()).expect("made");
    let files = made.files();
    let certificates = node::certificates::Certificates::load(files.clone()).expect("it is good");
    let first = certificates.current();
    let good = fs::read(&files.certificate).expect("there");
    for broken in [&b""[..], b"broken", &good[..good.len() / 2]] {
        fs::write(&files.certificate, broken).expect("written");
        let error = certificates.reload().expect_err("it is broken").to_string();
        assert!(error.contains("certificate.pem"), "{error}");
        assert!(Arc::ptr_eq(&first, &certificates.current()), "the former one stays");
    }
    fs::write(&files.certificate, good).expect("written");
    certificates.reload().expect("it is good again");
    assert!(!Arc::ptr_eq(&first, &certificates.current()));
}

fn wait_until(claim: impl Fn() -> bool) {
    for _ in 0..100 {
        if claim() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it didn't come true within five seconds");
}
