//! A small blocking S3 client of our own, so that a fault of the server and of its tester cannot cancel out.
//!
//! It signs (`sign`), speaks HTTP/1.1 with keep-alive over TCP or TLS (`connection`, `endpoint`) and reads the XML
//! that the operations need (`xml`). Nothing is retried: a tester has to see each failure, and a caller who
//! wants to go on after one simply asks again, on a new connection.

mod answer;
mod client;
mod connection;
mod credentials;
mod endpoint;
mod error;
mod payload;
pub(crate) mod sign;
mod uri;
mod xml;

pub use answer::{Listed, ObjectHead, Page, Part, Stored};
pub use client::{Client, PutCondition};
pub use credentials::Credentials;
pub use endpoint::{Endpoint, Trust};
pub use error::Error;
pub use payload::{Payload, PayloadSigning};
