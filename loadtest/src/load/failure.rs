//! Why an operation gave no good answer, in kinds that can be counted and acted on.

use std::fmt;

/// What kind of failure, and with it what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// No connection.
    Connect,
    /// A handshake that failed, or a record that was not sound.
    Tls,
    /// No answer in time.
    Timeout,
    /// The server closed the connection in the midst of an answer.
    Closed,
    /// Not HTTP, or not the S3 document that belongs there.
    Protocol,
    /// 503 `SlowDown`: the server sheds load, and says so.
    SlowDown,
    /// Another refusal, with S3's code.
    Status(u16, String),
    /// An answer that is wrong: the worst there is.
    Verification,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Tls => f.write_str("tls"),
            Self::Timeout => f.write_str("timeout"),
            Self::Closed => f.write_str("closed"),
            Self::Protocol => f.write_str("protocol"),
            Self::SlowDown => f.write_str("503 SlowDown"),
            Self::Status(status, code) if code.is_empty() => write!(f, "http {status}"),
            Self::Status(status, code) => write!(f, "http {status} {code}"),
            Self::Verification => f.write_str("verification"),
        }
    }
}

impl Kind {
    /// What the reader of a report should try.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Connect => {
                "is the server running, and is --endpoint its address? ulimit -n limits connections"
            }
            Self::Tls => "give the authority of the server's certificate with --ca FILE, or --insecure",
            Self::Timeout => "the server did not answer within `timeout`: look at its log and at its disks",
            Self::Closed => "the server closed in the midst of a request: look at its log",
            Self::Protocol => "the answer is not S3's: is --endpoint an S3 server?",
            Self::SlowDown => "the server sheds load: lower the rate or the connections",
            Self::Status(403, _) => {
                "check --access-key, --secret-key, --region, and the clocks of both machines"
            }
            Self::Status(404, _) => "the object or bucket is not there: use prepare = \"fill\"",
            Self::Status(..) => "the server refused: its code says why",
            Self::Verification => "the server gave wrong data: keep its disks and its log as they are",
        }
    }
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub kind: Kind,
    /// For people.
    pub detail: String,
}

impl Failure {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    pub fn protocol(detail: impl Into<String>) -> Self {
        Self::new(Kind::Protocol, detail)
    }
}
