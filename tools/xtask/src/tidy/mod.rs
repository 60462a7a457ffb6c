//! `cargo xtask tidy`: the rules of the house that no compiler checks.
//!
//! A rule is a function from the repository in memory to findings; it lives in its own file with a
//! test that shows it failing. Reading order: text (`lines`, `header`, `mentions`), code (`size`,
//! `leftovers`, `commented_code`, `names`, `engine`, `allowances`), the house (`reach`,
//! `packages`, `links`, `documents`, `tables`).
//!
//! Not here: which module may use which (`layers/`), what clippy and rustfmt check (`check.rs`).

mod allowances;
mod commented_code;
mod documents;
mod engine;
mod header;
mod leftovers;
mod lines;
mod links;
mod mentions;
mod names;
mod packages;
mod reach;
mod size;
mod tables;

pub(crate) use links::links;

use crate::finding::{self, Finding};
use crate::house::House;

/// Finds every place that breaks one rule.
type Rule = fn(&House) -> Vec<Finding>;

const RULES: [Rule; 20] = [
    lines::line_length,
    header::header,
    mentions::machine_paths,
    mentions::registry_hosts,
    size::file_length,
    size::function_length,
    leftovers::leftovers,
    leftovers::ignored_tests,
    commented_code::commented_code,
    names::type_names,
    engine::unsafe_code,
    engine::async_code,
    allowances::allowances,
    reach::reach,
    packages::manifests,
    packages::unused_dependencies,
    packages::top_level,
    links::links,
    documents::documents,
    tables::tables,
];

/// Checks the repository and prints what it finds.
///
/// # Errors
/// If any rule is broken.
pub(crate) fn run(house: &House) -> anyhow::Result<()> {
    finding::report("tidy", RULES.iter().flat_map(|rule| rule(house)).collect())
}

/// Runs `rule` on a repository made of `files`; expects `path:line message-start` for each finding.
#[cfg(test)]
fn check(rule: Rule, files: &[(&str, &str)], expected: &[&str]) {
    let found: Vec<String> = rule(&House::of(files))
        .into_iter()
        .map(|finding| format!("{}:{} {}", finding.path, finding.line, finding.message))
        .collect();
    assert_eq!(found.len(), expected.len(), "found {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "found {found}, expected {expected}");
    }
}
