//! What an answer means: right, wrong, refused, or the cause of another request.

use std::fmt::Write as _;

use super::page::check_page;
use super::{Job, Outcome, Step, Success, Terms, between};
use crate::body::Body;
use crate::load::book::{Seen, Verdict};
use crate::load::failure::{Failure, Kind};
use crate::load::scenario::Operation;
use crate::load::wire::Response;
use crate::s3::Payload as _;

impl Job {
    pub(super) fn judge_refusal(&self, terms: &Terms<'_>) -> Outcome {
        let text = String::from_utf8_lossy(&self.text);
        let code = between(&text, "<Code>", "</Code>").unwrap_or_default();
        let is_read = matches!(self.operation, Operation::Get | Operation::Head);
        if is_read && self.status == 404 && matches!(code, "" | "NoSuchKey") {
            match terms.book.judge(self.book_key(terms), self.floor, Seen::Missing) {
                Verdict::Right => return Outcome::Done(Success { bytes: 0, is_missing: true }),
                Verdict::Wrong(what) => return self.wrong(&what, terms),
                Verdict::NeverStored => {}
            }
        }
        let kind = match (self.status, code) {
            (503, "SlowDown") => Kind::SlowDown,
            // An answer to HEAD has no room for a code.
            (503, "") if self.operation == Operation::Head => Kind::SlowDown,
            (status, code) => Kind::Status(status, code.to_owned()),
        };
        let message = between(&text, "<Message>", "</Message>").unwrap_or("no message");
        Outcome::Failed(Failure::new(kind, format!("{}: {message}", self.name(terms))))
    }

    pub(super) fn judge(&mut self, response: &Response, terms: &Terms<'_>) -> Outcome {
        let done = |bytes| Outcome::Done(Success { bytes, is_missing: false });
        match (self.step, self.operation) {
            (Step::Create, _) => {
                match between(&String::from_utf8_lossy(&self.text), "<UploadId>", "</UploadId>") {
                    Some(id) => {
                        self.upload_id = percent_coded(id);
                        self.step = Step::Part(1);
                        Outcome::Next
                    }
                    None => Outcome::Failed(Failure::protocol("CreateMultipartUpload without an <UploadId>")),
                }
            }
            (Step::Part(_), _) if response.etag.is_empty() => {
                Outcome::Failed(Failure::protocol("UploadPart without an ETag"))
            }
            (Step::Part(number), _) => {
                self.etags.push(response.etag.clone());
                let is_last = number == terms.scenario.multipart.parts;
                self.step = if is_last { Step::Complete } else { Step::Part(number + 1) };
                Outcome::Next
            }
            (Step::Complete, _) => {
                // Complete may say 200 and then carry an error.
                let text = String::from_utf8_lossy(&self.text);
                match between(&text, "<Code>", "</Code>") {
                    Some(code) => {
                        Outcome::Failed(Failure::new(Kind::Status(200, code.to_owned()), self.name(terms)))
                    }
                    None => done(self.body.len()),
                }
            }
            (_, Operation::Get) => match self.verifier.finish() {
                Err(fault) => self.wrong(&fault, terms),
                Ok(body) => self.judge_body(&body, terms),
            },
            (_, Operation::Head) => self.judge_head(terms),
            (_, Operation::List) => match check_page(&self.text, &self.key, terms.scenario.list.page) {
                Ok(()) => done(self.text.len() as u64),
                Err(fault) => self.wrong(&fault, terms),
            },
            (_, Operation::Put) => done(self.body.len()),
            (_, Operation::Delete | Operation::Multipart) => done(0),
        }
    }

    fn judge_body(&self, body: &Body, terms: &Terms<'_>) -> Outcome {
        let seen =
            if body.seed() == terms.seed { Seen::Generation(body.generation()) } else { Seen::Foreign };
        match terms.book.judge(self.book_key(terms), self.floor, seen) {
            Verdict::Wrong(what) => self.wrong(&what, terms),
            _ => Outcome::Done(Success { bytes: body.len(), is_missing: false }),
        }
    }

    fn judge_head(&self, terms: &Terms<'_>) -> Outcome {
        let sizes = &terms.scenario.size;
        let has_multipart = terms.scenario.operations.contains_key(&Operation::Multipart);
        match self.answered_len {
            None => Outcome::Failed(Failure::protocol("HEAD without a Content-Length")),
            Some(len)
                if !has_multipart
                    && !(sizes.len_min()..=sizes.len_max()).contains(&len)
                    && self.floor > 0 =>
            {
                self.wrong(&format!("HEAD says {len} bytes, which no write of this run has"), terms)
            }
            Some(_) => Outcome::Done(Success { bytes: 0, is_missing: false }),
        }
    }

    fn wrong(&self, what: &str, terms: &Terms<'_>) -> Outcome {
        Outcome::Failed(Failure::new(Kind::Verification, format!("{}: {what}", self.name(terms))))
    }
}

/// An upload id is opaque, and stands in a query.
fn percent_coded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
