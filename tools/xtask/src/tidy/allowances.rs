//! Rule `allowance`: the bans of `clippy.toml` are lifted for one item at a time.
//!
//! Only the host, examples and tests may lift them for a whole file (`#![allow(..)]`): elsewhere an
//! exception is an `#[expect(.., reason = "..")]` on the item that needs it.

use crate::finding::Finding;
use crate::house::House;
use crate::source::matches_at;

const BANS: [&str; 2] = ["disallowed_methods", "disallowed_types"];

/// Where a whole file may be excepted.
const PLACES: [&str; 2] = ["core/src/runtime/", "core/examples/"];

/// Finds exceptions that are too wide.
pub(super) fn allowances(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_place = |path: &str| PLACES.iter().any(|place| path.starts_with(place));
    for source in house.production_sources().filter(|source| !is_place(&source.path)) {
        for code in source.production_code() {
            for (at, token) in code.iter().enumerate() {
                let is_inner = matches_at(&source.text, code, at, &["#", "!", "["]);
                let attribute = code[at..].iter().map(|token| source.text_of(*token));
                if let Some(ban) = attribute
                    .take_while(|word| *word != "]")
                    .find(|word| BANS.contains(word))
                    .filter(|_| is_inner)
                {
                    let message = format!("lift `{ban}` by an `#[expect(..)]` on the item");
                    findings.push(Finding::fail("allowance", &source.path, token.line, message));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    const WIDE: &str = "//! A.\n#![allow(clippy::disallowed_methods, reason = \"b\")]\nfn c() {}\n";

    #[test]
    fn an_exception_for_a_whole_file_is_found() {
        let path = "core/src/shard/mod.rs";
        check(allowances, &[(path, WIDE)], &[&format!("{path}:2 lift `disallowed_methods`")]);
    }

    #[test]
    fn items_tests_examples_and_the_host_may() {
        let narrow = "#[expect(clippy::disallowed_types, reason = \"b\")]\nfn c() {}\n";
        check(allowances, &[("core/src/shard/mod.rs", narrow)], &[]);
        let test = "#[cfg(test)]\nmod tests {\n    #![allow(clippy::disallowed_methods)]\n}\n";
        check(allowances, &[("core/src/shard/mod.rs", test)], &[]);
        check(allowances, &[("core/src/runtime/mod.rs", WIDE)], &[]);
        check(allowances, &[("core/examples/joins.rs", WIDE)], &[]);
    }
}
