//! A directory tree to synchronise: the sources of some dependency, as real as trees get, or else a made one.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Enough to need several LIST pages, and few enough for clients that take 20 ms per file.
const FILE_COUNT_MIN: usize = 1200;
const FILE_COUNT_MAX: usize = 2500;

/// The fitting dependency in cargo's registry, or a tree made under `work`.
pub(super) fn find_or_make(work: &Path) -> io::Result<PathBuf> {
    match find_in_registry() {
        Some(tree) => Ok(tree),
        None => {
            let tree = work.join("tree");
            make(&tree)?;
            Ok(tree)
        }
    }
}

fn find_in_registry() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let crates = subfolders(&home.join("registry/src")).into_iter().flat_map(|index| subfolders(&index));
    let counted = crates.map(|folder| (count_files(&folder, FILE_COUNT_MAX + 1), folder));
    let fitting = counted.filter(|(count, _)| (FILE_COUNT_MIN..=FILE_COUNT_MAX).contains(count));
    fitting.max().map(|(_, folder)| folder)
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Files below the folder, but no more than `most`.
fn count_files(folder: &Path, most: usize) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        count += match entry.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&entry.path(), most),
            _ => 1,
        };
        if count >= most {
            return most;
        }
    }
    count
}

fn make(tree: &Path) -> io::Result<()> {
    for folder in 0..40 {
        let path = tree.join(format!("folder {folder}/deeper"));
        fs::create_dir_all(&path)?;
        for file in 0..40 {
            let line = format!("file {file} of folder {folder}\n");
            // From empty to about 40 KiB.
            fs::write(path.join(format!("file-{file}.txt")), line.repeat(file * file))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_tree_has_enough_files() {
        let work = env::temp_dir().join(format!("clients-tree-{}", std::process::id()));
        make(&work).unwrap();
        let count = count_files(&work, usize::MAX);
        assert!((FILE_COUNT_MIN..=FILE_COUNT_MAX).contains(&count), "{count}");
        assert_eq!(count_files(&work, 10), 10);
        fs::remove_dir_all(&work).unwrap();
    }
}
