//! Bytes that have come and that nobody has consumed yet, where no TLS of ours is between them and the socket.

use std::io;

use super::records::{INCOMING_LEN_MIN, grow};
use super::tcp::Tcp;

/// Received bytes.
#[derive(Default)]
pub struct Received {
    bytes: Vec<u8>,
    /// Those before are consumed.
    start: usize,
    /// The last receive filled all the room it had: more is coming, so the next one gets more room.
    is_hungry: bool,
}

impl Received {
    /// Those that nobody has consumed yet.
    pub fn plaintext(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes the first `count` of them away.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.plaintext().len(), "more bytes consumed than there are");
        self.start += count;
    }

    /// Bytes that have come another way.
    pub fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Receives more; answers how many came.
    ///
    /// # Errors
    /// As for [`Tcp::receive`].
    pub async fn receive(&mut self, tcp: &mut Tcp) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.bytes);
        buffer.drain(..std::mem::take(&mut self.start));
        grow(&mut buffer, self.is_hungry);
        let room = buffer.capacity() - buffer.len();
        let result;
        (result, self.bytes) = tcp.receive(buffer).await;
        self.is_hungry = matches!(result, Ok(count) if count == room);
        result
    }

    /// Gives back the memory that a large transfer needed.
    pub fn shrink(&mut self) {
        self.bytes.drain(..std::mem::take(&mut self.start));
        self.bytes.shrink_to(INCOMING_LEN_MIN);
    }
}
