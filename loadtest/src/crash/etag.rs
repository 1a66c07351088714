//! The ETags that S3 defines for unencrypted and SSE-S3 objects: MD5, and MD5 of the parts' MD5s.

use md5::{Digest, Md5};

use crate::s3::{Part, Payload};

const PIECE_LEN: u64 = 64 * 1024;

/// Of an object stored by one PUT, and of a part.
pub(super) fn md5_hex(payload: &(impl Payload + ?Sized)) -> String {
    let mut hasher = Md5::new();
    let mut piece = vec![0; PIECE_LEN as usize];
    let mut offset = 0;
    while offset < payload.len() {
        let count = (payload.len() - offset).min(PIECE_LEN) as usize;
        payload.read_at(offset, &mut piece[..count]);
        hasher.update(&piece[..count]);
        offset += count as u64;
    }
    hex(&hasher.finalize())
}

/// Of a completed multipart upload. `None` when a part's ETag is no MD5.
pub(super) fn of_parts(parts: &[Part]) -> Option<String> {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(unhex(&part.etag)?);
    }
    Some(format!("{}-{}", hex(&hasher.finalize()), parts.len()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut out = [0; 16];
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_etag_of_an_object_is_its_md5() {
        assert_eq!(md5_hex([].as_slice()), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(md5_hex(b"abc".as_slice()), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn the_etag_of_an_upload_is_the_md5_of_its_parts_md5s_and_their_count() {
        // md5(md5("abc")), computed with md5sum.
        let part = Part { number: 1, etag: "900150983cd24fb0d6963f7d28e17f72".into() };
        assert_eq!(of_parts(&[part]).as_deref(), Some("af5da9f45af7a300e3aded972f8ff687-1"));
        assert_eq!(of_parts(&[Part { number: 1, etag: "no md5".into() }]), None);
    }
}
