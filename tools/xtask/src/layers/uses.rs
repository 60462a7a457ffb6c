//! What a file names of its own crate: every path that begins with `crate`, `super` or `self`.
//!
//! ```text
//! use crate::{error::Error, data::{Row, key_group}};   error::Error, data::Row, data::key_group
//! in task/input.rs: super::super::shard::turn()        shard::turn
//! ```
//!
//! Invariant: only code that is compiled without tests counts; comments and strings never do.

use crate::source::{Kind, Source, Token};

/// One path into the crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    /// From the crate's root.
    pub(super) path: Vec<String>,
    /// The name that it gets: its last part, or what follows `as`.
    pub(super) name: String,
    /// Where.
    pub(super) line: usize,
    /// Whether the path calls a macro.
    pub(super) is_macro: bool,
}

/// The paths into its own crate that `source`, the file of `module`, contains.
pub(super) fn uses(source: &Source, module: &[String]) -> Vec<Use> {
    let mut uses = Vec::new();
    for tokens in source.production_code() {
        let text = Text { source, tokens };
        // One entry per open brace: the inline module's name, if it is one.
        let mut braces: Vec<Option<&str>> = Vec::new();
        for at in 0..tokens.len() {
            match text.word(at) {
                "{" => {
                    let is_inline = 2 <= at && text.word(at - 2) == "mod";
                    braces.push(is_inline.then(|| text.word(at - 1)));
                }
                "}" => drop(braces.pop()),
                "crate" | "super" | "self" if text.begins_path(at) => {
                    let inline = braces.iter().flatten().map(|name| (*name).to_owned());
                    let base: Vec<String> = module.iter().cloned().chain(inline).collect();
                    let mut found = Vec::new();
                    text.tree(at, &[], &mut found);
                    uses.extend(found.into_iter().filter_map(|named| absolute(named, &base)));
                }
                _ => {}
            }
        }
    }
    uses
}

/// What the root file of a crate re-exports: `pub use error::{Error, Result as Res};`.
pub(super) fn reexports(root: &Source) -> Vec<Use> {
    let mut found = Vec::new();
    for tokens in root.production_code() {
        let text = Text { source: root, tokens };
        for at in (0..tokens.len()).filter(|at| text.word(*at) == "use") {
            text.tree(at + 1, &[], &mut found);
        }
    }
    for named in &mut found {
        if matches!(named.path.first().map(String::as_str), Some("crate" | "self")) {
            named.path.remove(0);
        }
    }
    found
}

/// Replaces `crate`, `self` and `super` at the beginning of a path in the module `base`.
fn absolute(mut named: Use, base: &[String]) -> Option<Use> {
    let anchor_count =
        named.path.iter().take_while(|p| matches!(&***p, "crate" | "self" | "super")).count();
    let mut place = base.to_vec();
    for anchor in named.path.drain(..anchor_count) {
        match &*anchor {
            "crate" => place.clear(),
            // From the root there is no way up; such a path does not compile.
            "super" => drop(place.pop()),
            _ => {}
        }
    }
    place.append(&mut named.path);
    // `use super::*` in a child of the root names the root itself.
    (!place.is_empty()).then_some(Use { path: place, ..named })
}

/// Tokens that can be looked at by index.
struct Text<'a> {
    source: &'a Source,
    tokens: &'a [Token],
}

impl<'a> Text<'a> {
    fn word(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| self.source.text_of(*token))
    }

    fn is_separator(&self, at: usize) -> bool {
        self.word(at) == ":" && self.word(at + 1) == ":"
    }

    /// Whether a path of more than one part begins at `at`.
    fn begins_path(&self, at: usize) -> bool {
        let is_continued = 2 <= at && self.is_separator(at - 2);
        self.is_separator(at + 1) && !is_continued
    }

    /// Reads the path or use tree at `at`, whose parts so far are `prefix`, and returns the index
    /// after it.
    fn tree(&self, mut at: usize, prefix: &[String], found: &mut Vec<Use>) -> usize {
        let mut path = prefix.to_vec();
        let Some(first) = self.tokens.get(at) else { return at };
        let line = first.line;
        loop {
            match self.word(at) {
                "{" => return self.group(at + 1, &path, found),
                // The glob's name is the module that it opens.
                "*" => break at += 1,
                _ if self.tokens.get(at).is_some_and(|token| token.kind == Kind::Ident) => {
                    path.push(self.word(at).to_owned());
                    at += 1;
                }
                _ => break,
            }
            if !self.is_separator(at) {
                break;
            }
            at += 2;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        let is_macro = self.word(at) == "!" && self.word(at + 1) != "=";
        if self.word(at) == "as" {
            self.word(at + 1).clone_into(&mut name);
            at += 2;
        }
        found.push(Use { path, name, line, is_macro });
        at
    }

    /// Reads the trees of `{a, b::{c}}` from after the opening brace.
    fn group(&self, mut at: usize, prefix: &[String], found: &mut Vec<Use>) -> usize {
        while !matches!(self.word(at), "}" | "") {
            let next = if self.word(at) == "," { at + 1 } else { self.tree(at, prefix, found) };
            // A token that is part of no tree: not Rust, skip it.
            at = next.max(at + 1);
        }
        at + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let source = Source::new("core/src/task/input.rs", text);
        let module = ["task".to_owned(), "input".to_owned()];
        let shown: Vec<String> = uses(&source, &module)
            .iter()
            .map(|u| format!("{}:{}", u.line, u.path.join("::")))
            .collect();
        assert_eq!(shown.join(" "), expected, "uses in {text}");
    }

    #[test]
    fn use_trees_are_opened() {
        check("use crate::error::Error;", "1:error::Error");
        check("use crate::{a::{B, c::*},\n d as e};", "1:a::B 1:a::c 2:d");
        check("pub(crate) use crate::a;\nuse std::fmt;", "1:a");
    }

    #[test]
    fn paths_in_code_count_like_imports() {
        check(
            "fn a(b: &crate::data::Row) { crate::shard::turn::<u8>(b) }",
            "1:data::Row 1:shard::turn",
        );
        check("pub(in crate::task) fn a() { $crate::limits::B }", "1:task 1:limits::B");
    }

    #[test]
    fn relative_paths_are_resolved() {
        check("use super::partition::Partitioner;", "1:task::partition::Partitioner");
        check("use super::super::shard;", "1:shard");
        check("use self::queue::Queue;", "1:task::input::queue::Queue");
        check(
            "mod a { mod b { use super::super::c; } } use super::d;",
            "1:task::input::c 1:task::d",
        );
        check("fn a(&self) -> Self { self.b; super::c() }", "1:task::c");
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        check("//! [`crate::shard`]\n// crate::shard::a\nconst A: &str = \"crate::shard\";", "");
        check("#[cfg(test)]\nmod tests { use crate::shard::Shard; }", "");
    }

    #[test]
    fn reexports_know_where_a_name_comes_from() {
        let root = Source::new("core/src/lib.rs", "pub use error::{Error, Result as Res}; mod a;");
        let shown: Vec<String> =
            reexports(&root).iter().map(|u| format!("{}={}", u.name, u.path[0])).collect();
        assert_eq!(shown, ["Error=error", "Res=error"]);
    }
}
