//! Rule `link`: what a document points at exists.
//!
//! ```text
//! [text](core/src/lib.rs)                the file exists
//! [text](docs/a.md#the-shard-turn)       and has this heading
//! [`Shard::turn`](core/src/shard/mod.rs) and its code names `turn`
//! `core/src/shard/`                      a path in code type exists too
//! `Shard::turn`                          and so does every part of such a name, somewhere
//! ```
//!
//! The change log may name what is gone.
//!
//! Links to other hosts are not followed: the check must not depend on the network.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::house::House;
use crate::repo::{has_extension, join, parent};
use crate::source::{Kind, Source};

/// Folders whose files a document may name in code type.
const NAMED_FOLDERS: [&str; 7] =
    ["core/", "storage/", "net/", "bench/", "tests/", "tools/", "docs/"];

/// Finds links into nowhere.
pub(crate) fn links(house: &House) -> Vec<Finding> {
    let idents: BTreeSet<&str> = house.sources().flat_map(idents).collect();
    let mut findings = Vec::new();
    for (path, text) in house.repo.texts_of("md").filter(|(path, _)| *path != "CHANGELOG.md") {
        for (line, text) in prose(text) {
            let problems = links_of(text).filter_map(|(name, target)| {
                let problem = link_problem(house, path, name, target)?;
                Some(format!("`{target}` {problem}"))
            });
            let paths = code_spans(text).filter(|span| is_path(span) && !house.repo.has(span));
            let names = code_spans(text).filter(|span| is_dangling(span, &idents));
            let gone = paths.chain(names).map(|span| format!("`{span}` does not exist"));
            let problems = problems.chain(gone);
            findings.extend(problems.map(|message| Finding::fail("link", path, line, message)));
        }
    }
    findings
}

/// Every identifier in the code of `source`.
fn idents(source: &Source) -> impl Iterator<Item = &str> {
    let idents = source.code().iter().filter(|token| token.kind == Kind::Ident);
    idents.map(|token| source.text_of(*token))
}

/// Whether `span` is a name such as `Shard::turn` of which no code has some part.
fn is_dangling(span: &str, idents: &BTreeSet<&str>) -> bool {
    let name = span.trim_end_matches("()");
    let is_name = name.chars().all(|c| c.is_alphanumeric() || "_:".contains(c));
    is_name && name.contains("::") && name.split("::").any(|part| !idents.contains(part))
}

/// What is wrong with a link from the document at `path`, if anything.
fn link_problem(house: &House, path: &str, name: &str, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { path.to_owned() } else { join(parent(path), file)? };
    if !house.repo.has(&file) {
        return Some("does not exist");
    }
    if !heading.is_empty() && has_extension(&file, "md") {
        let text = house.repo.texts.get(&file)?;
        let has_heading = headings(text).any(|found| found == heading);
        return (!has_heading).then_some("has no such heading");
    }
    let source = house.repo.sources.get(&file)?;
    let item = name.strip_prefix('`')?.strip_suffix('`')?.trim_end_matches("()");
    let item = item.rsplit("::").next()?;
    let is_file = file.split(['/', '.']).any(|part| part == item) || item.contains(['.', '/']);
    let is_named = is_file || idents(source).any(|ident| ident == item);
    (!is_named).then_some("does not name it")
}

/// The lines of a document outside code blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

/// The `[name](target)` pairs of a line.
fn links_of(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.match_indices("](").filter_map(|(at, _)| {
        let name = &line[line[..at].rfind('[')? + 1..at];
        let target = &line[at + 2..];
        let target = &target[..target.find(')')?];
        Some((name, target.split(' ').next()?))
    })
}

/// The parts of a line in backticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a part in code type names one file or folder of this repository.
fn is_path(span: &str) -> bool {
    let is_plain = span.chars().all(|c| c.is_alphanumeric() || "._-/".contains(c));
    is_plain && NAMED_FOLDERS.iter().any(|folder| span.starts_with(folder))
}

/// The anchors of a document's headings: lower case, punctuation dropped, spaces as hyphens.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn check_line(line: &str, expected: &[&str]) {
        let document = format!("# The `turn`, again\n{line}\n");
        let files = [
            ("docs/a.md", document.as_str()),
            ("docs/b.md", "# One heading\n"),
            ("core/src/lib.rs", "struct Shard; fn turn() {} // ghost\n"),
        ];
        check(links, &files, expected);
    }

    #[test]
    fn links_into_nowhere_are_found() {
        check_line("[x](b.md) [y](../core/src/lib.rs) [z](../core)", &[]);
        check_line("[x](c.md)", &["docs/a.md:2 `c.md` does not exist"]);
        check_line("[x](b.md#one-heading) [y](#the-turn-again)", &[]);
        check_line("[x](b.md#two)", &["docs/a.md:2 `b.md#two` has no such heading"]);
        check_line("[x](#two)", &["docs/a.md:2 `#two` has no such heading"]);
        check_line("[x](https://example.org/c.md) [y](mailto:a@example.org)", &[]);
    }

    #[test]
    fn names_in_links_to_code_are_checked() {
        check_line("[`Shard::turn`](../core/src/lib.rs) [`turn()`](../core/src/lib.rs)", &[]);
        check_line("[`core/src/lib.rs`](../core/src/lib.rs) [`lib`](../core/src/lib.rs)", &[]);
        let expected = "docs/a.md:2 `../core/src/lib.rs` does not name it";
        check_line("[`ghost`](../core/src/lib.rs)", &[expected]);
    }

    #[test]
    fn paths_in_code_type_are_checked() {
        check_line("`core/src/lib.rs`, `core/src/`, `core/src/*.rs`, `a/b.rs`", &[]);
        check_line("`core/src/gone.rs`", &["docs/a.md:2 `core/src/gone.rs` does not exist"]);
    }

    #[test]
    fn names_in_code_type_are_checked() {
        check_line("`Shard::turn()` `turn::Shard` `ghost` `a: b::c`", &[]);
        check_line("`Shard::ghost`", &["docs/a.md:2 `Shard::ghost` does not exist"]);
    }

    #[test]
    fn code_blocks_are_left_alone() {
        check_line("```\n[x](c.md) `core/gone.rs`\n```", &[]);
    }
}
