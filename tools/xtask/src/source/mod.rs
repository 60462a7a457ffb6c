//! One Rust file as the checks see it: text, tokens, and which of them belong to tests.
//!
//! Not here: which files exist (`repo.rs`), how modules hang together (`modules.rs`).

mod lex;
mod regions;

pub(crate) use lex::{Kind, Token, lex};
pub(crate) use regions::Function;

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
    /// All tokens, comments included.
    pub(crate) tokens: Vec<Token>,
    /// The tokens that are not comments.
    code: Vec<Token>,
    /// For every token of `code`, whether it is inside an item that exists only in tests.
    is_test: Vec<bool>,
}

impl Source {
    /// Lexes `text`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let tokens = lex(text);
        let is_code = |token: &&Token| !matches!(token.kind, Kind::Comment | Kind::DocComment);
        let code: Vec<Token> = tokens.iter().filter(is_code).copied().collect();
        let is_test = regions::mark_tests(text, &code);
        Self { path: path.to_owned(), text: text.to_owned(), tokens, code, is_test }
    }

    /// The text of `token`.
    pub(crate) fn text_of(&self, token: Token) -> &str {
        &self.text[token.start..token.end]
    }

    /// All code: no comments, tests included.
    pub(crate) fn code(&self) -> &[Token] {
        &self.code
    }

    /// The code that is compiled without tests, in pieces without a gap.
    pub(crate) fn production_code(&self) -> impl Iterator<Item = &[Token]> {
        let mut at = 0;
        self.is_test.chunk_by(|a, b| a == b).filter_map(move |piece| {
            let tokens = &self.code[at..at + piece.len()];
            at += piece.len();
            (!piece[0]).then_some(tokens)
        })
    }

    /// Lines of the file that belong to no test. Blank lines and comments count.
    pub(crate) fn production_line_count(&self) -> usize {
        let line_count = self.text.lines().count();
        let mut test_line_count = 0;
        let mut at = 0;
        for piece in self.is_test.chunk_by(|a, b| a == b) {
            let (first, last) = (self.code[at], self.code[at + piece.len() - 1]);
            at += piece.len();
            if piece[0] {
                test_line_count += self.last_line_of(last) - first.line + 1;
            }
        }
        line_count - test_line_count
    }

    /// The functions with a body that are compiled without tests.
    pub(crate) fn production_functions(&self) -> Vec<Function> {
        self.production_code().flat_map(|tokens| regions::functions(&self.text, tokens)).collect()
    }

    /// The line on which `token` ends, from 1.
    fn last_line_of(&self, token: Token) -> usize {
        token.line + self.text_of(token).matches('\n').count()
    }
}

/// The tokens of one text, matched against words: `["mod", "tests", ";"]`.
pub(crate) fn matches_at(text: &str, tokens: &[Token], at: usize, words: &[&str]) -> bool {
    tokens.get(at..at + words.len()).is_some_and(|found| {
        found.iter().zip(words).all(|(token, word)| &text[token.start..token.end] == *word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_TESTS: &str = "\
//! Header.
fn a() {}

#[cfg(test)]
mod tests {
    fn b() {}
}
fn c() {}
";

    #[test]
    fn production_code_leaves_tests_out() {
        let source = Source::new("a.rs", WITH_TESTS);
        let names: Vec<String> =
            source.production_functions().into_iter().map(|function| function.name).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(source.production_line_count(), 4);
    }

    #[test]
    fn an_inner_attribute_makes_the_whole_file_a_test() {
        let source = Source::new("a.rs", "#![cfg(test)]\nfn a() {}\n");
        assert_eq!(source.production_code().count(), 0);
        assert_eq!(source.production_line_count(), 0);
    }

    #[test]
    fn an_empty_file_has_no_code() {
        assert_eq!(Source::new("a.rs", "").production_line_count(), 0);
    }
}
