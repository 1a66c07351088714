//! The chain of signatures through a streamed body: each chunk signs the one before it, the head seeds it.
//!
//! Source: S3 API reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
//! Chunks" and "... Including Trailing Headers".

use aws_lc_rs::digest;

use crate::encoding;
use crate::error::{Code, Error};
use crate::sigv4::key::SigningKey;

/// The state of the chain: the key, the constant part of every string to sign, and the latest signature.
#[derive(Clone, Debug)]
pub struct ChunkChain {
    key: SigningKey,
    /// `20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n`
    when_and_where: String,
    latest: [u8; 32],
}

impl ChunkChain {
    /// Begins at the signature of the head.
    pub(crate) fn new(key: SigningKey, amz_date: &str, scope: &str, seed: [u8; 32]) -> Self {
        ChunkChain { key, when_and_where: format!("{amz_date}\n{scope}\n"), latest: seed }
    }

    /// Verifies the next chunk, by the SHA-256 of its data. `SignatureDoesNotMatch` when it is not the next of the
    /// chain.
    pub(crate) fn verify_chunk(&mut self, data_sha256: &[u8], signature: [u8; 32]) -> Result<(), Error> {
        let empty = digest::digest(&digest::SHA256, b"");
        self.verify("AWS4-HMAC-SHA256-PAYLOAD\n", &[empty.as_ref(), data_sha256], signature)
    }

    /// Verifies the trailer, by its canonical lines: `name:value\n` each.
    pub(crate) fn verify_trailer(&mut self, canonical: &[u8], signature: [u8; 32]) -> Result<(), Error> {
        let hash = digest::digest(&digest::SHA256, canonical);
        self.verify("AWS4-HMAC-SHA256-TRAILER\n", &[hash.as_ref()], signature)
    }

    fn verify(&mut self, kind: &str, hashes: &[&[u8]], signature: [u8; 32]) -> Result<(), Error> {
        if !self.key.verifies(&self.string_to_sign(kind, hashes), &signature) {
            return Err(Error::new(Code::SignatureDoesNotMatch));
        }
        self.latest = signature;
        Ok(())
    }

    fn string_to_sign(&self, kind: &str, hashes: &[&[u8]]) -> Vec<u8> {
        let mut text = Vec::with_capacity(384);
        text.extend_from_slice(kind.as_bytes());
        text.extend_from_slice(self.when_and_where.as_bytes());
        encoding::push_hex(&mut text, &self.latest);
        for hash in hashes {
            text.push(b'\n');
            encoding::push_hex(&mut text, hash);
        }
        text
    }
}

/// The client's side of a chain.
#[cfg(test)]
pub(crate) struct ChunkSigner(ChunkChain);

#[cfg(test)]
impl ChunkChain {
    /// A chain from some seed, and the signer that knows its key.
    pub(crate) fn for_tests() -> (Self, ChunkSigner) {
        let text = "20130524/us-east-1/s3/aws4_request";
        let credential = format!("AKID/{text}");
        let scope = crate::sigv4::scope::Scope::parse(&credential, crate::sigv4::Form::Header).unwrap();
        let key = SigningKey::derive("secret", &scope);
        let chain = ChunkChain::new(key, "20130524T000000Z", text, [7; 32]);
        (chain.clone(), ChunkSigner(chain))
    }
}

#[cfg(test)]
impl ChunkSigner {
    pub fn sign_chunk(&mut self, data_sha256: &[u8]) -> [u8; 32] {
        let empty = digest::digest(&digest::SHA256, b"");
        self.sign("AWS4-HMAC-SHA256-PAYLOAD\n", &[empty.as_ref(), data_sha256])
    }

    pub fn sign_trailer(&mut self, canonical: &[u8]) -> [u8; 32] {
        let hash = digest::digest(&digest::SHA256, canonical);
        self.sign("AWS4-HMAC-SHA256-TRAILER\n", &[hash.as_ref()])
    }

    fn sign(&mut self, kind: &str, hashes: &[&[u8]]) -> [u8; 32] {
        self.0.latest = self.0.key.sign(&self.0.string_to_sign(kind, hashes));
        self.0.latest
    }
}
