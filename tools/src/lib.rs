//! What `cargo xtask` does, as a library so that it can be tested.
//!
//! - [`arrows`]: which crate may use which
//! - [`step`]: runs a command, says how long it took
//! - [`clients`]: real S3 clients against a node
//! - [`workspace`]: where things are

pub mod arrows;
pub mod clients;
pub mod step;
pub mod workspace;
