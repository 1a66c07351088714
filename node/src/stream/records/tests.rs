//! Claims of the TLS machine, against rustls's own client, without sockets.

use std::io::{Read, Write};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::boot::LocalCertificate;
use crate::certificates::Certificates;

static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A server's and a client's configuration that fit each other.
fn configs() -> (Arc<ServerConfig>, impl Fn(&'static SupportedProtocolVersion) -> Arc<ClientConfig>) {
    let directory = tempfile::tempdir().expect("a directory");
    let local = LocalCertificate::new(directory.path(), vec!["localhost".into()]);
    local.ensure(jiff::Timestamp::now()).expect("made");
    let certificates = Certificates::load(local.files()).expect("it is good");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(local.ca_path()).expect("a certificate")).expect("a CA");
    let client = move |version| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version");
        Arc::new(builder.with_root_certificates(roots.clone()).with_no_client_auth())
    };
    (certificates.current(), client)
}

fn client(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("localhost").expect("a name")).expect("a client")
}

/// Gives `bytes` to the server as one receive.
fn arrive(records: &mut Records, bytes: &[u8]) {
    let mut incoming = records.take_incoming(false).expect("room");
    incoming.extend_from_slice(bytes);
    records.put_incoming(incoming);
}

/// Takes what the server has to send.
fn depart(records: &mut Records) -> Vec<u8> {
    let Some((outgoing, len)) = records.take_outgoing() else { return Vec::new() };
    let sent = outgoing[..len].to_vec();
    records.put_outgoing(outgoing);
    sent
}

fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("a Vec takes all");
    }
    bytes
}

fn give(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("a slice gives all");
        client.process_new_packets().expect("the server keeps to the protocol");
    }
}

/// Both sides after their handshake, the client's bytes arriving in pieces of `piece_len`.
fn connected(
    server: Arc<ServerConfig>,
    config: Arc<ClientConfig>,
    piece_len: usize,
) -> (Records, ClientConnection) {
    let (mut records, mut client) = (Records::new(server).expect("a server"), client(config));
    while client.is_handshaking() {
        for piece in sent_by(&mut client).chunks(piece_len) {
            arrive(&mut records, piece);
            records.advance().expect("the client keeps to the protocol");
        }
        give(&mut client, &depart(&mut records));
    }
    for piece in sent_by(&mut client).chunks(piece_len) {
        arrive(&mut records, piece);
        records.advance().expect("the client keeps to the protocol");
    }
    give(&mut client, &depart(&mut records));
    assert_eq!(records.advance().expect("all well"), Progress::Traffic);
    (records, client)
}

fn received(client: &mut ClientConnection, len: usize) -> Vec<u8> {
    let mut plaintext = vec![0; len];
    client.reader().read_exact(&mut plaintext).expect("all of it came");
    plaintext
}

#[test]
fn a_handshake_in_pieces_of_any_length_succeeds() {
    let (server, client_config) = configs();
    for version in BOTH {
        for piece_len in [1, 2, 3, 5, 7, 100, 1000, 100_000] {
            let (mut records, mut client) = connected(server.clone(), client_config(version), piece_len);
            client.writer().write_all(b"ping").expect("buffered");
            for piece in sent_by(&mut client).chunks(piece_len) {
                arrive(&mut records, piece);
                records.advance().expect("all well");
            }
            assert_eq!(records.plaintext(), b"ping");
            records.seal(b"pong").expect("sealed");
            give(&mut client, &depart(&mut records));
            assert_eq!(received(&mut client, 4), b"pong");
        }
    }
}

#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_is_there() {
    let (server, client_config) = configs();
    for version in BOTH {
        let (mut records, mut client) =
            (Records::new(server.clone()).expect("a server"), client(client_config(version)));
        client.writer().write_all(b"early bird").expect("buffered until the handshake is done");
        for _ in 0..3 {
            arrive(&mut records, &sent_by(&mut client));
            records.advance().expect("all well");
            let answer = depart(&mut records);
            // The tickets leave with the response, not before.
            if records.plaintext().is_empty() {
                give(&mut client, &answer);
            } else {
                records.seal(b"worm").expect("sealed at once");
                give(&mut client, &[answer, depart(&mut records)].concat());
                break;
            }
        }
        assert_eq!(records.plaintext(), b"early bird", "{version:?}");
        assert_eq!(received(&mut client, 4), b"worm", "{version:?}");
    }
}

#[test]
fn what_is_sealed_leaves_in_order_and_once() {
    let (server, client_config) = configs();
    for version in BOTH {
        let (mut records, mut client) = connected(server.clone(), client_config(version), 4096);
        let body: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        records.seal(b"head").expect("sealed");
        records.seal(b"").expect("nothing to seal");
        records.seal(&body).expect("sealed");
        let bytes = depart(&mut records);
        assert_eq!(depart(&mut records), b"");
        // In portions: the client's plaintext buffer is small.
        let mut plaintext = Vec::new();
        for portion in bytes.chunks(4000) {
            give(&mut client, portion);
            let mut buffer = [0; 40_000];
            while let Ok(count @ 1..) = client.reader().read(&mut buffer) {
                plaintext.extend_from_slice(&buffer[..count]);
            }
        }
        assert!(plaintext == [&b"head"[..], &body].concat(), "{version:?}");
    }
}

#[test]
fn data_that_arrives_while_we_write_is_kept() {
    let (server, client_config) = configs();
    let (mut records, mut client) = connected(server, client_config(&rustls::version::TLS13), 4096);
    client.writer().write_all(b"next request").expect("buffered");
    arrive(&mut records, &sent_by(&mut client));
    records.seal(b"response").expect("sealed");
    records.advance().expect("all well");
    assert_eq!(records.plaintext(), b"next request");
    records.consume(5);
    assert_eq!(records.plaintext(), b"request");
    records.shrink();
    assert_eq!(records.plaintext(), b"request");
    give(&mut client, &depart(&mut records));
    assert_eq!(received(&mut client, 8), b"response");
}

#[test]
fn records_that_arrive_together_are_opened_as_they_are_wanted_and_none_is_lost() {
    let (server, client_config) = configs();
    for version in BOTH {
        let (mut records, mut client) = connected(server.clone(), client_config(version), 4096);
        let mut sent = Vec::new();
        for part in [&b"first"[..], b"second", b"third"] {
            client.writer().write_all(part).expect("buffered");
            sent.extend(sent_by(&mut client));
        }
        let (whole, torn) = sent.split_at(sent.len() - 1);
        arrive(&mut records, whole);
        let mut seen = Vec::new();
        for _ in 0..2 {
            records.advance().expect("all well");
            seen.extend_from_slice(&records.plaintext()[..2]);
            records.consume(2);
        }
        arrive(&mut records, torn);
        records.advance().expect("all well");
        records.shrink();
        seen.extend_from_slice(records.plaintext());
        records.consume(records.plaintext().len());
        assert_eq!(seen, b"firstsecondthird", "{version:?}");
        records.shrink();
        exchange(&mut records, &mut client, b"question", b"answer");
    }
}

#[test]
fn the_end_is_said_and_heard() {
    let (server, client_config) = configs();
    for version in BOTH {
        let (mut records, mut client) = connected(server.clone(), client_config(version), 4096);
        client.send_close_notify();
        arrive(&mut records, &sent_by(&mut client));
        records.advance().expect("all well");
        assert!(records.is_ended());
        records.seal(b"last words").expect("we may still speak");
        records.seal_close_notify().expect("sealed");
        give(&mut client, &depart(&mut records));
        assert_eq!(received(&mut client, 10), b"last words");
        assert_eq!(client.reader().read(&mut [0]).expect("an orderly end"), 0);
    }
}

/// How many alerts the server sent in plaintext; it must be the last that it sent.
fn alert_count(mut sent: &[u8]) -> usize {
    let mut kinds = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = sent {
        kinds.push(*kind);
        sent = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    let count = kinds.iter().filter(|kind| **kind == 21).count();
    assert!(count == 0 || kinds.last() == Some(&21), "{kinds:?}");
    count
}

#[test]
fn any_damaged_byte_of_a_hello_ends_in_one_alert_and_never_in_a_panic() {
    let (server, client_config) = configs();
    for version in BOTH {
        let (mut error_count, mut told_count) = (0, 0);
        let hello_len = sent_by(&mut client(client_config(version))).len();
        for at in 0..hello_len {
            let mut records = Records::new(server.clone()).expect("a server");
            let mut hello = sent_by(&mut client(client_config(version)));
            hello[at.min(hello_len - 1)] ^= 0x81;
            arrive(&mut records, &hello);
            if records.advance().is_err() {
                error_count += 1;
                let alerts = alert_count(&depart(&mut records));
                assert!(alerts <= 1, "{alerts} alerts");
                told_count += alerts;
                assert!(records.advance().is_err() && records.seal(b"x").is_err(), "it stays failed");
                assert_eq!(depart(&mut records), b"", "the alert leaves once");
            }
        }
        // For some errors rustls has no alert.
        assert!(told_count > error_count / 2, "{error_count} errors, {told_count} alerts");
    }
}

#[test]
fn a_damaged_record_is_refused_and_the_peer_told() {
    let (server, client_config) = configs();
    for version in BOTH {
        // The header's five bytes are not protected, the rest is.
        for at in 5..34 {
            let (mut records, mut client) = connected(server.clone(), client_config(version), 100_000);
            client.writer().write_all(b"some request").expect("buffered");
            let mut bytes = sent_by(&mut client);
            bytes[at] ^= 1;
            // The record behind it must not be looked at any more.
            client.writer().write_all(b"another").expect("buffered");
            bytes.extend(sent_by(&mut client));
            arrive(&mut records, &bytes);
            assert!(records.advance().is_err(), "{at}");
            assert_eq!(records.plaintext(), b"");
            client.read_tls(&mut &depart(&mut records)[..]).expect("a slice gives all");
            let told = client.process_new_packets().expect_err("an alert");
            assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
            assert!(records.advance().is_err());
        }
    }
}

#[test]
fn the_buffer_grows_for_a_hungry_peer_and_shrinks_at_rest() {
    let (server, _) = configs();
    let mut records = Records::new(server).expect("a server");
    let mut capacities = Vec::new();
    for _ in 0..8 {
        let incoming = records.take_incoming(true).expect("room");
        capacities.push(incoming.capacity());
        records.put_incoming(incoming);
    }
    assert_eq!((capacities[0], capacities[7]), (INCOMING_LEN_MIN, INCOMING_LEN_USUAL));
    records.shrink();
    assert!(records.incoming.capacity() <= INCOMING_LEN_REST);
}

#[test]
fn a_handshake_message_without_end_is_refused() {
    let (server, _) = configs();
    let mut records = Records::new(server).expect("a server");
    // A ClientHello that claims 64 KiB less one, in records of 16 KiB.
    let mut message = vec![1, 0, 0xff, 0xff];
    message.resize(70_000, 0);
    let mut result = Ok(Progress::Handshake);
    for piece in message.chunks(16_000) {
        let header = [22, 3, 1, (piece.len() >> 8) as u8, piece.len() as u8];
        arrive(&mut records, &[&header, piece].concat());
        result = records.advance();
        if result.is_err() {
            break;
        }
    }
    assert!(result.is_err());
}

/// What the client says after it has been given the server's answers.
fn exchange(records: &mut Records, client: &mut ClientConnection, question: &[u8], answer: &[u8]) {
    client.writer().write_all(question).expect("buffered");
    arrive(records, &sent_by(client));
    records.advance().expect("the client keeps to the protocol");
    assert_eq!(records.plaintext(), question);
    records.consume(question.len());
    records.seal(answer).expect("sealed");
    give(client, &depart(records));
    assert_eq!(received(client, answer.len()), answer);
}

#[test]
fn the_records_of_tls_1_3_are_ours_and_those_of_tls_1_2_rustls_s() {
    let (server, client_config) = configs();
    let (records, _) = connected(server.clone(), client_config(&rustls::version::TLS13), 4096);
    assert!(matches!(records.machine, Machine::Direct(_)));
    let (records, _) = connected(server, client_config(&rustls::version::TLS12), 4096);
    assert!(matches!(records.machine, Machine::Rustls(_)));
}

#[test]
fn keys_change_when_the_client_wants_it() {
    let (server, client_config) = configs();
    let (mut records, mut client) = connected(server, client_config(&rustls::version::TLS13), 4096);
    for round in 0..100u8 {
        client.refresh_traffic_keys().expect("TLS 1.3");
        exchange(&mut records, &mut client, &[round; 50], &[round; 20_000]);
    }
}

#[test]
fn our_key_changes_before_it_has_sealed_too_much() {
    let (server, client_config) = configs();
    let (mut records, mut client) = connected(server, client_config(&rustls::version::TLS13), 4096);
    let Machine::Direct(direct) = &mut records.machine else { panic!("ours") };
    direct.set_records_per_key_max(3);
    for round in 0..50u8 {
        exchange(&mut records, &mut client, b"question", &[round; 20_000]);
    }
}

#[test]
fn a_client_that_does_nothing_but_change_keys_is_sent_away() {
    let (server, client_config) = configs();
    let (mut records, mut client) = connected(server, client_config(&rustls::version::TLS13), 4096);
    let mut error = None;
    for _ in 0..100 {
        client.refresh_traffic_keys().expect("TLS 1.3");
        arrive(&mut records, &sent_by(&mut client));
        error = records.advance().err();
        if error.is_some() {
            break;
        }
    }
    assert!(error.is_some());
    assert!(records.outgoing.len() < 2000, "what it is owed does not pile up");
}

#[test]
fn a_head_and_a_small_body_are_one_record() {
    let (server, client_config) = configs();
    for version in BOTH {
        let (mut records, mut client) = connected(server.clone(), client_config(version), 4096);
        records.seal_both(b"head", &[7; 4096]).expect("sealed");
        let sent = depart(&mut records);
        let len = usize::from(u16::from_be_bytes([sent[3], sent[4]]));
        assert_eq!(sent.len(), 5 + len, "{version:?}");
        give(&mut client, &sent);
        assert_eq!(received(&mut client, 4100), [&b"head"[..], &[7; 4096]].concat());
    }
}

#[test]
fn heads_and_bodies_of_any_length_arrive_as_they_were() {
    let (server, client_config) = configs();
    let (mut records, mut client) = connected(server, client_config(&rustls::version::TLS13), 4096);
    let bytes: Vec<u8> = (0..=250).cycle().take(7 * RECORD_LEN).collect();
    for head_len in [0, 1, 500, RECORD_LEN - 1, RECORD_LEN, RECORD_LEN + 1] {
        for body_len in [0, 1, 4096, RECORD_LEN - 1, RECORD_LEN, RECORD_LEN + 1, 5 * RECORD_LEN + 3] {
            let (head, body) = bytes[..head_len + body_len].split_at(head_len);
            records.seal_both(head, body).expect("sealed");
            let mut arrived = Vec::new();
            // The client holds no more than so much unread.
            for piece in depart(&mut records).chunks(8192) {
                give(&mut client, piece);
                let mut room = [0; 32 * 1024];
                while let Ok(count @ 1..) = client.reader().read(&mut room) {
                    arrived.extend_from_slice(&room[..count]);
                }
            }
            assert!(arrived == bytes[..head_len + body_len], "{head_len} and {body_len}");
        }
    }
}

#[test]
fn a_record_of_another_kind_than_data_is_refused_after_the_handshake() {
    let (server, client_config) = configs();
    for (header, alert) in [
        ([20, 3, 3, 0, 1], rustls::AlertDescription::UnexpectedMessage),
        ([22, 3, 3, 0, 1], rustls::AlertDescription::UnexpectedMessage),
        ([23, 3, 3, 0xff, 0xff], rustls::AlertDescription::RecordOverflow),
    ] {
        let (mut records, mut client) =
            connected(server.clone(), client_config(&rustls::version::TLS13), 4096);
        arrive(&mut records, &[&header[..], &[1]].concat());
        assert!(records.advance().is_err());
        client.read_tls(&mut &depart(&mut records)[..]).expect("a slice gives all");
        let told = client.process_new_packets().expect_err("an alert");
        assert_eq!(told, rustls::Error::AlertReceived(alert));
        assert!(records.seal(b"x").is_err(), "it stays failed");
    }
}

#[test]
fn records_that_arrive_byte_by_byte_are_whole_in_the_end() {
    let (server, client_config) = configs();
    let (mut records, mut client) = connected(server, client_config(&rustls::version::TLS13), 4096);
    let body: Vec<u8> = (0..40_000u32).map(|n| (n % 253) as u8).collect();
    client.writer().write_all(&body).expect("buffered");
    for piece in sent_by(&mut client).chunks(7) {
        arrive(&mut records, piece);
        records.advance().expect("all well");
    }
    assert!(records.plaintext() == body);
}

#[test]
fn a_key_change_that_comes_with_the_end_of_the_handshake_is_answered() {
    let (server, client_config) = configs();
    let mut records = Records::new(server).expect("a server");
    let mut client = client(client_config(&rustls::version::TLS13));
    while client.is_handshaking() {
        arrive(&mut records, &sent_by(&mut client));
        records.advance().expect("the client keeps to the protocol");
        let answer = depart(&mut records);
        client.read_tls(&mut &answer[..]).expect("a slice gives all");
        client.process_new_packets().expect("the server keeps to the protocol");
    }
    // Finished, a key change and data arrive together.
    client.refresh_traffic_keys().expect("TLS 1.3");
    for round in 0..3u8 {
        exchange(&mut records, &mut client, &[round; 10], &[round; 5000]);
    }
    assert!(matches!(records.machine, Machine::Direct(_)));
}
