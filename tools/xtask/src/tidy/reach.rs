//! Rule `unreached`: every file of Rust is compiled by somebody.

use crate::finding::Finding;
use crate::house::House;

/// Finds files that no `mod` line leads to.
pub(super) fn reach(house: &House) -> Vec<Finding> {
    house
        .sources()
        .filter(|source| !house.modules.contains_key(&source.path))
        .map(|source| {
            let message = "no `mod` line leads here: declare it or delete it";
            Finding::fail("unreached", &source.path, 0, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn a_file_without_a_mod_line_is_found() {
        let files = [
            ("core/Cargo.toml", "[package]\nname = \"millstream\"\n"),
            ("core/src/lib.rs", "mod a; // mod b;\n"),
            ("core/src/a.rs", ""),
            ("core/src/b.rs", ""),
        ];
        check(reach, &files, &["core/src/b.rs:0 no `mod` line"]);
    }
}
