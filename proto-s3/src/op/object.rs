//! How a stored object presents itself in the headers of a response.

use std::fmt;

use crate::checksum::{Checksum, ChecksumType};
use crate::http::Response;
use crate::op::ObjectHeaders;
use crate::xml::Writer;
use crate::{ETag, time};

/// Whether objects are encrypted at rest, as responses report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of ours; AWS calls that SSE-S3 and reports `AES256`.
    Aes256,
    /// Not at all.
    None,
}

impl Encryption {
    /// Adds `x-amz-server-side-encryption`, when there is something to report.
    pub(crate) fn render_into(self, response: &mut Response) {
        if self == Encryption::Aes256 {
            response.headers.push(("x-amz-server-side-encryption".into(), b"AES256".to_vec()));
        }
    }
}

/// The checksum of an object or part. Displays as the wire has it: base64, and `-N` when it is composite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectChecksum {
    /// The value and its algorithm.
    pub checksum: Checksum,
    /// Whether it covers the bytes or the checksums of the parts.
    pub checksum_type: ChecksumType,
    /// Number of parts of a composite checksum; not read otherwise.
    pub parts_count: u32,
}

impl ObjectChecksum {
    /// A checksum over all bytes.
    pub fn full_object(checksum: Checksum) -> Self {
        ObjectChecksum { checksum, checksum_type: ChecksumType::FullObject, parts_count: 0 }
    }

    /// A checksum over the checksums of so many parts.
    pub fn composite(checksum: Checksum, parts_count: u32) -> Self {
        ObjectChecksum { checksum, checksum_type: ChecksumType::Composite, parts_count }
    }

    /// Adds `x-amz-checksum-*` and `x-amz-checksum-type`.
    pub(crate) fn render_into(&self, response: &mut Response) {
        response
            .headers
            .push((self.checksum.algorithm().header_name().into(), self.to_string().into_bytes()));
        response.headers.push(("x-amz-checksum-type".into(), self.checksum_type.name().into()));
    }

    /// Writes `Checksum*` and `ChecksumType`.
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.value(self.checksum.algorithm().element_name(), self);
        writer.value("ChecksumType", self.checksum_type.name());
    }
}

impl fmt::Display for ObjectChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.checksum.to_base64())?;
        match self.checksum_type {
            ChecksumType::Composite => write!(f, "-{}", self.parts_count),
            ChecksumType::FullObject => Ok(()),
        }
    }
}

/// What responses say about an object.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Entity tag.
    pub etag: ETag,
    /// Milliseconds since 1970.
    pub last_modified_ms: i64,
    /// Length in bytes.
    pub len: u64,
    /// Its metadata.
    pub headers: &'a ObjectHeaders,
    /// Its checksum, if it has one; of a part, when a part is asked for.
    pub checksum: Option<ObjectChecksum>,
    /// Whether it is encrypted at rest.
    pub encryption: Encryption,
}

impl Object<'_> {
    /// `Last-Modified` and `ETag`.
    pub(crate) fn render_validators_into(&self, response: &mut Response) {
        let last_modified = time::http_date(self.last_modified_ms.div_euclid(1000));
        response.headers.push(("Last-Modified".into(), last_modified.into_bytes()));
        response.headers.push(("ETag".into(), self.etag.quoted().into_bytes()));
    }
}
