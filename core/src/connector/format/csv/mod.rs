//! CSV with a header: columns are found by name and become typed fields.
//!
//! ```text
//! id,card,amount          header.rs       which column each field of the record type is, once
//! 1,"4711",12.50          cut.rs          bytes ──► fields
//!                         deserialize.rs  fields ──► record
//! ```
//!
//! The grammar is RFC 4180 as the crate `csv` reads it: fields may stand in double quotes and then
//! hold delimiters, line breaks and doubled quotes; a quote inside an unquoted field is text.
//! Records end with `\n` or `\r\n`. Blank lines are nothing. A record must have as many fields as
//! the header. An empty field is a missing value where the record's field is an `Option`.
//!
//! Numbers are read as Rust reads them: `NaN`, `inf` and `infinity` are floating-point numbers
//! (call such a text a missing value with `null_text`); one that is written in digits and is too
//! large for its type is an error, and so is a whole number that does not fit.
//!
//! A file without any byte, or with blank lines only, has no records and needs no header.

mod cut;
mod deserialize;
mod encode;
mod header;
mod probe;

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use self::cut::{Cut, Cutter};
use self::header::Columns;
use super::line::too_long;
use super::{Decode, Decoded, Format, Header, Taken};

pub use encode::CsvEncoder;

/// Reads `T` from CSV.
pub struct CsvFormat<T> {
    settings: Settings,
    record: PhantomData<fn() -> T>,
}

/// How a file is written.
#[derive(Debug, Clone)]
struct Settings {
    delimiter: u8,
    /// Names of the columns of a file that has no header.
    columns: Option<Vec<String>>,
    /// What stands for a missing value beside the empty field.
    null_text: Option<String>,
    is_splittable: bool,
}

impl<T> Default for CsvFormat<T> {
    fn default() -> Self {
        let settings =
            Settings { delimiter: b',', columns: None, null_text: None, is_splittable: false };
        Self { settings, record: PhantomData }
    }
}

impl<T> Clone for CsvFormat<T> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), record: PhantomData }
    }
}

impl<T> CsvFormat<T> {
    /// Fields are separated by `delimiter`, an ASCII character.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.settings.delimiter = delimiter;
        self
    }

    /// The file has no header; its columns have these names.
    pub fn columns<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.settings.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// A field of this text is a missing value where the record's field is an `Option`.
    pub fn null_text(mut self, text: impl Into<String>) -> Self {
        self.settings.null_text = Some(text.into());
        self
    }

    /// Promises that no field holds a line break, so that one file may be read by several tasks.
    pub fn splittable(mut self) -> Self {
        self.settings.is_splittable = true;
        self
    }
}

impl<T: DeserializeOwned + 'static> Format for CsvFormat<T> {
    type Record = T;
    type Decoder = CsvDecoder<T>;

    fn decoder(&self) -> CsvDecoder<T> {
        CsvDecoder {
            cutter: Cutter::new(self.settings.delimiter),
            columns: None,
            settings: self.settings.clone(),
            record: PhantomData,
        }
    }

    fn describe(&self) -> &'static str {
        "CSV"
    }

    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> = delimiter_problem(self.settings.delimiter).into_iter().collect();
        match &self.settings.columns {
            Some(names) if names.is_empty() => {
                problems.push("there are no columns; give their names to .columns(..)".to_string());
            }
            Some(names) => {
                problems.extend(Columns::of::<T>(names.clone()).err().map(|fault| fault.reason));
            }
            None => {}
        }
        problems
    }

    fn is_splittable(&self) -> bool {
        self.settings.is_splittable
    }
}

/// What is wrong with a delimiter, if something is.
fn delimiter_problem(delimiter: u8) -> Option<String> {
    let is_possible = delimiter.is_ascii() && !matches!(delimiter, b'"' | b'\n' | b'\r');
    (!is_possible).then(|| {
        format!("{delimiter:#04x} cannot separate fields; use an ASCII character such as ,")
    })
}

/// Reads CSV.
#[derive(Debug)]
pub struct CsvDecoder<T> {
    cutter: Cutter,
    /// None until the header has been read, and for ever if the file has no header.
    columns: Option<Columns>,
    settings: Settings,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> CsvDecoder<T> {
    fn set_columns(&mut self, names: Vec<String>, before: Taken, taken: Taken) -> Header {
        match Columns::of::<T>(names) {
            Ok(columns) => {
                self.columns = Some(columns);
                Header::Read(taken)
            }
            Err(fault) => Header::Wrong(fault, before),
        }
    }
}

impl<T: DeserializeOwned + 'static> Decode for CsvDecoder<T> {
    type Record = T;

    fn has_header(&self) -> bool {
        self.settings.columns.is_none()
    }

    fn header(&mut self, bytes: &[u8], is_end: bool) -> Header {
        if let Some(names) = self.settings.columns.clone() {
            return self.set_columns(names, Taken::default(), Taken::default());
        }
        let mut before = Taken::default();
        loop {
            let rest = &bytes[before.bytes..];
            let (names, taken) = match self.cutter.cut(rest, is_end) {
                Cut::Fields(fields, taken) => {
                    (fields.iter().map(|name| name.trim().to_string()).collect(), taken)
                }
                Cut::Blank(taken) => {
                    before.bytes += taken.bytes;
                    before.lines += taken.lines;
                    continue;
                }
                Cut::More if is_end && rest.is_empty() => return Header::Read(before),
                Cut::More => {
                    // The blank lines before it will be seen again.
                    self.cutter.restart();
                    return Header::More;
                }
                Cut::Bad(fault, _) => return Header::Wrong(fault, before),
                Cut::Rest(_) | Cut::TooLong(_) => return Header::Wrong(too_long(), before),
            };
            let (bytes, lines) = (before.bytes + taken.bytes, before.lines + taken.lines);
            return self.set_columns(names, before, Taken { bytes, lines });
        }
    }

    fn decode(&mut self, bytes: &[u8], is_end: bool) -> Decoded<T> {
        let (fields, taken) = match self.cutter.cut(bytes, is_end) {
            Cut::Fields(fields, taken) => (fields, taken),
            Cut::Blank(taken) | Cut::Rest(taken) => return Decoded::Nothing(taken),
            Cut::More => return Decoded::More,
            Cut::Bad(fault, taken) => return Decoded::Bad(fault, taken),
            Cut::TooLong(taken) => return Decoded::Bad(too_long(), taken),
        };
        let columns = self.columns.as_mut().expect("a file with records has a header");
        match columns.read(&fields, self.settings.null_text.as_deref()) {
            Ok(record) => Decoded::Record(record, taken),
            Err(fault) => Decoded::Bad(fault, taken),
        }
    }

    fn is_skipping(&self) -> bool {
        self.cutter.is_skipping()
    }

    fn skip_line(&mut self) {
        self.cutter.skip_line();
    }
}

#[cfg(test)]
mod tests;
