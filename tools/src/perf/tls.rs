//! Whether both servers speak the same cipher.

use std::io;
use std::time::Duration;

use super::program;

const TIME_MAX: Duration = Duration::from_secs(10);

/// What wrk's library agrees on with both servers. Different ciphers are an error: the figures could not be compared.
pub(super) fn compare(basalt: &str, nginx: &str) -> io::Result<String> {
    let (ours, theirs) = (cipher(basalt)?, cipher(nginx)?);
    if ours != theirs {
        return Err(io::Error::other(format!("Basalt speaks {ours}, nginx {theirs}")));
    }
    Ok(format!("both speak {ours}"))
}

fn cipher(address: &str) -> io::Result<String> {
    let mut command = std::process::Command::new("openssl");
    command.args(["s_client", "-connect", address]);
    let output = program::run(&mut command, TIME_MAX)?;
    parse(&output).ok_or_else(|| io::Error::other(format!("openssl names no cipher:\n{}", output)))
}

/// `New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384`
fn parse(output: &str) -> Option<String> {
    let line = output.lines().find_map(|line| line.strip_prefix("New, "))?;
    let (protocol, cipher) = line.split_once(", Cipher is ")?;
    Some(format!("{protocol} {}", cipher.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_and_cipher_are_read() {
        let output = "CONNECTED(3)\n---\nNew, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384\nServer public key is 256 bit\n";
        assert_eq!(parse(output).as_deref(), Some("TLSv1.3 TLS_AES_256_GCM_SHA384"));
        assert_eq!(parse("CONNECTED(3)\n"), None);
    }
}
