//! Rate targets: what each bucket is guaranteed, what it may take at most, and who goes first when a core is busy.
//!
//! ```text
//!  request ─> ceiling ──(over it)──> 503 SlowDown, Retry-After
//!               └─> meter ─> committed ─┐        ┌─ room: at once
//!                       └──> surplus ───┴─> gate ┤
//!                                                └─ none: wait; committed by deadline, then surplus in turns by cost
//! ```
//! Meters are shared by all cores, a word of memory each, so that a guarantee holds wherever a bucket's connections are and a ceiling is one ceiling. The
//! gate is each core's own. Meters and queue know no clock: time is an argument, in nanoseconds since the node started.

mod account;
mod gate;
mod meter;
mod neighbours;
mod queue;
mod table;
mod tally;
mod targets;

pub use account::{Account, Standing};
pub use gate::{Gate, Leave, Refused};
pub use table::{Rates, is_bucket_name};
pub use targets::{Class, Targets, Wanted};
