//! The shell of the node, on real sockets: TLS, limits on waiting, drain, admin pages, and the binary itself. The
//! service is a small one of its own (see `support`), so that nothing here depends on S3 or on the engine.

mod admin;
mod lifecycle;
mod limits;
mod openssl;
mod process;
mod support;
mod tls;
