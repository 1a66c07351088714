//! Those that are compared. Each runs the loads as its own documentation would have them written, with the ring flags that it allows.

use std::net::SocketAddr;

use clap::ValueEnum;

use crate::load::{Bench, Load};

mod compio;
mod glommio;
mod monoio;
mod plain;
mod tokio_uring;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Contender {
    /// A ring and a loop, no runtime
    Plain,
    /// What a node is built on
    Compio,
    /// ByteDance's
    Monoio,
    /// tokio's
    TokioUring,
    /// Datadog's
    Glommio,
}

/// The lock file, for the releases that were built.
const LOCK: &str = include_str!("../../Cargo.lock");

impl Contender {
    /// Its crate.
    fn package(self) -> &'static str {
        match self {
            Contender::Plain => "io-uring",
            Contender::Compio => "compio",
            Contender::Monoio => "monoio",
            Contender::TokioUring => "tokio-uring",
            Contender::Glommio => "glommio",
        }
    }

    /// Its crate and the release.
    pub fn title(self) -> String {
        let start = format!("name = \"{}\"\nversion = \"", self.package());
        // Of two releases the newer stands last.
        let version = LOCK.rsplit(&start).next().and_then(|rest| rest.split('"').next());
        format!("{} {}", self.package(), version.unwrap_or("?"))
    }

    /// Runs a load until the meter ends the process.
    pub fn run(self, load: Load, bench: &'static Bench) {
        match self {
            Contender::Plain => plain::run(load, bench),
            Contender::Compio => compio::run(load, bench),
            Contender::Monoio => monoio::run(load, bench),
            Contender::TokioUring => tokio_uring::run(load, bench),
            Contender::Glommio => glommio::run(load, bench),
        }
    }
}

/// Tells the one who started this process where to connect.
fn announce(address: SocketAddr) {
    println!("listening {address}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_is_in_the_lock_file() {
        for contender in Contender::value_variants() {
            let title = contender.title();
            let version = title.split(' ').nth(1).expect("a version");
            assert!(version.starts_with("0."), "{title}");
        }
        assert!(Contender::Plain.title().starts_with("io-uring 0.7"));
    }
}
