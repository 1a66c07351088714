//! TLS over a connection: the machine of [`super::records`] joined to a socket.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

use super::Stream;
use super::kernel::{KernelStream, Offer};
use super::records::{Progress, RECORD_LEN, Records};
use super::tcp::Tcp;
use crate::connections::Patience;
use crate::stopwatch::Stage;

/// Plaintext sealed and sent at once. Measured best for the peer: with more, the receiver's caches suffer.
const PIECE_LEN_MAX: usize = 256 * 1024;

/// What a connection at rest may keep of memory for plaintext: a head and a small body.
const PENDING_LEN_REST: usize = 6 * 1024;

/// A connection over TLS, its handshake done.
pub struct TlsStream {
    tcp: Tcp,
    records: Records,
    /// Plaintext that waits for more, so that a head and the body behind it become one record; less than a record.
    pending: Vec<u8>,
    /// The last receive filled all the room it had: more is coming, so the next one gets more room.
    is_hungry: bool,
}

impl TlsStream {
    /// Performs the server's part of a handshake, within the time for heads.
    ///
    /// # Errors
    /// `InvalidData` when the peer breaks the protocol or shares no version or cipher suite with us (it has been told
    /// by an alert), `UnexpectedEof` when it leaves, `TimedOut` when it is slow, else the socket's.
    pub async fn accept(tcp: Tcp, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut stream =
            TlsStream { tcp, records: Records::new(config)?, pending: Vec::new(), is_hungry: false };
        stream.tcp.allow(Patience::Handshake);
        while stream.advance().await? == Progress::Handshake {
            stream.flush().await?;
            if stream.receive().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(stream)
    }

    /// Gives the records to the kernel, if it takes those of this connection, and answers how the connection goes on. A record that has begun is waited for, within
    /// the time for heads: the kernel could not open the rest of it.
    ///
    /// # Errors
    /// As for [`TlsStream::fill`], and when the kernel takes one direction alone, though it had offered both.
    pub async fn hand_over(mut self, offer: &Offer) -> io::Result<Stream> {
        if !self.records.suits(offer) {
            return Ok(self.stay());
        }
        self.tcp.allow(Patience::Head);
        loop {
            let unopened_len = self.records.unopened_len();
            self.advance().await?;
            // A record that is left as it is waits for more: the beginning of a handshake message, say.
            let is_stuck = self.records.has_whole_record() && self.records.unopened_len() == unopened_len;
            if is_stuck || !self.records.suits(offer) {
                return Ok(self.stay());
            }
            if self.records.has_whole_record() {
                continue;
            }
            self.flush().await?;
            let missing = self.records.missing();
            if missing == 0 {
                break;
            }
            if self.receive_at_most(missing).await? == 0 {
                return Ok(self.stay());
            }
        }
        let given = self.records.give_to_kernel(self.tcp.as_fd());
        let metrics = self.tcp.shared_connections();
        let metrics = metrics.metrics();
        if !matches!(given, Ok(Some(_))) {
            metrics.kernel_tls_refusals.add(1);
        }
        let Some((keys, sealed_count)) = given? else { return Ok(self.stay()) };
        metrics.kernel_tls_connections.add(1);
        let stream = KernelStream::new(self.tcp, keys, self.records.plaintext(), sealed_count, offer);
        Ok(Stream::Kernel(Box::new(stream)))
    }

    fn stay(self) -> Stream {
        Stream::Tls(Box::new(self))
    }

    /// See [`super::Stream::plaintext`].
    pub fn plaintext(&self) -> &[u8] {
        self.records.plaintext()
    }

    /// See [`super::Stream::consume`].
    pub fn consume(&mut self, count: usize) {
        self.records.consume(count);
    }

    /// See [`super::Stream::fill`].
    ///
    /// # Errors
    /// As there.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let former = self.enter(Stage::Crypto);
        let filled = self.fill_opened().await;
        self.enter(former);
        filled
    }

    async fn fill_opened(&mut self) -> io::Result<usize> {
        let len_before = self.plaintext().len();
        loop {
            self.advance().await?;
            let count = self.plaintext().len() - len_before;
            if count > 0 {
                self.tcp.note_arrival();
            }
            if count > 0 || self.records.is_ended() {
                return Ok(count);
            }
            self.enter(Stage::Network);
            self.flush().await?;
            let received = self.receive().await?;
            self.enter(Stage::Crypto);
            if received == 0 {
                return Ok(0);
            }
        }
    }

    /// See [`super::Stream::buffer`].
    ///
    /// # Errors
    /// As there.
    pub fn buffer(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.pending.is_empty() && bytes.len() >= RECORD_LEN {
            return self.records.seal(bytes);
        }
        let (now, rest) = bytes.split_at(bytes.len().min(RECORD_LEN - self.pending.len()));
        self.pending.extend_from_slice(now);
        if self.pending.len() == RECORD_LEN {
            self.seal_pending()?;
            self.records.seal(rest)?;
        }
        Ok(())
    }

    /// See [`super::Stream::write_all`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_both(&[], bytes).await
    }

    /// See [`super::Stream::write_both`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_both(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let former = self.enter(Stage::Crypto);
        let written = self.write_pieces(head, body).await;
        self.enter(former);
        written
    }

    async fn write_pieces(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut pieces = body.chunks(PIECE_LEN_MAX);
        let first = pieces.next().unwrap_or_default();
        if self.pending.is_empty() {
            self.records.seal_both(head, first)?;
        } else {
            self.buffer(head)?;
            self.records.seal_both(&self.pending, first)?;
            self.pending.clear();
        }
        self.enter(Stage::Network);
        self.flush().await?;
        for piece in pieces {
            self.enter(Stage::Crypto);
            self.records.seal(piece)?;
            self.enter(Stage::Network);
            self.flush().await?;
        }
        Ok(())
    }

    fn enter(&self, stage: Stage) -> Stage {
        self.tcp.watch().enter(stage)
    }

    fn seal_pending(&mut self) -> io::Result<()> {
        let result = self.records.seal(&self.pending);
        self.pending.clear();
        result
    }

    /// See [`super::Stream::close`].
    pub async fn close(mut self) {
        self.tcp.allow(Patience::Linger);
        // A connection that can't say goodbye is gone already.
        if self.seal_pending().is_ok()
            && self.records.seal_close_notify().is_ok()
            && self.flush().await.is_ok()
        {
            self.tcp.close().await;
        }
    }

    /// See [`super::Stream::shrink`].
    pub fn shrink(&mut self) {
        self.records.shrink();
        self.tcp.rest();
        self.pending.shrink_to(PENDING_LEN_REST);
    }

    /// The connection underneath.
    pub fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// The connection underneath.
    pub fn tcp_mut(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// Protocol version agreed on.
    pub fn protocol_version(&self) -> Option<rustls::ProtocolVersion> {
        self.records.protocol_version()
    }

    /// Works on what has arrived; tells the peer of an error by an alert.
    async fn advance(&mut self) -> io::Result<Progress> {
        let result = self.records.advance();
        if result.is_err() {
            // The peer may be gone; then there is nobody to tell.
            let _ = self.flush().await;
        }
        result
    }

    async fn flush(&mut self) -> io::Result<()> {
        let Some((outgoing, len)) = self.records.take_outgoing() else { return Ok(()) };
        let (result, outgoing) = self.tcp.send(outgoing, len).await;
        self.records.put_outgoing(outgoing);
        result
    }

    /// Receives more records behind those that are incomplete.
    async fn receive(&mut self) -> io::Result<usize> {
        let incoming = self.records.take_incoming(self.is_hungry)?;
        let room = incoming.capacity() - incoming.len();
        let (result, incoming) = self.tcp.receive(incoming).await;
        self.records.put_incoming(incoming);
        self.is_hungry = matches!(result, Ok(count) if count == room);
        result
    }

    async fn receive_at_most(&mut self, count: usize) -> io::Result<usize> {
        let mut incoming = self.records.take_incoming(false)?;
        incoming.reserve_exact(count);
        let (result, incoming) = self.tcp.receive_at_most(incoming, count).await;
        self.records.put_incoming(incoming);
        result
    }
}
