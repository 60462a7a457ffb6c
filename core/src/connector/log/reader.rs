//! One task's half of a log source: its partitions, and when it looks for more.
//!
//! ```text
//! listing, every interval ──► partition 0, 2, 4, ... of task 0 of 2 ──► records, in turn
//! ```
//!
//! A partition that has been read to what is committed is idle: that is evidence, and its number is
//! that of its split. All partitions that a listing has first are announced together, before any
//! record, so none of them runs ahead of the others in event time.
//!
//! Not here: one partition (`partition_reader.rs`).

use std::collections::BTreeMap;
use std::io;

use millstream_storage::io::{FileAnswer, FileDone, FileEntry, FileFault, FileOp, OpId};

use super::name::{SegmentId, Stage};
use super::partition_reader::{PartitionReader, Position, Said, Step};
use super::sink::PARTITION_COUNT_MAX;
use super::source::{LogSource, Start};
use super::{advice, is_gone};
use crate::connector::file_error;
use crate::connector::format::fault::report;
use crate::connector::format::{Decode, Decoded, Fault, Format, Place};
use crate::error::Error;
use crate::operator::env::TaskPlace;
use crate::operator::source::{SourceOutput, SourceReader, SourceStatus};
use crate::operator::{OperatorContext, SplitEvent};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Records that a partition hands on before another has its turn.
const TURN_RECORDS: u32 = 64;

/// What a partition's name in a snapshot begins with; its number follows.
const PARTITION: &str = "partition/";

/// A task's index follows: whether it has listed the log.
const LISTED: &str = "listed/";

const NO_LOG_ADVICE: &str = "correct the path, or begin with the job that writes the log: a log \
                             that is read up to its end has to be there";

/// One task's half of a [`LogSource`].
pub struct LogReader<F: Format> {
    source: LogSource<F>,
    decoder: F::Decoder,
    place: TaskPlace,
    partitions: Vec<PartitionReader>,
    /// Positions of a snapshot whose partitions no listing has had yet.
    positions: BTreeMap<u32, Position>,
    /// A listing has been dealt out, here or by all tasks before a restore.
    has_listed: bool,
    /// The listing under way.
    list_op: Option<OpId>,
    /// When it lists next, processing time, ms since 1970.
    list_ms: i64,
    /// The output has been told that the task has no partition.
    is_idle: bool,
    /// Which partition is read next.
    turn: usize,
}

/// How a partition's turn ended.
enum Turn {
    BudgetSpent,
    Over,
    Rests,
    Failed,
}

impl<F: Format> LogReader<F> {
    pub(super) fn new(source: LogSource<F>, place: TaskPlace) -> Self {
        Self {
            decoder: source.format.decoder(),
            source,
            place,
            partitions: Vec::new(),
            positions: BTreeMap::new(),
            has_listed: false,
            list_op: None,
            list_ms: i64::MIN,
            is_idle: false,
            turn: 0,
        }
    }

    fn list(&mut self, ctx: &OperatorContext<'_>) {
        if self.list_op.is_none() && self.list_ms <= ctx.processing_time_ms() {
            self.partitions.iter_mut().for_each(PartitionReader::on_list_asked);
            let path = self.source.directory.clone();
            self.list_op = Some(ctx.file(|op| FileOp::ListDirectory { op, path }));
        }
    }

    /// The log has these files now.
    fn on_listed(&mut self, files: &[FileEntry], ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let interval_ms = self.source.poll_interval.as_millis() as i64;
        self.list_ms = ctx.processing_time_ms().saturating_add(interval_ms);
        let ids = files.iter().filter_map(|file| SegmentId::of(&file.path));
        let mut ids: Vec<SegmentId> =
            ids.filter(|(_, stage)| *stage == Stage::Committed).map(|(id, _)| id).collect();
        if ids.is_empty() && self.source.is_bounded && !self.has_listed {
            return Err(no_log(self.source.directory.display(), ctx));
        }
        let TaskPlace { task_index, parallelism, .. } = self.place;
        ids.retain(|id| id.partition % parallelism == task_index);
        ids.sort_unstable();
        let mut listed: BTreeMap<u32, Vec<SegmentId>> = BTreeMap::new();
        for id in ids {
            listed.entry(id.partition).or_default().push(id);
        }
        self.add_partitions(&listed);
        self.has_listed = true;
        for partition in &mut self.partitions {
            let number = partition.position().partition;
            partition.on_listed(listed.remove(&number).unwrap_or_default(), ctx)?;
        }
        Ok(())
    }

    /// Adds those that are to be read and were not known.
    fn add_partitions(&mut self, listed: &BTreeMap<u32, Vec<SegmentId>>) {
        let is_new =
            |number: &u32| self.partitions.iter().all(|it| it.position().partition != *number);
        let numbers: Vec<u32> = listed.keys().copied().filter(is_new).collect();
        for number in numbers {
            let at = self.positions.remove(&number);
            let LogSource { directory, format_name, start, is_bounded, .. } = &self.source;
            if at.is_none() && self.has_listed && *is_bounded {
                continue;
            }
            let at = at.unwrap_or(Position { partition: number, next: None, until: None });
            let start = match start {
                // It was not there when the job was started.
                Start::Latest if self.has_listed => Start::Earliest,
                start => *start,
            };
            let (log, range) = ((directory.as_path(), *format_name), (start, *is_bounded));
            self.partitions.push(PartitionReader::new(log, range, at));
        }
    }

    /// Tells the output of partitions that it does not know.
    fn announce(&mut self, ctx: &OperatorContext<'_>, out: &mut impl SourceOutput<F::Record>) {
        let name = self.source.directory.display();
        for partition in &mut self.partitions {
            if partition.said == Said::Nothing {
                let number = partition.position().partition;
                ctx.name_split(number, format!("{name}, partition {number}"), "record");
                out.on_split(SplitEvent::Active(number));
                partition.said = Said::Active;
            }
        }
    }

    /// Lets partition `index` hand on records until its turn is over.
    fn read(
        &mut self,
        index: usize,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<F::Record>,
    ) -> Turn {
        let mut left = if self.partitions.len() > 1 { TURN_RECORDS } else { u32::MAX };
        while 0 < left {
            if !ctx.env().spend() {
                return Turn::BudgetSpent;
            }
            let step = match self.partitions[index].step(ctx) {
                Ok(step) => step,
                Err(error) => {
                    ctx.fail(error);
                    return Turn::Failed;
                }
            };
            let partition = &mut self.partitions[index];
            let number = partition.position().partition;
            match step {
                Step::Record => {
                    left -= 1;
                    if partition.said == Said::Idle {
                        partition.said = Said::Active;
                        out.on_split(SplitEvent::Active(number));
                    }
                    self.hand_on(index, ctx, out);
                    if ctx.env().has_failed() {
                        return Turn::Failed;
                    }
                }
                Step::Wait => return Turn::Rests,
                Step::MustList => {
                    self.list_ms = i64::MIN;
                    return Turn::Rests;
                }
                Step::AtEnd => {
                    if partition.said == Said::Active {
                        partition.said = Said::Idle;
                        out.on_split(SplitEvent::Idle(number));
                    }
                    return Turn::Rests;
                }
                Step::Finished => {
                    if partition.said != Said::Finished {
                        partition.said = Said::Finished;
                        partition.finish(ctx);
                        out.on_split(SplitEvent::Finished(number));
                    }
                    return Turn::Rests;
                }
            }
        }
        Turn::Over
    }

    /// Decodes the record that partition `index` has found.
    fn hand_on(
        &mut self,
        index: usize,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<F::Record>,
    ) {
        let partition = &self.partitions[index];
        let split = partition.position().partition;
        let (number, event_time_ms, bytes) = partition.record();
        let fault = match self.decoder.decode(bytes, true) {
            Decoded::Record(value, taken) if taken.bytes == bytes.len() => {
                return out.emit(split, number, event_time_ms, value);
            }
            Decoded::Bad(fault, _) => fault,
            Decoded::Record(..) => Fault::of_record("it has more than one line"),
            Decoded::Nothing(_) | Decoded::More => Fault::of_record("it is no whole record"),
        };
        // What it remembers of the record is no use for the next.
        self.decoder = self.source.format.decoder();
        let log = format!("{}, partition {split}", self.source.directory.display());
        report(ctx, self.source.on_error, Place::Log { log: &log, number }, &fault, bytes);
    }

    fn status(&mut self, out: &mut impl SourceOutput<F::Record>) -> SourceStatus {
        let is_over = self.partitions.iter().all(|partition| partition.said == Said::Finished);
        if self.source.is_bounded && self.has_listed && is_over && self.positions.is_empty() {
            return SourceStatus::Ended;
        }
        if self.has_listed && self.partitions.is_empty() && !self.is_idle {
            self.is_idle = true;
            out.on_split(SplitEvent::Idle(PARTITION_COUNT_MAX));
        }
        SourceStatus::Waiting(self.list_op.is_none().then_some(self.list_ms))
    }
}

/// A log that is to be read up to its end is not there.
fn no_log(directory: impl std::fmt::Display, ctx: &OperatorContext<'_>) -> Error {
    let source = io::Error::new(io::ErrorKind::NotFound, "no log is there");
    let action = format!("read the log {directory}");
    file_error(ctx, FileFault { action, source }, |_| NO_LOG_ADVICE)
}

impl<F: Format> SourceReader for LogReader<F> {
    type Out = F::Record;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<F::Record>,
    ) -> SourceStatus {
        if ctx.env().has_failed() {
            return SourceStatus::Waiting(None);
        }
        self.list(ctx);
        self.announce(ctx, out);
        // Partitions in a row that could hand on nothing.
        let mut rested = 0;
        while rested < self.partitions.len() {
            let index = self.turn % self.partitions.len();
            let number = self.partitions[index].position().partition;
            let is_paused = ctx.env().paused_splits.borrow().contains(&number);
            let turn = if is_paused { Turn::Rests } else { self.read(index, ctx, out) };
            self.turn = index + 1;
            match turn {
                Turn::BudgetSpent => return SourceStatus::Ready,
                Turn::Over => rested = 0,
                Turn::Rests => rested += 1,
                Turn::Failed => return SourceStatus::Waiting(None),
            }
        }
        self.list(ctx);
        self.status(out)
    }

    fn on_file_done(&mut self, done: FileDone, ctx: &OperatorContext<'_>) {
        let result = if self.list_op == Some(done.op) {
            self.list_op = None;
            match done.result {
                Ok(FileAnswer::Listed { files }) => self.on_listed(&files, ctx),
                // Whoever writes it has not begun.
                Err(fault) if is_gone(&fault) => self.on_listed(&[], ctx),
                Ok(answer) => {
                    Err(Error::bug(ctx.name(), format!("a listing was answered by {answer:?}")))
                }
                Err(fault) => Err(file_error(ctx, fault, advice)),
            }
        } else {
            match self.partitions.iter_mut().find(|it| it.is_waiting_for(done.op)) {
                Some(partition) => partition.on_done(done, ctx),
                None => Err(Error::bug(ctx.name(), format!("unexpected answer {done:?}"))),
            }
        };
        if let Err(error) = result {
            ctx.fail(error);
        }
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        let read = self.partitions.iter().map(PartitionReader::position);
        for position in read.chain(self.positions.values().copied()) {
            writer.operator_state(&format!("{PARTITION}{:05}", position.partition), &position);
        }
        writer.operator_state(&format!("{LISTED}{:05}", self.place.task_index), &self.has_listed);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        _ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let TaskPlace { task_index, parallelism, .. } = self.place;
        for (_, position) in reader.operator_state::<Position>(PARTITION)? {
            if position.partition % parallelism == task_index {
                self.positions.insert(position.partition, position);
            }
        }
        let listed = reader.operator_state::<bool>(LISTED)?;
        self.has_listed = !listed.is_empty() && listed.iter().all(|(_, has_listed)| *has_listed);
        Ok(())
    }
}
