//! The catalog: namespaces, users, access keys and buckets.
//!
//! It belongs to shard 0, whose log holds every change. What the cores see is an immutable snapshot ([`std::sync::Arc`]): a change makes a new one,
//! and is answered after every core has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::format::catalog::{AccessKey, Bucket, CatalogChange, Namespace, User};
use crate::ids::{BucketId, NamespaceId, ShardId, UserId};

/// A state of the catalog.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Namespaces by id.
    pub namespaces: BTreeMap<NamespaceId, Arc<Namespace>>,
    /// Users by id.
    pub users: BTreeMap<UserId, Arc<User>>,
    /// Access keys by their public half.
    pub access_keys: HashMap<String, Arc<AccessKey>>,
    /// Buckets by name.
    pub buckets: BTreeMap<String, Arc<Bucket>>,
    names: HashMap<BucketId, String>,
    /// The highest bucket id ever given.
    last_bucket: BucketId,
    /// Changes made so far: tells the newer of two snapshots.
    generation: u64,
}

impl Catalog {
    /// Makes the change.
    pub(crate) fn apply(&mut self, change: CatalogChange) {
        self.generation += 1;
        match change {
            CatalogChange::PutNamespace(namespace) => {
                self.namespaces.insert(namespace.id, Arc::new(namespace));
            }
            CatalogChange::PutUser(user) => {
                self.users.insert(user.id, Arc::new(user));
            }
            CatalogChange::PutAccessKey(key) => {
                self.access_keys.insert(key.id.clone(), Arc::new(key));
            }
            CatalogChange::PutBucket(bucket) => {
                self.last_bucket = self.last_bucket.max(bucket.id);
                self.names.insert(bucket.id, bucket.name.clone());
                self.buckets.insert(bucket.name.clone(), Arc::new(bucket));
            }
            CatalogChange::RemoveBucket(id) => {
                if let Some(name) = self.names.remove(&id) {
                    self.buckets.remove(&name);
                }
            }
        }
    }

    /// Changes that led to this snapshot: the higher of two is the newer.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether that bucket exists.
    pub fn has_bucket(&self, id: BucketId) -> bool {
        self.names.contains_key(&id)
    }

    /// An id that no bucket ever had.
    pub(crate) fn next_bucket_id(&self) -> BucketId {
        BucketId(self.last_bucket.0 + 1)
    }

    /// Whether it has nothing at all: the store was just formatted.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }
}

/// The shard that a bucket is homed on: by hash of its id, so that buckets spread whatever their names.
pub fn choose_home(bucket: BucketId, shard_count: u16) -> ShardId {
    let hash = xxhash_rust::xxh3::xxh3_64(&bucket.0.to_le_bytes());
    ShardId((hash % u64::from(shard_count)) as u16)
}
