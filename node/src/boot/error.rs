//! Why a node can't start, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::ByteSize;

/// Why a node can't start.
#[derive(Debug)]
pub enum BootError {
    /// The data directory can't be made or found.
    DataDir {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another node holds the data directory.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file can't be read, written or looked at.
    File {
        /// The file.
        path: PathBuf,
        /// "read", "write", "lock" or "look at".
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Others may read a secret.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key isn't 64 hexadecimal digits.
    KeyMalformed {
        /// Where it comes from.
        origin: String,
    },
    /// The environment variable for the key isn't set.
    KeyVariable {
        /// Its name.
        name: String,
    },
    /// There are devices, but not their key.
    KeyMissing {
        /// Where it should be.
        path: PathBuf,
        /// A device that needs it.
        device: PathBuf,
    },
    /// The credentials file doesn't say what it should.
    CredentialsMalformed {
        /// The file.
        path: PathBuf,
    },
    /// A key of the local CA or certificate is no such key.
    CertificateKeyMalformed {
        /// The file.
        path: PathBuf,
    },
    /// The certificate can't be made.
    Certificate(rcgen::Error),
    /// The random source failed.
    Random,
    /// Not enough room for the device files.
    NoSpace {
        /// In this directory.
        directory: PathBuf,
        /// What they need together.
        needed: ByteSize,
        /// What is free.
        free: ByteSize,
    },
    /// A device path that is no file and no block device.
    NotADevice {
        /// The path.
        path: PathBuf,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::DataDir { path, source } => write!(
                f,
                "cannot use the data directory {}: {source}; choose another one with --data-dir",
                path.display()
            ),
            BootError::Locked { path } => write!(
                f,
                "another basalt-node uses this data directory ({} is locked); stop it, or choose another one with --data-dir",
                path.display()
            ),
            BootError::File { path, action, source } => write!(
                f,
                "cannot {action} {}: {source}; make sure that this user may, and that the disk is not full",
                path.display()
            ),
            BootError::Exposed { path, mode } => write!(
                f,
                "{0} is secret, but others may read it (mode {mode:04o}); run: chmod 600 {0}",
                path.display()
            ),
            BootError::KeyMalformed { origin } => write!(
                f,
                "the key from {origin} is not 64 hexadecimal digits; if it was damaged, put back your copy of it. For a new \
                 store, make one with: openssl rand -hex 32"
            ),
            BootError::KeyVariable { name } => write!(
                f,
                "store.key_source names the environment variable {name}, which is not set; set it to the key's 64 \
                 hexadecimal digits"
            ),
            BootError::KeyMissing { path, device } => write!(
                f,
                "the key {} is missing, but the device {} exists and can't be read without it; put back your copy of the \
                 key. To begin anew and lose all data, remove the devices",
                path.display(),
                device.display()
            ),
            BootError::CredentialsMalformed { path } => write!(
                f,
                "{} must have a section [default] with aws_access_key_id and aws_secret_access_key; correct it, or remove \
                 it to get a new access key",
                path.display()
            ),
            BootError::CertificateKeyMalformed { path } => write!(
                f,
                "{} is not a private key in PEM; put back your copy, or remove it to get a new one (clients must then trust \
                 the new ca.pem)",
                path.display()
            ),
            BootError::Certificate(source) => write!(
                f,
                "cannot make a certificate: {source}; check node.domains, or set tls.certificate and tls.key"
            ),
            BootError::Random => f.write_str("the system's random source failed; no key can be made"),
            BootError::NoSpace { directory, needed, free } => write!(
                f,
                "the device files need {needed} in {}, where {free} are free; set store.device_size to less, or choose \
                 another place with --data-dir or store.devices",
                directory.display()
            ),
            BootError::NotADevice { path } => {
                write!(f, "{} is neither a file nor a block device; correct store.devices", path.display())
            }
        }
    }
}

impl std::error::Error for BootError {}
