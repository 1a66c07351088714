//! `x-amz-copy-source`: the object to copy from.
//!
//! The header is `bucket/key` or `/bucket/key`, percent-encoded, with `+` for a space, as AWS decodes it. An optional
//! `?versionId=` stands outside of the encoding; a `?` of the key is encoded.

use crate::http::RequestHead;
use crate::limits::Limits;
use crate::target;
use crate::uri::{self, Plus};
use crate::{Code, Error};

/// The header's name.
const HEADER: &str = "x-amz-copy-source";

/// The object to copy from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
}

impl CopySource {
    /// Whether a request copies.
    pub(crate) fn is_in(head: &RequestHead) -> bool {
        head.header_bytes(HEADER).is_some()
    }

    /// Reads the header.
    ///
    /// Errors: `InvalidArgument`, `NoSuchVersion`, `KeyTooLongError`; `NotImplemented` for an ARN.
    pub(crate) fn from_head(head: &RequestHead, allow_dots: bool, limits: &Limits) -> Result<Self, Error> {
        CopySource::parse(head.header(HEADER).unwrap_or(""), allow_dots, limits)
    }

    fn parse(value: &str, allow_dots: bool, limits: &Limits) -> Result<Self, Error> {
        if value.starts_with("arn:") {
            return Err(Error::header_not_implemented(HEADER));
        }
        let (path, version_id) = value.split_once("?versionId=").map_or((value, None), |(p, v)| (p, Some(v)));
        let invalid = |message| Error::invalid_argument(message, HEADER, value);
        let path =
            uri::decode_utf8(path, Plus::Space).map_err(|_| invalid("The copy source is not URL-encoded"))?;
        let (bucket, key) = path
            .strip_prefix('/')
            .unwrap_or(&path)
            .split_once('/')
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            .ok_or_else(|| {
                invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
            })?;
        target::check_bucket_name(bucket, allow_dots)
            .map_err(|_| invalid("Invalid copy source bucket name"))?;
        target::check_key(key, limits)?;
        if let Some(version_id) = version_id {
            let version_id = uri::decode_utf8(version_id, Plus::Space)
                .map_err(|error: Error| Error::with_message(Code::InvalidArgument, error.message))?;
            target::check_version_id(&version_id)?;
        }
        Ok(CopySource { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<(String, String), Code> {
        CopySource::parse(value, false, &Limits::default())
            .map(|source| (source.bucket, source.key))
            .map_err(|error| error.code)
    }

    fn source(key: &str) -> Result<(String, String), Code> {
        Ok(("bucket".into(), key.into()))
    }

    #[test]
    fn the_leading_slash_is_optional_and_the_key_opaque() {
        assert_eq!(parse("bucket/key"), source("key"));
        assert_eq!(parse("/bucket/key"), source("key"));
        assert_eq!(parse("bucket/a/b//c/"), source("a/b//c/"));
        assert_eq!(parse("bucket//a"), source("/a"));
        assert_eq!(parse("/bucket/../a"), source("../a"));
    }

    #[test]
    fn the_value_is_url_encoded() {
        assert_eq!(parse("bucket%2Fa%20b%2Bc+d"), source("a b+c d"));
        assert_eq!(parse("bucket/%C3%A9"), source("é"));
        assert_eq!(parse("bucket/a%3FversionId=b"), source("a?versionId=b"));
    }

    #[test]
    fn only_the_null_version_exists() {
        assert_eq!(parse("bucket/key?versionId=null"), source("key"));
        assert_eq!(parse("bucket/key?versionId=abc"), Err(Code::NoSuchVersion));
    }

    #[test]
    fn what_names_no_object_is_refused() {
        for value in [
            "",
            "/",
            "bucket",
            "/bucket",
            "bucket/",
            "//key",
            "Bucket/key",
            "b/key",
            "bucket/%zz",
            "bucket/%ff",
        ] {
            assert_eq!(parse(value), Err(Code::InvalidArgument), "{value}");
        }
        assert_eq!(parse("arn:aws:s3:us-west-2:1:accesspoint/x/object/y"), Err(Code::NotImplemented));
        assert_eq!(parse(&format!("bucket/{}", "k".repeat(1025))), Err(Code::KeyTooLongError));
    }
}
