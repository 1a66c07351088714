//! One module per command.

pub mod compare;
pub mod crash;
pub mod rate_target;
pub mod run;
pub mod server;

use std::fs;
use std::io;
use std::path::Path;

/// Wrong data.
pub const EXIT_WRONG_DATA: u8 = 3;
/// The buckets do not hold their rate; in a search, not even one does.
pub const EXIT_RATE_MISSED: u8 = 4;

pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes).map_err(|error| at(path, &error))
}

pub fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

pub fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}
