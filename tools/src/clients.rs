//! Real S3 clients against a node, over HTTPS: what a user types, scripted in `tools/clients/*.py`.
//!
//! This module brings the clients (a Python virtual environment under `target/`), the node (on free ports, with a
//! fresh data directory) and the material together, runs one script per client and makes a table of what they say.

mod python;
mod table;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::server::Server;
use crate::step::Failure;
use crate::workspace;
use python::Environment;
use table::Outcome;

/// Scripts by client, in the order in which they run.
const CLIENTS: [&str; 5] = ["curl", "boto3", "aws-cli", "s3cmd", "rclone"];

/// Options of `cargo xtask clients`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A client that can't be installed is a failure
    #[arg(long)]
    strict: bool,
    /// Only these clients: curl, boto3, aws-cli, s3cmd, rclone
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(CLIENTS))]
    only: Vec<String>,
    /// Use a file of 1 GiB instead of 64 MiB for large copies
    #[arg(long)]
    big: bool,
    /// Keep the data directory and the work folder, also after success
    #[arg(long)]
    keep: bool,
    /// Cargo profile of the node
    #[arg(long, default_value = "release")]
    profile: String,
    /// Don't start a node; use this server
    #[arg(long, value_name = "URL", requires_all = ["credentials", "ca"])]
    endpoint: Option<String>,
    /// AWS shared-credentials file for that server
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    credentials: Option<PathBuf>,
    /// Certificate authority of that server
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    ca: Option<PathBuf>,
}

/// Installs the clients, starts the node, runs every script, and prints the table.
pub fn run(options: &Options) -> Result<(), Failure> {
    let home = workspace::target().join("clients");
    let work = home.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&work).map_err(|error| Failure::new("clients", error))?;
    let environment = Environment::prepare(&home)?;
    let server = start_server(options, &work)?;
    let tree = tree::find_or_make(&work).map_err(|error| Failure::new("clients", error))?;
    eprintln!("==> {} serves; the tree to copy is {}", server.endpoint, tree.display());

    let wanted = |name: &&str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let outcomes: Vec<Outcome> = CLIENTS
        .into_iter()
        .filter(wanted)
        .map(|client| match environment.missing(client) {
            Some(reason) => Outcome::missing(client, reason),
            None => run_client(client, options, &environment, &server, &work, &tree),
        })
        .collect();
    let drained = server.stop();
    eprint!("{}", table::render(&outcomes));

    let is_missing_allowed = !options.strict;
    let failed: Vec<&str> =
        outcomes.iter().filter(|outcome| !outcome.is_good(is_missing_allowed)).map(Outcome::client).collect();
    if !failed.is_empty() {
        let what = format!("{}; their files are in {}", failed.join(", "), work.display());
        return Err(Failure::new("clients", what));
    }
    drained?;
    if !options.keep {
        fs::remove_dir_all(&work).map_err(|error| Failure::new("clients", error))?;
    }
    Ok(())
}

fn start_server(options: &Options, work: &Path) -> Result<Server, Failure> {
    if let (Some(endpoint), Some(credentials), Some(ca)) =
        (&options.endpoint, &options.credentials, &options.ca)
    {
        return Ok(Server::running(endpoint, credentials, ca));
    }
    workspace::build_binaries(&options.profile)?;
    Server::start(Command::new(workspace::binary(&options.profile, "basalt-node")), work)
}

fn run_client(
    client: &'static str,
    options: &Options,
    environment: &Environment,
    server: &Server,
    work: &Path,
    tree: &Path,
) -> Outcome {
    eprintln!("==> {client}");
    let own_work = work.join(client);
    let results = own_work.join("results.json");
    if let Err(error) = fs::create_dir_all(&own_work) {
        return Outcome::crashed(client, error.to_string());
    }
    let script = workspace::root().join("tools/clients").join(format!("run_{}.py", client.replace('-', "_")));
    let big_len: u64 = if options.big { 1 << 30 } else { 64 << 20 };
    let mut command = Command::new(environment.python());
    command.arg("-B").arg(&script).current_dir(&own_work);
    for (name, _) in std::env::vars_os() {
        // Nothing that the user has set up for other servers may leak in.
        if name
            .to_str()
            .is_some_and(|name| ["AWS_", "RCLONE_", "S3CMD_"].iter().any(|it| name.starts_with(it)))
        {
            command.env_remove(name);
        }
    }
    command
        .env("PATH", environment.path())
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("CLIENT_ENDPOINT", &server.endpoint)
        .env("CLIENT_CREDENTIALS", &server.credentials)
        .env("CLIENT_CA", &server.ca)
        .env("CLIENT_WORK", &own_work)
        .env("CLIENT_TREE", tree)
        .env("CLIENT_RESULTS", &results)
        .env("CLIENT_BIG_LEN", big_len.to_string());
    match command.status() {
        Ok(status) => Outcome::read(client, &results, status),
        Err(error) => Outcome::crashed(client, error.to_string()),
    }
}
