//! HeadObject: `HEAD /bucket/key`. The request is GetObject's.

use crate::http::{Response, ResponseBody};
use crate::op::Object;
use crate::op::object_read::{self, Selection};

pub use crate::op::object_read::{ChecksumMode, Decision, Request, no_such_part, render_not_modified};

/// The response: what GetObject would have sent, without the body.
pub fn render(request: &Request, object: &Object<'_>, selection: Selection) -> Response {
    let (response, byte_count) = object_read::render(request, object, selection);
    response.with_body(ResponseBody::HeadOnly { len: byte_count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ETag;
    use crate::op::testing::{header, routed};
    use crate::op::{Encryption, ObjectHeaders};
    use crate::operation::Operation;

    #[test]
    fn head_tells_the_length_that_get_would_send() {
        let Ok(Operation::HeadObject(request)) = routed("HEAD", "/bucket/k", &[("range", "bytes=-4")]) else {
            panic!("a HeadObject")
        };
        let headers = ObjectHeaders::default();
        let object = Object {
            etag: ETag::single([0; 16]),
            last_modified_ms: 0,
            len: 10,
            headers: &headers,
            checksum: None,
            encryption: Encryption::None,
        };
        let Ok(Decision::Send(selection)) = request.decide(&object) else { panic!("bytes") };
        let response = render(&request, &object, selection);
        assert_eq!((response.status, &response.body), (206, &ResponseBody::HeadOnly { len: 4 }));
        assert_eq!(header(&response, "Content-Range"), Some("bytes 6-9/10"));
        assert_eq!(header(&response, "x-amz-server-side-encryption"), None);
    }
}
