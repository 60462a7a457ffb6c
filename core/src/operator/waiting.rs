//! Rows that wait until what is due of their key has happened.
//!
//! What is due of a row's key (timers that fire, records that are joined) happens before the row,
//! but at most so much in one go. If there is more, the row waits, and so do those behind it; the
//! operator is not ready meanwhile, so the task leaves its inputs alone and no barrier passes. What
//! is due is pending, so the operator is called again in the next turn, and that begins with the
//! rows that wait.
//!
//! An operator may have more to do before a row than what is due of one key: what is due of all
//! keys, before a broadcast record, and a walk over all of them that such a record has asked for.
//! That happens in slices, too.
//!
//! Invariant: rows wait only while the operator has told the task that something is pending, or
//! that processing time is to call it at once.

use std::collections::VecDeque;

use crate::operator::{Operator, OperatorContext, Output, Progress};

/// An operator whose rows may have to wait.
pub(in crate::operator) trait WaitingRows: Operator {
    /// A row, and what must be known of the moment at which it came.
    type Waiting;

    /// The rows that wait, in their order.
    fn waiting(&mut self) -> &mut VecDeque<Self::Waiting>;

    /// Goes on with what must be done before the first of the rows that wait, and is more than what
    /// is due of one key.
    #[inline]
    fn go_on(&mut self, _ctx: &OperatorContext<'_>, _out: &mut impl Output<Self::Out>) -> Progress {
        Progress::Done
    }

    /// Takes `row`; gives it back if more is due before it than happens in one go.
    fn take(
        &mut self,
        row: Self::Waiting,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) -> Option<Self::Waiting>;

    /// Takes `row`, now or later.
    #[inline]
    fn take_or_wait(
        &mut self,
        row: Self::Waiting,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) {
        let row = if self.is_ready() { self.take(row, ctx, out) } else { Some(row) };
        if let Some(row) = row {
            self.wait(row, ctx);
        }
    }

    /// Puts `row` behind those that wait.
    fn wait(&mut self, row: Self::Waiting, ctx: &OperatorContext<'_>) {
        self.waiting().push_back(row);
        // The feed stops here; what one row before this makes of itself may still come.
        ctx.env().set_budget(0);
    }

    /// Takes the rows that wait, as far as the budget goes.
    fn take_waiting(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) -> Progress {
        loop {
            if self.go_on(ctx, out) == Progress::Pending {
                return Progress::Pending;
            }
            let Some(row) = self.waiting().pop_front() else { return Progress::Done };
            let row = if ctx.env().spend() { self.take(row, ctx, out) } else { Some(row) };
            if let Some(row) = row {
                self.waiting().push_front(row);
                return Progress::Pending;
            }
        }
    }
}
