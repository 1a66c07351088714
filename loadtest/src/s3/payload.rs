//! What a request carries: bytes that can be asked for by offset, so that a large body is never in memory as a whole.

use aws_lc_rs::digest;

use super::sign;

/// Bytes on their way to the server are taken in pieces of this size.
pub(super) const PIECE_LEN: usize = 64 * 1024;

/// A request body.
pub trait Payload {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Nothing to send.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the bytes from `offset` on; both lie within the body.
    fn read_at(&self, offset: u64, out: &mut [u8]);
}

impl Payload for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        let start = offset as usize;
        out.copy_from_slice(&self[start..start + out.len()]);
    }
}

/// Whether the body is covered by the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadSigning {
    /// Its SHA-256 is signed, so it is read twice.
    Signed,
    /// `UNSIGNED-PAYLOAD`: TLS alone protects it.
    Unsigned,
}

/// Calls `take` with the body piece by piece, until it fails.
pub(super) fn for_each_piece<E>(
    payload: &(impl Payload + ?Sized),
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let len = payload.len();
    let mut piece = vec![0; PIECE_LEN.min(len as usize)];
    let mut offset = 0;
    while offset < len {
        let count = (len - offset).min(PIECE_LEN as u64) as usize;
        payload.read_at(offset, &mut piece[..count]);
        take(&piece[..count])?;
        offset += count as u64;
    }
    Ok(())
}

/// Hexadecimal SHA-256 of the body.
pub(super) fn sha256_hex(payload: &(impl Payload + ?Sized)) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let Ok(()) = for_each_piece(payload, |piece| {
        context.update(piece);
        Ok::<(), std::convert::Infallible>(())
    });
    sign::hex(context.finish().as_ref())
}
