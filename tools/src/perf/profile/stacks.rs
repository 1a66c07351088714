//! Folded stacks (`main;work;write 12`), summed by function.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// How often a function was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// At work itself.
    own: u64,
    /// It or what it had called; once for each stack, however often it is in it.
    total: u64,
}

/// The functions that were most often at work themselves.
pub(super) fn render(folded: &str, top: usize) -> String {
    let (functions, samples) = sum(folded);
    let mut functions: Vec<(&str, Seen)> = functions.into_iter().collect();
    functions.sort_by_key(|&(name, seen)| (std::cmp::Reverse(seen.own), name));
    let mut text = format!("{samples} samples\n  self   total  function\n");
    let share = |count: u64| 100.0 * count as f64 / samples.max(1) as f64;
    for (name, seen) in functions.into_iter().take(top) {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:5.1} % {:5.1} %  {name}", share(seen.own), share(seen.total));
    }
    text
}

fn sum(folded: &str) -> (HashMap<&str, Seen>, u64) {
    let (mut functions, mut samples) = (HashMap::<&str, Seen>::new(), 0);
    for line in folded.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        samples += count;
        // The first is the name of the thread.
        let frames: Vec<&str> = stack.split(';').skip(1).collect();
        if let Some(leaf) = frames.last() {
            functions.entry(leaf).or_default().own += count;
        }
        for frame in frames.iter().collect::<HashSet<_>>() {
            functions.entry(frame).or_default().total += count;
        }
    }
    (functions, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDED: &str = "core-0;main;poll;poll;send 6\ncore-0;main;poll 3\ncore-0;main 1\nnot a stack\n";

    #[test]
    fn a_function_counts_once_for_each_stack_and_the_last_one_works() {
        let (functions, samples) = sum(FOLDED);
        assert_eq!(samples, 10);
        assert_eq!(functions["poll"], Seen { own: 3, total: 9 });
        assert_eq!(functions["send"], Seen { own: 6, total: 6 });
        assert_eq!(functions["main"], Seen { own: 1, total: 10 });
        assert!(!functions.contains_key("core-0"), "a thread is no function");
    }

    #[test]
    fn the_busiest_come_first() {
        let text = render(FOLDED, 2);
        let names: Vec<&str> = text.lines().skip(2).filter_map(|line| line.split("  ").last()).collect();
        assert_eq!(names, ["send", "poll"]);
        assert!(text.contains(" 60.0 %  60.0 %  send"), "{text}");
    }
}
