//! Finds the ends of lines in a window of bytes, without looking at any byte twice.

use super::{Fault, Taken};
use crate::limits::LINE_BYTES_MAX;

/// Finds the line at the start of a growing window.
#[derive(Debug, Default)]
pub struct LineFinder {
    /// So many bytes of the window hold no line break.
    searched: usize,
    /// The window stands within a line that was too long.
    is_skipping: bool,
}

/// What stands at the start of the window.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line, without its end (`\n` or `\r\n`).
    Whole(&'a [u8], Taken),
    /// The rest, or a part of the rest, of a line that was too long.
    Rest(Taken),
    /// A line that is too long begins.
    TooLong(Taken),
    /// The beginning of a line.
    More,
}

impl LineFinder {
    /// Looks at the line at the start of `bytes`; `is_end` says that nothing follows them.
    pub fn find<'a>(&mut self, bytes: &'a [u8], is_end: bool) -> Line<'a> {
        let searched = std::mem::take(&mut self.searched);
        let newline = memchr::memchr(b'\n', &bytes[searched..]).map(|at| searched + at);
        if self.is_skipping {
            return self.skip(bytes, newline);
        }
        match newline {
            Some(end) if end > LINE_BYTES_MAX => Line::TooLong(Taken::line(end + 1)),
            Some(end) => Line::Whole(without_return(&bytes[..end]), Taken::line(end + 1)),
            None if bytes.len() > LINE_BYTES_MAX => {
                self.is_skipping = !is_end;
                Line::TooLong(Taken { bytes: bytes.len(), lines: 0 })
            }
            None if is_end && !bytes.is_empty() => {
                Line::Whole(without_return(bytes), Taken::line(bytes.len()))
            }
            None => {
                self.searched = bytes.len();
                Line::More
            }
        }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], newline: Option<usize>) -> Line<'a> {
        match newline {
            Some(end) => {
                self.is_skipping = false;
                Line::Rest(Taken::line(end + 1))
            }
            None if bytes.is_empty() => Line::More,
            None => Line::Rest(Taken { bytes: bytes.len(), lines: 0 }),
        }
    }

    /// The window begins elsewhere now.
    pub fn restart(&mut self) {
        self.searched = 0;
    }

    /// Whether the window stands within a line that was too long.
    pub fn is_skipping(&self) -> bool {
        self.is_skipping
    }

    /// The window stands within a line that was too long.
    pub fn skip_line(&mut self) {
        self.is_skipping = true;
    }
}

/// What is wrong with a line that is too long.
pub fn too_long() -> Fault {
    Fault::of_record(format!(
        "a line of more than {LINE_BYTES_MAX} bytes, which is the limit; break it up (lines end \
         with \\n or \\r\\n)"
    ))
}

/// `line` without the carriage return that is a part of its end.
pub fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], is_end: bool, expected: &Line<'_>) {
        assert_eq!(&LineFinder::default().find(bytes, is_end), expected);
    }

    #[test]
    fn both_line_ends_are_taken_and_not_shown() {
        check(b"ab\ncd", false, &Line::Whole(b"ab", Taken::line(3)));
        check(b"ab\r\ncd", false, &Line::Whole(b"ab", Taken::line(4)));
        check(b"\n", false, &Line::Whole(b"", Taken::line(1)));
    }

    #[test]
    fn the_last_line_needs_no_end() {
        check(b"ab", false, &Line::More);
        check(b"ab", true, &Line::Whole(b"ab", Taken::line(2)));
        check(b"", true, &Line::More);
    }

    #[test]
    fn a_lone_return_is_text() {
        check(b"a\rb\n", false, &Line::Whole(b"a\rb", Taken::line(4)));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_up_to_its_end() {
        let mut finder = LineFinder::default();
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let taken = Taken { bytes: long.len(), lines: 0 };
        assert_eq!(finder.find(&long, false), Line::TooLong(taken));
        assert_eq!(finder.find(b"xx", false), Line::Rest(Taken { bytes: 2, lines: 0 }));
        assert_eq!(finder.find(b"x\nab\n", false), Line::Rest(Taken::line(2)));
        assert_eq!(finder.find(b"ab\n", false), Line::Whole(b"ab", Taken::line(3)));
    }

    #[test]
    fn the_longest_line_is_still_a_line() {
        let mut long = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(LineFinder::default().find(&long, false), Line::More);
        long.push(b'\n');
        let line = &long[..LINE_BYTES_MAX];
        check(&long, false, &Line::Whole(line, Taken::line(LINE_BYTES_MAX + 1)));
    }
}
