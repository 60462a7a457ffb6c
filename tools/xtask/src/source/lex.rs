//! Cuts Rust text into tokens, well enough to tell code from comments and strings.
//!
//! A check that greps finds the word `unsafe` in this sentence. The checks here look at tokens
//! instead. The lexer knows comments (nested too), every kind of string, characters against
//! lifetimes, and leaves all else as identifiers, numbers and single punctuation characters.
//!
//! Invariant: tokens are in order, do not overlap, and only white space lies between them, so that
//! no text escapes the checks (a test lexes every file of this program).
//!
//! Not here: what belongs to a test, where functions end (`regions.rs`).

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Identifier or keyword; a raw identifier keeps its `r#`.
    Ident,
    /// `'a`, `'static`.
    Lifetime,
    /// String, byte string, character or number.
    Literal,
    /// One character of punctuation.
    Punct,
    /// `// ..` or `/* .. */`.
    Comment,
    /// `/// ..`, `//! ..`, `/** .. */` or `/*! .. */`.
    DocComment,
}

/// One token: a range of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// First byte.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
    /// Line of the first byte, from 1.
    pub(crate) line: usize,
}

/// Cuts `text` into tokens. Text that is not Rust gives some tokens too; nothing panics.
pub(crate) fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut line = 1;
    while let Some(first) = text[start..].chars().next() {
        if first.is_whitespace() {
            line += usize::from(first == '\n');
            start += first.len_utf8();
            continue;
        }
        let (kind, len) = first_token(&text[start..], first);
        let end = start + len;
        tokens.push(Token { kind, start, end, line });
        line += text[start..end].matches('\n').count();
        start = end;
    }
    tokens
}

/// Kind and length in bytes of the token at the start of `rest`, whose first character is `first`.
fn first_token(rest: &str, first: char) -> (Kind, usize) {
    if rest.starts_with("//") || rest.starts_with("/*") {
        return comment(rest);
    }
    if let Some(len) = string_literal(rest) {
        return (Kind::Literal, len);
    }
    match first {
        '\'' => quote(rest),
        '0'..='9' => (Kind::Literal, number(rest)),
        _ if is_ident(first) => {
            let prefix = if rest.starts_with("r#") { 2 } else { 0 };
            (Kind::Ident, prefix + ident_len(&rest[prefix..]))
        }
        _ => (Kind::Punct, first.len_utf8()),
    }
}

fn comment(rest: &str) -> (Kind, usize) {
    let is_doc = ["///", "//!", "/**", "/*!"].iter().any(|mark| rest.starts_with(mark))
        && !["////", "/***", "/**/"].iter().any(|mark| rest.starts_with(mark));
    let kind = if is_doc { Kind::DocComment } else { Kind::Comment };
    if rest.starts_with("//") {
        return (kind, rest.find('\n').unwrap_or(rest.len()));
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return (kind, at);
            }
        } else {
            at += 1;
        }
    }
    (kind, rest.len())
}

/// Length of the string at the start of `rest`, if there is one: `".."`, `b".."`, `c".."`, and the
/// raw forms `r".."`, `br#".."#`, `cr".."`.
fn string_literal(rest: &str) -> Option<usize> {
    let after_prefix = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    if let Some(raw) = after_prefix.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(body) = raw[hashes..].strip_prefix('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body_start = rest.len() - body.len();
            return Some(body.find(&close).map_or(rest.len(), |at| body_start + at + close.len()));
        }
    }
    let body = after_prefix.strip_prefix('"')?;
    Some(rest.len() - body.len() + escaped_until(body, b'"'))
}

/// Bytes up to and including the first unescaped `close`.
fn escaped_until(body: &str, close: u8) -> usize {
    let mut is_escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        if is_escaped {
            is_escaped = false;
        } else if byte == b'\\' {
            is_escaped = true;
        } else if byte == close {
            return at + 1;
        }
    }
    body.len()
}

/// A character literal or a lifetime: `'a'` closes after one character, `'a` does not.
fn quote(rest: &str) -> (Kind, usize) {
    let body = &rest[1..];
    let mut chars = body.chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => (Kind::Literal, 1 + escaped_until(body, b'\'')),
        (Some(only), Some('\'')) => (Kind::Literal, 1 + only.len_utf8() + 1),
        (Some(first), _) if is_ident(first) => (Kind::Lifetime, 1 + ident_len(body)),
        _ => (Kind::Punct, 1),
    }
}

/// Length of a number. `1..2` is a number and a range, `1.5` is one number.
fn number(rest: &str) -> usize {
    let whole = ident_len(rest);
    match rest[whole..].strip_prefix('.') {
        Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => {
            whole + 1 + ident_len(fraction)
        }
        _ => whole,
    }
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn ident_len(rest: &str) -> usize {
    rest.find(|c| !is_ident(c)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let tokens = lex(text);
        let shown: Vec<String> =
            tokens.iter().map(|t| format!("{:?} {}", t.kind, &text[t.start..t.end])).collect();
        assert_eq!(shown.join(" | "), expected);
    }

    #[test]
    fn code_is_identifiers_literals_and_punctuation() {
        check("let x=1.5;", "Ident let | Ident x | Punct = | Literal 1.5 | Punct ;");
        check("0..n", "Literal 0 | Punct . | Punct . | Ident n");
        check("r#type", "Ident r#type");
    }

    #[test]
    fn comments_nest_and_know_whether_they_document() {
        check("a // b\nc", "Ident a | Comment // b | Ident c");
        check("/// d\n//! e", "DocComment /// d | DocComment //! e");
        check("/* a /* b */ c */ d", "Comment /* a /* b */ c */ | Ident d");
        check("//// rule", "Comment //// rule");
    }

    #[test]
    fn strings_hide_what_is_in_them() {
        check(r#"f("a \" // b")"#, r#"Ident f | Punct ( | Literal "a \" // b" | Punct )"#);
        check(r##"br#"a "b" c"# d"##, r##"Literal br#"a "b" c"# | Ident d"##);
        check("b\"x\" c\"y\"", "Literal b\"x\" | Literal c\"y\"");
    }

    #[test]
    fn a_lifetime_is_not_a_character() {
        check("&'a str", "Punct & | Lifetime 'a | Ident str");
        check(r"'a' '\'' '\\'", r"Literal 'a' | Literal '\'' | Literal '\\'");
        check("b'x'", "Ident b | Literal 'x'");
    }

    #[test]
    fn unfinished_text_ends_with_the_file() {
        check("\"abc", "Literal \"abc");
        check("/* abc", "Comment /* abc");
        check("'", "Punct '");
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let lines: Vec<usize> = lex("a\n\"b\nc\" d /*\n*/ e").iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 2, 3, 3, 4]);
    }

    #[test]
    fn between_tokens_there_is_only_white_space() {
        for text in [include_str!("lex.rs"), include_str!("mod.rs"), include_str!("../main.rs")] {
            let mut end = 0;
            for token in lex(text) {
                assert_eq!(text[end..token.start].trim(), "");
                assert!(token.start < token.end);
                end = token.end;
            }
            assert_eq!(text[end..].trim(), "");
        }
    }
}
