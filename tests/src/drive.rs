//! Drives one operator by hand: rows, watermarks, time, small budgets, restarts.
//!
//! The operator is a chain of one stage, exactly as a task runs it. Nothing here knows what the
//! operator does; what should come of it is for the models (`model/`) to say.

use millstream::data::key_group::KeyGroupCount;
use millstream::data::row::Row;
use millstream::operator::env::TaskPlace;
use millstream::operator::side_output::OutputTag;
use millstream::operator::{Chain, Operator, Output, Progress, Stage, TaskEnv};
use millstream::state::snapshot::Snapshot;

/// One operator with its task, and what has come out of it.
pub struct Drive<O: Operator> {
    prototype: O,
    stage: Stage<O>,
    env: TaskEnv,
    /// Everything emitted, in order.
    pub rows: Vec<Row<O::Out>>,
    /// Every watermark released, with the number of rows emitted before it.
    pub released: Vec<(usize, i64)>,
}

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

/// Calls the stage with the environment and a collecting output.
macro_rules! on_stage {
    ($self:ident, |$stage:ident, $env:ident, $out:ident| $call:expr) => {{
        let $env = &$self.env;
        let $stage = &mut $self.stage;
        let $out = &mut Collect { env: $env, rows: &mut $self.rows };
        $call
    }};
}

impl<O: Operator + Clone> Drive<O> {
    /// Opens the operator as the only task of its chain.
    pub fn new(operator: O) -> Self {
        Self::task(operator, 0, 1)
    }

    /// Opens the operator as task `task_index` of `parallelism`.
    pub fn task(operator: O, task_index: u32, parallelism: u32) -> Self {
        let key_group_count = KeyGroupCount::new(128).expect("in range");
        let place = TaskPlace { chain_index: 0, task_index, parallelism, key_group_count };
        let env = TaskEnv::new(place);
        let mut stage = Stage::new(operator.clone(), "tested", "tested");
        stage.open(&env).expect("the operator opens");
        Self { prototype: operator, stage, env, rows: Vec::new(), released: Vec::new() }
    }

    /// Reads the side output `tag` from now on.
    pub fn with_side_output<T: 'static>(self, tag: OutputTag<T>) -> Self {
        self.env.side_outputs.borrow_mut().register(0, tag);
        self
    }

    /// Whether the operator's task owns the hash.
    pub fn owns(&self, hash64: u64) -> bool {
        self.env.task.hashes().contains(hash64)
    }

    /// Takes a row.
    pub fn row(&mut self, row: Row<O::In>) {
        self.env.begin_row(&row);
        on_stage!(self, |stage, env, out| stage.on_row(row, env, out));
        self.check();
    }

    /// Raises the watermark with a budget of `units`.
    pub fn watermark(&mut self, watermark_ms: i64, units: u32) {
        self.env.set_budget(units);
        let released =
            on_stage!(self, |stage, env, out| stage.on_watermark(watermark_ms, env, out));
        self.release(released);
    }

    /// Goes on with what ran out of budget.
    pub fn resume(&mut self, units: u32) {
        self.env.set_budget(units);
        let released = on_stage!(self, |stage, env, out| stage.resume(env, out));
        self.release(released);
    }

    /// Sets the clock and lets the operator do what waits for it, with a budget of `units`.
    pub fn time(&mut self, now_ms: i64, units: u32) {
        self.env.processing_time_ms.set(now_ms);
        self.env.set_budget(units);
        let _ = on_stage!(self, |stage, env, out| stage.on_time(env, out));
        self.check();
    }

    /// Ends the input: the final watermark, then the end of the stream.
    pub fn end(&mut self) {
        self.watermark(i64::MAX, u32::MAX);
        for _ in 0..1_000_000 {
            if !self.stage.is_pending() {
                break;
            }
            self.resume(u32::MAX);
        }
        assert!(!self.stage.is_pending(), "the final watermark is never finished");
        self.env.set_budget(u32::MAX);
        let progress = on_stage!(self, |stage, env, out| stage.on_end(env, out));
        assert_eq!(progress, Progress::Done);
        self.check();
    }

    /// The state of the operator.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.stage.snapshot(&mut snapshot);
        snapshot
    }

    /// Begins anew from a snapshot. Results, side outputs and counts go on.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        let mut stage = Stage::new(self.prototype.clone(), "tested", "tested");
        stage.open(&self.env).expect("the operator opens");
        stage.restore(snapshot, &self.env).expect("the snapshot can be read");
        self.stage = stage;
    }

    /// Begins anew from its own snapshot, after checking that the snapshot of the restored operator
    /// is the same, byte for byte.
    pub fn restart(&mut self) {
        let snapshot = self.snapshot();
        self.restore(&snapshot);
        assert_eq!(self.snapshot(), snapshot, "a restored operator has another state");
    }

    /// Takes the rows put into a side output.
    pub fn side_output<T: 'static>(&self, tag: OutputTag<T>) -> Vec<Row<T>> {
        let mut sides = self.env.side_outputs.borrow_mut();
        let rows = sides.rows(0, tag).expect("read with the type that it was registered with");
        rows.map(std::mem::take).unwrap_or_default()
    }

    /// Rows counted as late.
    pub fn late_count(&self) -> u64 {
        self.env.late_records.get()
    }

    /// The task's environment.
    pub fn env(&self) -> &TaskEnv {
        &self.env
    }

    fn release(&mut self, released: Option<i64>) {
        self.released.extend(released.map(|watermark_ms| (self.rows.len(), watermark_ms)));
        self.check();
    }

    fn check(&self) {
        if let Some(error) = self.env.take_failure() {
            panic!("the operator failed: {error}");
        }
    }
}
