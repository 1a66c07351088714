//! The administrator's command line.
//!
//! - [`fsck`]: checks a whole store, and changes nothing
//! - [`inspect`]: shows what is on devices
//! - [`layout`]: makes a store
//! - [`key`]: reads a key file
//! - [`open`]: opens devices

pub mod fsck;
pub mod inspect;
pub mod key;
pub mod layout;
pub mod open;

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Exit status: nothing is wrong.
pub const CLEAN: u8 = 0;

/// Exit status: something is damaged that another copy has.
pub const REPAIRABLE: u8 = 1;

/// Exit status: something is lost, or contradicts itself.
pub const LOST: u8 = 2;

/// Exit status: the command could not be carried out.
pub const FAILED: u8 = 3;

/// Looks at the devices of a Basalt store, checks them, lays out new ones. The node must not be running: a device that it has open is refused.
#[derive(Debug, Parser)]
#[command(name = "basalt", version)]
pub struct Basalt {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check a whole store, and change nothing
    Fsck(fsck::Options),
    /// Show what is on the devices
    Inspect(inspect::Options),
    /// Lay out a new store
    Format(layout::Options),
}

/// The devices that a command is about.
#[derive(Clone, Debug, Args)]
pub struct Devices {
    /// A device or device file of the store; name all of them, in any order
    #[arg(long = "device", value_name = "PATH", required = true, num_args = 1..)]
    pub paths: Vec<PathBuf>,
}

/// Why a command could not be carried out; the text says what to do.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<engine::device::OpenError> for Failure {
    fn from(error: engine::device::OpenError) -> Self {
        Failure(error.to_string())
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Failure(error.to_string())
    }
}

/// Carries out a command; its exit status.
pub fn run(basalt: Basalt) -> u8 {
    let done = match basalt.verb {
        Verb::Fsck(options) => fsck::run(&options),
        Verb::Inspect(options) => inspect::run(&options).map(|()| CLEAN),
        Verb::Format(options) => layout::run(&options).map(|()| CLEAN),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("basalt: {failure}");
        FAILED
    })
}

/// Prints a line of a command's result. That nobody reads it any more is no failure.
fn print(line: impl fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
