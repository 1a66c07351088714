//! What the listings of keys have in common: parameters, entries, and how a page is written.

use crate::checksum::{Algorithm, ChecksumType};
use crate::op::fields::{self, EncodingType, encoded};
use crate::op::{Owner, ResumeAfter, STORAGE_CLASS};
use crate::query::Query;
use crate::xml::Writer;
use crate::{ETag, Error, Limits, time};

/// What to list and how to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys are rolled up into common prefixes at the first occurrence of this behind the prefix. Never empty.
    pub delimiter: Option<String>,
    /// Most keys and common prefixes of the page, 0 to 1000.
    pub max_keys: u32,
    /// How keys are written.
    pub encoding_type: Option<EncodingType>,
}

impl Scope {
    pub(crate) fn from_query(query: &Query, limits: &Limits) -> Result<Self, Error> {
        Ok(Scope {
            prefix: query.value("prefix").unwrap_or("").to_owned(),
            delimiter: query.non_empty("delimiter").map(str::to_owned),
            max_keys: fields::page_size(query, "max-keys", 0, limits.list_max)?,
            encoding_type: EncodingType::from_query(query)?,
        })
    }

    /// Text in the encoding that the client asked for.
    pub(crate) fn encode<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        encoded(text, self.encoding_type)
    }

    /// Writes what comes between the markers and the entries.
    pub(crate) fn write_limits(&self, writer: &mut Writer, is_truncated: bool) {
        writer.value("MaxKeys", self.max_keys);
        if let Some(delimiter) = &self.delimiter {
            writer.text("Delimiter", &self.encode(delimiter));
        }
        if self.encoding_type == Some(EncodingType::Url) {
            writer.value("EncodingType", "url");
        }
        writer.value("IsTruncated", is_truncated);
    }
}

/// One key of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Milliseconds since 1970.
    pub last_modified_ms: i64,
    /// The entity tag.
    pub etag: ETag,
    /// Length in bytes.
    pub len: u64,
    /// Algorithm and type of its checksum, if it has one.
    pub checksum: Option<(Algorithm, ChecksumType)>,
}

/// One page, as the engine found it: entries and common prefixes, each in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub entries: Vec<Entry>,
    /// The common prefixes.
    pub common_prefixes: Vec<String>,
    /// The last key or common prefix of the page, when there are more behind it.
    pub next: Option<ResumeAfter>,
}

impl Page {
    /// Writes the entries and common prefixes.
    pub(crate) fn write(&self, scope: &Scope, owner: Option<&Owner>, writer: &mut Writer) {
        for entry in &self.entries {
            entry.write(scope, owner, writer);
        }
        for prefix in &self.common_prefixes {
            writer.open("CommonPrefixes").text("Prefix", &scope.encode(prefix)).close();
        }
    }
}

impl Entry {
    fn write(&self, scope: &Scope, owner: Option<&Owner>, writer: &mut Writer) {
        writer.open("Contents").text("Key", &scope.encode(&self.key));
        writer.value("LastModified", time::iso8601(self.last_modified_ms)).quoted("ETag", self.etag);
        if let Some((algorithm, checksum_type)) = self.checksum {
            writer.value("ChecksumAlgorithm", algorithm.name()).value("ChecksumType", checksum_type.name());
        }
        writer.value("Size", self.len);
        if let Some(owner) = owner {
            owner.write("Owner", writer);
        }
        writer.value("StorageClass", STORAGE_CLASS).close();
    }
}
