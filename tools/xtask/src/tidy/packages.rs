//! Rules `manifest`, `unused-dependency` and `top-level`: every package keeps the house's lints and
//! versions and names what it depends on, and the root has the folders that it is meant to have.

use crate::finding::Finding;
use crate::house::House;
use crate::repo::{join, parent};
use crate::source::Source;

/// What may lie at the root.
const TOP_LEVEL: [&str; 20] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "clippy.toml",
    "core",
    "deny.toml",
    "docs",
    "net",
    "rustfmt.toml",
    "storage",
    "tests",
    "tools",
];

/// Finds packages with lints or versions of their own.
pub(super) fn manifests(house: &House) -> Vec<Finding> {
    let rule = "manifest";
    let mut findings = Vec::new();
    for package in &house.packages {
        let manifest = package.manifest();
        let text = &house.repo.texts[&manifest];
        if !package.inherits_lints {
            let message = "inherit the lints: `[lints]` with `workspace = true`";
            findings.push(Finding::fail(rule, &manifest, 0, message));
        }
        for (name, line) in &package.dependencies {
            let declaration = text.lines().nth(line - 1).unwrap_or_default();
            if !declaration.replace(' ', "").contains("workspace=true") {
                let message = format!("take `{name}` from `[workspace.dependencies]`");
                findings.push(Finding::fail(rule, &manifest, *line, message));
            }
        }
    }
    findings
}

/// Finds dependencies that no file of their package names, nor one that it includes by `#[path]`.
pub(super) fn unused_dependencies(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &house.packages {
        let is_deeper = |path: &str| {
            let others = house.packages.iter().map(|other| &other.folder);
            let mut deeper = others.filter(|other| is_in(other, &package.folder));
            deeper.any(|other| is_in(path, other))
        };
        let is_own = |path: &str| is_in(path, &package.folder) && !is_deeper(path);
        let own = house.sources().filter(|source| is_own(&source.path));
        let included: Vec<String> = own.flat_map(included).collect();
        let sources = || {
            house.sources().filter(|source| {
                let path = &source.path;
                is_own(path) || included.iter().any(|place| path == place || is_in(path, place))
            })
        };
        for (name, line) in &package.dependencies {
            let crate_name = name.replace('-', "_");
            let names_it = |source: &Source| {
                source.code().iter().any(|token| source.text_of(*token) == crate_name)
            };
            if !sources().any(names_it) {
                let message = format!("no file of the package names `{name}`: remove it");
                let rule = "unused-dependency";
                findings.push(Finding::fail(rule, &package.manifest(), *line, message));
            }
        }
    }
    findings
}

/// The files and folders that a source's `#[path = ".."]` lines name.
fn included(source: &Source) -> Vec<String> {
    let words: Vec<&str> = source.code().iter().map(|token| source.text_of(*token)).collect();
    let values = words.windows(3).filter(|words| words[..2] == ["path", "="]);
    let places = values.map(|words| join(parent(&source.path), words[2].trim_matches('"')));
    places.flatten().collect()
}

/// Whether `path` is below `folder`.
fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Finds files and folders at the root that belong somewhere else.
pub(super) fn top_level(house: &House) -> Vec<Finding> {
    let mut names: Vec<&str> =
        house.repo.paths.iter().filter_map(|path| path.split('/').next()).collect();
    names.dedup();
    names.retain(|name| !TOP_LEVEL.contains(name));
    let message = "belongs into one of the house's folders (docs/decisions if not)";
    names.into_iter().map(|name| Finding::fail("top-level", name, 0, message)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_package_with_its_own_lints_or_versions_is_found() {
        let text = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = \"1\"\n\
                    d = { workspace = true, features = [\"e\"] }\n";
        let expected = ["net/Cargo.toml:0 inherit", "net/Cargo.toml:5 take `c`"];
        check(manifests, &[("net/Cargo.toml", text)], &expected);
    }

    #[test]
    fn a_dependency_that_nobody_names_is_found() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb-c.workspace = true\n\
                        d.workspace = true\n[dev-dependencies]\ne.workspace = true\n";
        let files = [
            ("net/Cargo.toml", manifest),
            ("net/src/lib.rs", "use b_c::X; // d is mentioned\n"),
            ("net/kafka/Cargo.toml", "[package]\nname = \"kafka\"\n"),
            ("net/kafka/src/lib.rs", "use e::Y;\n"),
            (
                "tests/Cargo.toml",
                "[package]\nname = \"tests\"\n[dependencies]\nf.workspace = true\n",
            ),
            ("tests/it/main.rs", "#[path = \"../../bench/b.rs\"]\nmod b;\n"),
            ("bench/b.rs", "use f::Z;\n"),
        ];
        let expected = ["net/Cargo.toml:5 no file of the package names `d`", "net/Cargo.toml:7 no"];
        check(unused_dependencies, &files, &expected);
    }

    #[test]
    fn a_new_folder_at_the_root_is_found() {
        let files = [("core/src/lib.rs", ""), ("common/src/lib.rs", ""), ("util.rs", "")];
        check(top_level, &files, &["common:0 belongs", "util.rs:0 belongs"]);
    }
}
