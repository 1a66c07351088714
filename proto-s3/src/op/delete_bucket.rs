//! DeleteBucket: `DELETE /bucket`.

use crate::http::Response;

/// A DeleteBucket request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
}

/// The response.
pub fn render() -> Response {
    Response::new(204)
}
