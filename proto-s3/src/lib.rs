//! The S3 wire protocol, sans-I/O.
//!
//! Bytes in, values out, and back: heads, framing, signatures, bodies, documents and errors. No clock, no random
//! source, no thread and no socket lives here; the time of a request arrives in [`sigv4::Policy`].
//!
//! ```text
//!  wire bytes --http::parse_head--> RequestHead --sigv4--> who, and how the payload is protected
//!                                        |
//!                                        +--route--> Operation (everything the head says, validated)
//!  body bytes --BodyDecoder--> payload --BodyHasher--> digests --ChecksumRequest::verify--> stored
//!  Response or Error --http::encode_response--> wire bytes
//! ```
//!
//! Everything that comes from outside is bounded by [`limits::Limits`] and never panics.

#![forbid(unsafe_code)]

pub mod body;
pub mod checksum;
pub mod condition;
mod encoding;
pub mod error;
pub mod etag;
pub mod http;
pub mod limits;
pub mod op;
pub mod operation;
pub mod query;
pub mod range;
pub mod route;
pub mod sigv4;
pub mod target;
pub mod time;
pub mod uri;
pub mod xml;

pub use body::{BodyDecoder, Decoded, Trailers};
pub use checksum::{Algorithm, BodyDigests, BodyHasher, Checksum, ChecksumRequest, ChecksumType, Hasher};
pub use error::{Code, Error};
pub use etag::ETag;
pub use limits::Limits;
pub use operation::{BodyKind, Operation};
pub use route::{RouteConfig, route};
