//! What the node prints when it is ready: where it is, and three commands that work as they stand.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::Boot;
use crate::config::Config;

/// The banner for a node that is reached at `address`, by HTTPS unless `is_insecure`.
pub fn banner(config: &Config, boot: &Boot, address: SocketAddr, is_insecure: bool) -> String {
    let endpoint = endpoint(address, is_insecure);
    let credentials = quote(&boot.data_dir.join("credentials"));
    let ca = boot.local_certificate.as_ref().filter(|_| !is_insecure).map(|local| quote(&local.ca_path()));
    let region = &config.node.region;
    let bundle = ca.as_ref().map(|ca| format!(" AWS_CA_BUNDLE={ca}")).unwrap_or_default();
    let cacert = ca.as_ref().map(|ca| format!(" --cacert {ca}")).unwrap_or_default();
    let environment =
        format!("AWS_SHARED_CREDENTIALS_FILE={credentials}{bundle} AWS_DEFAULT_REGION={region}");
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("a String takes every text");
        text.push('\n');
    };
    line(format_args!("\nBasalt {} serves S3", env!("CARGO_PKG_VERSION")));
    line(format_args!("  endpoint     {endpoint}"));
    line(format_args!("  access key   {}", boot.credentials.access_key));
    line(format_args!("  credentials  {credentials}"));
    if let Some(ca) = &ca {
        line(format_args!("  CA           {ca}"));
    }
    line(format_args!("\nTry it:\n"));
    line(format_args!("  {environment} aws --endpoint-url {endpoint} s3 mb s3://example\n"));
    line(format_args!(
        "  {environment} python3 -c 'import boto3; print(boto3.client(\"s3\", \
         endpoint_url=\"{endpoint}\").list_buckets()[\"Buckets\"])'\n"
    ));
    line(format_args!(
        "  curl{cacert} --aws-sigv4 aws:amz:{region}:s3 --user \"$(sed -n 's/^aws_.* = //p' {credentials} | paste -sd:)\" \
         -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' {endpoint}/\n"
    ));
    text
}

/// An address that listens everywhere is shown as the loopback one.
fn endpoint(address: SocketAddr, is_insecure: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if is_insecure { "http" } else { "https" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// The path as one word of a shell.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b)) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_that_can_be_called() {
        let shown = |address: &str, is_insecure| endpoint(address.parse().expect("an address"), is_insecure);
        assert_eq!(shown("0.0.0.0:9000", false), "https://127.0.0.1:9000");
        assert_eq!(shown("[::]:9000", false), "https://[::1]:9000");
        assert_eq!(shown("10.0.0.1:80", true), "http://10.0.0.1:80");
    }

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quote(Path::new("/srv/basalt-data/ca.pem")), "/srv/basalt-data/ca.pem");
        assert_eq!(quote(Path::new("/my data/it's")), "'/my data/it'\\''s'");
    }
}
