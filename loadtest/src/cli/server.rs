//! Options that say whom the load is put on.

use std::io;
use std::path::PathBuf;

use clap::Args;
use loadtest::load::Target;
use loadtest::s3::{Credentials, Endpoint, Trust};

use super::invalid;

#[derive(Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArguments {
    /// Like https://127.0.0.1:9000
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Access key; with --secret-key
    #[arg(long, value_name = "KEY", requires = "secret_key", required_unless_present = "credentials")]
    access_key: Option<String>,
    /// Secret of the access key
    #[arg(long, value_name = "SECRET", requires = "access_key")]
    secret_key: Option<String>,
    /// Read both from this file in the AWS shared-credentials format
    #[arg(long, value_name = "FILE", conflicts_with = "access_key")]
    credentials: Option<PathBuf>,
    /// The profile in that file
    #[arg(long, value_name = "NAME", default_value = "default")]
    profile: String,
    /// Region of the signature
    #[arg(long, value_name = "NAME", default_value = "us-east-1")]
    region: String,
    /// Trust the certificate authorities in this PEM file [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Do not make buckets: they exist
    #[arg(long)]
    no_create_buckets: bool,
    /// Report the CPU time of this process on this machine as the server's; may be given several times
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
}

impl ServerArguments {
    pub fn target(&self) -> io::Result<Target> {
        let trust = match (&self.ca, self.insecure) {
            (Some(path), _) => Trust::File(path),
            (None, true) => Trust::Anyone,
            (None, false) => Trust::System,
        };
        let credentials = match (&self.credentials, &self.access_key, &self.secret_key) {
            (Some(path), ..) => Credentials::read(path, &self.profile)?,
            (None, Some(access_key), Some(secret_key)) => {
                Credentials { access_key: access_key.clone(), secret_key: secret_key.clone() }
            }
            _ => return Err(invalid("give --credentials FILE, or --access-key and --secret-key")),
        };
        Ok(Target {
            endpoint: Endpoint::new(&self.endpoint, trust)?,
            credentials,
            region: self.region.clone(),
            makes_buckets: !self.no_create_buckets,
            server_pids: self.server_pid.clone(),
        })
    }
}
