//! What a job sends: the head and body of its next request.

use std::fmt::Write as _;
use std::ops::Range;

use super::{Job, Step, Terms};
use crate::load::scenario::{Operation, PayloadMode};
use crate::load::wire::{Payload as Hash, Requests, Response, Target};
use crate::s3::{Payload, sign};

impl Job {
    /// Appends the head of the next request and says which bytes of the body follow it.
    pub(in crate::load) fn write_head(
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
    pub(in crate::load) fn write_body(&self, out: &mut Vec<u8>, range: Range<u64>) {
        let at = out.len();
        out.resize(at + (range.end - range.start) as usize, 0);
        self.body.read_at(range.start, &mut out[at..]);
    }

    pub(super) fn hash(&self, range: &Range<u64>) -> [u8; 64] {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut piece = vec![0; (range.end - range.start).min(64 * 1024) as usize];
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(piece.len() as u64) as usize;
            self.body.read_at(at, &mut piece[..count]);
            context.update(&piece[..count]);
            at += count as u64;
        }
        sign::hex_32(context.finish().as_ref())
    }

    pub(super) fn completion(&self) -> String {
        let mut list = String::from("<CompleteMultipartUpload>");
        for (number, etag) in (1..).zip(&self.etags) {
            let _ = write!(list, "<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>");
        }
        list + "</CompleteMultipartUpload>"
    }
}

fn sha256(pieces: &[&[u8]]) -> [u8; 64] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    sign::hex_32(context.finish().as_ref())
}
