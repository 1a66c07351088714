//! Compaction: choosing sealed segments and moving their live records out, so that what was overwritten and deleted makes room again.
//!
//! - [`choose`]: which segments, a pure function of what is known of them.

pub mod choose;
