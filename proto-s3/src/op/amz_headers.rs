//! Which `x-amz-*` headers we know, and what their values may be.
//!
//! Nothing is accepted and ignored: a header that is not in this table answers `NotImplemented` and is named, and so does a
//! value that asks for something which is not there. That AWS would ignore some of them on some operations does not
//! matter: who sends such a header means something by it.

use crate::http::RequestHead;
use crate::{Code, Error};

/// What is done with a header.
#[derive(Clone, Copy)]
enum Treatment {
    /// Read by the operation, the signature or the body decoder.
    Read,
    /// Accepted with these values, which ask for what is the case anyway; anything else is not implemented.
    Only(&'static [&'static str]),
    /// As `Only`, with the error that AWS has for bad values.
    OnlyElse(&'static [&'static str], fn() -> Error),
}

use Treatment::{Only, OnlyElse, Read};

/// Every header that we know, in lowercase. `x-amz-meta-*` is known besides.
const HEADERS: &[(&str, Treatment)] = &[
    // Signature and body.
    ("x-amz-date", Read),
    ("x-amz-content-sha256", Read),
    ("x-amz-security-token", Read),
    ("x-amz-decoded-content-length", Read),
    ("x-amz-trailer", Read),
    ("x-amz-sdk-checksum-algorithm", Read),
    ("x-amz-checksum-crc32", Read),
    ("x-amz-checksum-crc32c", Read),
    ("x-amz-checksum-crc64nvme", Read),
    ("x-amz-checksum-sha1", Read),
    ("x-amz-checksum-sha256", Read),
    // Operations.
    ("x-amz-checksum-algorithm", Read),
    ("x-amz-checksum-mode", Read),
    ("x-amz-checksum-type", Read),
    ("x-amz-copy-source", Read),
    ("x-amz-copy-source-if-match", Read),
    ("x-amz-copy-source-if-modified-since", Read),
    ("x-amz-copy-source-if-none-match", Read),
    ("x-amz-copy-source-if-unmodified-since", Read),
    ("x-amz-copy-source-range", Read),
    ("x-amz-expected-bucket-owner", Read),
    ("x-amz-source-expected-bucket-owner", Read),
    ("x-amz-max-parts", Read),
    ("x-amz-metadata-directive", Read),
    ("x-amz-mp-object-size", Read),
    ("x-amz-object-attributes", Read),
    ("x-amz-part-number-marker", Read),
    // What is so anyway.
    // The AWS SDK for C++ names the version of the API that there has been since 2006.
    ("x-amz-api-version", Only(&["2006-03-01"])),
    ("x-amz-acl", Only(&["private", "bucket-owner-full-control"])),
    ("x-amz-bucket-object-lock-enabled", Only(&["false"])),
    ("x-amz-bypass-governance-retention", Only(&["false"])),
    ("x-amz-object-ownership", Only(&["BucketOwnerEnforced"])),
    ("x-amz-optional-object-attributes", Only(&["RestoreStatus"])),
    ("x-amz-request-payer", Only(&["requester"])),
    ("x-amz-server-side-encryption", Only(&["AES256"])),
    ("x-amz-server-side-encryption-bucket-key-enabled", Only(&["false"])),
    ("x-amz-storage-class", OnlyElse(&["STANDARD"], || Error::new(Code::InvalidStorageClass))),
    ("x-amz-tagging", Only(&[""])),
    // No object has tags, so that both directives come to the same.
    ("x-amz-tagging-directive", Only(&["COPY", "REPLACE"])),
    // Who is calling, and through which CloudFront request; nothing hangs on it.
    ("x-amz-cf-id", Read),
    ("x-amz-user-agent", Read),
];

/// Refuses what we do not know or do not do.
pub(crate) fn check(head: &RequestHead) -> Result<(), Error> {
    head.headers.iter().try_for_each(|(name, value)| {
        if name.starts_with("x-amz-") && !name.starts_with("x-amz-meta-") {
            check_one(name, value)
        } else {
            Ok(())
        }
    })
}

fn check_one(name: &str, value: &[u8]) -> Result<(), Error> {
    let not_implemented = || Error::header_not_implemented(name);
    let (_, treatment) = HEADERS.iter().find(|(known, _)| *known == name).ok_or_else(not_implemented)?;
    let is_one_of = |values: &[&str]| values.iter().any(|known| known.as_bytes() == value);
    match treatment {
        Read => Ok(()),
        Only(values) if is_one_of(values) => Ok(()),
        Only(_) => Err(not_implemented()),
        OnlyElse(values, _) if is_one_of(values) => Ok(()),
        OnlyElse(_, error) => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::head;

    fn check_header(name: &str, value: &str) -> Result<(), Code> {
        check(&head("PUT", "/b/k", &[(name, value)])).map_err(|error| error.code)
    }

    #[test]
    fn what_is_so_anyway_may_be_asked_for() {
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-acl", "bucket-owner-full-control"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-object-ownership", "BucketOwnerEnforced"),
            ("x-amz-meta-anything", "at all"),
            ("x-amzn-trace-id", "Root=1"),
            ("amz-sdk-request", "attempt=1"),
        ] {
            assert_eq!(check_header(name, value), Ok(()), "{name}: {value}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (name, value) in [
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "id=\"1\""),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-copy-source-server-side-encryption-customer-key", "x"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-website-redirect-location", "/"),
            ("x-amz-write-offset-bytes", "0"),
            ("x-amz-mfa", "1 2"),
            ("x-amz-checksum-sha512", "x"),
            ("x-amz-something-new", "x"),
        ] {
            let error = check(&head("PUT", "/b/k", &[(name, value)])).unwrap_err();
            assert_eq!(error.code, Code::NotImplemented, "{name}: {value}");
            assert_eq!(error.details, [("Header", name.to_string())]);
        }
    }

    #[test]
    fn other_storage_classes_are_invalid() {
        assert_eq!(check_header("x-amz-storage-class", "GLACIER"), Err(Code::InvalidStorageClass));
    }
}
