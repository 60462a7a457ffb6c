//! Gives rows their event time and makes the watermarks of a source's chain.
//!
//! The first place where event time exists: it stands in the chain of the source, before anything
//! that mixes splits, and learns about splits from the source and from the rows' origins. The
//! watermark leaves at the end of a batch, behind the rows that raised it.
//!
//! Event times are milliseconds since 1970 within the years 1 to 9999. Anything else is a mistake
//! of the closure or of the input and stops the job with an error that names the record, unless the
//! strategy skips such records.

use std::fmt;
use std::marker::PhantomData;

use crate::data::row::{NO_EVENT_TIME, Row};
use crate::error::Error;
use crate::graph::Facts;
use crate::limits::{EVENT_TIME_MS_MAX, EVENT_TIME_MS_MIN};
use crate::operator::{Operator, OperatorContext, Output, Progress, SplitEvent};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::time::splits::SplitWatermarks;
use crate::time::strategy::{EventTimeOf, WatermarkGenerator, WatermarkStrategy};

/// Assigns event times by a closure, and makes watermarks by a strategy.
#[derive(Debug)]
pub struct AssignWatermarks<T, G, F> {
    splits: SplitWatermarks<G>,
    event_time_of: F,
    task_index: u32,
    record: PhantomData<fn(T)>,
}

// Derived, it would ask for `T: Clone`.
impl<T, G: Clone, F: Clone> Clone for AssignWatermarks<T, G, F> {
    fn clone(&self) -> Self {
        Self {
            splits: self.splits.clone(),
            event_time_of: self.event_time_of.clone(),
            task_index: self.task_index,
            record: PhantomData,
        }
    }
}

impl<T, G, F> AssignWatermarks<T, G, F>
where
    G: WatermarkGenerator<T>,
    F: EventTimeOf<T>,
{
    /// `event_time_of` says when a record happened, ms since 1970.
    pub fn new(strategy: WatermarkStrategy<G>, event_time_of: F) -> Self {
        let splits = SplitWatermarks::new(strategy);
        Self { splits, event_time_of, task_index: 0, record: PhantomData }
    }

    /// Counts or reports a row that cannot have the event time given.
    #[cold]
    fn on_invalid_time(&self, event_time_ms: i64, row: &Row<T>, ctx: &OperatorContext<'_>) {
        if self.splits.strategy().skips_invalid_times {
            ctx.env().count_late();
            return;
        }
        ctx.fail(Error::Input {
            place: format!("operator {}, record {:?}", ctx.name(), row.origin),
            reason: format!(
                "{}; the closure, or the source, must give milliseconds since 1970 \
                 (`skip_invalid_times` drops such records)",
                Unusable(event_time_ms)
            ),
        });
    }

    fn publish(&mut self, ctx: &OperatorContext<'_>) {
        let env = ctx.env();
        env.is_idle.set(self.splits.is_idle());
        if self.splits.strategy().drift_max_ms.is_some() {
            env.source_watermark_ms.set(self.splits.active_min_ms());
            let group_ms = env.source_group_watermark_ms.get();
            let now_ms = env.processing_time_ms.get();
            if self.splits.align(group_ms, now_ms, &mut env.paused_splits.borrow_mut()) {
                env.wants_turn.set(true);
            }
        }
    }
}

impl<T, G, F> Operator for AssignWatermarks<T, G, F>
where
    T: 'static,
    G: WatermarkGenerator<T>,
    F: EventTimeOf<T>,
{
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts { is_stateful: true, makes_watermarks: true, ..Facts::stateless() }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.task_index = ctx.env().task.task_index;
        Ok(())
    }

    #[inline]
    fn on_row(&mut self, mut row: Row<T>, ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        let now_ms = ctx.processing_time_ms();
        let event_time_ms = self.event_time_of.event_time_ms(&row.value, row.event_time_ms, now_ms);
        if !is_event_time(event_time_ms) {
            self.on_invalid_time(event_time_ms, &row, ctx);
            return;
        }
        let split = ctx.env().split_of(row.origin);
        self.splits.on_record(split, &row.value, event_time_ms, now_ms);
        row.event_time_ms = event_time_ms;
        out.emit(row);
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<T>,
    ) -> Option<i64> {
        let risen_ms = self.splits.on_batch_end(ctx.processing_time_ms());
        self.publish(ctx);
        risen_ms
    }

    fn next_time_ms(&self) -> Option<i64> {
        self.splits.next_deadline_ms()
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<T>) -> Progress {
        self.splits.expire::<T>(ctx.processing_time_ms());
        Progress::Done
    }

    fn on_split(&mut self, event: SplitEvent, ctx: &OperatorContext<'_>) {
        let now_ms = ctx.processing_time_ms();
        match event {
            SplitEvent::Active(split) => self.splits.on_active(split, now_ms),
            SplitEvent::Idle(split) => self.splits.on_idle(split, now_ms),
            SplitEvent::Finished(split) => self.splits.on_finished(split, now_ms),
        }
    }

    /// One entry for every split, under the task that wrote it: a task does not know which of the
    /// splits of a snapshot will be its own, and carries them all until they are announced.
    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for (split, watermark_ms) in self.splits.reached() {
            writer.operator_state(&format!("split/{split}/{}", self.task_index), &watermark_ms);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.splits.restore_sent(ctx.watermark_ms());
        for (name, watermark_ms) in reader.operator_state::<i64>("split/")? {
            let split = name.split('/').nth(1).and_then(|number| number.parse().ok());
            let split = split.ok_or_else(|| Error::Corrupt {
                what: format!("operator state {name} of operator {}", ctx.name()),
                offset: 0,
                reason: "no split number in the name".to_string(),
            })?;
            self.splits.restore_split(split, watermark_ms);
        }
        Ok(())
    }
}

/// Whether the row has a usable event time. If not, the job stops: a window cannot guess it.
#[inline]
pub fn has_event_time<T>(row: &Row<T>, ctx: &OperatorContext<'_>) -> bool {
    let is_usable = is_event_time(row.event_time_ms);
    if !is_usable {
        fail_without_time(row, ctx);
    }
    is_usable
}

#[cold]
fn fail_without_time<T>(row: &Row<T>, ctx: &OperatorContext<'_>) {
    let found = Unusable(row.event_time_ms);
    ctx.fail(Error::Input {
        place: format!("operator {}, record {:?}", ctx.name(), row.origin),
        reason: format!("{found}; assign event times before it, in milliseconds since 1970"),
    });
}

/// What is wrong with an event time (ms).
struct Unusable(i64);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NO_EVENT_TIME => f.write_str("has no event time"),
            ms => write!(f, "has event time {ms}, which is not within the years 1 to 9999"),
        }
    }
}

/// A stream that has no time of its own and holds nobody back: rules, settings, a dimension table.
#[derive(Debug)]
pub struct HoldNothingBack<T>(PhantomData<fn(T)>);

impl<T> Default for HoldNothingBack<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for HoldNothingBack<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T: 'static> Operator for HoldNothingBack<T> {
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts { makes_watermarks: true, ..Facts::stateless() }
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        out.emit(row);
    }

    /// The task is idle from its first turn on, whatever it delivers.
    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<T>,
    ) -> Option<i64> {
        ctx.env().is_idle.set(true);
        None
    }
}

/// Whether a number can be an event time; see [`crate::limits`].
#[inline]
pub fn is_event_time(event_time_ms: i64) -> bool {
    const RANGE: u64 = (EVENT_TIME_MS_MAX - EVENT_TIME_MS_MIN) as u64;
    event_time_ms.wrapping_sub(EVENT_TIME_MS_MIN) as u64 <= RANGE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data::key_group::KeyGroupCount;
    use crate::data::row::Origin;
    use crate::operator::env::TaskPlace;
    use crate::operator::{Chain, Stage, TaskEnv};
    use crate::state::snapshot::Snapshot;
    use crate::time::strategy::{BoundedOutOfOrderness, IntoWatermarkStrategy};

    struct Rows(TaskEnv, Vec<Row<i64>>);

    impl Output<i64> for Rows {
        fn emit(&mut self, row: Row<i64>) {
            self.1.push(row);
        }

        fn env(&self) -> &TaskEnv {
            &self.0
        }
    }

    fn env() -> TaskEnv {
        TaskEnv::new(TaskPlace {
            chain_index: 0,
            task_index: 0,
            parallelism: 1,
            key_group_count: KeyGroupCount::new(16).expect("in range"),
        })
    }

    fn stage(strategy: impl IntoWatermarkStrategy<i64>) -> impl Chain<In = i64, Out = i64> {
        let seconds = |record: &i64| record * 1000;
        Stage::new(AssignWatermarks::new(strategy.into_strategy(), seconds), "time", "time")
    }

    fn row(split: u32, seconds: i64) -> Row<i64> {
        Row { origin: Origin::new(0, split, 5), ..Row::from(seconds) }
    }

    #[test]
    fn rows_get_their_time_and_the_watermark_follows_them() {
        let (env, mut out) = (env(), Rows(env(), Vec::new()));
        let mut stage = stage(BoundedOutOfOrderness::new(Duration::from_secs(2)));
        stage.on_row(row(1, 10), &env, &mut out);
        stage.on_row(row(1, 9), &env, &mut out);
        assert_eq!(stage.on_batch_end(&env, &mut out), Some(7_999));
        assert_eq!(stage.on_batch_end(&env, &mut out), None);
        assert_eq!(out.1.iter().map(|row| row.event_time_ms).collect::<Vec<_>>(), [10_000, 9_000]);
    }

    /// A watched directory has more files in time than a row's origin can tell apart.
    #[test]
    fn splits_of_any_number_have_their_own_watermark() {
        let (env, mut out) = (env(), Rows(env(), Vec::new()));
        let mut stage = stage(BoundedOutOfOrderness::new(Duration::ZERO));
        for split in Origin::SPLIT_COUNT_MAX - 2..Origin::SPLIT_COUNT_MAX + 3 {
            stage.on_split(SplitEvent::Active(split), &env);
            env.enter_split(split);
            stage.on_row(row(split, i64::from(split)), &env, &mut out);
            let reached_ms = i64::from(split) * 1_000 - 1;
            assert_eq!(stage.on_batch_end(&env, &mut out), Some(reached_ms));
            stage.on_split(SplitEvent::Finished(split), &env);
        }
    }

    #[test]
    fn an_impossible_time_names_the_record() {
        let (env, mut out) = (env(), Rows(env(), Vec::new()));
        let mut stage = stage(BoundedOutOfOrderness::new(Duration::ZERO));
        stage.on_row(row(7, 1_700_000_000_000), &env, &mut out);
        let message = env.take_failure().expect("a failure").to_string();
        assert!(message.contains("operator time, record 0/7/5"), "{message}");
        assert!(message.contains("milliseconds"), "{message}");
        assert!(out.1.is_empty());
    }

    #[test]
    fn impossible_times_can_be_skipped() {
        let (env, mut out) = (env(), Rows(env(), Vec::new()));
        let mut stage = stage(BoundedOutOfOrderness::new(Duration::ZERO).skip_invalid_times());
        stage.on_row(row(7, i64::MIN / 1000), &env, &mut out);
        assert!(env.take_failure().is_none() && out.1.is_empty());
        assert_eq!(env.late_records.get(), 1);
    }

    #[test]
    fn watermarks_survive_a_restore() {
        let (env, mut out) = (env(), Rows(env(), Vec::new()));
        let strategy = || BoundedOutOfOrderness::new(Duration::ZERO);
        let mut before = stage(strategy());
        before.on_row(row(1, 10), &env, &mut out);
        before.on_row(row(2, 30), &env, &mut out);
        assert_eq!(before.on_batch_end(&env, &mut out), Some(9_999));
        let mut snapshot = Snapshot::default();
        before.snapshot(&mut snapshot);

        let mut after = stage(strategy());
        after.restore(&snapshot, &env).expect("just written");
        after.on_split(SplitEvent::Active(2), &env);
        assert_eq!(after.on_batch_end(&env, &mut out), Some(29_999), "split 2 alone is here now");
        after.on_row(row(2, 20), &env, &mut out);
        assert_eq!(after.on_batch_end(&env, &mut out), None, "no watermark goes back");
    }
}
