//! The twin of the TLS stream for `insecure_http` listeners: the same interface over bare TCP.

use std::io;

use super::records::{INCOMING_LEN_MIN, INCOMING_LEN_REST, grow};
use super::tcp::Tcp;
use crate::stopwatch::Stage;

/// A connection without TLS.
pub struct PlainStream {
    tcp: Tcp,
    /// Received bytes; those before `start` are consumed.
    received: Vec<u8>,
    start: usize,
    is_hungry: bool,
    outgoing: Vec<u8>,
}

impl PlainStream {
    /// A stream over an accepted connection.
    pub fn new(tcp: Tcp) -> Self {
        PlainStream { tcp, received: Vec::new(), start: 0, is_hungry: false, outgoing: Vec::new() }
    }

    /// Received bytes that nobody has consumed yet.
    pub fn plaintext(&self) -> &[u8] {
        &self.received[self.start..]
    }

    /// Takes the first `count` of them away.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.plaintext().len(), "more bytes consumed than there are");
        self.start += count;
    }

    /// See [`super::Stream::fill`].
    ///
    /// # Errors
    /// As there.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.received);
        buffer.drain(..std::mem::take(&mut self.start));
        grow(&mut buffer, self.is_hungry);
        let room = buffer.capacity() - buffer.len();
        let former = self.tcp.watch().enter(Stage::Network);
        let result;
        (result, self.received) = self.tcp.receive(buffer).await;
        self.tcp.watch().enter(former);
        self.is_hungry = matches!(result, Ok(count) if count == room);
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
        self.received.drain(..std::mem::take(&mut self.start));
        self.received.shrink_to(INCOMING_LEN_REST);
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
