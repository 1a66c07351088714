//! What can be asked of a server.

use serde::{Deserialize, Serialize};

/// A request, or for `multipart` a sequence of them, that is timed as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// GetObject of a whole object
    Get,
    /// PutObject
    Put,
    /// DeleteObject
    Delete,
    /// HeadObject
    Head,
    /// One page of ListObjectsV2
    List,
    /// CreateMultipartUpload, its UploadParts one after the other, CompleteMultipartUpload
    Multipart,
}

impl Operation {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 6] = [Self::Get, Self::Put, Self::Delete, Self::Head, Self::List, Self::Multipart];

    /// Its name in scenarios and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Head => "head",
            Self::List => "list",
            Self::Multipart => "multipart",
        }
    }

    /// Whether it changes a key.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete | Self::Multipart)
    }
}
