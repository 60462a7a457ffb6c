//! One task's half of a file source: which splits it reads, and what it asks of the disk.
//!
//! ```text
//! waiting splits ──► ahead (opened, first bytes read) ──► current ──► finished
//! ```
//!
//! The next split is opened while the current one is read, so that many small files are read
//! without a pause. The next one is announced before the current one is said to be finished: there
//! is no moment without a split in which the watermark could run ahead.
//!
//! Splits that had begun before a restore, on whatever tasks, are all read from its beginning on,
//! side by side: each held event time back, and goes on doing so. With them is read what comes
//! before them and had not begun, because another task was to read it.

use std::collections::VecDeque;
use std::io;

use millstream_storage::io::{FileAnswer, FileDone, FileFault, FileId, FileOp, OpId, OpenMode};

use super::FileSource;
use super::discovery::{Discovery, NoSplits};
use super::line_count::{LineCount, Mark};
use super::read_ahead::Size;
use super::split::{FinishedSplit, Progress, SplitState};
use super::split_reader::{Next, SplitReader, changed};
use crate::connector::file_error;
use crate::connector::format::fault::report;
use crate::connector::format::{Decode, Fault, Format, Taken};
use crate::data::row::NO_EVENT_TIME;
use crate::error::Error;
use crate::operator::env::TaskPlace;
use crate::operator::source::{SourceOutput, SourceReader, SourceStatus};
use crate::operator::{OperatorContext, SplitEvent};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Records that a split hands on before another that is read beside it has its turn.
const TURN_RECORDS: u32 = 64;

/// Files of a listing that are looked at in one turn, at some 300 ns each.
const DEAL_FILES: u32 = 64;

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
    finished: Vec<FinishedSplit>,
    /// Where lines were counted to last.
    line_mark: Option<Mark>,
    /// Which of the current splits is read next.
    turn: usize,
    /// Operations whose answers do not matter any more.
    retired: Vec<OpId>,
    /// The output has been told that there is nothing to read for now.
    is_idle: bool,
    place: TaskPlace,
}

/// What a task remembers beside its splits.
#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Listed {
    /// A listing has been dealt out.
    is_dealt: bool,
    /// Above all numbers of its splits.
    next_number: u32,
    finished: Vec<FinishedSplit>,
}

struct OpenSplit<D> {
    reader: SplitReader<D>,
    file: FileId,
    /// None once the file is open.
    open_op: Option<OpId>,
    /// A record that cannot be read, while the lines before it are counted.
    bad: Option<(Fault, Taken)>,
    count: Option<LineCount>,
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
            line_mark: None,
            turn: 0,
            retired: Vec::new(),
            is_idle: false,
            place: task,
        }
    }

    fn list(&mut self, ctx: &OperatorContext<'_>) {
        if let Some(pattern) = self.discovery.wish(ctx.processing_time_ms()) {
            let (pattern, together) = (pattern.to_string(), self.discovery.together());
            let op = ctx.file(|op| FileOp::List { op, pattern, together });
            self.discovery.asked(op);
        }
    }

    /// Goes on with the listing that there was last.
    fn deal(&mut self, ctx: &OperatorContext<'_>) {
        if !self.discovery.is_dealing() {
            return;
        }
        ctx.env().spend_more(DEAL_FILES);
        match self.discovery.deal(DEAL_FILES as usize, ctx.processing_time_ms()) {
            Ok(states) => self.waiting.extend(states),
            Err(reason) => ctx.fail(self.no_splits(reason, ctx)),
        }
    }

    /// Opens splits and announces them, as far as they may be read now.
    fn begin_splits(&mut self, ctx: &OperatorContext<'_>, out: &mut impl SourceOutput<F::Record>) {
        if self.discovery.must_list() {
            return;
        }
        loop {
            let wanted_count = self.current_count.max(self.source.side_by_side) + AHEAD_COUNT;
            while self.open.len() < wanted_count
                && let Some(state) = self.waiting.pop_front()
            {
                let (file, op) = ctx.open_file(state.split.path.clone().into(), OpenMode::Read);
                let decoder = self.source.format.decoder();
                let reader = SplitReader::new(state, decoder, self.source.piece_bytes);
                let open = OpenSplit { reader, file, open_op: Some(op), bad: None, count: None };
                self.open.push_back(open);
            }
            let Some(next) = self.open.get(self.current_count).map(|open| &open.reader) else {
                return;
            };
            if !self.may_begin(next) {
                return;
            }
            ctx.name_split(next.number(), next.path(), "byte");
            out.on_split(SplitEvent::Active(next.number()));
            self.current_count += 1;
            self.is_idle = false;
        }
    }

    /// Whether `next` is read beside the current splits.
    fn may_begin(&self, next: &SplitReader<F::Decoder>) -> bool {
        let mut current = self.open.iter().take(self.current_count).map(|open| &open.reader);
        next.had_begun()
            || self.current_count < self.source.side_by_side
            || current.all(|current| current.had_begun() && next.split() < current.split())
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
            if open.count.is_some() {
                return Turn::Waits;
            }
            if !ctx.env().spend() {
                return Turn::BudgetSpent;
            }
            let next = match open.bad.take() {
                Some((fault, taken)) => Next::Bad { fault, taken },
                None => open.reader.next(),
            };
            match next {
                Next::Record { position, value } => {
                    left -= 1;
                    out.emit(number, position, NO_EVENT_TIME, value);
                }
                Next::Bad { fault, taken } if !open.reader.knows_line() => {
                    open.bad = Some((fault, taken));
                    open.count_lines(&mut self.line_mark, ctx);
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
        self.begin_splits(ctx, out);
        out.on_split(SplitEvent::Finished(done.reader.number()));
        self.finished.push(done.reader.finished());
    }

    fn status(&mut self, out: &mut impl SourceOutput<F::Record>) -> SourceStatus {
        if self.discovery.is_dealing() {
            return SourceStatus::Ready;
        }
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
        self.discovery.on_listed(files);
    }

    /// What it means that a listing gives no splits.
    fn no_splits(&self, reason: NoSplits, ctx: &OperatorContext<'_>) -> Error {
        match reason {
            NoSplits::NoFile => {
                let source = io::Error::new(io::ErrorKind::NotFound, "no file is there");
                let action = format!("find files {}", self.source.pattern);
                file_error(ctx, FileFault { action, source }, |_| NO_FILE_ADVICE)
            }
            NoSplits::Unfit(file) => {
                let reason = "the file's name is not UTF-8; rename it".to_string();
                Error::Input { place: file.path, reason }
            }
            NoSplits::Grown { path } => {
                let reason = "the file has become longer since it was found, and a watched file is \
                              read once; give what is new a name of its own, and put it in place \
                              when it is complete (write it elsewhere, then rename)";
                Error::Input { place: path, reason: reason.to_string() }
            }
        }
    }

    fn on_split_done(&mut self, index: usize, done: FileDone, ctx: &OperatorContext<'_>) {
        let open = &mut self.open[index];
        match done.result {
            Ok(FileAnswer::Opened { size_bytes }) => {
                open.open_op = None;
                open.check(open.reader.compare(size_bytes), ctx);
                if let Err(source) = open.reader.on_opened(size_bytes) {
                    let action = format!("decompress {}", open.reader.path());
                    ctx.fail(Error::System { action, advice: None, source });
                }
                open.ask_if_reading(ctx);
            }
            Ok(FileAnswer::Read { bytes }) if open.is_counting_with(done.op) => {
                open.on_counted(&bytes, &mut self.line_mark, ctx);
            }
            Ok(FileAnswer::Read { bytes }) => {
                let reads = open.reader.reads_mut().expect("an open file has reads");
                let size = reads.on_read(done.op, bytes);
                open.check(size, ctx);
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

    /// Stops the job if the file has changed.
    fn check(&self, size: Size, ctx: &OperatorContext<'_>) {
        if size != Size::Kept {
            let (place, reason) = (self.reader.path().to_string(), changed(size).reason);
            ctx.fail(Error::Input { place, reason });
        }
    }

    /// Begins to count the lines before the next record, from `mark` if that helps.
    fn count_lines(&mut self, mark: &mut Option<Mark>, ctx: &OperatorContext<'_>) {
        let (path, target) = (self.reader.path(), self.reader.position());
        self.count = Some(LineCount::new(path, target, mark.as_ref()));
        self.go_on_counting(mark, ctx);
    }

    fn go_on_counting(&mut self, mark: &mut Option<Mark>, ctx: &OperatorContext<'_>) {
        let Some(count) = &mut self.count else { return };
        if let Some(wish) = count.wish() {
            let file = self.file;
            let op = ctx.file(|op| FileOp::Read { op, file, offset: wish.offset, len: wish.len });
            count.asked(wish, op);
        } else if let Some(found) = count.result() {
            self.reader.set_line(found.line);
            *mark = Some(found.clone());
            self.count = None;
        }
    }

    fn is_counting_with(&self, op: OpId) -> bool {
        self.count.as_ref().is_some_and(|count| count.is_waiting_for(op))
    }

    fn on_counted(&mut self, bytes: &[u8], mark: &mut Option<Mark>, ctx: &OperatorContext<'_>) {
        let count = self.count.as_mut().expect("the caller has looked");
        if count.on_read(bytes) {
            self.go_on_counting(mark, ctx);
        } else {
            self.check(Size::Shrunk, ctx);
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
            || self.is_counting_with(op)
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
        self.deal(ctx);
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
        let listed = Listed {
            is_dealt: self.discovery.has_listed(),
            next_number: self.discovery.next_number(),
            finished: self.finished.clone(),
        };
        writer.operator_state(&format!("listing/{:010}", self.place.task_index), &listed);
        let open = self.open.iter().enumerate().map(|(index, open)| {
            let mut state = open.reader.state();
            if index < self.current_count && state.progress == Progress::Waiting {
                state.progress = Progress::Begun;
            }
            state
        });
        for state in open.chain(self.waiting.iter().cloned()) {
            writer.operator_state(&state.state_name(), &state);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        _ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let listings = reader.operator_state::<Listed>("listing/")?;
        let states = reader.operator_state::<SplitState>("split/")?;
        let listings: Vec<Listed> = listings.into_iter().map(|(_, listed)| listed).collect();
        let Some(number_base) = listings.iter().map(|listed| listed.next_number).max() else {
            return Ok(());
        };
        let is_complete = listings.iter().all(|listed| listed.is_dealt);
        let mut finished: Vec<_> = listings.into_iter().flat_map(|l| l.finished).collect();
        let states = states.into_iter().map(|(_, state)| state).collect();
        let mut own = self.discovery.restore(states, &finished, number_base, is_complete);
        own.sort_by_key(|state| state.progress == Progress::Waiting);
        self.waiting = own.into();
        // Each is in the next snapshot once, whoever has read it.
        let TaskPlace { task_index, parallelism, .. } = self.place;
        finished.retain(|split| split.key.task_index(parallelism) == task_index);
        self.finished = finished;
        Ok(())
    }
}
