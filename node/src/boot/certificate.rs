//! A local certificate authority and the node's certificate from it, for those who have none of their own.
//!
//! A certificate is kept while it can be: it belongs to its key, the CA's key has signed it, it names every name that
//! clients may call us by, and it is good for another 30 days. Else there is a new one, for the same key. The CA's key
//! stays for good, so that clients which trust `ca.pem` go on trusting us; `ca.pem` is written anew with every
//! certificate, and so never gets old.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::{BootError, files};
use crate::certificates::{CertificateFiles, read_certificates};
use crate::config::Config;

/// Days that a certificate is good for. Some clients refuse more than 398.
const CERTIFICATE_DAYS: i64 = 397;

/// Days that a copy of `ca.pem` is good for.
const CA_DAYS: i64 = 20 * 365;

/// A certificate with less time left is renewed.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// The generated certificate of a data directory.
#[derive(Clone, Debug)]
pub struct LocalCertificate {
    data_dir: PathBuf,
    names: Vec<String>,
}

impl LocalCertificate {
    /// For `names`: DNS names, some beginning with `*.`, and IP addresses.
    pub fn new(data_dir: &Path, names: Vec<String>) -> Self {
        LocalCertificate { data_dir: data_dir.to_owned(), names }
    }

    /// Where it is.
    pub fn files(&self) -> CertificateFiles {
        CertificateFiles {
            certificate: self.data_dir.join("certificate.pem"),
            key: self.data_dir.join("certificate-key.pem"),
        }
    }

    /// The certificate that clients must trust.
    pub fn ca_path(&self) -> PathBuf {
        self.data_dir.join("ca.pem")
    }

    /// Makes or renews what is not there, not fitting, or too old; answers whether there is a new certificate.
    ///
    /// # Errors
    /// When a file can't be read or written, or the random source fails.
    pub fn ensure(&self, now: Timestamp) -> Result<bool, BootError> {
        let ca_key = obtain_key(&self.data_dir.join("ca-key.pem"))?;
        let key = obtain_key(&self.files().key)?;
        if self.is_fitting(now) {
            return Ok(false);
        }
        let ca = ca_params(now)?;
        let issuer = Issuer::from_params(&ca, &ca_key);
        let certificate = self.params(now)?.signed_by(&key, &issuer).map_err(BootError::Certificate)?;
        let ca = ca.self_signed(&ca_key).map_err(BootError::Certificate)?;
        files::write(&self.ca_path(), ca.pem().as_bytes(), files::PUBLIC)?;
        files::write(&self.files().certificate, certificate.pem().as_bytes(), files::PUBLIC)?;
        Ok(true)
    }

    /// Whether the certificate that is there will do for another while.
    fn is_fitting(&self, now: Timestamp) -> bool {
        let (Ok(chain), Ok(ca)) =
            (read_certificates(&self.files().certificate), read_certificates(&self.ca_path()))
        else {
            return false;
        };
        let Ok(key) = PrivateKeyDer::from_pem_file(self.files().key) else { return false };
        let mut roots = RootCertStore::empty();
        let (Ok(certificate), Ok(())) = (ParsedCertificate::try_from(&chain[0]), roots.add(ca[0].clone()))
        else {
            return false;
        };
        let provider = aws_lc_rs::default_provider();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds) + RENEWAL);
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], then, algorithms).is_ok()
            && self.names.iter().all(|name| is_named(&certificate, name))
            && CertifiedKey::from_der(chain.clone(), key, &provider).is_ok()
    }

    fn params(&self, now: Timestamp) -> Result<CertificateParams, BootError> {
        let mut params = CertificateParams::new(self.names.clone()).map_err(BootError::Certificate)?;
        params.distinguished_name = distinguished_name("Basalt node");
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut params, now, CERTIFICATE_DAYS);
        Ok(params)
    }
}

/// The names that clients may call the node by: this machine's own, those it listens on, and the configured domains.
pub fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(host_name());
    let listens = config.node.listen.iter().map(|address| address.0.ip()).filter(|ip| !ip.is_unspecified());
    names.extend(listens.map(|ip| ip.to_string()));
    for domain in &config.node.domains {
        names.extend([domain.clone(), format!("*.{domain}")]);
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// What the machine calls itself, if that can stand in a certificate.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    let is_dns_name = matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)));
    is_dns_name.then_some(name)
}

fn is_named(certificate: &ParsedCertificate<'_>, name: &str) -> bool {
    let asked = name.strip_prefix("*.").map_or_else(|| name.to_owned(), |domain| format!("any.{domain}"));
    let server_name = match asked.parse::<IpAddr>() {
        Ok(ip) => ServerName::IpAddress(ip.into()),
        Err(_) => match ServerName::try_from(asked) {
            Ok(server_name) => server_name,
            Err(_) => return false,
        },
    };
    verify_server_name(certificate, &server_name).is_ok()
}

/// The same at every start, so that what an earlier CA certificate signed stays valid under a later one.
fn ca_params(now: Timestamp) -> Result<CertificateParams, BootError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(BootError::Certificate)?;
    params.distinguished_name = distinguished_name("Basalt local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, CA_DAYS);
    Ok(params)
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// From yesterday (clocks differ) for so many days.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let date = |offset: i64| {
        let date = today.checked_add(Span::new().days(offset)).unwrap_or(jiff::civil::Date::MAX);
        let part = |value: i8| u8::try_from(value).expect("months and days are positive");
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    params.not_before = date(-1);
    params.not_after = date(days - 1);
}

fn obtain_key(path: &Path) -> Result<KeyPair, BootError> {
    if let Some(pem) = files::read_secret(path)? {
        return KeyPair::from_pem(&pem)
            .map_err(|_| BootError::CertificateKeyMalformed { path: path.to_owned() });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(BootError::Certificate)?;
    files::write(path, key.serialize_pem().as_bytes(), files::SECRET)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::ToSpan;

    use super::*;

    fn local(directory: &Path, names: &[&str]) -> LocalCertificate {
        LocalCertificate::new(directory, names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn hours(count: i64) -> Span {
        count.hours()
    }

    #[test]
    fn a_certificate_is_kept_until_30_days_before_its_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let local = local(directory.path(), &["localhost", "127.0.0.1"]);
        let now = Timestamp::now();
        assert!(local.ensure(now).expect("made"));
        assert!(!local.ensure(now).expect("kept"));
        assert!(!local.ensure(now + hours(24 * (CERTIFICATE_DAYS - 32))).expect("kept"));
        assert!(local.ensure(now + hours(24 * (CERTIFICATE_DAYS - 30))).expect("renewed"));
    }

    #[test]
    fn a_renewed_certificate_is_trusted_by_those_who_trust_the_first_ca_certificate() {
        let directory = tempfile::tempdir().expect("a directory");
        let local = local(directory.path(), &["localhost"]);
        let now = Timestamp::now();
        local.ensure(now).expect("made");
        let first_ca = fs::read(local.ca_path()).expect("there");
        let later = now + hours(24 * 390);
        assert!(local.ensure(later).expect("renewed"));
        assert_ne!(fs::read(local.ca_path()).expect("there"), first_ca);
        fs::write(local.ca_path(), first_ca).expect("put back");
        assert!(local.is_fitting(later), "the first CA certificate has not signed the second certificate");
    }

    #[test]
    fn a_new_name_makes_a_new_certificate() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = Timestamp::now();
        local(directory.path(), &["localhost"]).ensure(now).expect("made");
        let more =
            local(directory.path(), &["localhost", "s3.example.com", "*.s3.example.com", "2001:db8::1"]);
        assert!(more.ensure(now).expect("made"));
        assert!(!more.ensure(now).expect("kept"));
    }

    #[test]
    fn a_crash_between_the_files_is_mended() {
        let directory = tempfile::tempdir().expect("a directory");
        let local = local(directory.path(), &["localhost"]);
        let now = Timestamp::now();
        local.ensure(now).expect("made");
        for lost in ["certificate-key.pem", "certificate.pem", "ca.pem"] {
            fs::remove_file(directory.path().join(lost)).expect("there");
            assert!(local.ensure(now).expect("mended"), "{lost}");
            assert!(!local.ensure(now).expect("kept"), "{lost}");
        }
    }

    #[test]
    fn a_lost_ca_key_leaves_the_certificate_in_use_until_its_renewal() {
        let directory = tempfile::tempdir().expect("a directory");
        let local = local(directory.path(), &["localhost"]);
        let now = Timestamp::now();
        local.ensure(now).expect("made");
        fs::remove_file(directory.path().join("ca-key.pem")).expect("there");
        assert!(!local.ensure(now).expect("kept"));
        assert!(local.ensure(now + hours(24 * 390)).expect("renewed"));
        assert!(local.is_fitting(now + hours(24 * 390)), "by a new CA");
    }

    #[test]
    fn a_damaged_key_is_named_not_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let local = local(directory.path(), &["localhost"]);
        files::write(&directory.path().join("ca-key.pem"), b"nonsense", files::SECRET).expect("written");
        let error = local.ensure(Timestamp::now()).expect_err("no key").to_string();
        assert!(error.contains("ca-key.pem"), "{error}");
    }

    #[test]
    fn the_names_are_those_a_client_may_use() {
        let mut config = Config::default();
        config.node.listen =
            vec!["0.0.0.0:1".parse().expect("an address"), "10.1.2.3:1".parse().expect("an address")];
        config.node.domains = vec!["s3.example.com".into()];
        let names = names(&config);
        for name in ["localhost", "127.0.0.1", "::1", "10.1.2.3", "s3.example.com", "*.s3.example.com"] {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{names:?}");
        }
        assert!(!names.contains(&"0.0.0.0".to_owned()));
    }
}
