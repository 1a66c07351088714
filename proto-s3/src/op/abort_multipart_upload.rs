//! AbortMultipartUpload: `DELETE /bucket/key?uploadId=`.

use crate::http::Response;

/// An AbortMultipartUpload request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
}

/// The response.
pub fn render() -> Response {
    Response::new(204)
}
