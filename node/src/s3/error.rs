//! Why a request is not granted: what the client is told, and what only the operator should know.

use engine::Error as EngineError;
use proto_s3::condition::{WriteCondition, precondition_failed};
use proto_s3::{Code, Error};

use crate::service::Unavailable;

/// A request that is not granted.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// What the client is told.
    pub(super) error: Error,
    /// What is behind it, for the log.
    pub(super) cause: Option<EngineError>,
}

/// What an operation comes to.
pub(super) type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    /// What a write that had a condition is refused with: names key and condition.
    pub(super) fn of_write(error: EngineError, condition: WriteCondition, key: &str) -> Self {
        match (error, condition) {
            (EngineError::PreconditionFailed, WriteCondition::Absent) => {
                precondition_failed("If-None-Match").into()
            }
            (EngineError::PreconditionFailed, _) => precondition_failed("If-Match").into(),
            (EngineError::NotFound, _) => no_such_key(key).into(),
            (error, _) => error.into(),
        }
    }
}

/// `NoSuchKey`, naming the key.
pub(super) fn no_such_key(key: &str) -> Error {
    Error::new(Code::NoSuchKey).detail("Key", key)
}

/// `NoSuchBucket`, naming the bucket.
pub(super) fn no_such_bucket(bucket: &str) -> Error {
    Error::new(Code::NoSuchBucket).detail("BucketName", bucket)
}

/// `NoSuchUpload`, naming the upload.
pub(super) fn no_such_upload(upload_id: &str) -> Error {
    Error::new(Code::NoSuchUpload).detail("UploadId", upload_id)
}

impl From<EngineError> for Refusal {
    fn from(cause: EngineError) -> Self {
        let error = match cause {
            EngineError::NotFound => Error::new(Code::NoSuchKey),
            EngineError::BucketNotFound => Error::new(Code::NoSuchBucket),
            EngineError::UploadNotFound => Error::new(Code::NoSuchUpload),
            EngineError::BucketNotEmpty => Error::new(Code::BucketNotEmpty),
            EngineError::AlreadyExists => Error::new(Code::BucketAlreadyExists),
            EngineError::PreconditionFailed => Error::new(Code::PreconditionFailed),
            EngineError::Conflict => Error::new(Code::OperationAborted),
            EngineError::Full => Error::new(Code::InsufficientStorage),
            EngineError::ReadOnly => Error::with_message(
                Code::InsufficientStorage,
                "The store is read-only: too few of its devices take writes. Objects can be read; nothing can be written or deleted until the missing or failed device is back.",
            ),
            EngineError::TooLarge { what } => Error::with_message(
                Code::EntityTooLarge,
                format!("This store cannot hold it: {what} is too large."),
            ),
            EngineError::Fenced { .. }
            | EngineError::Corrupt { .. }
            | EngineError::Io { .. }
            | EngineError::Key { .. }
            | EngineError::Behind
            | EngineError::Devices { .. } => Error::new(Code::InternalError),
            EngineError::Stopped => Error::new(Code::ServiceUnavailable),
        };
        Refusal { error, cause: Some(cause) }
    }
}

impl From<Unavailable> for Refusal {
    fn from(_: Unavailable) -> Self {
        Refusal { error: Error::new(Code::ServiceUnavailable), cause: None }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal { error, cause: None }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Error::new(code).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_507_and_a_broken_device_500() {
        let status = |error: EngineError| Refusal::from(error).error.status();
        assert_eq!(status(EngineError::Full), 507);
        assert_eq!(status(EngineError::ReadOnly), 507);
        assert_eq!(status(EngineError::Stopped), 503);
        assert_eq!(status(EngineError::NotFound), 404);
    }

    #[test]
    fn a_failed_condition_names_its_header() {
        let refusal = Refusal::of_write(EngineError::PreconditionFailed, WriteCondition::Absent, "k");
        assert_eq!(refusal.error.details, [("Condition", "If-None-Match".to_owned())]);
        let refusal = Refusal::of_write(EngineError::NotFound, WriteCondition::Present, "k");
        assert_eq!(refusal.error.details, [("Key", "k".to_owned())]);
    }
}
