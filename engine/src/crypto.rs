//! Encryption at rest: which key seals what, and the seals themselves.
//!
//! ```text
//! key source (32 bytes) --HKDF(store id)--> wrapping key --AES-256-GCM--> namespace keys (in the catalog)
//!                                      \--> catalog key
//! namespace key --HKDF-Expand(object id)--> object key --AES-256-GCM--> record payload, frames
//! ```
//! An object id is random and used for one content only, so an object key meets each nonce once:
//! - the record payload: domain 1, number 0;
//! - frame `n` of the object: domain 2, number `n`, and whether it is the last (the STREAM construction of Hoang, Reyhanitabar, Rogaway
//!   and Vizár, CRYPTO 2015): frames can be neither swapped nor cut off unnoticed.
//!
//! The object id is additional data of every frame; a record's whole identity is that of its payload. Where a namespace has
//! encryption off, the seal is the XXH3-128 of the same inputs: it finds rot and misplacement, and keeps no secret.
//!
//! HKDF-Expand (RFC 5869) of one block is `HMAC(key, info || 0x01)`; a cached HMAC key makes it a third of the library's time.

use std::collections::{BTreeMap, HashSet};
use std::sync::RwLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use xxhash_rust::xxh3::Xxh3;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::format::catalog::{Namespace, WrappedKey};
use crate::format::record::{RecordIdentity, SealKind};
use crate::ids::{KeyVersion, NamespaceId, ObjectId, StoreId};
use crate::limits::SEAL_SIZE;

/// A seal: GCM tag or XXH3-128.
pub type Seal = [u8; SEAL_SIZE];

/// Length of every key.
pub const KEY_SIZE: usize = 32;

/// The namespace whose key is the catalog key: derived from the key source, never stored.
pub const CATALOG_NAMESPACE: NamespaceId = NamespaceId(u32::MAX);

const CATALOG_KEY_VERSION: KeyVersion = KeyVersion(0);
const OBJECT_KEY_LABEL: &[u8; 16] = b"basalt object v1";

/// A source of random bytes: the system's, or a seeded one in simulation.
pub trait Random: Send {
    /// Fills the slice.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The system's random source.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system's random source never fails once it is seeded");
    }
}

/// The 32 bytes of the key source, from which everything else is derived or unwrapped.
pub struct MasterKey(Zeroizing<[u8; KEY_SIZE]>);

impl MasterKey {
    /// Takes the key.
    pub fn new(bytes: [u8; KEY_SIZE]) -> Self {
        MasterKey(Zeroizing::new(bytes))
    }

    /// A value that only this key gives for that store, and that tells nothing about the key.
    pub fn check_value(&self, store: StoreId) -> [u8; 32] {
        *self.derive(store, b"key check")
    }

    fn derive(&self, store: StoreId, label: &[u8]) -> Zeroizing<[u8; KEY_SIZE]> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &store.0);
        let prk = salt.extract(self.0.as_slice());
        let mut key = Zeroizing::new([0u8; KEY_SIZE]);
        prk.expand(&[b"basalt v1 ", label], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut_slice()))
            .expect("32 bytes are within what HKDF-SHA256 gives");
        key
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// All keys of an open store.
#[derive(Debug)]
pub struct Keyring {
    store: StoreId,
    master: MasterKey,
    /// Looked into for every object that is read: a few comparisons find a key sooner than a hash does.
    derivers: RwLock<BTreeMap<(NamespaceId, KeyVersion), Deriver>>,
    /// Namespaces that have, or once had, encryption off: only what is theirs may lie unencrypted. Elsewhere a checksum proves nothing, since whoever can
    /// write a device can make one.
    unencrypted: RwLock<HashSet<NamespaceId>>,
}

/// Derives the object keys of one namespace key.
struct Deriver(hmac::Key);

impl std::fmt::Debug for Deriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deriver(..)")
    }
}

impl Deriver {
    fn new(key: &[u8; KEY_SIZE]) -> Self {
        Deriver(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The key of that object.
    fn object_key(&self, object: ObjectId) -> ObjectKey {
        let mut info = [0u8; 33];
        info[..16].copy_from_slice(OBJECT_KEY_LABEL);
        info[16..32].copy_from_slice(&object.0);
        info[32] = 1;
        let key = hmac::sign(&self.0, &info);
        ObjectKey::Aes256Gcm { key: aead_key(key.as_ref()), object }
    }
}

fn aead_key(bytes: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 keys are 32 bytes"))
}

impl Keyring {
    /// The keys of that store: the catalog's for now; namespaces are added as the catalog is read.
    pub fn new(store: StoreId, master: MasterKey) -> Self {
        let catalog = Deriver::new(&master.derive(store, b"catalog"));
        let derivers = RwLock::new(BTreeMap::from([((CATALOG_NAMESPACE, CATALOG_KEY_VERSION), catalog)]));
        Keyring { store, master, derivers, unencrypted: RwLock::default() }
    }

    /// What seeds the hashes of a store's indexes: secret, so that nobody can choose keys that collide, and the same at every opening.
    pub(crate) fn index_seed(&self) -> u64 {
        let seed = self.master.derive(self.store, b"index seed");
        u64::from_le_bytes(seed[..8].try_into().expect("a key is longer than eight bytes"))
    }

    /// Whether the key source is the one the store was formatted with.
    pub fn check(&self, expected: &[u8; 32]) -> Result<()> {
        if self.master.check_value(self.store) == *expected {
            Ok(())
        } else {
            Err(Error::Key { what: "the store" })
        }
    }

    /// Makes a namespace with a fresh key.
    pub fn create_namespace(
        &self,
        id: NamespaceId,
        name: &str,
        seal_kind: SealKind,
        random: &mut dyn Random,
    ) -> Namespace {
        let mut key = Zeroizing::new([0u8; KEY_SIZE]);
        random.fill(key.as_mut_slice());
        let mut nonce = [0u8; 12];
        random.fill(&mut nonce);
        let version = KeyVersion(1);
        let mut sealed = [0u8; KEY_SIZE + SEAL_SIZE];
        sealed[..KEY_SIZE].copy_from_slice(key.as_slice());
        let tag = self
            .wrapping_key()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(Self::wrapping_data(id, version)),
                &mut sealed[..KEY_SIZE],
            )
            .expect("32 bytes are within what GCM seals");
        sealed[KEY_SIZE..].copy_from_slice(tag.as_ref());
        Namespace { id, name: name.to_owned(), seal_kind, keys: vec![WrappedKey { version, nonce, sealed }] }
    }

    /// Unwraps a namespace's keys, so that what they seal can be read and written.
    pub fn add_namespace(&self, namespace: &Namespace) -> Result<()> {
        if namespace.id == CATALOG_NAMESPACE {
            return Err(Error::Key { what: "a namespace with the catalog's id" });
        }
        if namespace.seal_kind == SealKind::Checksum {
            self.unencrypted.write().expect("no holder panics").insert(namespace.id);
        }
        for wrapped in &namespace.keys {
            let mut sealed = Zeroizing::new(wrapped.sealed);
            let key = self
                .wrapping_key()
                .open_in_place(
                    Nonce::assume_unique_for_key(wrapped.nonce),
                    Aad::from(Self::wrapping_data(namespace.id, wrapped.version)),
                    sealed.as_mut_slice(),
                )
                .map_err(|_| Error::Key { what: "a namespace key" })?;
            let key: &[u8; KEY_SIZE] =
                (&*key).try_into().map_err(|_| Error::Key { what: "a namespace key" })?;
            let deriver = Deriver::new(key);
            self.derivers.write().expect("no holder panics").insert((namespace.id, wrapped.version), deriver);
        }
        Ok(())
    }

    fn wrapping_key(&self) -> LessSafeKey {
        aead_key(self.master.derive(self.store, b"wrap").as_slice())
    }

    fn wrapping_data(id: NamespaceId, version: KeyVersion) -> [u8; 8] {
        let mut data = [0u8; 8];
        data[..4].copy_from_slice(&id.0.to_le_bytes());
        data[4..].copy_from_slice(&version.0.to_le_bytes());
        data
    }
}

/// What seals and opens the payload and the frames of one object.
pub enum ObjectKey {
    /// Encryption is on.
    Aes256Gcm {
        /// Derived from namespace key and object id.
        key: LessSafeKey,
        /// The object.
        object: ObjectId,
    },
    /// Encryption is off.
    Checksum {
        /// The object.
        object: ObjectId,
    },
}

impl std::fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectKey(..)")
    }
}

/// Whether a frame is the last of its piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePosition {
    /// More follow.
    Middle,
    /// None follows.
    Last,
}

/// The seal does not match: other bytes, another key, or another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealMismatch;

impl ObjectKey {
    /// Seals a record payload in place.
    pub fn seal_record(&self, identity: &RecordIdentity, payload: &mut [u8]) -> Seal {
        self.seal(record_nonce(), &identity.associated_data(), payload)
    }

    /// Opens a record payload in place.
    pub fn open_record(
        &self,
        identity: &RecordIdentity,
        payload: &mut [u8],
        seal: &Seal,
    ) -> std::result::Result<(), SealMismatch> {
        self.open(record_nonce(), &identity.associated_data(), payload, seal)
    }

    /// Seals a frame in place.
    pub fn seal_frame(&self, index: u64, position: FramePosition, data: &mut [u8]) -> Seal {
        self.seal(frame_nonce(index, position), &self.object().0, data)
    }

    /// Opens a frame in place.
    pub fn open_frame(
        &self,
        index: u64,
        position: FramePosition,
        data: &mut [u8],
        seal: &Seal,
    ) -> std::result::Result<(), SealMismatch> {
        self.open(frame_nonce(index, position), &self.object().0, data, seal)
    }

    fn object(&self) -> ObjectId {
        match self {
            ObjectKey::Aes256Gcm { object, .. } | ObjectKey::Checksum { object } => *object,
        }
    }

    fn seal(&self, nonce: [u8; 12], associated: &[u8], data: &mut [u8]) -> Seal {
        match self {
            ObjectKey::Aes256Gcm { key, .. } => {
                let tag = key
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::from(associated),
                        data,
                    )
                    .expect("payloads and frames are far below what GCM seals");
                tag.as_ref().try_into().expect("GCM tags are 16 bytes")
            }
            ObjectKey::Checksum { .. } => checksum(nonce, associated, data),
        }
    }

    fn open(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        data: &mut [u8],
        seal: &Seal,
    ) -> std::result::Result<(), SealMismatch> {
        match self {
            ObjectKey::Aes256Gcm { key, .. } => key
                .open_in_place_separate_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(associated),
                    seal,
                    data,
                )
                .map(|_| ())
                .map_err(|_| SealMismatch),
            ObjectKey::Checksum { .. } if checksum(nonce, associated, data) == *seal => Ok(()),
            ObjectKey::Checksum { .. } => Err(SealMismatch),
        }
    }
}

fn checksum(nonce: [u8; 12], associated: &[u8], data: &[u8]) -> Seal {
    let mut hasher = Xxh3::new();
    hasher.update(&nonce);
    hasher.update(associated);
    hasher.update(data);
    hasher.digest128().to_le_bytes()
}

fn record_nonce() -> [u8; 12] {
    let mut nonce = [0u8; 12];
    nonce[0] = 1;
    nonce
}

fn frame_nonce(index: u64, position: FramePosition) -> [u8; 12] {
    let mut nonce = [0u8; 12];
    nonce[0] = 2;
    nonce[1] = match position {
        FramePosition::Middle => 0,
        FramePosition::Last => 1,
    };
    nonce[4..].copy_from_slice(&index.to_le_bytes());
    nonce
}

/// Which key new data of a namespace is sealed with: what a writer needs to know of a namespace.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The namespace.
    pub namespace: NamespaceId,
    /// Its newest key.
    pub key_version: KeyVersion,
    /// Whether it encrypts.
    pub seal_kind: SealKind,
}

impl Sealing {
    /// How the catalog's own records are sealed.
    pub fn catalog() -> Self {
        Sealing {
            namespace: CATALOG_NAMESPACE,
            key_version: CATALOG_KEY_VERSION,
            seal_kind: SealKind::Aes256Gcm,
        }
    }
}

impl From<&Namespace> for Sealing {
    fn from(namespace: &Namespace) -> Self {
        Sealing {
            namespace: namespace.id,
            key_version: namespace.keys.last().map_or(KeyVersion(0), |key| key.version),
            seal_kind: namespace.seal_kind,
        }
    }
}

impl Keyring {
    /// The key of an object.
    ///
    /// # Errors
    /// [`Error::Key`] when the namespace or its key is unknown, or unencrypted data is asked for where there can be none.
    pub fn object_key(
        &self,
        seal_kind: SealKind,
        namespace: NamespaceId,
        version: KeyVersion,
        object: ObjectId,
    ) -> Result<ObjectKey> {
        match seal_kind {
            SealKind::Checksum if self.unencrypted.read().expect("no holder panics").contains(&namespace) => {
                Ok(ObjectKey::Checksum { object })
            }
            SealKind::Checksum => Err(Error::Key { what: "unencrypted data of an encrypted namespace" }),
            SealKind::Aes256Gcm => {
                let derivers = self.derivers.read().expect("no holder panics");
                let unknown = Error::Key { what: "data of an unknown namespace" };
                let deriver = derivers.get(&(namespace, version)).ok_or(unknown)?;
                Ok(deriver.object_key(object))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(u8);

    impl Random for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    fn keyring() -> (Keyring, Namespace) {
        let keyring = Keyring::new(StoreId([7; 16]), MasterKey::new([9; 32]));
        let namespace =
            keyring.create_namespace(NamespaceId(1), "default", SealKind::Aes256Gcm, &mut Counting(0));
        (keyring, namespace)
    }

    fn object_key() -> ObjectKey {
        let (keyring, namespace) = keyring();
        keyring.add_namespace(&namespace).expect("unwraps");
        keyring
            .object_key(SealKind::Aes256Gcm, NamespaceId(1), KeyVersion(1), ObjectId([3; 16]))
            .expect("the namespace is known")
    }

    #[test]
    fn the_cached_derivation_is_hkdf_expand() {
        let key = [5u8; 32];
        let object = ObjectId([3; 16]);
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &key);
        let mut expected = [0u8; 32];
        prk.expand(&[OBJECT_KEY_LABEL, &object.0], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut expected))
            .expect("expands");
        let mut ours = *b"sixteen byte msg";
        let mut theirs = ours;
        let seal = Deriver::new(&key).object_key(object).seal_frame(4, FramePosition::Last, &mut ours);
        let reference = ObjectKey::Aes256Gcm { key: aead_key(&expected), object };
        assert_eq!((seal, ours), (reference.seal_frame(4, FramePosition::Last, &mut theirs), theirs));
    }

    #[test]
    fn a_frame_opens_in_its_own_place_only() {
        let key = object_key();
        let mut data = *b"attack at dawn!!";
        let seal = key.seal_frame(3, FramePosition::Middle, &mut data);
        assert_ne!(&data, b"attack at dawn!!");
        for (index, position) in [(4, FramePosition::Middle), (3, FramePosition::Last)] {
            assert_eq!(key.open_frame(index, position, &mut data.clone(), &seal), Err(SealMismatch));
        }
        key.open_frame(3, FramePosition::Middle, &mut data, &seal).expect("its own place");
        assert_eq!(&data, b"attack at dawn!!");
    }

    #[test]
    fn a_checksum_seal_finds_a_flipped_bit() {
        let key = ObjectKey::Checksum { object: ObjectId([1; 16]) };
        let mut data = vec![0u8; 100];
        let seal = key.seal_frame(0, FramePosition::Last, &mut data);
        assert_eq!(data, vec![0u8; 100]);
        data[50] ^= 1;
        assert_eq!(key.open_frame(0, FramePosition::Last, &mut data, &seal), Err(SealMismatch));
    }

    #[test]
    fn another_master_key_opens_nothing() {
        let (keyring, namespace) = keyring();
        let other = Keyring::new(StoreId([7; 16]), MasterKey::new([8; 32]));
        assert_eq!(other.add_namespace(&namespace), Err(Error::Key { what: "a namespace key" }));
        let check = keyring.master.check_value(StoreId([7; 16]));
        assert!(keyring.check(&check).is_ok() && other.check(&check).is_err());
    }

    #[test]
    fn a_wrapped_key_is_bound_to_its_namespace() {
        let (keyring, mut namespace) = keyring();
        namespace.id = NamespaceId(2);
        assert!(keyring.add_namespace(&namespace).is_err());
    }
}
