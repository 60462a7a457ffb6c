//! [`OperatorHarness`]: one task's operators, with a test in the place of the task.

mod output;
mod outside;
mod save;
mod spill;
mod state;

use std::collections::BTreeMap;
use std::fmt;

use millstream_net::io::SocketId;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME, Origin, Row};
use crate::error::Error;
use crate::limits::KEY_GROUP_COUNT_MAX;
use crate::operator::env::TaskPlace;
use crate::operator::{Chain, Operator, Progress, SplitEvent, Stage, TaskEnv};
use crate::testing::task_env;

use output::{Collect, KeyOrder, Side};
pub(super) use output::{Outcome, output_of};
use save::Saving;
use spill::Spill;

/// Calls in a row for a processing time that has come, or for the end. An operator that wants more
/// than this never lets go.
const CALLS_MAX: u32 = 100_000;

/// Name and uid of an operator that a test did not wrap in a [`Stage`] of its own.
const OPERATOR: &str = "operator";

/// An operator, or a chain of them, driven by hand. See the [module](crate::testing).
///
/// The operators are opened by the first call that reaches them. Every call goes on until nothing
/// is left to do, unless a budget is set.
///
/// # Panics
/// All methods panic if the operator fails, unless [`OperatorHarness::may_fail`] was called.
pub struct OperatorHarness<C: Chain> {
    chain: C,
    stage_count: u16,
    env: TaskEnv,
    hash_of: Option<HashOf<C::In>>,
    key_order: KeyOrder,
    unkeyed: Unkeyed,
    phase: Phase,
    may_fail: bool,
    budget: u32,
    is_time_pending: bool,
    rows: Vec<Row<C::Out>>,
    watermark_ms: i64,
    sides: Vec<Side>,
    looked_at: Option<String>,
    /// The last one that a snapshot was taken for.
    checkpoint: CheckpointId,
    stdout: Vec<u8>,
    /// The listeners of accepted connections.
    accepted: BTreeMap<SocketId, SocketId>,
    spill: Option<Spill>,
    /// The last cut, while not all of it is saved.
    saving: Option<Saving>,
}

/// How far the operators have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not opened.
    New,
    Open,
    /// The final watermark has come.
    Ending,
}

/// Where records without keys go if there are several tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unkeyed {
    ToAll,
    InTurn,
}

/// The hash of a record's key; `None` if every task gets the record.
type HashOf<T> = Box<dyn Fn(&T) -> Option<u64>>;

impl<O: Operator> OperatorHarness<Stage<O>> {
    /// Around one operator.
    pub fn new(operator: O) -> Self {
        Self::of_chain(Stage::new(operator, OPERATOR, OPERATOR))
    }

    /// The operator.
    pub fn operator(&self) -> &O {
        self.chain.operator()
    }
}

impl<C: Chain> OperatorHarness<C> {
    /// Around a chain, as `Then { first: Stage::new(..), second: Stage::new(..) }` builds it.
    pub fn of_chain(mut chain: C) -> Self {
        let mut names = Vec::new();
        chain.number(&mut names);
        Self {
            chain,
            stage_count: names.len() as u16,
            env: task_env(0, 1),
            hash_of: None,
            key_order: KeyOrder::Compared,
            unkeyed: Unkeyed::ToAll,
            phase: Phase::New,
            may_fail: false,
            budget: u32::MAX,
            is_time_pending: false,
            rows: Vec::new(),
            watermark_ms: NO_EVENT_TIME,
            sides: Vec::new(),
            looked_at: None,
            checkpoint: CheckpointId::default(),
            stdout: Vec::new(),
            accepted: BTreeMap::new(),
            spill: None,
            saving: None,
        }
    }

    /// Records get the hash of `key_of(record)`, as a stream keyed by it gives them.
    pub fn keyed_by<K: Key>(mut self, key_of: impl Fn(&C::In) -> K + 'static) -> Self {
        self.hash_of = Some(Box::new(move |record| Some(key_of(record).hash64())));
        self
    }

    /// As [`OperatorHarness::keyed_by`]; records without a key are broadcast: every task gets them.
    pub fn keyed_or_broadcast<K: Key>(
        mut self,
        key_of: impl Fn(&C::In) -> Option<K> + 'static,
    ) -> Self {
        self.hash_of = Some(Box::new(move |record| key_of(record).map(|key| key.hash64())));
        self
    }

    /// Records without keys go to any task: what comes of them must not depend on which, as it does
    /// not behind [`rebalance`](crate::api::AnyStream::rebalance). [`conformance`] rescales the
    /// operator then, and deals the records out in turn.
    ///
    /// [`conformance`]: crate::testing::conformance()
    pub fn on_any_task(mut self) -> Self {
        self.unkeyed = Unkeyed::InTurn;
        self
    }

    /// It is task `task_index` of `parallelism`; alone if this is not called.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn task(mut self, task_index: u32, parallelism: u32) -> Self {
        assert!(task_index < parallelism && parallelism <= KEY_GROUP_COUNT_MAX);
        assert!(self.phase == Phase::New, "the operators have been opened");
        self.env.task = TaskPlace { task_index, parallelism, ..self.env.task };
        self
    }

    /// Processing time when it begins, ms since 1970; 0 if this is not called.
    pub fn starting_at(self, processing_time_ms: i64) -> Self {
        self.env.processing_time_ms.set(processing_time_ms);
        self
    }

    /// A failure of the operator does not end the test; [`OperatorHarness::take_failure`] shows it.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// From now on every call does at most `units` of work (about a record or a timer each) and
    /// then leaves the rest to [`OperatorHarness::resume`].
    pub fn set_budget(&mut self, units: u32) {
        self.budget = units;
    }

    /// Opens the operators; any other call does, too.
    ///
    /// # Errors
    /// The first operator's that cannot run.
    pub fn open(&mut self) -> Result<(), Error> {
        if self.phase == Phase::New {
            self.phase = Phase::Open;
            self.chain.open(&self.env)?;
        }
        Ok(())
    }

    /// A record with an event time (ms) comes, and the batch that it is ends.
    pub fn push(&mut self, value: C::In, event_time_ms: i64) {
        let mut row = Row::new(value, event_time_ms, Origin::NONE);
        if let Some(hash64) = self.hash64_of(&row.value) {
            row.hash64 = hash64;
        }
        self.push_row(row);
    }

    /// A row comes as it is, and the batch that it is ends.
    ///
    /// # Panics
    /// If the row's hash belongs to another task.
    pub fn push_row(&mut self, row: Row<C::In>) {
        self.push_rows([row]);
    }

    /// A batch of rows comes.
    ///
    /// # Panics
    /// If a row's hash belongs to another task.
    pub fn push_rows(&mut self, rows: impl IntoIterator<Item = Row<C::In>>) {
        self.ready();
        let rows: Vec<Row<C::In>> = rows.into_iter().collect();
        let hashes: Vec<u64> = rows.iter().map(|row| row.hash64).collect();
        if self.hash_of.is_some() {
            let is_here =
                |row: &Row<C::In>| self.hash64_of(&row.value).is_none() || self.owns(row.hash64);
            assert!(rows.iter().all(is_here), "a row of another task");
        }
        self.chain.prefetch(Ahead { near: &[], far: &hashes });
        self.chain.prefetch(Ahead { near: &hashes, far: &[] });
        for row in rows {
            self.take_row(row);
        }
        self.end_batch();
        self.settle();
    }

    /// Something has happened to a split of the source before the operators, and a batch ends: so
    /// are strategies for watermarks told that a split is idle.
    pub fn split(&mut self, event: SplitEvent) {
        self.ready();
        self.take_split(event);
        self.end_batch();
    }

    /// No record at or before this event time (ms) is expected any more.
    pub fn watermark(&mut self, watermark_ms: i64) {
        self.ready();
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        let released = self.chain.on_watermark(watermark_ms, &self.env, &mut out);
        self.release(released);
        self.settle();
    }

    /// It is this processing time now, ms since 1970.
    pub fn processing_time(&mut self, processing_time_ms: i64) {
        self.env.processing_time_ms.set(processing_time_ms);
        self.ready();
        self.fire_time();
        self.settle();
    }

    /// Goes on with what a budget has cut short.
    pub fn resume(&mut self) {
        self.ready();
        self.answer_some();
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        let released = self.chain.resume(&self.env, &mut out);
        self.release(released);
        if self.is_time_pending || self.wants_call() {
            self.ready();
            self.fire_time();
        }
        self.settle();
    }

    /// Whether [`OperatorHarness::resume`] has something to do.
    pub fn is_pending(&self) -> bool {
        let is_cut_short = self.is_time_pending || self.wants_call();
        self.chain.is_pending() || is_cut_short || self.is_unsettled()
    }

    /// Whether an operator takes no row until processing time has called it.
    fn wants_call(&self) -> bool {
        let now_ms = self.env.processing_time_ms.get();
        !self.is_ready() && self.chain.next_time_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Whether the operators can take a row. A task gives them none while they cannot, and does not
    /// let a barrier pass: then there is nothing to restore from.
    pub fn is_ready(&self) -> bool {
        self.chain.is_ready()
    }

    /// The input ends: the final watermark, and then the operators' own end.
    ///
    /// # Panics
    /// If an operator waits for something from outside before it can end: see
    /// [`OperatorHarness::try_end`].
    pub fn end(&mut self) {
        for _ in 0..CALLS_MAX {
            if self.try_end() == Progress::Done {
                return;
            }
        }
        panic!("the operator waits for something before it can end: answer it, then `try_end`");
    }

    /// As [`OperatorHarness::end`], as far as it is possible: [`Progress::Pending`] if an operator
    /// waits for a file or a socket. To be called again when that is answered.
    pub fn try_end(&mut self) -> Progress {
        self.open_or_panic();
        if std::mem::replace(&mut self.phase, Phase::Ending) != Phase::Ending {
            self.watermark(MAX_WATERMARK);
        }
        while self.chain.is_pending() {
            assert!(0 < self.budget, "without a budget the input never ends");
            self.resume();
        }
        self.ready();
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        let progress = self.chain.on_end(&self.env, &mut out);
        self.check();
        progress
    }

    /// The watermark (ms) that has left the chain; [`NO_EVENT_TIME`] if none has.
    pub fn released_watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// The earliest processing time (ms) that the operators wait for.
    pub fn next_time_ms(&self) -> Option<i64> {
        self.chain.next_time_ms()
    }

    /// Records that came too late, whether a side output keeps them or not.
    pub fn late_count(&self) -> u64 {
        self.env.late_records.get()
    }

    /// Takes the failure of an operator, if there was one.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.env.take_failure()
    }

    /// The task's environment.
    pub fn env(&self) -> &TaskEnv {
        &self.env
    }

    /// Whether the task owns a key's hash.
    pub fn owns(&self, hash64: u64) -> bool {
        self.env.task.hashes().contains(hash64)
    }

    /// The hash that a record gets, if it has a key.
    pub(super) fn hash64_of(&self, value: &C::In) -> Option<u64> {
        self.hash_of.as_ref().and_then(|hash_of| hash_of(value))
    }

    /// Whether [`OperatorHarness::on_any_task`] was called.
    pub(super) fn is_dealt_out(&self) -> bool {
        self.unkeyed == Unkeyed::InTurn
    }

    /// Opens the operators if need be, and gives the next call its budget.
    pub(super) fn ready(&mut self) {
        self.open_or_panic();
        self.env.set_budget(self.budget);
    }

    fn open_or_panic(&mut self) {
        if let Err(error) = self.open() {
            panic!("the operator does not open: {}", error.chain());
        }
    }

    pub(super) fn take_row(&mut self, row: Row<C::In>) {
        self.env.begin_row(&row);
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        self.chain.on_row(row, &self.env, &mut out);
    }

    pub(super) fn take_split(&mut self, event: SplitEvent) {
        self.chain.on_split(event, &self.env);
    }

    pub(super) fn end_batch(&mut self) {
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        let released = self.chain.on_batch_end(&self.env, &mut out);
        self.release(released);
    }

    fn release(&mut self, released: Option<i64>) {
        self.check();
        if let Some(watermark_ms) = released {
            assert!(self.watermark_ms <= watermark_ms, "released watermarks never sink");
            self.watermark_ms = watermark_ms;
        }
    }

    fn fire_time(&mut self) {
        let now_ms = self.env.processing_time_ms.get();
        self.is_time_pending = false;
        for _ in 0..CALLS_MAX {
            if self.chain.next_time_ms().is_none_or(|due_ms| now_ms < due_ms) {
                return;
            }
            let mut out = Collect { env: &self.env, rows: &mut self.rows };
            let progress = self.chain.on_time(&self.env, &mut out);
            self.end_batch();
            if progress == Progress::Pending {
                self.is_time_pending = true;
                return;
            }
        }
        panic!("the operator asks again and again for a processing time that has come");
    }

    fn check(&mut self) {
        let _ = self.take_prints();
        if !self.may_fail
            && let Some(error) = self.env.take_failure()
        {
            panic!("the operator failed: {}", error.chain());
        }
    }
}

impl<C: Chain> fmt::Debug for OperatorHarness<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorHarness")
            .field("task", &self.env.task)
            .field("row_count", &self.rows.len())
            .field("watermark_ms", &self.watermark_ms)
            .finish_non_exhaustive()
    }
}
