//! What a request is about: the service, a bucket, or an object in it.
//!
//! Path style names the bucket first in the path; virtual-hosted style names it in the host, in front of one of the
//! configured domains. Keys are opaque: nothing is normalised, so `a`, `a/`, `a//b`, `a/./b` and `a/../b` are five keys.

use crate::http::RequestHead;
use crate::limits::Limits;
use crate::route::RouteConfig;
use crate::uri::{self, Plus};
use crate::{Code, Error};

/// Shortest name of a bucket (AWS).
const BUCKET_NAME_LEN_MIN: usize = 3;
/// Longest name of a bucket (AWS): a DNS label.
const BUCKET_NAME_LEN_MAX: usize = 63;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All buckets.
    Service,
    /// A bucket.
    Bucket(String),
    /// An object, which need not exist.
    Object {
        /// Its bucket.
        bucket: String,
        /// Its key.
        key: String,
    },
}

impl Target {
    /// Reads host and path.
    ///
    /// Errors: `InvalidBucketName`, `InvalidURI` when the path is not percent-encoded UTF-8, `KeyTooLongError`.
    pub fn from_head(head: &RequestHead, config: &RouteConfig) -> Result<Self, Error> {
        let path = head.raw_path.strip_prefix('/').unwrap_or(&head.raw_path);
        if let Some(bucket) = bucket_in_host(head.header("host").unwrap_or(""), &config.domains) {
            return Target::new(bucket, path, config);
        }
        if path.is_empty() {
            return Ok(Target::Service);
        }
        let (bucket, raw_key) = path.split_once('/').unwrap_or((path, ""));
        Target::new(uri::decode_utf8(bucket, Plus::Literal)?, raw_key, config)
    }

    /// As errors name it: `/`, `/bucket`, `/bucket/key`.
    pub(crate) fn resource(&self) -> String {
        match self {
            Target::Service => "/".to_owned(),
            Target::Bucket(bucket) => format!("/{bucket}"),
            Target::Object { bucket, key } => format!("/{bucket}/{key}"),
        }
    }

    fn new(bucket: String, raw_key: &str, config: &RouteConfig) -> Result<Self, Error> {
        check_bucket_name(&bucket, config.allow_dots_in_bucket_names)?;
        if raw_key.is_empty() {
            return Ok(Target::Bucket(bucket));
        }
        let key = uri::decode_utf8(raw_key, Plus::Literal)?;
        check_key(&key, &config.limits)?;
        Ok(Target::Object { bucket, key })
    }
}

/// The bucket that the host names in front of one of the domains.
fn bucket_in_host(host: &str, domains: &[String]) -> Option<String> {
    let host = without_port(host);
    domains.iter().find_map(|domain| {
        let split = host.len().checked_sub(domain.len())?;
        let (front, back) = host.split_at_checked(split)?;
        let bucket = back.eq_ignore_ascii_case(domain).then(|| front.strip_suffix('.')).flatten()?;
        (!bucket.is_empty()).then(|| bucket.to_ascii_lowercase())
    })
}

/// The host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// `InvalidBucketName` unless the name has 3 to 63 lowercase letters, digits and hyphens, with a letter or digit at both
/// ends. Where dots are allowed, every label between them has to be such a name (of any length), and the whole may not
/// look like an IPv4 address.
pub fn check_bucket_name(name: &str, allow_dots: bool) -> Result<(), Error> {
    let has_length = (BUCKET_NAME_LEN_MIN..=BUCKET_NAME_LEN_MAX).contains(&name.len());
    let is_valid = has_length
        && if allow_dots {
            name.split('.').all(is_label) && !is_ipv4_formatted(name)
        } else {
            is_label(name)
        };
    if is_valid { Ok(()) } else { Err(Error::new(Code::InvalidBucketName).detail("BucketName", name)) }
}

/// Lowercase letters, digits and hyphens, with a letter or digit at both ends.
fn is_label(label: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.iter().all(|b| is_alphanumeric(*b) || *b == b'-')
        && bytes.first().is_some_and(|b| is_alphanumeric(*b))
        && bytes.last().is_some_and(|b| is_alphanumeric(*b))
}

fn is_ipv4_formatted(name: &str) -> bool {
    name.split('.').count() == 4 && name.split('.').all(|part| part.bytes().all(|b| b.is_ascii_digit()))
}

/// `KeyTooLongError` when the key takes more bytes of UTF-8 than the limit.
pub fn check_key(key: &str, limits: &Limits) -> Result<(), Error> {
    if key.len() > limits.key_len_max {
        return Err(Error::new(Code::KeyTooLongError)
            .detail("Size", key.len().to_string())
            .detail("MaxSizeAllowed", limits.key_len_max.to_string()));
    }
    Ok(())
}

/// `NoSuchVersion`, unless it is the version of every object in a bucket without versioning.
pub fn check_version_id(version_id: &str) -> Result<(), Error> {
    if version_id == "null" {
        Ok(())
    } else {
        Err(Error::new(Code::NoSuchVersion).detail("VersionId", version_id))
    }
}

#[cfg(test)]
mod tests;
