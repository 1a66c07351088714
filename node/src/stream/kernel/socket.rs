//! What is asked of the kernel for TLS: to take a socket, and the keys of either direction; and what it offers, found out once, when the node starts.
//!
//! The only unsafe code here is setsockopt itself, whose options neither rustix nor socket2 knows.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustls::ProtocolVersion;

use super::crypto_info::{Cipher, CryptoInfo, VERSIONS};

/// A direction, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Transmit,
    Receive,
}

/// What the kernel offers, and the configuration allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// By version and cipher.
    takes: [[bool; Cipher::ALL.len()]; VERSIONS.len()],
    can_rekey: bool,
}

impl Offer {
    /// Nothing: TLS stays with us.
    pub const NOTHING: Offer =
        Offer { takes: [[false; Cipher::ALL.len()]; VERSIONS.len()], can_rekey: false };

    /// Asks the kernel, with keys that nobody uses.
    ///
    /// # Errors
    /// When it knows no TLS at all (`NotFound`: the module `tls` is not there), or gives no socket.
    pub fn probe() -> io::Result<Offer> {
        let mut offer = Offer::NOTHING;
        for (version_index, version) in VERSIONS.into_iter().enumerate() {
            for (cipher_index, cipher) in Cipher::ALL.into_iter().enumerate() {
                let (near, _far) = pair()?;
                attach(near.as_fd())?;
                let set = |direction, first: u8| {
                    let key = [first; 32];
                    let info =
                        CryptoInfo::from_parts(version, cipher, &key[..cipher.key_len()], &[first; 12], 0)
                            .expect("the key is as long as the cipher wants");
                    set_key(near.as_fd(), direction, &info)
                };
                let is_taken = set(Direction::Receive, 1).is_ok() && set(Direction::Transmit, 2).is_ok();
                offer.takes[version_index][cipher_index] = is_taken;
                // Kernels before 6.14 take one key in the life of a connection.
                if is_taken && version == ProtocolVersion::TLSv1_3 {
                    offer.can_rekey = set(Direction::Transmit, 3).is_ok();
                }
            }
        }
        Ok(offer)
    }

    /// Whether connections of that version and cipher can be given to the kernel.
    pub fn takes(&self, version: ProtocolVersion, cipher: Cipher) -> bool {
        let version = VERSIONS.iter().position(|known| *known == version);
        let cipher = Cipher::ALL.iter().position(|known| *known == cipher);
        version.zip(cipher).is_some_and(|(version, cipher)| self.takes[version][cipher])
    }

    /// Whether a connection of TLS 1.3 may change its keys.
    pub fn can_rekey(&self) -> bool {
        self.can_rekey
    }

    /// Whether any can.
    pub fn is_nothing(&self) -> bool {
        self.takes.iter().flatten().all(|is_taken| !is_taken)
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (version, ciphers) in VERSIONS.iter().zip(&self.takes) {
            for (cipher, _) in Cipher::ALL.iter().zip(ciphers).filter(|(_, is_taken)| **is_taken) {
                write!(f, "{separator}{version:?} {cipher:?}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

/// Makes a connection one whose records the kernel may be given. Until it is, nothing changes.
///
/// # Errors
/// `NotFound` when the kernel has no TLS, `NotConnected` when the peer has gone.
pub fn attach(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_TCP, libc::TCP_ULP, b"tls")
}

/// Gives the records of a direction to the kernel, or another key for them.
///
/// # Errors
/// `ResourceBusy` when it has one and takes no other.
pub fn set_key(socket: BorrowedFd<'_>, direction: Direction, info: &CryptoInfo) -> io::Result<()> {
    let name = match direction {
        Direction::Transmit => libc::TLS_TX,
        Direction::Receive => libc::TLS_RX,
    };
    set_option(socket, libc::SOL_TLS, name, info.as_bytes())
}

fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).expect("options are short");
    // SAFETY: the descriptor is borrowed, so it is open; the kernel reads the `len` bytes that `value` holds, and keeps no pointer to them.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Two ends of a connection on loopback; only an established one takes TLS.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    Ok((near, listener.accept()?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_offers_all_that_it_takes_or_says_that_it_has_none() {
        match Offer::probe() {
            Ok(offer) => {
                assert!(offer.takes(ProtocolVersion::TLSv1_3, Cipher::Aes128Gcm), "{offer:?}");
                assert!(!offer.takes(ProtocolVersion::TLSv1_1, Cipher::Aes128Gcm), "{offer:?}");
                assert!(!offer.is_nothing());
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}"),
        }
        assert!(Offer::NOTHING.is_nothing() && !Offer::NOTHING.can_rekey());
    }
}
