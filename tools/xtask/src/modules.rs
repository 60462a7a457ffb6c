//! The module tree: which file is which module, and which files no `mod` line reaches.
//!
//! ```text
//! Cargo.toml ──► crate roots ──mod a;──► a.rs or a/mod.rs ──mod b;──► a/b.rs or a/b/mod.rs
//! ```
//!
//! Roots are found as Cargo finds them: `src/lib.rs`, `src/main.rs`, `src/bin/`, `examples/`,
//! `benches/`, `tests/` (a file, or a folder with `main.rs`), `build.rs`, and every `path = ".."`
//! of a target.
//!
//! A file is *test only* if some `mod` line on the way to it stands under `#[cfg(test)]`.

use std::collections::BTreeMap;

use crate::manifest::Package;
use crate::repo::{Repo, join, parent};
use crate::source::{Kind, Source, matches_at};

/// The place of one file in its crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// From the crate's root: `["task", "input"]`; empty for the root itself.
    pub(crate) path: Vec<String>,
    /// Whether the file is compiled for tests only.
    pub(crate) is_test: bool,
}

/// Every file that some crate root reaches, with its place.
pub(crate) fn tree(repo: &Repo, packages: &[Package]) -> BTreeMap<String, Module> {
    let mut modules = BTreeMap::new();
    for root in packages.iter().flat_map(|package| roots(repo, package)) {
        let folder = parent(&root).to_owned();
        let module = Module { path: Vec::new(), is_test: false };
        visit(repo, &root, &folder, &module, &mut modules);
    }
    modules
}

/// The crate roots of `package`.
fn roots(repo: &Repo, package: &Package) -> Vec<String> {
    let folder = &package.folder;
    let mut roots = package.target_paths.clone();
    for file in ["src/lib.rs", "src/main.rs", "build.rs"] {
        roots.push(format!("{folder}/{file}"));
    }
    for targets in ["src/bin", "examples", "benches", "tests"] {
        let prefix = format!("{folder}/{targets}/");
        for path in repo.sources.keys().filter(|path| path.starts_with(&prefix)) {
            match path[prefix.len()..].split_once('/') {
                None | Some((_, "main.rs")) => roots.push(path.clone()),
                Some(_) => {}
            }
        }
    }
    roots.retain(|root| repo.sources.contains_key(root));
    roots
}

/// Records `path` as `module` and follows its `mod` lines into `folder`.
fn visit(
    repo: &Repo,
    path: &str,
    folder: &str,
    module: &Module,
    modules: &mut BTreeMap<String, Module>,
) {
    let Some(source) = repo.sources.get(path) else { return };
    if modules.insert(path.to_owned(), module.clone()).is_some() {
        return;
    }
    for child in children(source) {
        let in_folder = match &child.file {
            Some(file) => join(parent(path), file).into_iter().collect(),
            None => {
                let stem = format!("{folder}/{}", child.path.join("/"));
                vec![format!("{stem}.rs"), format!("{stem}/mod.rs")]
            }
        };
        for candidate in in_folder {
            let child_folder = match candidate.strip_suffix("/mod.rs") {
                Some(folder) => folder.to_owned(),
                None if child.file.is_some() => parent(&candidate).to_owned(),
                None => candidate.trim_end_matches(".rs").to_owned(),
            };
            let mut place = module.clone();
            place.path.extend(child.path.iter().cloned());
            place.is_test |= child.is_test;
            visit(repo, &candidate, &child_folder, &place, modules);
        }
    }
}

/// A `mod name;` line.
#[derive(Debug, PartialEq, Eq)]
struct Child {
    /// Its name, after the names of the inline modules that it stands in.
    path: Vec<String>,
    /// The value of `#[path = ".."]`.
    file: Option<String>,
    /// Whether it is declared for tests only.
    is_test: bool,
}

/// The `mod name;` lines of `source`.
fn children(source: &Source) -> Vec<Child> {
    let production: Vec<usize> =
        source.production_code().flatten().map(|token| token.start).collect();
    let code = source.code();
    let word = |at: usize| code.get(at).map_or("", |token| source.text_of(*token));
    let mut children = Vec::new();
    // One entry per open brace: the inline module's name, if it is one.
    let mut braces: Vec<Option<String>> = Vec::new();
    for (at, token) in code.iter().enumerate() {
        let is_module =
            word(at) == "mod" && code.get(at + 1).is_some_and(|name| name.kind == Kind::Ident);
        match word(at) {
            "{" => {
                let is_inline = 2 <= at && word(at - 2) == "mod";
                braces.push(is_inline.then(|| word(at - 1).to_owned()));
            }
            "}" => drop(braces.pop()),
            _ if is_module && word(at + 2) == ";" => {
                let mut path: Vec<String> = braces.iter().flatten().cloned().collect();
                path.push(word(at + 1).trim_start_matches("r#").to_owned());
                children.push(Child {
                    path,
                    file: path_attribute(source, at),
                    is_test: production.binary_search(&token.start).is_err(),
                });
            }
            _ => {}
        }
    }
    children
}

/// The value of a `#[path = ".."]` among the attributes right before the token at `at`.
fn path_attribute(source: &Source, at: usize) -> Option<String> {
    let code = source.code();
    let before = code[..at].iter().rposition(|t| matches!(source.text_of(*t), ";" | "}" | "{"));
    let first = before.map_or(0, |at| at + 1);
    let attribute =
        (first..at).find(|at| matches_at(&source.text, code, *at, &["[", "path", "="]))?;
    Some(source.text_of(code[attribute + 3]).trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::packages;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let repo = Repo::of(files);
        let tree = tree(&repo, &packages(&repo));
        let shown: Vec<String> = tree
            .iter()
            .map(|(path, module)| {
                let test = if module.is_test { " test" } else { "" };
                format!("{path} = {}{test}", module.path.join("::"))
            })
            .collect();
        assert_eq!(shown, expected);
    }

    const MANIFEST: (&str, &str) = ("core/Cargo.toml", "[package]\nname = \"millstream\"\n");

    #[test]
    fn mod_lines_are_followed_in_both_layouts() {
        check(
            &[
                MANIFEST,
                ("core/src/lib.rs", "mod a; pub(crate) mod b;"),
                ("core/src/a.rs", "mod c;"),
                ("core/src/a/c.rs", ""),
                ("core/src/b/mod.rs", "mod d;"),
                ("core/src/b/d.rs", ""),
                ("core/src/b/lost.rs", ""),
            ],
            &[
                "core/src/a.rs = a",
                "core/src/a/c.rs = a::c",
                "core/src/b/d.rs = b::d",
                "core/src/b/mod.rs = b",
                "core/src/lib.rs = ",
            ],
        );
    }

    #[test]
    fn tests_inline_modules_and_path_attributes_are_understood() {
        check(
            &[
                MANIFEST,
                (
                    "core/src/lib.rs",
                    "#[cfg(test)] mod tests; mod x { mod y; } #[path = \"../z/w.rs\"] mod w;",
                ),
                ("core/src/tests.rs", "mod deep;"),
                ("core/src/tests/deep.rs", ""),
                ("core/src/x/y.rs", ""),
                ("core/z/w.rs", "mod v;"),
                ("core/z/v.rs", ""),
            ],
            &[
                "core/src/lib.rs = ",
                "core/src/tests.rs = tests test",
                "core/src/tests/deep.rs = tests::deep test",
                "core/src/x/y.rs = x::y",
                "core/z/v.rs = w::v",
                "core/z/w.rs = w",
            ],
        );
    }

    #[test]
    fn roots_are_found_as_cargo_finds_them() {
        check(
            &[
                ("bench/Cargo.toml", "[package]\n[[bench]]\npath = \"speed/all.rs\"\n"),
                ("bench/speed/all.rs", "mod one;"),
                ("bench/speed/one.rs", ""),
                ("bench/src/bin/a.rs", ""),
                ("bench/src/bin/b/main.rs", "mod c;"),
                ("bench/src/bin/b/c.rs", ""),
                ("bench/examples/e.rs", ""),
            ],
            &[
                "bench/examples/e.rs = ",
                "bench/speed/all.rs = ",
                "bench/speed/one.rs = one",
                "bench/src/bin/a.rs = ",
                "bench/src/bin/b/c.rs = c",
                "bench/src/bin/b/main.rs = ",
            ],
        );
    }
}
