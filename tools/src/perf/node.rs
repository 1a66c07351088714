//! The node under measure: one core, one device file, one copy, with a plain listener for what is not measured.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::nginx::Identity;
use super::sign::{Credentials, Signer};
use super::{plain, program};
use crate::server::{Server, free_ports};

/// A running node.
pub(super) struct Node {
    pub pid: u32,
    pub credentials: Credentials,
    /// Of the listener without TLS.
    pub plain: SocketAddr,
    pub identity: Identity,
    endpoint: String,
    admin: SocketAddr,
    server: Server,
}

/// Where and how it runs.
pub(super) struct Setup<'a> {
    pub binary: &'a Path,
    pub cpu: usize,
    /// Keeps the store and everything else of the node.
    pub folder: &'a Path,
    pub device_size: u64,
    /// Lines of TOML, with whole names: `store.inline_max = "8KiB"`.
    pub settings: &'a [String],
}

/// Counters of the node, which only grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub gets: f64,
    pub device_reads: f64,
}

impl Setup<'_> {
    /// The file that stands for the device; written beforehand or made by the node.
    pub fn device(&self) -> PathBuf {
        self.folder.join("device")
    }

    pub fn start(&self) -> io::Result<Node> {
        let [plain] = free_ports()?;
        let (config_file, key) = (self.folder.join("basalt.toml"), self.folder.join("key"));
        if !key.exists() {
            // The store's content is worth nothing; the key has to be there before the device is.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key)?;
            writeln!(file, "{:064x}", std::process::id())?;
        }
        fs::write(&config_file, self.config(plain, &key))?;
        let mut command = program::pinned(self.cpu, self.binary);
        command.arg("--config").arg(&config_file);
        let server = Server::start(command, self.folder).map_err(io::Error::other)?;
        let (Some(pid), Some(admin)) = (server.pid(), server.admin) else {
            unreachable!("a server that was started has both")
        };
        let data = self.folder.join("data");
        let identity =
            Identity { certificate: data.join("certificate.pem"), key: data.join("certificate-key.pem") };
        let credentials = Credentials::read(&server.credentials)?;
        Ok(Node { pid, credentials, plain, identity, endpoint: server.endpoint.clone(), admin, server })
    }

    fn config(&self, plain: SocketAddr, key: &Path) -> String {
        let Self { cpu, device_size, settings, .. } = self;
        let (device, key) = (self.device(), key.display());
        format!(
            "node.cores = \"{cpu}\"
node.insecure_http = [\"{plain}\"]
store.copies = 1
store.key_source = {{ file = \"{key}\" }}
store.devices = [{{ path = \"{}\", size = {device_size} }}]
log.level = \"warn\"
{}
",
            device.display(),
            settings.join("\n")
        )
    }
}

impl Node {
    /// Host and port of the HTTPS listener.
    pub fn host(&self) -> &str {
        self.endpoint.trim_start_matches("https://")
    }

    /// Requests to the HTTPS listener, signed now.
    pub fn heads(&self, method: &str, paths: &[String], body_len: Option<usize>) -> Vec<String> {
        let signer = Signer::new(&self.credentials, self.host());
        paths.iter().map(|path| signer.head(method, path, body_len)).collect()
    }

    /// Objects got and put so far.
    pub fn requests(&self) -> io::Result<f64> {
        let page = plain::metrics(self.admin)?;
        let of = |operation| plain::total(&page, "basalt_requests_total", operation);
        Ok(of("operation=\"GetObject\"") + of("operation=\"PutObject\""))
    }

    pub fn counts(&self) -> io::Result<Counts> {
        let page = plain::metrics(self.admin)?;
        Ok(Counts {
            gets: plain::total(&page, "basalt_requests_total", "operation=\"GetObject\""),
            device_reads: plain::total(&page, "basalt_engine_device_reads_total", ""),
        })
    }

    /// An S3 endpoint for other clients: URL, credentials file, certificate authority.
    pub fn access(&self) -> (&str, &Path, &Path) {
        (&self.endpoint, &self.server.credentials, &self.server.ca)
    }

    pub fn stop(self) -> io::Result<()> {
        self.server.stop().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_scenario_end_up_in_one_valid_configuration() {
        let settings = ["store.inline_max = \"8KiB\"".to_owned(), "limits.idle_timeout = \"9s\"".to_owned()];
        let setup = Setup {
            binary: Path::new("/node"),
            cpu: 3,
            folder: Path::new("/work"),
            device_size: 1 << 30,
            settings: &settings,
        };
        let table: toml::Table =
            setup.config("127.0.0.1:7".parse().unwrap(), Path::new("/k")).parse().unwrap();
        assert_eq!(table["node"]["cores"].as_str(), Some("3"));
        assert_eq!(table["store"]["inline_max"].as_str(), Some("8KiB"));
        assert_eq!(table["store"]["devices"][0]["path"].as_str(), Some("/work/device"));
        assert_eq!(table["limits"]["idle_timeout"].as_str(), Some("9s"));
    }
}
