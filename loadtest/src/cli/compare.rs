//! `loadtest compare`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use loadtest::load::{Report, compare};

use super::{at, invalid};

#[derive(Args)]
pub struct Arguments {
    /// The report to measure against
    a: PathBuf,
    /// The report to measure
    b: PathBuf,
}

pub fn run(arguments: &Arguments) -> io::Result<ExitCode> {
    let (a, b) = (read(&arguments.a)?, read(&arguments.b)?);
    let mut comparison = compare(&a, &b);
    comparison.names = (arguments.a.display().to_string(), arguments.b.display().to_string());
    write!(io::stdout(), "{comparison}")?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> io::Result<Report> {
    let text = fs::read_to_string(path).map_err(|error| at(path, &error))?;
    Report::from_json(&text)
        .map_err(|error| invalid(format!("{}: not a report of loadtest run --json: {error}", path.display())))
}
