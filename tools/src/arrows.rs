//! The arrow rule: which crate of the workspace may use which. Development and build dependencies count too,
//! because a test that reaches around the rule soon becomes code that does.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use toml::Table;

/// Every crate of the workspace, and the ones it may use.
const ALLOWED: [(&str, &[&str]); 8] = [
    ("node", &["proto-s3", "engine", "md5-lanes"]),
    ("proto-s3", &["md5-lanes"]),
    ("engine", &[]),
    ("md5-lanes", &[]),
    ("tools", &["engine", "proto-s3", "md5-lanes"]),
    ("benches", &["engine", "proto-s3", "md5-lanes", "node"]),
    ("fuzz", &["engine", "proto-s3"]),
    // A second opinion must not share our bugs.
    ("loadtest", &[]),
];

/// What the rule needs to know of a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its package name.
    pub name: String,
    /// Package names of everything it depends on, of any kind.
    pub dependencies: BTreeSet<String>,
}

/// A breach of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A crate uses one that it may not use.
    Forbidden {
        /// The one that uses.
        from: String,
        /// The one that is used.
        to: String,
    },
    /// A crate of the workspace that the rule says nothing about.
    Unknown(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden { from, to } => {
                let allowed = allowed(from).filter(|list| !list.is_empty());
                let allowed = allowed.map_or("none of our crates".to_owned(), |list| list.join(", "));
                write!(f, "{from} must not depend on {to}; it may use {allowed}")
            }
            Self::Unknown(name) => {
                write!(f, "crate {name} has no arrows; say in tools/src/arrows.rs what it may use")
            }
        }
    }
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    ALLOWED.iter().find(|(known, _)| *known == name).map(|(_, list)| *list)
}

/// Holds the manifests of a workspace against the rule.
pub fn violations(manifests: &[Manifest]) -> Vec<Violation> {
    let ours: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    let mut found = Vec::new();
    for Manifest { name, dependencies } in manifests {
        let Some(allowed) = allowed(name) else {
            found.push(Violation::Unknown(name.clone()));
            continue;
        };
        let forbidden = dependencies.iter().filter(|to| ours.contains(to.as_str()));
        let forbidden = forbidden.filter(|to| !allowed.contains(&to.as_str()));
        found.extend(forbidden.map(|to| Violation::Forbidden { from: name.clone(), to: to.clone() }));
    }
    found
}

/// Reads one crate's `Cargo.toml`. `None` when it describes no package.
pub fn parse_manifest(text: &str) -> Result<Option<Manifest>, toml::de::Error> {
    let table: Table = text.parse()?;
    let Some(name) = table.get("package").and_then(|package| package.get("name")?.as_str()) else {
        return Ok(None);
    };
    let mut dependencies = BTreeSet::new();
    collect_dependencies(&table, &mut dependencies);
    for target in table.get("target").and_then(|it| it.as_table()).into_iter().flat_map(Table::values) {
        collect_dependencies(target.as_table().unwrap_or(&Table::new()), &mut dependencies);
    }
    Ok(Some(Manifest { name: name.to_owned(), dependencies }))
}

fn collect_dependencies(table: &Table, into: &mut BTreeSet<String>) {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in table.get(section).and_then(|it| it.as_table()).into_iter().flatten() {
            // A dependency may be renamed, or reach a crate of ours by its folder.
            let package = value.get("package").and_then(|it| it.as_str());
            let folder = value.get("path").and_then(|it| it.as_str());
            let folder_name = folder.and_then(|it| Path::new(it).file_name()?.to_str());
            into.insert(package.unwrap_or(name).to_owned());
            into.extend(folder_name.map(str::to_owned));
        }
    }
}

/// Reads the manifests of all members of the workspace at `root`.
pub fn read_workspace(root: &Path) -> io::Result<Vec<Manifest>> {
    let at = |path: &Path, error: &dyn fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| at(path, &error));
    let root_path = root.join("Cargo.toml");
    let root_table: Table = read(&root_path)?.parse().map_err(|error| at(&root_path, &error))?;
    let members = root_table.get("workspace").and_then(|it| it.get("members")?.as_array());
    let members = members.ok_or_else(|| at(&root_path, &"no workspace.members"))?;
    let mut manifests = Vec::new();
    for member in members.iter().filter_map(|member| member.as_str()) {
        let path = root.join(member).join("Cargo.toml");
        let manifest = parse_manifest(&read(&path)?).map_err(|error| at(&path, &error))?;
        manifests.push(manifest.ok_or_else(|| at(&path, &"no package.name"))?);
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn manifest(name: &str, rest: &str) -> Manifest {
        parse_manifest(&format!("[package]\nname = \"{name}\"\n{rest}")).unwrap().unwrap()
    }

    fn house_with(name: &str, rest: &str) -> Vec<Violation> {
        let others = ALLOWED.iter().filter(|(known, _)| *known != name).map(|(known, _)| manifest(known, ""));
        violations(&others.chain([manifest(name, rest)]).collect::<Vec<_>>())
    }

    #[test]
    fn this_workspace_keeps_the_rule() {
        let manifests = read_workspace(&workspace::root()).unwrap();
        assert_eq!(manifests.len(), ALLOWED.len());
        assert_eq!(violations(&manifests), []);
    }

    #[test]
    fn allowed_arrows_and_crates_of_others_are_fine() {
        assert_eq!(
            house_with("node", "[dependencies]\nengine.workspace = true\nproto-s3 = {}\nclap = \"4\""),
            []
        );
    }

    #[test]
    fn a_forbidden_arrow_is_found_in_every_kind_of_dependency() {
        for section in
            ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dev-dependencies"]
        {
            let found = house_with("loadtest", &format!("[{section}]\nproto-s3.workspace = true"));
            let expected = Violation::Forbidden { from: "loadtest".into(), to: "proto-s3".into() };
            assert_eq!(found, [expected], "{section}");
        }
        assert_eq!(house_with("engine", "[dependencies]\nproto-s3 = {}").len(), 1);
        assert_eq!(house_with("proto-s3", "[dev-dependencies]\nengine = {}").len(), 1);
        assert_eq!(house_with("tools", "[dependencies]\nloadtest = {}").len(), 1);
    }

    #[test]
    fn another_name_does_not_hide_an_arrow() {
        assert_eq!(house_with("loadtest", "[dependencies]\nx = { package = \"engine\" }").len(), 1);
        assert_eq!(house_with("loadtest", "[dependencies]\nx = { path = \"../engine\" }").len(), 1);
    }

    #[test]
    fn a_crate_without_a_rule_is_found() {
        assert_eq!(house_with("newcomer", ""), [Violation::Unknown("newcomer".into())]);
    }
}
