//! Keys in the form in which the kernel takes them: `struct tls12_crypto_info_*` of `linux/tls.h`, whose fields are bytes without padding.
//!
//! ```text
//!   version u16 | cipher u16 | iv | key | salt | sequence u64, big-endian
//! ```

use rustls::{CipherSuite, ConnectionTrafficSecrets, ProtocolVersion};
use zeroize::Zeroizing;

/// The longest form: a key of 32 bytes, and a nonce of 12 in two parts.
const LEN_MAX: usize = 2 + 2 + 12 + 32 + 8;

/// Bytes of the nonce that AES-GCM calls salt.
const GCM_SALT_LEN: usize = 4;

/// A cipher that the kernel may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

    /// That of a suite.
    pub fn of_suite(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Some(Cipher::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(Cipher::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(Cipher::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// `TLS_CIPHER_*`
    fn number(self) -> u16 {
        match self {
            Cipher::Aes128Gcm => libc::TLS_CIPHER_AES_GCM_128,
            Cipher::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_256,
            Cipher::ChaCha20Poly1305 => libc::TLS_CIPHER_CHACHA20_POLY1305,
        }
    }

    /// Bytes of its key.
    pub fn key_len(self) -> usize {
        if self == Cipher::Aes128Gcm { 16 } else { 32 }
    }
}

/// The versions that the kernel may know.
pub const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];

/// One direction's key, nonce and next number. Wiped when it is dropped.
pub struct CryptoInfo {
    bytes: Zeroizing<[u8; LEN_MAX]>,
    len: usize,
}

impl CryptoInfo {
    /// Of what rustls gives out; `None` for what the kernel has no form for.
    pub fn new(
        version: ProtocolVersion,
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Option<CryptoInfo> {
        let (cipher, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::ChaCha20Poly1305, key, iv),
            _ => return None,
        };
        let nonce = <&[u8; 12]>::try_from(iv.as_ref()).ok()?;
        CryptoInfo::from_parts(version, cipher, key.as_ref(), nonce, sequence)
    }

    /// Of a key, and the 12 bytes that its nonces are made from.
    pub fn from_parts(
        version: ProtocolVersion,
        cipher: Cipher,
        key: &[u8],
        nonce: &[u8; 12],
        sequence: u64,
    ) -> Option<CryptoInfo> {
        if key.len() != cipher.key_len() || !VERSIONS.contains(&version) {
            return None;
        }
        let salt_len = if cipher == Cipher::ChaCha20Poly1305 { 0 } else { GCM_SALT_LEN };
        let (salt, iv) = nonce.split_at(salt_len);
        let mut info = CryptoInfo { bytes: Zeroizing::new([0; LEN_MAX]), len: 0 };
        info.push(&u16::from(version).to_ne_bytes());
        info.push(&cipher.number().to_ne_bytes());
        if version == ProtocolVersion::TLSv1_2 && cipher != Cipher::ChaCha20Poly1305 {
            info.push(&explicit_nonce(iv));
        } else {
            info.push(iv);
        }
        info.push(key);
        info.push(salt);
        info.push(&sequence.to_be_bytes());
        Some(info)
    }

    /// For setsockopt.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// Where the kernel begins to count the explicit nonces of TLS 1.2 with AES-GCM, which the sender chooses (RFC 5288, 3).
///
/// rustls has sealed some records with the same key, by `iv` XOR the record's number. To go on from `iv` would use a nonce again, which gives the authentication key
/// away. With the highest bit turned over, and room below to count to 2^32, none of ours is one of theirs.
fn explicit_nonce(iv: &[u8]) -> [u8; 8] {
    let mut nonce = [0; 8];
    nonce[..4].copy_from_slice(&iv[..4]);
    nonce[0] ^= 0x80;
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 12] = [0xa0, 0xa1, 0xa2, 0xa3, 0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7];
    const SEQUENCE: u64 = 0x0102_0304_0506_0708;

    fn encoded(version: ProtocolVersion, cipher: Cipher) -> Vec<u8> {
        let key: Vec<u8> = (1..=cipher.key_len() as u8).collect();
        let info = CryptoInfo::from_parts(version, cipher, &key, &NONCE, SEQUENCE).expect("it fits");
        info.as_bytes().to_vec()
    }

    /// The bytes of a form, from its parts in order.
    fn form(version: u16, number: u16, iv: &[u8], key_len: u8, salt: &[u8]) -> Vec<u8> {
        let key: Vec<u8> = (1..=key_len).collect();
        let sequence = [1, 2, 3, 4, 5, 6, 7, 8];
        [&version.to_ne_bytes(), &number.to_ne_bytes(), iv, &key, salt, &sequence].concat()
    }

    #[test]
    fn every_form_of_tls_1_3_is_what_the_kernel_declares() {
        let (salt, iv) = NONCE.split_at(4);
        let version = ProtocolVersion::TLSv1_3;
        let aes_128 = encoded(version, Cipher::Aes128Gcm);
        assert_eq!(aes_128, form(0x0304, 51, iv, 16, salt));
        assert_eq!(aes_128.len(), size_of::<libc::tls12_crypto_info_aes_gcm_128>());
        let aes_256 = encoded(version, Cipher::Aes256Gcm);
        assert_eq!(aes_256, form(0x0304, 52, iv, 32, salt));
        assert_eq!(aes_256.len(), size_of::<libc::tls12_crypto_info_aes_gcm_256>());
        let chacha = encoded(version, Cipher::ChaCha20Poly1305);
        assert_eq!(chacha, form(0x0304, 54, &NONCE, 32, &[]));
        assert_eq!(chacha.len(), size_of::<libc::tls12_crypto_info_chacha20_poly1305>());
    }

    #[test]
    fn every_form_of_tls_1_2_is_what_the_kernel_declares() {
        let (salt, iv) = ([0xa0, 0xa1, 0xa2, 0xa3], [0x30, 0xb1, 0xb2, 0xb3, 0, 0, 0, 0]);
        let version = ProtocolVersion::TLSv1_2;
        assert_eq!(encoded(version, Cipher::Aes128Gcm), form(0x0303, 51, &iv, 16, &salt));
        assert_eq!(encoded(version, Cipher::Aes256Gcm), form(0x0303, 52, &iv, 32, &salt));
        assert_eq!(encoded(version, Cipher::ChaCha20Poly1305), form(0x0303, 54, &NONCE, 32, &[]));
    }

    #[test]
    fn no_explicit_nonce_of_the_kernel_is_one_that_rustls_has_used() {
        for iv in [[0; 8], [0xff; 8], [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], *b"\x80nonce.."] {
            let first = u64::from_be_bytes(explicit_nonce(&iv));
            let theirs = u64::from_be_bytes(iv);
            for (ours, number) in [(0, 0), (0, u32::MAX), (u32::MAX, 0), (u32::MAX, u32::MAX), (77, 77)] {
                assert_ne!(first + u64::from(ours), theirs ^ u64::from(number));
            }
            // They differ above the 32 bits that either side counts in.
            assert_ne!(first >> 32, theirs >> 32);
            assert_eq!((first + u64::from(u32::MAX)) >> 32, first >> 32);
        }
    }

    #[test]
    fn a_key_of_another_length_and_an_older_version_have_no_form() {
        let refused = |version, cipher, len| {
            CryptoInfo::from_parts(version, cipher, &vec![0; len], &NONCE, 0).is_none()
        };
        assert!(refused(ProtocolVersion::TLSv1_3, Cipher::Aes128Gcm, 32));
        assert!(refused(ProtocolVersion::TLSv1_3, Cipher::ChaCha20Poly1305, 16));
        assert!(refused(ProtocolVersion::TLSv1_1, Cipher::Aes128Gcm, 16));
    }
}
