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
//! When memory is short, keys that had no record lately leave it (`state/residents.rs`). They keep
//! their place in the agenda, and are never read only to be cleared: when everything of such a key
//! is past, it is forgotten.
//!
//! Invariant: a pair is emitted exactly once, when its later-arriving record comes.

mod sides;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::record::Record;
use crate::data::row::{NO_EVENT_TIME, Row};
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::{Facts, SideOutputFacts};
use crate::limits::{EVENT_TIME_MS_MAX, EVENT_TIME_MS_MIN};
use crate::operator::join::side;
use crate::operator::join::{LateJoin, LateSides};
use crate::operator::spilling;
use crate::operator::waiting::{Parked, WaitingRows};
use crate::operator::watermark::has_event_time;
use crate::operator::window::LateOutput as _;
use crate::operator::window::agenda::Agenda;
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::durable::Save;
use crate::state::residents::{Belongings as _, Residents};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::time::strategy::duration_ms;
use crate::time::window::show;
use sides::{LEFT, PairedBy, RIGHT, Sides};

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
    keys: Residents<K, Sides<A, B>>,
    agenda: Agenda,
    waiting: VecDeque<Row<Either<A, B>>>,
    parked: Parked<Row<Either<A, B>>>,
}

/// No two event times are further apart, and adding it to one does not overflow.
const FAR_MS: i64 = EVENT_TIME_MS_MAX - EVENT_TIME_MS_MIN;

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
            keys: Residents::new(HashRange::ALL),
            agenda: Agenda::default(),
            waiting: VecDeque::new(),
            parked: Parked::default(),
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
        let belongings = self.belongings();
        self.keys.keep(slot, &belongings);
        let sides = self.keys.value_mut(slot);
        sides.left.drop_until(watermark_ms.saturating_sub(self.upper_ms));
        sides.right.drop_until(watermark_ms.saturating_add(self.lower_ms));
        let left_ms = sides.left.first_ms().map(|at_ms| at_ms + self.upper_ms);
        let right_ms = sides.right.first_ms().map(|at_ms| at_ms - self.lower_ms);
        let Some(due_ms) = left_ms.into_iter().chain(right_ms).min() else {
            self.keys.forget(slot);
            return;
        };
        let due_ms = self.visit_at(due_ms);
        let sides = self.keys.value_mut(slot);
        if due_ms < sides.due_ms || sides.due_ms <= watermark_ms {
            sides.due_ms = due_ms;
            self.agenda.push(due_ms, slot);
        }
        self.keys.note_change(slot, |sides: &Sides<A, B>| sides.heap_bytes());
    }

    /// When a key is visited of which something is past at `time_ms`.
    fn visit_at(&self, time_ms: i64) -> i64 {
        time_ms + (-time_ms).rem_euclid(self.visit_ms)
    }

    /// Lets go of what is past. Of a key with parked rows that is for them to do, as of the
    /// watermark that they came behind.
    fn visit(&mut self, slot: Slot, watermark_ms: i64) {
        let next_ms = if self.parked.holds(self.keys.hash64(slot)) {
            watermark_ms + self.visit_ms
        } else if !self.keys.is_cold(slot) {
            return self.settle(slot, watermark_ms);
        } else if self.keys.value(slot).past_ms <= watermark_ms {
            self.keys.forget(slot);
            return;
        } else {
            self.keys.value(slot).past_ms
        };
        let next_ms = self.visit_at(next_ms);
        let belongings = self.belongings();
        self.keys.keep(slot, &belongings);
        self.keys.value_mut(slot).due_ms = next_ms;
        self.agenda.push(next_ms, slot);
    }

    fn belongings(&self) -> PairedBy {
        PairedBy { lower_ms: self.lower_ms, upper_ms: self.upper_ms, groups: self.groups }
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

impl<K, A, B, S, J> WaitingRows for IntervalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: ProcessJoinFunction<A, B>,
{
    type Waiting = Row<Either<A, B>>;

    #[inline]
    fn waiting(&mut self) -> &mut VecDeque<Row<Either<A, B>>> {
        &mut self.waiting
    }

    #[inline]
    fn parked(&mut self) -> Option<&mut Parked<Row<Either<A, B>>>> {
        Some(&mut self.parked)
    }

    #[inline]
    fn hash64_of(row: &Row<Either<A, B>>) -> u64 {
        row.hash64
    }

    #[inline]
    fn admit(&mut self, row: &Row<Either<A, B>>, ctx: &OperatorContext<'_>) -> bool {
        if !self.keys.has_evicted() {
            return true;
        }
        let (key, mut belongings) = ((self.key_of)(&row.value), self.belongings());
        spilling::admit(&mut self.keys, (row.hash64, &key), &mut belongings, ctx)
    }

    fn take(
        &mut self,
        row: Row<Either<A, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<J::Out>,
    ) -> Option<Row<Either<A, B>>> {
        let time_ms = row.event_time_ms;
        let Row { hash64, origin, value, .. } = row;
        let slot = self.keys.find_or_insert_with(hash64, (self.key_of)(&value), Sides::default);
        self.keys.note_use(slot);
        let belongings = self.belongings();
        self.keys.keep(slot, &belongings);
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
        self.settle(slot, ctx.watermark_ms());
        let mut belongings = self.belongings();
        spilling::make_room(&mut self.keys, &mut belongings, ctx);
        None
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
        self.keys = spilling::open(ctx);
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
        if row.event_time_ms <= ctx.watermark_ms() {
            self.late.put_aside(row, ctx);
            return;
        }
        self.take_or_wait(row, ctx, out);
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<J::Out>,
    ) -> Option<i64> {
        let belongings = self.belongings();
        spilling::recharge(&mut self.keys, &belongings, ctx);
        None
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<J::Out>,
    ) -> Progress {
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        while let Some((due_ms, slot)) = self.agenda.first(watermark_ms) {
            if self.keys.get_slot(slot).is_some_and(|sides| sides.due_ms == due_ms) {
                if !ctx.env().spend() {
                    return Progress::Pending;
                }
                self.visit(slot, watermark_ms);
            }
            self.agenda.pop();
        }
        let belongings = self.belongings();
        spilling::recharge(&mut self.keys, &belongings, ctx);
        let is_done = !self.parked.has_some_before(watermark_ms);
        if is_done { Progress::Done } else { Progress::Pending }
    }

    fn next_time_ms(&self) -> Option<i64> {
        let is_room = !self.keys.is_full();
        self.parked.wants_call(self.waiting.len(), is_room).then_some(NO_EVENT_TIME)
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, out: &mut impl Output<J::Out>) -> Progress {
        self.take_waiting(ctx, out)
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<J::Out>,
    ) -> Progress {
        let progress = self.take_waiting(ctx, out);
        if self.parked.is_empty() { progress } else { Progress::Pending }
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.waiting.is_empty() && !self.parked.is_full() && !self.keys.is_full()
    }

    fn on_state_read(
        &mut self,
        hash64: u64,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<J::Out>,
    ) {
        self.parked.on_read(hash64);
        // What is left for want of budget is taken when processing time calls.
        let _ = self.take_parked(ctx, out);
    }

    fn evict(&mut self, steps: u32, ctx: &OperatorContext<'_>) -> bool {
        let mut belongings = self.belongings();
        spilling::evict(&mut self.keys, steps, &mut belongings, ctx)
    }

    fn has_waiting_rows(&self) -> bool {
        !self.waiting.is_empty() || !self.parked.is_empty()
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if self.has_waiting_rows() {
            return Progress::Pending;
        }
        let mut belongings = self.belongings();
        spilling::gather(&mut self.keys, &mut belongings, ctx)
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        spilling::cut(&mut self.keys, checkpoint, ctx);
    }

    fn save(&mut self, save: Save, ctx: &OperatorContext<'_>) -> Progress {
        let belongings = self.belongings();
        spilling::save(&mut self.keys, save, &belongings, ctx)
    }

    fn is_settled(&self, checkpoint: CheckpointId) -> bool {
        self.keys.is_saved(checkpoint)
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(!self.has_waiting_rows(), "an operator that is not ready is not cut");
        if self.keys.is_durable() {
            return;
        }
        self.keys.save_cold(writer);
        for slot in self.keys.slots() {
            let of = (self.keys.hash64(slot), self.keys.key(slot));
            self.belongings().save(slot, of, self.keys.value(slot), writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        for saved in side::load::<K, A>(LEFT, reader, ctx)? {
            let slot = self.keys.find_or_insert_with(saved.hash64, saved.key, Sides::default);
            self.keys.value_mut(slot).left.add(saved.time_ms, saved.value);
        }
        for saved in side::load::<K, B>(RIGHT, reader, ctx)? {
            let slot = self.keys.find_or_insert_with(saved.hash64, saved.key, Sides::default);
            self.keys.value_mut(slot).right.add(saved.time_ms, saved.value);
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
            keys: Residents::new(HashRange::ALL),
            agenda: Agenda::default(),
            waiting: VecDeque::new(),
            parked: Parked::default(),
        }
    }
}
