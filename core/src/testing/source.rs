//! [`SourceHarness`]: one task's half of a source, with a test in the place of the task.

use std::fmt;
use std::time::Duration;

use millstream_net::io::{SocketDone, SocketOp};
use millstream_storage::io::{FileDone, FileOp};

use crate::data::row::{NO_EVENT_TIME, Origin, Row};
use crate::error::Error;
use crate::limits::KEY_GROUP_COUNT_MAX;
use crate::operator::env::{SplitName, TaskPlace};
use crate::operator::side_output::OutputTag;
use crate::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use crate::operator::{Chain, OperatorContext, SplitEvent, TaskEnv};
use crate::state::snapshot::{Snapshot, SnapshotReader, SnapshotWriter};
use crate::task::feed::SOURCE_STAGE;
use crate::testing::{MemoryDisk, OperatorHarness, task_env};

/// Polls in a row of a source that always has more. One that has more than this has no end.
const POLLS_MAX: u32 = 1_000_000;

/// Name of a source that the test did not name, and uid of every one.
const SOURCE: &str = "source";

/// One reader of a source, polled by hand. See the [module](crate::testing).
///
/// The reader is opened by the first call that reaches it.
///
/// # Panics
/// All methods panic if the source fails, unless [`SourceHarness::may_fail`] was called.
pub struct SourceHarness<S: Source> {
    source: S,
    name: String,
    reader: Option<S::Reader>,
    env: TaskEnv,
    may_fail: bool,
    budget: u32,
    has_ended: bool,
    seen: Seen<S::Out>,
}

/// A record, and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRecord<T> {
    /// Its split.
    pub split: u32,
    /// Its position within the split: a byte offset or a number.
    pub position: u64,
    /// Its event time (ms since 1970) if the source knows one; [`NO_EVENT_TIME`] otherwise.
    pub event_time_ms: i64,
    /// The record.
    pub value: T,
}

/// What the reader has handed on.
struct Seen<T> {
    records: Vec<SourceRecord<T>>,
    splits: Vec<SplitEvent>,
}

impl<T> SourceOutput<T> for Seen<T> {
    fn emit(&mut self, split: u32, position: u64, event_time_ms: i64, value: T) {
        self.records.push(SourceRecord { split, position, event_time_ms, value });
    }

    fn on_split(&mut self, event: SplitEvent) {
        self.splits.push(event);
    }
}

/// Hands everything on to operators.
struct IntoOperators<'a, C: Chain> {
    operators: &'a mut OperatorHarness<C>,
    splits: &'a mut Vec<SplitEvent>,
}

impl<C: Chain> SourceOutput<C::In> for IntoOperators<'_, C> {
    fn emit(&mut self, split: u32, position: u64, event_time_ms: i64, value: C::In) {
        self.operators.env().enter_split(split);
        let row = Row::new(value, event_time_ms, Origin::new(0, split, position));
        self.operators.take_row(row);
    }

    fn on_split(&mut self, event: SplitEvent) {
        self.splits.push(event);
        self.operators.take_split(event);
    }
}

/// Calls the reader with the context of its source.
macro_rules! call {
    ($self:ident, |$reader:ident, $ctx:ident| $call:expr) => {{
        $self.open_or_panic();
        let $ctx = &context(&$self.env, &$self.name);
        let $reader = $self.reader.as_mut().expect("opened above");
        $call
    }};
}

fn context<'a>(env: &'a TaskEnv, name: &'a str) -> OperatorContext<'a> {
    OperatorContext::new(env, name, SOURCE_STAGE, NO_EVENT_TIME)
}

impl<S: Source> SourceHarness<S> {
    /// Around one reader of the source: the only one, if [`SourceHarness::task`] is not called.
    pub fn new(source: S) -> Self {
        Self {
            source,
            name: SOURCE.to_string(),
            reader: None,
            env: task_env(0, 1),
            may_fail: false,
            budget: u32::MAX,
            has_ended: false,
            seen: Seen { records: Vec::new(), splits: Vec::new() },
        }
    }

    /// What error messages call the source; `source` if this is not called.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_string();
        self
    }

    /// It is the reader of task `task_index` of `parallelism`.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn task(mut self, task_index: u32, parallelism: u32) -> Self {
        assert!(task_index < parallelism && parallelism <= KEY_GROUP_COUNT_MAX);
        assert!(self.reader.is_none(), "the source has been opened");
        self.env.task = TaskPlace { task_index, parallelism, ..self.env.task };
        self
    }

    /// Processing time when it begins, ms since 1970; 0 if this is not called.
    pub fn starting_at(self, processing_time_ms: i64) -> Self {
        self.env.processing_time_ms.set(processing_time_ms);
        self
    }

    /// Reads the side output `tag` of the source, its dead letters.
    pub fn reading<T: 'static>(self, tag: OutputTag<T>) -> Self {
        self.env.side_outputs.borrow_mut().register(SOURCE_STAGE, tag);
        self
    }

    /// A failure of the source does not end the test; [`SourceHarness::take_failure`] shows it.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// From now on a poll gives at most `records`.
    pub fn set_budget(&mut self, records: u32) {
        self.budget = records;
    }

    /// Opens the reader; any other call does, too.
    ///
    /// # Errors
    /// Whatever makes it impossible to read.
    pub fn open(&mut self) -> Result<(), Error> {
        if self.reader.is_none() {
            self.reader = Some(self.source.open(&context(&self.env, &self.name))?);
        }
        Ok(())
    }

    /// Lets the reader hand on records, which [`SourceHarness::take_records`] shows.
    pub fn poll(&mut self) -> SourceStatus {
        self.env.set_budget(self.budget);
        let status = call!(self, |reader, ctx| reader.poll(ctx, &mut self.seen));
        self.settle(status)
    }

    /// As [`SourceHarness::poll`], but the records go into `operators`, whose batch ends then; and
    /// whose input ends when the source does. Splits that a strategy for watermarks among them has
    /// paused are left alone.
    pub fn poll_into<C>(&mut self, operators: &mut OperatorHarness<C>) -> SourceStatus
    where
        C: Chain<In = S::Out>,
    {
        operators.ready();
        let paused = operators.env().paused_splits.borrow().clone();
        self.env.paused_splits.replace(paused);
        self.env.set_budget(self.budget);
        let status = call!(self, |reader, ctx| {
            let splits = &mut self.seen.splits;
            reader.poll(ctx, &mut IntoOperators { operators: &mut *operators, splits })
        });
        operators.end_batch();
        let had_ended = self.has_ended;
        if self.settle(status) == SourceStatus::Ended && !had_ended {
            operators.end();
        }
        status
    }

    /// Polls until the reader waits for something, has ended, or has failed.
    ///
    /// # Panics
    /// If it never does.
    pub fn run(&mut self) -> SourceStatus {
        for _ in 0..POLLS_MAX {
            let status = self.poll();
            if status != SourceStatus::Ready || self.env.has_failed() {
                return status;
            }
        }
        panic!("the source always has more: call `poll` as often as you like");
    }

    /// As [`SourceHarness::run`]; file operations are carried out by `disk`.
    ///
    /// # Panics
    /// If it never waits for anything else, ends or fails.
    pub fn run_on(&mut self, disk: &mut MemoryDisk) -> SourceStatus {
        for _ in 0..POLLS_MAX {
            let status = self.poll();
            disk.accept(&self.env);
            if status == SourceStatus::Ended || self.env.has_failed() {
                return status;
            }
            match disk.answer() {
                Some(done) => self.file_done(done),
                None if status == SourceStatus::Ready => {}
                None => return status,
            }
        }
        panic!("the source always has more: call `poll` as often as you like");
    }

    /// It is this processing time now, ms since 1970.
    pub fn processing_time(&mut self, processing_time_ms: i64) {
        let passed_ms = processing_time_ms - self.env.processing_time_ms.get();
        let passed = Duration::from_millis(u64::try_from(passed_ms).expect("time goes forward"));
        self.env.now_ns.set(self.env.now_ns.get() + passed.as_nanos() as u64);
        self.env.processing_time_ms.set(processing_time_ms);
    }

    /// The splits that must not be read from now on: those too far ahead in event time.
    pub fn pause(&mut self, splits: &[u32]) {
        self.env.paused_splits.replace(splits.to_vec());
    }

    /// The source shall end as if its input had. Answers whether it holds records that its input
    /// would not give again; if so, it is polled until it has ended.
    pub fn drain(&mut self) -> bool {
        let holds_more = call!(self, |reader, ctx| reader.drain(ctx));
        self.check();
        holds_more
    }

    /// Whether nothing will ever come again.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The records handed on since the last call.
    pub fn take_records(&mut self) -> Vec<SourceRecord<S::Out>> {
        std::mem::take(&mut self.seen.records)
    }

    /// As [`SourceHarness::take_records`], without times and positions.
    pub fn take_values(&mut self) -> Vec<S::Out> {
        self.take_records().into_iter().map(|record| record.value).collect()
    }

    /// What became of splits since the last call.
    pub fn take_splits(&mut self) -> Vec<SplitEvent> {
        std::mem::take(&mut self.seen.splits)
    }

    /// What people call the splits that the reader has begun since the last call.
    pub fn take_split_names(&mut self) -> Vec<SplitName> {
        std::mem::take(&mut self.env.requests.borrow_mut().split_names)
    }

    /// What went to a side output since the last call.
    ///
    /// # Panics
    /// If the harness does not read it, or it is of another type.
    pub fn take_side_output<T: 'static>(&mut self, tag: OutputTag<T>) -> Vec<T> {
        let mut sides = self.env.side_outputs.borrow_mut();
        let rows = sides.rows(SOURCE_STAGE, tag).expect("the tag that `reading` was called with");
        let rows = rows.expect("`reading` was called");
        rows.drain(..).map(|row| row.value).collect()
    }

    /// The file operations that the reader has asked for since the last call.
    pub fn take_file_ops(&mut self) -> Vec<FileOp> {
        std::mem::take(&mut self.env.requests.borrow_mut().files)
    }

    /// A file operation has been answered.
    pub fn file_done(&mut self, done: FileDone) {
        call!(self, |reader, ctx| reader.on_file_done(done, ctx));
        self.check();
    }

    /// The socket operations that the reader has asked for since the last call.
    pub fn take_socket_ops(&mut self) -> Vec<SocketOp> {
        std::mem::take(&mut self.env.requests.borrow_mut().sockets)
    }

    /// Something has happened on a socket of the reader.
    pub fn socket_done(&mut self, done: SocketDone) {
        call!(self, |reader, ctx| reader.on_socket_done(done, ctx));
        self.check();
    }

    /// The positions that the reader would write into a checkpoint.
    pub fn snapshot(&mut self) -> Snapshot {
        self.open_or_panic();
        let mut snapshot = Snapshot::default();
        let reader = self.reader.as_ref().expect("opened above");
        reader.snapshot(&mut SnapshotWriter::new(&mut snapshot, SOURCE));
        snapshot
    }

    /// Begins from the positions of a snapshot, of one task or several merged.
    ///
    /// # Errors
    /// The source's, if it cannot read them.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        assert!(self.reader.is_none(), "a snapshot is restored before the first poll");
        self.open()?;
        let reader = self.reader.as_mut().expect("opened above");
        reader.restore(&SnapshotReader::new(snapshot, SOURCE), &context(&self.env, &self.name))
    }

    /// Takes the failure of the source, if there was one.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.env.take_failure()
    }

    /// The task's environment.
    pub fn env(&self) -> &TaskEnv {
        &self.env
    }

    fn settle(&mut self, status: SourceStatus) -> SourceStatus {
        self.check();
        self.has_ended |= status == SourceStatus::Ended;
        status
    }

    fn open_or_panic(&mut self) {
        if let Err(error) = self.open() {
            panic!("the source does not open: {}", error.chain());
        }
    }

    fn check(&mut self) {
        if !self.may_fail
            && let Some(error) = self.env.take_failure()
        {
            panic!("the source failed: {}", error.chain());
        }
    }
}

impl<S: Source> fmt::Debug for SourceHarness<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceHarness")
            .field("source", &self.source.describe())
            .field("task", &self.env.task)
            .field("record_count", &self.seen.records.len())
            .finish_non_exhaustive()
    }
}
