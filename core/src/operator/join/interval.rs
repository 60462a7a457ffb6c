//! Interval join: records of two inputs whose event times are close.
//!
//! ```text
//! left  at t   pairs with rights from t + lower to t + upper
//!                  ├──────────────┤
//! ─────────────────────────t──────────────► event time
//! ```
//!
//! Every record looks through the other side's buffer and then waits in its own until the watermark
//! says that nothing can pair with it any more. Dropping it later than that changes nothing: what
//! could still pair with it is late. So buffers are cleared in slices, and keys are visited at
//! rounded times.
//!
//! Invariant: a pair is emitted exactly once, when its later-arriving record comes.

use std::time::Duration;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::record::Record;
use crate::data::row::Row;
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::{Facts, SideOutputFacts};
use crate::limits::{EVENT_TIME_MS_MAX, EVENT_TIME_MS_MIN};
use crate::operator::join::side::{self, Side};
use crate::operator::join::{LateJoin, LateSides};
use crate::operator::watermark::has_event_time;
use crate::operator::window::LateOutput as _;
use crate::operator::window::agenda::Agenda;
use crate::operator::window::stored::{KeyWriter, StateName};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;
use crate::time::strategy::duration_ms;
use crate::time::window::show;

const LEFT: StateName = StateName("left", 0);
const RIGHT: StateName = StateName("right", 1);

/// A time relative to a record's: an end of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeBound {
    ms: i64,
}

impl TimeBound {
    /// The record's own time.
    pub const SAME_TIME: Self = Self { ms: 0 };

    /// That long before the record.
    pub fn before(duration: Duration) -> Self {
        Self { ms: -duration_ms(duration) }
    }

    /// That long after the record.
    pub fn after(duration: Duration) -> Self {
        Self { ms: duration_ms(duration) }
    }

    /// In milliseconds, negative before the record.
    pub fn ms(self) -> i64 {
        self.ms
    }
}

/// Makes results of a pair of records.
pub trait ProcessJoinFunction<A, B>: Clone + Send + 'static {
    /// What it emits.
    type Out: 'static;

    /// Takes a pair. Results go to `out`; [`Output::collect`] gives them the later of the two
    /// times.
    fn process(
        &mut self,
        left: &A,
        right: &B,
        ctx: &JoinContext<'_>,
        out: &mut impl Output<Self::Out>,
    );

    /// Which side outputs it may write.
    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Any
    }
}

/// One result per pair by a closure `|left, right| ...`.
impl<A, B, R, F> ProcessJoinFunction<A, B> for F
where
    R: 'static,
    F: FnMut(&A, &B) -> R + Clone + Send + 'static,
{
    type Out = R;

    #[inline]
    fn process(&mut self, left: &A, right: &B, _: &JoinContext<'_>, out: &mut impl Output<R>) {
        out.collect(self(left, right));
    }

    fn side_outputs(&self) -> SideOutputFacts {
        SideOutputFacts::Only(Vec::new())
    }
}

/// What a function sees of a pair besides the records.
#[derive(Debug, Clone, Copy)]
pub struct JoinContext<'a> {
    left_ms: i64,
    right_ms: i64,
    operator: OperatorContext<'a>,
}

impl<'a> JoinContext<'a> {
    /// Event time of the left record, ms.
    pub fn left_event_time_ms(&self) -> i64 {
        self.left_ms
    }

    /// Event time of the right record, ms.
    pub fn right_event_time_ms(&self) -> i64 {
        self.right_ms
    }

    /// The operator's context: watermark, processing time, side outputs.
    pub fn operator(&self) -> &OperatorContext<'a> {
        &self.operator
    }
}

/// Pairs records by time. The result's event time is the later of the two.
pub struct IntervalJoin<K, A, B, S, J> {
    key_of: S,
    join: J,
    lower_ms: i64,
    upper_ms: i64,
    /// Keys are visited at multiples of this, ms: some dozens of times per interval.
    visit_ms: i64,
    late: LateSides<A, B>,
    groups: KeyGroupCount,
    keys: KeyTable<K, Sides<A, B>>,
    agenda: Agenda,
}

#[derive(Debug, Clone)]
struct Sides<A, B> {
    left: Side<A>,
    right: Side<B>,
    /// When the key is in the agenda (ms).
    due_ms: i64,
}

const NEVER_MS: i64 = i64::MAX;

/// No two event times are further apart, and adding it to one does not overflow.
const FAR_MS: i64 = EVENT_TIME_MS_MAX - EVENT_TIME_MS_MIN;

impl<A, B> Default for Sides<A, B> {
    fn default() -> Self {
        Self { left: Side::default(), right: Side::default(), due_ms: NEVER_MS }
    }
}

impl<K, A, B, S, J> IntervalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: ProcessJoinFunction<A, B>,
{
    /// Pairs a left record at `t` with right records of its key from `t + lower_ms` to
    /// `t + upper_ms`, both included; no further than event time itself goes.
    pub fn new(lower_ms: i64, upper_ms: i64, key_of: S, join: J, late: LateSides<A, B>) -> Self {
        let [lower_ms, upper_ms] = [lower_ms, upper_ms].map(|ms| ms.clamp(-FAR_MS, FAR_MS));
        Self {
            key_of,
            join,
            lower_ms,
            upper_ms,
            visit_ms: ((upper_ms - lower_ms) / 64).max(1),
            late,
            groups: KeyGroupCount::new(1).expect("in range"),
            keys: KeyTable::new(HashRange::ALL),
            agenda: Agenda::default(),
        }
    }

    /// Without pairs exactly at the lower bound.
    pub fn without_lower_bound(self) -> Self {
        Self { lower_ms: self.lower_ms + 1, ..self }
    }

    /// Without pairs exactly at the upper bound.
    pub fn without_upper_bound(self) -> Self {
        Self { upper_ms: self.upper_ms - 1, ..self }
    }

    /// Drops what nothing can pair with any more, and puts the key where it has to be visited next.
    fn settle(&mut self, slot: Slot, watermark_ms: i64) {
        let sides = self.keys.value_mut(slot);
        sides.left.drop_until(watermark_ms.saturating_sub(self.upper_ms));
        sides.right.drop_until(watermark_ms.saturating_add(self.lower_ms));
        let left_ms = sides.left.first_ms().map(|at_ms| at_ms + self.upper_ms);
        let right_ms = sides.right.first_ms().map(|at_ms| at_ms - self.lower_ms);
        let Some(due_ms) = left_ms.into_iter().chain(right_ms).min() else {
            self.keys.remove_slot(slot);
            return;
        };
        let due_ms = due_ms + (-due_ms).rem_euclid(self.visit_ms);
        if due_ms < sides.due_ms || sides.due_ms <= watermark_ms {
            sides.due_ms = due_ms;
            self.agenda.push(due_ms, slot);
        }
    }
}

impl<K, A, B, S, J> LateJoin for IntervalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: ProcessJoinFunction<A, B>,
{
    type Left = A;
    type Right = B;

    fn late_mut(&mut self) -> &mut LateSides<A, B> {
        &mut self.late
    }
}

impl<K, A, B, S, J> Operator for IntervalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: ProcessJoinFunction<A, B>,
{
    type In = Either<A, B>;
    type Out = J::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let bound = |ms: i64| if ms < 0 { format!("-{}", show(-ms)) } else { show(ms) };
        let (lower, upper) = (bound(self.lower_ms), bound(self.upper_ms));
        let problem = format!("from {lower} to {upper} is no interval: swap the bounds");
        let side_outputs = match self.join.side_outputs() {
            SideOutputFacts::Any => SideOutputFacts::Any,
            SideOutputFacts::Only(mut tags) => {
                tags.extend(self.late.facts());
                SideOutputFacts::Only(tags)
            }
        };
        Facts {
            detail: format!("interval {lower} to {upper}"),
            is_keyed: true,
            is_stateful: true,
            needs_watermarks: Some("an interval join"),
            side_outputs,
            problems: (self.upper_ms < self.lower_ms).then_some(problem).into_iter().collect(),
            ..Facts::default()
        }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.groups = ctx.env().task.key_group_count;
        self.keys = KeyTable::new(ctx.env().task.hashes());
        Ok(())
    }

    fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.keys.prefetch(ahead);
    }

    fn on_row(
        &mut self,
        row: Row<Either<A, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<J::Out>,
    ) {
        if !has_event_time(&row, ctx) {
            return;
        }
        let (time_ms, watermark_ms) = (row.event_time_ms, ctx.watermark_ms());
        if time_ms <= watermark_ms {
            self.late.put_aside(row, ctx);
            return;
        }
        let Row { hash64, origin, value, .. } = row;
        let slot = self.keys.find_or_insert_with(hash64, (self.key_of)(&value), Sides::default);
        let sides = self.keys.value_mut(slot);
        let join = &mut self.join;
        let mut pair = |(left, left_ms): (&A, i64), (right, right_ms): (&B, i64)| {
            let event_time_ms = left_ms.max(right_ms);
            let outer = ctx.env().enter_row(&Row { hash64, event_time_ms, origin, value: () });
            let ctx = JoinContext { left_ms, right_ms, operator: *ctx };
            join.process(left, right, &ctx, out);
            ctx.operator.env().leave(outer);
        };
        match value {
            Either::Left(left) => {
                let (from_ms, to_ms) = (time_ms + self.lower_ms, time_ms + self.upper_ms);
                for (other_ms, right) in sides.right.between(from_ms, to_ms) {
                    pair((&left, time_ms), (right, *other_ms));
                }
                sides.left.add(time_ms, left);
            }
            Either::Right(right) => {
                let (from_ms, to_ms) = (time_ms - self.upper_ms, time_ms - self.lower_ms);
                for (other_ms, left) in sides.left.between(from_ms, to_ms) {
                    pair((left, *other_ms), (&right, time_ms));
                }
                sides.right.add(time_ms, right);
            }
        }
        self.settle(slot, watermark_ms);
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<J::Out>,
    ) -> Progress {
        while let Some((due_ms, slot)) = self.agenda.first(watermark_ms) {
            if self.keys.get_slot(slot).is_some_and(|sides| sides.due_ms == due_ms) {
                if !ctx.env().spend() {
                    return Progress::Pending;
                }
                self.settle(slot, watermark_ms);
            }
            self.agenda.pop();
        }
        Progress::Done
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for (hash64, key, sides) in self.keys.iter() {
            let mut writer = KeyWriter::new(writer, self.groups, hash64, key);
            sides.left.save(LEFT, &mut writer);
            sides.right.save(RIGHT, &mut writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        for saved in side::load::<K, A>(LEFT, reader, ctx)? {
            let sides = self.keys.get_or_insert_with(saved.hash64, saved.key, Sides::default);
            sides.left.add(saved.time_ms, saved.value);
        }
        for saved in side::load::<K, B>(RIGHT, reader, ctx)? {
            let sides = self.keys.get_or_insert_with(saved.hash64, saved.key, Sides::default);
            sides.right.add(saved.time_ms, saved.value);
        }
        let slots: Vec<Slot> = self.keys.slots().collect();
        for slot in slots {
            self.settle(slot, i64::MIN);
        }
        Ok(())
    }
}

/// A clone has seen nothing.
impl<K, A, B, S: Clone, J: Clone> Clone for IntervalJoin<K, A, B, S, J> {
    fn clone(&self) -> Self {
        Self {
            key_of: self.key_of.clone(),
            join: self.join.clone(),
            lower_ms: self.lower_ms,
            upper_ms: self.upper_ms,
            visit_ms: self.visit_ms,
            late: self.late,
            groups: self.groups,
            keys: KeyTable::new(HashRange::ALL),
            agenda: Agenda::default(),
        }
    }
}
