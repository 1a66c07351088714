//! Benches, by the name of what they are of: those on a real store print tables of their own, the others are criterion's.

use clap::{Args, ValueEnum};

use crate::step::{self, Failure};
use crate::workspace;

/// Which benches, and how large.
#[derive(Args)]
pub struct Options {
    /// Which; all when none is named
    names: Vec<Name>,
    /// Versions of the store, or entries of the index
    #[arg(long)]
    entries: Option<u64>,
    /// Size of the store that is compacted, in MiB
    #[arg(long)]
    size: Option<u64>,
    /// More options for the benches, after --
    #[arg(last = true)]
    more: Vec<String>,
}

/// A bench.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// A store of many small versions: start, memory, pages, reads
    Store,
    /// A full store that is overwritten: write and space amplification
    Compaction,
    /// The choice of victims, in a model
    CompactionModel,
    /// The hash index alone, at full size
    IndexScale,
    /// The hash index
    Index,
    /// The ordered map on disk
    Directory,
    /// Frames and records: seals and encoding
    Seal,
    /// Objects in frames: written, read, and 4 KiB of them read.
    LargeObjects,
    /// AES-256-GCM of three libraries
    Ciphers,
    /// Puts that are committed together, on a device in memory
    Commit,
    /// Heads, signatures, chunked bodies and XML
    Protocol,
    /// MD5 in lanes
    Md5,
    /// Calls between cores
    Mesh,
}

/// Versions of the store when none are given: what a start within two seconds is promised for.
const STORE_ENTRIES: u64 = 10_000_000;

impl Name {
    fn target(self) -> &'static str {
        match self {
            Name::Store => "store_scale",
            Name::Compaction => "compaction",
            Name::CompactionModel => "compaction_model",
            Name::IndexScale => "index_scale",
            Name::Index => "index",
            Name::Directory => "directory",
            Name::Seal => "seal",
            Name::LargeObjects => "large_objects",
            Name::Ciphers => "ciphers",
            Name::Commit => "commit",
            Name::Protocol => "protocol",
            Name::Md5 => "md5",
            Name::Mesh => "mesh",
        }
    }

    fn options(self, given: &Options) -> Vec<String> {
        let option = |name: &str, value: Option<u64>| {
            value.map(|value| vec![format!("--{name}"), value.to_string()]).unwrap_or_default()
        };
        match self {
            Name::Store => option("entries", given.entries.or(Some(STORE_ENTRIES))),
            Name::IndexScale => option("entries", given.entries),
            Name::Compaction => option("size", given.size),
            _ => Vec::new(),
        }
    }
}

/// Runs them one after the other, in release.
pub fn run(options: &Options) -> Result<(), Failure> {
    let names = if options.names.is_empty() { Name::value_variants() } else { &options.names };
    for name in names {
        let mut command = workspace::cargo();
        command.args(["bench", "--package", "benches", "--bench", name.target(), "--"]);
        command.args(name.options(options)).args(&options.more);
        step::run(name.target(), &mut command)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bench_has_a_name() {
        let manifest =
            std::fs::read_to_string(workspace::root().join("benches/Cargo.toml")).expect("readable");
        let manifest: toml::Table = manifest.parse().expect("a manifest");
        let mut declared: Vec<&str> = manifest["bench"]
            .as_array()
            .expect("benches")
            .iter()
            .filter_map(|of| of["name"].as_str())
            .collect();
        let mut named: Vec<&str> = Name::value_variants().iter().map(|name| name.target()).collect();
        declared.sort_unstable();
        named.sort_unstable();
        assert_eq!(named, declared);
    }
}
