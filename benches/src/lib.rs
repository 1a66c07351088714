//! Criterion benches, one file per hot structure, in `benches/`. This library holds nothing: the crate exists so that no other crate depends on
//! criterion.
//!
//! `cargo bench -p benches` measures; `cargo test -p benches --benches` runs each once, so that they cannot rot.
