//! Rule `table`: tables that list the modules, the benchmarks and the examples list all of them.

use std::collections::BTreeSet;

use crate::finding::Finding;
use crate::house::House;

const RULE: &str = "table";

const MAP: &str = "ARCHITECTURE.md";
const LIBRARY: &str = "core/src/lib.rs";

/// Finds modules, benchmarks and examples that are in no table, and names in the code map that are
/// no module.
pub(super) fn tables(house: &House) -> Vec<Finding> {
    let mut findings = code_map(house);
    for (folder, document) in
        [("bench/src/bin/", "bench/README.md"), ("core/examples/", "README.md")]
    {
        let Some(text) = house.repo.texts.get(document) else { continue };
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        for path in house.repo.sources.keys() {
            let Some(name) = program(path, folder) else { continue };
            let [code, link] = [format!("| `{name}` |"), format!("| [{name}](")];
            if !rows.iter().any(|row| row.starts_with(&code) || row.starts_with(&link)) {
                let message = format!("give `{name}` a row in the table of {document}");
                findings.push(Finding::fail(RULE, path, 0, message));
            }
        }
    }
    findings
}

/// The name of the program whose root `path` is, in `folder`.
fn program<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder)?;
    let name = rest.strip_suffix("/main.rs").or_else(|| rest.strip_suffix(".rs"))?;
    (!name.contains('/')).then_some(name)
}

/// Compares the rows of the code map (a number, modules, what is there) with the library's modules.
fn code_map(house: &House) -> Vec<Finding> {
    let (Some(map), Some(library)) = (house.repo.texts.get(MAP), house.repo.sources.get(LIBRARY))
    else {
        return Vec::new();
    };
    let code: Vec<&str> = library.code().iter().map(|token| library.text_of(*token)).collect();
    let modules: BTreeSet<&str> = code
        .windows(4)
        .filter(|words| words[0] == "pub" && words[1] == "mod" && words[3] == ";")
        .map(|words| words[2])
        .filter(|module| *module != "prelude")
        .collect();
    let mut named = BTreeSet::new();
    let mut findings = Vec::new();
    for (index, row) in map.lines().enumerate() {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let is_row = cells.next().is_some_and(|cell| cell.parse::<u32>().is_ok());
        let Some(cell) = cells.next().filter(|_| is_row) else { continue };
        for name in cell.trim_matches('`').split_whitespace() {
            named.insert(name);
            if !modules.contains(name) {
                let message = format!("`{name}` is no module of {LIBRARY}");
                findings.push(Finding::fail(RULE, MAP, index + 1, message));
            }
        }
    }
    for module in modules.difference(&named) {
        let message = format!("give the module `{module}` a row in the code map");
        findings.push(Finding::fail(RULE, MAP, 0, message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn the_code_map_names_the_modules_there_are() {
        let library = (LIBRARY, "pub mod a;\npub mod b;\npub mod prelude;\nmod c;\n");
        let map = "| row | modules |\n|---|---|\n| 1 | `a d` | text |\n";
        let expected =
            ["ARCHITECTURE.md:3 `d` is no module", "ARCHITECTURE.md:0 give the module `b`"];
        check(tables, &[library, (MAP, map)], &expected);
        check(tables, &[library, (MAP, "| 1 | `a` | x |\n| 2 | `b` | y |\n")], &[]);
    }

    #[test]
    fn benchmarks_and_examples_have_rows() {
        let files = [
            ("bench/README.md", "| `a` | what |\n`b` is only mentioned\n"),
            ("README.md", "| [c](core/examples/c.rs) | what |\n"),
            ("bench/src/bin/a.rs", ""),
            ("bench/src/bin/b.rs", ""),
            ("core/examples/c.rs", ""),
            ("core/examples/d/main.rs", ""),
            ("core/examples/d/other.rs", ""),
        ];
        let expected = ["bench/src/bin/b.rs:0 give `b`", "core/examples/d/main.rs:0 give `d`"];
        check(tables, &files, &expected);
    }
}
