//! [`OperatorHarness`]: one task's operators, with a test in the place of the task.

use std::any::Any;
use std::fmt;

use millstream_storage::io::{FileDone, FileOp};

use crate::data::ahead::Ahead;
use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::record::Record;
use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME, Origin, Row};
use crate::error::Error;
use crate::limits::KEY_GROUP_COUNT_MAX;
use crate::operator::env::{TaskPlace, owner_of};
use crate::operator::side_output::OutputTag;
use crate::operator::{Chain, Operator, Output, Progress, Stage, TaskEnv};
use crate::state::keyed::TimerKind;
use crate::state::snapshot::{Snapshot, SnapshotReader};

/// Calls in a row for a processing time that has come. An operator that wants more than this never
/// lets go.
const TIME_CALLS_MAX: u32 = 100_000;

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
    is_open: bool,
    may_fail: bool,
    budget: u32,
    is_time_pending: bool,
    rows: Vec<Row<C::Out>>,
    watermark_ms: i64,
    sides: Vec<Side>,
    looked_at: Option<String>,
}

/// Whether the order in which keys have their say matters to [`conformance`].
///
/// [`conformance`]: crate::testing::conformance()
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyOrder {
    Compared,
    Free,
}

/// Where records without keys go if there are several tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unkeyed {
    ToAll,
    InTurn,
}

/// The hash of a record's key; `None` if every task gets the record.
type HashOf<T> = Box<dyn Fn(&T) -> Option<u64>>;

/// A side output that the test reads, and how to print its rows.
struct Side {
    name: &'static str,
    rows: Box<dyn Any>,
    /// Moves what the operators put there; prints what is new.
    collect: fn(&mut Side, &TaskEnv, u16) -> Vec<Outcome>,
}

/// Something that came out: its key's hash, and all of it as text.
pub(super) type Outcome = (u64, String);

struct Collect<'a, T> {
    env: &'a TaskEnv,
    rows: &'a mut Vec<Row<T>>,
}

impl<T> Output<T> for Collect<'_, T> {
    fn emit(&mut self, row: Row<T>) {
        self.rows.push(row);
    }

    fn env(&self) -> &TaskEnv {
        self.env
    }
}

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
        let key_group_count = KeyGroupCount::new(128).expect("in range");
        let task = TaskPlace { chain_index: 0, task_index: 0, parallelism: 1, key_group_count };
        Self {
            chain,
            stage_count: names.len() as u16,
            env: TaskEnv::new(task),
            hash_of: None,
            key_order: KeyOrder::Compared,
            unkeyed: Unkeyed::ToAll,
            is_open: false,
            may_fail: false,
            budget: u32::MAX,
            is_time_pending: false,
            rows: Vec::new(),
            watermark_ms: NO_EVENT_TIME,
            sides: Vec::new(),
            looked_at: None,
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

    /// Which key comes first when several have something to say at once is not compared: the
    /// operator promises an order for each key only.
    pub fn keys_in_any_order(mut self) -> Self {
        self.key_order = KeyOrder::Free;
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
        assert!(!self.is_open, "the operators have been opened");
        self.env.task = TaskPlace { task_index, parallelism, ..self.env.task };
        self
    }

    /// Processing time when it begins, ms since 1970; 0 if this is not called.
    pub fn starting_at(self, processing_time_ms: i64) -> Self {
        self.env.processing_time_ms.set(processing_time_ms);
        self
    }

    /// Reads the side output `tag` of every operator in the chain.
    pub fn reading<T: fmt::Debug + 'static>(mut self, tag: OutputTag<T>) -> Self {
        for stage_index in 0..self.stage_count {
            self.env.side_outputs.borrow_mut().register(stage_index, tag);
        }
        let collect = |side: &mut Side, env: &TaskEnv, stage_count: u16| {
            let name = side.name;
            let rows: &mut Vec<Row<T>> = side.rows.downcast_mut().expect("made for this type");
            let first = rows.len();
            let mut sides = env.side_outputs.borrow_mut();
            for stage_index in 0..stage_count {
                let new = sides.rows(stage_index, OutputTag::<T>::new(name)).ok().flatten();
                rows.append(new.expect("registered above, with this type"));
            }
            rows[first..].iter().map(|row| (row.hash64, format!("{name}: {row:?}"))).collect()
        };
        self.sides.push(Side { name: tag.name(), rows: Box::new(Vec::<Row<T>>::new()), collect });
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
        if !self.is_open {
            self.is_open = true;
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
            self.env.begin_row(&row);
            self.chain.on_row(
                row,
                &self.env,
                &mut Collect { env: &self.env, rows: &mut self.rows },
            );
        }
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        let released = self.chain.on_batch_end(&self.env, &mut out);
        self.release(released);
    }

    /// No record at or before this event time (ms) is expected any more.
    pub fn watermark(&mut self, watermark_ms: i64) {
        self.ready();
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        let released = self.chain.on_watermark(watermark_ms, &self.env, &mut out);
        self.release(released);
    }

    /// It is this processing time now, ms since 1970.
    pub fn processing_time(&mut self, processing_time_ms: i64) {
        self.env.processing_time_ms.set(processing_time_ms);
        self.ready();
        self.fire_time();
    }

    /// Goes on with what a budget has cut short.
    pub fn resume(&mut self) {
        self.ready();
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        let released = self.chain.resume(&self.env, &mut out);
        self.release(released);
        if self.is_time_pending {
            self.ready();
            self.fire_time();
        }
    }

    /// Whether [`OperatorHarness::resume`] has something to do.
    pub fn is_pending(&self) -> bool {
        self.chain.is_pending() || self.is_time_pending
    }

    /// The input ends: the final watermark, and then the operators' own end.
    ///
    /// # Panics
    /// If an operator waits for something from outside before it can end.
    pub fn end(&mut self) {
        self.watermark(MAX_WATERMARK);
        while self.chain.is_pending() {
            assert!(0 < self.budget, "without a budget the input never ends");
            self.resume();
        }
        for _ in 0..TIME_CALLS_MAX {
            self.ready();
            let mut out = Collect { env: &self.env, rows: &mut self.rows };
            if self.chain.on_end(&self.env, &mut out) == Progress::Done {
                self.check();
                return;
            }
        }
        panic!("the operator waits for something before it can end");
    }

    /// What came out since the last call, without times and keys.
    pub fn take_output(&mut self) -> Vec<C::Out> {
        self.take_rows().into_iter().map(|row| row.value).collect()
    }

    /// The rows that came out since the last call.
    pub fn take_rows(&mut self) -> Vec<Row<C::Out>> {
        std::mem::take(&mut self.rows)
    }

    /// What went to a side output since the last call.
    ///
    /// # Panics
    /// If the harness does not read it, or it is of another type.
    pub fn take_side_output<T: 'static>(&mut self, tag: OutputTag<T>) -> Vec<T> {
        let rows = self.side(tag.name()).rows.downcast_mut::<Vec<Row<T>>>();
        let rows = rows.expect("the tag that `reading` was called with");
        std::mem::take(rows).into_iter().map(|row| row.value).collect()
    }

    /// The watermark (ms) that has left the chain; [`NO_EVENT_TIME`] if none has.
    pub fn released_watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// The earliest processing time (ms) that the operators wait for.
    pub fn next_time_ms(&self) -> Option<i64> {
        self.chain.next_time_ms()
    }

    /// Everything the operators would write into a checkpoint.
    pub fn snapshot(&mut self) -> Snapshot {
        self.open_or_panic();
        let mut snapshot = Snapshot::default();
        self.chain.snapshot(&mut snapshot);
        snapshot
    }

    /// Begins with the state of a snapshot, of one task or several merged.
    ///
    /// # Errors
    /// The first operator's that cannot read it.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        assert!(!self.is_open, "a snapshot is restored before the first record");
        self.open()?;
        self.chain.restore(snapshot, &self.env)
    }

    /// Stops here and begins again, with the state of its own snapshot: `fresh` is another harness
    /// made in the same way. Time, budget and what came out but was not taken go on.
    ///
    /// # Panics
    /// If the operators cannot read what they have written.
    pub fn restart(&mut self, fresh: Self) {
        let snapshot = self.snapshot();
        let mut old = std::mem::replace(self, fresh);
        for side in &mut old.sides {
            (side.collect)(side, &old.env, old.stage_count);
        }
        self.env.processing_time_ms.set(old.env.processing_time_ms.get());
        self.env.late_records.set(old.env.late_records.get());
        self.may_fail = old.may_fail;
        self.budget = old.budget;
        self.is_time_pending = old.is_time_pending;
        self.rows = old.rows;
        self.watermark_ms = old.watermark_ms;
        self.sides = old.sides;
        self.looked_at = old.looked_at;
        self.restore_or_panic(&snapshot);
    }

    /// Which operator of a chain the test looks into from now on, by its uid. Not needed if there
    /// is only one.
    pub fn look_at(&mut self, uid: &str) {
        self.looked_at = Some(uid.to_string());
    }

    /// The stored names of all state that the operator keeps now. A state without entries is not
    /// stored and not among them; those of keys begin with `state/`.
    ///
    /// # Panics
    /// As [`OperatorHarness::keyed_state`] if the operator is not known.
    pub fn state_names(&mut self) -> Vec<String> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        reader.state_names().map(str::to_string).collect()
    }

    /// The entries of the keyed state `name` (values, elements of lists, values of maps), in the
    /// order of key hashes. Without entries a state cannot be told from one that does not exist.
    ///
    /// # Panics
    /// If keys are not of type `K`, or entries not of type `V`; if there are several operators and
    /// [`OperatorHarness::look_at`] was not called, or with a uid that none of them has.
    pub fn keyed_state<K: Key, V: Record>(&mut self, name: &str) -> Vec<(K, V)> {
        self.stored(&format!("state/{name}"))
    }

    /// The state of no key whose stored names begin with `prefix`, by name.
    ///
    /// # Panics
    /// If it is not of type `V`; as [`OperatorHarness::keyed_state`] if the operator is not known.
    pub fn operator_state<V: Record>(&mut self, prefix: &str) -> Vec<(String, V)> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        let state = reader.operator_state(prefix).expect("state of the type that was asked for");
        state.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }

    /// The timers of all keys, by the keys' hashes, then by time (ms).
    ///
    /// # Panics
    /// If keys are not of type `K`.
    pub fn timers<K: Key>(&mut self, kind: TimerKind) -> Vec<(K, i64)> {
        let timers = self.stored::<K, (i64, bool)>(kind.stored_name());
        timers.into_iter().map(|(key, (time_ms, _))| (key, time_ms)).collect()
    }

    fn stored<K: Key, V: Record>(&mut self, name: &str) -> Vec<(K, V)> {
        let snapshot = self.snapshot();
        let reader = SnapshotReader::new(&snapshot, self.uid_in(&snapshot));
        let entries = reader.keyed_state::<V>(name, 0..KEY_GROUP_COUNT_MAX);
        let entries = entries.expect("entries of the type that was asked for");
        let keys = entries.into_iter().map(|(place, value)| {
            let key = reader.unarchive(name, place.key);
            (key.expect("keys of the type that was asked for"), value)
        });
        keys.collect()
    }

    /// The uid of the operator that the test looks at.
    fn uid_in<'a>(&self, snapshot: &'a Snapshot) -> &'a str {
        let uids: Vec<&str> = snapshot.uids().collect();
        match (&self.looked_at, &uids[..]) {
            (None, [uid]) => uid,
            (None, _) => panic!("call `look_at` with the uid of one of the operators {uids:?}"),
            (Some(uid), _) => uids
                .iter()
                .find(|known| *known == uid)
                .unwrap_or_else(|| panic!("no operator has the uid {uid:?}; there are {uids:?}")),
        }
    }

    /// Records that came too late, whether a side output keeps them or not.
    pub fn late_count(&self) -> u64 {
        self.env.late_records.get()
    }

    /// Takes the failure of an operator, if there was one.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.env.take_failure()
    }

    /// The file operations that operators have asked for since the last call.
    pub fn take_file_ops(&mut self) -> Vec<FileOp> {
        std::mem::take(&mut self.env.requests.borrow_mut().files)
    }

    /// A file operation has been answered.
    pub fn file_done(&mut self, done: FileDone) {
        self.ready();
        let (_, stage_index) = owner_of(done.op.0);
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        self.chain.on_file_done(stage_index, done, &self.env, &mut out);
        self.check();
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

    /// What has come out since the last call: rows, then rows of side outputs.
    pub(super) fn take_outcome(&mut self) -> Vec<Outcome>
    where
        C::Out: fmt::Debug,
    {
        let rows = self.take_rows();
        let mut outcome: Vec<Outcome> =
            rows.iter().map(|row| (row.hash64, format!("{row:?}"))).collect();
        for side in &mut self.sides {
            outcome.extend((side.collect)(side, &self.env, self.stage_count));
        }
        outcome
    }

    /// Orders what came out by key where only the order within each key is promised.
    pub(super) fn settle_order(&self, outcome: &mut [Outcome]) {
        if self.key_order == KeyOrder::Free {
            outcome.sort_by_key(|(hash64, _)| *hash64);
        }
    }

    fn side(&mut self, name: &'static str) -> &mut Side {
        let side = self.sides.iter_mut().find(|side| side.name == name);
        let side = side.unwrap_or_else(|| panic!("call `reading` for side output {name:?} first"));
        (side.collect)(side, &self.env, self.stage_count);
        side
    }

    /// Opens the operators if need be, and gives the next call its budget.
    fn ready(&mut self) {
        self.open_or_panic();
        self.env.set_budget(self.budget);
    }

    fn open_or_panic(&mut self) {
        if let Err(error) = self.open() {
            panic!("the operator does not open: {}", error.chain());
        }
    }

    pub(super) fn restore_or_panic(&mut self, snapshot: &Snapshot) {
        if let Err(error) = self.restore(snapshot) {
            panic!("the operator cannot read what it has written: {}", error.chain());
        }
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
        for _ in 0..TIME_CALLS_MAX {
            if self.chain.next_time_ms().is_none_or(|due_ms| now_ms < due_ms) {
                return;
            }
            let mut out = Collect { env: &self.env, rows: &mut self.rows };
            let progress = self.chain.on_time(&self.env, &mut out);
            self.check();
            if progress == Progress::Pending {
                self.is_time_pending = true;
                return;
            }
        }
        panic!("the operator asks again and again for a processing time that has come");
    }

    fn check(&mut self) {
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
