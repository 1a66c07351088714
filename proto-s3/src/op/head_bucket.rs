//! HeadBucket: `HEAD /bucket`.

use crate::http::{Response, ResponseBody};

/// A HeadBucket request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
}

/// The response. SDKs learn the region of a bucket from it.
pub fn render(region: &str) -> Response {
    Response::new(200)
        .header("x-amz-bucket-region", region)
        .header("x-amz-access-point-alias", "false")
        .header("Content-Type", "application/xml")
        .with_body(ResponseBody::HeadOnly { len: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::header;

    #[test]
    fn the_region_is_in_the_head() {
        assert_eq!(header(&render("eu-central-1"), "x-amz-bucket-region"), Some("eu-central-1"));
    }
}
