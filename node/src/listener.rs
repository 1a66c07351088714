//! Listening sockets: one per core and address, sharing the address by SO_REUSEPORT, and the loop that accepts.
//!
//! Since any process of the same user may share such an address, a second node would silently take half of the
//! connections. So each address is first bound without sharing, which fails while anyone listens there.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use compio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use crate::congestion_control::CongestionControl;
use crate::connections::Connections;

/// How long an address may be in use before we give up: after `kill -9` the kernel keeps a listener for a moment, until
/// the dead process's ring is torn down.
const BIND_PATIENCE: Duration = Duration::from_secs(5);

/// Time between two attempts to bind.
const BIND_INTERVAL: Duration = Duration::from_millis(50);

/// Connections that the kernel completes and keeps for one core that is busy. The kernel cuts it to net.core.somaxconn.
const BACKLOG_LEN: i32 = 4096;

/// First and longest pause after a failed accept.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Whether TLS is spoken on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// HTTPS.
    Tls,
    /// Plain HTTP, from `insecure_http`.
    None,
}

/// One core's socket on one address.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    /// Whether TLS is spoken on it.
    pub protection: Protection,
}

/// An address that can't be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}; ", self.address, self.source)?;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "another process uses port {0} (see `ss -ltnp 'sport = :{0}'`): stop it, or choose another address \
                 with --listen or --admin-listen",
                self.address.port()
            ),
            io::ErrorKind::AddrNotAvailable => f.write_str(
                "no interface of this machine has that address (see `ip address`): choose another one",
            ),
            io::ErrorKind::PermissionDenied => f.write_str(
                "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one, or grant the capability",
            ),
            _ => f.write_str("choose another address with --listen or --admin-listen"),
        }
    }
}

impl std::error::Error for BindError {}

/// Listens on `address` once per core, for connections with that congestion control. Port 0 is a free one, the same for all; answers which address it
/// became.
///
/// # Errors
/// When the address can't be bound, after some seconds if it is in use.
pub fn bind(
    address: SocketAddr,
    protection: Protection,
    core_count: usize,
    congestion_control: Option<&CongestionControl>,
) -> Result<(SocketAddr, Vec<Listener>), BindError> {
    let failed = |source| BindError { address, source };
    // The unshared socket proves that the address is free; it goes before the shared ones come.
    let bound =
        retry_in_use(address, || open(address, Sharing::Exclusive, None)?.local_addr()).map_err(failed)?;
    let listeners = (0..core_count)
        .map(|_| {
            let socket = retry_in_use(bound, || open(bound, Sharing::Cores, congestion_control))?;
            Ok(Listener { socket, protection })
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    Ok((bound, listeners))
}

/// Listens on `address` with one socket that nobody shares.
///
/// # Errors
/// As for [`bind`].
pub fn bind_exclusive(address: SocketAddr) -> Result<StdListener, BindError> {
    retry_in_use(address, || open(address, Sharing::Exclusive, None))
        .map_err(|source| BindError { address, source })
}

/// Accepts connections and hands each to `take`, which must not wait. Holds back while the core has as many as it may.
pub async fn accept(
    listener: Listener,
    connections: Rc<Connections>,
    take: impl Fn(TcpStream, SocketAddr, Protection),
) {
    let protection = listener.protection;
    let listener = match TcpListener::from_std(listener.socket) {
        Ok(listener) => listener,
        Err(error) => panic!("a listening socket joins the core's runtime: {error}"),
    };
    let mut pause = None;
    loop {
        connections.room().await;
        match listener.accept().await {
            Ok((socket, peer)) => {
                pause = None;
                take(socket, peer, protection);
            }
            Err(error) => {
                connections.metrics().accept_errors.add(1);
                pause = Some(pause_after(&error, pause).await);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Sharing {
    Exclusive,
    Cores,
}

fn open(
    address: SocketAddr,
    sharing: Sharing,
    congestion_control: Option<&CongestionControl>,
) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets us bind while former connections are in TIME_WAIT; on Linux never while someone listens.
    socket.set_reuse_address(true)?;
    if matches!(sharing, Sharing::Cores) {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // Else [::]:9000 would take 0.0.0.0:9000 as well, and listing both would fail.
        socket.set_only_v6(true)?;
    }
    if let Some(congestion_control) = congestion_control {
        congestion_control.set(&socket)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_LEN)?;
    Ok(socket.into())
}

fn retry_in_use<T>(address: SocketAddr, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + BIND_PATIENCE;
    let mut is_told = false;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(%address, patience = ?BIND_PATIENCE, "the address is in use; waiting in case a node is just ending");
                }
                thread::sleep(BIND_INTERVAL);
            }
            result => return result,
        }
    }
}

/// Waits after a failed accept, longer each time in a row; logs the first failure of a row.
async fn pause_after(error: &io::Error, former: Option<Duration>) -> Duration {
    // The peer left before we took its connection: nothing is wrong with us.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return former.unwrap_or(ACCEPT_PAUSE.0);
    }
    if former.is_none() {
        tracing::warn!(
            %error,
            "cannot accept connections, trying again; if it lasts, raise the limit on open files (ulimit -n, LimitNOFILE)"
        );
    }
    let pause = former.map_or(ACCEPT_PAUSE.0, |former| (former * 2).min(ACCEPT_PAUSE.1));
    compio::time::sleep(pause).await;
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn all_cores_share_the_free_port_that_was_found() {
        let (bound, listeners) = bind(loopback(), Protection::Tls, 3, None).expect("loopback is free");
        assert_ne!(bound.port(), 0);
        assert_eq!(listeners.len(), 3);
        for listener in &listeners {
            assert_eq!(listener.socket.local_addr().expect("bound"), bound);
        }
    }

    #[test]
    fn an_accepted_connection_has_the_congestion_control_that_was_asked_for() {
        // Linux has both everywhere, and lets everybody use the first; one of the two is not the default.
        for name in ["reno", "cubic"] {
            let Ok(wanted) = CongestionControl::named(name) else { continue };
            let (address, mut listeners) =
                bind(loopback(), Protection::Tls, 1, Some(&wanted)).expect("loopback is free");
            let _client = std::net::TcpStream::connect(address).expect("someone listens");
            let (accepted, _) = listeners.remove(0).socket.accept().expect("a connection");
            let has = socket2::SockRef::from(&accepted).tcp_congestion().expect("a name");
            assert_eq!(String::from_utf8_lossy(&has).trim_end_matches('\0'), name);
        }
        assert!(CongestionControl::named("reno").is_ok());
    }

    #[test]
    fn a_second_node_does_not_share_the_address_silently() {
        let (bound, _listeners) = bind(loopback(), Protection::Tls, 1, None).expect("loopback is free");
        let error = open(bound, Sharing::Exclusive, None).expect_err("someone listens there");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = BindError { address: bound, source: error }.to_string();
        assert!(text.contains(&bound.to_string()) && text.contains("--listen"), "{text}");
    }

    #[test]
    fn a_listener_that_vanishes_soon_is_waited_for() {
        let holder = open(loopback(), Sharing::Exclusive, None).expect("loopback is free");
        let address = holder.local_addr().expect("bound");
        let releaser = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(holder);
        });
        assert!(bind(address, Protection::None, 2, None).is_ok());
        releaser.join().expect("no panic");
    }

    #[test]
    fn an_address_of_another_machine_is_refused_at_once_with_advice() {
        let begin = Instant::now();
        let error = bind("192.0.2.1:9000".parse().expect("an address"), Protection::Tls, 1, None)
            .expect_err("not ours");
        assert!(begin.elapsed() < BIND_PATIENCE);
        assert!(error.to_string().contains("ip address"), "{error}");
    }
}
