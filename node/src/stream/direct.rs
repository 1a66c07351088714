//! TLS 1.3 records sealed and opened by us, once rustls has done the handshake.
//!
//! rustls seals into a vector of its own and copies that into the send buffer, an allocation and a copy for each record. Here a head and a body are put
//! behind a record's header and sealed where they lie: one copy, no allocation. A record whose plaintext is one slice is sealed from there into the send
//! buffer: no copy. rustls stays in charge of the keys ([`rustls::kernel`]) and speaks TLS 1.2 itself.
//!
//! What of TLS is ours then (RFC 8446): records (5.1 to 5.5), alerts (6), and KeyUpdate (4.6.3), the one handshake message that a client may send after
//! the handshake, since we ask for no client certificates.
//!
//! Invariants:
//! - A nonce is used once: `sequence` goes up with every record, and a new key begins at 0.
//! - No key seals more than [`RECORDS_PER_KEY_MAX`] records.

use std::os::fd::BorrowedFd;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::server::UnbufferedServerConnection;
use rustls::{CipherSuite, ConnectionTrafficSecrets, Error, ProtocolVersion};

use super::kernel::{self, Keys, Refusal, Secrets};

/// Header of a record: type, version, length.
const HEADER_LEN: usize = 5;

/// What sealing adds to the plaintext: the content type inside, and the tag.
const TRAILER_LEN: usize = 1 + TAG_LEN;

const TAG_LEN: usize = 16;

/// Longest plaintext of a record (5.1), and how much longer its ciphertext may be (5.2).
const PLAINTEXT_LEN_MAX: usize = 16 * 1024;
const EXPANSION_LEN_MAX: usize = 256;

/// Records sealed with one key before the next: a third of the 2^24.5 that AES-GCM is good for (5.5).
pub const RECORDS_PER_KEY_MAX: u64 = 1 << 23;

/// Key updates that the peer may make without saying anything else.
pub const KEY_UPDATES_MAX: u32 = 32;

pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const APPLICATION_DATA: u8 = 23;

pub const KEY_UPDATE: u8 = 24;

/// Why a connection ends, by the name of its alert (6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    UnexpectedMessage = 10,
    BadRecordMac = 20,
    RecordOverflow = 22,
    IllegalParameter = 47,
    DecodeError = 50,
    InternalError = 80,
}

/// What a record brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is not all here yet.
    Incomplete,
    /// That many bytes of plaintext, from that place on; the record takes that many bytes.
    Data { from: usize, len: usize, record_len: usize },
    /// Nothing for the application.
    Control { record_len: usize },
    /// The peer will say no more.
    End { record_len: usize },
    /// The peer has given up.
    Failed,
}

/// The records of one connection.
pub struct Direct {
    kernel: Keys,
    transmit: Half,
    receive: Half,
    records_per_key_max: u64,
    key_update_count: u32,
    /// The peer wants us to change our key.
    owes_key_update: bool,
}

/// One direction: its key, and the number of the next record.
struct Half {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    /// The same key and nonce as rustls gave them, for the kernel.
    secrets: ConnectionTrafficSecrets,
}

/// Whether the records of a connection can be ours: its handshake is done, and nothing of it waits to be sent.
pub fn can_take_over(tls: &UnbufferedServerConnection) -> bool {
    // Three suites, and all of them are ours.
    tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) && !tls.is_handshaking() && !tls.wants_write()
}

impl Direct {
    /// Takes the records of a connection over; see [`can_take_over`].
    ///
    /// # Errors
    /// When rustls does not give out the secrets.
    pub fn take_over(tls: UnbufferedServerConnection) -> Result<Self, Error> {
        let (secrets, kernel) = tls.dangerous_into_kernel_connection()?;
        Ok(Direct {
            kernel,
            transmit: Half::new(secrets.tx)?,
            receive: Half::new(secrets.rx)?,
            records_per_key_max: RECORDS_PER_KEY_MAX,
            key_update_count: 0,
            owes_key_update: false,
        })
    }

    /// Protocol version.
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.kernel.protocol_version()
    }

    /// Cipher suite.
    pub fn cipher_suite(&self) -> CipherSuite {
        self.kernel.negotiated_cipher_suite().suite()
    }

    /// Whether the peer waits for our KeyUpdate.
    pub fn owes_key_update(&self) -> bool {
        self.owes_key_update
    }

    /// Gives the records to the kernel, both directions.
    ///
    /// # Errors
    /// When it refuses them, after which only [`Refusal::Whole`] lets us go on.
    pub fn give_to_kernel(&self, socket: BorrowedFd<'_>) -> Result<(), Refusal> {
        let (receive, transmit) = (&self.receive, &self.transmit);
        kernel::give(
            socket,
            self.protocol_version(),
            (receive.sequence, &receive.secrets),
            (transmit.sequence, &transmit.secrets),
        )
    }

    /// What is left when the kernel makes the records: the keys to come, and how many records ours has sealed.
    pub fn into_keys(self) -> (Keys, u64) {
        (self.kernel, self.transmit.sequence)
    }

    /// Seals the parts, one behind the other, behind the first `len` bytes of `out`, which grows as needed.
    ///
    /// # Errors
    /// [`Fault::InternalError`] when rustls has no next key.
    pub fn seal(&mut self, parts: &[&[u8]], out: &mut Vec<u8>, len: &mut usize) -> Result<(), Fault> {
        let mut parts = Parts { parts, at: 0 };
        let mut left: usize = parts.parts.iter().map(|part| part.len()).sum();
        let record_count = left.div_ceil(PLAINTEXT_LEN_MAX);
        make_room(out, *len + left + record_count * (HEADER_LEN + TRAILER_LEN));
        while left > 0 {
            if self.owes_key_update || self.transmit.sequence >= self.records_per_key_max {
                self.change_key(out, len)?;
            }
            let count = left.min(PLAINTEXT_LEN_MAX);
            match parts.take_slice(count) {
                Some(plaintext) => self.seal_slice(plaintext, out, len)?,
                None => {
                    self.seal_record(APPLICATION_DATA, count, out, len, |plaintext| parts.take(plaintext))?;
                }
            }
            left -= count;
        }
        Ok(())
    }

    /// Seals the goodbye.
    ///
    /// # Errors
    /// None that a connection can come to.
    pub fn seal_close_notify(&mut self, out: &mut Vec<u8>, len: &mut usize) -> Result<(), Fault> {
        self.seal_alert(&[1, 0], out, len)
    }

    /// Seals the reason for the end.
    ///
    /// # Errors
    /// As above.
    pub fn seal_fault(&mut self, fault: Fault, out: &mut Vec<u8>, len: &mut usize) -> Result<(), Fault> {
        self.seal_alert(&[2, fault as u8], out, len)
    }

    /// Opens the record at the beginning of `bytes`, in place.
    ///
    /// # Errors
    /// What is wrong with it; the connection is over.
    pub fn open(&mut self, bytes: &mut [u8]) -> Result<Opened, Fault> {
        let Some((header, rest)) = bytes.split_first_chunk_mut::<HEADER_LEN>() else {
            return Ok(Opened::Incomplete);
        };
        let sealed_len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != APPLICATION_DATA {
            return Err(Fault::UnexpectedMessage);
        }
        if sealed_len > PLAINTEXT_LEN_MAX + EXPANSION_LEN_MAX {
            return Err(Fault::RecordOverflow);
        }
        let Some(sealed) = rest.get_mut(..sealed_len) else { return Ok(Opened::Incomplete) };
        let nonce = self.receive.next_nonce();
        let plaintext = self
            .receive
            .key
            .open_in_place(nonce, Aad::from(&header[..]), sealed)
            .map_err(|_| Fault::BadRecordMac)?;
        // Padding is zeroes behind the content type (5.4).
        let Some(end) = plaintext.iter().rposition(|byte| *byte != 0) else {
            return Err(Fault::UnexpectedMessage);
        };
        if end > PLAINTEXT_LEN_MAX {
            return Err(Fault::RecordOverflow);
        }
        let (content, kind) = (&plaintext[..end], plaintext[end]);
        let record_len = HEADER_LEN + sealed_len;
        match kind {
            APPLICATION_DATA => {
                self.key_update_count = 0;
                Ok(Opened::Data { from: HEADER_LEN, len: end, record_len })
            }
            ALERT => take_alert(content, record_len),
            HANDSHAKE => {
                let message = <[u8; 5]>::try_from(content).map_err(|_| Fault::UnexpectedMessage)?;
                self.take_key_update(message)?;
                Ok(Opened::Control { record_len })
            }
            _ => Err(Fault::UnexpectedMessage),
        }
    }

    /// The peer changes its key, and may want us to change ours (4.6.3). The message ends its record (5.1).
    fn take_key_update(&mut self, message: [u8; 5]) -> Result<(), Fault> {
        let [kind, 0, 0, 1, request] = message else { return Err(Fault::UnexpectedMessage) };
        if kind != KEY_UPDATE {
            return Err(Fault::UnexpectedMessage);
        }
        if request > 1 {
            return Err(Fault::IllegalParameter);
        }
        self.key_update_count += 1;
        if self.key_update_count > KEY_UPDATES_MAX {
            return Err(Fault::UnexpectedMessage);
        }
        let next = self.kernel.update_rx_secret().map_err(|_| Fault::InternalError)?;
        self.receive = Half::new(next).map_err(|_| Fault::InternalError)?;
        // Before our next data: several requests are met by one answer.
        self.owes_key_update |= request == 1;
        Ok(())
    }

    /// Says that our key changes, and changes it.
    fn change_key(&mut self, out: &mut Vec<u8>, len: &mut usize) -> Result<(), Fault> {
        let message = [KEY_UPDATE, 0, 0, 1, 0];
        self.seal_record(HANDSHAKE, message.len(), out, len, |plaintext| {
            plaintext.copy_from_slice(&message)
        })?;
        let next = self.kernel.update_tx_secret().map_err(|_| Fault::InternalError)?;
        self.transmit = Half::new(next).map_err(|_| Fault::InternalError)?;
        self.owes_key_update = false;
        Ok(())
    }

    fn seal_alert(&mut self, alert: &[u8; 2], out: &mut Vec<u8>, len: &mut usize) -> Result<(), Fault> {
        self.seal_record(ALERT, alert.len(), out, len, |plaintext| plaintext.copy_from_slice(alert))
    }

    /// One record of `count` bytes, which `fill` puts where they are sealed.
    fn seal_record(
        &mut self,
        kind: u8,
        count: usize,
        out: &mut Vec<u8>,
        len: &mut usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Fault> {
        let (header, sealed) = begin_record(count, out, *len);
        let (inner, tag) = sealed.split_at_mut(count + 1);
        fill(&mut inner[..count]);
        inner[count] = kind;
        let nonce = self.transmit.next_nonce();
        let computed = self
            .transmit
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), inner)
            .map_err(|_| Fault::InternalError)?;
        tag.copy_from_slice(computed.as_ref());
        *len += HEADER_LEN + sealed.len();
        Ok(())
    }

    /// One record of application data, sealed from where it lies.
    fn seal_slice(&mut self, plaintext: &[u8], out: &mut Vec<u8>, len: &mut usize) -> Result<(), Fault> {
        let (header, sealed) = begin_record(plaintext.len(), out, *len);
        let (inner, trailer) = sealed.split_at_mut(plaintext.len());
        let nonce = self.transmit.next_nonce();
        self.transmit
            .key
            .seal_out_of_place_scatter(
                nonce,
                Aad::from(header),
                plaintext,
                inner,
                &[APPLICATION_DATA],
                trailer,
            )
            .map_err(|_| Fault::InternalError)?;
        *len += HEADER_LEN + sealed.len();
        Ok(())
    }
}

/// Puts the header of a record of `count` bytes behind the first `len` bytes of `out`: what it says, and where the sealed bytes go.
fn begin_record(count: usize, out: &mut Vec<u8>, len: usize) -> ([u8; HEADER_LEN], &mut [u8]) {
    let record_len = HEADER_LEN + count + TRAILER_LEN;
    make_room(out, len + record_len);
    let (header, sealed) = out[len..len + record_len].split_at_mut(HEADER_LEN);
    let [high, low] = ((count + TRAILER_LEN) as u16).to_be_bytes();
    let bytes = [APPLICATION_DATA, 3, 3, high, low];
    header.copy_from_slice(&bytes);
    (bytes, sealed)
}

/// An alert (6): the end, an error, or something that means nothing to us.
fn take_alert(content: &[u8], record_len: usize) -> Result<Opened, Fault> {
    const CLOSE_NOTIFY: u8 = 0;
    const USER_CANCELED: u8 = 90;
    match content {
        [_, CLOSE_NOTIFY] => Ok(Opened::End { record_len }),
        [_, USER_CANCELED] => Ok(Opened::Control { record_len }),
        [_, _] => Ok(Opened::Failed),
        _ => Err(Fault::DecodeError),
    }
}

impl Half {
    fn new((sequence, secrets): Secrets) -> Result<Self, Error> {
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher that is left to rustls".into())),
        };
        let unfit = |_| Error::General("a key that does not fit its cipher".into());
        Ok(Half {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unfit(()))?),
            iv: iv.as_ref().try_into().map_err(|_| unfit(()))?,
            sequence,
            secrets,
        })
    }

    /// The nonce of the next record (5.3).
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1).expect("no connection lives to see 2^64 records");
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What is left of several slices.
struct Parts<'a> {
    parts: &'a [&'a [u8]],
    /// Bytes of the first that are taken.
    at: usize,
}

impl<'a> Parts<'a> {
    /// The next `count` bytes, if they lie in one slice.
    fn take_slice(&mut self, count: usize) -> Option<&'a [u8]> {
        while let Some((first, rest)) = self.parts.split_first()
            && self.at == first.len()
        {
            (self.parts, self.at) = (rest, 0);
        }
        let slice = self.parts.first()?.get(self.at..self.at + count)?;
        self.at += count;
        Some(slice)
    }

    fn take(&mut self, mut room: &mut [u8]) {
        while let Some((first, rest)) = self.parts.split_first()
            && !room.is_empty()
        {
            let from = &first[self.at..];
            let count = from.len().min(room.len());
            let (now, later) = room.split_at_mut(count);
            now.copy_from_slice(&from[..count]);
            room = later;
            self.at += count;
            if self.at == first.len() {
                (self.parts, self.at) = (rest, 0);
            }
        }
    }
}

/// The send buffer is initialised to its whole length, so that growing it is the only time its bytes are set.
fn make_room(out: &mut Vec<u8>, len: usize) {
    if out.len() < len {
        out.resize(len, 0);
    }
}

#[cfg(test)]
impl Direct {
    /// So that a test sees a key change.
    pub fn set_records_per_key_max(&mut self, count: u64) {
        self.records_per_key_max = count;
    }
}
