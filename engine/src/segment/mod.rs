//! Segments: the unit of append, placement and reclaim.
//!
//! - [`table`]: the state of every segment, shared by all cores without locks on the data path.
//! - [`bulk`]: a core's stream of frames.

pub mod bulk;
pub mod table;
