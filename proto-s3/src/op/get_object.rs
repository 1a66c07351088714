//! GetObject: `GET /bucket/key`.

use crate::http::{Response, ResponseBody};
use crate::op::Object;
use crate::op::object_read::{self, Selection};

pub use crate::op::object_read::{ChecksumMode, Decision, Request, no_such_part, render_not_modified};

/// The response; its body is a stream of the selected bytes, which the caller sends.
pub fn render(request: &Request, object: &Object<'_>, selection: Selection) -> Response {
    let (response, byte_count) = object_read::render(request, object, selection);
    response.with_body(ResponseBody::Stream { len: byte_count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{Algorithm, Hasher};
    use crate::op::testing::{header, refused, routed};
    use crate::op::{Encryption, ObjectChecksum, ObjectHeaders};
    use crate::operation::Operation;
    use crate::{Code, ETag, Error};

    const SIGNED: (&str, &str) = ("authorization", "AWS4-HMAC-SHA256 Credential=...");
    const ETAG: &str = "\"d41d8cd98f00b204e9800998ecf8427e\"";

    fn request(target: &str, headers: &[(&str, &str)]) -> Request {
        let Ok(Operation::GetObject(request)) = routed("GET", target, headers) else { panic!("a GetObject") };
        request
    }

    fn stored() -> ObjectHeaders {
        ObjectHeaders::from_pairs(vec![
            ("content-type".into(), b"text/plain".to_vec()),
            ("cache-control".into(), b"no-cache".to_vec()),
            ("x-amz-meta-a".into(), b"1".to_vec()),
        ])
    }

    fn object(headers: &ObjectHeaders) -> Object<'_> {
        Object {
            etag: ETag::parse(ETAG).unwrap(),
            last_modified_ms: 784_111_777_500,
            len: 10,
            headers,
            checksum: Some(ObjectChecksum::full_object(Hasher::hash(Algorithm::Crc32, b"123456789"))),
            encryption: Encryption::Aes256,
        }
    }

    fn decide(headers: &[(&str, &str)]) -> Result<Decision, Error> {
        request("/bucket/k", headers).decide(&object(&stored()))
    }

    #[test]
    fn the_whole_object_comes_with_its_metadata() {
        let response = render(&request("/bucket/k", &[]), &object(&stored()), Selection::Whole);
        assert_eq!((response.status, &response.body), (200, &ResponseBody::Stream { len: 10 }));
        let expected = [
            ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("ETag", ETAG),
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", "no-cache"),
            ("Content-Type", "text/plain"),
            ("x-amz-meta-a", "1"),
            ("x-amz-server-side-encryption", "AES256"),
        ];
        let found: Vec<(&str, &str)> =
            response.headers.iter().map(|(n, v)| (n.as_ref(), std::str::from_utf8(v).unwrap())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_range_is_partial_content_without_a_checksum() {
        let request = request("/bucket/k", &[("range", "bytes=2-5"), ("x-amz-checksum-mode", "ENABLED")]);
        let object_headers = stored();
        let object = object(&object_headers);
        let Ok(Decision::Send(selection)) = request.decide(&object) else { panic!("bytes") };
        assert_eq!(selection, Selection::Range { first: 2, last: 5 });
        let response = render(&request, &object, selection);
        assert_eq!((response.status, &response.body), (206, &ResponseBody::Stream { len: 4 }));
        assert_eq!(header(&response, "Content-Range"), Some("bytes 2-5/10"));
        assert_eq!(header(&response, "x-amz-checksum-crc32"), None);
    }

    #[test]
    fn checksums_are_shown_on_demand() {
        let response = |headers: &[(&str, &str)]| {
            render(&request("/bucket/k", headers), &object(&stored()), Selection::Whole)
        };
        let shown = response(&[("x-amz-checksum-mode", "ENABLED")]);
        assert_eq!(header(&shown, "x-amz-checksum-crc32"), Some("y/Q5Jg=="));
        assert_eq!(header(&shown, "x-amz-checksum-type"), Some("FULL_OBJECT"));
        assert_eq!(header(&response(&[]), "x-amz-checksum-crc32"), None);
        assert_eq!(refused("GET", "/bucket/k", &[("x-amz-checksum-mode", "maybe")]), Code::InvalidArgument);
    }

    #[test]
    fn a_part_is_partial_content_and_names_the_number_of_parts() {
        let request = request("/bucket/k?partNumber=2", &[]);
        assert_eq!(request.part_number, Some(2));
        let selection = Selection::Part { first: 6, len: 4, parts_count: Some(2) };
        let response = render(&request, &object(&stored()), selection);
        assert_eq!((response.status, &response.body), (206, &ResponseBody::Stream { len: 4 }));
        assert_eq!(header(&response, "Content-Range"), Some("bytes 6-9/10"));
        assert_eq!(header(&response, "x-amz-mp-parts-count"), Some("2"));
        assert_eq!(no_such_part(3, 2).status(), 416);
    }

    #[test]
    fn part_1_of_an_empty_object_is_the_whole_object() {
        let headers = stored();
        let empty = Object { len: 0, ..object(&headers) };
        let selection = Selection::Part { first: 0, len: 0, parts_count: None };
        let response = render(&request("/bucket/k?partNumber=1", &[]), &empty, selection);
        assert_eq!((response.status, header(&response, "Content-Range")), (200, None));
    }

    #[test]
    fn a_range_and_a_part_number_exclude_each_other() {
        assert_eq!(refused("GET", "/bucket/k?partNumber=1", &[("range", "bytes=0-1")]), Code::InvalidRequest);
    }

    #[test]
    fn if_range_decides_whether_the_range_counts() {
        let range = ("range", "bytes=0-3");
        let part = Ok(Decision::Send(Selection::Range { first: 0, last: 3 }));
        let whole = Ok(Decision::Send(Selection::Whole));
        assert_eq!(decide(&[range, ("if-range", ETAG)]), part);
        assert_eq!(decide(&[range, ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT")]), part);
        assert_eq!(decide(&[range, ("if-range", "\"other\"")]), whole);
        assert_eq!(decide(&[range, ("if-range", "Sun, 06 Nov 1994 08:49:38 GMT")]), whole);
        assert_eq!(decide(&[range, ("if-range", &format!("W/{ETAG}"))]), whole);
    }

    #[test]
    fn conditions_come_before_ranges() {
        assert_eq!(decide(&[("range", "bytes=99-"), ("if-none-match", ETAG)]), Ok(Decision::NotModified));
        let error = decide(&[("range", "bytes=99-"), ("if-match", "\"x\"")]).unwrap_err();
        assert_eq!(error.code, Code::PreconditionFailed);
        assert_eq!(decide(&[("range", "bytes=99-")]).unwrap_err().code, Code::InvalidRange);
    }

    #[test]
    fn not_modified_repeats_what_caches_need() {
        let response = render_not_modified(&object(&stored()));
        assert_eq!((response.status, &response.body), (304, &ResponseBody::Empty));
        assert_eq!(header(&response, "ETag"), Some(ETAG));
        assert_eq!(header(&response, "Cache-Control"), Some("no-cache"));
        assert_eq!(header(&response, "Content-Type"), None);
    }

    #[test]
    fn signed_requests_may_override_headers_of_the_response() {
        let target =
            "/bucket/k?response-content-type=a%2Fb&response-content-disposition=attachment%3B%20filename=x";
        let response = render(&request(target, &[SIGNED]), &object(&stored()), Selection::Whole);
        assert_eq!(header(&response, "Content-Type"), Some("a/b"));
        assert_eq!(header(&response, "Content-Disposition"), Some("attachment; filename=x"));
        assert_eq!(header(&response, "Cache-Control"), Some("no-cache"));
        assert_eq!(refused("GET", target, &[]), Code::InvalidRequest);
        request(&format!("{target}&X-Amz-Signature=1"), &[]);
    }

    #[test]
    fn an_override_cannot_smuggle_headers() {
        let target = "/bucket/k?response-content-type=a%0d%0aSet-Cookie:%20b";
        assert_eq!(refused("GET", target, &[SIGNED]), Code::InvalidArgument);
    }
}
