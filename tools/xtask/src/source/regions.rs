//! Where items begin and end: tests, functions, brackets.
//!
//! Works on tokens without comments. An item under `#[cfg(test)]` or `#[test]` reaches from its
//! attribute to the end of its body, or to its `;`:
//!
//! ```text
//! #[cfg(test)] #[expect(..)] mod tests { fn a() { .. } }   fn production() ..
//! └───────────────────── test ─────────────────────────┘
//! ```
//!
//! `#[cfg(any(test, ..))]` is not a test: the item exists in production as well.

use super::{Kind, Token, matches_at};

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Line of its `fn`.
    pub(crate) line: usize,
    /// From the line of `fn` to that of the closing brace.
    pub(crate) line_count: usize,
}

/// For every token, whether it is inside an item that exists only in tests.
pub(super) fn mark_tests(text: &str, code: &[Token]) -> Vec<bool> {
    let mut is_test = vec![false; code.len()];
    let mut at = 0;
    while at < code.len() {
        let is_inner = matches_at(text, code, at, &["#", "!", "["]);
        if !is_inner && !matches_at(text, code, at, &["#", "["]) {
            at += 1;
            continue;
        }
        let open = at + 1 + usize::from(is_inner);
        let close = closing(text, code, open);
        if !is_test_attribute(text, &code[(open + 1).min(close)..close]) {
            at = close + 1;
            continue;
        }
        if is_inner {
            is_test.fill(true);
            return is_test;
        }
        let end = item_end(text, code, close + 1);
        is_test[at..end].fill(true);
        at = end;
    }
    is_test
}

/// The functions with a body among `code`, outer ones before those nested in them.
pub(super) fn functions(text: &str, code: &[Token]) -> Vec<Function> {
    let mut functions = Vec::new();
    for (at, token) in code.iter().enumerate() {
        let Some(name) = code.get(at + 1).filter(|name| name.kind == Kind::Ident) else { continue };
        if &text[token.start..token.end] != "fn" {
            continue;
        }
        let end = item_end(text, code, at);
        let last = code[end - 1];
        if &text[last.start..last.end] == "}" {
            functions.push(Function {
                name: text[name.start..name.end].to_owned(),
                line: token.line,
                line_count: last.line - token.line + 1,
            });
        }
    }
    functions
}

/// The index of the bracket that closes the one at `open`, or the last token of unfinished text.
pub(crate) fn closing(text: &str, code: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in code.iter().enumerate().skip(open) {
        match &text[token.start..token.end] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len().saturating_sub(1).max(open)
}

/// Whether the attribute with these tokens (without brackets) leaves the item to tests only.
fn is_test_attribute(text: &str, attribute: &[Token]) -> bool {
    let word = |at: usize| attribute.get(at).map_or("", |token| &text[token.start..token.end]);
    match (word(0), attribute.len()) {
        ("test", 1) => true,
        ("cfg", _) => requires_test(text, &attribute[1..]),
        _ => false,
    }
}

/// Whether the condition holds only in tests: `test`, or an `all(..)` that contains such a one.
fn requires_test(text: &str, condition: &[Token]) -> bool {
    let mut at = 0;
    while at < condition.len() {
        let token = condition[at];
        let is_group = matches_at(text, condition, at + 1, &["("]);
        match &text[token.start..token.end] {
            "test" => return true,
            "any" | "not" if is_group => at = closing(text, condition, at + 1),
            _ => {}
        }
        at += 1;
    }
    false
}

/// One past the last token of the item, field, variant or statement that begins at `start` with
/// its further attributes.
fn item_end(text: &str, code: &[Token], start: usize) -> usize {
    const KEYWORDS: [&str; 9] =
        ["fn", "struct", "enum", "trait", "impl", "type", "mod", "use", "const"];
    let mut at = start;
    let mut is_item = false;
    while let Some(token) = code.get(at) {
        match &text[token.start..token.end] {
            "(" | "[" => at = closing(text, code, at),
            "{" => return closing(text, code, at) + 1,
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            ")" | "]" | "}" => return at,
            word => is_item |= KEYWORDS.contains(&word),
        }
        at += 1;
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::super::lex;
    use super::*;

    fn check(text: &str, expected: &str) {
        let code = lex(text);
        let shown: Vec<&str> = mark_tests(text, &code)
            .iter()
            .zip(&code)
            .filter(|(is_test, token)| !**is_test && token.kind == Kind::Ident)
            .map(|(_, token)| &text[token.start..token.end])
            .collect();
        assert_eq!(shown.join(" "), expected, "production identifiers of {text}");
    }

    #[test]
    fn a_test_item_reaches_to_the_end_of_its_body() {
        check("#[cfg(test)] mod tests { fn a() { if b {} } } fn c() {}", "fn c");
        check("#[test] fn a() {} fn b() {}", "fn b");
        check("#[cfg(test)] mod tests; fn b() {}", "fn b");
        check("#[cfg(test)] #[expect(x)] pub fn a<B, C>(d: [u8; 2]) -> E { f } fn b() {}", "fn b");
        check("#[cfg(test)] use a::{b, c}; fn d() {}", "fn d");
    }

    #[test]
    fn a_test_field_reaches_to_its_comma() {
        check("struct A { #[cfg(test)] b: C, d: E }", "struct A d E");
        check("enum A { B, #[cfg(test)] C }", "enum A B");
    }

    #[test]
    fn only_conditions_that_need_test_count() {
        check("#[cfg(all(test, unix))] fn a() {} fn b() {}", "fn b");
        check("#[cfg(any(test, unix))] fn a() {}", "cfg any test unix fn a");
        check("#[cfg(not(test))] fn a() {}", "cfg not test fn a");
        check("#[cfg(loom)] fn a() {}", "cfg loom fn a");
    }

    #[test]
    fn function_lengths_include_signature_and_braces() {
        let text = "fn a(\n  b: u8,\n) -> u8\n{\n  b\n}\ntrait T { fn c(&self); }";
        let code = lex(text);
        let expected = [Function { name: "a".to_owned(), line: 1, line_count: 6 }];
        assert_eq!(functions(text, &code), expected);
    }
}
