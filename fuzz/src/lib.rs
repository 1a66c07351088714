//! Every decoder of bytes that come from outside, as a fuzz target: a function that takes any bytes and must not panic.
//!
//! Where there is an encoder, what was decoded must survive being encoded and decoded again; other claims of a decoder's documentation
//! are asserted where that is cheap. Checksums are put right before decoding, since no fuzzer guesses them.
//!
//! - `cargo xtask fuzz` runs them under libFuzzer, with coverage, over `corpus/` and mutations of it.
//! - `cargo test -p fuzz` runs them over `corpus/`, without libFuzzer.
//! - `cargo run -p fuzz -- TARGET FILE...` runs one on files, where a debugger can watch.
//!
//! A new decoder takes a function, a line in [`TARGETS`], and a seed in `corpus/TARGET/`.

pub mod directory;
pub mod disk;
pub mod wire;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Decodes; panics when a claim does not hold.
    pub run: fn(&[u8]),
}

impl Target {
    /// The target of that name.
    pub fn find(name: &str) -> Option<Target> {
        TARGETS.iter().find(|target| target.name == name).copied()
    }
}

macro_rules! targets {
    ($($module:ident::$name:ident,)*) => {
        &[$(Target { name: stringify!($name), run: $module::$name },)*]
    };
}

/// All of them. The name of a function is the name of its target.
pub const TARGETS: &[Target] = targets![
    disk::superblock,
    disk::segment_header,
    disk::record_header,
    disk::version,
    disk::tombstone,
    disk::upload,
    disk::part,
    disk::upload_end,
    disk::catalog_change,
    directory::lease,
    directory::checkpoint_pointer,
    directory::checkpoint,
    directory::checkpoint_image,
    directory::run_block,
    directory::run_descriptor,
    directory::run_stretch,
    directory::directory_entry,
    directory::directory_key,
    directory::settlement,
    directory::range_tombstone,
    directory::reap,
    directory::cursor,
    directory::due,
    wire::head,
    wire::chunked_body,
    wire::aws_chunked_body,
    wire::signed_body,
    wire::sigv4_header,
    wire::sigv4_presigned,
    wire::delete_objects,
    wire::complete_multipart_upload,
    wire::create_bucket,
    wire::uri,
    wire::query,
    wire::target,
    wire::range,
    wire::copy_source,
    wire::continuation_token,
    wire::etag_and_dates,
];
