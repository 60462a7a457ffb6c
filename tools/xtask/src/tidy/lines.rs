//! Rule `line-length`: no line of Rust is wider than 100 columns.
//!
//! rustfmt leaves comments and strings alone; this does not. Lines with an address cannot be
//! broken, lines inside a string must not be.

use std::ops::RangeInclusive;

use crate::finding::Finding;
use crate::house::House;
use crate::source::{Kind, Source};

const COLUMN_COUNT_MAX: usize = 100;

/// Finds lines that are too wide.
pub(super) fn line_length(house: &House) -> Vec<Finding> {
    house.sources().flat_map(wide_lines).collect()
}

fn wide_lines(source: &Source) -> Vec<Finding> {
    let inside_strings: Vec<RangeInclusive<usize>> = source
        .tokens
        .iter()
        .filter(|token| token.kind == Kind::Literal)
        .map(|token| (token, source.text_of(*token).matches('\n').count()))
        .filter(|(_, break_count)| 0 < *break_count)
        .map(|(token, break_count)| token.line..=token.line + break_count)
        .collect();
    let mut findings = Vec::new();
    for (index, text) in source.text.lines().enumerate() {
        let (line, column_count) = (index + 1, text.chars().count());
        let is_exempt =
            text.contains("://") || inside_strings.iter().any(|range| range.contains(&line));
        if COLUMN_COUNT_MAX < column_count && !is_exempt {
            let message = format!("{column_count} columns, at most {COLUMN_COUNT_MAX}");
            findings.push(Finding::fail("line-length", &source.path, line, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_line_of_101_columns_is_too_wide() {
        let text = format!("// {}\n// {}\n", "ä".repeat(97), "ä".repeat(98));
        check(line_length, &[("a.rs", &text)], &["a.rs:2 101 columns, at most 100"]);
    }

    #[test]
    fn addresses_and_long_strings_are_exempt() {
        let wide = "x".repeat(120);
        let text = format!("// https://example.org/{wide}\nconst A: &str = \"\n{wide}\n\";\n");
        check(line_length, &[("a.rs", &text)], &[]);
    }
}
