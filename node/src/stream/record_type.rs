//! The type of a TLS record, as the kernel tells and takes it beside the record's bytes: a control message of sendmsg and recvmsg.

use std::mem::MaybeUninit;

use compio::io::ancillary::{AncillaryBuf, AncillaryData, CodecError};

use super::direct::APPLICATION_DATA;

/// `struct cmsghdr` (length, level, type), and a byte in a place of its own.
const LEN: usize = HEADER_LEN + size_of::<usize>();
const HEADER_LEN: usize = size_of::<usize>() + 4 + 4;

/// Room for one such message, aligned as the kernel's headers are.
pub type ControlMessage = AncillaryBuf<LEN>;

struct RecordType(u8);

impl AncillaryData for RecordType {
    fn encode(&self, buffer: &mut [MaybeUninit<u8>]) -> Result<(), CodecError> {
        buffer.first_mut().ok_or(CodecError::BufferTooSmall)?.write(self.0);
        Ok(())
    }

    fn decode(buffer: &[u8]) -> Result<Self, CodecError> {
        buffer.first().map(|kind| RecordType(*kind)).ok_or(CodecError::BufferTooSmall)
    }
}

/// The message that says of what type a record is.
pub fn write(kind: u8) -> ControlMessage {
    let mut message = ControlMessage::new();
    message
        .builder()
        .push(libc::SOL_TLS, libc::TLS_SET_RECORD_TYPE, &RecordType(kind))
        .expect("there is room for one message");
    message
}

/// The type in a received message; data, when there is none.
pub fn read(message: &[u8]) -> u8 {
    let expected = [libc::SOL_TLS.to_ne_bytes(), libc::TLS_GET_RECORD_TYPE.to_ne_bytes()].concat();
    match message.get(HEADER_LEN) {
        Some(kind) if message[HEADER_LEN - 8..HEADER_LEN] == expected => *kind,
        _ => APPLICATION_DATA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_header_and_the_type() {
        let message = write(21);
        assert_eq!(message.len(), LEN);
        assert_eq!(message[..size_of::<usize>()], (HEADER_LEN + 1).to_ne_bytes());
        assert_eq!(message[HEADER_LEN - 8..HEADER_LEN - 4], 282_i32.to_ne_bytes());
        assert_eq!(message[HEADER_LEN - 4..HEADER_LEN], 1_i32.to_ne_bytes());
        assert_eq!(message[HEADER_LEN..], [21, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn only_a_message_of_tls_has_a_type() {
        let message = |level: i32, name: i32| {
            let len = HEADER_LEN + 1;
            [&len.to_ne_bytes()[..], &level.to_ne_bytes(), &name.to_ne_bytes(), &[22]].concat()
        };
        assert_eq!(read(&message(282, 2)), 22);
        assert_eq!(read(&message(1, 2)), APPLICATION_DATA);
        assert_eq!(read(&message(282, 1)), APPLICATION_DATA);
        assert_eq!(read(&message(282, 2)[..HEADER_LEN]), APPLICATION_DATA);
        assert_eq!(read(&[]), APPLICATION_DATA);
    }
}
