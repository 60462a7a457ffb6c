//! Reading a log: what is read, and from where.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::reader::LogReader;
use crate::connector::format::{Format, JsonLinesFormat, LinesFormat};
use crate::error::Error;
use crate::graph::SideOutputFact;
use crate::operator::OperatorContext;
use crate::operator::side_output::OnError;
use crate::operator::source::Source;

/// Time between two looks at a log that has been read to its end, unless said otherwise.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A log to read: see the [module](super).
///
/// Each partition is a split, read by one task; positions are the numbers of its records. A job
/// that goes on from a checkpoint reads from the positions there, whatever is said here.
///
/// ```
/// use millstream::prelude::*;
/// # #[derive(Debug, Clone, serde::Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// # struct Payment { card: u64 }
/// let job = Job::new("payments");
/// let log = LogSource::json_lines::<Payment>("logs/payments").from_latest();
/// job.source("payments", log).discard();
/// ```
#[derive(Debug, Clone)]
pub struct LogSource<F> {
    pub(super) directory: PathBuf,
    pub(super) format: F,
    /// What the log calls the format.
    pub(super) format_name: &'static str,
    pub(super) start: Start,
    pub(super) is_bounded: bool,
    pub(super) poll_interval: Duration,
    pub(super) on_error: OnError,
}

/// Where a partition is read from that no checkpoint speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that there is.
    Earliest,
    /// The first one that is committed after the job was started.
    Latest,
    /// The record of this number.
    Record(u64),
    /// The first one with this event time (ms since 1970), or a later one.
    Time(i64),
}

/// Stands for the format in `LogSource::json_lines`, which chooses it.
#[derive(Debug, Clone, Copy)]
pub struct AnyFormat(PhantomData<()>);

impl LogSource<AnyFormat> {
    /// A log whose records are JSON.
    pub fn json_lines<T: DeserializeOwned + 'static>(
        directory: impl Into<PathBuf>,
    ) -> LogSource<JsonLinesFormat<T>> {
        LogSource::of(directory, JsonLinesFormat::default(), "jsonl")
    }

    /// A log whose records are lines of text.
    pub fn text(directory: impl Into<PathBuf>) -> LogSource<LinesFormat> {
        LogSource::of(directory, LinesFormat, "txt")
    }
}

impl<F: Format> LogSource<F> {
    fn of(directory: impl Into<PathBuf>, format: F, format_name: &'static str) -> Self {
        Self {
            directory: directory.into(),
            format,
            format_name,
            start: Start::Earliest,
            is_bounded: false,
            poll_interval: POLL_INTERVAL,
            on_error: OnError::Stop,
        }
    }

    /// Begins behind what is committed when the job starts. Without a call of this kind a log is
    /// read from its oldest record on.
    pub fn from_latest(self) -> Self {
        Self { start: Start::Latest, ..self }
    }

    /// Begins with record `number` of every partition.
    pub fn from_record(self, number: u64) -> Self {
        Self { start: Start::Record(number), ..self }
    }

    /// Begins in every partition with the first record that has this event time (ms since 1970) or
    /// a later one.
    pub fn from_time_ms(self, event_time_ms: i64) -> Self {
        Self { start: Start::Time(event_time_ms), ..self }
    }

    /// Ends behind what is committed when the job starts.
    pub fn bounded(self) -> Self {
        Self { is_bounded: true, ..self }
    }

    /// How often it is looked for new records where all have been read. Default 20 ms.
    pub fn poll_interval(self, interval: Duration) -> Self {
        Self { poll_interval: interval, ..self }
    }

    /// What to do with a record that cannot be read as what it should be. By default the job stops.
    /// A log that is damaged always stops the job.
    pub fn on_error(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }
}

impl<F: Format> Source for LogSource<F> {
    type Out = F::Record;
    type Reader = LogReader<F>;

    fn problems(&self) -> Vec<String> {
        let mut problems = self.format.problems();
        if self.directory.as_os_str().is_empty() {
            problems.push("the directory of the log is empty; give one".to_string());
        }
        if self.poll_interval < Duration::from_millis(1) {
            problems
                .push("a log cannot be followed without a pause; give 1 ms or more".to_string());
        }
        problems
    }

    fn describe(&self) -> String {
        let start = match self.start {
            Start::Earliest => String::new(),
            Start::Latest => ", from its end".to_string(),
            Start::Record(number) => format!(", from record {number}"),
            Start::Time(ms) => format!(", from {ms} ms"),
        };
        let end = if self.is_bounded { ", up to its end at the start" } else { "" };
        format!("log {} ({}){start}{end}", self.directory.display(), self.format.describe())
    }

    fn side_outputs(&self) -> Vec<SideOutputFact> {
        match self.on_error {
            OnError::Stop => Vec::new(),
            OnError::SkipTo(tag) => vec![tag.fact()],
        }
    }

    fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<LogReader<F>, Error> {
        Ok(LogReader::new(self.clone(), ctx.env().task))
    }
}
