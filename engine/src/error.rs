//! What can go wrong, by what the caller does next.

use std::fmt;

use crate::ids::{DeviceIndex, SegmentId};

/// The result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// Every way in which an engine call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such key, version or part.
    NotFound,
    /// The bucket is not here (any more).
    BucketNotFound,
    /// The upload is not here (any more).
    UploadNotFound,
    /// The bucket still holds objects.
    BucketNotEmpty,
    /// A thing of that name exists.
    AlreadyExists,
    /// A condition of the request does not hold.
    PreconditionFailed,
    /// What the request was decided on changed meanwhile: decide again.
    Conflict,
    /// No space that this request may use: delete something or add a device.
    Full,
    /// Too few devices take writes to hold the configured number of copies: the store is read-only.
    ReadOnly,
    /// A device was fenced after a failed write or flush, and this request's bytes were on it.
    Fenced {
        /// The device.
        device: DeviceIndex,
    },
    /// No copy of these bytes verifies.
    Corrupt {
        /// The segment.
        segment: SegmentId,
        /// Byte offset in it.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// A device operation failed.
    Io {
        /// The device.
        device: DeviceIndex,
        /// `read`, `write` or `flush`.
        op: &'static str,
        /// The system's error number.
        errno: i32,
    },
    /// The thing is larger than the format holds.
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
    /// The key source does not open what it should.
    Key {
        /// What does not open.
        what: &'static str,
    },
    /// The devices do not make up a store that can be opened.
    Devices {
        /// What is wrong with them.
        what: &'static str,
    },
    /// A log consumer fell so far behind that the log was not kept for it: it must start over from a snapshot.
    Behind,
    /// The shard stopped: the process is going down.
    Stopped,
}

impl Error {
    /// What is told when several copies of the same bytes are no good: that one of them could not be read, if that is so. It may be whole, and be read another time.
    pub(crate) fn or_of_copy(self, next: Error) -> Error {
        match self {
            Error::Io { .. } => self,
            _ => next,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound => write!(f, "no such key"),
            Error::BucketNotFound => write!(f, "no such bucket"),
            Error::UploadNotFound => write!(f, "no such upload"),
            Error::BucketNotEmpty => write!(f, "the bucket is not empty"),
            Error::AlreadyExists => write!(f, "it already exists"),
            Error::PreconditionFailed => write!(f, "a condition of the request does not hold"),
            Error::Conflict => write!(f, "a concurrent change got in between"),
            Error::Full => write!(f, "no free space: delete objects or add a device"),
            Error::ReadOnly => {
                write!(
                    f,
                    "read-only: too few devices take writes for the configured copies; bring the missing device back"
                )
            }
            Error::Fenced { device } => {
                write!(f, "device {device} was fenced after a failed write or flush; check its kernel log")
            }
            Error::Corrupt { segment, offset, what } => {
                write!(f, "no copy verifies at segment {:#x} offset {offset}: {what}", segment.0)
            }
            Error::Io { device, op, errno } => {
                write!(f, "{op} on device {device} failed: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Error::TooLarge { what } => write!(f, "{what} is larger than the format holds"),
            Error::Key { what } => {
                write!(f, "the key source does not open {what}: is it the key this store was made with?")
            }
            Error::Devices { what } => write!(f, "{what}"),
            Error::Behind => write!(f, "the log consumer fell behind: it must start over from a snapshot"),
            Error::Stopped => write!(f, "the shard has stopped"),
        }
    }
}

impl std::error::Error for Error {}
