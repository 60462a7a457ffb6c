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
//! When memory is short, keys that had no record lately leave it (`state/residents.rs`), and what
//! is due of such a key waits until it was read. A key of which versions only are left is not read
//! for their end: it is forgotten when the last of them has ended.
//!
//! Invariant: of the versions at or before the watermark a key in memory keeps the newest only, and
//! that only until its time to live is over.

mod history;

use std::collections::VecDeque;
use std::time::Duration;

use crate::data::ahead::Ahead;
use crate::data::either::Either;
use crate::data::element::CheckpointId;
use crate::data::key::Key;
use crate::data::key_group::{HashRange, KeyGroupCount};
use crate::data::record::Record;
use crate::data::row::{NO_EVENT_TIME, Origin, Row};
use crate::data::slot::Slot;
use crate::error::Error;
use crate::graph::{Facts, SideOutputFacts};
use crate::limits::INPUT_BUDGET_RECORDS;
use crate::operator::join::side;
use crate::operator::join::{LateJoin, LateSides};
use crate::operator::spilling::{self, READ_AHEAD};
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
use history::{History, NEVER_MS, UNKNOWN_MS, VERSIONS, Versioned, WAITING};

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
    keys: Residents<K, History<A, B>>,
    agenda: Agenda,
    waiting: VecDeque<Row<Either<A, B>>>,
    parked: Parked<Row<Either<A, B>>>,
    /// The watermark is not done, and will call again.
    is_pending: bool,
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
            keys: Residents::new(HashRange::ALL),
            agenda: Agenda::default(),
            waiting: VecDeque::new(),
            parked: Parked::default(),
            is_pending: false,
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
            self.keys.forget(slot);
            return;
        }
        if due_ms != history.due_ms {
            history.due_ms = due_ms;
            if due_ms != NEVER_MS {
                self.agenda.push(due_ms, slot);
            }
        }
        self.keys.note_change(slot, |history: &History<A, B>| history.heap_bytes());
    }

    /// Sees to it that a key that is due can have its turn. `None` if that has to wait: for rows of
    /// it, which come before, or because it is being read. `Some(false)` if it needs none now.
    #[cold]
    fn prepare(
        &mut self,
        slot: Slot,
        watermark_ms: i64,
        ctx: &OperatorContext<'_>,
    ) -> Option<bool> {
        if self.parked.holds(self.keys.hash64(slot)) {
            return None;
        }
        let past_ms = self.keys.value(slot).past_ms;
        if self.keys.is_cold(slot) && past_ms != UNKNOWN_MS {
            if past_ms <= watermark_ms {
                self.keys.forget(slot);
            } else {
                self.keys.value_mut(slot).due_ms = past_ms;
                self.agenda.push(past_ms, slot);
            }
            return Some(false);
        }
        let next = (1..READ_AHEAD).map_while(|count| self.agenda.ahead(count));
        let mut belongings = self.belongings();
        spilling::admit_slot(&mut self.keys, slot, next, &mut belongings, ctx).then_some(true)
    }

    fn belongings(&self) -> Versioned {
        Versioned { ttl_ms: self.ttl_ms, groups: self.groups }
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
        let (time_ms, watermark_ms) = (row.event_time_ms, ctx.watermark_ms());
        if matches!(row.value, Either::Left(_)) && time_ms <= watermark_ms {
            self.late.put_aside(row, ctx);
            return None;
        }
        let key = (self.key_of)(&row.value);
        let slot = self.keys.find_or_insert_with(row.hash64, key, History::default);
        self.keys.note_use(slot);
        let belongings = self.belongings();
        self.keys.keep(slot, &belongings);
        let mut left = INPUT_BUDGET_RECORDS;
        while self.join_first(slot, watermark_ms, out) {
            ctx.env().spend_more(1);
            left -= 1;
            if left == 0 {
                self.keys.note_change(slot, |history: &History<A, B>| history.heap_bytes());
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
        let mut belongings = self.belongings();
        spilling::make_room(&mut self.keys, &mut belongings, ctx);
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
        if has_event_time(&row, ctx) {
            self.take_or_wait(row, ctx, out);
        }
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
        self.is_pending = true;
        if self.take_waiting(ctx, out) == Progress::Pending {
            return Progress::Pending;
        }
        while let Some((due_ms, slot)) = self.agenda.first(watermark_ms) {
            if self.keys.get_slot(slot).is_some_and(|history| history.due_ms == due_ms) {
                if !ctx.env().spend() {
                    return Progress::Pending;
                }
                if self.keys.has_evicted() {
                    match self.prepare(slot, watermark_ms, ctx) {
                        None => return Progress::Pending,
                        Some(false) => {
                            self.agenda.pop();
                            continue;
                        }
                        Some(true) => self.keys.note_use(slot),
                    }
                }
                let belongings = self.belongings();
                self.keys.keep(slot, &belongings);
                self.join_first(slot, due_ms, out);
                self.settle(slot, watermark_ms);
                let next_ms = self.keys.get_slot(slot).map(|history| history.due_ms);
                if next_ms == Some(due_ms) {
                    continue;
                }
            }
            self.agenda.pop();
            let mut belongings = self.belongings();
            spilling::make_room(&mut self.keys, &mut belongings, ctx);
        }
        let belongings = self.belongings();
        spilling::recharge(&mut self.keys, &belongings, ctx);
        self.is_pending = self.parked.has_some_before(watermark_ms);
        if self.is_pending { Progress::Pending } else { Progress::Done }
    }

    fn next_time_ms(&self) -> Option<i64> {
        let is_room = !self.is_pending && !self.keys.is_full();
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
        for saved in side::load::<K, A>(WAITING, reader, ctx)? {
            let slot = self.keys.find_or_insert_with(saved.hash64, saved.key, History::default);
            self.keys.value_mut(slot).waiting.add(saved.time_ms, saved.value);
        }
        for saved in side::load::<K, B>(VERSIONS, reader, ctx)? {
            let slot = self.keys.find_or_insert_with(saved.hash64, saved.key, History::default);
            self.keys.value_mut(slot).versions.add(saved.time_ms, saved.value);
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
            keys: Residents::new(HashRange::ALL),
            agenda: Agenda::default(),
            waiting: VecDeque::new(),
            parked: Parked::default(),
            is_pending: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Stage;
    use crate::testing::{OperatorHarness, Step, conformance};

    type Row = Either<u64, (u64, char)>;

    fn key_of(row: &Row) -> u64 {
        match row {
            Either::Left(key) | Either::Right((key, _)) => *key,
        }
    }

    type Record = (u64, String);
    type Join = TemporalJoin<
        u64,
        Record,
        Record,
        fn(&Either<Record, Record>) -> u64,
        LeftOuterJoin<fn(Record, Option<&Record>) -> String>,
    >;

    /// Records and versions with text on the heap.
    fn texts(ttl: Option<Duration>) -> OperatorHarness<Stage<Join>> {
        let key_of: fn(&Either<Record, Record>) -> u64 = |record| match record {
            Either::Left(record) | Either::Right(record) => record.0,
        };
        let join: fn(Record, Option<&Record>) -> String =
            |left, version| format!("{} of {:?}", left.1, version.map(|version| &version.1));
        let join = TemporalJoin::new(key_of, LeftOuterJoin(join), LateSides::default());
        let join = match ttl {
            Some(ttl) => join.with_version_ttl(ttl),
            None => join,
        };
        OperatorHarness::new(join).keyed_by(key_of)
    }

    #[test]
    fn keys_leave_memory_and_come_back() {
        for ttl in [None, Some(Duration::from_millis(40))] {
            let step = |n: i64| {
                let record = (n as u64 * 7 % 5, n.to_string());
                let record = if n % 3 == 0 { Either::Right(record) } else { Either::Left(record) };
                Step::record(record, n * 4)
            };
            let script = (0..80).flat_map(|n| match n % 5 {
                4 => vec![step(n), Step::Watermark(n * 4 - 25)],
                _ => vec![step(n)],
            });
            conformance(|| texts(ttl), script.chain([Step::End]));
            let mut harness = texts(ttl).spilling(1);
            (0..20).for_each(|n| harness.push(Either::Right((n % 5, n.to_string())), 100));
            let evicted_count = harness.operator().keys.evicted_count();
            assert!(15 <= evicted_count, "{evicted_count} keys have left memory");
            harness.watermark(1_000);
            assert_eq!(harness.operator().keys.len(), 0, "versions end, or need no slot");
            harness.push(Either::Left((1, "a".to_string())), 1_001);
            harness.end();
            let version = if ttl.is_some() { "None" } else { "Some(\"16\")" };
            assert_eq!(harness.take_output(), [format!("a of {version}")]);
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
