//! Why a request did not give its answer, told apart by what the caller may conclude from it.

use std::fmt;
use std::io;

/// A request without a good answer.
#[derive(Debug)]
pub enum Error {
    /// The connection failed, so whether the request took effect is unknown.
    Transport(io::Error),
    /// The server answered something that is not HTTP or not the S3 document that belongs there.
    Protocol(String),
    /// The server answered with an error of S3.
    Refused {
        /// HTTP status.
        status: u16,
        /// `Code` of the error document, empty when there was none (as after HEAD).
        code: String,
        /// `Message` of the error document.
        message: String,
    },
}

impl Error {
    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// The HTTP status, when the server answered with an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The key (not the bucket, not the upload) does not exist.
    pub fn is_no_such_key(&self) -> bool {
        matches!(self, Self::Refused { status: 404, code, .. } if code.is_empty() || code == "NoSuchKey")
    }

    /// The upload does not exist (any more).
    pub fn is_no_such_upload(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NoSuchUpload")
    }

    /// A condition of the request did not hold.
    pub fn is_precondition_failed(&self) -> bool {
        self.status() == Some(412)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(f, "the connection failed: {error}"),
            Self::Protocol(what) => write!(f, "not a proper answer: {what}"),
            Self::Refused { status, code, message } => write!(f, "{status} {code}: {message}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Transport(error)
    }
}
