//! Files as a source: one path, a directory, a glob, or a directory watched for new files.
//!
//! ```text
//! pattern ──List──► files ──► splits (file, or byte range of it) ──► tasks
//!                                                                      │
//! Open, Read ◄── split_reader.rs: pieces ─► content ─► window ─► decoder ─► records
//! ```
//!
//! **Which files.** All that the pattern names, in order of their paths; from a directory or glob
//! not those whose names begin with `.` or `_` or end with `.inprogress`. A file with several names
//! is read once; `**` does not go through symbolic links. Files are listed once, for all tasks,
//! when the job starts; with [`FileSource::watch`] again and again, and then the source has no end.
//! A file is read once, known by its path: put it in place complete, by renaming, and do not change
//! it. A file that becomes shorter or longer while it is read, or longer while it is watched, stops
//! the job: half of a record may have been read of it.
//!
//! **Order.** A task reads its splits one after the other, in order of path. So the watermark moves
//! with the file being read, and files should follow each other in time as their names do. Files
//! that cover the same time belong side by side: [`FileSource::side_by_side`].
//!
//! **Compression.** `.gz` and `.zst` are decompressed as they are read.
//!
//! **Splits.** Plain text in which every line break ends a record (lines, JSON Lines) is cut into
//! ranges of 8 MiB that several tasks read. CSV is not, because a quoted field may hold a line
//! break, unless [`FileSource::splittable`] promises that none does. Compressed files never are.
//!
//! **Positions** are bytes of the content, so they mean the same whatever the compression.

mod content;
mod discovery;
mod line_count;
mod read_ahead;
mod reader;
mod split;
mod split_reader;

use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::connector::format::{CsvFormat, Format, JsonLinesFormat, LinesFormat};
use crate::error::Error;
use crate::graph::SideOutputFact;
use crate::operator::OperatorContext;
use crate::operator::side_output::OnError;
use crate::operator::source::Source;

pub use self::reader::FileReader;

/// How the names of files end that a sink has not finished.
pub const IN_PROGRESS_SUFFIX: &str = ".inprogress";

/// Bytes of a range, unless said otherwise. Some 50 ms of parsing: tasks that read one file side by
/// side stay close together, and what a range costs beside (some 200 µs) does not matter.
const SPLIT_BYTES: u64 = 8 << 20;

/// Files whose records are read in the format `F`.
///
/// ```
/// use millstream::prelude::*;
///
/// #[derive(Debug, Clone, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// struct Payment {
///     card: u64,
///     amount: f64,
/// }
///
/// let payments = FileSource::csv::<Payment>("payments/*.csv.gz").on_error(skip_to("dead-letter"));
/// ```
#[derive(Debug, Clone)]
pub struct FileSource<F> {
    pattern: String,
    format: F,
    on_error: OnError,
    /// Time between two listings of a watched directory.
    watch: Option<Duration>,
    /// Bytes of a range; none if files are not cut.
    split_bytes: Option<u64>,
    side_by_side: usize,
    /// Bytes of one read.
    piece_bytes: usize,
}

/// Stands for the format in `FileSource::csv`, which chooses it.
#[derive(Debug, Clone, Copy)]
pub struct AnyFormat(PhantomData<()>);

impl FileSource<AnyFormat> {
    /// CSV files with a header: columns are found by name. See [`crate::connector::format::csv`].
    pub fn csv<T: DeserializeOwned + 'static>(
        pattern: impl Into<String>,
    ) -> FileSource<CsvFormat<T>> {
        FileSource::of(pattern, CsvFormat::default())
    }

    /// Files with a JSON value on every line.
    pub fn json_lines<T: DeserializeOwned + 'static>(
        pattern: impl Into<String>,
    ) -> FileSource<JsonLinesFormat<T>> {
        FileSource::of(pattern, JsonLinesFormat::default())
    }

    /// The same as [`FileSource::json_lines`].
    pub fn jsonl<T: DeserializeOwned + 'static>(
        pattern: impl Into<String>,
    ) -> FileSource<JsonLinesFormat<T>> {
        Self::json_lines(pattern)
    }

    /// Text files, line by line.
    pub fn lines(pattern: impl Into<String>) -> FileSource<LinesFormat> {
        FileSource::of(pattern, LinesFormat)
    }
}

impl<F: Format> FileSource<F> {
    /// Files in some format.
    pub fn of(pattern: impl Into<String>, format: F) -> Self {
        Self {
            pattern: pattern.into(),
            format,
            on_error: OnError::Stop,
            watch: None,
            split_bytes: Some(SPLIT_BYTES),
            side_by_side: 1,
            piece_bytes: read_ahead::PIECE_BYTES,
        }
    }

    /// What to do with a record that cannot be read. By default the job stops. A file that cannot
    /// be read at all (it is missing, or its header or compression is wrong) always stops the job.
    pub fn on_error(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }

    /// Looks for new files every `interval`, without end.
    pub fn watch(self, interval: Duration) -> Self {
        Self { watch: Some(interval), ..self }
    }

    /// Cuts large files into ranges of `bytes`, if the format allows it.
    pub fn split_bytes(self, bytes: u64) -> Self {
        Self { split_bytes: Some(bytes), ..self }
    }

    /// Does not cut files: each is read by one task, in order.
    pub fn unsplittable(self) -> Self {
        Self { split_bytes: None, ..self }
    }

    /// Lets each task read `count` splits at a time, record by record in turn. Each has its own
    /// watermark, and the slowest counts: for files that cover the same time.
    pub fn side_by_side(self, count: usize) -> Self {
        Self { side_by_side: count, ..self }
    }
}

impl<T> FileSource<CsvFormat<T>> {
    /// Fields are separated by `delimiter`, an ASCII character.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.format = self.format.delimiter(delimiter);
        self
    }

    /// The files have no header; their columns have these names.
    pub fn columns<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.format = self.format.columns(names);
        self
    }

    /// A field of this text (`NA`, `\N`) is a missing value where the record's field is an
    /// `Option`, as the empty field is.
    pub fn null_text(mut self, text: impl Into<String>) -> Self {
        self.format = self.format.null_text(text);
        self
    }

    /// Promises that no field holds a line break, so that a large file may be cut into ranges.
    pub fn splittable(mut self) -> Self {
        self.format = self.format.splittable();
        self
    }
}

impl<F: Format> Source for FileSource<F> {
    type Out = F::Record;
    type Reader = FileReader<F>;

    fn problems(&self) -> Vec<String> {
        let mut problems = self.format.problems();
        if self.pattern.is_empty() {
            problems.push("the pattern of files is empty; give a path, directory or glob".into());
        }
        if self.watch.is_some_and(|interval| interval < Duration::from_millis(1)) {
            problems
                .push("a directory cannot be watched without a pause; give 1 ms or more".into());
        }
        if self.split_bytes == Some(0) || self.side_by_side == 0 {
            problems.push("split_bytes and side_by_side must be at least 1".into());
        }
        problems
    }

    fn describe(&self) -> String {
        let watched = match self.watch {
            Some(interval) => format!(", watched every {interval:?}"),
            None => String::new(),
        };
        format!("files {} ({}){watched}", self.pattern, self.format.describe())
    }

    fn side_outputs(&self) -> Vec<SideOutputFact> {
        match self.on_error {
            OnError::Stop => Vec::new(),
            OnError::SkipTo(tag) => vec![tag.fact()],
        }
    }

    fn is_bounded(&self) -> bool {
        self.watch.is_none()
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<FileReader<F>, Error> {
        Ok(FileReader::new(self.clone(), ctx.env().task))
    }
}

#[cfg(test)]
mod tests;
