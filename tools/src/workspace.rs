//! Where the repository and its build products are.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Failure};

/// The folder of the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A binary that cargo has built.
pub fn binary(profile: &str, name: &str) -> PathBuf {
    // Cargo calls the folder of its `dev` profile otherwise.
    let folder = if profile == "dev" { "debug" } else { profile };
    target().join(folder).join(name)
}

/// Builds what is run against each other. Always all of it: cargo builds a dependency once more for each set of features, and the set is that of the packages
/// that it is asked for together.
///
/// # Errors
/// When it can't be built; cargo has said why.
pub fn build_binaries(profile: &str) -> Result<(), Failure> {
    let mut build = cargo();
    build.args(["build", "--profile", profile]);
    for (package, binary) in [("node", "basalt-node"), ("tools", "basalt"), ("loadtest", "loadtest")] {
        build.args(["--package", package, "--bin", binary]);
    }
    step::run("build", &mut build)
}

/// The cargo that runs us, in the workspace's folder.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    command
}

/// Whether a program is on the `PATH`, and where.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
