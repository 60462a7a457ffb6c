//! What is wrong with a record, where, and how that is said.
//!
//! ```text
//! payments.csv:17, column 3 (amount): 'abc' is not a number; correct the record or set ...
//! └──── place ────────────────────┘  └────── reason ─────┘  └────── what to do ────────┘
//! ```

use std::fmt;

use crate::error::Error;
use crate::operator::OperatorContext;
use crate::operator::side_output::{DeadLetter, OnError};

/// Characters of a text that an error message repeats.
const QUOTED_CHARS_MAX: usize = 60;

/// Why a record, or what stands before it, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the record.
    pub spot: Spot,
    /// What is wrong, in the words of somebody who looks at the file.
    pub reason: String,
}

/// A place within a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// The whole record.
    Record,
    /// A column of a table, counted from 1, and its name.
    Column(usize, String),
    /// A character of the line, counted from 1, and the field to which it belongs, if it is known.
    Character(usize, Option<String>),
}

impl Fault {
    /// A fault of the whole record.
    pub fn of_record(reason: impl Into<String>) -> Self {
        Self { spot: Spot::Record, reason: reason.into() }
    }

    /// Bytes that are not text.
    pub fn not_utf8(bytes: &[u8]) -> Self {
        let valid = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
        let byte = bytes.get(valid).copied().unwrap_or_default();
        let reason = format!("the byte {byte:#04x} is not UTF-8; save the file as UTF-8");
        Self { spot: Spot::Character(character_count(&bytes[..valid]) + 1, None), reason }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => Ok(()),
            Self::Column(number, name) => write!(f, ", column {number} ({name})"),
            Self::Character(number, None) => write!(f, ", character {number}"),
            Self::Character(number, Some(field)) => {
                write!(f, ", character {number} (field {field})")
            }
        }
    }
}

/// Characters in `bytes`.
pub fn character_count(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).chars().count()
}

/// `text` in quotes, shortened if it is long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("'{}...'", &text[..end]),
        None => format!("'{text}'"),
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// In a line of a file, counted from 1.
    File {
        /// Where the file is.
        path: &'a str,
        /// Which line.
        line: u64,
    },
    /// In a line of what a peer has sent, counted from 1.
    Socket {
        /// The peer's address.
        peer: &'a str,
        /// Which line.
        line: u64,
    },
    /// In a partition of a log, counted from 0.
    Log {
        /// The log and the partition.
        log: &'a str,
        /// Which record.
        number: u64,
    },
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Socket { peer, line } => write!(f, "socket {peer}, line {line}"),
            Self::Log { log, number } => write!(f, "log {log}, record {number}"),
        }
    }
}

/// Stops the job because of `fault` in the record `raw` at `place`, or puts the record aside, as
/// `on_error` says.
pub fn report(
    ctx: &OperatorContext<'_>,
    on_error: OnError,
    place: Place<'_>,
    fault: &Fault,
    raw: &[u8],
) {
    let words = format!("{place}{}", fault.spot);
    match on_error {
        OnError::Stop => {
            let reason = format!(
                "{}; correct the record, or put such records aside: \
                 .on_error(skip_to(\"dead-letter\")) at the source, and \
                 .side_output(DEAD_LETTERS) behind it to read them",
                fault.reason
            );
            ctx.fail(Error::Input { place: words, reason });
        }
        OnError::SkipTo(tag) => {
            let letter = DeadLetter::new(words, fault.reason.clone(), without_end(raw));
            let (Place::File { path: source, line }
            | Place::Socket { peer: source, line }
            | Place::Log { log: source, number: line }) = place;
            let letter = letter.at(source, line);
            ctx.dead_letter(
                tag,
                match &fault.spot {
                    Spot::Record => letter,
                    Spot::Column(column, field) => {
                        letter.in_field(*column as u64, Some(field.clone()))
                    }
                    Spot::Character(column, field) => {
                        letter.in_field(*column as u64, field.clone())
                    }
                },
            );
        }
    }
}

/// A raw record without its line end.
fn without_end(raw: &[u8]) -> &[u8] {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    raw.strip_suffix(b"\r").unwrap_or(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shortened_between_characters() {
        assert_eq!(quoted("abc"), "'abc'");
        assert_eq!(quoted(&"ä".repeat(70)), format!("'{}...'", "ä".repeat(60)));
    }

    #[test]
    fn a_dead_letter_has_the_record_without_its_line_end() {
        assert_eq!(without_end(b"a,b\r\n"), b"a,b");
        assert_eq!(without_end(b"a\rb"), b"a\rb");
    }

    #[test]
    fn the_first_byte_that_is_not_utf8_is_named() {
        let fault = Fault::not_utf8(b"a\xc3\xa4\xff");
        assert_eq!(fault.spot.to_string(), ", character 3");
        assert_eq!(fault.reason, "the byte 0xff is not UTF-8; save the file as UTF-8");
    }
}
