//! How keys are found: by hash for one object, in order for listings.
//!
//! - [`hash`]: (bucket, key) to the place of its record, in memory.
//! - [`lsm`]: an ordered map on the devices, which the key directory lies in.
//! - [`directory`]: what listings ask of it.

mod bins;
mod blocks;
pub mod directory;
pub mod hash;
mod location;
pub mod lsm;
