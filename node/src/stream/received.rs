//! Bytes that have come and that nobody has consumed yet, where no TLS of ours is between them and the socket.

use std::io;

use super::records::{INCOMING_LEN_REST, grow};
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
        let (buffer, room) = self.take();
        let (result, buffer) = tcp.receive(buffer).await;
        self.put(buffer, matches!(result, Ok(count) if count == room));
        result
    }

    /// Receives more, or a record that is no data, where the kernel opens records: its type, and how many bytes came; see [`Received::take_last`].
    ///
    /// # Errors
    /// As for [`Tcp::receive_record`].
    pub async fn receive_record(&mut self, tcp: &mut Tcp) -> io::Result<(u8, usize)> {
        let (buffer, room) = self.take();
        let (result, buffer) = tcp.receive_record(buffer).await;
        self.put(buffer, matches!(result, Ok((_, count)) if count == room));
        result
    }

    /// Takes away what came last, since it is no data.
    pub fn take_last(&mut self, count: usize) -> Vec<u8> {
        self.bytes.split_off(self.bytes.len() - count)
    }

    /// The buffer, with room to receive into, and how much.
    fn take(&mut self) -> (Vec<u8>, usize) {
        let mut buffer = std::mem::take(&mut self.bytes);
        buffer.drain(..std::mem::take(&mut self.start));
        grow(&mut buffer, self.is_hungry);
        let room = buffer.capacity() - buffer.len();
        (buffer, room)
    }

    fn put(&mut self, buffer: Vec<u8>, is_hungry: bool) {
        (self.bytes, self.is_hungry) = (buffer, is_hungry);
    }

    /// Gives back the memory that a large transfer needed.
    pub fn shrink(&mut self) {
        self.bytes.drain(..std::mem::take(&mut self.start));
        self.bytes.shrink_to(INCOMING_LEN_REST);
    }
}
