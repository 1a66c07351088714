//! The server's side of TLS without a socket: bytes in, plaintext out, and back. By rustls's unbuffered interface, which
//! decrypts records in the receive buffer and seals them straight into the send buffer.
//!
//! `rustls` is a state machine: it is shown what arrived, and says what to do. [`Records::advance`] goes on until it has
//! nothing more to do than to wait. Answers for the peer (handshake, tickets, key updates, alerts) gather in the send
//! buffer and leave with the next send, or before we wait for the peer.
//!
//! Invariants:
//! - `incoming[start..]` is exactly what has not been opened yet.
//! - Plaintext lies where it was received (`opened`) or, if more has to follow it, in `plaintext`; never in both.
//! - `outgoing[..outgoing_len]` is sealed and unsent; it leaves in order, once.
//! - A connection that has nothing to send has no send buffer: see [`super::spare`].
//! - After an error rustls is not asked again: it would look at the same bad bytes, fail a second time, and take that for a
//!   bug of its own.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{ProtocolVersion, ServerConfig};

use super::direct::{self, Direct, Opened};
use super::kernel::{self, Cipher, Keys, Offer, Refusal};
use super::spare;

/// Room for a first request.
pub const INCOMING_LEN_MIN: usize = 4 * 1024;

/// What a connection at rest may keep to receive into: a request with a small body comes in one receive.
pub const INCOMING_LEN_REST: usize = 8 * 1024;

/// A larger read saves nothing more. Exceeded only by a handshake message that is longer.
const INCOMING_LEN_USUAL: usize = 64 * 1024;

/// The longest handshake message that rustls takes (64 KiB) in records, with their framing.
const INCOMING_LEN_MAX: usize = 96 * 1024;

/// Payload of a full TLS record.
pub const RECORD_LEN: usize = 16 * 1024;

/// Framing of a record at most: header, explicit nonce (TLS 1.2), inner content type (TLS 1.3), tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// Bytes of an alert.
const ALERT_LEN: usize = 2;

/// What rustls waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More of the handshake.
    Handshake,
    /// Nothing: application data may flow.
    Traffic,
}

/// Who makes the records.
enum Machine {
    /// rustls: during the handshake, and afterwards for TLS 1.2.
    Rustls(Box<UnbufferedServerConnection>),
    /// We do.
    Direct(Box<Direct>),
    /// None of us: taking over has failed, or the kernel makes them.
    Gone,
}

/// One connection's TLS, and its buffers.
pub struct Records {
    machine: Machine,
    incoming: Vec<u8>,
    start: usize,
    /// Where in `incoming` decrypted bytes lie that nobody has consumed.
    opened: Range<usize>,
    /// Decrypted bytes that had to move; those before `plaintext_start` are consumed.
    plaintext: Vec<u8>,
    plaintext_start: usize,
    /// Always initialised to its whole length; only the first `outgoing_len` bytes mean something.
    outgoing: Vec<u8>,
    outgoing_len: usize,
    is_ended: bool,
    is_failed: bool,
    /// rustls has seen what came after the handshake, and may owe the peer a KeyUpdate that it gives out with its next data.
    has_read: bool,
}

impl Records {
    /// A connection whose handshake is still to come.
    ///
    /// # Errors
    /// When rustls doesn't take the configuration.
    pub fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Records {
            machine: Machine::Rustls(Box::new(
                UnbufferedServerConnection::new(config).map_err(io::Error::other)?,
            )),
            incoming: Vec::new(),
            start: 0,
            opened: 0..0,
            plaintext: Vec::new(),
            plaintext_start: 0,
            outgoing: Vec::new(),
            outgoing_len: 0,
            is_ended: false,
            is_failed: false,
            has_read: false,
        })
    }

    /// Works on what has arrived until there are more bytes of plaintext, or more has to arrive.
    ///
    /// # Errors
    /// `InvalidData` when the peer breaks the protocol; the alert that tells it is then in the send buffer.
    pub fn advance(&mut self) -> io::Result<Progress> {
        if self.is_failed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the TLS connection has failed before"));
        }
        if let Machine::Rustls(_) = self.machine {
            let progress = self.advance_rustls()?;
            if progress == Progress::Handshake {
                return Ok(progress);
            }
        }
        if self.take_over()? { self.advance_direct() } else { Ok(Progress::Traffic) }
    }

    /// The same before something is sealed. What has arrived stays unopened where the records are ours: nothing that is sealed depends on it.
    fn advance_to_seal(&mut self) -> io::Result<Progress> {
        match self.machine {
            Machine::Direct(_) if !self.is_failed => Ok(Progress::Traffic),
            _ => self.advance(),
        }
    }

    fn advance_rustls(&mut self) -> io::Result<Progress> {
        loop {
            match self.step() {
                // Before rustls looks at what came with the end of the handshake.
                Ok(None) if self.take_over()? => return Ok(Progress::Traffic),
                Ok(None) => {}
                Ok(Some(progress)) => return Ok(progress),
                Err(error) => {
                    self.is_failed = true;
                    // Steps give out what is left for the peer, the alert last, before they look at what arrived.
                    while self.tls().is_ok_and(|tls| tls.wants_write()) && self.step().is_ok() {}
                    return Err(invalid(error));
                }
            }
        }
    }

    /// Makes the records ours if they can be; whether they are.
    fn take_over(&mut self) -> io::Result<bool> {
        if let Machine::Direct(_) = self.machine {
            return Ok(true);
        }
        if self.is_ended
            || self.has_read
            || !matches!(&self.machine, Machine::Rustls(tls) if direct::can_take_over(tls))
        {
            return Ok(false);
        }
        if let Machine::Rustls(tls) = std::mem::replace(&mut self.machine, Machine::Gone) {
            let direct = Direct::take_over(*tls).inspect_err(|_| self.is_failed = true).map_err(invalid)?;
            self.machine = Machine::Direct(Box::new(direct));
        }
        Ok(true)
    }

    /// Whether the kernel could make the records of this connection: its handshake is over, and nothing happened since that only we could go on with.
    pub fn suits(&self, offer: &Offer) -> bool {
        let (version, suite, is_free) = match &self.machine {
            Machine::Rustls(tls) => (
                tls.protocol_version(),
                tls.negotiated_cipher_suite().map(|suite| suite.suite()),
                // A KeyUpdate that rustls owes the peer is something of TLS 1.3.
                tls.protocol_version() == Some(ProtocolVersion::TLSv1_2)
                    && !tls.is_handshaking()
                    && !tls.wants_write(),
            ),
            Machine::Direct(direct) => {
                (Some(direct.protocol_version()), Some(direct.cipher_suite()), !direct.owes_key_update())
            }
            Machine::Gone => return false,
        };
        let taken = version
            .zip(suite.and_then(Cipher::of_suite))
            .is_some_and(|(version, cipher)| offer.takes(version, cipher));
        taken && is_free && !self.is_ended && !self.is_failed
    }

    /// Bytes until the record that has begun is all here, or its header; 0 when none has.
    pub fn missing(&self) -> usize {
        match &self.incoming[self.start..] {
            [] => 0,
            [_, _, _, high, low, rest @ ..] => {
                usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(rest.len())
            }
            begun => 5 - begun.len(),
        }
    }

    /// Bytes that have come and are not opened.
    pub fn unopened_len(&self) -> usize {
        self.incoming.len() - self.start
    }

    /// Whether the next record is all here.
    pub fn has_whole_record(&self) -> bool {
        self.unopened_len() > 0 && self.missing() == 0
    }

    /// Gives the records to the kernel. Answers the keys to come and how many records ours has sealed; `None` when nothing has changed: there is something
    /// received and unread, or sealed and unsent, or the kernel refuses.
    ///
    /// # Errors
    /// When the connection is over: the kernel has refused, and there is no way back.
    pub fn give_to_kernel(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<(Keys, u64)>> {
        let is_between = self.incoming.len() == self.start && self.outgoing_len == 0;
        if !is_between || kernel::attach(socket).is_err() {
            return Ok(None);
        }
        match std::mem::replace(&mut self.machine, Machine::Gone) {
            Machine::Direct(direct) => match direct.give_to_kernel(socket) {
                Ok(()) => Ok(Some(direct.into_keys())),
                Err(Refusal::Whole(_)) => {
                    self.machine = Machine::Direct(direct);
                    Ok(None)
                }
                Err(Refusal::Half(error)) => Err(error),
            },
            Machine::Rustls(tls) => {
                let version = tls.protocol_version().ok_or(io::ErrorKind::NotConnected)?;
                let (secrets, keys) = tls.dangerous_into_kernel_connection().map_err(invalid)?;
                let ((received, receive), (sealed, transmit)) = (&secrets.rx, &secrets.tx);
                kernel::give(socket, version, (*received, receive), (*sealed, transmit))
                    .map_err(Refusal::into_error)?;
                Ok(Some((keys, *sealed)))
            }
            Machine::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn advance_direct(&mut self) -> io::Result<Progress> {
        let Machine::Direct(direct) = &mut self.machine else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut has_data = false;
        while !self.is_ended && !has_data {
            let result = direct.open(&mut self.incoming[self.start..]);
            let record_len = match result {
                Ok(Opened::Incomplete) => break,
                Ok(Opened::Data { from, len, record_len }) => {
                    has_data = len > 0;
                    let data = self.start + from..self.start + from + len;
                    if has_data && self.opened.is_empty() && self.plaintext.is_empty() {
                        self.opened = data;
                    } else {
                        let former = std::mem::take(&mut self.opened);
                        self.plaintext.extend_from_slice(&self.incoming[former]);
                        self.plaintext.extend_from_slice(&self.incoming[data]);
                    }
                    record_len
                }
                Ok(Opened::Control { record_len }) => record_len,
                Ok(Opened::End { record_len }) => {
                    self.is_ended = true;
                    record_len
                }
                Ok(Opened::Failed) => {
                    self.is_failed = true;
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the peer gave the TLS connection up",
                    ));
                }
                Err(fault) => {
                    self.is_failed = true;
                    // Without it the peer sees the connection end all the same.
                    let _ = direct.seal_fault(fault, &mut self.outgoing, &mut self.outgoing_len);
                    let what = format!("the peer broke the TLS protocol: {fault:?}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            };
            self.start += record_len;
        }
        self.discard(0);
        Ok(Progress::Traffic)
    }

    fn tls(&mut self) -> io::Result<&mut UnbufferedServerConnection> {
        match &mut self.machine {
            Machine::Rustls(tls) => Ok(tls),
            Machine::Direct(_) | Machine::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Seals `bytes` as records behind what is already in the send buffer.
    ///
    /// # Errors
    /// When the connection isn't open for data, has failed, or can seal no more.
    pub fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.seal_both(&[], bytes)
    }

    /// The same for two slices, the second behind the first, as one record if they fit into one.
    ///
    /// # Errors
    /// As for [`Records::seal`].
    pub fn seal_both(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        if head.is_empty() && body.is_empty() {
            return Ok(());
        }
        if self.advance_to_seal()? == Progress::Handshake {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.outgoing.is_empty() {
            self.outgoing = spare::take(head.len() + body.len());
        }
        if let Machine::Direct(direct) = &mut self.machine {
            let result = direct.seal(&[head, body], &mut self.outgoing, &mut self.outgoing_len);
            return result.map_err(|_| io::Error::other("the TLS connection can seal no more"));
        }
        if head.len() + body.len() <= RECORD_LEN && !head.is_empty() {
            return self.seal_by_rustls(&[head, body].concat());
        }
        self.seal_by_rustls(head)?;
        self.seal_by_rustls(body)
    }

    fn seal_by_rustls(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let estimate = bytes.len() + (bytes.len() / RECORD_LEN + 1) * RECORD_OVERHEAD;
        self.write(estimate, |traffic, room| traffic.encrypt(bytes, room))?;
        // What rustls owed the peer has left before these bytes.
        self.has_read = false;
        self.take_over()?;
        Ok(())
    }

    /// Seals the goodbye.
    ///
    /// # Errors
    /// As for [`Records::seal`].
    pub fn seal_close_notify(&mut self) -> io::Result<()> {
        if self.advance_to_seal()? == Progress::Handshake {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if let Machine::Direct(direct) = &mut self.machine {
            let result = direct.seal_close_notify(&mut self.outgoing, &mut self.outgoing_len);
            return result.map_err(|_| io::Error::other("the TLS connection can seal no more"));
        }
        self.write(RECORD_OVERHEAD + ALERT_LEN, |traffic, room| traffic.queue_close_notify(room))
    }

    /// Decrypted bytes that nobody has consumed yet.
    pub fn plaintext(&self) -> &[u8] {
        if self.opened.is_empty() {
            &self.plaintext[self.plaintext_start..]
        } else {
            &self.incoming[self.opened.clone()]
        }
    }

    /// Takes the first `count` of them away.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.plaintext().len(), "more bytes consumed than there are");
        if !self.opened.is_empty() {
            self.opened.start += count;
            if self.opened.is_empty() {
                self.opened = 0..0;
                self.discard(0);
            }
            return;
        }
        self.plaintext_start += count;
        if self.plaintext_start == self.plaintext.len() {
            self.plaintext.clear();
            self.plaintext_start = 0;
        }
    }

    /// The receive buffer, with room behind what is in it, to receive into and to put back. More room for a peer that
    /// filled it last time.
    ///
    /// # Errors
    /// `InvalidData` when the peer sends a handshake message without end.
    pub fn take_incoming(&mut self, is_hungry: bool) -> io::Result<Vec<u8>> {
        self.compact();
        if self.incoming.len() >= INCOMING_LEN_MAX {
            let what = "the peer's TLS handshake message is too long";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        grow(&mut self.incoming, is_hungry);
        Ok(std::mem::take(&mut self.incoming))
    }

    /// Puts the receive buffer back.
    pub fn put_incoming(&mut self, incoming: Vec<u8>) {
        self.incoming = incoming;
    }

    /// The send buffer and how much of it is to be sent, if anything is; to put back.
    pub fn take_outgoing(&mut self) -> Option<(Vec<u8>, usize)> {
        let len = std::mem::take(&mut self.outgoing_len);
        (len > 0).then(|| (std::mem::take(&mut self.outgoing), len))
    }

    /// Puts the send buffer back, once it is sent.
    pub fn put_outgoing(&mut self, outgoing: Vec<u8>) {
        spare::give_back(outgoing);
    }

    /// Gives back the memory that a large transfer needed.
    pub fn shrink(&mut self) {
        self.compact();
        self.plaintext.drain(..std::mem::take(&mut self.plaintext_start));
        self.plaintext.shrink_to_fit();
        self.incoming.shrink_to(INCOMING_LEN_REST);
    }

    /// Whether the peer has said close_notify: no more plaintext will come.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Protocol version agreed on.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        match &self.machine {
            Machine::Rustls(tls) => tls.protocol_version(),
            Machine::Direct(direct) => Some(direct.protocol_version()),
            Machine::Gone => None,
        }
    }

    /// One step of rustls. `None`: there is more to do.
    fn step(&mut self) -> Result<Option<Progress>, rustls::Error> {
        let Machine::Rustls(tls) = &mut self.machine else { return Ok(Some(Progress::Traffic)) };
        let was_handshaking = tls.is_handshaking();
        let UnbufferedStatus { mut discard, state, .. } =
            tls.process_tls_records(&mut self.incoming[self.start..]);
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
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => Ok(Some(Progress::Traffic)),
            // Early data is never enabled; what else rustls may learn to say, we have not asked for.
            Ok(_) => Err(rustls::Error::General("unexpected TLS state".into())),
            Err(error) => Err(error),
        };
        let is_over = matches!(&self.machine, Machine::Rustls(tls) if !tls.is_handshaking());
        if is_over
            && data_record_count(&self.incoming[self.start..self.start + discard])
                > usize::from(was_handshaking)
        {
            self.has_read = true;
        }
        self.discard(discard);
        step
    }

    /// Lets `write` seal something behind what is in the send buffer, in the state that rustls has for it.
    fn write(
        &mut self,
        estimate: usize,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        let Machine::Rustls(tls) = &mut self.machine else { return Err(io::ErrorKind::NotConnected.into()) };
        let UnbufferedStatus { discard, state, .. } =
            tls.process_tls_records(&mut self.incoming[self.start..]);
        let result = match state.map_err(invalid)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                append(&mut self.outgoing, &mut self.outgoing_len, estimate, |room| {
                    write(&mut traffic, room).map_err(required_size)
                })
                .map_err(invalid)
            }
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        self.discard(discard);
        result
    }

    fn discard(&mut self, count: usize) {
        self.start += count;
        if self.start == self.incoming.len() && self.opened.is_empty() {
            self.incoming.clear();
            self.start = 0;
        }
    }

    fn compact(&mut self) {
        self.plaintext.extend_from_slice(&self.incoming[std::mem::take(&mut self.opened)]);
        self.incoming.drain(..std::mem::take(&mut self.start));
    }
}

/// Makes room for another receive: some at least, and twice as much as before for a peer that filled it.
pub fn grow(buffer: &mut Vec<u8>, is_hungry: bool) {
    let (len, capacity) = (buffer.len(), buffer.capacity());
    if is_hungry && capacity < INCOMING_LEN_USUAL {
        buffer.reserve_exact(INCOMING_LEN_USUAL.min(capacity * 2).saturating_sub(len));
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

/// Encrypted records among those. The last of a handshake is the first of them (Finished; we ask for no certificate).
fn data_record_count(mut records: &[u8]) -> usize {
    const APPLICATION_DATA: u8 = 23;
    let mut count = 0;
    while let [kind, _, _, high, low, rest @ ..] = records {
        count += usize::from(*kind == APPLICATION_DATA);
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        records = rest.get(len..).unwrap_or_default();
    }
    count
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

#[cfg(test)]
mod tests;
