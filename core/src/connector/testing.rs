//! What the tests of sinks share: a context, and an output that nothing arrives at.

use crate::data::row::Row;
use crate::operator::{Nothing, OperatorContext, Output, TaskEnv};

/// The context of the operator `name` in `env`.
pub(crate) fn context<'a>(env: &'a TaskEnv, name: &'a str) -> OperatorContext<'a> {
    OperatorContext::new(env, name, 0, i64::MIN)
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
