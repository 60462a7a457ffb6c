//! Where a chain's rows go: the end of a task's main output, and its side outputs.

use crate::data::element::{CheckpointId, Control};
use crate::data::record::Record;
use crate::data::row::Row;
use crate::exchange::channel::{Load, Outbox, Returned};
use crate::exchange::outputs::Outputs;
use crate::graph::plan::{ChannelId, SidePlan, TaskPlan};
use crate::operator::side_output::OutputTag;
use crate::operator::{Nothing, Output, TaskEnv};
use crate::state::snapshot::Snapshot;

/// The end of one output.
pub trait End<T>: 'static {
    /// Takes a row. One that cannot leave is refused in `env`.
    fn push(&mut self, row: Row<T>, env: &TaskEnv);
    /// Whether nothing more should be pushed.
    fn is_full(&self) -> bool;
    /// Appends a control element to every channel.
    fn control(&mut self, control: Control);
    /// Sends what credits allow.
    fn flush(&mut self, outbox: &mut Outbox);
    /// A container came back.
    ///
    /// # Errors
    /// `returned`, if `channel` is not one of this end's.
    fn on_returned(
        &mut self,
        channel: ChannelId,
        returned: Returned,
        outbox: &mut Outbox,
    ) -> Result<(), Returned>;
    /// Whether everything has left.
    fn is_empty(&self) -> bool;
    /// See [`Outputs::holds_barrier`].
    fn holds_barrier(&self, checkpoint: CheckpointId) -> bool;
    /// See [`Outputs::overtake`].
    fn overtake(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot);
    /// Rows taken so far.
    fn row_count(&self) -> u64;
    /// What it keeps in memory.
    fn load(&self) -> Load;
}

impl<T: Record> End<T> for Outputs<T> {
    #[inline]
    fn push(&mut self, row: Row<T>, env: &TaskEnv) {
        Self::push(self, row, env);
    }
    #[inline]
    fn is_full(&self) -> bool {
        Self::is_full(self)
    }
    fn control(&mut self, control: Control) {
        Self::control(self, control);
    }
    fn flush(&mut self, outbox: &mut Outbox) {
        Self::flush(self, outbox);
    }
    fn on_returned(
        &mut self,
        channel: ChannelId,
        returned: Returned,
        outbox: &mut Outbox,
    ) -> Result<(), Returned> {
        Self::on_returned(self, channel, returned, outbox)
    }
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
    fn holds_barrier(&self, checkpoint: CheckpointId) -> bool {
        Self::holds_barrier(self, checkpoint)
    }
    fn overtake(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot) {
        Self::overtake(self, checkpoint, snapshot);
    }
    fn row_count(&self) -> u64 {
        Self::row_count(self)
    }
    fn load(&self) -> Load {
        Self::load(self)
    }
}

/// The end of a chain that ends in a sink.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOutput;

impl End<Nothing> for NoOutput {
    fn push(&mut self, row: Row<Nothing>, _env: &TaskEnv) {
        match row.value {}
    }
    fn is_full(&self) -> bool {
        false
    }
    fn control(&mut self, _control: Control) {}
    fn flush(&mut self, _outbox: &mut Outbox) {}
    fn on_returned(
        &mut self,
        _channel: ChannelId,
        returned: Returned,
        _outbox: &mut Outbox,
    ) -> Result<(), Returned> {
        Err(returned)
    }
    fn is_empty(&self) -> bool {
        true
    }
    fn holds_barrier(&self, _checkpoint: CheckpointId) -> bool {
        false
    }
    fn overtake(&mut self, _checkpoint: CheckpointId, _snapshot: &mut Snapshot) {}
    fn row_count(&self) -> u64 {
        0
    }
    fn load(&self) -> Load {
        Load::default()
    }
}

/// An end as the chain before it sees it.
pub struct ChainEnd<'a, E> {
    /// Where rows go.
    pub end: &'a mut E,
    /// The task's environment; its budget ends when the end is full.
    pub env: &'a TaskEnv,
    /// The end takes more than that: what the operators hold has to be out before a cut.
    pub is_forced: bool,
}

impl<T, E: End<T>> Output<T> for ChainEnd<'_, E> {
    #[inline]
    fn emit(&mut self, row: Row<T>) {
        self.end.push(row, self.env);
        if self.end.is_full() && !self.is_forced {
            self.env.set_budget(0);
        }
    }

    #[inline]
    fn env(&self) -> &TaskEnv {
        self.env
    }
}

/// A side output with its consumers; erased, because a task has any number of them.
pub trait SideEnd {
    /// Takes the rows that operators have put aside.
    fn drain(&mut self, env: &TaskEnv);
    /// See [`End::is_full`].
    fn is_full(&self) -> bool;
    /// See [`End::control`].
    fn control(&mut self, control: Control);
    /// See [`End::flush`].
    fn flush(&mut self, outbox: &mut Outbox);
    /// See [`End::on_returned`].
    ///
    /// # Errors
    /// `returned`, if `channel` is not one of this end's.
    fn on_returned(
        &mut self,
        channel: ChannelId,
        returned: Returned,
        outbox: &mut Outbox,
    ) -> Result<(), Returned>;
    /// See [`End::is_empty`].
    fn is_empty(&self) -> bool;
    /// See [`Outputs::holds_barrier`].
    fn holds_barrier(&self, checkpoint: CheckpointId) -> bool;
    /// See [`Outputs::overtake`].
    fn overtake(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot);
    /// See [`End::row_count`].
    fn row_count(&self) -> u64;
    /// See [`End::load`].
    fn load(&self) -> Load;
}

/// The side output of one operator under one tag.
pub struct TaggedEnd<T> {
    stage_index: u16,
    tag: OutputTag<T>,
    outputs: Outputs<T>,
}

/// The consumers of side output `tag` of a task's operator; tells `env` that somebody reads it.
pub fn side_end<T: Record>(
    plan: &TaskPlan,
    of: SideOf,
    tag: OutputTag<T>,
    env: &TaskEnv,
) -> Box<dyn SideEnd> {
    let SideOf { node_index, stage_index } = of;
    env.side_outputs.borrow_mut().register(stage_index, tag);
    let side = SidePlan { node_index, tag: tag.name() };
    let plans = plan.outputs.iter().filter(|output| output.side == Some(side));
    let outputs = Outputs::new(plans, stage_index, plan.task_index, plan.key_group_count);
    Box::new(TaggedEnd { stage_index, tag, outputs })
}

/// Whose side output it is: the number of an operator among the nodes of its chain, and among the
/// stages of its task.
#[derive(Debug, Clone, Copy)]
pub struct SideOf {
    /// See [`SidePlan::node_index`].
    pub node_index: u16,
    /// See [`crate::operator::OperatorContext::stage_index`].
    pub stage_index: u16,
}

impl<T: Record> TaggedEnd<T> {
    fn with_rows<R>(&self, env: &TaskEnv, f: impl FnOnce(&mut Vec<Row<T>>) -> R) -> R {
        let mut sides = env.side_outputs.borrow_mut();
        let rows = sides.rows(self.stage_index, self.tag).ok().flatten();
        f(rows.expect("this end registered it, with this type"))
    }
}

impl<T: Record> SideEnd for TaggedEnd<T> {
    fn drain(&mut self, env: &TaskEnv) {
        // Taken out first: a row that is refused becomes a row of another side output.
        let mut rows = self.with_rows(env, std::mem::take);
        if !rows.is_empty() {
            rows.drain(..).for_each(|row| self.outputs.push(row, env));
            self.with_rows(env, |left| {
                rows.append(left);
                *left = rows;
            });
        }
    }
    fn is_full(&self) -> bool {
        self.outputs.is_full()
    }
    fn control(&mut self, control: Control) {
        self.outputs.control(control);
    }
    fn flush(&mut self, outbox: &mut Outbox) {
        self.outputs.flush(outbox);
    }
    fn on_returned(
        &mut self,
        channel: ChannelId,
        returned: Returned,
        outbox: &mut Outbox,
    ) -> Result<(), Returned> {
        self.outputs.on_returned(channel, returned, outbox)
    }
    fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
    fn holds_barrier(&self, checkpoint: CheckpointId) -> bool {
        self.outputs.holds_barrier(checkpoint)
    }
    fn overtake(&mut self, checkpoint: CheckpointId, snapshot: &mut Snapshot) {
        self.outputs.overtake(checkpoint, snapshot);
    }
    fn row_count(&self) -> u64 {
        self.outputs.row_count()
    }
    fn load(&self) -> Load {
        self.outputs.load()
    }
}
