//! DeleteObject: `DELETE /bucket/key`.

use crate::Error;
use crate::condition::WriteCondition;
use crate::http::{RequestHead, Response};

/// A DeleteObject request. It succeeds, too, when there is no such object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What has to be true of the object.
    pub condition: WriteCondition,
}

impl Request {
    pub(crate) fn from_head(head: &RequestHead, bucket: String, key: String) -> Result<Self, Error> {
        Ok(Request { bucket, key, condition: WriteCondition::of_delete(head)? })
    }
}

/// The response.
pub fn render() -> Response {
    Response::new(204)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::op::testing::{refused, routed};
    use crate::operation::Operation;

    #[test]
    fn a_delete_may_ask_for_a_tag() {
        let Ok(Operation::DeleteObject(request)) = routed("DELETE", "/bucket/k", &[("if-match", "*")]) else {
            panic!("a DeleteObject")
        };
        assert_eq!(request.condition, WriteCondition::Present);
        assert_eq!(refused("DELETE", "/bucket/k", &[("if-none-match", "*")]), Code::NotImplemented);
        assert_eq!(render(), Response::new(204));
    }

    #[test]
    fn only_the_null_version_exists() {
        assert!(routed("DELETE", "/bucket/k?versionId=null", &[]).is_ok());
        assert_eq!(refused("DELETE", "/bucket/k?versionId=3HL4kqt", &[]), Code::NoSuchVersion);
    }
}
