//! GetBucketLocation: `GET /bucket?location`.

use crate::http::Response;
use crate::xml::Writer;

/// The region that AWS reports as an empty element.
const REGION_WITHOUT_NAME: &str = "us-east-1";

/// A GetBucketLocation request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
}

/// The response.
pub fn render(region: &str) -> Response {
    let mut writer = Writer::new("LocationConstraint");
    if region != REGION_WITHOUT_NAME {
        writer.content(region);
    }
    Response::xml(200, writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::document;

    #[test]
    fn the_first_region_has_no_name() {
        let namespace = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";
        assert_eq!(
            document(&render("us-east-1")),
            format!("<LocationConstraint {namespace}></LocationConstraint>")
        );
        assert_eq!(
            document(&render("eu-central-1")),
            format!("<LocationConstraint {namespace}>eu-central-1</LocationConstraint>")
        );
    }
}
