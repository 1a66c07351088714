//! The administrator's command line: looks at devices, checks stores, lays out new ones. Never on a store that a node has open.

use std::process::ExitCode;

use clap::Parser;
use tools::basalt::{self, Basalt};

fn main() -> ExitCode {
    ExitCode::from(basalt::run(Basalt::parse()))
}
