//! What operators see of the world, and what they may ask of it.
//!
//! One [`TaskEnv`] per task. Its fields are cells because an operator and everything behind it in
//! the chain hold it at the same time; a shard is one thread, so a cell costs what a field costs.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use millstream_net::io::SocketOp;
use millstream_storage::io::{FileId, FileOp, OpId, OpenMode};

use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::row::{NO_EVENT_TIME, Origin, Row};
use crate::error::Error;
use crate::limits::{CHAIN_COUNT_MAX, SHARD_COUNT_MAX, STAGE_COUNT_MAX};
use crate::operator::blocking::BlockingCall;
use crate::operator::side_output::SideOutputs;
use crate::operator::split_names::SplitNames;
use crate::state::operator_list::OperatorLists;
use crate::state::shard_store::ShardStore;

/// The environment of one task.
#[derive(Debug)]
pub struct TaskEnv {
    /// Which task of how many of the chain.
    pub task: TaskPlace,
    /// Where operators put state that they have no room for; none if all of it stays in memory.
    /// Set before they are opened.
    pub store: OnceCell<Rc<ShardStore>>,
    /// Whether checkpoints are taken: operators that can, commit what they write with them. Set
    /// before they are opened.
    pub has_checkpoints: Cell<bool>,
    /// Processing time of this turn, ms since 1970.
    pub processing_time_ms: Cell<i64>,
    /// Time of this turn, ns since the host's start: for pacing and for measuring latency.
    pub now_ns: Cell<u64>,
    /// Event time of the row being processed.
    event_time_ms: Cell<i64>,
    /// Key hash of the row being processed.
    hash64: Cell<u64>,
    /// Source position of the row being processed.
    origin: Cell<Origin>,
    /// Units of work (about a record each) that may still be done in this turn.
    budget: Cell<u32>,
    /// First failure, and the record that it is about, if it is about one; stops the job.
    failure: RefCell<Option<(Error, Origin)>>,
    /// Stage whose user code is unwinding.
    panicked_stage: Cell<Option<u16>>,
    /// Split of the last record whose origin has no room for the number.
    large_split: Cell<u32>,
    /// Asked of the world, taken by the shard after each call.
    pub requests: RefCell<Requests>,
    /// Rows for side outputs, taken by the task after each call.
    pub side_outputs: RefCell<SideOutputs>,
    /// Splits that must not be read for now, because they are too far ahead in event time.
    pub paused_splits: RefCell<Vec<u32>>,
    /// What people call the splits of this task's source.
    split_names: RefCell<SplitNames>,
    /// Smallest [`TaskEnv::source_watermark_ms`] of this source's tasks on the *other* shards, for
    /// watermark alignment. When it changes, the task has its turn even if all splits are paused.
    pub source_group_watermark_ms: Cell<i64>,
    /// How far the slowest split of this task's source has come, told to the other shards: set by
    /// the operator that makes watermarks. The maximum if nothing needs to wait for this task.
    pub source_watermark_ms: Cell<i64>,
    /// Something that an operator decided lets the task go on at once: paused splits may be read
    /// again. Stays until the feed has been asked for rows: barriers may come first.
    pub wants_turn: Cell<bool>,
    /// Rows that came after their time and were dropped or put aside.
    pub late_records: Cell<u64>,
    /// Records that could not be read and went to the dead-letter output.
    pub dead_letters: Cell<u64>,
    /// Every split of the task's source is idle: set by the operator that makes watermarks, read
    /// at the end of a batch.
    pub is_idle: Cell<bool>,
    /// Operators that rows reach without watermarks, by stage index, and from where.
    unmarked: RefCell<Vec<(u16, String)>>,
    /// The uid of the operator that is being opened.
    uid: RefCell<String>,
    next_sequence: Cell<u32>,
}

/// A task has one source at most, so its own names need no number of it.
const OWN_SOURCE: u32 = 0;

/// What is being processed: a row without its value, a timer, a window.
#[derive(Debug, Clone, Copy)]
#[must_use = "whoever enters leaves, or the operators before it go on with the wrong row"]
pub struct Cause {
    hash64: u64,
    event_time_ms: i64,
    origin: Origin,
}

/// Where a task stands in the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskPlace {
    /// Number of the chain in the physical graph.
    pub chain_index: u16,
    /// Which of its tasks.
    pub task_index: u32,
    /// How many tasks it has.
    pub parallelism: u32,
    /// Key groups of the job.
    pub key_group_count: KeyGroupCount,
}

impl TaskPlace {
    /// The key groups that the task owns.
    pub fn key_groups(&self) -> Range<u32> {
        self.key_group_count.range(self.task_index, self.parallelism)
    }

    /// The key hashes that the task owns.
    pub fn hashes(&self) -> HashRange {
        self.key_group_count.hashes(self.key_groups())
    }
}

/// What a task wants from the world.
#[derive(Debug, Default)]
pub struct Requests {
    /// For the disk.
    pub files: Vec<FileOp>,
    /// For the network.
    pub sockets: Vec<SocketOp>,
    /// For standard output, in order: whole lines, and the number of their answer.
    pub prints: Vec<(OpId, Vec<u8>)>,
    /// For a thread that may wait, in order, and the number of their answer.
    pub calls: Vec<(OpId, BlockingCall)>,
    /// What people call the splits that a source has begun to read.
    pub split_names: Vec<SplitName>,
    /// An operator ends only with a checkpoint that is triggered from now on.
    pub checkpoint: bool,
}

/// What people call a split, so that an error far downstream can name the record that caused it:
/// `payments.csv, byte 1234`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitName {
    /// Its number within the source.
    pub split: u32,
    /// A file, an address, `generator`.
    pub name: String,
    /// What its positions count: `byte` or `record`.
    pub unit: &'static str,
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.name, self.unit)
    }
}

impl TaskEnv {
    /// The environment of a task that has not begun.
    pub fn new(task: TaskPlace) -> Self {
        Self {
            task,
            store: OnceCell::new(),
            has_checkpoints: Cell::new(false),
            processing_time_ms: Cell::new(0),
            now_ns: Cell::new(0),
            event_time_ms: Cell::new(NO_EVENT_TIME),
            hash64: Cell::new(0),
            origin: Cell::new(Origin::NONE),
            budget: Cell::new(u32::MAX),
            failure: RefCell::default(),
            panicked_stage: Cell::new(None),
            large_split: Cell::new(Origin::SPLIT_COUNT_MAX - 1),
            requests: RefCell::default(),
            side_outputs: RefCell::default(),
            paused_splits: RefCell::default(),
            split_names: RefCell::default(),
            source_group_watermark_ms: Cell::new(i64::MAX),
            source_watermark_ms: Cell::new(i64::MAX),
            wants_turn: Cell::new(false),
            late_records: Cell::new(0),
            dead_letters: Cell::new(0),
            is_idle: Cell::new(false),
            unmarked: RefCell::default(),
            uid: RefCell::default(),
            next_sequence: Cell::new(0),
        }
    }

    /// The operator that is opened next has this uid.
    pub(in crate::operator) fn open_next(&self, uid: &str) {
        uid.clone_into(&mut self.uid.borrow_mut());
    }

    /// The uid of the operator that is being opened.
    pub(in crate::operator) fn opened_uid(&self) -> std::cell::Ref<'_, String> {
        self.uid.borrow()
    }

    /// `value` as a row caused by the row being processed.
    pub fn row<T>(&self, value: T) -> Row<T> {
        Row {
            hash64: self.hash64.get(),
            event_time_ms: self.event_time_ms.get(),
            origin: self.origin.get(),
            value,
        }
    }

    /// A feed hands `row` to the chain: from now on it is the row being processed.
    #[inline]
    pub fn begin_row<T>(&self, row: &Row<T>) {
        self.begin(row.hash64, row.event_time_ms, row.origin);
    }

    /// As [`TaskEnv::begin_row`], of a row that is read in place.
    #[inline]
    pub fn begin(&self, hash64: u64, event_time_ms: i64, origin: Origin) {
        self.set(Cause { hash64, event_time_ms, origin });
    }

    /// From now on `row` is the row being processed, until the answer is given to
    /// [`TaskEnv::leave`]: an operator before this one goes on with its own row then.
    #[inline]
    pub fn enter_row<T>(&self, row: &Row<T>) -> Cause {
        let outer = self.cause();
        self.begin_row(row);
        outer
    }

    /// From now on what is processed was not caused by one row: a timer, a window. Until
    /// [`TaskEnv::leave`], as with [`TaskEnv::enter_row`].
    #[inline]
    pub fn enter_time(&self, event_time_ms: i64, hash64: u64) -> Cause {
        let outer = self.cause();
        self.set(Cause { hash64, event_time_ms, origin: Origin::NONE });
        outer
    }

    /// What was entered has been processed; from now on it is `outer` again. Not called when user
    /// code unwinds, so that the row that it panicked at stays known.
    #[inline]
    pub fn leave(&self, outer: Cause) {
        self.set(outer);
    }

    #[inline]
    fn cause(&self) -> Cause {
        let (hash64, event_time_ms) = (self.hash64.get(), self.event_time_ms.get());
        Cause { hash64, event_time_ms, origin: self.origin.get() }
    }

    #[inline]
    fn set(&self, cause: Cause) {
        self.hash64.set(cause.hash64);
        self.event_time_ms.set(cause.event_time_ms);
        self.origin.set(cause.origin);
    }

    /// The record at `origin` as people call it, as far as this task knows the names.
    pub fn describe(&self, origin: Origin) -> String {
        origin.describe(&[], |_, split| {
            self.split_names.borrow().get(OWN_SOURCE, split).map(str::to_string)
        })
    }

    /// The task's source hands on a record of `split`.
    #[inline]
    pub fn enter_split(&self, split: u32) {
        if Origin::SPLIT_COUNT_MAX - 1 <= split {
            self.large_split.set(split);
        }
    }

    /// The split of the task's own source that the row being processed came from, however large its
    /// number is.
    #[inline]
    pub fn split_of(&self, origin: Origin) -> u32 {
        let split = origin.split();
        if split < Origin::SPLIT_COUNT_MAX - 1 { split } else { self.large_split.get() }
    }

    /// Rows reach the operator `stage_index` without watermarks from `sources`.
    pub(crate) fn lacks_watermarks(&self, stage_index: u16, sources: String) {
        self.unmarked.borrow_mut().push((stage_index, sources));
    }

    /// Source position of the row being processed.
    pub fn origin(&self) -> Origin {
        self.origin.get()
    }

    /// Event time (ms) of the row being processed.
    pub fn event_time_ms(&self) -> i64 {
        self.event_time_ms.get()
    }

    /// Key hash of the row being processed.
    pub fn hash64(&self) -> u64 {
        self.hash64.get()
    }

    /// Sets how much work may be done before the task must answer.
    pub fn set_budget(&self, units: u32) {
        self.budget.set(units);
    }

    /// What is left of the budget.
    #[inline]
    pub fn budget(&self) -> u32 {
        self.budget.get()
    }

    /// Takes one unit of the budget; `false` if there is none.
    #[inline]
    pub fn spend(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        left > 0
    }

    /// Takes `units` of the budget, or what is left of it, for work that has been done already.
    pub fn spend_more(&self, units: u32) {
        self.budget.set(self.budget.get().saturating_sub(units));
    }

    /// Takes the first failure, if there was one.
    pub fn take_failure(&self) -> Option<Error> {
        self.take_failure_at().map(|(error, _)| error)
    }

    /// As [`TaskEnv::take_failure`], and the record that it is about.
    pub fn take_failure_at(&self) -> Option<(Error, Origin)> {
        self.failure.take()
    }

    /// Counts a row that came after its time.
    pub fn count_late(&self) {
        self.late_records.set(self.late_records.get() + 1);
    }

    /// Whether something failed; nothing more should be processed.
    pub fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Records a failure; only the first counts.
    pub fn fail(&self, error: Error) {
        self.fail_at(error, Origin::NONE);
    }

    /// Records a failure over the record at `origin`; only the first counts.
    pub fn fail_at(&self, error: Error, origin: Origin) {
        self.failure.borrow_mut().get_or_insert((error, origin));
    }

    /// Which stage's user code panicked, after an unwinding.
    pub fn panicked_stage(&self) -> Option<u16> {
        self.panicked_stage.get()
    }
}

/// What one operator sees: the task's environment, and itself.
#[derive(Debug, Clone, Copy)]
pub struct OperatorContext<'a> {
    env: &'a TaskEnv,
    name: &'a str,
    stage_index: u16,
    watermark_ms: i64,
}

impl<'a> OperatorContext<'a> {
    /// The context of the operator `name`, `stage_index`th of its chain.
    pub fn new(env: &'a TaskEnv, name: &'a str, stage_index: u16, watermark_ms: i64) -> Self {
        Self { env, name, stage_index, watermark_ms }
    }

    /// The same, for a row that came when event time had come to `watermark_ms`.
    pub(in crate::operator) fn behind(&self, watermark_ms: i64) -> Self {
        Self { watermark_ms, ..*self }
    }

    /// The task's environment.
    pub fn env(&self) -> &'a TaskEnv {
        self.env
    }

    /// Which operator of the chain it is.
    pub fn stage_index(&self) -> u16 {
        self.stage_index
    }

    /// The operator's name in the plan.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// No row at or before this event time (ms) is still expected; [`NO_EVENT_TIME`] at first.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Processing time of this turn, ms since 1970.
    pub fn processing_time_ms(&self) -> i64 {
        self.env.processing_time_ms.get()
    }

    /// Time of this turn, ns since the host's start.
    pub fn now_ns(&self) -> u64 {
        self.env.now_ns.get()
    }

    /// Something waits for event time: stops the job if the watermark may never come.
    #[inline]
    pub fn waits_for_watermarks(&self, what: &str) {
        if !self.env.unmarked.borrow().is_empty() {
            self.check_watermarks(what);
        }
    }

    #[cold]
    fn check_watermarks(&self, what: &str) {
        let unmarked = self.env.unmarked.borrow();
        let sources = unmarked.iter().find(|(stage_index, _)| *stage_index == self.stage_index);
        if let Some((_, sources)) = sources {
            let problem = format!(
                "{}: {what} waits for watermarks, and rows reach it without any from {sources}: \
                 call .watermark(..) in between",
                self.name
            );
            self.fail(Error::Plan { problems: vec![problem] });
        }
    }

    /// Where an operator or a source of a user's own declares lists that belong to no key, in
    /// `open`: see [`OperatorLists`].
    pub fn lists(&self) -> OperatorLists {
        OperatorLists::of_task(self.env.task.task_index, self.env.task.parallelism)
    }

    /// Tells the world what split `split` of this source is called and what its positions count.
    pub fn name_split(&self, split: u32, name: impl Into<String>, unit: &'static str) {
        let name = SplitName { split, name: name.into(), unit };
        self.env.split_names.borrow_mut().insert(OWN_SOURCE, &name);
        self.env.requests.borrow_mut().split_names.push(name);
    }

    /// Whether what is written is to be committed with checkpoints; else it is when it is whole.
    pub fn has_checkpoints(&self) -> bool {
        self.env.has_checkpoints.get()
    }

    /// Asks for a checkpoint that has everything up to now: this operator cannot end before.
    pub fn want_checkpoint(&self) {
        self.env.requests.borrow_mut().checkpoint = true;
    }

    /// Stops the job with `error`.
    pub fn fail(&self, error: Error) {
        self.env.fail(error);
    }

    /// Runs user code: if it panics, the host learns which operator it was. Costs nothing while
    /// it does not.
    #[inline]
    pub fn run<R>(&self, user_code: impl FnOnce() -> R) -> R {
        let mark = MarkOnUnwind(self);
        let result = user_code();
        std::mem::forget(mark);
        result
    }

    /// Asks for a file to be opened; its id, and the operation that will be answered.
    pub fn open_file(&self, path: PathBuf, mode: OpenMode) -> (FileId, OpId) {
        let op = self.next_op();
        let file = FileId(op.0);
        self.request_file(FileOp::Open { op, file, path, mode });
        (file, op)
    }

    /// Asks for a file operation; `make` is given the number that its answer will carry.
    pub fn file(&self, make: impl FnOnce(OpId) -> FileOp) -> OpId {
        let op = self.next_op();
        self.request_file(make(op));
        op
    }

    /// Asks for a socket operation. Ids of sockets are made by [`OperatorContext::next_id`].
    pub fn socket(&self, op: SocketOp) {
        self.env.requests.borrow_mut().sockets.push(op);
    }

    /// Writes whole lines to standard output, in order with all others of this task. Answered as a
    /// write to a file is, by [`crate::operator::Operator::on_file_done`]: whoever reads standard
    /// output may be slow, and an operator that prints much should not be ready meanwhile.
    pub fn print(&self, lines: Vec<u8>) -> OpId {
        debug_assert!(lines.ends_with(b"\n"), "lines are whole");
        let op = self.next_op();
        self.env.requests.borrow_mut().prints.push((op, lines));
        op
    }

    /// Asks for a call that may block. Those of one operator of one task are made one after the
    /// other, and each is answered as a write to a file is, by
    /// [`crate::operator::Operator::on_file_done`].
    pub fn block(&self, call: BlockingCall) -> OpId {
        let op = self.next_op();
        self.env.requests.borrow_mut().calls.push((op, call));
        op
    }

    /// An id that no other operator of the job uses; answers to operations on it find their way
    /// back to this operator.
    ///
    /// ```text
    /// 62        53 52         41 40         31 30                    0
    /// │ task index │ chain index │ stage index │ sequence             │
    /// ```
    pub fn next_id(&self) -> u64 {
        let sequence = self.env.next_sequence.get();
        self.env.next_sequence.set((sequence + 1) % (1 << SEQUENCE_BITS));
        let task = u64::from(self.env.task.task_index) << (SEQUENCE_BITS + STAGE_BITS + CHAIN_BITS);
        let chain = u64::from(self.env.task.chain_index) << (SEQUENCE_BITS + STAGE_BITS);
        let stage = u64::from(self.stage_index) << SEQUENCE_BITS;
        task | chain | stage | u64::from(sequence)
    }

    fn next_op(&self) -> OpId {
        OpId(self.next_id())
    }

    fn request_file(&self, op: FileOp) {
        self.env.requests.borrow_mut().files.push(op);
    }
}

/// Which chain and stage an id made by [`OperatorContext::next_id`] belongs to.
pub fn owner_of(id: u64) -> (u16, u16) {
    let field = |shift: u32, bits: u32| (id >> shift) as u16 & ((1 << bits) - 1);
    (field(SEQUENCE_BITS + STAGE_BITS, CHAIN_BITS), field(SEQUENCE_BITS, STAGE_BITS))
}

/// Which operator of which task asked for `op`.
pub fn lane_of(op: OpId) -> u64 {
    op.0 >> SEQUENCE_BITS
}

const SEQUENCE_BITS: u32 = 31;
const STAGE_BITS: u32 = 10;
const CHAIN_BITS: u32 = 12;
const _: () = assert!(STAGE_COUNT_MAX == 1 << STAGE_BITS && CHAIN_COUNT_MAX == 1 << CHAIN_BITS);
const _: () = assert!(SHARD_COUNT_MAX == 1 << (63 - SEQUENCE_BITS - STAGE_BITS - CHAIN_BITS));

/// Notes the stage when it is dropped by unwinding; it is forgotten otherwise.
struct MarkOnUnwind<'a, 'b>(&'a OperatorContext<'b>);

impl Drop for MarkOnUnwind<'_, '_> {
    fn drop(&mut self) {
        let slot = &self.0.env.panicked_stage;
        if slot.get().is_none() {
            slot.set(Some(self.0.stage_index));
        }
    }
}
