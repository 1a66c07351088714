//! Segments: the unit of append, placement and reclaim.
//!
//! - [`table`]: the state of every segment, shared by all cores without locks on the data path; of `entry`s, and of the `slots` that are free.
//! - [`bulk`]: a core's stream of frames.

pub mod bulk;
mod entry;
mod slots;
pub mod table;
