//! XML as S3 speaks it: a writer for response documents, a bounded pull reader for request documents.

pub mod reader;
pub mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// The namespace of every S3 document.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
