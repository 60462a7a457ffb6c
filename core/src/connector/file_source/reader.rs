//! One task's half of a file source: which splits it reads, and what it asks of the disk.
//!
//! ```text
//! waiting splits ──► ahead (opened, first bytes read) ──► current ──► finished
//! ```
//!
//! The next split is opened while the current one is read, so that many small files are read
//! without a pause. The next one is announced before the current one is said to be finished: there
//! is no moment without a split in which the watermark could run ahead.

use std::collections::VecDeque;
use std::io;

use millstream_storage::io::{FileAnswer, FileDone, FileFault, FileId, FileOp, OpId, OpenMode};

use super::FileSource;
use super::discovery::{Discovery, NoSplits};
use super::split::{Progress, SplitState};
use super::split_reader::{Next, SplitReader};
use crate::connector::file_error;
use crate::connector::format::fault::report;
use crate::connector::format::{Decode, Format};
use crate::data::row::NO_EVENT_TIME;
use crate::error::Error;
use crate::operator::env::TaskPlace;
use crate::operator::source::{SourceOutput, SourceReader, SourceStatus};
use crate::operator::{OperatorContext, SplitEvent};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Records that a split hands on before another that is read beside it has its turn.
const TURN_RECORDS: u32 = 64;

/// Splits opened before their turn.
const AHEAD_COUNT: usize = 1;

const NO_FILE_ADVICE: &str = "correct the path or pattern, put the files there before the job \
                              starts, or watch for them with .watch(..)";

/// One task's half of a [`FileSource`].
pub struct FileReader<F: Format> {
    source: FileSource<F>,
    discovery: Discovery,
    waiting: VecDeque<SplitState>,
    /// Open, or being opened; the first `current_count` have been announced.
    open: VecDeque<OpenSplit<F::Decoder>>,
    current_count: usize,
    finished: Vec<SplitState>,
    /// Which of the current splits is read next.
    turn: usize,
    /// Operations whose answers do not matter any more.
    retired: Vec<OpId>,
    /// The output has been told that there is nothing to read for now.
    is_idle: bool,
    task_index: u32,
}

struct OpenSplit<D> {
    reader: SplitReader<D>,
    file: FileId,
    /// None once the file is open.
    open_op: Option<OpId>,
}

/// How a split's turn ended.
enum Turn {
    BudgetSpent,
    Over,
    Waits,
    Finished,
    Failed,
}

impl<F: Format> FileReader<F> {
    pub(super) fn new(source: FileSource<F>, task: TaskPlace) -> Self {
        let range_bytes = source.split_bytes.filter(|_| source.format.is_splittable());
        let interval_ms = source.watch.map(|interval| interval.as_millis() as i64);
        let discovery = Discovery::new(source.pattern.clone(), range_bytes, interval_ms, task);
        Self {
            source,
            discovery,
            waiting: VecDeque::new(),
            open: VecDeque::new(),
            current_count: 0,
            finished: Vec::new(),
            turn: 0,
            retired: Vec::new(),
            is_idle: false,
            task_index: task.task_index,
        }
    }

    fn list(&mut self, ctx: &OperatorContext<'_>) {
        if let Some(pattern) = self.discovery.wish(ctx.processing_time_ms()) {
            let (pattern, together) = (pattern.to_string(), self.discovery.together());
            let op = ctx.file(|op| FileOp::List { op, pattern, together });
            self.discovery.asked(op);
        }
    }

    /// Opens splits and announces them, as far as they may be read now.
    fn begin_splits(&mut self, ctx: &OperatorContext<'_>, out: &mut impl SourceOutput<F::Record>) {
        let side_by_side = self.source.side_by_side;
        while self.open.len() < side_by_side + AHEAD_COUNT {
            let Some(state) = self.waiting.pop_front() else { break };
            let (file, op) = ctx.open_file(state.split.path.clone().into(), OpenMode::Read);
            let decoder = self.source.format.decoder();
            let reader = SplitReader::new(state, decoder, self.source.piece_bytes);
            self.open.push_back(OpenSplit { reader, file, open_op: Some(op) });
        }
        while self.current_count < side_by_side.min(self.open.len()) {
            let reader = &self.open[self.current_count].reader;
            ctx.name_split(reader.number(), reader.path(), "byte");
            out.on_split(SplitEvent::Active(reader.number()));
            self.current_count += 1;
            self.is_idle = false;
        }
    }

    /// Lets split `index` of `open` hand on records until its turn is over.
    fn read(
        &mut self,
        index: usize,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<F::Record>,
    ) -> Turn {
        let open = &mut self.open[index];
        let number = open.reader.number();
        let mut left = if self.current_count > 1 { TURN_RECORDS } else { u32::MAX };
        loop {
            if left == 0 {
                return Turn::Over;
            }
            if !ctx.env().spend() {
                return Turn::BudgetSpent;
            }
            match open.reader.next() {
                Next::Record { position, value } => {
                    left -= 1;
                    out.emit(number, position, NO_EVENT_TIME, value);
                }
                Next::Bad { fault, taken } => {
                    let raw = &open.reader.raw()[..taken.bytes];
                    report(ctx, self.source.on_error, open.reader.place(), &fault, raw);
                    open.reader.pass(taken);
                    if ctx.env().has_failed() {
                        return Turn::Failed;
                    }
                }
                Next::Busy => open.ask(ctx),
                Next::Wait => {
                    open.ask(ctx);
                    return Turn::Waits;
                }
                Next::End => return Turn::Finished,
                Next::Broken { place, fault } => {
                    ctx.fail(Error::Input { place, reason: fault.reason });
                    return Turn::Failed;
                }
            }
        }
    }

    /// Closes split `index` of `open`, announcing its successor first.
    fn finish(
        &mut self,
        index: usize,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<F::Record>,
    ) {
        let mut done = self.open.remove(index).expect("it was just read");
        self.current_count -= 1;
        if let Some(reads) = done.reader.reads_mut() {
            self.retired.extend(reads.ops());
        }
        self.retired.push(ctx.file(|op| FileOp::Close { op, file: done.file }));
        let mut state = done.reader.state();
        state.progress = Progress::Finished;
        self.begin_splits(ctx, out);
        out.on_split(SplitEvent::Finished(state.number));
        self.finished.push(state);
    }

    fn status(&mut self, out: &mut impl SourceOutput<F::Record>) -> SourceStatus {
        if self.open.is_empty() && self.waiting.is_empty() {
            if self.discovery.is_complete() {
                return SourceStatus::Ended;
            }
            if self.discovery.has_listed() && !self.is_idle {
                self.is_idle = true;
                out.on_split(SplitEvent::Idle(self.discovery.next_number()));
            }
        }
        SourceStatus::Waiting(self.discovery.next_ms())
    }

    fn on_listed(&mut self, answer: FileAnswer, ctx: &OperatorContext<'_>) {
        let FileAnswer::Listed { files } = answer else {
            return ctx.fail(Error::bug(ctx.name(), "a listing was answered by something else"));
        };
        match self.discovery.on_listed(files, ctx.processing_time_ms()) {
            Ok(states) => self.waiting.extend(states),
            Err(NoSplits::NoFile) => {
                let source = io::Error::new(io::ErrorKind::NotFound, "no file is there");
                let action = format!("find files {}", self.source.pattern);
                ctx.fail(file_error(ctx, FileFault { action, source }, |_| NO_FILE_ADVICE));
            }
            Err(NoSplits::Unfit(file)) => {
                let reason = "the file's name is not UTF-8; rename it".to_string();
                ctx.fail(Error::Input { place: file.path, reason });
            }
        }
    }

    fn on_split_done(&mut self, index: usize, done: FileDone, ctx: &OperatorContext<'_>) {
        let open = &mut self.open[index];
        match done.result {
            Ok(FileAnswer::Opened { size_bytes }) => {
                open.open_op = None;
                if let Err(source) = open.reader.on_opened(size_bytes) {
                    let action = format!("decompress {}", open.reader.path());
                    ctx.fail(Error::System { action, source });
                }
                open.ask_if_reading(ctx);
            }
            Ok(FileAnswer::Read { bytes }) => {
                let reads = open.reader.reads_mut().expect("an open file has reads");
                if !reads.on_read(done.op, bytes)
                    && let Next::Broken { place, fault } = open.reader.shrunk::<F::Record>()
                {
                    ctx.fail(Error::Input { place, reason: fault.reason });
                }
            }
            Ok(answer) => {
                ctx.fail(Error::bug(ctx.name(), format!("a read was answered by {answer:?}")));
            }
            Err(fault) => ctx.fail(file_error(ctx, fault, advice)),
        }
    }
}

impl<D: Decode> OpenSplit<D> {
    /// Asks for the reads that should be under way.
    fn ask(&mut self, ctx: &OperatorContext<'_>) {
        while let Some(wish) = self.reader.wish() {
            let file = self.file;
            let op = ctx.file(|op| FileOp::Read { op, file, offset: wish.offset, len: wish.len });
            self.reader.asked(wish, op);
        }
    }

    /// The same as soon as the file is open, unless it is to be read from its middle.
    fn ask_if_reading(&mut self, ctx: &OperatorContext<'_>) {
        if self.reader.reads_from_start() {
            self.ask(ctx);
        }
    }

    fn is_waiting_for(&mut self, op: OpId) -> bool {
        self.open_op == Some(op)
            || self.reader.reads_mut().is_some_and(|reads| reads.is_waiting_for(op))
    }
}

/// What to do about a file or directory that cannot be read.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "put it there, or correct the path",
        io::ErrorKind::PermissionDenied => {
            "let the user that runs the job read it (for a directory: read and enter)"
        }
        io::ErrorKind::InvalidInput => "correct the pattern",
        _ => "check the disk and the mount, then start the job again",
    }
}

impl<F: Format> SourceReader for FileReader<F> {
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
        self.begin_splits(ctx, out);
        // Splits in a row that could hand on nothing.
        let mut rested = 0;
        while rested < self.current_count {
            let index = self.turn % self.current_count;
            let number = self.open[index].reader.number();
            if ctx.env().paused_splits.borrow().contains(&number) {
                self.turn = index + 1;
                rested += 1;
                continue;
            }
            match self.read(index, ctx, out) {
                Turn::BudgetSpent => {
                    self.turn = index + 1;
                    return SourceStatus::Ready;
                }
                Turn::Over => {
                    self.turn = index + 1;
                    rested = 0;
                }
                Turn::Waits => {
                    self.turn = index + 1;
                    rested += 1;
                }
                Turn::Finished => {
                    self.finish(index, ctx, out);
                    self.turn = index;
                    rested = 0;
                }
                Turn::Failed => return SourceStatus::Waiting(None),
            }
        }
        self.status(out)
    }

    fn on_file_done(&mut self, done: FileDone, ctx: &OperatorContext<'_>) {
        if let Some(index) = self.retired.iter().position(|op| *op == done.op) {
            self.retired.swap_remove(index);
            return;
        }
        if self.discovery.is_waiting_for(done.op) {
            return match done.result {
                Ok(answer) => self.on_listed(answer, ctx),
                Err(fault) => ctx.fail(file_error(ctx, fault, advice)),
            };
        }
        match self.open.iter_mut().position(|open| open.is_waiting_for(done.op)) {
            Some(index) => self.on_split_done(index, done, ctx),
            None => ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {done:?}"))),
        }
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        let listing = format!("listing/{:010}", self.task_index);
        writer.operator_state(&listing, &self.discovery.has_listed());
        let open = self.open.iter().map(|open| open.reader.state());
        let states = self.finished.iter().cloned().chain(open).chain(self.waiting.iter().cloned());
        for state in states {
            writer.operator_state(&state.state_name(), &state);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        _ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let listings = reader.operator_state::<bool>("listing/")?;
        let states = reader.operator_state::<SplitState>("split/")?;
        if listings.is_empty() {
            return Ok(());
        }
        let is_complete = listings.iter().all(|(_, has_listed)| *has_listed);
        let states = states.into_iter().map(|(_, state)| state).collect();
        let own = self.discovery.restore(states, is_complete);
        let is_finished = |state: &SplitState| state.progress == Progress::Finished;
        let (finished, waiting): (Vec<_>, Vec<_>) = own.into_iter().partition(is_finished);
        self.finished = finished;
        self.waiting = waiting.into();
        Ok(())
    }
}
