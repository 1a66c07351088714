//! Where the server is, and whom the client trusts to be it.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The certificates of the system, where Debian, Ubuntu, Alpine and Arch keep them.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Who vouches for an `https` server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// The certificate authorities of this machine.
    System,
    /// The certificate authorities in this PEM file.
    File(&'a Path),
    /// Nobody: any certificate will do.
    Anyone,
}

/// A parsed and ready `http://host:port` or `https://host:port`.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Endpoint {
    /// Reads the URL, and the certificate authorities that `trust` names.
    pub fn new(url: &str, trust: Trust<'_>) -> io::Result<Self> {
        let (is_tls, authority) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(invalid(format!("{url}: an endpoint starts with http:// or https://"))),
        };
        let authority = authority.trim_end_matches('/');
        let default_port = if is_tls { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().map_err(|_| invalid(format!("{url}: {port} is not a port")))?;
                (host, port)
            }
            _ => (authority, default_port),
        };
        if host.is_empty() || host.contains('/') {
            return Err(invalid(format!("{url}: an endpoint is a host and a port, without a path")));
        }
        let tls = if is_tls { Some((server_name(host)?, Arc::new(client_config(trust)?))) } else { None };
        Ok(Self { host: host.to_owned(), port, tls })
    }

    /// The value of the `Host` header: with the port, unless it is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        match (self.tls.is_some(), self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(name).map_err(|_| invalid(format!("{host} is not a host name")))
}

fn client_config(trust: Trust<'_>) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyone { provider }))
        }
        Trust::System => builder.with_root_certificates(read_roots(Path::new(SYSTEM_CERTIFICATES))?),
        Trust::File(path) => builder.with_root_certificates(read_roots(path)?),
    };
    Ok(config.with_no_client_auth())
}

fn read_roots(path: &Path) -> io::Result<RootCertStore> {
    let explain =
        |what: String| invalid(format!("{}: {what} (give --ca FILE or --insecure)", path.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| explain(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| explain(error.to_string()))?;
        roots.add(certificate).map_err(|error| explain(error.to_string()))?;
    }
    if roots.is_empty() { Err(explain("holds no certificate".into())) } else { Ok(roots) }
}

/// `--insecure`: believes any certificate, yet still checks that the server holds its key.
#[derive(Debug)]
struct AcceptAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_part_of_the_host_header_unless_it_is_the_default() {
        let authority = |url| Endpoint::new(url, Trust::Anyone).unwrap().authority();
        assert_eq!(authority("https://127.0.0.1:9000/"), "127.0.0.1:9000");
        assert_eq!(authority("https://s3.example.org"), "s3.example.org");
        assert_eq!(authority("http://localhost:443"), "localhost:443");
        assert_eq!(authority("https://[::1]:9000"), "[::1]:9000");
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for url in ["127.0.0.1:9000", "https://", "https://host:port", "http://host/path", "ftp://host"] {
            assert!(Endpoint::new(url, Trust::Anyone).is_err(), "{url}");
        }
    }
}
