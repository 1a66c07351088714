//! The truth tables of RFC 9110, section 13.2.2, and of S3's reference.

use super::*;
use crate::op::testing::head;

const TAG: &str = "\"d41d8cd98f00b204e9800998ecf8427e\"";
const OTHER: &str = "\"ffffffffffffffffffffffffffffffff\"";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
/// `MODIFIED` and some milliseconds that no HTTP date shows.
const MODIFIED_MS: i64 = 784_111_777_999;

fn etag() -> ETag {
    ETag::parse(TAG).unwrap()
}

fn read(headers: &[(&str, &str)]) -> Verdict {
    Conditions::from_head(&head("GET", "/b/k", headers)).evaluate_read(&etag(), MODIFIED_MS)
}

fn failed(condition: &'static str) -> Verdict {
    Verdict::PreconditionFailed { condition }
}

/// What a condition on the tag, or on the date, says by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Absent,
    Holds,
    Fails,
}

const STATES: [State; 3] = [State::Absent, State::Holds, State::Fails];

#[test]
fn every_combination_of_the_four_follows_the_order_of_rfc_9110() {
    for if_match in STATES {
        for if_unmodified in STATES {
            for if_none_match in STATES {
                for if_modified in STATES {
                    let mut headers = Vec::new();
                    let mut add = |state, name, holds, fails| match state {
                        State::Absent => {}
                        State::Holds => headers.push((name, holds)),
                        State::Fails => headers.push((name, fails)),
                    };
                    add(if_match, "if-match", TAG, OTHER);
                    add(if_unmodified, "if-unmodified-since", MODIFIED, BEFORE);
                    add(if_none_match, "if-none-match", OTHER, TAG);
                    add(if_modified, "if-modified-since", BEFORE, MODIFIED);
                    // Written from the RFC's numbered steps, not from the implementation.
                    let expected = match (if_match, if_unmodified, if_none_match, if_modified) {
                        (State::Fails, ..) => failed("If-Match"),
                        (State::Absent, State::Fails, ..) => failed("If-Unmodified-Since"),
                        (_, _, State::Fails, _) => Verdict::NotModified,
                        (_, _, State::Absent, State::Fails) => Verdict::NotModified,
                        _ => Verdict::Proceed,
                    };
                    assert_eq!(read(&headers), expected, "{headers:?}");
                }
            }
        }
    }
}

#[test]
fn s3s_documented_combinations() {
    // "If-Match evaluates to true and If-Unmodified-Since to false: 200 OK and the data."
    assert_eq!(read(&[("if-match", TAG), ("if-unmodified-since", BEFORE)]), Verdict::Proceed);
    // "If-None-Match evaluates to false and If-Modified-Since to true: 304 Not Modified."
    assert_eq!(read(&[("if-none-match", TAG), ("if-modified-since", BEFORE)]), Verdict::NotModified);
}

#[test]
fn dates_compare_by_whole_seconds() {
    assert_eq!(read(&[("if-modified-since", MODIFIED)]), Verdict::NotModified);
    assert_eq!(read(&[("if-modified-since", BEFORE)]), Verdict::Proceed);
    assert_eq!(read(&[("if-unmodified-since", MODIFIED)]), Verdict::Proceed);
    assert_eq!(read(&[("if-unmodified-since", AFTER)]), Verdict::Proceed);
    assert_eq!(read(&[("if-unmodified-since", BEFORE)]), failed("If-Unmodified-Since"));
}

#[test]
fn dates_that_are_none_are_ignored_on_reads() {
    assert_eq!(read(&[("if-unmodified-since", "yesterday")]), Verdict::Proceed);
    assert_eq!(read(&[("if-modified-since", "tomorrow")]), Verdict::Proceed);
}

#[test]
fn lists_stars_and_tags_without_quotes_match() {
    let list = format!("{OTHER}, {TAG}");
    let weak = format!("W/{TAG}");
    let bare = TAG.trim_matches('"');
    for value in [TAG, "*", &list, bare] {
        assert_eq!(read(&[("if-match", value)]), Verdict::Proceed, "{value}");
        assert_eq!(read(&[("if-none-match", value)]), Verdict::NotModified, "{value}");
    }
    assert_eq!(read(&[("if-match", OTHER), ("if-match", TAG)]), Verdict::Proceed);
    // If-Match compares strongly, If-None-Match weakly (RFC 9110, sections 13.1.1 and 13.1.2).
    assert_eq!(read(&[("if-match", &weak)]), failed("If-Match"));
    assert_eq!(read(&[("if-none-match", &weak)]), Verdict::NotModified);
    for value in ["", "\"\"", "x", "\"a,b\"", "**"] {
        assert_eq!(read(&[("if-match", value)]), failed("If-Match"), "{value}");
        assert_eq!(read(&[("if-none-match", value)]), Verdict::Proceed, "{value}");
    }
}

#[test]
fn the_tag_of_a_multipart_object_is_another_tag() {
    let multipart = ETag { parts: 2, ..etag() };
    let conditions = Conditions::from_head(&head("GET", "/b/k", &[("if-match", TAG)]));
    assert_eq!(conditions.evaluate_read(&multipart, 0), failed("If-Match"));
}

#[test]
fn a_copy_answers_412_where_a_read_answers_304() {
    for (headers, is_ok) in [
        (&[][..], true),
        (&[("x-amz-copy-source-if-match", TAG)], true),
        (&[("x-amz-copy-source-if-match", OTHER)], false),
        (&[("x-amz-copy-source-if-none-match", OTHER)], true),
        (&[("x-amz-copy-source-if-none-match", TAG)], false),
        (&[("x-amz-copy-source-if-modified-since", BEFORE)], true),
        (&[("x-amz-copy-source-if-modified-since", MODIFIED)], false),
        (&[("x-amz-copy-source-if-unmodified-since", MODIFIED)], true),
        (&[("x-amz-copy-source-if-unmodified-since", BEFORE)], false),
        // "if-match true and if-unmodified-since false: 200 OK and copies the data."
        (&[("x-amz-copy-source-if-match", TAG), ("x-amz-copy-source-if-unmodified-since", BEFORE)], true),
        // "if-none-match false and if-modified-since true: 412 Precondition Failed."
        (&[("x-amz-copy-source-if-none-match", TAG), ("x-amz-copy-source-if-modified-since", BEFORE)], false),
        // The conditions of the destination are none of the source.
        (&[("if-match", OTHER)], true),
    ] {
        let conditions = Conditions::of_copy_source(&head("PUT", "/b/k", headers)).unwrap();
        let outcome = conditions.evaluate_copy(&etag(), MODIFIED_MS).map_err(|error| error.code);
        assert_eq!(outcome, if is_ok { Ok(()) } else { Err(Code::PreconditionFailed) }, "{headers:?}");
    }
}

#[test]
fn a_failed_copy_names_the_condition() {
    let headers = [("x-amz-copy-source-if-none-match", "*")];
    let conditions = Conditions::of_copy_source(&head("PUT", "/b/k", &headers)).unwrap();
    let error = conditions.evaluate_copy(&etag(), 0).unwrap_err();
    assert_eq!(error.details, [("Condition", "x-amz-copy-source-If-None-Match".to_string())]);
}

#[test]
fn a_date_of_a_copy_has_to_be_one() {
    let read = |date| {
        Conditions::of_copy_source(&head("PUT", "/b/k", &[("x-amz-copy-source-if-modified-since", date)]))
    };
    assert_eq!(read("yesterday").unwrap_err().code, Code::InvalidArgument);
    assert_eq!(read(MODIFIED), read("1994-11-06T08:49:37Z"));
}

#[test]
fn what_a_write_asks_for() {
    let condition = |headers: &[(&str, &str)]| {
        WriteCondition::from_head(&head("PUT", "/b/k", headers)).map_err(|error| error.code)
    };
    assert_eq!(condition(&[]), Ok(WriteCondition::None));
    assert_eq!(condition(&[("if-none-match", "*")]), Ok(WriteCondition::Absent));
    assert_eq!(condition(&[("if-match", "*")]), Ok(WriteCondition::Present));
    assert_eq!(condition(&[("if-match", TAG)]), Ok(WriteCondition::Etag(etag())));
    assert_eq!(condition(&[("if-match", TAG.trim_matches('"'))]), Ok(WriteCondition::Etag(etag())));
    assert_eq!(condition(&[("if-match", "\"x\"")]), Ok(WriteCondition::Unmatchable));
    for headers in [
        &[("if-none-match", TAG)][..],
        &[("if-match", TAG), ("if-none-match", "*")],
        &[("if-modified-since", MODIFIED)],
        &[("if-unmodified-since", MODIFIED)],
    ] {
        assert_eq!(condition(headers), Err(Code::NotImplemented), "{headers:?}");
    }
}

#[test]
fn every_write_condition_on_every_state() {
    let other = ETag::parse(OTHER).unwrap();
    let gone = Err(Code::NoSuchKey);
    let failed = Err(Code::PreconditionFailed);
    // Absent object, object with the tag, object with another tag.
    for (condition, expected) in [
        (WriteCondition::None, [Ok(()), Ok(()), Ok(())]),
        (WriteCondition::Absent, [Ok(()), failed, failed]),
        (WriteCondition::Present, [gone, Ok(()), Ok(())]),
        (WriteCondition::Etag(etag()), [gone, Ok(()), failed]),
        (WriteCondition::Unmatchable, [gone, failed, failed]),
    ] {
        let states = [None, Some(&etag()), Some(&other)];
        for (state, expected) in states.into_iter().zip(expected) {
            let outcome = condition.evaluate(state).map_err(|error| error.code);
            assert_eq!(outcome, expected, "{condition:?} on {state:?}");
        }
    }
}
