//! One operation on its way: what it asks for step by step, and what its answers mean.
//!
//! ```text
//! get, put, delete, head, list    One ------------------------------> done
//! multipart                       Create -> Part(1) .. Part(n) -> Complete -> done
//! ```

mod judge;
mod page;
mod request;

use super::book::{Book, Fate};
use super::failure::{Failure, Kind};
use super::scenario::{Operation, Scenario};
use super::verify::{Depth, Verifier};
use super::wire::{Response, Take};
use crate::body::{self, Body};

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

/// The first text between two marks: all that is read of XML here.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
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
}
