//! The Basalt server: from a command line to bytes served over TLS.
//!
//! ```text
//!  main ── cli, config ──> boot (data dir, key, certificates, credentials) ──> server
//!                                                                                │ supervises
//!        signals ── SIGTERM, SIGINT, SIGHUP ─────────────────────────────────────┤
//!        admin   ── /healthz, /metrics, on a thread of its own ──────────────────┤
//!        cores   ── one pinned thread each: runtime, listeners, connections ─────┘
//!                     │ Stream (TLS or plain)              │ mesh: calls to other cores
//!                     └── Service::serve_connection ───────┘
//! ```
//!
//! What a core does with a connection is a [`Service`]: the S3 part implements it, and small fakes do in tests. The
//! shell around it knows nothing of S3 or of the engine.

pub mod admin;
pub mod boot;
pub mod budget;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod congestion_control;
pub mod connections;
pub mod cores;
pub mod foremost;
pub mod heap;
pub mod kernel_tls;
pub mod listener;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod rates;
pub mod s3;
pub mod server;
pub mod service;
pub mod signals;
pub mod stopwatch;
pub mod storage;
pub mod stream;

pub use config::Config;
pub use cores::{CoreContext, Service};
pub use mesh::{CoreId, Mesh, MeshClosed, MeshHandle};
pub use server::Server;
pub use stream::{Patience, Stream};
