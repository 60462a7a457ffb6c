//! [`ProcessFunction`], its operator, and where functions without keys run.

use std::marker::PhantomData;

use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::process::context::{ProcessContext, split};
use crate::operator::process::open::{Declarable, Declared, OpenContext};
use crate::operator::{Operator, OperatorContext, Output};
use crate::state::broadcast::BroadcastStates;
use crate::state::operator_list::OperatorLists;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// A function over the records of a stream, with side outputs and, if it declares any, lists that
/// belong to no key.
///
/// ```
/// use millstream::prelude::*;
///
/// const ODD: OutputTag<u64> = OutputTag::new("odd");
///
/// #[derive(Clone)]
/// struct Split;
///
/// impl ProcessFunction<u64> for Split {
///     type Out = u64;
///
///     fn process(
///         &mut self,
///         value: u64,
///         ctx: &mut ProcessContext<'_>,
///         out: &mut impl Output<u64>,
///     ) {
///         if value % 2 == 0 { out.collect(value) } else { ctx.side_output(ODD, value) }
///     }
/// }
/// ```
pub trait ProcessFunction<In>: Clone + Send + 'static {
    /// What comes out.
    type Out: 'static;

    /// Declares the lists.
    fn open(&mut self, _ctx: &mut OpenContext<'_>) {}

    /// Takes a record.
    fn process(
        &mut self,
        value: In,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Self::Out>,
    );
}

/// The state of a function without keys on one task.
#[derive(Debug)]
pub(super) struct UnkeyedTask {
    pub(super) broadcast: BroadcastStates,
    lists: OperatorLists,
    task_index: u32,
}

impl UnkeyedTask {
    pub(super) fn new(declared: Declared, ctx: &OperatorContext<'_>) -> Self {
        let Declared { broadcast, lists, .. } = declared;
        let task = ctx.env().task;
        let lists = lists.moved_to(task.task_index, task.parallelism);
        Self { broadcast, lists, task_index: task.task_index }
    }

    /// The task of an operator that has been opened.
    #[inline]
    pub(super) fn of(opened: &mut Option<Self>) -> &mut Self {
        opened.as_mut().expect("an operator is opened before anything else")
    }

    /// Runs user code for a record.
    #[inline]
    pub(super) fn run<O>(
        &mut self,
        cause: &Row<()>,
        ctx: &OperatorContext<'_>,
        out: &mut O,
        user_code: impl FnOnce(&mut ProcessContext<'_>, &mut O),
    ) {
        let outer = ctx.env().enter_row(cause);
        let mut context =
            ProcessContext { operator: *ctx, broadcast: &self.broadcast, lists: &mut self.lists };
        user_code(&mut context, out);
        ctx.env().leave(outer);
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.broadcast.snapshot(self.task_index, writer);
        self.lists.snapshot(writer);
    }

    pub(super) fn restore(&mut self, reader: &SnapshotReader<'_>) -> Result<(), Error> {
        self.broadcast.restore(reader)?;
        self.lists.restore(reader)
    }
}

/// A [`ProcessFunction`] as an operator.
pub struct Process<In, F> {
    function: F,
    /// From `open` on.
    task: Option<UnkeyedTask>,
    records: PhantomData<fn(In)>,
}

const DECLARABLE: Declarable = Declarable { keyed: false, broadcast: false };

impl<In, F> Process<In, F> {
    /// The operator around `function`.
    pub fn new(function: F) -> Self {
        Self { function, task: None, records: PhantomData }
    }
}

/// A clone has seen nothing.
impl<In, F: Clone> Clone for Process<In, F> {
    fn clone(&self) -> Self {
        Self::new(self.function.clone())
    }
}

impl<In: 'static, F: ProcessFunction<In>> Operator for Process<In, F> {
    type In = In;
    type Out = F::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let mut function = self.function.clone();
        Declared::collect(DECLARABLE, |ctx| function.open(ctx)).into_facts(DECLARABLE)
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let declared = Declared::collect(DECLARABLE, |ctx| self.function.open(ctx)).check(ctx)?;
        self.task = Some(UnkeyedTask::new(declared, ctx));
        Ok(())
    }

    #[inline]
    fn on_row(&mut self, row: Row<In>, ctx: &OperatorContext<'_>, out: &mut impl Output<F::Out>) {
        let (cause, value) = split(row);
        UnkeyedTask::of(&mut self.task).run(&cause, ctx, out, |ctx, out| {
            self.function.process(value, ctx, out);
        });
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        if let Some(task) = &self.task {
            task.snapshot(writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        _ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        UnkeyedTask::of(&mut self.task).restore(reader)
    }
}
