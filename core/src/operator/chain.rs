//! Static composition of operators.
//!
//! [`Stage`] is one operator with its name and its watermark; [`Then`] is a chain followed by
//! another. Rows go through both by plain calls. A watermark is *released* by a stage once the
//! operator has finished what was due; only then does the next stage see it, so every operator may
//! rely on having seen all results that its predecessors owed before that watermark.
//!
//! Invariant: the watermarks that a stage releases never decrease; and whatever happens behind an
//! operator while it emits, the row being processed is its own again afterwards.

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::ahead::Ahead;
use crate::data::element::CheckpointId;
use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME, Row};
use crate::error::Error;
use crate::limits::STAGE_COUNT_MAX;
use crate::operator::env::{OperatorContext, TaskEnv};
use crate::operator::{Operator, Output, Progress, SplitEvent};
use crate::state::durable::Save;
use crate::state::snapshot::{Snapshot, SnapshotReader, SnapshotWriter};

/// One or more operators, fused. See [`Operator`] for what each call means; the calls here also
/// carry results through the rest of the chain.
pub trait Chain: 'static {
    /// What the first operator takes.
    type In: 'static;
    /// What the last operator gives.
    type Out: 'static;

    /// Gives the stages their names and uids, one label for each.
    fn label(&mut self, labels: &mut std::vec::IntoIter<Label>);

    /// Numbers the stages from `next` on and appends their names.
    fn number(&mut self, names: &mut Vec<String>);

    /// Opens the operators, from last to first.
    ///
    /// # Errors
    /// The first operator's that cannot run.
    fn open(&mut self, env: &TaskEnv) -> Result<(), Error>;

    /// Asks for the state of the rows to come.
    fn prefetch(&mut self, ahead: Ahead<'_>);

    /// Takes one row through the chain.
    fn on_row(&mut self, row: Row<Self::In>, env: &TaskEnv, out: &mut impl Output<Self::Out>);

    /// Ends a batch; a watermark (ms) that leaves the chain's end, if one does.
    fn on_batch_end(&mut self, env: &TaskEnv, out: &mut impl Output<Self::Out>) -> Option<i64>;

    /// Raises event time; the watermark (ms) that leaves the chain's end, if one does already.
    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        env: &TaskEnv,
        out: &mut impl Output<Self::Out>,
    ) -> Option<i64>;

    /// Continues what ran out of budget; the watermark (ms) that leaves the chain's end, if one
    /// does now.
    fn resume(&mut self, env: &TaskEnv, out: &mut impl Output<Self::Out>) -> Option<i64>;

    /// Whether [`Chain::resume`] has something to do.
    fn is_pending(&self) -> bool;

    /// The earliest processing time (ms since 1970) that an operator waits for.
    fn next_time_ms(&self) -> Option<i64>;

    /// Tells the operators that wait for it that processing time has come.
    fn on_time(&mut self, env: &TaskEnv, out: &mut impl Output<Self::Out>) -> Progress;

    /// Whether every operator can take a row.
    fn is_ready(&self) -> bool;

    /// Tells stage `stage_index` that the state of a key with this hash was read.
    fn on_state_read(
        &mut self,
        stage_index: u16,
        hash64: u64,
        env: &TaskEnv,
        out: &mut impl Output<Self::Out>,
    );

    /// Lets every operator give memory back, each the state of up to `steps` keys. Whether one that
    /// took no rows for want of room does again.
    fn evict(&mut self, steps: u32, env: &TaskEnv) -> bool;

    /// Whether an operator holds rows that it has not taken.
    fn has_waiting_rows(&self) -> bool;

    /// Whether stage `stage_index` is one of this chain.
    fn holds(&self, stage_index: u16) -> bool;

    /// Brings an answer to stage `stage_index`.
    fn on_file_done(
        &mut self,
        stage_index: u16,
        done: FileDone,
        env: &TaskEnv,
        out: &mut impl Output<Self::Out>,
    );

    /// Brings an answer to stage `stage_index`.
    fn on_socket_done(
        &mut self,
        stage_index: u16,
        done: SocketDone,
        env: &TaskEnv,
        out: &mut impl Output<Self::Out>,
    );

    /// Tells all operators about a split of the task's source.
    fn on_split(&mut self, event: SplitEvent, env: &TaskEnv);

    /// Ends the operators, from first to last.
    fn on_end(&mut self, env: &TaskEnv, out: &mut impl Output<Self::Out>) -> Progress;

    /// Sees to it that every operator can write all of its state.
    fn gather(&mut self, env: &TaskEnv) -> Progress;

    /// Tells every operator that the snapshot of `checkpoint` has been taken.
    fn on_cut(&mut self, checkpoint: CheckpointId, env: &TaskEnv);

    /// Lets every operator write some of what has changed.
    fn save(&mut self, save: Save, env: &TaskEnv) -> Progress;

    /// Whether everything is durable that the snapshot of `checkpoint` speaks of.
    fn is_settled(&self, checkpoint: CheckpointId) -> bool;

    /// Tells every operator that `checkpoint` is complete.
    fn on_completed(&mut self, checkpoint: CheckpointId, env: &TaskEnv);

    /// Whether an operator is committing something.
    fn owes_commit(&self) -> bool;

    /// Appends every operator's state to `snapshot`.
    fn snapshot(&self, snapshot: &mut Snapshot);

    /// Gives every operator its state back.
    ///
    /// # Errors
    /// The first operator's that cannot read it.
    fn restore(&mut self, snapshot: &Snapshot, env: &TaskEnv) -> Result<(), Error>;
}

/// What an operator is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// For people, and in errors.
    pub name: String,
    /// What its state is found under.
    pub uid: String,
    /// Sources from which rows reach it without watermarks, if there are any.
    pub unmarked: Option<String>,
}

/// One operator of a chain.
#[derive(Debug, Clone)]
pub struct Stage<O> {
    operator: O,
    name: String,
    uid: String,
    index: u16,
    watermark_ms: i64,
    /// The operator has not finished what is due at `watermark_ms`.
    pending: bool,
    input: Input,
    ended: bool,
    /// See [`Label::unmarked`].
    unmarked: Option<String>,
}

/// How far the end of the input has been handled. The final watermark begins it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// What waits for processing time is happening.
    Ending,
    /// Event time has ended.
    Ended,
}

impl<O> Stage<O> {
    /// `operator` under a name for people and a `uid` that its state is found under.
    pub fn new(operator: O, name: impl Into<String>, uid: impl Into<String>) -> Self {
        Self {
            operator,
            name: name.into(),
            uid: uid.into(),
            index: 0,
            watermark_ms: NO_EVENT_TIME,
            pending: false,
            input: Input::Open,
            ended: false,
            unmarked: None,
        }
    }

    /// The same stage with another operator.
    pub fn map<P>(self, change: impl FnOnce(O) -> P) -> Stage<P> {
        let Self { operator, name, uid, index, watermark_ms, pending, input, ended, unmarked } =
            self;
        let operator = change(operator);
        Stage { operator, name, uid, index, watermark_ms, pending, input, ended, unmarked }
    }

    /// The operator.
    pub fn operator(&self) -> &O {
        &self.operator
    }
}

/// Calls the operator with its context, noting which stage it was if it panics.
macro_rules! call {
    ($stage:ident, $env:ident, $ctx:ident => $call:expr) => {{
        let $ctx = OperatorContext::new($env, &$stage.name, $stage.index, $stage.watermark_ms);
        $ctx.run(|| $call)
    }};
}

impl<O: Operator> Chain for Stage<O> {
    type In = O::In;
    type Out = O::Out;

    fn label(&mut self, labels: &mut std::vec::IntoIter<Label>) {
        let label = labels.next().expect("the plan has a node for every operator");
        Label { name: self.name, uid: self.uid, unmarked: self.unmarked } = label;
    }

    fn number(&mut self, names: &mut Vec<String>) {
        assert!(names.len() + 1 < STAGE_COUNT_MAX as usize, "too many operators in one chain");
        self.index = names.len() as u16;
        names.push(self.name.clone());
    }

    fn open(&mut self, env: &TaskEnv) -> Result<(), Error> {
        if let Some(sources) = &self.unmarked {
            env.lacks_watermarks(self.index, sources.clone());
        }
        env.open_next(&self.uid);
        call!(self, env, ctx => self.operator.open(&ctx))
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.operator.prefetch(ahead);
    }

    #[inline]
    fn on_row(&mut self, row: Row<O::In>, env: &TaskEnv, out: &mut impl Output<O::Out>) {
        if O::ENTERS_ROWS {
            let outer = env.enter_row(&row);
            call!(self, env, ctx => self.operator.on_row(row, &ctx, out));
            env.leave(outer);
        } else {
            call!(self, env, ctx => self.operator.on_row(row, &ctx, out));
        }
    }

    fn on_batch_end(&mut self, env: &TaskEnv, out: &mut impl Output<O::Out>) -> Option<i64> {
        let made = call!(self, env, ctx => self.operator.on_batch_end(&ctx, out))?;
        self.on_watermark(made, env, out)
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        env: &TaskEnv,
        out: &mut impl Output<O::Out>,
    ) -> Option<i64> {
        if watermark_ms <= self.watermark_ms {
            return None;
        }
        if watermark_ms == MAX_WATERMARK {
            self.input = Input::Ending;
        } else {
            self.watermark_ms = watermark_ms;
        }
        self.pending = true;
        self.resume(env, out)
    }

    fn resume(&mut self, env: &TaskEnv, out: &mut impl Output<O::Out>) -> Option<i64> {
        if !self.pending {
            return None;
        }
        if self.input == Input::Ending {
            let outer = env.enter_time(NO_EVENT_TIME, 0);
            let progress = call!(self, env, ctx => self.operator.on_input_end(&ctx, out));
            env.leave(outer);
            if progress == Progress::Pending {
                return None;
            }
            self.input = Input::Ended;
            self.watermark_ms = MAX_WATERMARK;
        }
        let watermark_ms = self.watermark_ms;
        let outer = env.enter_time(watermark_ms, 0);
        let progress = call!(self, env, ctx =>
            self.operator.on_watermark(watermark_ms, &ctx, out));
        env.leave(outer);
        self.pending = progress == Progress::Pending;
        (!self.pending).then_some(watermark_ms)
    }

    fn is_pending(&self) -> bool {
        self.pending
    }

    fn next_time_ms(&self) -> Option<i64> {
        self.operator.next_time_ms()
    }

    fn on_time(&mut self, env: &TaskEnv, out: &mut impl Output<O::Out>) -> Progress {
        let now_ms = env.processing_time_ms.get();
        if self.operator.next_time_ms().is_none_or(|due_ms| now_ms < due_ms) {
            return Progress::Done;
        }
        let outer = env.enter_time(NO_EVENT_TIME, 0);
        let progress = call!(self, env, ctx => self.operator.on_time(&ctx, out));
        env.leave(outer);
        progress
    }

    fn is_ready(&self) -> bool {
        self.operator.is_ready()
    }

    fn on_state_read(
        &mut self,
        stage_index: u16,
        hash64: u64,
        env: &TaskEnv,
        out: &mut impl Output<O::Out>,
    ) {
        assert_eq!(stage_index, self.index, "state for an operator that is not in this chain");
        call!(self, env, ctx => self.operator.on_state_read(hash64, &ctx, out));
    }

    fn evict(&mut self, steps: u32, env: &TaskEnv) -> bool {
        call!(self, env, ctx => self.operator.evict(steps, &ctx))
    }

    fn has_waiting_rows(&self) -> bool {
        self.operator.has_waiting_rows()
    }

    fn on_file_done(
        &mut self,
        stage_index: u16,
        done: FileDone,
        env: &TaskEnv,
        out: &mut impl Output<O::Out>,
    ) {
        assert_eq!(stage_index, self.index, "an answer for an operator that is not in this chain");
        call!(self, env, ctx => self.operator.on_file_done(done, &ctx, out));
    }

    fn on_socket_done(
        &mut self,
        stage_index: u16,
        done: SocketDone,
        env: &TaskEnv,
        out: &mut impl Output<O::Out>,
    ) {
        assert_eq!(stage_index, self.index, "an answer for an operator that is not in this chain");
        call!(self, env, ctx => self.operator.on_socket_done(done, &ctx, out));
    }

    fn on_split(&mut self, event: SplitEvent, env: &TaskEnv) {
        call!(self, env, ctx => self.operator.on_split(event, &ctx));
    }

    fn on_end(&mut self, env: &TaskEnv, out: &mut impl Output<O::Out>) -> Progress {
        if !self.ended {
            let outer = env.enter_time(NO_EVENT_TIME, 0);
            let progress = call!(self, env, ctx => self.operator.on_end(&ctx, out));
            env.leave(outer);
            self.ended = progress == Progress::Done;
        }
        if self.ended { Progress::Done } else { Progress::Pending }
    }

    fn gather(&mut self, env: &TaskEnv) -> Progress {
        call!(self, env, ctx => self.operator.gather(&ctx))
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, env: &TaskEnv) {
        call!(self, env, ctx => self.operator.on_cut(checkpoint, &ctx));
    }

    fn save(&mut self, save: Save, env: &TaskEnv) -> Progress {
        call!(self, env, ctx => self.operator.save(save, &ctx))
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.operator.is_settled(checkpoint)
    }

    fn on_completed(&mut self, checkpoint: CheckpointId, env: &TaskEnv) {
        call!(self, env, ctx => self.operator.on_completed(checkpoint, &ctx));
    }

    fn owes_commit(&self) -> bool {
        self.operator.owes_commit()
    }

    fn snapshot(&self, snapshot: &mut Snapshot) {
        let mut writer = SnapshotWriter::new(snapshot, &self.uid);
        writer.watermark_ms(self.watermark_ms);
        self.operator.snapshot(&mut writer);
    }

    fn restore(&mut self, snapshot: &Snapshot, env: &TaskEnv) -> Result<(), Error> {
        let reader = SnapshotReader::new(snapshot, &self.uid);
        self.watermark_ms = reader.watermark_ms()?;
        // What was due and had not finished goes on before anything else does.
        self.pending = self.watermark_ms != NO_EVENT_TIME;
        call!(self, env, ctx => self.operator.restore(&reader, &ctx))
    }

    fn holds(&self, stage_index: u16) -> bool {
        stage_index == self.index
    }
}

/// `first`, and what it gives goes into `second`.
#[derive(Debug, Clone)]
pub struct Then<A, B> {
    /// Takes the rows.
    pub first: A,
    /// Takes what `first` gives.
    pub second: B,
}

/// The output of `first`: the rest of the chain.
struct Link<'a, B, O> {
    second: &'a mut B,
    env: &'a TaskEnv,
    out: &'a mut O,
}

impl<B: Chain, O: Output<B::Out>> Output<B::In> for Link<'_, B, O> {
    #[inline]
    fn emit(&mut self, row: Row<B::In>) {
        self.second.on_row(row, self.env, self.out);
    }

    #[inline]
    fn env(&self) -> &TaskEnv {
        self.env
    }
}

impl<A, B> Then<A, B>
where
    A: Chain,
    B: Chain<In = A::Out>,
{
    /// Runs `first` with `second` behind it.
    #[inline]
    fn with_first<O: Output<B::Out>, R>(
        &mut self,
        env: &TaskEnv,
        out: &mut O,
        call: impl FnOnce(&mut A, &mut Link<'_, B, O>) -> R,
    ) -> R {
        call(&mut self.first, &mut Link { second: &mut self.second, env, out })
    }
}

impl<A, B> Chain for Then<A, B>
where
    A: Chain,
    B: Chain<In = A::Out>,
{
    type In = A::In;
    type Out = B::Out;

    fn label(&mut self, labels: &mut std::vec::IntoIter<Label>) {
        self.first.label(labels);
        self.second.label(labels);
    }

    fn number(&mut self, names: &mut Vec<String>) {
        self.first.number(names);
        self.second.number(names);
    }

    fn open(&mut self, env: &TaskEnv) -> Result<(), Error> {
        self.second.open(env)?;
        self.first.open(env)
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.first.prefetch(ahead);
        self.second.prefetch(ahead);
    }

    #[inline]
    fn on_row(&mut self, row: Row<A::In>, env: &TaskEnv, out: &mut impl Output<B::Out>) {
        self.with_first(env, out, |first, link| first.on_row(row, env, link));
    }

    fn on_batch_end(&mut self, env: &TaskEnv, out: &mut impl Output<B::Out>) -> Option<i64> {
        let released = self.with_first(env, out, |first, link| first.on_batch_end(env, link));
        let passed = released.and_then(|w| self.second.on_watermark(w, env, out));
        let made = self.second.on_batch_end(env, out);
        made.or(passed)
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        env: &TaskEnv,
        out: &mut impl Output<B::Out>,
    ) -> Option<i64> {
        let released =
            self.with_first(env, out, |first, link| first.on_watermark(watermark_ms, env, link))?;
        self.second.on_watermark(released, env, out)
    }

    fn resume(&mut self, env: &TaskEnv, out: &mut impl Output<B::Out>) -> Option<i64> {
        let released = self.with_first(env, out, |first, link| first.resume(env, link));
        match released {
            Some(watermark_ms) => self.second.on_watermark(watermark_ms, env, out),
            None => self.second.resume(env, out),
        }
    }

    fn is_pending(&self) -> bool {
        self.first.is_pending() || self.second.is_pending()
    }

    fn next_time_ms(&self) -> Option<i64> {
        let (first, second) = (self.first.next_time_ms(), self.second.next_time_ms());
        first.into_iter().chain(second).min()
    }

    fn on_time(&mut self, env: &TaskEnv, out: &mut impl Output<B::Out>) -> Progress {
        let first = self.with_first(env, out, |first, link| first.on_time(env, link));
        let second = self.second.on_time(env, out);
        if first == Progress::Done { second } else { first }
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.first.is_ready() && self.second.is_ready()
    }

    fn on_state_read(
        &mut self,
        stage_index: u16,
        hash64: u64,
        env: &TaskEnv,
        out: &mut impl Output<B::Out>,
    ) {
        if self.first.holds(stage_index) {
            self.with_first(env, out, |first, link| {
                first.on_state_read(stage_index, hash64, env, link);
            });
        } else {
            self.second.on_state_read(stage_index, hash64, env, out);
        }
    }

    fn evict(&mut self, steps: u32, env: &TaskEnv) -> bool {
        let first = self.first.evict(steps, env);
        self.second.evict(steps, env) || first
    }

    fn has_waiting_rows(&self) -> bool {
        self.first.has_waiting_rows() || self.second.has_waiting_rows()
    }

    fn on_file_done(
        &mut self,
        stage_index: u16,
        done: FileDone,
        env: &TaskEnv,
        out: &mut impl Output<B::Out>,
    ) {
        if self.first.holds(stage_index) {
            self.with_first(env, out, |first, link| {
                first.on_file_done(stage_index, done, env, link);
            });
        } else {
            self.second.on_file_done(stage_index, done, env, out);
        }
    }

    fn on_socket_done(
        &mut self,
        stage_index: u16,
        done: SocketDone,
        env: &TaskEnv,
        out: &mut impl Output<B::Out>,
    ) {
        if self.first.holds(stage_index) {
            self.with_first(env, out, |first, link| {
                first.on_socket_done(stage_index, done, env, link);
            });
        } else {
            self.second.on_socket_done(stage_index, done, env, out);
        }
    }

    fn on_split(&mut self, event: SplitEvent, env: &TaskEnv) {
        self.first.on_split(event, env);
        self.second.on_split(event, env);
    }

    fn on_end(&mut self, env: &TaskEnv, out: &mut impl Output<B::Out>) -> Progress {
        match self.with_first(env, out, |first, link| first.on_end(env, link)) {
            Progress::Done => self.second.on_end(env, out),
            Progress::Pending => Progress::Pending,
        }
    }

    fn gather(&mut self, env: &TaskEnv) -> Progress {
        match (self.first.gather(env), self.second.gather(env)) {
            (Progress::Done, Progress::Done) => Progress::Done,
            _ => Progress::Pending,
        }
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, env: &TaskEnv) {
        self.first.on_cut(checkpoint, env);
        self.second.on_cut(checkpoint, env);
    }

    fn save(&mut self, save: Save, env: &TaskEnv) -> Progress {
        match (self.first.save(save, env), self.second.save(save, env)) {
            (Progress::Done, Progress::Done) => Progress::Done,
            _ => Progress::Pending,
        }
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.first.is_settled(checkpoint) && self.second.is_settled(checkpoint)
    }

    fn on_completed(&mut self, checkpoint: CheckpointId, env: &TaskEnv) {
        self.first.on_completed(checkpoint, env);
        self.second.on_completed(checkpoint, env);
    }

    fn owes_commit(&self) -> bool {
        self.first.owes_commit() || self.second.owes_commit()
    }

    fn snapshot(&self, snapshot: &mut Snapshot) {
        self.first.snapshot(snapshot);
        self.second.snapshot(snapshot);
    }

    fn restore(&mut self, snapshot: &Snapshot, env: &TaskEnv) -> Result<(), Error> {
        self.first.restore(snapshot, env)?;
        self.second.restore(snapshot, env)
    }

    fn holds(&self, stage_index: u16) -> bool {
        self.first.holds(stage_index) || self.second.holds(stage_index)
    }
}

#[cfg(test)]
mod tests;
