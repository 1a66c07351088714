//! What `cargo xtask` and `basalt` do, as a library so that it can be tested.
//!
//! - [`arrows`]: which crate may use which
//! - [`format`](mod@format): the page on the format on disk
//! - [`fuzz`]: the fuzz targets under libFuzzer
//! - [`step`]: runs a command, says how long it took
//! - [`basalt`]: the administrator's command line
//! - [`clients`]: real S3 clients against a node
//! - [`perf`]: Basalt beside nginx and fio
//! - [`sim`]: simulated lives of the engine
//! - [`vm`]: tests in a virtual machine whose kernel has what this one may lack
//! - [`workspace`]: where things are

pub mod arrows;
pub mod basalt;
pub mod bench;
pub mod clients;
pub mod format;
pub mod fuzz;
pub mod perf;
mod server;
pub mod sim;
pub mod step;
pub mod vm;
pub mod workspace;
