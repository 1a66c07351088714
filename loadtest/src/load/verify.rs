//! Verifies a body while it arrives, without keeping it.

use crate::body::{Body, HEADER_LEN};
use crate::s3::Payload;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every byte.
    Bytes,
    /// The header and the length.
    Header,
}

/// Takes the bytes of one read.
pub(super) struct Verifier {
    key_hash: u64,
    depth: Depth,
    header: [u8; HEADER_LEN],
    header_len: usize,
    body: Option<Body>,
    seen_len: u64,
    fault: Option<String>,
}

impl Verifier {
    /// For the key with this hash.
    pub fn new(key_hash: u64, depth: Depth) -> Self {
        let header = [0; HEADER_LEN];
        Self { key_hash, depth, header, header_len: 0, body: None, seen_len: 0, fault: None }
    }

    pub fn take(&mut self, mut piece: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.body.is_none() {
            let count = piece.len().min(HEADER_LEN - self.header_len);
            self.header[self.header_len..self.header_len + count].copy_from_slice(&piece[..count]);
            self.header_len += count;
            self.seen_len += count as u64;
            piece = &piece[count..];
            if self.header_len < HEADER_LEN {
                return;
            }
            match Body::identify_any(&self.header) {
                None => self.fault = Some("its header is not one of ours".into()),
                Some(body) if !body.names_hash(self.key_hash) => {
                    self.fault = Some("it was written to another key".into());
                }
                Some(body) => self.body = Some(body),
            }
        }
        if let (Some(body), Depth::Bytes) = (&self.body, self.depth)
            && let Err(mismatch) = body.compare_at(self.seen_len, piece)
        {
            self.fault = Some(mismatch.to_string());
        }
        self.seen_len += piece.len() as u64;
    }

    /// The write that was read, or what is wrong with the body.
    pub fn finish(&self) -> Result<Body, String> {
        match (&self.fault, self.body) {
            (Some(fault), _) => Err(fault.clone()),
            (None, None) => Err(format!("{} bytes, not even a header", self.seen_len)),
            (None, Some(body)) if body.len() != self.seen_len => {
                Err(format!("{} bytes instead of {}", self.seen_len, body.len()))
            }
            (None, Some(body)) => Ok(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::hash;

    fn verify(bytes: &[u8], piece_len: usize, depth: Depth) -> Result<u64, String> {
        let mut verifier = Verifier::new(hash("key"), depth);
        bytes.chunks(piece_len).for_each(|piece| verifier.take(piece));
        verifier.finish().map(|body| body.generation())
    }

    fn body(key: &str) -> Vec<u8> {
        let mut bytes = vec![0; 1000];
        Body::new(1, key, 9, 1000).read_at(0, &mut bytes);
        bytes
    }

    #[test]
    fn a_whole_body_gives_its_generation_however_it_arrives() {
        for piece_len in [1, 39, 40, 41, 1000] {
            assert_eq!(verify(&body("key"), piece_len, Depth::Bytes), Ok(9));
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_or_another_key_is_a_fault() {
        let mut bytes = body("key");
        for depth in [Depth::Bytes, Depth::Header] {
            assert!(verify(&bytes[..999], 64, depth).is_err());
            assert!(verify(&bytes[..20], 64, depth).is_err());
            assert!(verify(&body("other"), 64, depth).is_err());
        }
        for at in [0, 39, 40, 999] {
            bytes[at] ^= 1;
            assert!(verify(&bytes, 64, Depth::Bytes).is_err(), "bit flipped at {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn without_a_full_look_the_header_alone_is_checked() {
        let mut bytes = body("key");
        bytes[500] ^= 1;
        assert_eq!(verify(&bytes, 64, Depth::Header), Ok(9));
        bytes[20] ^= 1;
        assert!(verify(&bytes, 64, Depth::Header).is_err());
    }
}
