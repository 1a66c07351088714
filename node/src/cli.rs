//! The command line: a few flags that win over the configuration file.

use std::path::PathBuf;

use clap::Parser;

use crate::config::{self, Address, Config, ConfigError, CpuList};

const EXAMPLES: &str = "\
Examples:
  basalt-node
      Serve https://127.0.0.1:9000 from ./basalt-data; made at the first start, with keys and certificates.
  basalt-node --data-dir /srv/basalt --listen 0.0.0.0:9000
      Serve every IPv4 address of this machine.
  basalt-node --config /etc/basalt/basalt.toml --cores 0-3,6
      Take all settings from a file, but run on these five CPUs. basalt.example.toml documents every setting.

Signals:
  SIGTERM, SIGINT  finish the requests in flight and end; a second one ends at once
  SIGHUP           read the TLS certificate and its key again";

/// An S3-compatible object storage node.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "basalt-node", version, about, after_help = EXAMPLES)]
pub struct Arguments {
    /// Settings from this TOML file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory for keys, certificates and data [default: ./basalt-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Serve HTTPS here; may be given several times [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',')]
    pub listen: Vec<Address>,

    /// Serve /healthz and /metrics here [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin_listen: Option<Address>,

    /// CPUs that get a core each, like 0-3,6 [default: all that the process may use]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<CpuList>,
}

impl Arguments {
    /// The configuration that the flags, the file and the defaults make together.
    ///
    /// # Errors
    /// When the file can't be used, or the settings don't fit each other.
    pub fn configuration(self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => config::from_file(path)?,
            None => Config::default(),
        };
        if let Some(data_dir) = self.data_dir {
            config.node.data_dir = data_dir;
        }
        if !self.listen.is_empty() {
            config.node.listen = self.listen;
        }
        if let Some(address) = self.admin_listen {
            config.node.admin_listen = address;
        }
        if let Some(cores) = self.cores {
            config.node.cores = cores;
        }
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["basalt-node"], arguments].concat())
    }

    #[test]
    fn without_flags_and_file_all_is_default() {
        let config = parse(&[]).expect("no flags").configuration().expect("the defaults are valid");
        assert_eq!(config, Config::default());
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[node]\ndata_dir = \"/a\"\nregion = \"here\"\ncores = \"0\"\n")
            .expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let flags =
            ["--config", path, "--data-dir", "/b", "--listen", "0.0.0.0:1,[::]:1", "--listen", "127.0.0.1:2"];
        let config = parse(&flags).expect("flags").configuration().expect("valid");
        assert_eq!(config.node.data_dir, PathBuf::from("/b"));
        assert_eq!(config.node.region, "here");
        assert_eq!(config.node.cores, CpuList::Set(vec![0]));
        assert_eq!(config.node.listen.len(), 3);
        assert_eq!(config.node.admin_listen, Config::default().node.admin_listen);
    }

    #[test]
    fn flags_that_do_not_fit_the_rest_are_refused() {
        let error =
            parse(&["--listen", "127.0.0.1:9001"]).expect("flags").configuration().expect_err("twice");
        assert!(error.to_string().contains("127.0.0.1:9001 is named twice"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_answered_with_what_is_allowed() {
        let error = parse(&["--cores", "all"]).expect_err("no list").to_string();
        assert!(error.contains("--cores") && error.contains("0-3,6"), "{error}");
        let error = parse(&["--listen", "localhost:9000"]).expect_err("no address").to_string();
        assert!(error.contains("ADDRESS:PORT"), "{error}");
    }

    #[test]
    fn help_shows_examples() {
        let help = parse(&["--help"]).expect_err("help is shown").to_string();
        assert!(
            help.contains("Examples:") && help.contains("--data-dir") && help.contains("SIGHUP"),
            "{help}"
        );
    }

    #[test]
    fn a_missing_configuration_file_is_named() {
        let error =
            parse(&["--config", "/nowhere.toml"]).expect("flags").configuration().expect_err("missing");
        assert!(error.to_string().contains("/nowhere.toml"), "{error}");
    }
}
