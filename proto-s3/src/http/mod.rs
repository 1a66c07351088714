//! HTTP/1.1 as S3 needs it: heads, framing of bodies, responses.

pub(crate) mod aws_chunked;
pub(crate) mod chunked;
pub mod encode;
pub mod framing;
pub mod head;
pub mod headers;
pub(crate) mod line;
pub mod request;
pub mod response;

pub use encode::{CONTINUE, ResponseContext, encode_response};
pub use framing::{Framing, expects_continue, framing, keeps_alive};
pub use head::{Parsed, parse_head};
pub use headers::Headers;
pub use request::{Method, RequestHead};
pub use response::{Response, ResponseBody};
