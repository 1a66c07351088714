//! Bodies that say which write they belong to.
//!
//! ```text
//! 0            8      16     24          32      40
//! +------------+------+------+-----------+-------+----------------------------------+
//! | generation | len  | seed | key hash  | check | a stream that all of them decide |
//! +------------+------+------+-----------+-------+----------------------------------+
//! ```
//!
//! Numbers are little-endian; a body shorter than the header is the header's beginning. The header decides the stream,
//! so any read can be verified by itself. The stream is a counter, stirred with shifts alone so that the compiler turns
//! it into vector instructions: a tester that spends its time on bodies measures itself. Any piece of it can be made or
//! verified without what goes before, and every word depends on the generation: bytes of two writes in one object
//! never pass for either.

use std::fmt;

use crate::rng::{STEP, mix};
use crate::s3::Payload;

/// The shortest body that names its write completely.
pub const HEADER_LEN: usize = 40;

/// The body of one write: that of `generation` to `key` in the run `seed`, `len` bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    seed: u64,
    key_hash: u64,
    generation: u64,
    len: u64,
}

/// Where a read body stops being the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The length differs.
    Length {
        /// Bytes expected.
        expected: u64,
        /// Bytes read.
        seen: u64,
    },
    /// The bytes differ from this offset on.
    Content {
        /// The first byte that differs.
        offset: u64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, seen } => write!(f, "{seen} bytes instead of {expected}"),
            Self::Content { offset } => write!(f, "other bytes from offset {offset} on"),
        }
    }
}

impl Body {
    /// The body of a write.
    pub fn new(seed: u64, key: &str, generation: u64, len: u64) -> Self {
        Self { seed, key_hash: hash(key), generation, len }
    }

    /// The same, for a key whose [`hash`] is known.
    pub fn of_hash(seed: u64, key_hash: u64, generation: u64, len: u64) -> Self {
        Self { seed, key_hash, generation, len }
    }

    /// Which write of the run these first bytes claim to belong to, if their header is sound.
    pub fn identify(seed: u64, first: &[u8]) -> Option<Self> {
        Self::identify_any(first).filter(|body| body.seed == seed)
    }

    /// Which write of whatever run these first bytes claim to belong to, if their header is sound.
    pub fn identify_any(first: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let bytes = first.get(index * 8..index * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let body = Self { generation: word(0)?, len: word(1)?, seed: word(2)?, key_hash: word(3)? };
        let mut header = [0; HEADER_LEN];
        body.header(&mut header);
        (first.get(..HEADER_LEN)? == header).then_some(body)
    }

    /// Whether it was written to this key, rather than copied there.
    pub fn names(&self, key: &str) -> bool {
        self.key_hash == hash(key)
    }

    /// Whether it was written to the key with this [`hash`].
    pub fn names_hash(&self, key_hash: u64) -> bool {
        self.key_hash == key_hash
    }

    /// The run that wrote it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Counts the writes to a key.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The bytes `start..start + len`, as the payload of a part.
    pub fn part(&self, start: u64, len: u64) -> impl Payload {
        Slice { body: *self, start, len }
    }

    /// Compares a whole body that was read.
    pub fn compare(&self, seen: &[u8]) -> Result<(), Mismatch> {
        if seen.len() as u64 != self.len {
            return Err(Mismatch::Length { expected: self.len, seen: seen.len() as u64 });
        }
        self.compare_at(0, seen)
    }

    /// Compares a piece that was read at `offset`.
    pub fn compare_at(&self, offset: u64, seen: &[u8]) -> Result<(), Mismatch> {
        if offset + seen.len() as u64 > self.len {
            return Err(Mismatch::Length { expected: self.len, seen: offset + seen.len() as u64 });
        }
        let mut expected = [0; 4096];
        for (index, piece) in seen.chunks(expected.len()).enumerate() {
            let at = offset + (index * expected.len()) as u64;
            let expected = &mut expected[..piece.len()];
            self.read_at(at, expected);
            if piece == expected {
                continue;
            }
            if let Some(first) = piece.iter().zip(expected.iter()).position(|(seen, wanted)| seen != wanted) {
                return Err(Mismatch::Content { offset: at + first as u64 });
            }
        }
        Ok(())
    }

    fn stream_start(&self) -> u64 {
        let by_write = mix(self.seed ^ mix(self.generation.wrapping_add(STEP)));
        mix(by_write ^ self.key_hash ^ mix(self.len))
    }

    fn header(&self, out: &mut [u8; HEADER_LEN]) {
        let check = mix(self.stream_start() ^ STEP);
        let words = [self.generation, self.len, self.seed, self.key_hash, check];
        for (slot, word) in out.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
    }
}

impl Payload for Body {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        let start = self.stream_start();
        let stream_word = |index: u64| stir(start.wrapping_add(index.wrapping_mul(STEP))).to_le_bytes();
        let mut header = [0; HEADER_LEN];
        let header_count = (HEADER_LEN as u64).saturating_sub(offset).min(out.len() as u64) as usize;
        if header_count > 0 {
            self.header(&mut header);
            let from = offset as usize;
            out[..header_count].copy_from_slice(&header[from..from + header_count]);
        }
        let (out, offset) = (&mut out[header_count..], offset + header_count as u64);
        let skip = (offset % 8) as usize;
        let lead_count = if skip == 0 { 0 } else { (8 - skip).min(out.len()) };
        let (lead, rest) = out.split_at_mut(lead_count);
        lead.copy_from_slice(&stream_word(offset / 8)[skip..skip + lead_count]);
        let first = (offset + lead_count as u64) / 8;
        let mut counter = start.wrapping_add(first.wrapping_mul(STEP));
        let (words, tail) = rest.as_chunks_mut::<8>();
        for slot in words {
            *slot = stir(counter).to_le_bytes();
            counter = counter.wrapping_add(STEP);
        }
        tail.copy_from_slice(&stir(counter).to_le_bytes()[..tail.len()]);
    }
}

struct Slice {
    body: Body,
    start: u64,
    len: u64,
}

impl Payload for Slice {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        self.body.read_at(self.start + offset, out);
    }
}

/// Makes a word of the stream of a counter: both halves depend on all of it, without a multiplication.
fn stir(counter: u64) -> u64 {
    counter ^ (counter >> 29) ^ (counter << 17)
}

/// The hash of a key that its bodies carry: FNV-1a, then mixed.
pub fn hash(key: &str) -> u64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(body: &Body) -> Vec<u8> {
        let mut out = vec![0; body.len as usize];
        body.read_at(0, &mut out);
        out
    }

    #[test]
    fn any_piece_equals_the_same_bytes_of_the_whole() {
        let body = Body::new(1, "key", 2, 300);
        let whole = bytes(&body);
        for start in 0..300 {
            for len in [0, 1, 7, 8, 9, 40, 300 - start].into_iter().filter(|len| start + len <= 300) {
                let mut piece = vec![0; len];
                body.read_at(start as u64, &mut piece);
                assert_eq!(piece, whole[start..start + len], "{start}+{len}");
                assert_eq!(body.compare_at(start as u64, &piece), Ok(()));
            }
        }
    }

    #[test]
    fn a_body_names_its_write() {
        let body = Body::new(1, "key", 7, 100);
        assert_eq!(Body::identify(1, &bytes(&body)), Some(body));
        assert!(body.names("key") && !body.names("other"));
        assert_eq!(Body::identify(2, &bytes(&body)), None, "another run's");
        assert_eq!(Body::identify_any(&bytes(&body)), Some(body));
        assert_eq!(Body::identify(1, &bytes(&body)[..HEADER_LEN - 1]), None, "too short");
    }

    #[test]
    fn one_byte_of_another_write_is_found_wherever_it_is() {
        let (old, new) = (Body::new(1, "key", 1, 9000), Body::new(1, "key", 2, 9000));
        let (old_bytes, mut mixture) = (bytes(&old), bytes(&new));
        assert_eq!(new.compare(&mixture), Ok(()));
        mixture[8192..].copy_from_slice(&old_bytes[8192..]);
        let Err(Mismatch::Content { offset }) = new.compare(&mixture) else { panic!("not found") };
        assert!((8192..8200).contains(&offset));
        assert!(old.compare(&mixture).is_err());
    }

    #[test]
    fn a_shorter_or_longer_body_is_found() {
        let body = Body::new(1, "key", 1, 20);
        let whole = bytes(&body);
        assert_eq!(body.compare(&whole[..19]), Err(Mismatch::Length { expected: 20, seen: 19 }));
        assert!(body.compare_at(10, &[0; 11]).is_err());
        assert_eq!(Body::new(1, "key", 1, 0).compare(&[]), Ok(()));
    }

    #[test]
    fn a_part_is_that_range_of_the_body() {
        let body = Body::new(3, "key", 1, 100);
        let part = body.part(60, 40);
        let mut out = vec![0; 40];
        part.read_at(0, &mut out);
        assert_eq!((part.len(), &out[..]), (40, &bytes(&body)[60..]));
    }
}
