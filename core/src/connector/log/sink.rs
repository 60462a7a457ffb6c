//! Writing a log: what it is to be like, and the operator that writes it.
//!
//! ```text
//! record ─► number of its partition ─► task (number % tasks) ─► partition.rs ─► segments
//! ```
//!
//! A partition is written by one task, so the records reach the task that has it by an exchange of
//! their own: [`AnyStream::log`](crate::api::AnyStream::log) puts it there.
//!
//! With checkpoints, what was written appears when one is complete that has it. Without, it appears
//! an interval after it was written.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use millstream_storage::io::{FileAnswer, FileDone, OpId};
use serde::Serialize;

use super::partition::{End, Layout, Partition};
use super::take::Take;
use super::{advice, is_gone};
use crate::connector::format::{Encode, JsonLinesEncoder, TextEncoder};
use crate::connector::{fail_to_encode, file_error};
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::{Appearance, Facts};
use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// A segment ends at this size, unless said otherwise.
const SEGMENT_BYTES: u64 = 128 << 20;

/// Without checkpoints, records appear after this time, unless said otherwise.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Writes of a task under way. With more it lets its inputs wait.
const WRITES_MAX: usize = 8;

/// Most partitions of a log.
pub const PARTITION_COUNT_MAX: u32 = 10_000;

/// What a partition's name in a snapshot begins with; its number follows.
const PARTITION: &str = "partition/";

/// A task's index follows: where it writes.
const DIRECTORY: &str = "directory/";

/// A log to write: see the [module](super).
///
/// ```
/// use millstream::prelude::*;
/// # #[derive(Debug, Clone, serde::Serialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// # struct Payment { card: u64 }
/// let job = Job::new("payments");
/// let payments = job.source("cards", GeneratorSource::new(100, |n| Payment { card: n % 7 }));
/// let log = LogSink::json_lines("logs/payments").partitions(4);
/// payments.log("log", log.keyed_by(|payment: &Payment| payment.card));
/// ```
pub struct LogSink<E: Encode, R = InTurn> {
    layout: Layout,
    commit_interval: Duration,
    encoder: E,
    route: R,
}

/// Which partition a record belongs to.
pub trait Route<T>: Clone + Send + 'static {
    /// The number of its partition, of `partition_count`.
    fn partition(&mut self, record: &T, partition_count: u32) -> u32;
}

/// Each partition in turn.
#[derive(Debug, Clone, Copy, Default)]
pub struct InTurn {
    next: u32,
}

impl<T> Route<T> for InTurn {
    fn partition(&mut self, _record: &T, partition_count: u32) -> u32 {
        let partition = self.next % partition_count;
        self.next = partition + 1;
        partition
    }
}

/// By a key: all records of one are in one partition, in their order.
#[derive(Debug, Clone)]
pub struct ByKey<K, F> {
    key: F,
    keys: PhantomData<fn() -> K>,
}

impl<T, K, F> Route<T> for ByKey<K, F>
where
    K: Key + 'static,
    F: FnMut(&T) -> K + Clone + Send + 'static,
{
    fn partition(&mut self, record: &T, partition_count: u32) -> u32 {
        let hash64 = (self.key)(record).hash64();
        ((u128::from(hash64) * u128::from(partition_count)) >> 64) as u32
    }
}

impl<T: Serialize + 'static> LogSink<JsonLinesEncoder<T>> {
    /// Every record as JSON.
    pub fn json_lines(directory: impl Into<PathBuf>) -> Self {
        Self::of(directory, JsonLinesEncoder::default())
    }
}

impl<T: std::fmt::Display + 'static> LogSink<TextEncoder<T>> {
    /// Every record as a line of text, as its `Display` says.
    pub fn text(directory: impl Into<PathBuf>) -> Self {
        Self::of(directory, TextEncoder::default())
    }
}

impl<E: Encode> LogSink<E> {
    fn of(directory: impl Into<PathBuf>, encoder: E) -> Self {
        let layout = Layout {
            directory: directory.into(),
            partition_count: 1,
            segment_bytes: SEGMENT_BYTES,
            retain_bytes: None,
            retain_for: None,
            format: encoder.extension(),
        };
        Self { layout, commit_interval: COMMIT_INTERVAL, encoder, route: InTurn::default() }
    }

    /// Puts all records of a key into one partition. Without it, records are dealt out in turn.
    pub fn keyed_by<K, F>(self, key: F) -> LogSink<E, ByKey<K, F>>
    where
        K: Key + 'static,
        F: FnMut(&E::Record) -> K + Clone + Send + 'static,
    {
        let Self { layout, commit_interval, encoder, route: _ } = self;
        LogSink { layout, commit_interval, encoder, route: ByKey { key, keys: PhantomData } }
    }
}

impl<E: Encode, R> LogSink<E, R> {
    /// How many partitions the log has, from its first record on. Default 1: all records in one
    /// order, written by one task and read by one.
    pub fn partitions(mut self, count: u32) -> Self {
        self.layout.partition_count = count;
        self
    }

    /// A segment ends with the first checkpoint at which it has `bytes`. Default 128 MiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.layout.segment_bytes = bytes;
        self
    }

    /// Removes a partition's oldest segments while it has `bytes` without them.
    pub fn retain_bytes(mut self, bytes: u64) -> Self {
        self.layout.retain_bytes = Some(bytes);
        self
    }

    /// Removes segments that were written to last so long ago, in processing time.
    pub fn retain_for(mut self, time: Duration) -> Self {
        self.layout.retain_for = Some(time);
        self
    }

    /// Without checkpoints, records appear `interval` after they were written. Default 1 s.
    pub fn commit_interval(self, interval: Duration) -> Self {
        Self { commit_interval: interval, ..self }
    }

    /// How many partitions it has.
    pub(crate) fn partition_count(&self) -> u32 {
        // Zero is a mistake that the plan names.
        self.layout.partition_count.max(1)
    }

    /// Which partition a record belongs to, and what writes it there.
    pub(crate) fn into_parts(
        self,
    ) -> (impl FnMut(&E::Record) -> u64 + Clone + Send + 'static, LogWriter<E>)
    where
        R: Route<E::Record>,
    {
        let partition_count = self.partition_count();
        let Self { layout, commit_interval, encoder, mut route } = self;
        let number = move |record: &E::Record| route.partition(record, partition_count).into();
        (number, LogWriter::new(layout, commit_interval, encoder))
    }
}

/// Writes the partitions of a log that are its task's.
pub struct LogWriter<E> {
    layout: Layout,
    commit_interval: Duration,
    encoder: E,
    /// Set when the sink is opened.
    task_index: u32,
    take: Take,
    /// What the checkpoint says that the job goes on from, until the partitions are there.
    ends: BTreeMap<u32, End>,
    /// Partition `i` of the task has the number `i * tasks + task`.
    partitions: Vec<Partition>,
    /// The newest checkpoint that is complete.
    completed: CheckpointId,
    /// Processing time (ms) of the first record that is not sealed, if there are no checkpoints.
    begun_ms: Option<i64>,
    /// At its end, it has asked for a checkpoint.
    has_asked: bool,
    /// Memory for an encoded record.
    record: Vec<u8>,
    /// Memory of answered writes.
    spare: Vec<Vec<u8>>,
}

impl<E: Encode> LogWriter<E> {
    fn new(layout: Layout, commit_interval: Duration, encoder: E) -> Self {
        Self {
            layout,
            commit_interval,
            encoder,
            task_index: 0,
            take: Take::Not,
            ends: BTreeMap::new(),
            partitions: Vec::new(),
            completed: CheckpointId(0),
            begun_ms: None,
            has_asked: false,
            record: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Which checkpoint is to be complete before something appears; none if there are none.
    fn completed(&self, ctx: &OperatorContext<'_>) -> Option<CheckpointId> {
        ctx.has_checkpoints().then_some(self.completed)
    }

    /// Lets what was written so far appear together.
    fn seal(&mut self, ctx: &OperatorContext<'_>) {
        for partition in &mut self.partitions {
            partition.flush(&self.layout, &mut self.spare, ctx);
            partition.seal(&self.layout, ctx);
        }
        self.begun_ms = None;
    }

    fn is_removing(&self, op: OpId) -> bool {
        self.partitions.iter().any(|partition| partition.is_removing(op))
    }

    fn on_partition_done(&mut self, op: OpId, ctx: &OperatorContext<'_>) {
        let completed = self.completed(ctx);
        match self.partitions.iter_mut().find(|it| it.is_waiting_for(op)) {
            Some(partition) => partition.on_done(op, &self.layout, completed, ctx),
            None => ctx.fail(Error::bug(ctx.name(), format!("an unexpected answer to {op:?}"))),
        }
    }
}

impl<E: Encode> Clone for LogWriter<E> {
    fn clone(&self) -> Self {
        Self::new(self.layout.clone(), self.commit_interval, self.encoder.clone())
    }
}

impl<E: Encode> Operator for LogWriter<E> {
    type In = E::Record;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let Layout { directory, partition_count, segment_bytes, .. } = &self.layout;
        let mut problems = self.encoder.problems();
        if directory.as_os_str().is_empty() {
            problems.push("the directory of the log is empty; give one".to_string());
        }
        if !(1..=PARTITION_COUNT_MAX).contains(partition_count) {
            problems.push(format!("a log has 1 to {PARTITION_COUNT_MAX} partitions"));
        }
        if *segment_bytes == 0 || self.commit_interval.is_zero() {
            let problem = "a segment must end at a size, and records appear at a time, above zero";
            problems.push(problem.to_string());
        }
        let noun = if *partition_count == 1 { "partition" } else { "partitions" };
        let detail = format!(
            "log {} ({}, {partition_count} {noun})",
            directory.display(),
            self.encoder.describe()
        );
        Facts {
            directory: Some(directory.clone()),
            is_stateful: true,
            appearance: Appearance::WithCheckpoints,
            problems,
            ..Facts::stateless().detailed(detail)
        }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.task_index = ctx.env().task.task_index;
        self.take = Take::begin(&self.layout.directory, ctx);
        Ok(())
    }

    fn on_row(
        &mut self,
        row: Row<E::Record>,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        if let Err(reason) = self.encoder.encode(&row.value) {
            return fail_to_encode(ctx, &reason);
        }
        self.record = self.encoder.take(std::mem::take(&mut self.record));
        let place = ctx.env().task;
        // The exchange before it has put the partition's number there.
        let index = row.hash64 / u64::from(place.parallelism);
        let task_index = row.hash64 % u64::from(place.parallelism);
        debug_assert_eq!(task_index, u64::from(place.task_index), "a task has its partitions");
        let partition = &mut self.partitions[index as usize];
        partition.push(row.event_time_ms, &self.record);
        if partition.has_batch() {
            partition.flush(&self.layout, &mut self.spare, ctx);
        }
        if self.begun_ms.is_none() && !ctx.has_checkpoints() {
            self.begun_ms = Some(ctx.processing_time_ms());
        }
    }

    fn next_time_ms(&self) -> Option<i64> {
        let interval_ms = i64::try_from(self.commit_interval.as_millis()).unwrap_or(i64::MAX);
        self.begun_ms.map(|begun_ms| begun_ms.saturating_add(interval_ms))
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        self.seal(ctx);
        Progress::Done
    }

    fn is_ready(&self) -> bool {
        let write_count: usize = self.partitions.iter().map(Partition::write_count).sum();
        self.take.is_taken() && write_count < WRITES_MAX
    }

    fn on_file_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        if self.take.is_waiting_for(done.op) {
            if let Some(partitions) = self.take.on_done(done, &self.layout, &self.ends, ctx) {
                self.partitions = partitions;
                self.ends.clear();
            }
            return;
        }
        match done.result {
            Ok(FileAnswer::Written { bytes }) => {
                if self.spare.len() < WRITES_MAX {
                    self.spare.push(bytes);
                }
                self.on_partition_done(done.op, ctx);
            }
            Ok(_) => self.on_partition_done(done.op, ctx),
            Err(fault) if is_gone(&fault) && self.is_removing(done.op) => {
                self.on_partition_done(done.op, ctx);
            }
            Err(fault) => ctx.fail(file_error(ctx, fault, advice)),
        }
    }

    fn on_end(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        if self.take.is_taken() {
            self.seal(ctx);
            let completed = self.completed(ctx);
            for partition in &mut self.partitions {
                partition.finish();
                partition.commit(&self.layout, completed, ctx);
            }
            if self.partitions.iter().all(Partition::is_at_rest) {
                self.take.release(ctx);
            } else if ctx.has_checkpoints() && !std::mem::replace(&mut self.has_asked, true) {
                ctx.want_checkpoint();
            }
        }
        if self.take.is_released() { Progress::Done } else { Progress::Pending }
    }

    /// A checkpoint is about what is written.
    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if ctx.has_checkpoints() {
            self.seal(ctx);
        }
        Progress::Done
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, _ctx: &OperatorContext<'_>) {
        self.partitions.iter_mut().for_each(|partition| partition.on_cut(checkpoint));
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.partitions.iter().all(|partition| partition.is_settled(checkpoint))
    }

    fn on_completed(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        self.completed = self.completed.max(checkpoint);
        let completed = self.completed(ctx);
        for partition in &mut self.partitions {
            partition.commit(&self.layout, completed, ctx);
        }
    }

    fn owes_commit(&self) -> bool {
        self.partitions.iter().any(|partition| partition.owes_commit(self.completed))
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        let ends = self.partitions.iter().filter_map(|it| Some((it.number(), it.end()?)));
        for (number, end) in ends.chain(self.ends.iter().map(|(number, end)| (*number, *end))) {
            writer.operator_state(&format!("{PARTITION}{number:05}"), &end);
        }
        let directory = self.layout.directory.display().to_string();
        writer.operator_state(&format!("{DIRECTORY}{:05}", self.task_index), &directory);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let own = self.layout.directory.display().to_string();
        let before = reader.operator_state::<String>(DIRECTORY)?;
        if let Some((_, other)) = before.iter().find(|(_, before)| *before != own) {
            return Err(Error::Plan {
                problems: vec![format!(
                    "{}: it wrote the log {other} before, and what is written there waits for a \
                     checkpoint: let it write there, or give it another uid",
                    ctx.name()
                )],
            });
        }
        let place = ctx.env().task;
        for (_, end) in reader.operator_state::<End>(PARTITION)? {
            let number = end.segment.partition;
            if number % place.parallelism == place.task_index {
                self.ends.insert(number, end);
            }
        }
        Ok(())
    }
}
