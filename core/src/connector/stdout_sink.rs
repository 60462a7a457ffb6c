//! Writes records to standard output, a line or more each.
//!
//! Records of one batch are written together when it ends, so that a terminal shows them at once
//! and a pipe is not filled byte by byte. Lines of several tasks do not mix within a line. While
//! whoever reads them lags, the sink takes no rows; when he has gone, the job ends. What has not
//! been written is in snapshots, so that whoever lags holds no checkpoint up.

use std::io;

use millstream_storage::io::{FileAnswer, FileDone};
use serde::Serialize;

use crate::connector::format::{CsvEncoder, Encode, JsonLinesEncoder, TextEncoder};
use crate::connector::unwritten::Unwritten;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Requests under way beyond which the sink takes no more rows: one is being written, one waits.
const PRINT_COUNT_MAX: u32 = 2;

/// A sink to standard output, in the format of its encoder.
#[derive(Debug)]
pub struct StdoutSink<E> {
    encoder: E,
    /// Requests that have not been answered.
    print_count: u32,
    unwritten: Unwritten,
    /// Memory of the last that was.
    spare: Vec<u8>,
    task_index: u32,
}

impl<E: Clone> Clone for StdoutSink<E> {
    fn clone(&self) -> Self {
        Self::new(self.encoder.clone())
    }
}

impl<T: std::fmt::Display + 'static> StdoutSink<TextEncoder<T>> {
    /// Every record as its `Display` says.
    pub fn text() -> Self {
        Self::new(TextEncoder::default())
    }
}

impl<T: Serialize + 'static> StdoutSink<JsonLinesEncoder<T>> {
    /// Every record as a line of JSON.
    pub fn json_lines() -> Self {
        Self::new(JsonLinesEncoder::default())
    }
}

impl<T: Serialize + 'static> StdoutSink<CsvEncoder<T>> {
    /// Every record as a line of CSV; each task begins with a header.
    pub fn csv() -> Self {
        Self::new(CsvEncoder::default())
    }
}

impl<E> StdoutSink<E> {
    fn new(encoder: E) -> Self {
        let (unwritten, spare) = (Unwritten::default(), Vec::new());
        Self { encoder, print_count: 0, unwritten, spare, task_index: 0 }
    }
}

impl<E: Encode> StdoutSink<E> {
    fn flush(&mut self, ctx: &OperatorContext<'_>) {
        let lines = self.encoder.take(std::mem::take(&mut self.spare));
        if lines.is_empty() {
            self.spare = lines;
        } else {
            self.print(lines, ctx);
        }
    }

    fn print(&mut self, lines: Vec<u8>, ctx: &OperatorContext<'_>) {
        self.print_count += 1;
        self.unwritten.begin(&lines, ctx);
        ctx.print(lines);
    }
}

impl<E: Encode> Operator for StdoutSink<E> {
    type In = E::Record;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless().detailed(format!("standard output ({})", self.encoder.describe()))
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.task_index = ctx.env().task.task_index;
        Ok(())
    }

    fn on_row(
        &mut self,
        row: Row<E::Record>,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        if let Err(reason) = self.encoder.encode(&row.value) {
            super::fail_to_encode(ctx, &reason);
        }
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) -> Option<i64> {
        self.flush(ctx);
        None
    }

    fn on_end(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        self.flush(ctx);
        if self.print_count == 0 { Progress::Done } else { Progress::Pending }
    }

    fn is_ready(&self) -> bool {
        self.print_count < PRINT_COUNT_MAX
    }

    fn on_file_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        self.print_count -= 1;
        self.unwritten.end();
        match done.result {
            Ok(FileAnswer::Written { bytes }) => self.spare = bytes,
            Ok(other) => ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {other:?}"))),
            Err(fault) => ctx.fail(super::file_error(ctx, fault, advice)),
        }
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        self.flush(ctx);
        Progress::Done
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.unwritten.snapshot(self.task_index, writer);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.unwritten.restore(reader, ctx)?;
        while let Some(lines) = self.unwritten.pop() {
            self.print(lines, ctx);
        }
        Ok(())
    }
}

/// What to do if standard output cannot be written.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::BrokenPipe => {
            "whoever read it has gone: use a reader that stays to the end, or write to files"
        }
        _ => "make room where it leads to, or lead it elsewhere, then start the job again",
    }
}

#[cfg(test)]
mod tests {
    use millstream_storage::io::FileFault;

    use super::*;
    use crate::connector::testing::{NoOutput, context};
    use crate::testing::task_env;

    fn check<E: Encode<Record = (u32, &'static str)>>(mut sink: StdoutSink<E>, expected: &str) {
        let env = task_env(0, 1);
        let ctx = context(&env, "out");
        let mut text = Vec::new();
        sink.on_row((1, "a").into(), &ctx, &mut NoOutput(&env));
        assert!(env.requests.borrow().prints.is_empty(), "lines wait for the end of the batch");
        sink.on_batch_end(&ctx, &mut NoOutput(&env));
        assert!(sink.is_ready());
        sink.on_row((2, "b").into(), &ctx, &mut NoOutput(&env));
        assert_eq!(sink.on_end(&ctx, &mut NoOutput(&env)), Progress::Pending);
        assert!(!sink.is_ready(), "two requests are under way");
        for (op, bytes) in env.requests.take().prints {
            text.extend_from_slice(&bytes);
            let done = FileDone { op, result: Ok(FileAnswer::Written { bytes }) };
            sink.on_file_done(done, &ctx, &mut NoOutput(&env));
        }
        assert!(sink.is_ready());
        assert_eq!(sink.on_end(&ctx, &mut NoOutput(&env)), Progress::Done);
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_reader_that_has_gone_stops_the_job() {
        let env = task_env(0, 1);
        let ctx = context(&env, "out");
        let mut sink = StdoutSink::text();
        sink.on_row(7.into(), &ctx, &mut NoOutput(&env));
        sink.on_batch_end(&ctx, &mut NoOutput(&env));
        let (op, _) = env.requests.take().prints.remove(0);
        let source = std::io::ErrorKind::BrokenPipe.into();
        let fault = FileFault { action: "write to standard output".to_string(), source };
        sink.on_file_done(FileDone { op, result: Err(fault) }, &ctx, &mut NoOutput(&env));
        let error = env.take_failure().expect("it cannot go on").chain();
        let expected = "operator out: could not write to standard output: broken pipe; whoever";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn lines_are_written_in_the_chosen_format() {
        check(StdoutSink::json_lines(), "[1,\"a\"]\n[2,\"b\"]\n");
        check(StdoutSink::csv(), "1,a\n2,b\n");
    }

    #[test]
    fn a_record_without_a_representation_stops_the_job() {
        let env = task_env(0, 1);
        let keys_are_no_texts = std::collections::BTreeMap::from([((1, 2), 3)]);
        let mut sink = StdoutSink::json_lines();
        sink.on_row(keys_are_no_texts.into(), &context(&env, "out"), &mut NoOutput(&env));
        let error = env.take_failure().expect("it cannot go on");
        assert_eq!(
            error.to_string(),
            "a record for operator out: it cannot be written as JSON: key must be a string; \
             change the record's type, or take another format"
        );
    }
}
