//! Formats: how bytes become records and records bytes.
//!
//! ```text
//! bytes as they come ──► window of bytes ──Decode──► record, fault, or "more bytes, please"
//!                            ▲      │ Taken { bytes, lines }
//!                            └──────┘
//! record ──Encode──► bytes to write
//! ```
//!
//! A decoder sees a window that begins at a record and says what is there and how much of the
//! window it took. It never waits and keeps nothing of a record that is not complete, so a position
//! between two records is all that a source has to remember.
//!
//! Not here: where bytes come from (`file_source/`, `socket_source.rs`).

pub mod csv;
pub mod fault;
pub mod json_lines;
pub mod line;
pub mod lines;
pub mod text;

pub use csv::{CsvEncoder, CsvFormat};
pub use fault::{Fault, Place, Spot};
pub use json_lines::{JsonLinesEncoder, JsonLinesFormat};
pub use lines::LinesFormat;
pub use text::TextEncoder;

/// A format as the plan sees it.
pub trait Format: Clone + Send + 'static {
    /// What its records become.
    type Record: 'static;
    /// Reads one file, connection or byte range.
    type Decoder: Decode<Record = Self::Record>;

    /// A decoder that stands before the first byte.
    fn decoder(&self) -> Self::Decoder;

    /// Its name, for people.
    fn describe(&self) -> &'static str;

    /// Everything wrong with its settings: one sentence each, saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether every line break ends a record, so that a file may be read from the middle.
    fn is_splittable(&self) -> bool;
}

/// Reads the records of one sequence of bytes.
pub trait Decode: 'static {
    /// What a record becomes.
    type Record;

    /// Whether something stands before the first record, so that [`Decode::header`] must see the
    /// beginning of a file even if only its end is to be read.
    fn has_header(&self) -> bool {
        false
    }

    /// Reads what stands before the first record; must be called first. `bytes` begins at the first
    /// byte of the file; `is_end` says that nothing follows it.
    fn header(&mut self, _bytes: &[u8], _is_end: bool) -> Header {
        Header::Read(Taken::default())
    }

    /// Reads the record at the start of `bytes`, which is not empty; `is_end` says that nothing
    /// follows it, and then the answer is not [`Decoded::More`]. After [`Decoded::More`] it is
    /// called with at least the same bytes again.
    fn decode(&mut self, bytes: &[u8], is_end: bool) -> Decoded<Self::Record>;

    /// Whether it stands within a record that is too long and passes over the rest of it.
    fn is_skipping(&self) -> bool {
        false
    }

    /// Continues within a record that is too long.
    fn skip_line(&mut self) {}
}

/// How much of the window belonged to what was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes, with line ends.
    pub bytes: usize,
    /// Line breaks in them.
    pub lines: u64,
}

impl Taken {
    /// One line of `bytes` bytes, with its end.
    pub const fn line(bytes: usize) -> Self {
        Self { bytes, lines: 1 }
    }
}

/// What stands before the first record.
#[derive(Debug)]
pub enum Header {
    /// Understood.
    Read(Taken),
    /// It does not end within these bytes.
    More,
    /// It does not fit the record type, and stands behind so much; the file cannot be read.
    Wrong(Fault, Taken),
}

/// What stands at the start of the window.
#[derive(Debug)]
pub enum Decoded<T> {
    /// A record.
    Record(T, Taken),
    /// Nothing to report: a blank line, a part of something reported before.
    Nothing(Taken),
    /// Something that cannot be read. What follows it can.
    Bad(Fault, Taken),
    /// The beginning of a record.
    More,
}

/// Turns records into bytes. A clone is an encoder that has encoded nothing.
pub trait Encode: Clone + Send + 'static {
    /// What it encodes.
    type Record: 'static;

    /// The format's name, for people.
    fn describe(&self) -> &'static str;

    /// Everything wrong with its settings: one sentence each, saying what to do.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// How names of files of this format end.
    fn extension(&self) -> &'static str;

    /// The next record is the first of a file.
    fn begin_file(&mut self) {}

    /// Appends a record to the encoded bytes.
    ///
    /// # Errors
    /// Why it cannot be written in this format. A part of it may have been appended: the encoder
    /// must not be used again.
    fn encode(&mut self, record: &Self::Record) -> Result<(), String>;

    /// About how many encoded bytes wait to be taken; exact where that is free.
    fn encoded_bytes(&self) -> usize;

    /// Takes the encoded bytes: whole records. `spare` is memory for the next ones; its content is
    /// dropped.
    fn take(&mut self, spare: Vec<u8>) -> Vec<u8>;
}

/// Takes `bytes`, leaving `spare` emptied in their place.
fn exchange(bytes: &mut Vec<u8>, mut spare: Vec<u8>) -> Vec<u8> {
    spare.clear();
    std::mem::replace(bytes, spare)
}
