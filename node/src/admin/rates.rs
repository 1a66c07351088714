//! The rate targets on the admin listener: GET /rates, PUT and DELETE /rates/BUCKET.
//!
//! A change lasts until the node ends. The listener knows no access control, so that changes are taken on a loopback address alone.

use std::sync::Arc;

use serde_json::json;

use super::http::{Answer, Method, Request};
use crate::rates::{Rates, Wanted, is_bucket_name};

/// The pages about rates.
pub(super) struct RatePages {
    /// What they are about.
    pub(super) rates: Arc<Rates>,
    /// Whether the listener is one that changes may come from.
    pub(super) may_change: bool,
}

impl RatePages {
    /// Answers a request for one of them.
    pub(super) fn answer(&self, request: &Request) -> Answer {
        let bucket = request.path.strip_prefix("/rates").and_then(|rest| rest.strip_prefix('/'));
        match (request.method, bucket) {
            (Method::Get, None) => self.all(),
            (_, None) => Answer::text(405, "only GET and HEAD; PUT and DELETE are for /rates/BUCKET\n"),
            (_, Some(bucket)) if !is_bucket_name(bucket) => {
                Answer::text(400, &format!("{bucket:?} is not the name of a bucket\n"))
            }
            (Method::Get, Some(bucket)) => self.one(bucket),
            (_, Some(_)) if !self.may_change => Answer::text(
                403,
                "changes are taken on a loopback address alone, since this listener has no access control; set \
                 node.admin_listen to 127.0.0.1:PORT, or the targets in [rates] of the configuration\n",
            ),
            (Method::Put, Some(bucket)) => self.set(bucket, &request.body),
            (Method::Delete, Some(bucket)) => {
                if !self.rates.clear(bucket) {
                    return Answer::text(404, "the bucket has no targets of its own\n");
                }
                tracing::info!(bucket, "rate targets of a bucket are the default again");
                self.one(bucket)
            }
        }
    }

    fn all(&self) -> Answer {
        Answer::json(
            200,
            &json!({ "default": self.rates.default_targets(), "buckets": self.rates.own_targets() }),
        )
    }

    fn one(&self, bucket: &str) -> Answer {
        let own = self.rates.own_targets();
        Answer::json(200, &json!(own.get(bucket).copied().unwrap_or(self.rates.default_targets())))
    }

    fn set(&self, bucket: &str, body: &[u8]) -> Answer {
        let wanted: Wanted = match serde_json::from_slice(body) {
            Ok(wanted) => wanted,
            Err(error) => {
                let form = r#"{"reads": 300, "writes": 200, "reads_max": 1000, "writes_max": 500}, each of them optional"#;
                return Answer::text(400, &format!("{error}; the body is JSON like {form}\n"));
            }
        };
        if let Err((setting, what)) = wanted.or(&self.rates.default_targets()).check() {
            return Answer::text(400, &format!("{setting} = {what}\n"));
        }
        self.rates.set(bucket, &wanted);
        tracing::info!(bucket, ?wanted, "rate targets of a bucket changed");
        self.one(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn pages(may_change: bool) -> RatePages {
        RatePages { rates: Rates::new(&config::Rates::default(), 1), may_change }
    }

    fn ask(pages: &RatePages, method: Method, path: &str, body: &str) -> (u16, String) {
        let answer = pages.answer(&Request::new(method, path, body));
        (answer.status, answer.body)
    }

    #[test]
    fn targets_are_set_shown_and_taken_away() {
        let pages = pages(true);
        let (status, text) = ask(&pages, Method::Put, "/rates/photos", r#"{"reads": 5, "reads_max": 9}"#);
        assert_eq!(status, 200, "{text}");
        let (_, text) = ask(&pages, Method::Get, "/rates", "");
        let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let own = json!({ "reads": 5, "writes": 200, "reads_max": 9, "writes_max": null });
        assert_eq!(shown["buckets"], json!({ "photos": own }));
        assert_eq!(shown["default"]["reads"], 300);
        assert_eq!(ask(&pages, Method::Delete, "/rates/photos", "").0, 200);
        assert_eq!(ask(&pages, Method::Delete, "/rates/photos", "").0, 404);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let pages = pages(true);
        for (path, body) in [
            ("/rates/photos", ""),
            ("/rates/photos", r#"{"read": 5}"#),
            ("/rates/photos", r#"{"reads_max": 0}"#),
            ("/rates/photos", r#"{"reads_max": 299}"#),
            ("/rates/UPPER", "{}"),
            ("/rates/a/b", "{}"),
        ] {
            assert_eq!(ask(&pages, Method::Put, path, body).0, 400, "{path} {body}");
        }
        assert_eq!(ask(&pages, Method::Put, "/rates", "{}").0, 405);
        assert!(pages.rates.own_targets().is_empty());
    }

    #[test]
    fn an_address_that_others_reach_takes_no_changes() {
        let pages = pages(false);
        for method in [Method::Put, Method::Delete] {
            let (status, text) = ask(&pages, method, "/rates/photos", "{}");
            assert!(status == 403 && text.contains("loopback"), "{status} {text}");
        }
        assert_eq!(ask(&pages, Method::Get, "/rates/photos", "").0, 200);
    }
}
