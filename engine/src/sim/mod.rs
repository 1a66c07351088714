//! The simulator: the real engine on simulated devices, in virtual time, with faults, judged by a model. A seed is a whole world.
//!
//! ```text
//! run        a life: sessions of clients that end in crashes          faults    what may go wrong, and the rule that bounds it
//!  workload  clients: requests, each held against the model           device    durable, cached and flying pages
//!   machine  the engine's calls; the only file that knows them        executor  tasks and virtual time, ordered by the seed
//!  check     looks at everything; versions: buckets with versions      chance    random numbers of a seed
//!  audit     checks every copy on the devices between two lives        trace     the hash of all that happened
//!   oracle   judges answers                                           bugs      mistakes that the simulator must catch
//!    model   what may be found
//! ```
//! The cut is at the device: log, recovery, segments, index and crypto are the real ones. See `docs/simulation.md`.

#[cfg(feature = "sim")]
mod audit;
pub mod bugs;
#[cfg(feature = "sim")]
mod chance;
#[cfg(feature = "sim")]
mod check;
#[cfg(feature = "sim")]
mod device;
#[cfg(feature = "sim")]
mod executor;
#[cfg(feature = "sim")]
mod faults;
#[cfg(feature = "sim")]
mod machine;
#[cfg(feature = "sim")]
mod model;
#[cfg(feature = "sim")]
mod oracle;
#[cfg(feature = "sim")]
mod run;
#[cfg(feature = "sim")]
mod trace;
#[cfg(feature = "sim")]
mod versions;
#[cfg(feature = "sim")]
mod workload;

#[cfg(feature = "sim")]
pub use bugs::Bug;
#[cfg(feature = "sim")]
pub use faults::Fault;
#[cfg(feature = "sim")]
pub use run::{Options, Outcome, run};
