//! What is on the devices of a store, for people to look at: read-only, and no more of it than was asked for.
//!
//! Without a key there are superblocks, headers and pointers ([`Headers`]); with it also what is sealed ([`Opened`]). A store that does not open as a
//! whole can still be looked at: nothing is checked beyond the thing that is shown.

mod headers;
mod opened;

pub use headers::{Headers, Slot};
pub use opened::{CheckpointView, Opened, RecordCopy};
