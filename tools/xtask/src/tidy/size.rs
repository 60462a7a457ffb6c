//! Rules `file-length` and `function-length`: what fits in the head.
//!
//! ```text
//! lines of a file without tests   ..500  fine   ..700  warning   more  error
//! lines of a function              ..70  fine   more   warning (clippy refuses more than 100)
//! ```
//!
//! A file that is over the limit for a good reason is in [`RATCHET`] with its length: it may shrink
//! but not grow, and once it fits it has to leave the list.

use crate::finding::Finding;
use crate::house::House;

const FILE_LINE_COUNT_WARN: usize = 500;
const FILE_LINE_COUNT_MAX: usize = 700;
const FUNCTION_LINE_COUNT_WARN: usize = 70;

/// Files that may be longer, and how long.
const RATCHET: [(&str, usize); 0] = [];

/// Finds files that want to be two.
pub(super) fn file_length(house: &House) -> Vec<Finding> {
    file_length_with(house, &RATCHET)
}

fn file_length_with(house: &House, ratchet: &[(&str, usize)]) -> Vec<Finding> {
    let rule = "file-length";
    let mut findings = Vec::new();
    for source in house.production_sources() {
        let (path, line_count) = (&source.path, source.production_line_count());
        let entry = ratchet.iter().find(|(listed, _)| listed == path).map(|(_, count)| *count);
        let limit = entry.unwrap_or(FILE_LINE_COUNT_MAX);
        if limit < line_count {
            let message =
                format!("{line_count} lines without tests, at most {limit}: split by idea");
            findings.push(Finding::fail(rule, path, 0, message));
        } else if entry.is_some() && line_count <= FILE_LINE_COUNT_MAX {
            let message = format!("{line_count} lines fit: take it out of `RATCHET`");
            findings.push(Finding::fail(rule, path, 0, message));
        } else if entry.is_some_and(|count| line_count < count) {
            let message = format!("has shrunk to {line_count} lines: lower its `RATCHET` entry");
            findings.push(Finding::fail(rule, path, 0, message));
        } else if FILE_LINE_COUNT_WARN < line_count {
            let message = format!("{line_count} lines without tests: two ideas?");
            findings.push(Finding::warn(rule, path, 0, message));
        }
    }
    for (path, _) in ratchet.iter().filter(|(path, _)| !house.repo.has(path)) {
        findings.push(Finding::fail(rule, path, 0, "is gone: take it out of `RATCHET`"));
    }
    findings
}

/// Finds functions that do not fit on a screen.
pub(super) fn function_length(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in house.production_sources() {
        for function in source.production_functions() {
            if FUNCTION_LINE_COUNT_WARN < function.line_count {
                let (name, count) = (&function.name, function.line_count);
                let message = format!("`{name}` has {count} lines: push ifs up, loops down");
                let rule = "function-length";
                findings.push(Finding::warn(rule, &source.path, function.line, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn file(line_count: usize) -> String {
        "fn a() {}\n".repeat(line_count)
    }

    fn check_ratchet(line_count: usize, ratchet: &[(&str, usize)], expected: &[&str]) {
        let house = House::of(&[("a.rs", &file(line_count))]);
        let found: Vec<String> =
            file_length_with(&house, ratchet).into_iter().map(|f| f.to_string()).collect();
        assert_eq!(found.len(), expected.len(), "found {found:?}");
        assert!(found.iter().zip(expected).all(|(f, e)| f.starts_with(e)), "found {found:?}");
    }

    #[test]
    fn long_files_warn_and_longer_ones_fail() {
        check_ratchet(500, &[], &[]);
        check_ratchet(501, &[], &["a.rs: warning: 501 lines"]);
        check_ratchet(701, &[], &["a.rs: error: 701 lines"]);
    }

    #[test]
    fn tests_do_not_count() {
        let tests = "\n".repeat(800);
        let text = format!("{}#[cfg(test)]\nmod tests {{{tests}}}\n", file(10));
        check(file_length, &[("a.rs", &text)], &[]);
        check(file_length, &[("tests/it/a.rs", &file(800))], &[]);
    }

    #[test]
    fn the_ratchet_only_turns_one_way() {
        check_ratchet(800, &[("a.rs", 800)], &["a.rs: warning: 800 lines"]);
        check_ratchet(801, &[("a.rs", 800)], &["a.rs: error: 801 lines"]);
        check_ratchet(790, &[("a.rs", 800)], &["a.rs: error: has shrunk"]);
        check_ratchet(700, &[("a.rs", 800)], &["a.rs: error: 700 lines fit"]);
        check_ratchet(1, &[("b.rs", 800)], &["b.rs: error: is gone"]);
    }

    #[test]
    fn long_functions_warn() {
        let body = |line_count: usize| format!("\nfn a() {{{}}}\n", "\n".repeat(line_count - 1));
        check(function_length, &[("a.rs", &body(70))], &[]);
        check(function_length, &[("a.rs", &body(71))], &["a.rs:2 `a` has 71 lines"]);
        let test = format!("#[test]{}", body(71));
        check(function_length, &[("a.rs", &test)], &[]);
    }
}
