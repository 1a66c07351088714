//! What a shard keeps count of, for a check that counts it again.

use std::rc::Rc;

use super::Shard;
use super::state::BucketUsage;
use crate::device::Device;
use crate::format::checkpoint::Image;
use crate::ids::BucketId;
use crate::index::hash::HashIndex;
use crate::index::lsm::Lsm;

/// The counts of a shard, and what they are of.
pub(crate) struct Books<D: Device> {
    /// What finds records by hash.
    pub(crate) index: HashIndex,
    /// What has keys in order.
    pub(crate) directory: Rc<Lsm<D>>,
    /// Usage, floors, live bytes and uploads, as the next checkpoint would hold them.
    pub(crate) image: Image,
    /// Usage of buckets that are open, uploads included.
    pub(crate) usage: Vec<(BucketId, BucketUsage)>,
}

impl<D: Device> Shard<D> {
    /// Takes the counts out of a shard that serves nobody, and never will.
    pub(crate) fn take_books(&self) -> Books<D> {
        let mut state = self.state.borrow_mut();
        Books {
            image: state.image(),
            usage: state.usage(),
            directory: state.directory.clone(),
            index: std::mem::replace(&mut state.index, HashIndex::new(0)),
        }
    }
}
