//! Rules `leftover` and `ignored-test`: nothing is left for later without being said elsewhere.
//!
//! Work that remains is an issue, not a comment; a test that does not run is not a test.

use crate::finding::Finding;
use crate::house::House;
use crate::source::{Kind, matches_at};

/// Macros that stand for code that is not there yet, or for a debugging session.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Marks in comments. Written in halves: this file is checked as well.
const MARKS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// Finds unfinished code.
pub(super) fn leftovers(house: &House) -> Vec<Finding> {
    let rule = "leftover";
    let mut findings = Vec::new();
    for source in house.sources() {
        for token in &source.tokens {
            let text = source.text_of(*token);
            if matches!(token.kind, Kind::Comment | Kind::DocComment) {
                for (offset, line) in text.lines().enumerate() {
                    if let Some(mark) = MARKS.iter().find(|mark| has_word(line, mark)) {
                        let message = format!("`{mark}`: do it, or open an issue and say why here");
                        findings.push(Finding::fail(
                            rule,
                            &source.path,
                            token.line + offset,
                            message,
                        ));
                    }
                }
            }
        }
        let code = source.code();
        for (at, token) in code.iter().enumerate() {
            let name = source.text_of(*token);
            if MACROS.contains(&name) && matches_at(&source.text, code, at + 1, &["!"]) {
                let message = format!("`{name}!` does not belong in the repository");
                findings.push(Finding::fail(rule, &source.path, token.line, message));
            }
        }
    }
    findings
}

/// Finds tests that never run.
pub(super) fn ignored_tests(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in house.sources() {
        let code = source.code();
        for (at, token) in code.iter().enumerate() {
            if matches_at(&source.text, code, at, &["#", "[", "ignore"]) {
                let message =
                    "a test runs or is deleted; a slow one takes its size from a variable";
                findings.push(Finding::fail("ignored-test", &source.path, token.line, message));
            }
        }
    }
    findings
}

/// Whether `word` stands in `line` by itself.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn marks_in_comments_are_found() {
        for mark in MARKS {
            let text = format!("fn a() {{}}\n/* b\n {mark}: later */\n");
            check(leftovers, &[("a.rs", &text)], &[&format!("a.rs:3 `{mark}`")]);
            let text = format!("const A: &str = \"{mark}\"; // {mark}S_OF_OTHERS\n");
            check(leftovers, &[("a.rs", &text)], &[]);
        }
    }

    #[test]
    fn unfinished_macros_are_found_in_tests_too() {
        for name in MACROS {
            let text = format!("#[cfg(test)]\nmod tests {{ fn a() {{ {name}!(); }} }}\n");
            check(leftovers, &[("a.rs", &text)], &[&format!("a.rs:2 `{name}!`")]);
            check(leftovers, &[("a.rs", &format!("fn {name}() {{}} // {name}!()\n"))], &[]);
        }
    }

    #[test]
    fn ignored_tests_are_found() {
        let text = "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n";
        check(ignored_tests, &[("a.rs", text)], &["a.rs:2 a test runs"]);
    }
}
