//! TLS over a connection, by rustls's unbuffered interface: records are decrypted in the receive buffer, and sealed
//! straight into the send buffer.
//!
//! `rustls` is a state machine that we feed with what arrived and ask what to do. [`TlsStream::advance`] asks until it
//! has nothing more to do than to read; answers for the peer (handshake, tickets, key updates, alerts) gather in the
//! send buffer and leave with the next send, or before we wait for the peer.
//!
//! Invariants:
//! - `incoming[start..]` is exactly what rustls has not discarded yet.
//! - `outgoing[..outgoing_len]` is sealed and unsent; it leaves in order, once.

use std::io;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::ServerConfig;

use super::tcp::Tcp;
use crate::connections::Patience;

/// Room for a first request; doubled while the peer fills it.
pub(super) const INCOMING_LEN_MIN: usize = 4 * 1024;

/// A larger read saves nothing more. Exceeded only by a handshake message that is longer.
const INCOMING_LEN_USUAL: usize = 64 * 1024;

/// The longest handshake message that rustls takes (64 KiB) in records, with their framing.
const INCOMING_LEN_MAX: usize = 96 * 1024;

/// Plaintext sealed and sent at once. Measured best for the peer: with more, the receiver's caches suffer.
pub const PIECE_LEN_MAX: usize = 256 * 1024;

/// Payload of a full TLS record.
const RECORD_LEN: usize = 16 * 1024;

/// Framing of a record at most: header, explicit nonce (TLS 1.2), inner content type (TLS 1.3), tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// What a stream at rest may keep of its send buffer.
const OUTGOING_LEN_REST: usize = RECORD_LEN + 1024;

/// A connection over TLS, its handshake done.
pub struct TlsStream {
    tcp: Tcp,
    tls: UnbufferedServerConnection,
    incoming: Vec<u8>,
    start: usize,
    /// Decrypted bytes; those before `plaintext_start` are consumed.
    plaintext: Vec<u8>,
    plaintext_start: usize,
    /// Always initialised to its whole length; only the first `outgoing_len` bytes mean something.
    outgoing: Vec<u8>,
    outgoing_len: usize,
    /// The last receive filled all the room it had: more is coming, so the next one gets more room.
    is_hungry: bool,
    /// The peer said close_notify: no more plaintext will come.
    is_ended: bool,
}

impl TlsStream {
    /// Performs the server's part of a handshake, within the time for heads.
    ///
    /// # Errors
    /// `InvalidData` when the peer breaks the protocol or shares no version or cipher suite with us (it has been told
    /// by an alert), `UnexpectedEof` when it leaves, `TimedOut` when it is slow, else the socket's.
    pub async fn accept(tcp: Tcp, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = TlsStream {
            tcp,
            tls,
            incoming: Vec::new(),
            start: 0,
            plaintext: Vec::new(),
            plaintext_start: 0,
            outgoing: Vec::new(),
            outgoing_len: 0,
            is_hungry: false,
            is_ended: false,
        };
        stream.tcp.allow(Patience::Handshake);
        while stream.advance_or_alert().await? == Progress::Handshake {
            stream.flush().await?;
            if stream.receive().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(stream)
    }

    /// See [`super::Stream::plaintext`].
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext[self.plaintext_start..]
    }

    /// See [`super::Stream::consume`].
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.plaintext().len(), "more bytes consumed than there are");
        self.plaintext_start += count;
        if self.plaintext_start == self.plaintext.len() {
            self.plaintext.clear();
            self.plaintext_start = 0;
        }
    }

    /// See [`super::Stream::fill`].
    ///
    /// # Errors
    /// As there.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let len_before = self.plaintext().len();
        loop {
            self.advance_or_alert().await?;
            let count = self.plaintext().len() - len_before;
            if count > 0 {
                self.tcp.note_arrival();
            }
            if count > 0 || self.is_ended {
                return Ok(count);
            }
            self.flush().await?;
            if self.receive().await? == 0 {
                return Ok(0);
            }
        }
    }

    /// See [`super::Stream::buffer`].
    ///
    /// # Errors
    /// As there.
    pub fn buffer(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.seal(bytes)
    }

    /// See [`super::Stream::write_all`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_LEN_MAX) {
            self.seal(piece)?;
            self.flush().await?;
        }
        self.flush().await
    }

    /// See [`super::Stream::close`].
    pub async fn close(mut self) {
        self.tcp.allow(Patience::Linger);
        // A connection that can't say goodbye is gone already.
        if self.seal_close_notify().is_ok() && self.flush().await.is_ok() {
            self.tcp.close().await;
        }
    }

    /// See [`super::Stream::shrink`].
    pub fn shrink(&mut self) {
        self.plaintext.drain(..std::mem::take(&mut self.plaintext_start));
        self.plaintext.shrink_to(INCOMING_LEN_MIN);
        self.compact();
        self.incoming.shrink_to(INCOMING_LEN_MIN);
        if self.outgoing_len == 0 && self.outgoing.len() > OUTGOING_LEN_REST {
            self.outgoing = Vec::new();
        }
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
        self.tls.protocol_version()
    }

    /// Lets rustls work until it needs more from the peer, or has nothing to do.
    fn advance(&mut self) -> Result<Progress, rustls::Error> {
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process_tls_records(&mut self.incoming[self.start..]);
            let step = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        Some(Ok(record)) => {
                            discard += record.discard;
                            self.plaintext.extend_from_slice(record.payload);
                        }
                        Some(Err(error)) => break Err(error),
                        None => break Ok(None),
                    }
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, &mut self.outgoing_len, 0, |room| match data.encode(room) {
                        Ok(count) => Ok(count),
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        Err(EncodeError::AlreadyEncoded) => Err(None),
                    })
                    .map(|()| None)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // It stays in `outgoing` and leaves in order: that is as good as sent.
                    data.done();
                    Ok(None)
                }
                Ok(ConnectionState::BlockedHandshake) => Ok(Some(Progress::Handshake)),
                Ok(ConnectionState::PeerClosed) => {
                    self.is_ended = true;
                    Ok(None)
                }
                // Early data is never enabled; what else rustls may learn to say, we have not asked for.
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => Ok(Some(Progress::Traffic)),
                Ok(_) => Err(rustls::Error::General("unexpected TLS state".into())),
                Err(error) => Err(error),
            };
            self.discard(discard);
            if let Some(progress) = step? {
                return Ok(progress);
            }
        }
    }

    /// As `advance`; on an error the peer gets to know by an alert.
    async fn advance_or_alert(&mut self) -> io::Result<Progress> {
        match self.advance() {
            Ok(progress) => Ok(progress),
            Err(error) => {
                // rustls has queued the alert, if any, and gives it out before it repeats the error.
                let _ = self.advance();
                let _ = self.flush().await;
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Runs `write` with rustls in the state for sending application data.
    fn with_write_traffic(
        &mut self,
        mut write: impl FnMut(WriteTraffic<'_, rustls::server::ServerConnectionData>, &mut Vec<u8>, &mut usize) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.advance().map_err(invalid)? == Progress::Handshake {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let UnbufferedStatus { discard, state, .. } = self.tls.process_tls_records(&mut self.incoming[self.start..]);
        let result = match state.map_err(invalid)? {
            ConnectionState::WriteTraffic(traffic) => write(traffic, &mut self.outgoing, &mut self.outgoing_len),
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        self.discard(discard);
        result
    }

    /// Seals `bytes` as records behind what is already in the send buffer.
    fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let estimate = bytes.len() + (bytes.len() / RECORD_LEN + 1) * RECORD_OVERHEAD;
        self.with_write_traffic(|mut traffic, outgoing, outgoing_len| {
            append(outgoing, outgoing_len, estimate, |room| traffic.encrypt(bytes, room).map_err(required_size))
                .map_err(invalid)
        })
    }

    fn seal_close_notify(&mut self) -> io::Result<()> {
        self.with_write_traffic(|mut traffic, outgoing, outgoing_len| {
            append(outgoing, outgoing_len, RECORD_OVERHEAD + 2, |room| {
                traffic.queue_close_notify(room).map_err(required_size)
            })
            .map_err(invalid)
        })
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.outgoing_len == 0 {
            return Ok(());
        }
        let len = std::mem::take(&mut self.outgoing_len);
        let result;
        (result, self.outgoing) = self.tcp.send(std::mem::take(&mut self.outgoing), len).await;
        result
    }

    /// Receives more records behind those that are incomplete.
    async fn receive(&mut self) -> io::Result<usize> {
        self.compact();
        let pending = self.incoming.len();
        if pending >= INCOMING_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer's TLS handshake message is too long"));
        }
        let mut buffer = std::mem::take(&mut self.incoming);
        grow(&mut buffer, self.is_hungry);
        let room = buffer.capacity() - pending;
        let result;
        (result, self.incoming) = self.tcp.receive(buffer).await;
        self.is_hungry = matches!(result, Ok(count) if count == room);
        result
    }

    fn discard(&mut self, count: usize) {
        self.start += count;
        if self.start == self.incoming.len() {
            self.incoming.clear();
            self.start = 0;
        }
    }

    fn compact(&mut self) {
        self.incoming.drain(..std::mem::take(&mut self.start));
    }
}

/// What rustls waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// More of the handshake.
    Handshake,
    /// Nothing: application data may flow.
    Traffic,
}

/// Makes room for another receive: some at least, and twice as much as before for a peer that filled it.
pub(super) fn grow(buffer: &mut Vec<u8>, is_hungry: bool) {
    let (len, capacity) = (buffer.len(), buffer.capacity());
    if is_hungry && capacity < INCOMING_LEN_USUAL {
        buffer.reserve_exact(INCOMING_LEN_USUAL.min(capacity * 2) - len);
    }
    if buffer.capacity() - len < INCOMING_LEN_MIN {
        buffer.reserve_exact(capacity.max(INCOMING_LEN_MIN));
    }
}

/// Lets `write` put bytes behind `buffer[..len]`, growing the buffer to what it asks for. `write` answers how many
/// bytes it wrote, or `Err(Some(required size))`, or `Err(None)` when it can't write at all.
fn append(
    buffer: &mut Vec<u8>,
    len: &mut usize,
    estimate: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), rustls::Error> {
    let mut room = estimate;
    loop {
        if buffer.len() < *len + room {
            buffer.resize(*len + room, 0);
        }
        match write(&mut buffer[*len..]) {
            Ok(count) => {
                *len += count;
                return Ok(());
            }
            Err(Some(required)) if required > buffer.len() - *len => room = required,
            Err(_) => return Err(rustls::Error::General("the TLS connection can seal no more".into())),
        }
    }
}

fn required_size(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
