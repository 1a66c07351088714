//! One stream: what was hashed, and the bytes that wait.

use crate::kernel::compress_one;
use crate::{BLOCK_LEN, Block, Digest, STATE_INITIAL, State};

/// Bytes that may wait: with 16 streams they and what else a core works on stay within its second-level cache.
pub(crate) const WAITING_LEN_MAX: usize = 64 * 1024;

/// Bytes of the length at the end of the padding.
const LENGTH_LEN: usize = 8;

/// Bytes that the padding adds at most.
pub const PADDING_LEN_MAX: usize = BLOCK_LEN + LENGTH_LEN;

/// A stream's state and its bytes that wait.
#[derive(Debug)]
pub(crate) struct Backlog {
    state: State,
    /// Bytes so far, hashed or not.
    len: u64,
    /// Bytes taken in; those before `hashed_len`, whole blocks, are hashed.
    taken: Vec<u8>,
    hashed_len: usize,
    /// The padding is in: there is nothing to come.
    is_ended: bool,
    /// Whether it is in the list of those that wait.
    pub(crate) is_listed: bool,
}

impl Backlog {
    /// Nothing taken in.
    pub(crate) fn new() -> Self {
        Backlog {
            state: STATE_INITIAL,
            len: 0,
            taken: Vec::new(),
            hashed_len: 0,
            is_ended: false,
            is_listed: false,
        }
    }

    /// All bytes of a stream, which wait where they are; room behind them for the padding is made if there is none.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Backlog { len: bytes.len() as u64, taken: bytes, ..Backlog::new() }
    }

    /// Gives back the bytes that it was made of.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.taken.truncate(self.len as usize);
        self.taken
    }

    /// Takes in the first of those bytes, as many as there is room for. Gives back the rest.
    pub(crate) fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        assert!(!self.is_ended, "no byte comes after the end");
        let (now, rest) = bytes.split_at(bytes.len().min(WAITING_LEN_MAX - self.waiting_len()));
        if self.hashed_len > 0 {
            self.taken.drain(..self.hashed_len);
            self.hashed_len = 0;
        }
        self.taken.extend_from_slice(now);
        self.len = self.len.wrapping_add(now.len() as u64);
        rest
    }

    /// Takes in bytes and hashes them at once, where they lie, after those that wait.
    pub(crate) fn hash_now(&mut self, bytes: &[u8]) {
        let missing = self.waiting_len().next_multiple_of(BLOCK_LEN) - self.waiting_len();
        let (first, bytes) = bytes.split_at(bytes.len().min(missing));
        self.take(first);
        let waiting = self.waiting_len() - self.waiting_len() % BLOCK_LEN;
        let (taken, hashed_len) = (&self.taken, self.hashed_len);
        compress_one(&mut self.state, taken[hashed_len..hashed_len + waiting].as_chunks().0);
        self.hashed_len += waiting;
        let (blocks, rest) = bytes.as_chunks();
        compress_one(&mut self.state, blocks);
        self.len = self.len.wrapping_add((bytes.len() - rest.len()) as u64);
        self.take(rest);
    }

    /// No more bytes will come: adds the padding, a 1 bit, zeros, and the length in bits.
    pub(crate) fn end(&mut self) {
        assert!(!self.is_ended, "a stream ends once");
        self.is_ended = true;
        self.taken.push(0x80);
        let padded_len = (self.taken.len() + LENGTH_LEN).next_multiple_of(BLOCK_LEN);
        self.taken.resize(padded_len - LENGTH_LEN, 0);
        self.taken.extend_from_slice(&self.len.wrapping_mul(8).to_le_bytes());
    }

    /// The state, and the whole blocks that wait.
    pub(crate) fn waiting(&mut self) -> (&mut State, &[Block]) {
        (&mut self.state, self.taken[self.hashed_len..].as_chunks().0)
    }

    /// All of them but the last so many have been hashed.
    pub(crate) fn leave(&mut self, block_count: usize) {
        let hashed_count = self.waiting().1.len() - block_count;
        self.hashed_len += hashed_count * BLOCK_LEN;
    }

    /// Bytes that wait.
    pub(crate) fn waiting_len(&self) -> usize {
        self.taken.len() - self.hashed_len
    }

    /// Whether there is no room for more.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting_len() >= WAITING_LEN_MAX
    }

    /// Whether there is nothing to come.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The digest, when the stream has ended and all is hashed.
    pub(crate) fn digest(&self) -> Option<Digest> {
        if !self.is_ended || self.waiting_len() > 0 {
            return None;
        }
        let mut digest = Digest::default();
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        Some(digest)
    }
}
