//! Files as a sink: a directory of files that appear when they are complete.
//!
//! ```text
//! alerts/part-00001-000007.jsonl              task 1, its eighth file: complete, durable
//! alerts/part-00001-000008.jsonl.inprogress   being written, or whole and not committed, or left
//! ```                                            behind by a crash
//!
//! Each task writes one file at a time and begins the next when the file is large enough or old
//! enough (processing time), when a checkpoint is taken, and when the input ends. A task without
//! records writes no file. Complete files that are there already stay: a task continues with the
//! number after its highest, over restarts.
//!
//! Without checkpoints a file appears when it is whole. With checkpoints it appears when one is
//! complete in whose snapshot it is: a job that goes on from there has its records behind it, and
//! whole files that are in no complete checkpoint are removed and written again. So every record
//! appears exactly once, whatever ends the process and whenever.
//!
//! The tasks of a run together hold a lock file in the directory while they run, so a second run of
//! the job, or another job, cannot write there; two sinks of one job in one directory are a mistake
//! of the plan. With the lock a task removes the unfinished files that an earlier run left: its
//! own, and the first task also those of tasks that there are not any more.
//!
//! Not here: the life of one file (`part.rs`), finished files until they have their names
//! (`finished.rs`), how a task takes the directory (`take.rs`), formats (`connector/format/`).

mod finished;
mod part;
mod take;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use millstream_storage::io::{FileAnswer, FileDone, OpId};
use serde::Serialize;

use self::finished::{DIRECTORY, Finished, NUMBER, UNCOMMITTED};
use self::part::{Part, Step};
use self::take::Take;
use crate::connector::format::{CsvEncoder, Encode, JsonLinesEncoder, TextEncoder};
use crate::connector::{fail_to_encode, file_error};
use crate::data::element::CheckpointId;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::{Appearance, Facts};
use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Bytes of one write. Large enough that an operation's cost (5-20 µs) is small beside it.
const WRITE_BYTES: usize = 128 << 10;

/// Operations of the open file under way. With more the sink lets its inputs wait; with these the
/// disk is never idle and memory stays below a megabyte.
const OPS_WAITING_MAX: usize = 4;

/// Finished files whose last answers are awaited. A sync may take long; with more the inputs wait.
const FINISHING_MAX: usize = 2;

/// A file ends at this size, unless said otherwise.
const ROLL_BYTES: u64 = 128 << 20;

/// A file ends at this age, unless said otherwise.
const ROLL_INTERVAL: Duration = Duration::from_mins(1);

/// A sink to files in a directory, in the format of its encoder.
///
/// ```
/// use millstream::prelude::*;
/// use std::time::Duration;
///
/// let sink = FileSink::json_lines("alerts/").roll_interval(Duration::from_secs(10));
/// # fn takes(_: impl Operator<In = u64>) {}
/// # takes(sink);
/// ```
pub struct FileSink<E> {
    directory: PathBuf,
    roll_bytes: u64,
    roll_interval: Duration,
    encoder: E,
    /// Names files of a task; set when the sink is opened.
    task_index: u32,
    take: Take,
    /// The file being written, if it has been opened.
    current: Option<Part>,
    /// Processing time (ms) of the first record of the file being written.
    begun_ms: Option<i64>,
    finished: Finished,
    /// At its end, it has asked for a checkpoint.
    has_asked: bool,
    /// Memory of answered writes.
    spare: Vec<Vec<u8>>,
}

impl<T: Serialize + 'static> FileSink<JsonLinesEncoder<T>> {
    /// Every record as a line of JSON.
    pub fn json_lines(directory: impl Into<PathBuf>) -> Self {
        Self::of(directory, JsonLinesEncoder::default())
    }

    /// The same as [`FileSink::json_lines`].
    pub fn jsonl(directory: impl Into<PathBuf>) -> Self {
        Self::json_lines(directory)
    }
}

impl<T: Serialize + 'static> FileSink<CsvEncoder<T>> {
    /// Every record as a line of CSV; every file begins with a header.
    pub fn csv(directory: impl Into<PathBuf>) -> Self {
        Self::of(directory, CsvEncoder::default())
    }

    /// Separates fields by `delimiter`, an ASCII character.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.encoder = self.encoder.delimiter(delimiter);
        self
    }
}

impl<T: std::fmt::Display + 'static> FileSink<TextEncoder<T>> {
    /// Every record as its `Display` says, on a line.
    pub fn text(directory: impl Into<PathBuf>) -> Self {
        Self::of(directory, TextEncoder::default())
    }
}

impl<E: Encode> FileSink<E> {
    /// Files in some format.
    pub fn of(directory: impl Into<PathBuf>, encoder: E) -> Self {
        Self {
            directory: directory.into(),
            roll_bytes: ROLL_BYTES,
            roll_interval: ROLL_INTERVAL,
            encoder,
            task_index: 0,
            take: Take::Not,
            current: None,
            begun_ms: None,
            finished: Finished::default(),
            has_asked: false,
            spare: Vec::new(),
        }
    }

    /// Ends a file when it has about `bytes`. Default 128 MiB.
    pub fn roll_bytes(self, bytes: u64) -> Self {
        Self { roll_bytes: bytes, ..self }
    }

    /// Ends a file `interval` after its first record came, in processing time. Default 60 s.
    pub fn roll_interval(self, interval: Duration) -> Self {
        Self { roll_interval: interval, ..self }
    }

    /// Encoded bytes that are written together: no more than a file is to have.
    fn write_bytes(&self) -> usize {
        usize::try_from(self.roll_bytes).unwrap_or(usize::MAX).min(WRITE_BYTES)
    }

    /// Writes the encoded records, opening a file if there is none.
    fn flush(&mut self, ctx: &OperatorContext<'_>) {
        if !self.take.is_taken() {
            return;
        }
        let bytes = self.encoder.take(self.spare.pop().unwrap_or_default());
        if bytes.is_empty() {
            return self.spare.push(bytes);
        }
        let part = self.current.get_or_insert_with(|| {
            let number = self.take.next_number();
            let extension = self.encoder.extension();
            let name = format!("part-{:05}-{number:06}.{extension}", self.task_index);
            let path = self.directory.join(name);
            let (temporary, mode) = Part::open_as(&path);
            let (file, op) = ctx.open_file(temporary, mode);
            Part::opening(path, file, op)
        });
        part.write(bytes, |make| ctx.file(make));
        if part.written_bytes() >= self.roll_bytes {
            self.roll(ctx);
        }
    }

    /// Ends the file being written; the next record begins another.
    fn roll(&mut self, ctx: &OperatorContext<'_>) {
        if let Some(mut part) = self.current.take() {
            part.finish(|make| ctx.file(make));
            self.finished.push(part);
        }
        self.begun_ms = None;
    }

    /// Keeps or renames what is to be kept or renamed.
    fn commit(&mut self, ctx: &OperatorContext<'_>) {
        if ctx.has_checkpoints() {
            self.finished.written().for_each(|part| part.keep(|make| ctx.file(make)));
        }
        if self.take.is_taken() {
            for part in self.finished.due(ctx.has_checkpoints()) {
                part.rename(|make| ctx.file(make));
            }
        }
    }

    fn on_part_done(&mut self, op: OpId, ctx: &OperatorContext<'_>) {
        if let Some(step) = self.finished.on_done(op) {
            if matches!(step, Step::Written | Step::Whole) {
                self.commit(ctx);
            }
            return;
        }
        match self.current.as_mut().filter(|part| part.is_waiting_for(op)) {
            Some(part) => assert_eq!(part.on_done(op), Step::Wait, "it is being written"),
            None => ctx.fail(Error::bug(ctx.name(), format!("an unexpected answer to {op:?}"))),
        }
    }

    /// The directory was listed, or lock or leftovers were answered.
    fn on_take_done(&mut self, done: FileDone, ctx: &OperatorContext<'_>) {
        if let Ok(FileAnswer::Listed { files }) = &done.result
            && let Err(problem) = self.finished.find_left(files)
        {
            return ctx.fail(problem);
        }
        let number_min = self.finished.number_min(self.task_index);
        self.take.on_done(done, &self.directory, (self.finished.left(), number_min), ctx);
        if self.take.is_taken() {
            self.commit(ctx);
            if self.encoder.encoded_bytes() >= self.write_bytes() {
                self.flush(ctx);
            }
        }
    }
}

/// What to do about a file that cannot be written.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there or write elsewhere, then start the job again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "let the user that runs the job write there, or write elsewhere"
        }
        io::ErrorKind::WouldBlock => {
            "another run of this job, or another job, writes to the directory: stop it, or write \
             elsewhere"
        }
        _ => {
            "check the disk (what it reported last may be lost) or write elsewhere, then start \
              the job again"
        }
    }
}

impl<E: Encode> Clone for FileSink<E> {
    fn clone(&self) -> Self {
        Self {
            roll_bytes: self.roll_bytes,
            roll_interval: self.roll_interval,
            ..Self::of(self.directory.clone(), self.encoder.clone())
        }
    }
}

impl<E: Encode> Operator for FileSink<E> {
    type In = E::Record;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let mut problems = self.encoder.problems();
        if self.directory.as_os_str().is_empty() {
            problems.push("the directory to write to is empty; give one".to_string());
        }
        if self.roll_bytes == 0 || self.roll_interval.is_zero() {
            problems.push("a file must end at a size and an age above zero".to_string());
        }
        let detail = format!("files in {} ({})", self.directory.display(), self.encoder.describe());
        let directory = Some(self.directory.clone());
        Facts {
            directory,
            is_stateful: true,
            appearance: Appearance::WithCheckpoints,
            problems,
            ..Facts::stateless().detailed(detail)
        }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.task_index = ctx.env().task.task_index;
        self.take = Take::begin(&self.directory, ctx);
        Ok(())
    }

    fn on_row(
        &mut self,
        row: Row<E::Record>,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        if self.begun_ms.is_none() {
            self.begun_ms = Some(ctx.processing_time_ms());
            self.encoder.begin_file();
        }
        if let Err(reason) = self.encoder.encode(&row.value) {
            return fail_to_encode(ctx, &reason);
        }
        if self.encoder.encoded_bytes() >= self.write_bytes() {
            self.flush(ctx);
        }
    }

    fn next_time_ms(&self) -> Option<i64> {
        let interval_ms = i64::try_from(self.roll_interval.as_millis()).unwrap_or(i64::MAX);
        // Before it has the directory nothing can be written; the answers come soon.
        let begun_ms = self.begun_ms.filter(|_| self.take.is_taken());
        begun_ms.map(|begun_ms| begun_ms.saturating_add(interval_ms))
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        self.flush(ctx);
        self.roll(ctx);
        Progress::Done
    }

    fn is_ready(&self) -> bool {
        self.take.is_taken()
            && self.current.as_ref().is_none_or(|part| part.waiting_count() < OPS_WAITING_MAX)
            && self.finished.unwritten_count() < FINISHING_MAX
    }

    fn on_file_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        if self.take.is_waiting_for(done.op) {
            return self.on_take_done(done, ctx);
        }
        match done.result {
            Ok(FileAnswer::Written { bytes }) => {
                if self.spare.len() < OPS_WAITING_MAX {
                    self.spare.push(bytes);
                }
                self.on_part_done(done.op, ctx);
            }
            Ok(_) => self.on_part_done(done.op, ctx),
            Err(fault) => ctx.fail(file_error(ctx, fault, advice)),
        }
    }

    fn on_end(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        if self.take.is_taken() {
            self.flush(ctx);
            self.roll(ctx);
            if self.finished.is_empty() {
                self.take.release(ctx);
            } else if ctx.has_checkpoints() && !std::mem::replace(&mut self.has_asked, true) {
                ctx.want_checkpoint();
            }
        }
        if self.take.is_released() { Progress::Done } else { Progress::Pending }
    }

    /// The file being written ends: a checkpoint is about whole files.
    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if !ctx.has_checkpoints() {
            return Progress::Done;
        }
        self.flush(ctx);
        self.roll(ctx);
        if self.encoder.encoded_bytes() == 0 { Progress::Done } else { Progress::Pending }
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, _ctx: &OperatorContext<'_>) {
        self.finished.on_cut(checkpoint);
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.finished.is_settled(checkpoint)
    }

    fn on_completed(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        self.finished.on_completed(checkpoint);
        self.commit(ctx);
    }

    fn owes_commit(&self) -> bool {
        self.finished.owes_commit()
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for (name, bytes) in self.finished.names() {
            writer.operator_state(&format!("{UNCOMMITTED}{name}"), &bytes);
        }
        let own = (self.task_index, self.take.number().unwrap_or(0));
        for (task_index, number) in self.finished.numbers(own) {
            writer.operator_state(&format!("{NUMBER}{task_index:05}"), &number);
        }
        let directory = self.directory.display().to_string();
        writer.operator_state(&format!("{DIRECTORY}{:05}", self.task_index), &directory);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let own = self.directory.display().to_string();
        let before = reader.operator_state::<String>(DIRECTORY)?;
        if let Some((_, other)) = before.iter().find(|(_, before)| *before != own) {
            return Err(Error::Plan {
                problems: vec![format!(
                    "{}: it wrote to {other} before, and what is whole there waits for a \
                     checkpoint: let it write there, or give it another uid",
                    ctx.name()
                )],
            });
        }
        for (name, bytes) in reader.operator_state::<u64>(UNCOMMITTED)? {
            let name = name.trim_start_matches(UNCOMMITTED);
            self.finished.restore(&self.directory, name, bytes, ctx)?;
        }
        let place = ctx.env().task;
        for (name, number) in reader.operator_state::<u64>(NUMBER)? {
            if let Ok(task_index) = name.trim_start_matches(NUMBER).parse::<u32>()
                && task_index % place.parallelism == place.task_index
            {
                self.finished.restore_number(task_index, number);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
