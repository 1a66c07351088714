//! What a start needs before any core runs: the data directory with its key, certificates and credentials, and where
//! the devices are. Made at the first start, found again at every other one.
//!
//! ```text
//!  <data_dir>/            0700
//!    lock                 held while a node runs
//!    key                  0600  the master key, 64 hexadecimal digits
//!    ca.pem, ca-key.pem   (key 0600) the local certificate authority; clients trust ca.pem
//!    certificate.pem, certificate-key.pem  (key 0600) the node's own
//!    credentials          0600  the first access key, as the AWS tools read it
//!    device-0.basalt ...  unless the configuration names other devices
//! ```
//! Every file appears whole or not at all, so a crash at any point leaves what the next start goes on from.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::certificates::CertificateFiles;
use crate::config::Config;

mod banner;
mod certificate;
mod credentials;
mod devices;
mod error;
mod files;
mod key;

pub use banner::banner;
pub use certificate::LocalCertificate;
pub use credentials::Credentials;
pub use devices::{DeviceContent, DevicePlan};
pub use error::BootError;
pub use key::MasterKey;

/// What a start has found or made.
#[derive(Debug)]
pub struct Boot {
    /// The data directory, as an absolute path.
    pub data_dir: PathBuf,
    /// The key that wraps all others.
    pub key: MasterKey,
    /// The first access key.
    pub credentials: Credentials,
    /// The certificate to serve with.
    pub certificate_files: CertificateFiles,
    /// The generated certificate, when that is the one; it is renewed by calling `ensure` again.
    pub local_certificate: Option<LocalCertificate>,
    /// The devices, in the order of the configuration.
    pub devices: Vec<DevicePlan>,
    /// Keeps a second node out of the data directory.
    _lock: File,
}

impl Boot {
    /// Makes what is missing, and reads the rest.
    ///
    /// # Errors
    /// Each says what to do.
    pub fn prepare(config: &Config) -> Result<Boot, BootError> {
        let data_dir = create_data_dir(&config.node.data_dir)?;
        let lock = files::lock(&data_dir.join("lock"))?;
        let devices = devices::plan(config, &data_dir)?;
        let key = key::obtain(config, &data_dir, &devices)?;
        let credentials = credentials::obtain(&data_dir.join("credentials"))?;
        let (certificate_files, local_certificate) = match (&config.tls.certificate, &config.tls.key) {
            (Some(certificate), Some(key)) => {
                (CertificateFiles { certificate: certificate.clone(), key: key.clone() }, None)
            }
            _ => {
                let local = LocalCertificate::new(&data_dir, certificate::names(config));
                local.ensure(jiff::Timestamp::now())?;
                (local.files(), Some(local))
            }
        };
        Ok(Boot { data_dir, key, credentials, certificate_files, local_certificate, devices, _lock: lock })
    }
}

fn create_data_dir(path: &Path) -> Result<PathBuf, BootError> {
    use std::os::unix::fs::DirBuilderExt;

    let failed = |source: io::Error| BootError::DataDir { path: path.to_owned(), source };
    if !path.is_dir() {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
    }
    path.canonicalize().map_err(failed)
}

#[cfg(test)]
mod tests;
