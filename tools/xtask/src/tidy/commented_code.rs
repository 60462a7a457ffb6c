//! Rule `commented-code`: code that does not run is deleted; git remembers it.
//!
//! A heuristic, made to miss rather than to accuse: a `//` line counts as code if it begins or ends
//! as a statement does and prose does not. Doc comments may show code.

use crate::finding::Finding;
use crate::house::House;
use crate::source::Kind;

/// Finds comments that were code.
pub(super) fn commented_code(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in house.sources() {
        for token in source.tokens.iter().filter(|token| token.kind == Kind::Comment) {
            let text = source.text_of(*token).trim_start_matches('/').trim();
            if is_code(text) {
                let message = format!("`{text}`: delete code that does not run");
                findings.push(Finding::fail("commented-code", &source.path, token.line, message));
            }
        }
    }
    findings
}

/// Whether `text` looks like a line of code.
fn is_code(text: &str) -> bool {
    const STARTS: [&str; 9] =
        ["let ", "use ", "mod ", "pub ", "fn ", "return ", "const ", "static ", "#["];
    if matches!(text, "}" | "};" | "});" | "})" | "},") {
        return true;
    }
    if let Some(statement) = text.strip_suffix(';') {
        let is_assignment = [" = ", " += ", " -= "].iter().any(|sign| statement.contains(sign));
        return is_assignment || starts_with_any(text, &STARTS) || is_call(statement);
    }
    if let Some(opening) = text.strip_suffix('{') {
        let starts = ["if ", "for ", "while ", "match ", "impl ", "struct ", "enum ", "loop ", "}"];
        return starts_with_any(opening, &STARTS) || starts_with_any(opening, &starts);
    }
    text.starts_with("#[") && text.ends_with(']')
}

fn starts_with_any(text: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| text.starts_with(start))
}

/// Whether `statement` is a path, an opening bracket, anything, and a closing bracket.
fn is_call(statement: &str) -> bool {
    let Some((path, _)) = statement.split_once('(') else { return false };
    let is_path = path.chars().all(|c| c.is_alphanumeric() || "_.:!?".contains(c));
    is_path && !path.is_empty() && statement.ends_with([')', '?'])
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn statements_are_found() {
        for code in [
            "let a = b;",
            "self.count += 1;",
            "shard.turn(now, events);",
            "file.sync()?;",
            "use std::fmt;",
            "mod old;",
            "if a < b {",
            "} else {",
            "});",
            "#[inline]",
        ] {
            let text = format!("fn a() {{\n    // {code}\n}}\n");
            check(commented_code, &[("a.rs", &text)], &[&format!("a.rs:2 `{code}`")]);
        }
    }

    #[test]
    fn prose_is_not_code() {
        for prose in [
            "Only this side writes it;",
            "use the smaller one, since it is cached",
            "a turn is bounded (see `budget.rs`);",
            "SAFETY: `tail - head < capacity`, so the slot is the producer's",
            "for each dirty output: send now",
        ] {
            check(commented_code, &[("a.rs", &format!("// {prose}\n"))], &[]);
        }
        check(commented_code, &[("a.rs", "/// let a = b;\nfn a() {}\n")], &[]);
    }
}
