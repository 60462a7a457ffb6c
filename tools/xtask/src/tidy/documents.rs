//! Rule `document`: the documents a reader looks for are there and cover what they promise.
//!
//! The change log has a section for what is not released yet; every example is named in the README
//! or under `docs/`.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::house::House;

const RULE: &str = "document";

/// Finds gaps in the documents.
pub(super) fn documents(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let change_log = house.repo.texts.get("CHANGELOG.md");
    let has_unreleased =
        change_log.is_some_and(|text| text.lines().any(|line| line == "## [Unreleased]"));
    if !has_unreleased {
        let message = "keep a section `## [Unreleased]`";
        findings.push(Finding::fail(RULE, "CHANGELOG.md", 0, message));
    }
    if !house.repo.has("README.md") {
        findings.push(Finding::warn(RULE, "README.md", 0, "is missing"));
        return findings;
    }
    let documents: Vec<&str> = house
        .repo
        .texts_of("md")
        .filter(|(path, _)| *path == "README.md" || path.starts_with("docs/"))
        .map(|(_, text)| text)
        .collect();
    for (name, path) in examples(house) {
        let is_word = |text: &&str| {
            text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
        };
        if !documents.iter().any(is_word) {
            let message = format!("name the example `{name}` in README.md or docs/");
            findings.push(Finding::fail(RULE, &path, 0, message));
        }
    }
    findings
}

/// Name and root of every example of the engine.
fn examples(house: &House) -> BTreeSet<(String, String)> {
    let paths = house.repo.sources.keys();
    paths
        .filter_map(|path| {
            let rest = path.strip_prefix("core/examples/")?;
            let name = rest.strip_suffix("/main.rs").or_else(|| rest.strip_suffix(".rs"))?;
            (!name.contains('/')).then(|| (name.to_owned(), path.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    const CHANGE_LOG: (&str, &str) = ("CHANGELOG.md", "# Changes\n\n## [Unreleased]\n");

    #[test]
    fn a_change_log_without_a_place_for_changes_is_found() {
        let readme = ("README.md", "");
        let expected = ["CHANGELOG.md:0 keep a section"];
        check(documents, &[readme], &expected);
        check(documents, &[readme, ("CHANGELOG.md", "## [1.0.0]\n")], &expected);
        check(documents, &[readme, CHANGE_LOG], &[]);
    }

    #[test]
    fn an_example_nobody_tells_of_is_found() {
        let files = [
            CHANGE_LOG,
            ("README.md", "Run `card_fraud`. The joins_of_others are not ours.\n"),
            ("docs/examples.md", "`flights`\n"),
            ("core/examples/card_fraud/main.rs", ""),
            ("core/examples/card_fraud/rules.rs", ""),
            ("core/examples/flights.rs", ""),
            ("core/examples/joins.rs", ""),
        ];
        check(documents, &files, &["core/examples/joins.rs:0 name the example `joins`"]);
    }

    #[test]
    fn without_a_readme_there_is_only_a_warning() {
        let files = [CHANGE_LOG, ("core/examples/joins.rs", "")];
        check(documents, &files, &["README.md:0 is missing"]);
    }
}
