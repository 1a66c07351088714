//! One file per operation: its request, read from the head; its document, where it has one; its response.
//!
//! Requests own their values and are validated, as far as the head tells; what only the stored state can tell is the
//! node's to answer. `render` functions take plain values and return the whole response but for what every response has
//! (date, request ids, server), which `http::encode_response` adds.
//!
//! Beside the operations: `amz_headers` (which `x-amz-*` headers we know), [`object_headers`] (the metadata that an
//! object keeps), [`object`] (how an object presents itself in headers), [`listing`] and [`continuation`] (pages).

pub mod abort_multipart_upload;
pub(crate) mod amz_headers;
pub mod complete_multipart_upload;
pub mod continuation;
pub mod copy_object;
pub mod copy_source;
pub mod create_bucket;
pub mod create_multipart_upload;
pub mod delete_bucket;
pub mod delete_object;
pub mod delete_objects;
pub(crate) mod fields;
pub mod get_bucket_default;
pub mod get_bucket_location;
pub mod get_object;
pub mod get_object_attributes;
pub mod get_object_default;
pub mod head_bucket;
pub mod head_object;
pub mod list_buckets;
pub mod list_multipart_uploads;
pub mod list_objects;
pub mod list_objects_v2;
pub mod list_parts;
pub mod listing;
pub mod object;
pub mod object_headers;
pub mod object_read;
pub mod put_object;
pub mod upload_part;
pub mod upload_part_copy;

#[cfg(test)]
pub(crate) mod testing;

use crate::xml::Writer;

pub use continuation::ResumeAfter;
pub use copy_source::CopySource;
pub use fields::EncodingType;
pub use object::{Encryption, Object, ObjectChecksum};
pub use object_headers::ObjectHeaders;

/// The one storage class there is.
pub const STORAGE_CLASS: &str = "STANDARD";

/// Who owns buckets and objects, as documents name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The canonical user id: 64 hexadecimal digits in AWS, opaque to clients.
    pub id: String,
    /// A name for people.
    pub display_name: String,
}

impl Owner {
    /// The owner as an element of that name.
    pub(crate) fn write(&self, element: &'static str, writer: &mut Writer) {
        writer.open(element).text("ID", &self.id).text("DisplayName", &self.display_name).close();
    }
}
