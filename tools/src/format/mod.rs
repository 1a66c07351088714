//! `engine/docs/format.md`, written from the sources of the format: told once, in `engine/src/format/`.
//!
//! [`source`] reads the Rust files, [`layout`] computes values, sizes and offsets, [`page`] writes. A new file, struct, constant or record kind in that folder
//! appears by itself. What can't be understood is an error, never a gap.

use std::fs;
use std::io;
use std::path::Path;

pub mod layout;
pub mod page;
pub mod source;

/// Where the page is, from the workspace's folder.
pub const PAGE: &str = "engine/docs/format.md";

/// The page as the sources have it now.
pub fn render(root: &Path) -> io::Result<String> {
    let engine = root.join("engine");
    let chapters = source::read(&engine.join("src/format"))?;
    let limits = source::read_file(&engine.join("src/limits.rs"), "limits")?;
    let names = layout::Names::new(&chapters, &limits)?;
    page::render(&chapters, &names, &engine.join("tests/golden"))
}

/// Writes the page.
pub fn write(root: &Path) -> io::Result<()> {
    let path = root.join(PAGE);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    fs::write(path, render(root)?)
}

/// Whether the page is what the sources say; the error says what to do.
pub fn check(root: &Path) -> io::Result<()> {
    let rendered = render(root)?;
    let found = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let Some(line) = first_difference(&rendered, &found) else { return Ok(()) };
    Err(io::Error::other(format!(
        "{PAGE} is not what engine/src/format/ says, from line {line} on: run `cargo xtask format` and commit the page"
    )))
}

fn first_difference(a: &str, b: &str) -> Option<usize> {
    if a == b {
        return None;
    }
    let equal = a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count();
    Some(equal + 1)
}

#[cfg(test)]
mod tests;
