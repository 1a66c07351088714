//! Claims that need a kernel with TLS; elsewhere they are skipped with a line that says so (see `cargo xtask vm`).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use compio::net::TcpStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::*;
use crate::boot::LocalCertificate;
use crate::certificates::Certificates;
use crate::connections::{Connections, Timeouts};
use crate::mesh::CoreId;
use crate::metrics::CoreMetrics;
use crate::stream::Stream;
use crate::stream::tls::TlsStream;

const LIMIT: Duration = Duration::from_secs(120);

type Client = StreamOwned<ClientConnection, StdStream>;

/// Serves one connection that the kernel was given by `serve`, to a client that does `ask`.
fn connect<T: Send>(
    version: &'static SupportedProtocolVersion,
    serve: impl AsyncFnOnce(KernelStream),
    ask: impl FnOnce(Client) -> T + Send,
) -> Option<T> {
    let offer = Offer::probe().ok().filter(|offer| !offer.is_nothing());
    let Some(offer) = offer else {
        eprintln!("SKIPPED: this kernel has no TLS (modprobe tls); see cargo xtask vm");
        return None;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let local = LocalCertificate::new(directory.path(), vec!["localhost".into()]);
    local.ensure(jiff::Timestamp::now()).expect("made");
    let certificates = Certificates::load(local.files()).expect("it is good");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(local.ca_path()).expect("a certificate")).expect("a CA");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is free");
    let address = listener.local_addr().expect("bound");
    thread::scope(|scope| {
        let asking = scope.spawn(move || {
            let name = ServerName::try_from("localhost").expect("a name");
            let client = ClientConnection::new(Arc::new(config), name).expect("a client");
            let socket = StdStream::connect(address).expect("it listens");
            socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
            let mut client = StreamOwned::new(client, socket);
            client.conn.complete_io(&mut client.sock).expect("a handshake");
            ask(client)
        });
        let (socket, peer) = listener.accept().expect("a connection");
        crate::cores::new_runtime().expect("a ring").block_on(async {
            let timeouts = Timeouts { head: LIMIT, idle: LIMIT, body_stall: LIMIT };
            let metrics: Arc<[CoreMetrics]> = CoreMetrics::for_cores(1, &[]);
            let connections: Rc<Connections> =
                Connections::new(timeouts, 10, usize::MAX, metrics, CoreId::new(0));
            let socket = TcpStream::from_std(socket).expect("it joins the runtime");
            let stream = TlsStream::accept(Tcp::new(socket, peer, &connections), certificates.current());
            let stream = stream.await.expect("a handshake");
            match stream.hand_over(&offer).await.expect("the kernel takes it") {
                Stream::Kernel(stream) => serve(*stream).await,
                Stream::Tls(_) | Stream::Plain(_) => panic!("the kernel offers what it does not take"),
            }
        });
        Some(asking.join().expect("no panic"))
    })
}

/// Reads until the end; fails without close_notify.
fn read_all(mut client: Client) -> Vec<u8> {
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("an orderly end");
    all
}

#[test]
fn a_worn_key_is_changed_where_the_kernel_can() {
    const COUNT: usize = 40;
    let serve = async |mut stream: KernelStream| {
        stream.worn = 10;
        let mut changes = 0;
        for _ in 0..COUNT {
            let before = stream.sealed_count;
            stream.write_all(&[7; 1000]).await.expect("sent");
            changes += usize::from(stream.sealed_count < before);
            assert_eq!(stream.is_worn(), !stream.can_rekey && stream.sealed_count >= 10);
        }
        assert_eq!(changes >= COUNT / 10, stream.can_rekey, "{changes} changes");
        assert_eq!(stream.is_worn(), !stream.can_rekey);
        stream.close().await;
    };
    if let Some(all) = connect(&rustls::version::TLS13, serve, read_all) {
        assert_eq!(all, [7; 1000 * COUNT]);
    }
}

#[test]
fn a_key_that_can_not_be_changed_ends_its_connection_before_it_seals_too_much() {
    let serve = async |mut stream: KernelStream| {
        stream.sealed_count = WORN - 1;
        assert!(!stream.is_worn());
        stream.write_all(b"one").await.expect("sent");
        assert!(stream.is_worn());
        // One answer may be long; but not that long.
        stream.sealed_count = RECORDS_PER_KEY_MAX - 2;
        stream.write_all(b"two").await.expect("sent");
        stream.write_all(b"three").await.expect_err("the key is used up");
    };
    let ask = |mut client: Client| {
        let mut all = [0; 6];
        client.read_exact(&mut all).expect("both");
        client.read(&mut [0]).expect_err("an end without a goodbye: what came last is not whole");
        all
    };
    if let Some(all) = connect(&rustls::version::TLS12, serve, ask) {
        assert_eq!(&all, b"onetwo");
    }
}

#[test]
fn records_without_data_are_taken_up_to_a_limit() {
    let serve = async |mut stream: KernelStream| {
        stream.write_all(b"go").await.expect("sent");
        // So many in a row that mean nothing are an attack.
        let error = stream.fill().await.expect_err("too many");
        assert!(error.to_string().contains("UnexpectedMessage"), "{error}");
    };
    let ask = |mut client: Client| {
        // Before, TLS was the node's.
        client.read_exact(&mut [0; 2]).expect("it is the kernel's");
        for _ in 0..=KEY_UPDATES_MAX {
            client.conn.refresh_traffic_keys().expect("TLS 1.3 can");
        }
        // The node may have ended the connection by then.
        let _ = client.flush();
        client.read(&mut [0]).expect_err("an alert").to_string()
    };
    // Elsewhere the first of them is the last.
    if Offer::probe().is_ok_and(|offer| !offer.can_rekey()) {
        eprintln!("SKIPPED: this kernel takes no second key");
    } else if let Some(alert) = connect(&rustls::version::TLS13, serve, ask) {
        assert!(alert.contains("UnexpectedMessage"), "{alert}");
    }
}
