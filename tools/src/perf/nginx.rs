//! The server to compare with: nginx as Debian makes it, one worker, serving static files from the page cache.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::plain::Connection;
use super::{cpu, program};
use crate::server::free_ports;

const START_TIME_MAX: Duration = Duration::from_secs(10);
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// A running nginx.
pub(super) struct Nginx {
    pub address: SocketAddr,
    /// The worker: it does all the work.
    pub worker: u32,
    /// Where it tells its counts, without TLS.
    status: SocketAddr,
    files: PathBuf,
    master: Child,
}

/// What it serves with.
pub(super) struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Nginx {
    /// Starts it on one CPU, in a folder of its own.
    pub fn start(cpu: usize, identity: &Identity, folder: &Path) -> io::Result<Self> {
        let files = folder.join("files");
        fs::create_dir_all(&files)?;
        let [address, status] = free_ports()?;
        let is_root = rustix::process::geteuid().is_root();
        let (config_file, log) = (folder.join("nginx.conf"), folder.join("error.log"));
        fs::write(&config_file, config(address, status, identity, folder, is_root))?;
        let mut command = program::pinned(cpu, "nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&config_file).arg("-e").arg(&log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut nginx = Self { address, worker: 0, status, files, master: command.spawn()? };
        nginx.worker = nginx.wait_for_worker().map_err(|error| {
            io::Error::other(format!("{error}: {}", fs::read_to_string(&log).unwrap_or_default()))
        })?;
        Ok(nginx)
    }

    fn wait_for_worker(&mut self) -> io::Result<u32> {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            if let Some(status) = self.master.try_wait()? {
                return Err(io::Error::other(format!("nginx ended: {status}")));
            }
            if TcpStream::connect(self.address).is_ok()
                && let Some(worker) = cpu::only_child(self.master.id())?
            {
                return Ok(worker);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("nginx does not start in time"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A file of that size to serve.
    pub fn add_file(&self, size: u64) -> io::Result<()> {
        fs::write(self.files.join(size.to_string()), vec![b'b'; size as usize])
    }

    /// Requests answered so far, those for this count included.
    pub fn requests(&self) -> io::Result<f64> {
        let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.status);
        let answer = Connection::open(self.status)?.exchange(&head, b"")?;
        parse_status(&String::from_utf8_lossy(&answer.body))
            .ok_or_else(|| io::Error::other("nginx does not tell its counts: it lacks stub_status"))
    }

    /// The request for the file of that size, as short as the protocol allows.
    pub fn head(&self, size: u64) -> String {
        format!("GET /{size} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that the master ends its worker. Both may have ended already, and there is nobody to tell.
        let kill = |signal: &str, pid: u32| {
            Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status()
        };
        let _ = kill("-TERM", self.master.id());
        let deadline = Instant::now() + STOP_TIME_MAX;
        while Instant::now() < deadline {
            if !matches!(self.master.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        if self.worker != 0 {
            let _ = kill("-KILL", self.worker);
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// The page of `ngx_http_stub_status_module`: its third line counts connections accepted and handled, and requests.
fn parse_status(page: &str) -> Option<f64> {
    let mut lines = page.lines().skip_while(|line| !line.starts_with("server accepts handled requests"));
    lines.nth(1)?.split_whitespace().nth(2)?.parse().ok()
}

/// Nothing that makes it slower than it has to be: no access log, no limit to requests of a connection, open files kept.
fn config(
    address: SocketAddr,
    status: SocketAddr,
    identity: &Identity,
    folder: &Path,
    is_root: bool,
) -> String {
    let Identity { certificate, key } = identity;
    let (certificate, key, folder) = (certificate.display(), key.display(), folder.display());
    // Its worker would become another user, who may not be allowed to read the folder.
    let user = if is_root { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
        .concat();
    format!(
        "{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
{temporary}    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    open_file_cache max=100 inactive=1h;
    open_file_cache_valid 1h;
    default_type application/octet-stream;
    server {{
        listen {address} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
        root {folder}/files;
    }}
    server {{
        listen {status};
        location / {{ stub_status; }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_leaves_one_protocol_and_one_cipher() {
        let (address, status) = ("127.0.0.1:7".parse().unwrap(), "127.0.0.1:8".parse().unwrap());
        let identity = Identity { certificate: "/c.pem".into(), key: "/k.pem".into() };
        let text = config(address, status, &identity, Path::new("/run"), true);
        for line in [
            "user root;",
            "listen 127.0.0.1:7 ssl",
            "ssl_protocols TLSv1.3;",
            "Ciphersuites TLS_AES_256_GCM_SHA384;",
            "root /run/files;",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let other = config(address, status, &identity, Path::new("/run"), false);
        assert!(!other.contains("user"), "only root can change the user");
    }

    #[test]
    fn requests_are_the_third_of_the_counts() {
        let page = "Active connections: 2 \nserver accepts handled requests\n 16630948 16630948 31070465 \nReading: 6\n";
        assert_eq!(parse_status(page), Some(31_070_465.0));
        assert_eq!(parse_status("<html>404</html>"), None);
    }
}
