//! `docs/semantics.md` keeps its form: passages have unique names, and every operation has some.

use std::collections::HashSet;

use proto_s3::Operation;

const SEMANTICS: &str = include_str!("../docs/semantics.md");

/// The names of the passages, in order.
fn passages() -> Vec<&'static str> {
    SEMANTICS
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("** "))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_passage_has_a_name_of_its_own_that_counts_up() {
    let mut seen = HashSet::new();
    let mut last = ("", 0);
    for name in passages() {
        assert!(seen.insert(name), "{name} is there twice");
        let (group, number) = name.rsplit_once('-').expect("a group and a number");
        let number: u32 = number.parse().expect("a number");
        assert_eq!(number, if group == last.0 { last.1 + 1 } else { 1 }, "{name} is out of order");
        last = (group, number);
    }
    assert!(seen.len() > 50, "only {} passages were found", seen.len());
}

#[test]
fn every_item_is_a_passage() {
    let items = SEMANTICS.lines().filter(|line| line.starts_with("- ")).count();
    assert_eq!(items, passages().len());
}

#[test]
fn every_operation_has_a_passage() {
    let groups: HashSet<&str> =
        passages().iter().filter_map(|name| name.rsplit_once('-')).map(|(group, _)| group).collect();
    for operation in Operation::NAMES {
        assert!(groups.contains(operation), "docs/semantics.md says nothing about {operation}");
    }
}
