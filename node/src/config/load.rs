//! Reading the file, and saying what is wrong with it: file, line, setting, and what is allowed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Config;

/// A file that can't be used as the configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// It can't be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A setting is wrong.
    Setting {
        /// The file; empty when the fault is in flags or defaults.
        path: PathBuf,
        /// 1-based.
        line: Option<usize>,
        /// `section.name`; empty when the file isn't TOML.
        setting: String,
        /// What is wrong and what is allowed.
        what: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { path, source } => {
                write!(f, "cannot read the configuration {}: {source}; check --config", path.display())
            }
            ConfigError::Setting { path, line, setting, what } => {
                if !path.as_os_str().is_empty() {
                    write!(f, "{}", path.display())?;
                    line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
                    f.write_str(": ")?;
                }
                if !setting.is_empty() {
                    write!(f, "{setting}: ")?;
                }
                f.write_str(what)
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The configuration in a file. What the file doesn't say is the default.
///
/// # Errors
/// When it can't be read, isn't TOML, names a setting that doesn't exist, or gives one a value that it can't have.
pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    from_text(&text, path)
}

/// As [`from_file`], from text that was read from `path`.
///
/// # Errors
/// As there.
pub fn from_text(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let config: Config = toml::from_str(text).map_err(|error| locate(&error, text, path))?;
    config.check().map_err(|(setting, what)| ConfigError::Setting {
        path: path.to_owned(),
        line: line_of(text, setting),
        setting: setting.to_owned(),
        what,
    })?;
    Ok(config)
}

impl Config {
    /// What no type can say: settings that must fit each other. For a configuration that flags have changed.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check().map_err(|(setting, what)| ConfigError::Setting {
            path: PathBuf::new(),
            line: None,
            setting: setting.to_owned(),
            what,
        })
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        self.check_node()?;
        self.check_network()?;
        self.check_limits()?;
        self.check_store()?;
        self.rates.check()?;
        match (&self.tls.certificate, &self.tls.key) {
            (Some(_), None) => {
                Err(("tls.certificate", "is set without tls.key; set both, or neither".into()))
            }
            (None, Some(_)) => {
                Err(("tls.key", "is set without tls.certificate; set both, or neither".into()))
            }
            _ => Ok(()),
        }
    }

    fn check_node(&self) -> Result<(), (&'static str, String)> {
        let node = &self.node;
        if node.listen.is_empty() && node.insecure_http.is_empty() {
            return Err(("node.listen", "the node listens nowhere; name at least one address".into()));
        }
        let mut addresses: Vec<_> = node
            .listen
            .iter()
            .chain(&node.insecure_http)
            .chain([&node.admin_listen])
            .map(|address| address.0)
            .collect();
        addresses.retain(|address| address.port() != 0);
        addresses.sort_unstable();
        if let Some(twice) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
            let what = format!(
                "{} is named twice in listen, insecure_http and admin_listen; each listener needs its own",
                twice[0]
            );
            return Err(("node.listen", what));
        }
        if node.region.is_empty() || !node.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let what = format!(
                "{:?} is not a region name; letters, digits and hyphens, like \"us-east-1\"",
                node.region
            );
            return Err(("node.region", what));
        }
        match node.domains.iter().find(|domain| !is_domain(domain)) {
            Some(domain) => {
                Err(("node.domains", format!("{domain:?} is not a domain name like \"s3.example.com\"")))
            }
            None => Ok(()),
        }
    }

    fn check_network(&self) -> Result<(), (&'static str, String)> {
        let network = &self.network;
        // The kernel would cut a longer name short.
        if network.tcp_congestion_control.as_ref().is_some_and(|name| name.is_empty() || name.len() > 15) {
            let what = "is not the name of a congestion control like \"bbr\" or \"cubic\"";
            return Err(("network.tcp_congestion_control", what.into()));
        }
        if network.zero_copy_send_min.is_some_and(|min| min.0 < 4096) {
            return Err((
                "network.zero_copy_send_min",
                "must be at least 4KiB: few bytes are cheaper copied".into(),
            ));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), (&'static str, String)> {
        let (limits, s3) = (&self.limits, &self.limits.s3);
        if limits.connections_per_core_max == 0 {
            return Err(("limits.connections_per_core_max", "must be at least 1".into()));
        }
        if limits.bytes_in_flight_per_core_max.0 < 1 << 20 {
            return Err(("limits.bytes_in_flight_per_core_max", "must be at least 1MiB".into()));
        }
        if s3.head_len_max.0 < 1024 {
            return Err((
                "limits.s3.head_len_max",
                "must be at least 1KiB: a signed request takes about that".into(),
            ));
        }
        if s3.part_len_min > s3.part_len_max {
            return Err((
                "limits.s3.part_len_min",
                format!("must not be above part_len_max, {}", s3.part_len_max),
            ));
        }
        if s3.parts_max == 0 || s3.parts_max > 10_000 {
            return Err(("limits.s3.parts_max", "must be 1 to 10000".into()));
        }
        Ok(())
    }

    fn check_store(&self) -> Result<(), (&'static str, String)> {
        let store = &self.store;
        if store.copies == 0 {
            return Err(("store.copies", "must be at least 1".into()));
        }
        let mut tiers: Vec<&str> = store.devices.iter().map(|device| device.tier.as_str()).collect();
        tiers.sort_unstable();
        let is_short = |tier: &&[&str]| tier.len() < usize::from(store.copies);
        if let Some(tier) = tiers.chunk_by(|left, right| left == right).find(is_short) {
            let what = format!(
                "{} copies need as many devices, but tier {:?} has {}; add devices to store.devices, or lower copies",
                store.copies,
                tier[0],
                tier.len()
            );
            return Err(("store.copies", what));
        }
        if store.devices.is_empty() && store.copies > 2 {
            let what = format!("{} copies need as many devices: name them in store.devices", store.copies);
            return Err(("store.copies", what));
        }
        let mut paths: Vec<_> = store.devices.iter().map(|device| &device.path).collect();
        paths.sort_unstable();
        match paths.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(("store.devices", format!("{} is named twice", twice[0].display()))),
            None => Ok(()),
        }
    }
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= 253 && domain.split('.').all(is_label)
}

/// toml's error, with the line and the setting that it is about.
fn locate(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let offset = error.span().map(|span| span.start.min(text.len()));
    // Without its input, the error shows the path of keys that it is about.
    let mut keys = error.clone();
    keys.set_input(None);
    let shown = keys.to_string();
    let setting = shown.rsplit_once("in `").map(|(_, rest)| rest.trim_end().trim_end_matches('`').to_owned());
    ConfigError::Setting {
        path: path.to_owned(),
        line: offset.map(|offset| text[..offset].matches('\n').count() + 1),
        setting: setting.unwrap_or_default(),
        what: error.message().trim_end().replace('\n', " "),
    }
}

/// The 1-based line where `section.name` is set, if it is set there in the usual way.
fn line_of(text: &str, setting: &str) -> Option<usize> {
    let (section, name) = setting.rsplit_once('.')?;
    let mut current = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            current = line.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
            if current == setting {
                return Some(index + 1);
            }
        } else if current == section && line.split('=').next().is_some_and(|key| key.trim() == name) {
            return Some(index + 1);
        }
    }
    None
}
