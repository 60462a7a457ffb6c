//! Writes records to standard output, a line or more each.
//!
//! Records of one batch are written together when it ends, so that a terminal shows them at once
//! and a pipe is not filled byte by byte. Lines of several tasks do not mix within a line.

use serde::Serialize;

use crate::connector::format::{CsvEncoder, Encode, JsonLinesEncoder, TextEncoder};
use crate::data::row::Row;
use crate::graph::Facts;
use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress};

/// A sink to standard output, in the format of its encoder.
#[derive(Debug, Clone)]
pub struct StdoutSink<E> {
    encoder: E,
}

impl<T: std::fmt::Display + 'static> StdoutSink<TextEncoder<T>> {
    /// Every record as its `Display` says.
    pub fn text() -> Self {
        Self { encoder: TextEncoder::default() }
    }
}

impl<T: Serialize + 'static> StdoutSink<JsonLinesEncoder<T>> {
    /// Every record as a line of JSON.
    pub fn json_lines() -> Self {
        Self { encoder: JsonLinesEncoder::default() }
    }
}

impl<T: Serialize + 'static> StdoutSink<CsvEncoder<T>> {
    /// Every record as a line of CSV; each task begins with a header.
    pub fn csv() -> Self {
        Self { encoder: CsvEncoder::default() }
    }
}

impl<E: Encode> StdoutSink<E> {
    fn flush(&mut self, ctx: &OperatorContext<'_>) {
        let lines = self.encoder.take(Vec::new());
        ctx.print(&lines);
    }
}

impl<E: Encode> Operator for StdoutSink<E> {
    type In = E::Record;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts::stateless().detailed(format!("standard output ({})", self.encoder.describe()))
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
        Progress::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::testing::{NoOutput, context, task_env};

    fn check<E: Encode<Record = (u32, &'static str)>>(mut sink: StdoutSink<E>, expected: &str) {
        let env = task_env(0, 1);
        let ctx = context(&env, "out");
        sink.on_row((1, "a").into(), &ctx, &mut NoOutput(&env));
        assert_eq!(env.requests.borrow().stdout, b"", "lines wait for the end of the batch");
        sink.on_batch_end(&ctx, &mut NoOutput(&env));
        sink.on_row((2, "b").into(), &ctx, &mut NoOutput(&env));
        assert_eq!(sink.on_end(&ctx, &mut NoOutput(&env)), Progress::Done);
        assert_eq!(String::from_utf8_lossy(&env.requests.borrow().stdout), expected);
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
