//! The twin of the TLS stream for `insecure_http` listeners: the same interface over bare TCP.

use std::io;

use super::received::Received;
use super::records::INCOMING_LEN_MIN;
use super::tcp::Tcp;
use crate::stopwatch::Stage;

/// A connection without TLS.
pub struct PlainStream {
    tcp: Tcp,
    received: Received,
    outgoing: Vec<u8>,
}

impl PlainStream {
    /// A stream over an accepted connection.
    pub fn new(tcp: Tcp) -> Self {
        PlainStream { tcp, received: Received::default(), outgoing: Vec::new() }
    }

    /// Received bytes that nobody has consumed yet.
    pub fn plaintext(&self) -> &[u8] {
        self.received.plaintext()
    }

    /// Takes the first `count` of them away.
    pub fn consume(&mut self, count: usize) {
        self.received.consume(count);
    }

    /// See [`super::Stream::fill`].
    ///
    /// # Errors
    /// As there.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let former = self.tcp.watch().enter(Stage::Network);
        let result = self.received.receive(&mut self.tcp).await;
        self.tcp.watch().enter(former);
        result
    }

    /// See [`super::Stream::buffer`].
    ///
    /// # Errors
    /// None; the TLS twin has some.
    pub fn buffer(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outgoing.extend_from_slice(bytes);
        Ok(())
    }

    /// See [`super::Stream::write_all`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outgoing.extend_from_slice(bytes);
        let outgoing = std::mem::take(&mut self.outgoing);
        let len = outgoing.len();
        let former = self.tcp.watch().enter(Stage::Network);
        let (result, mut outgoing) = self.tcp.send(outgoing, len).await;
        self.tcp.watch().enter(former);
        outgoing.clear();
        self.outgoing = outgoing;
        result
    }

    /// See [`super::Stream::close`].
    pub async fn close(mut self) {
        if self.write_all(&[]).await.is_ok() {
            self.tcp.close().await;
        }
    }

    /// See [`super::Stream::shrink`].
    pub fn shrink(&mut self) {
        self.received.shrink();
        self.outgoing.shrink_to(INCOMING_LEN_MIN);
        self.tcp.rest();
    }

    /// The connection underneath.
    pub fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// The connection underneath.
    pub fn tcp_mut(&mut self) -> &mut Tcp {
        &mut self.tcp
    }
}
