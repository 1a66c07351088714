//! The five checksums of S3, streaming, and how checksums of parts become the checksum of an object.
//!
//! Sources: the S3 user guide, "Checking object integrity"; CRC-64/NVME as in the NVM Express command set
//! specification. All values are big-endian, as their base64 on the wire.
//!
//! - [`Hasher`] computes one checksum, [`BodyHasher`] the MD5 of the entity tag and at most one checksum in one pass.
//! - [`composite`] is the checksum of the parts' checksums, [`full_object`] that of the bytes, from the parts' CRCs.
//! - [`ChecksumRequest`] is what a request asked to be computed and compared.

mod combine;
mod request;

use std::rc::Rc;

use aws_lc_rs::digest;
use crc_fast::CrcAlgorithm;
use md5_lanes::{Lanes, Stream};

use self::combine::Combiner;
use crate::encoding;

pub use request::ChecksumRequest;

/// Length of the longest digest.
const DIGEST_LEN_MAX: usize = 32;

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CRC-32/ISO-HDLC
    Crc32,
    /// CRC-32/ISCSI (Castagnoli)
    Crc32c,
    /// CRC-64/NVME
    Crc64Nvme,
    /// SHA-1
    Sha1,
    /// SHA-256
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

    /// The name in headers and documents.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    /// The (lowercase) header or trailer that carries a value.
    pub fn header_name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The element that carries a value in a document.
    pub fn element_name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "ChecksumCRC32",
            Algorithm::Crc32c => "ChecksumCRC32C",
            Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
            Algorithm::Sha1 => "ChecksumSHA1",
            Algorithm::Sha256 => "ChecksumSHA256",
        }
    }

    /// Reads a name; like AWS, in either case.
    pub fn parse(name: &str) -> Option<Self> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The algorithm whose values that (lowercase) header carries.
    pub fn from_header_name(name: &str) -> Option<Self> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.header_name() == name)
    }

    /// Length of a value in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }

    /// The type that a multipart upload gets when it names none: composite, except for CRC-64/NVME, which has only
    /// full-object values.
    pub fn default_type(self) -> ChecksumType {
        if self == Algorithm::Crc64Nvme { ChecksumType::FullObject } else { ChecksumType::Composite }
    }

    /// Whether multipart uploads may have that type: SHA-1 and SHA-256 do not combine, CRC-64/NVME is never
    /// composite.
    pub fn supports(self, checksum_type: ChecksumType) -> bool {
        match checksum_type {
            ChecksumType::Composite => self != Algorithm::Crc64Nvme,
            ChecksumType::FullObject => self.crc().is_some(),
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 | Algorithm::Sha256 => None,
        }
    }
}

/// Whether the checksum of a multipart object is over its bytes or over its parts' checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumType {
    /// The checksum of the concatenated checksums of the parts, written with `-N`.
    Composite,
    /// The checksum of the object's bytes.
    FullObject,
}

impl ChecksumType {
    /// The name in headers and documents.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumType::Composite => "COMPOSITE",
            ChecksumType::FullObject => "FULL_OBJECT",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [ChecksumType::Composite, ChecksumType::FullObject].into_iter().find(|kind| kind.name() == name)
    }
}

/// A checksum value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    /// Zero behind the digest.
    bytes: [u8; DIGEST_LEN_MAX],
}

impl Checksum {
    /// From the raw digest; `None` when the length is not the algorithm's.
    pub fn from_bytes(algorithm: Algorithm, digest: &[u8]) -> Option<Self> {
        if digest.len() != algorithm.digest_len() {
            return None;
        }
        let mut bytes = [0; DIGEST_LEN_MAX];
        bytes[..digest.len()].copy_from_slice(digest);
        Some(Checksum { algorithm, bytes })
    }

    /// From base64, as headers carry it.
    pub fn from_base64(algorithm: Algorithm, text: &str) -> Option<Self> {
        let mut bytes = [0; DIGEST_LEN_MAX];
        let digest = &mut bytes[..algorithm.digest_len()];
        encoding::base64_exact(text.as_bytes(), digest).then_some(Checksum { algorithm, bytes })
    }

    /// From base64 with an optional `-N`, as the checksum of a multipart object is written: the value, and the number
    /// of parts when it is composite.
    pub fn from_base64_of_parts(algorithm: Algorithm, text: &str) -> Option<(Self, Option<u32>)> {
        match text.rsplit_once('-') {
            None => Some((Checksum::from_base64(algorithm, text)?, None)),
            Some((value, count)) => {
                let count = u32::try_from(encoding::decimal(count.as_bytes())?).ok()?;
                Some((Checksum::from_base64(algorithm, value)?, Some(count)))
            }
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw digest, big-endian.
    pub fn value(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_len()]
    }

    /// Base64, as headers and documents carry it.
    pub fn to_base64(&self) -> String {
        encoding::to_base64(self.value())
    }

    /// A CRC in its low bits.
    fn from_crc(algorithm: Algorithm, crc: u64) -> Self {
        let mut bytes = [0; DIGEST_LEN_MAX];
        let digest_len = algorithm.digest_len();
        bytes[..digest_len].copy_from_slice(&crc.to_be_bytes()[8 - digest_len..]);
        Checksum { algorithm, bytes }
    }

    /// The CRC as a number.
    fn to_crc(self) -> u64 {
        self.value().iter().fold(0, |crc, byte| crc << 8 | u64::from(*byte))
    }
}

/// One checksum over a stream of bytes.
pub struct Hasher {
    algorithm: Algorithm,
    state: State,
}

#[expect(clippy::large_enum_variant, reason = "one for each upload; 300 bytes cost less than an allocation")]
enum State {
    Crc(crc_fast::Digest),
    Sha(digest::Context),
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm.crc() {
            Some(crc) => State::Crc(crc_fast::Digest::new(crc)),
            None if algorithm == Algorithm::Sha1 => {
                State::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY))
            }
            None => State::Sha(digest::Context::new(&digest::SHA256)),
        };
        Hasher { algorithm, state }
    }

    /// The checksum of bytes that are all at hand.
    pub fn hash(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(crc) => crc.update(bytes),
            State::Sha(context) => context.update(bytes),
        }
    }

    /// The checksum of all bytes.
    pub fn finish(self) -> Checksum {
        match self.state {
            State::Crc(crc) => Checksum::from_crc(self.algorithm, crc.finalize()),
            State::Sha(context) => Checksum::from_bytes(self.algorithm, context.finish().as_ref())
                .expect("the digest has the length of its algorithm"),
        }
    }
}

/// What one pass over a body yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigests {
    /// MD5, for the entity tag and Content-MD5.
    pub md5: [u8; 16],
    /// The checksum, when one was asked for.
    pub checksum: Option<Checksum>,
}

/// MD5 always, and at most one checksum, in one pass over a body.
pub struct BodyHasher {
    md5: Stream,
    checksum: Option<Hasher>,
}

impl BodyHasher {
    /// Nothing hashed yet. The MD5 shares these lanes with the other bodies of the core.
    pub fn new(lanes: &Rc<Lanes>, algorithm: Option<Algorithm>) -> Self {
        BodyHasher { md5: lanes.open(), checksum: algorithm.map(Hasher::new) }
    }

    /// Hashes the next bytes of the payload.
    pub fn update(&mut self, payload: &[u8]) {
        self.md5.update(payload);
        if let Some(checksum) = &mut self.checksum {
            checksum.update(payload);
        }
    }

    /// The digests of the whole payload. Waits for one turn of the executor, so that bodies which end in the same turn are hashed together.
    pub async fn finish(self) -> BodyDigests {
        BodyDigests { md5: self.md5.finish().await, checksum: self.checksum.map(Hasher::finish) }
    }

    /// The digests of a payload that is all at hand, and the payload again, for which nothing is copied if it has room for
    /// [`PADDING_LEN_MAX`](md5_lanes::PADDING_LEN_MAX) bytes more. Waits as [`BodyHasher::finish`] does.
    pub async fn whole(
        lanes: &Rc<Lanes>,
        algorithm: Option<Algorithm>,
        payload: Vec<u8>,
    ) -> (BodyDigests, Vec<u8>) {
        let checksum = algorithm.map(|algorithm| Hasher::hash(algorithm, &payload));
        let (md5, payload) = lanes.digest_whole(payload).await;
        (BodyDigests { md5, checksum }, payload)
    }

    /// The digests of all that was taken in, without waiting for others.
    pub fn finish_now(self) -> BodyDigests {
        BodyDigests { md5: self.md5.end().digest(), checksum: self.checksum.map(Hasher::finish) }
    }
}

/// The composite checksum of an object: the checksum of its parts' checksums, in order. `None` when there are no
/// parts, or their algorithms differ.
pub fn composite(parts: &[Checksum]) -> Option<Checksum> {
    let algorithm = parts.first()?.algorithm;
    let mut hasher = Hasher::new(algorithm);
    for part in parts {
        if part.algorithm != algorithm {
            return None;
        }
        hasher.update(part.value());
    }
    Some(hasher.finish())
}

/// The checksum of an object's bytes, from the CRCs and lengths of its parts, in order. `None` when there are no
/// parts, their algorithms differ, or the algorithm does not combine (SHA-1, SHA-256).
pub fn full_object(parts: &[(Checksum, u64)]) -> Option<Checksum> {
    let (first, _) = parts.first()?;
    let algorithm = first.algorithm;
    let mut combiner = Combiner::new(algorithm)?;
    let mut whole = first.to_crc();
    for (part, part_len) in &parts[1..] {
        if part.algorithm != algorithm {
            return None;
        }
        whole = combiner.combine(whole, part.to_crc(), *part_len);
    }
    Some(Checksum::from_crc(algorithm, whole))
}

#[cfg(test)]
mod tests;
