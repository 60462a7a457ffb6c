//! What the tests of connectors share: an environment, and an output that remembers.

use crate::data::key_group::KeyGroupCount;
use crate::data::row::Row;
use crate::operator::env::TaskPlace;
use crate::operator::source::SourceOutput;
use crate::operator::{Nothing, OperatorContext, Output, SplitEvent, TaskEnv};

/// The environment of task `task_index` of `parallelism`.
pub(crate) fn task_env(task_index: u32, parallelism: u32) -> TaskEnv {
    let key_group_count = KeyGroupCount::new(128).expect("within the limits");
    TaskEnv::new(TaskPlace { chain_index: 0, task_index, parallelism, key_group_count })
}

/// The context of the operator `name` in `env`.
pub(crate) fn context<'a>(env: &'a TaskEnv, name: &'a str) -> OperatorContext<'a> {
    OperatorContext::new(env, name, 0, i64::MIN)
}

/// Everything that a reader handed on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rows<T> {
    pub(crate) rows: Vec<(u32, u64, i64, T)>,
    pub(crate) splits: Vec<SplitEvent>,
}

impl<T> SourceOutput<T> for Rows<T> {
    fn emit(&mut self, split: u32, position: u64, event_time_ms: i64, value: T) {
        self.rows.push((split, position, event_time_ms, value));
    }

    fn on_split(&mut self, event: SplitEvent) {
        self.splits.push(event);
    }
}

/// The output of a sink: nothing ever arrives.
pub(crate) struct NoOutput<'a>(pub(crate) &'a TaskEnv);

impl Output<Nothing> for NoOutput<'_> {
    fn emit(&mut self, row: Row<Nothing>) {
        match row.value {}
    }

    fn env(&self) -> &TaskEnv {
        self.0
    }
}
