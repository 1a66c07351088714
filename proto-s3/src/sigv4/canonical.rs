//! The canonical request and the string to sign, built into buffers that are used again.
//!
//! S3's rules, which differ from the other services': the path is encoded once, and not normalised (`/a//b/../c`
//! stays). The path and query are decoded and encoded anew, so that any spelling of the same bytes signs the same.
//! Source: S3 API reference, "Signature Calculations for the Authorization Header: Transferring Payload in a Single
//! Chunk".

use std::ops::Range;

use aws_lc_rs::digest;

use crate::encoding;
use crate::error::Error;
use crate::http::Headers;
use crate::sigv4::ALGORITHM;
use crate::uri::{self, Plus, Slash};

/// The parameter that cannot sign itself.
const SIGNATURE_PARAMETER: &[u8] = b"X-Amz-Signature";

/// What is signed.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub method: &'a str,
    pub raw_path: &'a str,
    pub raw_query: &'a str,
    /// Names in lowercase.
    pub headers: &'a Headers,
    /// Names joined with `;`.
    pub signed_headers: &'a str,
    /// As `x-amz-content-sha256` says it.
    pub payload_hash: &'a str,
    /// `20130524T000000Z`
    pub amz_date: &'a str,
    /// `20130524/us-east-1/s3/aws4_request`
    pub scope: &'a str,
}

/// Buffers for building; their contents stay until the next request.
#[derive(Default)]
pub(crate) struct Workspace {
    request: Vec<u8>,
    string_to_sign: Vec<u8>,
    decoded: Vec<u8>,
    query: Vec<u8>,
    pairs: Vec<Pair>,
}

/// One encoded pair of the query, as ranges of `Workspace::query`.
struct Pair {
    name: Range<usize>,
    value: Range<usize>,
}

impl Workspace {
    /// Builds both texts. `InvalidURI` when the path or query does not decode.
    pub fn build(&mut self, subject: &Subject<'_>) -> Result<(), Error> {
        self.build_request(subject)?;
        let hash = digest::digest(&digest::SHA256, &self.request);
        let out = &mut self.string_to_sign;
        out.clear();
        for line in [ALGORITHM, subject.amz_date, subject.scope] {
            push_line(out, line.as_bytes());
        }
        encoding::push_hex(out, hash.as_ref());
        Ok(())
    }

    /// The canonical request built last.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The string to sign built last.
    pub fn string_to_sign(&self) -> &[u8] {
        &self.string_to_sign
    }

    fn build_request(&mut self, subject: &Subject<'_>) -> Result<(), Error> {
        self.request.clear();
        push_line(&mut self.request, subject.method.as_bytes());
        self.decoded.clear();
        uri::decode_into(&mut self.decoded, subject.raw_path, Plus::Literal)?;
        uri::encode_into(&mut self.request, &self.decoded, Slash::Keep);
        self.request.push(b'\n');
        self.push_query(subject.raw_query)?;
        self.request.push(b'\n');
        for name in subject.signed_headers.split(';') {
            push_header(&mut self.request, name, subject.headers);
        }
        self.request.push(b'\n');
        push_line(&mut self.request, subject.signed_headers.as_bytes());
        self.request.extend_from_slice(subject.payload_hash.as_bytes());
        Ok(())
    }

    /// The pairs of the query, encoded, sorted by name and then value.
    fn push_query(&mut self, raw_query: &str) -> Result<(), Error> {
        self.query.clear();
        self.pairs.clear();
        for (raw_name, raw_value) in uri::query_pairs(raw_query) {
            let name = self.push_component(raw_name)?;
            if &self.query[name.clone()] == SIGNATURE_PARAMETER {
                continue;
            }
            let value = self.push_component(raw_value)?;
            self.pairs.push(Pair { name, value });
        }
        let query = &self.query;
        let key = |pair: &Pair| (&query[pair.name.clone()], &query[pair.value.clone()]);
        self.pairs.sort_by(|a, b| key(a).cmp(&key(b)));
        for (index, pair) in self.pairs.iter().enumerate() {
            if index > 0 {
                self.request.push(b'&');
            }
            self.request.extend_from_slice(&query[pair.name.clone()]);
            self.request.push(b'=');
            self.request.extend_from_slice(&query[pair.value.clone()]);
        }
        Ok(())
    }

    /// Decodes and encodes one name or value to the end of `query`.
    fn push_component(&mut self, raw: &str) -> Result<Range<usize>, Error> {
        self.decoded.clear();
        uri::decode_into(&mut self.decoded, raw, Plus::Space)?;
        let start = self.query.len();
        uri::encode_into(&mut self.query, &self.decoded, Slash::Encode);
        Ok(start..self.query.len())
    }
}

fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// `name:value,value`: the values trimmed, runs of white space inside them made one space.
fn push_header(out: &mut Vec<u8>, name: &str, headers: &Headers) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    for (index, value) in headers.values(name).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_collapsed(out, value.trim_ascii());
    }
    out.push(b'\n');
}

fn push_collapsed(out: &mut Vec<u8>, value: &[u8]) {
    let mut is_after_space = false;
    for byte in value {
        let is_space = matches!(byte, b' ' | b'\t');
        if !is_space {
            out.push(*byte);
        } else if !is_after_space {
            out.push(b' ');
        }
        is_after_space = is_space;
    }
}
