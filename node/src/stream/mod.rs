//! A client's connection as the code above sees it: plain bytes in and out, whether TLS carries them or not.
//!
//! Received bytes are *there* (`plaintext`), until they are *consumed*; `fill` waits for more. The same buffer thus
//! serves a head that is parsed again when more of it has come, and a body that is taken as it comes.
//!
//! Limits on waiting are not the caller's: it says what it waits for (`allow`), and `fill` or `write_all` fail with
//! `TimedOut` when that takes too long.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::connections::Connections;
pub use crate::connections::Patience;
use crate::stopwatch::Stopwatch;

mod direct;
pub mod kernel;
pub mod plain;
mod received;
mod record_type;
mod records;
mod spare;
pub mod tcp;
pub mod tls;
mod zero_copy;

use kernel::KernelStream;
use plain::PlainStream;
use tls::TlsStream;

/// A connection of any kind.
pub enum Stream {
    /// The usual one.
    Tls(Box<TlsStream>),
    /// The same, but the kernel makes its records.
    Kernel(Box<KernelStream>),
    /// From an `insecure_http` listener.
    Plain(Box<PlainStream>),
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Tls($stream) => $call,
            Stream::Kernel($stream) => $call,
            Stream::Plain($stream) => $call,
        }
    };
}

impl Stream {
    /// Received bytes that nobody has consumed yet.
    pub fn plaintext(&self) -> &[u8] {
        either!(self, stream => stream.plaintext())
    }

    /// Takes the first `count` of them away.
    pub fn consume(&mut self, count: usize) {
        either!(self, stream => stream.consume(count));
    }

    /// Waits until there is at least one byte more; answers how many came. 0: the peer will send no more, or the
    /// connection was idle and its time was up (or the node is shutting down).
    ///
    /// Not cancel-safe: after a dropped `fill` the stream can only be written to and closed.
    ///
    /// # Errors
    /// `TimedOut` when the peer is too slow for what it was allowed, `InvalidData` when it breaks the TLS protocol,
    /// else what the socket says.
    pub async fn fill(&mut self) -> io::Result<usize> {
        either!(self, stream => stream.fill().await)
    }

    /// Puts bytes in front of the next `write_all`, so that a head and a body leave in one send.
    ///
    /// # Errors
    /// When the TLS connection can't seal any more; it is then of no use.
    pub fn buffer(&mut self, bytes: &[u8]) -> io::Result<()> {
        either!(self, stream => stream.buffer(bytes))
    }

    /// Sends what was buffered and `bytes`; done when the socket has taken all.
    ///
    /// # Errors
    /// `TimedOut` when the peer takes nothing for too long, else what the socket says.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        either!(self, stream => stream.write_all(bytes).await)
    }

    /// The same for a head and a body, which leave in one send.
    ///
    /// # Errors
    /// As for [`Stream::write_all`].
    pub async fn write_both(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tls(stream) => stream.write_both(head, body).await,
            Stream::Plain(stream) => {
                stream.buffer(head)?;
                stream.write_all(body).await
            }
            Stream::Kernel(stream) => {
                stream.buffer(head)?;
                stream.write_all(body).await
            }
        }
    }

    /// Says goodbye (over TLS by close_notify) and closes, after giving the peer a moment to read what was sent.
    pub async fn close(self) {
        either!(self, stream => stream.close().await);
    }

    /// What the connection waits for from now on; decides its limit. See [`Patience`]. A connection where part of the
    /// next request is there already (pipelining) is not idle: its head has begun.
    pub fn allow(&mut self, patience: Patience) {
        let has_begun = patience == Patience::Idle && !self.plaintext().is_empty();
        let patience = if has_begun { Patience::Head } else { patience };
        either!(self, stream => stream.tcp_mut().allow(patience));
    }

    /// Gives back the memory that a large transfer needed. For the time between two requests.
    pub fn shrink(&mut self) {
        either!(self, stream => stream.shrink());
    }

    /// Whether TLS protects the connection.
    pub fn is_tls(&self) -> bool {
        !matches!(self, Stream::Plain(_))
    }

    /// Whether the connection ends with its next response, which then says `Connection: close`: the node is shutting down, or the connection's key has sealed what it may.
    pub fn is_ending(&self) -> bool {
        self.connections().is_draining() || matches!(self, Stream::Kernel(stream) if stream.is_worn())
    }

    /// The connections of this core, with its counters.
    pub fn connections(&self) -> &Connections {
        either!(self, stream => stream.tcp().connections())
    }

    /// Where the time of its requests goes. Sealing and opening, and waiting for the peer, are noted here; the rest is up to whoever serves them.
    pub fn watch(&self) -> &Rc<Stopwatch> {
        either!(self, stream => stream.tcp().watch())
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        either!(self, stream => stream.tcp().peer())
    }
}
