//! What is refused, and with which code.

use super::*;

const AMZ_DATE: &str = "20130524T000000Z";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";

fn plain() -> String {
    format!("GET /b/k HTTP/1.1\nHost: h\nx-amz-content-sha256: {EMPTY_SHA256}\nx-amz-date: {AMZ_DATE}")
}

fn good() -> String {
    signed(&plain(), SIGNED, EMPTY_SHA256, AMZ_DATE)
}

fn refusal_at(text: &str, policy: &Policy) -> Error {
    match check(text, policy) {
        Err(error) => error,
        Ok(signed) => panic!("{text}: {signed:?}"),
    }
}

fn refusal(text: &str) -> Error {
    refusal_at(text, &Policy::at(EXAMPLE_TIME))
}

fn detail<'a>(error: &'a Error, name: &str) -> Option<&'a str> {
    error.details.iter().find(|(n, _)| *n == name).map(|(_, text)| text.as_str())
}

#[test]
fn a_good_request_is_accepted_again_and_again_with_one_authenticator() {
    let mut authenticator = Authenticator::new();
    for _ in 0..3 {
        let result = authenticator.authenticate(&head(&good()), &KEYS, &Policy::at(EXAMPLE_TIME));
        assert!(matches!(result, Ok(Authentication::Signed(_))), "{result:?}");
    }
    let changed = good().replace("/b/k", "/b/j");
    let error = authenticator.authenticate(&head(&changed), &KEYS, &Policy::at(EXAMPLE_TIME)).unwrap_err();
    assert_eq!(error.code, Code::SignatureDoesNotMatch);
}

#[test]
fn a_request_without_a_signature_is_anonymous() {
    for (headers, payload) in [
        ("", "Unsigned"),
        ("\nx-amz-content-sha256: UNSIGNED-PAYLOAD", "Unsigned"),
        ("\nx-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "StreamingUnsignedTrailer"),
    ] {
        let head = head(&format!("GET /b/k?prefix=X-Amz-Signature HTTP/1.1\nHost: h{headers}"));
        let authentication = authenticate(&head, &KEYS, &Policy::at(EXAMPLE_TIME)).unwrap();
        assert!(matches!(authentication, Authentication::Anonymous { .. }));
        assert_eq!(format!("{:?}", authentication.payload()), payload);
    }
    let head = head("PUT /b/k HTTP/1.1\nHost: h\nx-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    assert_eq!(authenticate(&head, &KEYS, &Policy::at(EXAMPLE_TIME)).unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn any_change_to_what_is_signed_breaks_the_signature() {
    for (from, to) in [
        ("GET /b/k", "PUT /b/k"),
        ("/b/k", "/b//k"),
        ("/b/k", "/b/k?acl"),
        ("Host: h", "Host: g"),
        ("/us-east-1/", "/us-east-2/"),
        ("T000000Z", "T000001Z"),
    ] {
        assert_eq!(refusal(&good().replace(from, to)).code, Code::SignatureDoesNotMatch, "{from} {to}");
    }
    let mut broken = good();
    let last = if broken.pop() == Some('0') { '1' } else { '0' };
    broken.push(last);
    assert_eq!(refusal(&broken).code, Code::SignatureDoesNotMatch);
}

#[test]
fn another_spelling_of_the_same_bytes_keeps_the_signature() {
    let text = plain().replace("/b/k", "/b/k%7E%20x?a=%7e&b=c+d");
    let good = signed(&text, SIGNED, EMPTY_SHA256, AMZ_DATE);
    check(
        &good.replace("%7E%20", "~%20").replace("a=%7e", "a=~").replace("c+d", "c%20d"),
        &Policy::at(EXAMPLE_TIME),
    )
    .unwrap();
}

#[test]
fn the_path_is_not_normalised() {
    for path in ["/b//k", "/b/./k", "/b/../k", "/b/k/", "//"] {
        let good = signed(&plain().replace("/b/k", path), SIGNED, EMPTY_SHA256, AMZ_DATE);
        check(&good, &Policy::at(EXAMPLE_TIME)).unwrap();
    }
}

#[test]
fn the_canonical_request_is_shown_under_debug_only() {
    let broken = good().replace("/b/k", "/b/j");
    let policy = Policy { debug_canonical: true, ..Policy::at(EXAMPLE_TIME) };
    let shown = refusal_at(&broken, &policy);
    assert!(detail(&shown, "CanonicalRequest").unwrap().starts_with("GET\n/b/j\n\nhost:h\n"));
    assert!(detail(&shown, "StringToSign").unwrap().starts_with("AWS4-HMAC-SHA256\n20130524T000000Z\n"));
    assert_eq!(detail(&refusal(&broken), "CanonicalRequest"), None);
}

#[test]
fn the_time_may_be_a_quarter_of_an_hour_off() {
    for offset in [-900, 0, 900] {
        check(&good(), &Policy::at(EXAMPLE_TIME + offset)).unwrap();
    }
    for offset in [-901, 901] {
        let error = refusal_at(&good(), &Policy::at(EXAMPLE_TIME + offset));
        assert_eq!(error.code, Code::RequestTimeTooSkewed);
        assert_eq!(detail(&error, "RequestTime"), Some(AMZ_DATE));
        assert_eq!(detail(&error, "MaxAllowedSkewMilliseconds"), Some("900000"));
    }
}

#[test]
fn the_date_header_stands_in_for_a_missing_x_amz_date() {
    let text = format!(
        "GET /b/k HTTP/1.1\nHost: h\nDate: Fri, 24 May 2013 00:00:00 GMT\nx-amz-content-sha256: {EMPTY_SHA256}"
    );
    check(
        &signed(&text, "date;host;x-amz-content-sha256", EMPTY_SHA256, AMZ_DATE),
        &Policy::at(EXAMPLE_TIME),
    )
    .unwrap();
}

#[test]
fn a_missing_or_malformed_date_is_denied() {
    for (from, to) in [
        ("\nx-amz-date: 20130524T000000Z", ""),
        ("x-amz-date: 20130524T000000Z", "x-amz-date: yesterday"),
        ("x-amz-date: 20130524T000000Z", "x-amz-date: \u{e9}\nDate: Fri, 24 May 2013 00:00:00 GMT"),
        ("x-amz-date: 20130524T000000Z", "x-amz-date: "),
    ] {
        let error = refusal(&good().replace(from, to));
        assert_eq!(error.code, Code::AccessDenied, "{to}");
        assert!(error.message.contains("valid Date or x-amz-date"), "{}", error.message);
    }
}

#[test]
fn the_day_of_the_scope_is_the_day_of_the_request() {
    let error = refusal(&good().replace("/20130524/", "/20130523/"));
    assert_eq!(error.code, Code::AuthorizationHeaderMalformed);
    assert!(error.message.contains("Invalid credential date"));
}

#[test]
fn a_region_is_checked_when_the_policy_names_one() {
    let policy = |region: &str| Policy { region: Some(region.into()), ..Policy::at(EXAMPLE_TIME) };
    check(&good(), &policy("us-east-1")).unwrap();
    let error = refusal_at(&good(), &policy("eu-west-1"));
    assert_eq!(error.code, Code::AuthorizationHeaderMalformed);
    assert_eq!(detail(&error, "Region"), Some("eu-west-1"));
    let error = refusal_at(&presigned("GET", AMZ_DATE, "60", ""), &policy("eu-west-1"));
    assert_eq!(error.code, Code::AuthorizationQueryParametersError);
}

#[test]
fn an_unknown_access_key_is_named() {
    let error = refusal(&good().replace(ACCESS_KEY, "AKIDOTHER"));
    assert_eq!(error.code, Code::InvalidAccessKeyId);
    assert_eq!(detail(&error, "AWSAccessKeyId"), Some("AKIDOTHER"));
}

#[test]
fn a_malformed_authorization_header_says_so() {
    for (from, to) in [
        ("Credential=AKIAIOSFODNN7EXAMPLE/", "Credential="),
        ("Credential=", "Credentials="),
        ("/s3/", "/ec2/"),
        ("aws4_request", "aws4"),
        ("SignedHeaders=", "SignedHeader="),
        ("SignedHeaders=host;x-amz-content-sha256;x-amz-date", "SignedHeaders="),
        ("SignedHeaders=host", "SignedHeaders=host;host"),
        ("SignedHeaders=host", "SignedHeaders=Host"),
        ("SignedHeaders=host;", "SignedHeaders=host;;"),
        ("SignedHeaders=host;x-amz-content-sha256", "SignedHeaders=x-amz-content-sha256;host"),
        (", Signature=", ", Signature=0"),
        (", Signature=", ", Signature=zz"),
        (", Signature=", ", Signature"),
        (", Signature=", ""),
        (", Signature=", ", X=y, Signature="),
        (", Signature=", ",, Signature="),
        (", SignedHeaders=", ", Credential=a, SignedHeaders="),
        ("AWS4-HMAC-SHA256 Credential", "AWS4-HMAC-SHA256Credential"),
    ] {
        let error = refusal(&good().replace(from, to));
        let expected = if to.contains("SHA256Credential") {
            Code::InvalidArgument
        } else {
            Code::AuthorizationHeaderMalformed
        };
        assert_eq!(error.code, expected, "{to}: {}", error.message);
    }
    assert_eq!(
        refusal("GET / HTTP/1.1\nHost: h\nAuthorization: AWS4-HMAC-SHA256").code,
        Code::AuthorizationHeaderMalformed
    );
    assert_eq!(refusal("GET / HTTP/1.1\nHost: h\nAuthorization: \u{e9}").code, Code::InvalidArgument);
}

#[test]
fn the_list_of_signed_headers_is_bounded() {
    for (more, code) in [(125, Code::SignatureDoesNotMatch), (126, Code::AuthorizationHeaderMalformed)] {
        let names: String = (0..more).map(|number| format!("a{number:03};")).collect();
        let text = good().replace("SignedHeaders=", &format!("SignedHeaders={names}"));
        assert_eq!(refusal(&text).code, code, "{more}");
    }
}

#[test]
fn spaces_between_components_do_not_matter() {
    for to in [",", ", ", " ,  ", ",\t"] {
        check(&good().replace(", ", to), &Policy::at(EXAMPLE_TIME)).unwrap();
    }
}

#[test]
fn other_schemes_are_named() {
    for (value, code) in [
        ("AWS AKID:c2lnbmF0dXJl", Code::InvalidRequest),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", Code::NotImplemented),
        ("Basic dTpw", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        assert_eq!(
            refusal(&format!("GET / HTTP/1.1\nHost: h\nAuthorization: {value}")).code,
            code,
            "{value}"
        );
    }
    let v2 = refusal("GET /b/k?AWSAccessKeyId=A&Expires=1&Signature=s HTTP/1.1\nHost: h");
    assert_eq!((v2.code, v2.message.contains("SigV2")), (Code::InvalidRequest, true));
}

#[test]
fn a_request_has_one_signature() {
    let twice = format!("{}\nAuthorization: AWS4-HMAC-SHA256 x", good());
    assert_eq!(refusal(&twice).code, Code::InvalidArgument);
    let both = good().replace("/b/k", "/b/k?X-Amz-Signature=0");
    assert_eq!(refusal(&both).code, Code::InvalidArgument);
}

#[test]
fn host_and_every_amz_header_must_be_signed() {
    let text = format!("{}\nx-amz-acl: private\nRange: bytes=0-1", plain());
    let error = refusal(&signed(&text, SIGNED, EMPTY_SHA256, AMZ_DATE));
    assert_eq!((error.code, detail(&error, "HeadersNotSigned")), (Code::AccessDenied, Some("x-amz-acl")));
    let error = refusal(&signed(&plain(), "x-amz-content-sha256;x-amz-date", EMPTY_SHA256, AMZ_DATE));
    assert_eq!((error.code, detail(&error, "HeadersNotSigned")), (Code::AccessDenied, Some("host")));
    let error = refusal(&format!("{}\nx-amz-meta-a: b", presigned("PUT", AMZ_DATE, "60", "")));
    assert_eq!((error.code, detail(&error, "HeadersNotSigned")), (Code::AccessDenied, Some("x-amz-meta-a")));
}

#[test]
fn an_amz_header_added_beside_a_signed_one_breaks_the_signature() {
    let text = format!("{}\nx-amz-acl: private", plain());
    let good = signed(&text, "host;x-amz-acl;x-amz-content-sha256;x-amz-date", EMPTY_SHA256, AMZ_DATE);
    check(&good, &Policy::at(EXAMPLE_TIME)).unwrap();
    let added = good.replace("x-amz-acl: private", "x-amz-acl: private\nx-amz-acl: public-read");
    assert_eq!(refusal(&added).code, Code::SignatureDoesNotMatch);
}

#[test]
fn the_payload_hash_is_required_and_must_be_one() {
    let text = format!("GET /b/k HTTP/1.1\nHost: h\nx-amz-date: {AMZ_DATE}");
    let error = refusal(&signed(&text, "host;x-amz-date", EMPTY_SHA256, AMZ_DATE));
    assert_eq!((error.code, error.message.contains("x-amz-content-sha256")), (Code::InvalidRequest, true));
    for value in ["", "abc", "unsigned-payload", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"] {
        let error = refusal(&good().replace(EMPTY_SHA256, value));
        assert_eq!(error.code, Code::InvalidArgument, "{value}");
    }
    let twice = format!("{}\nx-amz-content-sha256: {EMPTY_SHA256}", good());
    assert_eq!(refusal(&twice).code, Code::InvalidArgument);
}

#[test]
fn every_kind_of_payload_is_told_apart() {
    for (value, expected) in [
        ("UNSIGNED-PAYLOAD", "Unsigned"),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "StreamingSigned("),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "StreamingSignedTrailer("),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "StreamingUnsignedTrailer"),
        (EMPTY_SHA256, "Sha256("),
    ] {
        let text = plain().replace(EMPTY_SHA256, value);
        let signed = check(&signed(&text, SIGNED, value, AMZ_DATE), &Policy::at(EXAMPLE_TIME)).unwrap();
        assert!(format!("{:?}", signed.payload).starts_with(expected), "{:?}", signed.payload);
        assert!(!format!("{signed:?}").contains(SECRET));
    }
}

#[test]
fn a_presigned_url_is_valid_from_its_date_until_it_expires() {
    let url = presigned("GET", AMZ_DATE, "60", "");
    for offset in [-900, 0, 60] {
        check(&url, &Policy::at(EXAMPLE_TIME + offset)).unwrap();
    }
    let late = refusal_at(&url, &Policy::at(EXAMPLE_TIME + 61));
    assert_eq!((late.code, late.message.as_ref()), (Code::AccessDenied, "Request has expired"));
    assert_eq!(detail(&late, "Expires"), Some("2013-05-24T00:01:00.000Z"));
    let early = refusal_at(&url, &Policy::at(EXAMPLE_TIME - 901));
    assert_eq!((early.code, early.message.as_ref()), (Code::AccessDenied, "Request is not yet valid"));
}

#[test]
fn a_presigned_url_lives_seven_days_at_most() {
    check(&presigned("GET", AMZ_DATE, "604800", ""), &Policy::at(EXAMPLE_TIME)).unwrap();
    for expires in ["604801", "-1", "", "x", "1.5", "99999999999999999999"] {
        let error = refusal(&presigned("GET", AMZ_DATE, expires, ""));
        assert_eq!(error.code, Code::AuthorizationQueryParametersError, "{expires}");
    }
}

#[test]
fn a_presigned_url_has_every_parameter_once() {
    let url = presigned("GET", AMZ_DATE, "60", "");
    for name in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"] {
        let name = format!("X-Amz-{name}=");
        let missing = refusal(&url.replace(&name, "x="));
        assert_eq!(missing.code, Code::AuthorizationQueryParametersError, "{name}");
        let twice = refusal(&url.replace("/b/k?", &format!("/b/k?{name}a&")));
        assert_eq!(twice.code, Code::AuthorizationQueryParametersError, "{name}");
    }
    for (from, to) in [
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("X-Amz-Date=20130524T000000Z", "X-Amz-Date=2013"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=Host"),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("%2Fs3%2F", "%2Fec2%2F"),
    ] {
        let error = refusal(&url.replace(from, to));
        assert_eq!(error.code, Code::AuthorizationQueryParametersError, "{to}");
    }
    for to in ["X-Amz-Date=%zz", "X-Amz-Date=%ff", "%zz=1&X-Amz-Date="] {
        assert_eq!(refusal(&url.replace("X-Amz-Date=", to)).code, Code::InvalidURI, "{to}");
    }
}

#[test]
fn a_presigned_url_signs_method_and_query() {
    let url = presigned("GET", AMZ_DATE, "60", "&response-content-type=text%2Fplain");
    check(&url, &Policy::at(EXAMPLE_TIME)).unwrap();
    for (from, to) in [
        ("GET ", "DELETE "),
        ("text%2Fplain", "text%2Fhtml"),
        ("X-Amz-Expires=60", "X-Amz-Expires=61"),
        ("/k?", "/k?a&"),
    ] {
        assert_eq!(refusal(&url.replace(from, to)).code, Code::SignatureDoesNotMatch, "{to}");
    }
}

#[test]
fn a_session_token_belongs_to_its_key() {
    let with_token = |token: &str| {
        let text = format!("{}\nx-amz-security-token: {token}", plain());
        let signed_headers = format!("{SIGNED};x-amz-security-token");
        head(&signed(&text, &signed_headers, EMPTY_SHA256, AMZ_DATE))
    };
    let temporary = OneKey { session_token: Some("token") };
    let policy = Policy::at(EXAMPLE_TIME);
    assert!(matches!(authenticate(&with_token("token"), &temporary, &policy), Ok(Authentication::Signed(_))));
    for (head, keys) in
        [(with_token("other"), &temporary), (with_token("token"), &KEYS), (head(&good()), &temporary)]
    {
        assert_eq!(authenticate(&head, keys, &policy).unwrap_err().code, Code::InvalidToken);
    }
    let url = head(&presigned("GET", AMZ_DATE, "60", "&X-Amz-Security-Token=token"));
    assert!(matches!(authenticate(&url, &temporary, &policy), Ok(Authentication::Signed(_))));
    assert_eq!(authenticate(&url, &KEYS, &policy).unwrap_err().code, Code::InvalidToken);
}

#[test]
fn a_changed_secret_takes_effect_at_once() {
    struct Changing(std::cell::Cell<&'static str>);
    impl Credentials for Changing {
        fn secret(&self, _: &str) -> Option<Secret<'_>> {
            Some(Secret { text: self.0.get(), session_token: None })
        }
    }
    let keys = Changing(std::cell::Cell::new(SECRET));
    let mut authenticator = Authenticator::new();
    let mut check =
        || authenticator.authenticate(&head(&good()), &keys, &Policy::at(EXAMPLE_TIME)).map(|_| ());
    assert_eq!(check(), Ok(()));
    keys.0.set("changed");
    assert_eq!(check().unwrap_err().code, Code::SignatureDoesNotMatch);
    keys.0.set(SECRET);
    assert_eq!(check(), Ok(()));
}

#[test]
fn a_multibyte_value_never_panics() {
    for (from, to) in [
        ("/20130524/", "/2013052\u{e9}/"),
        ("/20130524/", "/\u{e9}/"),
        ("Signature=", "\u{e9}="),
        ("/us-east-1/", "/\u{1f600}/"),
        (ACCESS_KEY, "\u{e9}"),
    ] {
        refusal(&good().replace(from, to));
    }
}

proptest::proptest! {
    #[test]
    fn no_authorization_panics(value in "\\PC{0,80}", query in "[!-~]{0,80}") {
        let head = RequestHead {
            method: crate::http::Method::Get,
            raw_path: "/".into(),
            raw_query: query,
            minor_version: 1,
            headers: [
                ("x-amz-date", AMZ_DATE.to_owned()),
                ("authorization", format!("AWS4-HMAC-SHA256 {value}")),
            ]
            .into_iter()
            .collect(),
        };
        assert!(authenticate(&head, &KEYS, &Policy::at(EXAMPLE_TIME)).is_err());
    }
}
