//! Rules `machine-path` and `registry-host`: nothing in the repository speaks of the machine on
//! which it was written.
//!
//! A path of somebody's machine works for nobody else, and where packages come from is the
//! reader's setting. Any kind of text file is read but `Cargo.lock`.

use crate::finding::Finding;
use crate::house::House;

/// Folders in which people keep their work. Written in halves: this file is checked as well.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "home/"), concat!("/", "root/"), concat!("/", "Users/")];

/// Hosts of package registries, without the last part of their names.
const REGISTRY_HOSTS: [(&str, &str); 6] = [
    ("index.crates", "io"),
    ("static.crates", "io"),
    ("registry.npmjs", "org"),
    ("pypi", "org"),
    ("files.pythonhosted", "org"),
    ("deb.debian", "org"),
];

/// Finds paths of a particular machine.
pub(super) fn machine_paths(house: &House) -> Vec<Finding> {
    lines_with(house, "machine-path", |line| {
        let folder = MACHINE_FOLDERS.iter().find(|folder| has_path(line, folder))?;
        Some(format!("`{folder}` exists on one machine only: write a path from the root"))
    })
}

/// Finds hosts of package registries.
pub(super) fn registry_hosts(house: &House) -> Vec<Finding> {
    lines_with(house, "registry-host", |line| {
        let hosts = REGISTRY_HOSTS.iter().map(|(name, suffix)| format!("{name}.{suffix}"));
        let host = hosts.into_iter().find(|host| line.contains(host))?;
        Some(format!("`{host}`: where packages come from is the reader's setting"))
    })
}

/// Applies `mention` to every line of every text; its message becomes a finding.
fn lines_with(
    house: &House,
    rule: &'static str,
    mention: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in house.repo.texts.iter().filter(|(path, _)| *path != "Cargo.lock") {
        for (index, line) in text.lines().enumerate() {
            findings
                .extend(mention(line).map(|message| Finding::fail(rule, path, index + 1, message)));
        }
    }
    findings
}

/// Whether `folder` begins a path in `line`: it is not the middle of a longer one.
fn has_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '}'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn paths_of_one_machine_are_found_in_any_text() {
        let text = format!("fine\nsee {}notes.md\n", MACHINE_FOLDERS[0]);
        check(machine_paths, &[("docs/a.md", &text)], &["docs/a.md:2 `"]);
        let text = format!("const A: &str = \"{}me/x\";\n", MACHINE_FOLDERS[1]);
        check(machine_paths, &[("a.rs", &text)], &["a.rs:1 `"]);
    }

    #[test]
    fn the_middle_of_a_longer_path_is_not_a_machine() {
        let text = format!("net{0} ../a{0} https://example.org/x{0}\n", MACHINE_FOLDERS[0]);
        check(machine_paths, &[("a.md", &text)], &[]);
    }

    #[test]
    fn registry_hosts_are_found_but_not_in_the_lock_file() {
        let host = format!("https://{}.{}/x\n", REGISTRY_HOSTS[0].0, REGISTRY_HOSTS[0].1);
        check(registry_hosts, &[("a.toml", &host), ("Cargo.lock", &host)], &["a.toml:1 `"]);
    }
}
