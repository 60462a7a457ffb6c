//! Rule `header`: every file of Rust begins with a `//!` comment that says what it is.

use crate::finding::Finding;
use crate::house::House;
use crate::source::Source;

/// A header shorter than this says nothing.
const HEADER_CHAR_COUNT_MIN: usize = 20;

/// Finds files without a header.
pub(super) fn header(house: &House) -> Vec<Finding> {
    house
        .sources()
        .filter(|source| header_char_count(source) < HEADER_CHAR_COUNT_MIN)
        .map(|source| {
            let message = "begin with a `//!` comment: what this file is, its idea, its invariant";
            Finding::fail("header", &source.path, 1, message)
        })
        .collect()
}

/// Characters of the comment that the file begins with.
fn header_char_count(source: &Source) -> usize {
    let header = source.text.lines().map_while(|line| line.strip_prefix("//!"));
    header.map(|line| line.trim().chars().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_file_without_a_telling_header_is_found() {
        check(header, &[("a.rs", "use std::fmt;\n//! Too late to be a header.\n")], &["a.rs:1"]);
        check(header, &[("a.rs", "//! Aligner.\n")], &["a.rs:1"]);
        check(header, &[("a.rs", "")], &["a.rs:1"]);
    }

    #[test]
    fn a_sentence_is_enough() {
        check(header, &[("a.rs", "//! How barriers become snapshots.\n")], &[]);
    }
}
