//! Bad input gets the right error and changes nothing: every case looks at all that is visible before and after.

mod harness;

use std::time::{Duration, Instant};

use harness::raw::{Connection, Request, Response};
use harness::sign::{self, Signer};
use harness::{Node, bytes};

/// A node with a bucket, an object in it, and an upload with a part.
struct Scene {
    node: Node,
    upload: String,
    part_etag: String,
}

impl Scene {
    fn new() -> Self {
        Scene::on(Node::start())
    }

    fn on(node: Node) -> Self {
        Request::new("PUT", "/bucket").header("content-length", "0").succeed(&node);
        Request::new("PUT", "/bucket/kept").body("what was there before").succeed(&node);
        let created =
            Request::new("POST", "/bucket/whole?uploads=").header("content-length", "0").succeed(&node);
        let upload = created.element("UploadId").expect("an upload");
        let part = format!("/bucket/whole?partNumber=1&uploadId={upload}");
        let answer = Request::new("PUT", &part).body("a small part").succeed(&node);
        let part_etag = answer.header("etag").expect("a tag").to_owned();
        Scene { node, upload, part_etag }
    }

    /// Everything that a client can see.
    fn visible(&self) -> Vec<String> {
        let get = |path: &str| Request::new("GET", path).succeed(&self.node).text();
        vec![
            get("/"),
            get("/bucket?list-type=2"),
            get("/bucket?uploads="),
            get(&format!("/bucket/whole?uploadId={}", self.upload)),
            get("/bucket/kept"),
        ]
    }

    /// Runs the case, and checks its verdict and that nothing visible changed.
    fn refuses(&self, status: u16, code: &str, case: impl FnOnce(&Node) -> Response) -> Response {
        let before = self.visible();
        let response = case(&self.node);
        assert_eq!(response.verdict(), (status, code.to_owned()), "{}", response.text());
        assert!(response.header("x-amz-request-id").is_some_and(|id| id.len() == 16));
        assert_eq!(self.visible(), before, "{code} has changed something");
        response
    }

    fn refuses_request(&self, status: u16, code: &str, request: &Request) -> Response {
        self.refuses(status, code, |node| request.run(node))
    }

    /// Sends bytes that are no signed request.
    fn refuses_bytes(&self, status: u16, code: &str, wire: &[u8]) -> Response {
        self.refuses(status, code, |node| {
            let mut connection = Connection::open(node);
            let _ = connection.try_send(wire);
            let response = connection.receive("GET");
            assert!(connection.is_at_end(), "where the next request begins is not known");
            response
        })
    }
}

fn put(body: impl Into<Vec<u8>>) -> Request {
    Request::new("PUT", "/bucket/new").body(body)
}

fn put_part(scene: &Scene, body: impl Into<Vec<u8>>) -> Request {
    Request::new("PUT", &format!("/bucket/whole?partNumber=2&uploadId={}", scene.upload)).body(body)
}

fn complete(scene: &Scene, parts: &[(u32, &str)]) -> Request {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    Request::new("POST", &format!("/bucket/whole?uploadId={}", scene.upload)).body(document)
}

#[test]
fn a_truncated_body_is_incomplete() {
    let scene = Scene::new();
    for body in [bytes(100, 1), bytes(300_000, 2)] {
        let request = put(body);
        scene.refuses(400, "IncompleteBody", |node| {
            let mut connection = Connection::open(node);
            let (head, _) = request.head(node, &node.credentials());
            connection.send(&head);
            connection.send(&request.body[..request.body.len() - 1]);
            connection.finish_sending();
            connection.receive("PUT")
        });
    }
}

#[test]
fn a_client_that_vanishes_leaves_nothing() {
    let scene = Scene::new();
    let before = scene.visible();
    for request in [put(bytes(2_000_000, 3)), put_part(&scene, bytes(2_000_000, 4))] {
        let mut connection = Connection::open(&scene.node);
        let (head, _) = request.head(&scene.node, &scene.node.credentials());
        connection.send(&head);
        connection.send(&request.body[..1_500_000]);
        drop(connection);
    }
    assert_eq!(scene.visible(), before);
}

#[test]
fn a_body_that_does_not_match_its_digests_is_refused() {
    let scene = Scene::new();
    for body in [bytes(10, 1), bytes(100_000, 2)] {
        let wrong_md5 = put(body.clone()).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        scene.refuses_request(400, "BadDigest", &wrong_md5);
        let wrong_crc = put(body.clone()).header("x-amz-checksum-crc32", "AAAAAA==");
        scene.refuses_request(400, "BadDigest", &wrong_crc);
        let wrong_sha = put(body.clone()).payload(sign::EMPTY_SHA256);
        scene.refuses_request(400, "XAmzContentSHA256Mismatch", &wrong_sha);
        let part = put_part(&scene, body).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        scene.refuses_request(400, "BadDigest", &part);
    }
    scene.refuses_request(400, "InvalidDigest", &put("x").header("content-md5", "short"));
    scene.refuses_request(400, "InvalidRequest", &put("x").header("x-amz-checksum-crc32", "short"));
}

#[test]
fn a_wrong_checksum_in_the_trailer_is_refused() {
    let scene = Scene::new();
    let body = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    let request = put(body)
        .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", "5")
        .header("x-amz-trailer", "x-amz-checksum-crc32");
    scene.refuses_request(400, "BadDigest", &request);
}

#[test]
fn a_wrong_chunk_signature_is_refused() {
    let scene = Scene::new();
    let chunks = [bytes(65_536, 1), bytes(100, 2), Vec::new()];
    for wrong in 0..=chunks.len() {
        let sent = |node: &Node| {
            let signer = Signer::at(&node.credentials(), sign::now());
            let request = |len: usize| {
                Request::new("PUT", "/bucket/new")
                    .payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
                    .header("content-encoding", "aws-chunked")
                    .header("x-amz-decoded-content-length", "65636")
                    .header("content-length", &len.to_string())
            };
            let body_of = |seed: &str| {
                let mut previous = seed.to_owned();
                let mut body = Vec::new();
                for (index, chunk) in chunks.iter().enumerate() {
                    previous = signer.chunk(&previous, chunk);
                    let sent =
                        if index == wrong { previous.replace(|c| c != '0', "0") } else { previous.clone() };
                    body.extend_from_slice(
                        format!("{:x};chunk-signature={sent}\r\n", chunk.len()).as_bytes(),
                    );
                    body.extend_from_slice(chunk);
                    body.extend_from_slice(b"\r\n");
                }
                body
            };
            let request = request(body_of("").len());
            // A signature in place of none is 64 digits either way.
            let (head, seed) = request.head_by(node, &signer);
            let mut connection = Connection::open(node);
            let _ = connection.try_send(&head);
            let _ = connection.try_send(&body_of(&seed));
            connection.receive("PUT")
        };
        if wrong < chunks.len() {
            scene.refuses(403, "SignatureDoesNotMatch", sent);
        } else {
            assert_eq!(sent(&scene.node).status, 200, "with all signatures right it is stored");
        }
    }
}

#[test]
fn a_wrong_secret_or_key_is_refused_before_the_body_is_asked_for() {
    let scene = Scene::new();
    let mut wrong_secret = scene.node.credentials();
    wrong_secret.secret.push('x');
    let mut wrong_key = scene.node.credentials();
    wrong_key.access_key.push('X');
    for (credentials, code) in [(wrong_secret, "SignatureDoesNotMatch"), (wrong_key, "InvalidAccessKeyId")] {
        scene.refuses(403, code, |node| {
            let request = put("secret").header("expect", "100-continue");
            let mut connection = Connection::open(node);
            connection.send(&request.head(node, &credentials).0);
            connection.receive("PUT")
        });
    }
}

#[test]
fn a_clock_that_is_off_is_refused() {
    let scene = Scene::new();
    for skew in [-16 * 60, 16 * 60] {
        scene.refuses_request(403, "RequestTimeTooSkewed", &put("x").skewed(skew));
    }
    assert_eq!(Request::new("GET", "/bucket/kept").skewed(14 * 60).run(&scene.node).status, 200);
}

fn presigned(node: &Node, signed_at: i64, expires: u32) -> Response {
    let signer = Signer::at(&node.credentials(), signed_at);
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host",
        signer.credential().replace('/', "%2F"),
        signer.date
    );
    let host = [("host".to_owned(), node.endpoint().to_string())];
    let signature = signer.request("GET", "/bucket/kept", &query, &host, "UNSIGNED-PAYLOAD");
    let mut connection = Connection::open(node);
    let target = format!("/bucket/kept?{query}&X-Amz-Signature={signature}");
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", node.endpoint()).as_bytes());
    connection.receive("GET")
}

#[test]
fn a_presigned_url_expires() {
    let scene = Scene::new();
    assert_eq!(presigned(&scene.node, sign::now() - 10, 60).text(), "what was there before");
    let expired = scene.refuses(403, "AccessDenied", |node| presigned(node, sign::now() - 120, 60));
    assert_eq!(expired.element("Message").as_deref(), Some("Request has expired"));
    scene.refuses(400, "AuthorizationQueryParametersError", |node| presigned(node, sign::now(), 604_801));
}

#[test]
fn an_anonymous_request_learns_nothing() {
    let scene = Scene::new();
    for target in ["/", "/bucket", "/bucket/kept", "/no-such-bucket", "/bucket?acl"] {
        let wire = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        scene.refuses_bytes(403, "AccessDenied", wire.as_bytes());
    }
    let wire = "PUT /bucket/new HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    scene.refuses_bytes(403, "AccessDenied", wire.as_bytes());
}

#[test]
fn parts_are_held_against_what_was_uploaded() {
    let mut scene = Scene::new();
    let answer = put_part(&scene, "another part").succeed(&scene.node);
    let second = answer.header("etag").expect("a tag").to_owned();
    let first = std::mem::take(&mut scene.part_etag);
    let too_small = complete(&scene, &[(1, &first), (2, &second)]);
    let response = scene.refuses_request(400, "EntityTooSmall", &too_small);
    assert_eq!(response.element("MinSizeAllowed").as_deref(), Some("5242880"));
    scene.refuses_request(400, "InvalidPartOrder", &complete(&scene, &[(2, &second), (1, &first)]));
    scene.refuses_request(400, "InvalidPartOrder", &complete(&scene, &[(1, &first), (1, &first)]));
    scene.refuses_request(400, "InvalidPart", &complete(&scene, &[(1, &second)]));
    scene.refuses_request(400, "InvalidPart", &complete(&scene, &[(3, &first)]));
    scene.refuses_request(400, "MalformedXML", &complete(&scene, &[]));
    scene.refuses_request(400, "InvalidArgument", &complete(&scene, &[(10_001, &first)]));
    let unknown = complete(&scene, &[(1, &first)]);
    let unknown = Request { query: format!("uploadId={}", "0".repeat(31) + "1"), ..unknown };
    scene.refuses_request(404, "NoSuchUpload", &unknown);
    let garbage = Request { query: "uploadId=garbage".into(), ..unknown };
    scene.refuses_request(404, "NoSuchUpload", &garbage);
    let number = format!("/bucket/whole?partNumber=10001&uploadId={}", scene.upload);
    scene.refuses_request(400, "InvalidArgument", &Request::new("PUT", &number).body("x"));
}

#[test]
fn a_body_over_5_gib_is_refused_before_it_is_sent() {
    let scene = Scene::new();
    let over = (5u64 << 30) + 1;
    let target = format!("/bucket/whole?partNumber=2&uploadId={}", scene.upload);
    for request in [Request::new("PUT", "/bucket/new"), Request::new("PUT", &target)] {
        let request = request.header("content-length", &over.to_string()).payload("UNSIGNED-PAYLOAD");
        let response = scene.refuses_request(400, "EntityTooLarge", &request);
        assert_eq!(response.header("connection"), Some("close"), "nobody reads 5 GiB to refuse them");
    }
}

#[test]
fn a_body_of_unknown_length_is_refused() {
    let scene = Scene::new();
    let request = Request::new("PUT", "/bucket/new").payload("UNSIGNED-PAYLOAD");
    scene.refuses_request(411, "MissingContentLength", &request);
    let chunked = request.header("transfer-encoding", "chunked");
    scene.refuses_request(411, "MissingContentLength", &chunked);
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let scene = Scene::new();
    let long = format!("GET /bucket HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(17 * 1024));
    scene.refuses_bytes(400, "RequestHeaderSectionTooLarge", long.as_bytes());
    let many = format!("GET /bucket HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(200));
    scene.refuses_bytes(400, "RequestHeaderSectionTooLarge", many.as_bytes());
    let endless = "GET /".to_owned() + &"a".repeat(20 * 1024);
    scene.refuses_bytes(400, "RequestHeaderSectionTooLarge", endless.as_bytes());
    let metadata = put("x").header("x-amz-meta-long", &"m".repeat(2048));
    scene.refuses_request(400, "MetadataTooLarge", &metadata);
    let key = Request::new("PUT", &format!("/bucket/{}", "k".repeat(1025))).body("x");
    scene.refuses_request(400, "KeyTooLongError", &key);
}

#[test]
fn a_slow_loris_does_not_last() {
    let node = Node::start_with(
        "[store]\ndevice_size = \"64MiB\"\nsegment_size = \"1MiB\"\n[limits]\nhead_timeout = \"2s\"\nbody_stall_timeout = \"1s\"\n",
    );
    let scene = Scene::on(node);
    scene.refuses(400, "RequestTimeout", |node| {
        let mut connection = Connection::open(node);
        let begun = Instant::now();
        // No single wait is long. If each byte began the time anew, the answer would come after three and a half seconds.
        for byte in b"GET /bucket/key" {
            connection.send(&[*byte]);
            std::thread::sleep(Duration::from_millis(100));
        }
        let response = connection.receive("GET");
        assert!(begun.elapsed() < Duration::from_millis(3300), "{:?}", begun.elapsed());
        response
    });
    let stalled = put(bytes(100_000, 1));
    scene.refuses(400, "RequestTimeout", |node| {
        let mut connection = Connection::open(node);
        connection.send(&stalled.head(node, &node.credentials()).0);
        connection.send(&stalled.body[..50_000]);
        connection.receive("PUT")
    });
}

#[test]
fn malformed_xml_is_refused() {
    let scene = Scene::new();
    let deep = format!("<Delete>{}{}</Delete>", "<a>".repeat(50), "</a>".repeat(50));
    let many: String = (0..1001).map(|i| format!("<Object><Key>{i}</Key></Object>")).collect();
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE d [<!ENTITY a \"kept\">]><Delete><Object><Key>&a;</Key></Object></Delete>";
    let undeclared = "<Delete><Object><Key>&a;</Key></Object></Delete>";
    for document in [
        "",
        "<Delete>",
        "<Delete></Delete>",
        "<Other/>",
        "not xml",
        "<Delete><Object><Key>kept</Key></Object></Delete><more/>",
        "<Delete><Object></Object></Delete>",
        &deep,
        bomb,
        undeclared,
        &format!("<Delete>{many}</Delete>"),
    ] {
        scene.refuses_request(400, "MalformedXML", &delete_objects(document));
    }
    let invalid_utf8 = delete_objects(b"<Delete><Object><Key>\xff</Key></Object></Delete>".to_vec());
    scene.refuses_request(400, "MalformedXML", &invalid_utf8);
    let long = delete_objects(vec![b' '; 2 * 1024 * 1024 + 1]);
    scene.refuses_request(400, "MaxMessageLengthExceeded", &long);
    scene.refuses_request(400, "MalformedXML", &Request::new("PUT", "/other").body("<a"));
}

/// A DeleteObjects request, whose document is protected as it must be.
fn delete_objects(document: impl Into<Vec<u8>>) -> Request {
    let document = document.into();
    let sha256 = proto_s3::Hasher::hash(proto_s3::Algorithm::Sha256, &document).to_base64();
    Request::new("POST", "/bucket?delete=").body(document).header("x-amz-checksum-sha256", &sha256)
}

#[test]
fn delete_objects_without_a_digest_is_refused() {
    let scene = Scene::new();
    let document = "<Delete><Object><Key>kept</Key></Object></Delete>";
    scene.refuses_request(400, "InvalidRequest", &Request::new("POST", "/bucket?delete=").body(document));
    let wrong = delete_objects(document)
        .header("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    scene.refuses_request(400, "BadDigest", &wrong);
}

#[test]
fn invalid_utf8_and_bad_escapes_in_the_target_are_refused() {
    let scene = Scene::new();
    for path in ["/bucket/%FF", "/bucket/%zz", "/bucket/a%"] {
        let request = Request { path: path.into(), ..put("x") };
        scene.refuses_request(400, "InvalidURI", &request);
    }
    scene.refuses_bytes(400, "BadRequest", b"GET /bucket/\xff HTTP/1.1\r\nHost: h\r\n\r\n");
    scene.refuses_request(
        400,
        "InvalidBucketName",
        &Request::new("PUT", "/No_Bucket").header("content-length", "0"),
    );
}

#[test]
fn what_smuggling_is_made_of_is_refused() {
    let scene = Scene::new();
    for head in [
        "PUT /bucket/new HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT /bucket/new HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "PUT /bucket/new HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n",
        "PUT /bucket/new HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "PUT /bucket/new HTTP/1.1\r\nHost: h\nContent-Length: 3\r\n\r\n",
        "PUT /bucket/new HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
        "PUT /bucket/new HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n",
        "PUT /bucket/new HTTP/2.0\r\nHost: h\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        scene.refuses_bytes(400, "BadRequest", head.as_bytes());
    }
}

#[test]
fn what_is_not_implemented_says_so() {
    let scene = Scene::new();
    scene.refuses_bytes(405, "MethodNotAllowed", b"PATCH /bucket HTTP/1.1\r\nHost: h\r\n\r\n");
    scene.refuses_request(405, "MethodNotAllowed", &Request::new("POST", "/bucket/kept"));
    scene.refuses_request(501, "NotImplemented", &Request::new("PUT", "/bucket?versioning=").body("x"));
    scene.refuses_request(501, "NotImplemented", &Request::new("GET", "/bucket?analytics="));
    scene.refuses_request(501, "NotImplemented", &put("x").header("x-amz-tagging", "a=b"));
    scene.refuses_request(501, "NotImplemented", &put("x").header("x-amz-from-the-future", "1"));
    scene.refuses_request(501, "NotImplemented", &put("x").header("x-amz-acl", "public-read"));
    scene.refuses_request(400, "InvalidStorageClass", &put("x").header("x-amz-storage-class", "GLACIER"));
    scene.refuses_request(404, "NoSuchVersion", &Request::new("GET", "/bucket/kept?versionId=7"));
}

#[test]
fn a_short_refused_body_leaves_the_connection_usable() {
    let scene = Scene::new();
    let mut connection = Connection::open(&scene.node);
    let wrong = put("x".repeat(1000)).header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    assert_eq!(wrong.run_on(&scene.node, &mut connection).code(), "BadDigest");
    let unread = Request { path: "/no-such-bucket/new".into(), ..put("y".repeat(1000)) };
    assert_eq!(unread.run_on(&scene.node, &mut connection).code(), "NoSuchBucket");
    let answer = Request::new("GET", "/bucket/kept").run_on(&scene.node, &mut connection);
    assert_eq!(answer.text(), "what was there before");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let scene = Scene::new();
    let mut connection = Connection::open(&scene.node);
    let credentials = scene.node.credentials();
    let requests = [put("first"), Request::new("GET", "/bucket/new"), Request::new("GET", "/bucket/kept")];
    let wire: Vec<u8> = requests
        .iter()
        .flat_map(|request| [request.head(&scene.node, &credentials).0, request.body.clone()].concat())
        .collect();
    connection.send(&wire);
    assert_eq!(connection.receive("PUT").status, 200);
    assert_eq!(connection.receive("GET").text(), "first");
    assert_eq!(connection.receive("GET").text(), "what was there before");
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_only_when_its_body_is_wanted() {
    let scene = Scene::new();
    let request = put("later").header("expect", "100-continue");
    let mut connection = Connection::open(&scene.node);
    connection.send(&request.head(&scene.node, &scene.node.credentials()).0);
    assert_eq!(connection.receive("PUT").status, 100);
    connection.send(&request.body);
    assert_eq!(connection.receive("PUT").status, 200);
    let unwanted = Request { path: "/no-such-bucket/new".into(), ..request };
    let mut connection = Connection::open(&scene.node);
    connection.send(&unwanted.head(&scene.node, &scene.node.credentials()).0);
    let response = connection.receive("PUT");
    assert_eq!(response.verdict(), (404, "NoSuchBucket".to_owned()));
    assert!(connection.is_at_end(), "whether the body comes is not known");
}

#[test]
fn the_space_of_abandoned_uploads_is_used_again() {
    let scene = Scene::new();
    let body = bytes(8_000_000, 5);
    // Three times what the devices hold.
    for round in 0..24 {
        let request = if round % 2 == 0 { put(body.clone()) } else { put_part(&scene, body.clone()) };
        let request = request.header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(request.run(&scene.node).code(), "BadDigest", "round {round}");
    }
    put(body).succeed(&scene.node);
}
