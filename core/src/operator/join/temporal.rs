//! Temporal join: a record with the version of another table as of its own event time.
//!
//! ```text
//! right (versions)  ──v1@10───────v2@20──────────►
//! left              ───────a@15──────────b@25────►   a with v1, b with v2, whatever the arrival
//! ```
//!
//! A left record waits until the watermark has reached its time: then every version that it may
//! have to see is there. A version that comes behind the watermark still counts for left records
//! that have not been joined, unless a newer one has taken its place for all of them: then it is
//! late.
//!
//! With a time to live, a version ends that long after its event time: later left records are
//! joined as if the key had none. So when it is dropped cannot be seen.
//!
//! What the watermark has reached is joined before the next row of its key, so joining in slices
//! cannot be seen; but at most so much in one go, or else the row waits (`operator/waiting.rs`).
//!
//! Invariant: of the versions at or before the watermark a key keeps the newest only, and that only
//! until its time to live is over.

use std::collections::VecDeque;
use std::time::Duration;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::record::Record;
use crate::data::row::{Origin, Row};
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::{Facts, SideOutputFacts};
use crate::limits::INPUT_BUDGET_RECORDS;
use crate::operator::join::side::{self, Side};
use crate::operator::join::{LateJoin, LateSides};
use crate::operator::waiting::WaitingRows;
use crate::operator::watermark::has_event_time;
use crate::operator::window::LateOutput as _;
use crate::operator::window::agenda::Agenda;
use crate::operator::window::stored::{KeyWriter, StateName};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;
use crate::time::strategy::duration_ms;
use crate::time::window::show;

const WAITING: StateName = StateName("waiting", 0);
const VERSIONS: StateName = StateName("versions", 1);

/// Makes a result of a left record and the version as of its time.
pub trait TemporalFunction<A, B>: Clone + Send + 'static {
    /// What it makes.
    type Out: 'static;

    /// The result, if there is one; `version` is `None` if the key had no version yet.
    fn join(&mut self, left: A, version: Option<&B>) -> Option<Self::Out>;
}

/// Results for left records that have a version: `|left, version| ...`.
#[derive(Debug, Clone)]
pub struct InnerJoin<F>(
    /// Makes the result.
    pub F,
);

impl<A, B, R, F> TemporalFunction<A, B> for InnerJoin<F>
where
    R: 'static,
    F: FnMut(A, &B) -> R + Clone + Send + 'static,
{
    type Out = R;

    fn join(&mut self, left: A, version: Option<&B>) -> Option<R> {
        version.map(|version| (self.0)(left, version))
    }
}

/// Results for all left records: `|left, maybe_version| ...`.
#[derive(Debug, Clone)]
pub struct LeftOuterJoin<F>(
    /// Makes the result.
    pub F,
);

impl<A, B, R, F> TemporalFunction<A, B> for LeftOuterJoin<F>
where
    R: 'static,
    F: FnMut(A, Option<&B>) -> R + Clone + Send + 'static,
{
    type Out = R;

    fn join(&mut self, left: A, version: Option<&B>) -> Option<R> {
        Some((self.0)(left, version))
    }
}

/// Joins left records with versions. The result's event time is the left record's.
pub struct TemporalJoin<K, A, B, S, J> {
    key_of: S,
    join: J,
    late: LateSides<A, B>,
    /// How long a version lasts, ms; for ever without it.
    ttl_ms: Option<i64>,
    groups: KeyGroupCount,
    keys: KeyTable<K, History<A, B>>,
    agenda: Agenda,
    waiting: VecDeque<Row<Either<A, B>>>,
}

#[derive(Debug, Clone)]
struct History<A, B> {
    waiting: Side<A>,
    versions: Side<B>,
    /// When the key is in the agenda (ms): the time of its first waiting record, or of the end of
    /// its version.
    due_ms: i64,
}

const NEVER_MS: i64 = i64::MAX;

impl<A, B> Default for History<A, B> {
    fn default() -> Self {
        Self { waiting: Side::default(), versions: Side::default(), due_ms: NEVER_MS }
    }
}

impl<A, B> History<A, B> {
    /// Keeps of the versions at or before the watermark the newest, unless it has ended.
    fn forget(&mut self, watermark_ms: i64, ttl_ms: Option<i64>) {
        let known_count = self.versions.index_after(watermark_ms);
        self.versions.records.drain(..known_count.saturating_sub(1));
        if let Some(end_ms) = self.end_ms(ttl_ms)
            && end_ms <= watermark_ms
        {
            self.versions.records.pop_front();
        }
    }

    /// When the first version ends, if it does.
    fn end_ms(&self, ttl_ms: Option<i64>) -> Option<i64> {
        Some(self.versions.first_ms()?.saturating_add(ttl_ms?))
    }
}

impl<K, A, B, S, J> TemporalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: TemporalFunction<A, B>,
{
    /// Joins the left records of each key with the right ones as versions.
    pub fn new(key_of: S, join: J, late: LateSides<A, B>) -> Self {
        Self {
            key_of,
            join,
            late,
            ttl_ms: None,
            groups: KeyGroupCount::new(1).expect("in range"),
            keys: KeyTable::new(HashRange::ALL),
            agenda: Agenda::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Versions end this long after their event time, at least 1 ms.
    pub fn with_version_ttl(self, ttl: Duration) -> Self {
        Self { ttl_ms: Some(duration_ms(ttl).max(1)), ..self }
    }

    /// Joins the key's first waiting record, if the watermark has reached it.
    fn join_first(&mut self, slot: Slot, watermark_ms: i64, out: &mut impl Output<J::Out>) -> bool {
        let (hash64, _, history) = self.keys.entry_mut(slot);
        if history.waiting.first_ms().is_none_or(|first_ms| watermark_ms < first_ms) {
            return false;
        }
        let (time_ms, left) = history.waiting.records.pop_front().expect("there is a first one");
        let newest = history.versions.index_after(time_ms).checked_sub(1);
        let newest = newest.map(|index| &history.versions.records[index]);
        let version = newest
            .filter(|(from_ms, _)| {
                self.ttl_ms.is_none_or(|ttl_ms| time_ms < from_ms.saturating_add(ttl_ms))
            })
            .map(|(_, version)| version);
        // The record that is here by now did not cause this one.
        let outer = out.env().enter_time(time_ms, hash64);
        if let Some(result) = self.join.join(left, version) {
            let origin = Origin::NONE;
            let row = Row { hash64, event_time_ms: time_ms, origin, value: result };
            out.emit(row);
        }
        out.env().leave(outer);
        true
    }

    /// Puts the key where its next waiting record or the end of its version is due, or forgets it
    /// if there is nothing in it.
    fn settle(&mut self, slot: Slot, watermark_ms: i64) {
        let history = self.keys.value_mut(slot);
        if history.waiting.first_ms().is_none_or(|first_ms| watermark_ms < first_ms) {
            history.forget(watermark_ms, self.ttl_ms);
        }
        let (waiting_ms, end_ms) = (history.waiting.first_ms(), history.end_ms(self.ttl_ms));
        let due_ms = waiting_ms.or(end_ms).unwrap_or(NEVER_MS);
        if waiting_ms.is_none() && history.versions.records.is_empty() {
            self.keys.remove_slot(slot);
        } else if due_ms != history.due_ms {
            history.due_ms = due_ms;
            if due_ms != NEVER_MS {
                self.agenda.push(due_ms, slot);
            }
        }
    }
}

impl<K, A, B, S, J> LateJoin for TemporalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: TemporalFunction<A, B>,
{
    type Left = A;
    type Right = B;

    fn late_mut(&mut self) -> &mut LateSides<A, B> {
        &mut self.late
    }
}

impl<K, A, B, S, J> WaitingRows for TemporalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: TemporalFunction<A, B>,
{
    type Waiting = Row<Either<A, B>>;

    #[inline]
    fn waiting(&mut self) -> &mut VecDeque<Row<Either<A, B>>> {
        &mut self.waiting
    }

    fn take(
        &mut self,
        row: Row<Either<A, B>>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<J::Out>,
    ) -> Option<Row<Either<A, B>>> {
        let (time_ms, watermark_ms) = (row.event_time_ms, ctx.watermark_ms());
        if matches!(row.value, Either::Left(_)) && time_ms <= watermark_ms {
            self.late.put_aside(row, ctx);
            return None;
        }
        let key = (self.key_of)(&row.value);
        let slot = self.keys.find_or_insert_with(row.hash64, key, History::default);
        let mut left = INPUT_BUDGET_RECORDS;
        while self.join_first(slot, watermark_ms, out) {
            ctx.env().spend_more(1);
            left -= 1;
            if left == 0 {
                return Some(row);
            }
        }
        let history = self.keys.value_mut(slot);
        history.forget(watermark_ms, self.ttl_ms);
        let has_ended =
            self.ttl_ms.is_some_and(|ttl_ms| time_ms.saturating_add(ttl_ms) <= watermark_ms);
        let replaced_ms = history.versions.first_ms().filter(|first_ms| *first_ms <= watermark_ms);
        match row.value {
            Either::Left(left) => history.waiting.add(time_ms, left),
            Either::Right(version)
                if !has_ended && replaced_ms.is_none_or(|known_ms| known_ms <= time_ms) =>
            {
                history.versions.add(time_ms, version);
            }
            Either::Right(_) => self.late.put_aside(row, ctx),
        }
        self.settle(slot, watermark_ms);
        None
    }
}

impl<K, A, B, S, J> Operator for TemporalJoin<K, A, B, S, J>
where
    K: Key,
    A: Record,
    B: Record,
    S: FnMut(&Either<A, B>) -> K + 'static,
    J: TemporalFunction<A, B>,
{
    type In = Either<A, B>;
    type Out = J::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        Facts {
            detail: match self.ttl_ms {
                None => "as of the left record's event time".to_string(),
                Some(ms) => format!("as of the left record's time, up to {} old", show(ms)),
            },
            is_keyed: true,
            is_stateful: true,
            needs_watermarks: Some("a temporal join"),
            unbounded_states: match self.ttl_ms {
                None => vec![VERSIONS.0.to_string()],
                Some(_) => Vec::new(),
            },
            forgets_by: Some("let versions end with .version_ttl(..) behind it"),
            side_outputs: SideOutputFacts::Only(self.late.facts()),
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
        if has_event_time(&row, ctx) {
            self.take_or_wait(row, ctx, out);
        }
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
            if self.keys.get_slot(slot).is_some_and(|history| history.due_ms == due_ms) {
                if !ctx.env().spend() {
                    return Progress::Pending;
                }
                self.join_first(slot, due_ms, out);
                self.settle(slot, watermark_ms);
                let next_ms = self.keys.get_slot(slot).map(|history| history.due_ms);
                if next_ms == Some(due_ms) {
                    continue;
                }
            }
            self.agenda.pop();
        }
        Progress::Done
    }

    fn on_input_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<J::Out>,
    ) -> Progress {
        self.take_waiting(ctx, out)
    }

    fn is_ready(&self) -> bool {
        self.waiting.is_empty()
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        assert!(self.waiting.is_empty(), "an operator that is not ready is not cut");
        for (hash64, key, history) in self.keys.iter() {
            let mut writer = KeyWriter::new(writer, self.groups, hash64, key);
            history.waiting.save(WAITING, &mut writer);
            history.versions.save(VERSIONS, &mut writer);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        for saved in side::load::<K, A>(WAITING, reader, ctx)? {
            let history = self.keys.get_or_insert_with(saved.hash64, saved.key, History::default);
            history.waiting.add(saved.time_ms, saved.value);
        }
        for saved in side::load::<K, B>(VERSIONS, reader, ctx)? {
            let history = self.keys.get_or_insert_with(saved.hash64, saved.key, History::default);
            history.versions.add(saved.time_ms, saved.value);
        }
        let slots: Vec<Slot> = self.keys.slots().collect();
        for slot in slots {
            self.settle(slot, i64::MIN);
        }
        Ok(())
    }
}

/// A clone has seen nothing.
impl<K, A, B, S: Clone, J: Clone> Clone for TemporalJoin<K, A, B, S, J> {
    fn clone(&self) -> Self {
        Self {
            key_of: self.key_of.clone(),
            join: self.join.clone(),
            late: self.late,
            ttl_ms: self.ttl_ms,
            groups: self.groups,
            keys: KeyTable::new(HashRange::ALL),
            agenda: Agenda::default(),
            waiting: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::OperatorHarness;

    type Row = Either<u64, (u64, char)>;

    fn key_of(row: &Row) -> u64 {
        match row {
            Either::Left(key) | Either::Right((key, _)) => *key,
        }
    }

    #[test]
    fn a_version_that_has_ended_is_forgotten_with_its_key() {
        let join = LeftOuterJoin(|key, version: Option<&(u64, char)>| (key, version.map(|v| v.1)));
        let join = TemporalJoin::new(key_of, join, LateSides::default());
        let join = join.with_version_ttl(Duration::from_millis(50));
        let mut harness = OperatorHarness::new(join).keyed_by(key_of);
        harness.push(Either::Right((1, 'a')), 100);
        harness.push(Either::Left(1), 149);
        harness.push(Either::Left(1), 150);
        harness.watermark(149);
        assert_eq!(harness.operator().keys.len(), 1, "a record waits");
        harness.watermark(150);
        assert_eq!(harness.take_output(), [(1, Some('a')), (1, None)]);
        assert_eq!(harness.operator().keys.len(), 0);
    }

    /// A version behind the watermark is for what has not been joined: not for what is due.
    #[test]
    fn a_version_whose_key_has_very_much_due_waits_and_keeps_its_place() {
        let run = |budget: u32| {
            let join = LeftOuterJoin(|key, version: Option<&(u64, char)>| {
                (key, version.map(|version| version.1))
            });
            let join = TemporalJoin::new(key_of, join, LateSides::default());
            let mut harness = OperatorHarness::new(join).keyed_by(key_of);
            harness.push(Either::Right((1, 'a')), 0);
            (0..1_000).for_each(|n| harness.push(Either::Left(1), 100 + n));
            harness.set_budget(budget);
            harness.watermark(1_050);
            let mut turns = vec![harness.take_output()];
            harness.push(Either::Right((1, 'b')), 50);
            turns.push(harness.take_output());
            harness.push(Either::Left(1), 1_060);
            turns.push(harness.take_output());
            harness.set_budget(budget.max(100));
            while harness.is_pending() {
                harness.resume();
                turns.push(harness.take_output());
            }
            harness.set_budget(u32::MAX);
            harness.end();
            turns.push(harness.take_output());
            turns
        };
        let turns = run(0);
        let budget = INPUT_BUDGET_RECORDS as usize;
        assert_eq!(turns[0..3].iter().map(Vec::len).collect::<Vec<_>>(), [0, budget, 0]);
        let is_slice = |turn: &Vec<_>| turn.len() <= budget + 100;
        assert!(turns[..turns.len() - 1].iter().all(is_slice), "too much in one turn");
        let expected = [vec![(1, Some('a')); 951], vec![(1, Some('b')); 50]].concat();
        assert!(turns.concat() == expected, "what is due is joined without the new version");
        assert!(run(u32::MAX).concat() == expected);
    }
}
