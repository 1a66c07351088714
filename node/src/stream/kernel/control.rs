//! Records that are not data, which the kernel opens and leaves to us: alerts, and what is left of the handshake.

use rustls::ProtocolVersion;

use super::super::direct::{ALERT, Fault, HANDSHAKE, KEY_UPDATE};

/// The alert that says goodbye, and the one that declines to begin the handshake anew (RFC 5246, 7.2).
pub const CLOSE_NOTIFY: [u8; 2] = [1, 0];
pub const NO_RENEGOTIATION: [u8; 2] = [1, 100];

/// The message that our key changes; the peer need not change its own.
pub const OWN_KEY_UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];

/// What such a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The peer will say no more.
    End,
    /// The peer has given up.
    Failed,
    /// Nothing that matters to us.
    Nothing,
    /// The peer has changed its key, and may want us to change ours.
    KeyUpdate { is_answer_wanted: bool },
    /// The peer of a TLS 1.2 connection wants another handshake.
    Renegotiation,
}

/// Reads a record of that type.
///
/// # Errors
/// What is wrong with it; the connection is over.
pub fn read(version: ProtocolVersion, kind: u8, content: &[u8]) -> Result<Control, Fault> {
    match kind {
        ALERT => read_alert(version, content),
        HANDSHAKE if version == ProtocolVersion::TLSv1_3 => read_key_update(content),
        HANDSHAKE => read_hello(content),
        _ => Err(Fault::UnexpectedMessage),
    }
}

fn read_alert(version: ProtocolVersion, content: &[u8]) -> Result<Control, Fault> {
    const WARNING: u8 = 1;
    const CLOSE_NOTIFY: u8 = 0;
    const USER_CANCELED: u8 = 90;
    match content {
        [_, CLOSE_NOTIFY] => Ok(Control::End),
        [_, USER_CANCELED] => Ok(Control::Nothing),
        // In TLS 1.3 an alert's level says nothing: every other one is an end (RFC 8446, 6).
        [WARNING, _] if version == ProtocolVersion::TLSv1_2 => Ok(Control::Nothing),
        [_, _] => Ok(Control::Failed),
        _ => Err(Fault::DecodeError),
    }
}

fn read_key_update(content: &[u8]) -> Result<Control, Fault> {
    match content {
        [KEY_UPDATE, 0, 0, 1, request @ 0..=1] => Ok(Control::KeyUpdate { is_answer_wanted: *request == 1 }),
        [KEY_UPDATE, 0, 0, 1, _] => Err(Fault::IllegalParameter),
        _ => Err(Fault::UnexpectedMessage),
    }
}

fn read_hello(content: &[u8]) -> Result<Control, Fault> {
    const CLIENT_HELLO: u8 = 1;
    match content {
        [CLIENT_HELLO, ..] => Ok(Control::Renegotiation),
        _ => Err(Fault::UnexpectedMessage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V12: ProtocolVersion = ProtocolVersion::TLSv1_2;
    const V13: ProtocolVersion = ProtocolVersion::TLSv1_3;

    #[test]
    fn an_alert_is_an_end_a_failure_or_nothing() {
        for version in [V12, V13] {
            assert_eq!(read(version, ALERT, &[1, 0]), Ok(Control::End));
            assert_eq!(read(version, ALERT, &[2, 0]), Ok(Control::End));
            assert_eq!(read(version, ALERT, &[1, 90]), Ok(Control::Nothing));
            assert_eq!(read(version, ALERT, &[2, 20]), Ok(Control::Failed));
            for content in [&[][..], &[1], &[1, 0, 0]] {
                assert_eq!(read(version, ALERT, content), Err(Fault::DecodeError));
            }
        }
        assert_eq!(read(V12, ALERT, &[1, 100]), Ok(Control::Nothing));
        assert_eq!(read(V13, ALERT, &[1, 100]), Ok(Control::Failed));
    }

    #[test]
    fn the_one_message_of_tls_1_3_is_a_key_update() {
        let update = |is_answer_wanted| Ok(Control::KeyUpdate { is_answer_wanted });
        assert_eq!(read(V13, HANDSHAKE, &[24, 0, 0, 1, 0]), update(false));
        assert_eq!(read(V13, HANDSHAKE, &[24, 0, 0, 1, 1]), update(true));
        assert_eq!(read(V13, HANDSHAKE, &OWN_KEY_UPDATE), update(false));
        assert_eq!(read(V13, HANDSHAKE, &[24, 0, 0, 1, 2]), Err(Fault::IllegalParameter));
        for content in [&[][..], &[24], &[24, 0, 0, 2, 0], &[24, 0, 0, 1, 0, 0], &[1, 0, 0, 1, 0]] {
            assert_eq!(read(V13, HANDSHAKE, content), Err(Fault::UnexpectedMessage), "{content:?}");
        }
    }

    #[test]
    fn tls_1_2_may_ask_for_another_handshake_and_nothing_else() {
        assert_eq!(read(V12, HANDSHAKE, &[1, 0, 0, 200, 3, 3]), Ok(Control::Renegotiation));
        for content in [&[][..], &[24, 0, 0, 1, 0], &[16, 0, 0, 0]] {
            assert_eq!(read(V12, HANDSHAKE, content), Err(Fault::UnexpectedMessage));
        }
        for (version, kind) in [(V12, 20), (V13, 20), (V12, 24), (V13, 0)] {
            assert_eq!(read(version, kind, &[1]), Err(Fault::UnexpectedMessage));
        }
    }
}
