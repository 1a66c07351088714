//! Continuation tokens: where the next page of a listing begins, opaque to the client.
//!
//! A token is base64url (without padding) of a version byte, a kind byte and the text to resume after. It names the
//! position, not a state of ours, so that it stays good for ever and over restarts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Error;

/// First byte of every token.
const VERSION: u8 = 1;

/// Where a page ended, and the next one resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumeAfter {
    /// After this key.
    Key(String),
    /// After everything that begins with this common prefix.
    CommonPrefix(String),
}

impl ResumeAfter {
    /// What a marker that a client made means: with a delimiter, a marker that is itself a common prefix (its first
    /// delimiter behind `prefix` is its end) stands for everything under it; any other marker is a key.
    pub fn marker(marker: &str, prefix: &str, delimiter: Option<&str>) -> Self {
        let rest = marker.strip_prefix(prefix);
        let is_common_prefix = rest.zip(delimiter).is_some_and(|(rest, delimiter)| {
            rest.find(delimiter).is_some_and(|at| at + delimiter.len() == rest.len())
        });
        if is_common_prefix {
            ResumeAfter::CommonPrefix(marker.to_owned())
        } else {
            ResumeAfter::Key(marker.to_owned())
        }
    }

    /// The key or common prefix.
    pub fn as_str(&self) -> &str {
        match self {
            ResumeAfter::Key(text) | ResumeAfter::CommonPrefix(text) => text,
        }
    }

    /// The token for it.
    pub fn to_token(&self) -> String {
        let kind = match self {
            ResumeAfter::Key(_) => b'k',
            ResumeAfter::CommonPrefix(_) => b'p',
        };
        let mut bytes = vec![VERSION, kind];
        bytes.extend_from_slice(self.as_str().as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; `InvalidArgument` when it is none of ours.
    pub fn from_token(token: &str) -> Result<Self, Error> {
        ResumeAfter::decode(token).ok_or_else(|| {
            Error::invalid_argument(
                "The continuation token provided is incorrect",
                "continuation-token",
                token,
            )
        })
    }

    fn decode(token: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (kind, text) = rest.split_first()?;
        let text = std::str::from_utf8(text).ok()?.to_owned();
        match (*version, *kind) {
            (VERSION, b'k') => Some(ResumeAfter::Key(text)),
            (VERSION, b'p') => Some(ResumeAfter::CommonPrefix(text)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Code;

    proptest! {
        #[test]
        fn a_token_reads_back(text in "\\PC*", is_prefix: bool) {
            let position = if is_prefix { ResumeAfter::CommonPrefix(text) } else { ResumeAfter::Key(text) };
            let token = position.to_token();
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(ResumeAfter::from_token(&token).unwrap(), position);
        }

        #[test]
        fn no_token_panics(token in "[-_=+/A-Za-z0-9]{0,40}") {
            let _ = ResumeAfter::from_token(&token);
        }
    }

    #[test]
    fn a_token_of_another_version_or_none_at_all_is_refused() {
        let other_version = URL_SAFE_NO_PAD.encode([VERSION + 1, b'k', b'a']);
        let other_kind = URL_SAFE_NO_PAD.encode([VERSION, b'x', b'a']);
        let not_utf8 = URL_SAFE_NO_PAD.encode([VERSION, b'k', 0xff]);
        for token in ["", "a", "!!", "AQ", "some-key", &other_version, &other_kind, &not_utf8] {
            assert_eq!(ResumeAfter::from_token(token).unwrap_err().code, Code::InvalidArgument, "{token}");
        }
    }

    #[test]
    fn only_a_marker_that_is_a_common_prefix_skips_what_is_under_it() {
        let marker = |marker, prefix, delimiter| ResumeAfter::marker(marker, prefix, delimiter);
        assert_eq!(marker("a/", "", Some("/")), ResumeAfter::CommonPrefix("a/".into()));
        assert_eq!(marker("p/a/", "p/", Some("/")), ResumeAfter::CommonPrefix("p/a/".into()));
        assert_eq!(marker("ab::", "a", Some("::")), ResumeAfter::CommonPrefix("ab::".into()));
        for (text, prefix, delimiter) in
            [("a/b", "", Some("/")), ("a/b/", "", Some("/")), ("a/", "", None), ("a/", "b", Some("/"))]
        {
            assert_eq!(marker(text, prefix, delimiter), ResumeAfter::Key(text.into()), "{text} {prefix}");
        }
    }
}
