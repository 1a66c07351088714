//! AWS's signing test suite, in `suite.txt`.
//!
//! Its service is called `service`, so the parts are tested beneath the check of the scope.

use super::*;

struct Case {
    name: &'static str,
    request: &'static str,
    canonical: &'static str,
    string_to_sign: &'static str,
}

fn cases() -> Vec<Case> {
    let text = include_str!("suite.txt");
    text.split("\n=== ")
        .skip(1)
        .map(|case| {
            let (name, rest) = case.split_once('\n').unwrap();
            let (request, rest) = rest.split_once("\n--- canonical request\n").unwrap();
            let (canonical, string_to_sign) = rest.split_once("\n--- string to sign\n").unwrap();
            Case { name, request, canonical, string_to_sign: string_to_sign.trim_end() }
        })
        .collect()
}

#[test]
fn the_suite_is_reproduced() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in cases {
        let head = head(case.request.split("\n\n").next().unwrap());
        let claim = Claim::find(&head, 3600).unwrap().unwrap();
        let parts: Vec<&str> = claim.credential.split('/').collect();
        let scope = Scope {
            access_key: parts[0],
            date: parts[1],
            region: parts[2],
            service: parts[3],
            text: claim.credential.split_once('/').unwrap().1,
        };
        let mut workspace = Workspace::default();
        workspace
            .build(&Subject {
                method: head.method.as_str(),
                raw_path: &head.raw_path,
                raw_query: &head.raw_query,
                headers: &head.headers,
                signed_headers: &claim.signed_headers,
                payload_hash: case.canonical.rsplit('\n').next().unwrap(),
                amz_date: &time::amz_date(claim.signed_at),
                scope: scope.text,
            })
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text(workspace.request()), case.canonical, "{}", case.name);
        assert_eq!(text(workspace.string_to_sign()), case.string_to_sign, "{}", case.name);
        let key = SigningKey::derive("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", &scope);
        assert!(key.verifies(workspace.string_to_sign(), &claim.signature), "{}", case.name);
    }
}
