//! The corpus in git: of everything that runs found, the few inputs that reach most.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Folders, VARIABLE, list};
use crate::step::{self, Failure};

/// Files that a target has in git at most: with all targets a few hundred small ones. What they don't reach, mutation does within seconds.
const FILES_MAX: usize = 24;

/// Replaces a target's corpus in git by the inputs, of it and of all that was found, that reach most.
pub(super) fn keep(binary: &Path, target: &str, folders: &Folders) -> Result<(), Failure> {
    let corpus = folders.corpus.join(target);
    let merged = folders.found.join(format!("{target}.merged"));
    let control = folders.found.join(format!("{target}.control"));
    let failed = |error: io::Error| Failure::new("keep", error);
    fs::create_dir_all(&merged).map_err(failed)?;
    let mut command = Command::new(binary);
    command.env(VARIABLE, target).arg(&merged).arg(&corpus).arg(folders.found.join(target));
    // Code that is reached counts, and not how often. The control file says which input reaches what.
    command.args(["-set_cover_merge=1", "-use_counters=0"]);
    command.arg(format!("-merge_control_file={}", control.display()));
    step::run_quietly("merge", &mut command)?;
    let inputs = parse_control(&fs::read_to_string(&control).map_err(failed)?);
    let chosen: Vec<(String, Vec<u8>)> = choose_inputs(&inputs, FILES_MAX)
        .into_iter()
        .map(|path| {
            Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), fs::read(path)?))
        })
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    for name in list(&corpus).map_err(failed)? {
        fs::remove_file(corpus.join(name)).map_err(failed)?;
    }
    for (name, bytes) in chosen {
        fs::write(corpus.join(name), bytes).map_err(failed)?;
    }
    fs::remove_file(control).map_err(failed)?;
    fs::remove_dir_all(merged).map_err(failed)
}

/// An input and what it reaches.
type Input = (PathBuf, BTreeSet<u32>);

/// libFuzzer's control file: how many files there are, how many of them are in the first folder, their names; then lines `FT index feature...`.
fn parse_control(text: &str) -> Vec<Input> {
    let mut lines = text.lines();
    let count = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let mut inputs: Vec<Input> =
        lines.by_ref().skip(1).take(count).map(|name| (PathBuf::from(name), BTreeSet::new())).collect();
    for line in lines {
        let Some(numbers) = line.strip_prefix("FT ") else { continue };
        let mut numbers = numbers.split(' ').filter_map(|number| number.parse::<u32>().ok());
        if let Some((_, reached)) = numbers.next().and_then(|index| inputs.get_mut(index as usize)) {
            reached.extend(numbers);
        }
    }
    inputs
}

/// Again and again the input that adds most to what the chosen ones reach; of equal ones the first, which is the smallest.
fn choose_inputs(inputs: &[Input], count_max: usize) -> Vec<&Path> {
    let mut reached = BTreeSet::new();
    let mut chosen = Vec::new();
    while chosen.len() < count_max {
        let gain = |(_, features): &Input| features.difference(&reached).count();
        let best = inputs.iter().rev().max_by_key(|input| gain(input)).filter(|input| gain(input) > 0);
        let Some((path, features)) = best else { break };
        reached.extend(features.iter().copied());
        chosen.push(path.as_path());
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "4\n0\nc/a\nc/b\nc/c\nc/d\nSTARTED 0 1\nFT 0 1 2\nCOV 0 7\nSTARTED 1 2\nFT 1 1 2 3\nCOV 1 8\n\
                           STARTED 2 3\nFT 2 4\nSTARTED 3 4\nFT 3 4\n";

    #[test]
    fn the_fewest_inputs_that_reach_everything_are_chosen() {
        let inputs = parse_control(CONTROL);
        let paths = |count_max| choose_inputs(&inputs, count_max);
        assert_eq!(paths(10), [Path::new("c/b"), Path::new("c/c")]);
        assert_eq!(paths(1), [Path::new("c/b")]);
        assert!(choose_inputs(&parse_control(""), 10).is_empty());
    }
}
