//! TLS whose records the kernel makes (`Documentation/networking/tls.rst`), once rustls has done the handshake: the third kind of connection.
//!
//! Plain bytes go into the socket and come out of it. What is left to us (RFC 8446): alerts, KeyUpdate, and the count of records that a key has sealed.
//!
//! ```text
//!   handshake ─> nothing received is unread, nothing sealed is unsent ─> TLS_RX ─> TLS_TX ─> plain sends and receives
//!                  │ the kernel has no TLS, or refuses TLS_RX: as without   │ refused: the connection ends
//! ```
//! Invariants:
//! - No nonce is used twice: the kernel goes on from the number of the next record, and see [`crypto_info`] for TLS 1.2.
//! - No key seals more than [`RECORDS_PER_KEY_MAX`] records.
//! - Nothing is sent in place: the kernel refuses that for such sockets.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::direct::{
    ALERT, APPLICATION_DATA, Fault, HANDSHAKE, KEY_UPDATES_MAX, RECORDS_PER_KEY_MAX as WORN,
};
use super::received::Received;
use super::records::{INCOMING_LEN_MIN, RECORD_LEN};
use super::tcp::Tcp;
use crate::connections::Patience;
use crate::stopwatch::Stage;

mod control;
mod crypto_info;
mod socket;

use control::Control;
pub use crypto_info::Cipher;
use crypto_info::CryptoInfo;
use socket::Direction;
pub use socket::{Offer, attach};

/// Records that one key seals at most, below the 2^24.5 of AES-GCM (RFC 8446, 5.5). From [`WORN`] on it is changed, or the connection ends with its next answer.
const RECORDS_PER_KEY_MAX: u64 = 2 * WORN;

/// Number and secrets of one direction.
pub type Secrets = (u64, ConnectionTrafficSecrets);

/// What is left of a connection's TLS when the kernel makes its records: the keys to come.
pub type Keys = KernelConnection<ServerConnectionData>;

/// A connection whose records the kernel makes.
pub struct KernelStream {
    tcp: Tcp,
    keys: Keys,
    received: Received,
    outgoing: Vec<u8>,
    can_rekey: bool,
    /// The peer wants us to change our key.
    owes_key_update: bool,
    is_ended: bool,
    /// Records that our key has sealed, or a few less.
    sealed_count: u64,
    worn: u64,
    /// Records that were no data, since the last that was.
    control_count: u32,
}

impl KernelStream {
    /// A stream over a connection whose records the kernel makes in both directions; `plaintext` was received before, `sealed_count` records sent.
    pub fn new(tcp: Tcp, keys: Keys, plaintext: &[u8], sealed_count: u64, offer: &Offer) -> Self {
        let mut received = Received::default();
        received.append(plaintext);
        KernelStream {
            tcp,
            keys,
            received,
            outgoing: Vec::new(),
            can_rekey: offer.can_rekey(),
            owes_key_update: false,
            is_ended: false,
            sealed_count,
            worn: WORN,
            control_count: 0,
        }
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
        let filled = self.fill_received().await;
        self.tcp.watch().enter(former);
        filled
    }

    async fn fill_received(&mut self) -> io::Result<usize> {
        while !self.is_ended {
            match self.received.receive_record(&mut self.tcp).await {
                Ok((APPLICATION_DATA, count)) => {
                    self.control_count = 0;
                    return Ok(count);
                }
                Ok((kind, count)) => {
                    let content = self.received.take_last(count);
                    self.take_control(kind, &content).await?;
                }
                Err(error) => return Err(self.explain(error).await),
            }
        }
        Ok(0)
    }

    /// Takes a record that is no data.
    async fn take_control(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        self.control_count += 1;
        if self.control_count > KEY_UPDATES_MAX {
            return Err(self.fail(Fault::UnexpectedMessage).await);
        }
        match control::read(self.keys.protocol_version(), kind, content) {
            Ok(Control::Nothing) => {}
            Ok(Control::End) => self.is_ended = true,
            Ok(Control::Failed) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the peer gave the TLS connection up",
                ));
            }
            Ok(Control::KeyUpdate { is_answer_wanted }) => {
                let next = self.keys.update_rx_secret();
                if !self.can_rekey || self.change_key(Direction::Receive, next).is_err() {
                    return Err(self.fail(Fault::InternalError).await);
                }
                // Before our next data: several requests are met by one answer.
                self.owes_key_update |= is_answer_wanted;
            }
            Ok(Control::Renegotiation) => self.send_record(ALERT, &control::NO_RENEGOTIATION).await?,
            Err(fault) => return Err(self.fail(fault).await),
        }
        Ok(())
    }

    /// See [`super::Stream::buffer`].
    ///
    /// # Errors
    /// None; other kinds have some.
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
        let former = self.tcp.watch().enter(Stage::Network);
        let result = self.flush().await;
        self.tcp.watch().enter(former);
        result
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        self.count_records(self.outgoing.len()).await?;
        let outgoing = std::mem::take(&mut self.outgoing);
        let len = outgoing.len();
        let (result, mut outgoing) = self.tcp.send_copied(outgoing, 0..len).await;
        outgoing.clear();
        self.outgoing = outgoing;
        result
    }

    /// Counts the records that so many bytes become, after changing a key that is worn.
    async fn count_records(&mut self, len: usize) -> io::Result<()> {
        // The last is not full, and a send that the kernel takes in two steps may end one more.
        let count = len.div_ceil(RECORD_LEN) as u64 + 1;
        if self.owes_key_update || (self.can_rekey() && self.sealed_count + count > self.worn) {
            self.change_own_key().await?;
        }
        self.sealed_count += count;
        if self.sealed_count > RECORDS_PER_KEY_MAX {
            return Err(io::Error::other("the TLS connection can seal no more"));
        }
        Ok(())
    }

    fn can_rekey(&self) -> bool {
        self.can_rekey && self.keys.protocol_version() == ProtocolVersion::TLSv1_3
    }

    /// Says that our key changes, and changes it.
    async fn change_own_key(&mut self) -> io::Result<()> {
        self.send_record(HANDSHAKE, &control::OWN_KEY_UPDATE).await?;
        let next = self.keys.update_tx_secret();
        self.change_key(Direction::Transmit, next)?;
        self.owes_key_update = false;
        self.sealed_count = 0;
        Ok(())
    }

    fn change_key(&mut self, direction: Direction, next: Result<Secrets, rustls::Error>) -> io::Result<()> {
        let (sequence, secrets) = next.map_err(io::Error::other)?;
        set_key(self.tcp.as_fd(), self.keys.protocol_version(), direction, (sequence, &secrets))
    }

    /// Tells the peer why the connection ends; answers the same as an error.
    async fn fail(&mut self, fault: Fault) -> io::Error {
        // A record that does not open leaves an error on the socket, which would be the answer to the next send.
        let _ = self.tcp.take_error();
        // The peer may be gone; then there is nobody to tell.
        let _ = self.send_record(ALERT, &[2, fault as u8]).await;
        io::Error::new(io::ErrorKind::InvalidData, format!("the peer broke the TLS protocol: {fault:?}"))
    }

    /// What the kernel means when it gives no record, told to the peer if that is its fault.
    async fn explain(&mut self, error: io::Error) -> io::Error {
        let faults = [
            (Errno::BADMSG, Fault::BadRecordMac),
            (Errno::MSGSIZE, Fault::RecordOverflow),
            (Errno::INVAL, Fault::UnexpectedMessage),
        ];
        match faults.iter().find(|(errno, _)| is(&error, *errno)) {
            Some((_, fault)) => self.fail(*fault).await,
            None => error,
        }
    }

    async fn send_record(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        self.sealed_count += 1;
        self.tcp.send_record(kind, content.to_vec()).await
    }

    /// See [`super::Stream::close`].
    pub async fn close(mut self) {
        if self.write_all(&[]).await.is_err() {
            return;
        }
        // A send may be done while the kernel keeps the end of its last record, until there is room. Had we shut the sending side by then, that would be lost.
        if self.tcp.writable().await.is_err() {
            return;
        }
        self.tcp.allow(Patience::Linger);
        if self.send_record(ALERT, &control::CLOSE_NOTIFY).await.is_ok() {
            self.tcp.close().await;
        }
    }

    /// See [`super::Stream::shrink`].
    pub fn shrink(&mut self) {
        self.received.shrink();
        self.outgoing.shrink_to(INCOMING_LEN_MIN);
    }

    /// Whether the connection should end with its next answer, for want of another key.
    pub fn is_worn(&self) -> bool {
        self.sealed_count >= self.worn && !self.can_rekey()
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

/// Gives the kernel the keys of both directions.
///
/// # Errors
/// What the kernel says, and of which direction: after the first nothing has changed, after the second there is no way back.
pub fn give(
    socket: BorrowedFd<'_>,
    version: ProtocolVersion,
    receive: (u64, &ConnectionTrafficSecrets),
    transmit: (u64, &ConnectionTrafficSecrets),
) -> Result<(), Refusal> {
    set_key(socket, version, Direction::Receive, receive).map_err(Refusal::Whole)?;
    set_key(socket, version, Direction::Transmit, transmit).map_err(Refusal::Half)
}

/// The kernel does not take a connection that it had offered to take.
#[derive(Debug)]
pub enum Refusal {
    /// Nothing has changed.
    Whole(io::Error),
    /// It opens records and does not seal any: the connection is over.
    Half(io::Error),
}

impl Refusal {
    /// What the kernel said.
    pub fn into_error(self) -> io::Error {
        match self {
            Refusal::Whole(error) | Refusal::Half(error) => error,
        }
    }
}

fn set_key(
    socket: BorrowedFd<'_>,
    version: ProtocolVersion,
    direction: Direction,
    (sequence, secrets): (u64, &ConnectionTrafficSecrets),
) -> io::Result<()> {
    let unfit = || io::Error::other("a cipher that the kernel has no form for");
    let info = CryptoInfo::new(version, sequence, secrets).ok_or_else(unfit)?;
    socket::set_key(socket, direction, &info)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests;
