//! Rules `manifest` and `top-level`: every package keeps the house's lints and versions, and the
//! root has the folders that it is meant to have.

use crate::finding::Finding;
use crate::house::House;

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
    fn a_new_folder_at_the_root_is_found() {
        let files = [("core/src/lib.rs", ""), ("common/src/lib.rs", ""), ("util.rs", "")];
        check(top_level, &files, &["common:0 belongs", "util.rs:0 belongs"]);
    }
}
