//! One non-blocking connection, with TLS by rustls's unbuffered interface: what is received is decrypted out of the
//! thread's one buffer, and what is sent is encrypted into another, so that a connection holds bytes only while a
//! record is incomplete or the socket is full.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustls::ProtocolVersion;
use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};

use crate::load::failure::{Failure, Kind};
use crate::s3::Endpoint;

/// Bytes received at once: large enough that a 1 MiB object takes few calls, small enough for the cache.
const INCOMING_LEN: usize = 256 * 1024;
/// Plain bytes sealed at once.
pub(in crate::load) const PIECE_LEN: usize = 64 * 1024;
/// With room for what TLS adds to each record of 16 KiB.
const SEALED_LEN: usize = PIECE_LEN + 4096;

/// Buffers of a thread.
pub(in crate::load) struct Scratch {
    incoming: Vec<u8>,
    sealed: Vec<u8>,
}

impl Scratch {
    pub fn new() -> Self {
        Self { incoming: vec![0; INCOMING_LEN], sealed: vec![0; SEALED_LEN] }
    }
}

enum Link {
    Plain,
    Tls(Box<UnbufferedClientConnection>),
}

/// How far to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Until {
    /// A short read: edge-triggered readiness comes again with new bytes.
    Empty,
    /// The end that has been announced, for which there will be no other event.
    Closed,
}

/// What came of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Received {
    /// There will be more.
    Open,
    /// The server has closed.
    Closed,
}

pub(in crate::load) struct Transport {
    socket: OwnedFd,
    link: Link,
    /// The beginning of a record whose rest has not arrived.
    partial: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
    /// Of `unsent`, what it has taken since.
    sent: usize,
    is_ready: bool,
}

impl Transport {
    /// Begins to connect.
    pub fn connect(endpoint: &Endpoint, address: &SocketAddr) -> Result<Self, Failure> {
        let failed = |error: Errno| connect_failure(endpoint, &error.into());
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).map_err(failed)?;
        sockopt::set_tcp_nodelay(&socket, true).map_err(failed)?;
        match net::connect(&socket, address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(failed(error)),
        }
        let link = match &endpoint.tls {
            None => Link::Plain,
            Some((name, config)) => {
                let connection = UnbufferedClientConnection::new(config.clone(), name.clone());
                Link::Tls(Box::new(connection.map_err(|error| tls_failure(&error))?))
            }
        };
        Ok(Self { socket, link, partial: Vec::new(), unsent: Vec::new(), sent: 0, is_ready: false })
    }

    /// The socket has become writable: is it connected, or why not?
    pub fn finish_connect(&mut self, endpoint: &Endpoint) -> Result<(), Failure> {
        let outcome = sockopt::socket_error(&self.socket).and_then(|outcome| outcome);
        outcome.map_err(|error| connect_failure(endpoint, &error.into()))
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The handshake is done, so requests may be sent.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Version and cipher suite, for the report.
    pub fn protocol(&self) -> String {
        let Link::Tls(tls) = &self.link else { return "plain HTTP".into() };
        let version = match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        let suite = tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        format!("{version}, {}", suite.unwrap_or_default())
    }

    /// Drives the handshake with what has arrived.
    pub fn handshake(&mut self, scratch: &mut Scratch, until: Until) -> Result<Received, Failure> {
        if matches!(self.link, Link::Plain) {
            self.is_ready = true;
            return Ok(Received::Open);
        }
        self.pump(&mut [], &mut |_| Ok(()))?;
        self.flush()?;
        self.receive(scratch, until, &mut |_| Err(Failure::protocol("data before the first request")))
    }

    /// Whether the socket has taken all.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends on what the socket did not take before. Whether all is gone now.
    pub fn flush(&mut self) -> Result<bool, Failure> {
        while self.sent < self.unsent.len() {
            match net::send(&self.socket, &self.unsent[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Sends at most [`PIECE_LEN`] bytes, behind what is still unsent. Whether all is gone.
    pub fn send(&mut self, plain: &[u8], scratch: &mut Scratch) -> Result<bool, Failure> {
        let has_rest = !self.flush()?;
        let bytes = match &mut self.link {
            Link::Plain => plain,
            Link::Tls(tls) => {
                let count = seal(tls, plain, &mut scratch.sealed)?;
                &scratch.sealed[..count]
            }
        };
        let mut sent = 0;
        if has_rest {
            self.unsent.extend_from_slice(bytes);
            return Ok(false);
        }
        while sent < bytes.len() {
            match net::send(&self.socket, &bytes[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN) => {
                    self.unsent.extend_from_slice(&bytes[sent..]);
                    return Ok(false);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(true)
    }

    /// Receives until the socket is empty and hands plain bytes to `take`.
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        until: Until,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Received, Failure> {
        loop {
            let kept = self.partial.len();
            scratch.incoming[..kept].copy_from_slice(&self.partial);
            self.partial.clear();
            let room = &mut scratch.incoming[kept..];
            let room_len = room.len();
            let count = match net::recv(&self.socket, room, RecvFlags::empty()) {
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => {
                    self.partial.extend_from_slice(&scratch.incoming[..kept]);
                    return Ok(Received::Open);
                }
                Err(Errno::INTR) => {
                    self.partial.extend_from_slice(&scratch.incoming[..kept]);
                    continue;
                }
                Err(error) => return Err(broken(&error)),
            };
            if count == 0 {
                return Ok(Received::Closed);
            }
            let filled = &mut scratch.incoming[..kept + count];
            if self.pump(filled, take)? == Received::Closed {
                return Ok(Received::Closed);
            }
            if count < room_len && until == Until::Empty {
                return Ok(Received::Open);
            }
        }
    }

    /// Runs what has arrived through TLS, and keeps what is no complete record.
    fn pump(
        &mut self,
        filled: &mut [u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Received, Failure> {
        let Link::Tls(tls) = &mut self.link else {
            take(filled)?;
            return Ok(Received::Open);
        };
        let mut start = 0;
        let mut received = Received::Open;
        loop {
            let UnbufferedStatus { discard, state, .. } = tls.process_tls_records(&mut filled[start..]);
            match state.map_err(|error| tls_failure(&error))? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        take(record.map_err(|error| tls_failure(&error))?.payload)?;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let at = self.unsent.len();
                    let needed = match data.encode(&mut []) {
                        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                            required_size
                        }
                        Ok(_) | Err(_) => 0,
                    };
                    self.unsent.resize(at + needed, 0);
                    data.encode(&mut self.unsent[at..]).map_err(|error| tls_failure(&error))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    received = Received::Closed;
                    start += discard;
                    break;
                }
                ConnectionState::BlockedHandshake => {
                    start += discard;
                    break;
                }
                ConnectionState::WriteTraffic(_) => {
                    self.is_ready = true;
                    start += discard;
                    break;
                }
                other => return Err(Failure::new(Kind::Tls, format!("an unexpected state: {other:?}"))),
            }
            start += discard;
        }
        self.partial.extend_from_slice(&filled[start..]);
        if !self.unsent.is_empty() {
            self.flush()?;
        }
        Ok(received)
    }
}

fn seal(tls: &mut UnbufferedClientConnection, plain: &[u8], sealed: &mut [u8]) -> Result<usize, Failure> {
    let UnbufferedStatus { state, .. } = tls.process_tls_records(&mut []);
    match state.map_err(|error| tls_failure(&error))? {
        ConnectionState::WriteTraffic(mut traffic) => {
            traffic.encrypt(plain, sealed).map_err(|error| tls_failure(&error))
        }
        other => Err(Failure::new(Kind::Tls, format!("cannot send in the state {other:?}"))),
    }
}

fn connect_failure(endpoint: &Endpoint, error: &io::Error) -> Failure {
    Failure::new(Kind::Connect, format!("{endpoint:?}: {error}"))
}

fn tls_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Tls, error.to_string())
}

fn broken(error: &Errno) -> Failure {
    Failure::new(Kind::Closed, io::Error::from(*error).to_string())
}
