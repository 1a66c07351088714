//! One operation on its way: what it asks for step by step, and what its answers mean.
//!
//! ```text
//! get, put, delete, head, list    One ------------------------------> done
//! multipart                       Create -> Part(1) .. Part(n) -> Complete -> done
//! ```

use std::fmt::Write as _;
use std::ops::Range;

use super::book::{Book, Fate, Seen, Verdict};
use super::failure::{Failure, Kind};
use super::scenario::{Operation, PayloadMode, Scenario};
use super::verify::{Depth, Verifier};
use super::wire::{Payload as Hash, Requests, Response, Take, Target};
use crate::body::{self, Body};
use crate::s3::Payload;

/// Error bodies and documents are kept up to this length: a page of 1000 keys is some 300 KiB.
const TEXT_LEN_MAX: usize = 8 * 1024 * 1024;
/// What all keys begin with.
pub(super) const KEY_PREFIX: &str = "lt/";

/// The name of a key.
pub(super) fn key_name(index: u64, out: &mut String) {
    out.clear();
    // Ten digits by hand: this is done for every request, and formatting is slow.
    let mut digits = *b"0000000000";
    let mut rest = index;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.push_str(KEY_PREFIX);
    out.push_str(std::str::from_utf8(&digits).expect("digits are UTF-8"));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    One,
    Create,
    Part(u32),
    Complete,
}

/// What came of an answer.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Another request belongs to this operation.
    Next,
    /// It is done.
    Done(Success),
    /// It has failed.
    Failed(Failure),
}

/// An operation that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Success {
    /// Of bodies, sent or received.
    pub bytes: u64,
    /// A read of a key that may rightly be missing.
    pub is_missing: bool,
}

/// What all jobs of a run have in common.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub scenario: &'a Scenario,
    pub book: &'a Book,
    pub buckets: &'a [String],
    pub seed: u64,
}

pub(super) struct Job {
    pub operation: Operation,
    /// Where its result is counted.
    pub series: usize,
    /// When it was due.
    pub intended: u64,
    /// When its first request was sent.
    pub sent: u64,
    pub bucket: u32,
    /// Within the bucket.
    key_index: u64,
    key: String,
    floor: u32,
    /// What is written.
    body: Body,
    step: Step,
    verifier: Verifier,
    status: u16,
    answered_len: Option<u64>,
    keeps_text: bool,
    text: Vec<u8>,
    upload_id: String,
    etags: Vec<String>,
    has_ended: bool,
}

/// What a job is made of.
pub(super) struct Order {
    pub operation: Operation,
    pub series: usize,
    pub intended: u64,
    pub sent: u64,
    pub bucket: u32,
    pub key_index: u64,
    pub len: u64,
    pub depth: Depth,
}

impl Job {
    pub fn new(order: &Order, terms: &Terms<'_>) -> Self {
        let Order { operation, series, intended, sent, bucket, key_index, len, depth } = *order;
        let mut key = String::new();
        key_name(key_index, &mut key);
        let key_hash = body::hash(&key);
        let book_key = u64::from(bucket) * terms.scenario.keys + key_index;
        let generation =
            if operation.is_write() { terms.book.begin(book_key, operation == Operation::Delete) } else { 0 };
        let step = if operation == Operation::Multipart { Step::Create } else { Step::One };
        Self {
            operation,
            series,
            intended,
            sent,
            bucket,
            key_index,
            floor: terms.book.floor(book_key),
            body: Body::of_hash(terms.seed, key_hash, generation, len),
            step,
            verifier: Verifier::new(key_hash, depth),
            status: 0,
            answered_len: None,
            keeps_text: false,
            text: Vec::new(),
            upload_id: String::new(),
            etags: Vec::new(),
            has_ended: false,
            key,
        }
    }

    fn book_key(&self, terms: &Terms<'_>) -> u64 {
        u64::from(self.bucket) * terms.scenario.keys + self.key_index
    }

    /// Appends the head of the next request and says which bytes of the body follow it.
    pub fn write_head(
        &mut self,
        out: &mut Vec<u8>,
        requests: &mut Requests,
        response: &mut Response,
        terms: &Terms<'_>,
        second: i64,
    ) -> Range<u64> {
        self.text.clear();
        response.expect(self.operation == Operation::Head, matches!(self.step, Step::Part(_)));
        let bucket = terms.buckets[self.bucket as usize].as_str();
        let key = self.key.as_str();
        let mut target = Target { method: "GET", bucket, key, query: "" };
        let mut query = String::new();
        let mut range = 0..0;
        let mut document = String::new();
        match (self.step, self.operation) {
            (Step::One, Operation::Get) => {}
            (Step::One, Operation::Head) => target.method = "HEAD",
            (Step::One, Operation::Delete) => target.method = "DELETE",
            (Step::One, Operation::Put | Operation::Multipart) => {
                target.method = "PUT";
                range = 0..self.body.len();
            }
            (Step::One, Operation::List) => {
                target.key = "";
                let after = self.key.replace('/', "%2F");
                let page = terms.scenario.list.page;
                let _ = write!(query, "list-type=2&max-keys={page}&prefix=lt%2F&start-after={after}");
            }
            (Step::Create, _) => {
                target.method = "POST";
                query.push_str("uploads=");
            }
            (Step::Part(number), _) => {
                target.method = "PUT";
                let _ = write!(query, "partNumber={number}&uploadId={}", self.upload_id);
                let part_len = terms.scenario.multipart.part_size.0;
                range = u64::from(number - 1) * part_len..u64::from(number) * part_len;
            }
            (Step::Complete, _) => {
                target.method = "POST";
                let _ = write!(query, "uploadId={}", self.upload_id);
                document = self.completion();
            }
        }
        target.query = &query;
        let has_body = matches!(target.method, "PUT" | "POST");
        let len = range.end - range.start + document.len() as u64;
        let hash = match terms.scenario.payload {
            _ if !document.is_empty() => Hash::Hash(sha256(&[document.as_bytes()])),
            _ if len == 0 => Hash::Empty,
            PayloadMode::Unsigned => Hash::Unsigned,
            PayloadMode::Signed => Hash::Hash(self.hash(&range)),
        };
        requests.write(out, &target, &hash, has_body.then_some(len), second);
        out.extend_from_slice(document.as_bytes());
        range
    }

    /// Appends these bytes of the body.
    pub fn write_body(&self, out: &mut Vec<u8>, range: Range<u64>) {
        let at = out.len();
        out.resize(at + (range.end - range.start) as usize, 0);
        self.body.read_at(range.start, &mut out[at..]);
    }

    fn hash(&self, range: &Range<u64>) -> [u8; 64] {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut piece = vec![0; (range.end - range.start).min(64 * 1024) as usize];
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(piece.len() as u64) as usize;
            self.body.read_at(at, &mut piece[..count]);
            context.update(&piece[..count]);
            at += count as u64;
        }
        crate::s3::sign::hex_32(context.finish().as_ref())
    }

    fn completion(&self) -> String {
        let mut list = String::from("<CompleteMultipartUpload>");
        for (number, etag) in (1..).zip(&self.etags) {
            let _ = write!(list, "<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>");
        }
        list + "</CompleteMultipartUpload>"
    }

    /// The answer has come as a whole.
    pub fn finish_answer(&mut self, response: &Response, terms: &Terms<'_>) -> Outcome {
        let outcome =
            if self.status >= 300 { self.judge_refusal(terms) } else { self.judge(response, terms) };
        match &outcome {
            Outcome::Next => {}
            Outcome::Done(_) => self.end(Fate::Applied, terms),
            // A 5xx may have been applied.
            Outcome::Failed(failure) => match failure.kind {
                Kind::SlowDown => self.end(Fate::Refused, terms),
                Kind::Status(status, _) if status < 500 => self.end(Fate::Refused, terms),
                _ => self.end(Fate::Unknown, terms),
            },
        }
        outcome
    }

    /// There will be no answer.
    pub fn abandon(&mut self, terms: &Terms<'_>) {
        self.end(Fate::Unknown, terms);
    }

    fn end(&mut self, fate: Fate, terms: &Terms<'_>) {
        if self.operation.is_write() && !self.has_ended {
            terms.book.end(self.book_key(terms), fate);
        }
        self.has_ended = true;
    }

    fn judge_refusal(&self, terms: &Terms<'_>) -> Outcome {
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

    fn judge(&mut self, response: &Response, terms: &Terms<'_>) -> Outcome {
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

    /// Bucket, and key within it.
    pub fn place(&self) -> (u32, u64) {
        (self.bucket, self.key_index)
    }

    /// For people: what this is.
    pub fn name(&self, terms: &Terms<'_>) -> String {
        format!("{} {}/{}", self.operation.name(), terms.buckets[self.bucket as usize], self.key)
    }
}

impl Take for Job {
    fn begin(&mut self, status: u16, len: Option<u64>) {
        self.status = status;
        self.answered_len = len;
        self.keeps_text = self.operation != Operation::Get || status >= 300;
    }

    fn piece(&mut self, piece: &[u8]) {
        if self.keeps_text {
            let room = TEXT_LEN_MAX.saturating_sub(self.text.len());
            self.text.extend_from_slice(&piece[..piece.len().min(room)]);
        } else {
            self.verifier.take(piece);
        }
    }
}

fn sha256(pieces: &[&[u8]]) -> [u8; 64] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    crate::s3::sign::hex_32(context.finish().as_ref())
}

/// The first text between two marks: all that is read of XML here.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
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

/// A page has to be sorted, after the key it was to start after, and no longer than asked for.
fn check_page(text: &[u8], after: &str, page: u32) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|_| "a listing that is not UTF-8")?;
    if !text.trim_end().ends_with("</ListBucketResult>") {
        return Err("a listing that is cut".into());
    }
    let (mut last, mut count) = (after, 0);
    for entry in text.split("<Contents>").skip(1) {
        let key = between(entry, "<Key>", "</Key>").ok_or("an entry without a key")?;
        if key <= last {
            return Err(format!("{key} is listed after {last}"));
        }
        (last, count) = (key, count + 1);
    }
    let named = between(text, "<KeyCount>", "</KeyCount>").and_then(|number| number.parse::<u32>().ok());
    match named {
        _ if count > page => Err(format!("{count} keys on a page of {page}")),
        Some(named) if named != count => Err(format!("{count} keys, and a KeyCount of {named}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_by_their_number() {
        let mut key = String::new();
        key_name(1234, &mut key);
        assert_eq!(key, "lt/0000001234");
    }

    #[test]
    fn a_page_that_is_unsorted_too_long_or_cut_is_found() {
        let page = |keys: &[&str], count: usize| {
            let entries: String =
                keys.iter().map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
            format!("<ListBucketResult><KeyCount>{count}</KeyCount>{entries}</ListBucketResult>")
        };
        let check = |text: &str| check_page(text.as_bytes(), "a", 2);
        assert_eq!(check(&page(&["b", "c"], 2)), Ok(()));
        assert_eq!(check(&page(&[], 0)), Ok(()));
        assert!(check(&page(&["c", "b"], 2)).is_err());
        assert!(check(&page(&["a"], 1)).is_err());
        assert!(check(&page(&["b", "c", "d"], 3)).is_err());
        assert!(check(&page(&["b"], 2)).is_err());
        assert!(check(page(&["b"], 1).trim_end_matches("</ListBucketResult>")).is_err());
    }
}
