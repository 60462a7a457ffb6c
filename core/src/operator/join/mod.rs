//! Joins of two keyed streams by event time.
//!
//! | join | pairs |
//! |---|---|
//! | [`IntervalJoin`] | records whose times differ by no less and no more than given bounds |
//! | [`TemporalJoin`] | a record with the version of its key's other side as of its event time |
//! | `window/contents.rs` | records that share a window: `window_join`, `co_group` |
//!
//! Both sides come as [`Either`], keyed alike. A record at or before
//! the watermark is late: it is counted, and goes to the side output for late records of its side,
//! if there is one.

mod interval;
mod side;
mod temporal;

pub use interval::{IntervalJoin, JoinContext, ProcessJoinFunction, TimeBound};
pub use temporal::{InnerJoin, LeftOuterJoin, TemporalFunction, TemporalJoin};

use crate::data::either::Either;
use crate::data::row::Row;
use crate::graph::SideOutputFact;
use crate::operator::side_output::OutputTag;
use crate::operator::window::LateOutput;
use crate::operator::{Operator, OperatorContext};

/// Where late records of the two sides go.
pub struct LateSides<A, B> {
    /// Of the first input.
    pub left: Option<OutputTag<A>>,
    /// Of the second input.
    pub right: Option<OutputTag<B>>,
}

impl<A, B> Default for LateSides<A, B> {
    /// Nowhere: they are counted.
    fn default() -> Self {
        Self { left: None, right: None }
    }
}

impl<A, B> Clone for LateSides<A, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, B> Copy for LateSides<A, B> {}

impl<A: 'static, B: 'static> LateOutput<Either<A, B>> for LateSides<A, B> {
    fn put(&self, row: Row<Either<A, B>>, ctx: &OperatorContext<'_>) {
        let Row { hash64, event_time_ms, origin, value } = row;
        match (value, self.left, self.right) {
            (Either::Left(value), Some(tag), _) => {
                ctx.side_output_row(tag, Row { hash64, event_time_ms, origin, value });
            }
            (Either::Right(value), _, Some(tag)) => {
                ctx.side_output_row(tag, Row { hash64, event_time_ms, origin, value });
            }
            _ => {}
        }
    }

    fn facts(&self) -> Vec<SideOutputFact> {
        let left = self.left.iter().map(OutputTag::fact);
        left.chain(self.right.iter().map(OutputTag::fact)).collect()
    }
}

impl<A: 'static, B: 'static> LateSides<A, B> {
    /// Counts a record that comes too late, and puts it where it belongs.
    #[cold]
    fn put_aside(&self, row: Row<Either<A, B>>, ctx: &OperatorContext<'_>) {
        ctx.env().count_late();
        self.put(row, ctx);
    }
}

/// A join that puts late records of its two inputs aside.
pub trait LateJoin: Operator {
    /// Records of the first input.
    type Left: 'static;
    /// Records of the second input.
    type Right: 'static;

    /// Where late records go.
    fn late_mut(&mut self) -> &mut LateSides<Self::Left, Self::Right>;
}
