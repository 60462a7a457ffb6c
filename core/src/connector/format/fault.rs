//! What is wrong with a record, where, and how that is said.
//!
//! ```text
//! payments.csv:17, column 3 (amount): 'abc' is not a number; correct the record or set ...
//! └──── place ────────────────────┘  └────── reason ─────┘  └────── what to do ────────┘
//! ```

use std::fmt;

use crate::error::Error;
use crate::limits::DEAD_LETTER_BYTES_MAX;
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
        Self { spot: Spot::Character(valid + 1, None), reason }
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

/// `text` in quotes, shortened if it is long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("'{}...'", &text[..end]),
        None => format!("'{text}'"),
    }
}

/// Stops the job because of `fault` in the record `raw` at `place`, or puts the record aside, as
/// `on_error` says.
pub fn report(
    ctx: &OperatorContext<'_>,
    on_error: OnError,
    place: impl fmt::Display,
    fault: &Fault,
    raw: &[u8],
) {
    let place = format!("{place}{}", fault.spot);
    match on_error {
        OnError::Stop => {
            let reason = format!(
                "{}; correct the record, or set on_error = skip_to(\"dead-letter\") to put such \
                 records aside",
                fault.reason
            );
            ctx.fail(Error::Input { place, reason });
        }
        OnError::SkipTo(tag) => {
            let reason = fault.reason.clone();
            ctx.dead_letter(tag, DeadLetter { place, reason, raw: shown(raw) });
        }
    }
}

/// A raw record as text, without its line end, shortened if it is very long.
fn shown(raw: &[u8]) -> String {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
    let cut = &raw[..raw.len().min(DEAD_LETTER_BYTES_MAX)];
    let more = if cut.len() < raw.len() { "... and more" } else { "" };
    String::from_utf8_lossy(cut).into_owned() + more
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
    fn a_dead_letter_shows_the_record_without_its_line_end() {
        assert_eq!(shown(b"a,b\r\n"), "a,b");
        let long = vec![b'x'; DEAD_LETTER_BYTES_MAX + 7];
        assert!(shown(&long).ends_with("x... and more"));
    }

    #[test]
    fn the_first_byte_that_is_not_utf8_is_named() {
        let fault = Fault::not_utf8(b"ab\xff");
        assert_eq!(fault.spot.to_string(), ", character 3");
        assert_eq!(fault.reason, "the byte 0xff is not UTF-8; save the file as UTF-8");
    }
}
