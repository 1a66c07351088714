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

    /// The changes that make this catalog, in an order that a decoder can follow: what a checkpoint stores.
    pub(crate) fn changes(&self) -> Vec<CatalogChange> {
        let mut keys: Vec<&Arc<AccessKey>> = self.access_keys.values().collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        let namespaces = self.namespaces.values().map(|n| CatalogChange::PutNamespace(n.as_ref().clone()));
        let users = self.users.values().map(|user| CatalogChange::PutUser(user.as_ref().clone()));
        let keys = keys.into_iter().map(|key| CatalogChange::PutAccessKey(key.as_ref().clone()));
        let buckets = self.buckets.values().map(|bucket| CatalogChange::PutBucket(bucket.as_ref().clone()));
        namespaces.chain(users).chain(keys).chain(buckets).collect()
    }

    /// The catalog that those changes make. Buckets that are gone have used up ids too.
    pub(crate) fn restore(changes: Vec<CatalogChange>, last_bucket: BucketId) -> Self {
        let mut catalog = Catalog { last_bucket, ..Catalog::default() };
        changes.into_iter().for_each(|change| catalog.apply(change));
        catalog
    }

    /// The highest bucket id ever given.
    pub(crate) fn last_bucket(&self) -> BucketId {
        self.last_bucket
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
