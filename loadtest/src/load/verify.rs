//! Verifies a body while it arrives, without keeping it.

use crate::body::{Body, HEADER_LEN, Mismatch};
use crate::s3::Payload;

/// Takes the bytes of one read.
pub(super) struct Verifier<'a> {
    seed: u64,
    key: &'a str,
    header: Vec<u8>,
    body: Option<Body>,
    seen_len: u64,
    fault: Option<String>,
}

impl<'a> Verifier<'a> {
    pub fn new(seed: u64, key: &'a str) -> Self {
        Self { seed, key, header: Vec::new(), body: None, seen_len: 0, fault: None }
    }

    pub fn take(&mut self, mut piece: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.body.is_none() {
            let count = piece.len().min(HEADER_LEN - self.header.len());
            self.header.extend_from_slice(&piece[..count]);
            self.seen_len += count as u64;
            piece = &piece[count..];
            if self.header.len() < HEADER_LEN {
                return;
            }
            self.body = Body::identify(self.seed, &self.header).filter(|body| body.names(self.key));
        }
        match self.body.map(|body| body.compare_at(self.seen_len, piece)) {
            Some(Ok(())) => self.seen_len += piece.len() as u64,
            Some(Err(mismatch)) => self.fault = Some(mismatch.to_string()),
            None => self.fault = Some("its header names no write of this run to this key".to_owned()),
        }
    }

    /// The generation that was read, or what is wrong with the body.
    pub fn finish(self) -> Result<u64, String> {
        match (self.fault, self.body) {
            (Some(fault), _) => Err(fault),
            (None, None) => Err(format!("{} bytes, not even a header", self.seen_len)),
            (None, Some(body)) if body.len() != self.seen_len => {
                Err(Mismatch::Length { expected: body.len(), seen: self.seen_len }.to_string())
            }
            (None, Some(body)) => Ok(body.generation()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(bytes: &[u8], piece_len: usize) -> Result<u64, String> {
        let mut verifier = Verifier::new(1, "key");
        bytes.chunks(piece_len).for_each(|piece| verifier.take(piece));
        verifier.finish()
    }

    #[test]
    fn a_whole_body_gives_its_generation_however_it_arrives() {
        let mut bytes = vec![0; 1000];
        Body::new(1, "key", 9, 1000).read_at(0, &mut bytes);
        for piece_len in [1, 39, 40, 41, 1000] {
            assert_eq!(verify(&bytes, piece_len), Ok(9));
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_a_fault() {
        let mut bytes = vec![0; 1000];
        Body::new(1, "key", 9, 1000).read_at(0, &mut bytes);
        assert!(verify(&bytes[..999], 64).is_err());
        assert!(verify(&bytes[..20], 64).is_err());
        for at in [0, 39, 40, 999] {
            bytes[at] ^= 1;
            assert!(verify(&bytes, 64).is_err(), "bit flipped at {at}");
            bytes[at] ^= 1;
        }
    }
}
