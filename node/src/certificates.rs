//! The node's certificate as rustls wants it, and its replacement while the node runs.
//!
//! TLS 1.2 and 1.3 only; AES-256-GCM first whatever the client prefers (it costs about 1 % more than AES-128 and a
//! sixth of ChaCha20 on machines with AES instructions); X25519 and the X25519MLKEM768 hybrid as rustls has them.
//! Session tickets are stateless, so that every core takes those of every other, and there is one per connection.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};

/// Where the certificate and its key lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// Its private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
}

/// The TLS configuration in use; a reload replaces it for the connections to come.
pub struct Certificates {
    files: CertificateFiles,
    tickets: Arc<dyn ProducesTickets>,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file can't be read or isn't what it should be, or the two don't belong together.
    pub fn load(files: CertificateFiles) -> Result<Self, CertificateError> {
        let tickets = aws_lc_rs::Ticketer::new().map_err(CertificateError::Tickets)?;
        let current = RwLock::new(Arc::new(server_config(&files, tickets.clone())?));
        Ok(Certificates { files, tickets, current })
    }

    /// Reads the files again. On an error the former certificate stays in use.
    ///
    /// # Errors
    /// As for [`Certificates::load`].
    pub fn reload(&self) -> Result<(), CertificateError> {
        let config = Arc::new(server_config(&self.files, self.tickets.clone())?);
        *self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = config;
        Ok(())
    }

    /// The configuration for a new connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Where they come from.
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }
}

/// Why a certificate can't be used.
#[derive(Debug)]
pub enum CertificateError {
    /// A file can't be read, or holds no PEM section of the kind it should.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// "certificate" or "private key".
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate and the key don't go together, or rustls doesn't take them.
    Unusable {
        /// The two files.
        files: CertificateFiles,
        /// Why.
        source: rustls::Error,
    },
    /// No key for session tickets: the random source failed.
    Tickets(rustls::Error),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::Unreadable { path, what, source } => write!(
                f,
                "cannot read a {what} from {}: {source}; it must be a PEM file that holds a {what} and that this user may read",
                path.display()
            ),
            CertificateError::Unusable { files, source } => write!(
                f,
                "cannot use the certificate {} with the key {}: {source}; make sure that the key belongs to the first \
                 certificate of the file",
                files.certificate.display(),
                files.key.display()
            ),
            CertificateError::Tickets(source) => {
                write!(f, "cannot make a key for TLS session tickets: {source}")
            }
        }
    }
}

impl std::error::Error for CertificateError {}

/// The certificates in a PEM file, the node's own first.
///
/// # Errors
/// When the file can't be read or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unreadable =
        |source| CertificateError::Unreadable { path: path.to_owned(), what: "certificate", source };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(unreadable(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn server_config(
    files: &CertificateFiles,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, CertificateError> {
    let certificates = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| CertificateError::Unreadable {
        path: files.key.clone(),
        what: "private key",
        source,
    })?;
    let unusable = |source| CertificateError::Unusable { files: files.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(unusable)?;
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = 1;
    // Records are sealed in place by us once the handshake is done (see `stream::direct`).
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// aws-lc-rs, its AES-256 suites first.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let name = format!("{:?}", suite.suite());
        (!name.contains("AES_256"), name.contains("CHACHA"))
    });
    provider
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_256_comes_first_and_chacha_last() {
        let names: Vec<String> =
            provider().cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
        let position =
            |part: &str| names.iter().rposition(|name| name.contains(part)).expect("suite is offered");
        let first = |part: &str| names.iter().position(|name| name.contains(part)).expect("suite is offered");
        assert!(position("AES_256") < first("AES_128"), "{names:?}");
        assert!(position("AES_128") < first("CHACHA20"), "{names:?}");
    }

    #[test]
    fn a_missing_file_is_named_in_the_error() {
        let files = CertificateFiles { certificate: "/nowhere/c.pem".into(), key: "/nowhere/k.pem".into() };
        let error = Certificates::load(files).err().expect("there is no such file").to_string();
        assert!(error.contains("/nowhere/c.pem"), "{error}");
    }
}
