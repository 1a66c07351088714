//! Criterion benches, one file per hot structure, in `benches/`. This library holds nothing: the crate exists so that no other crate depends on
//! criterion.
//!
//! `cargo bench -p benches` measures; `cargo test -p benches` runs each once on a tiny input, so that they cannot rot. `runtimes/` is a crate outside the workspace, with a README of its own.
