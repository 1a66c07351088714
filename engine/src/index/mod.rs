//! How keys are found: by hash for one object, in order for listings.
//!
//! - [`hash`]: (bucket, key) to the place of its record, in memory.
//! - [`directory`]: the ordered keys of a bucket, with what a listing shows.

pub mod directory;
pub mod hash;
