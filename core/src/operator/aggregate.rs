//! Rolling aggregation per key: every record gives the result so far.
//!
//! One lookup a record: the accumulator is changed in place. Without a time to live keys are kept
//! for ever, and the plan warns.
//!
//! Not here: aggregation of windows (`window/`).

use millstream_storage::key::StoredKey;

use crate::data::ahead::Ahead;
use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::window::{Aggregate, Reduce, WindowAggregate};
use crate::operator::{Operator, OperatorContext, Output, Progress};
use crate::state::aggregate::{AggregateFunction, ReduceFunction};
use crate::state::columns::StateColumns;
use crate::state::keyed::KeyedState;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::spec::{StateSpec, StateTime, Ttl, TtlTime};
use crate::state::table::KeyTable;
use crate::state::value::ValueState;

/// The one state of each operator here.
const STATE: &str = "accumulators";

/// What it is called in a snapshot, with a time to live or without: an operator may gain one.
const STORED: &str = "state/accumulators";

/// Combines the records of a key pair by pair, and gives what came of it so far.
pub type KeyedReduce<K, T, F, R> = Rolling<K, Reduce<T, R>, F>;

/// Keeps an accumulator per key, and gives its result after every record.
pub type KeyedAggregate<K, A, F> = Rolling<K, Aggregate<A>, F>;

/// A rolling aggregation. See the module.
pub struct Rolling<K, A: WindowAggregate, F> {
    key_of: F,
    aggregate: A,
    ttl: Option<Ttl>,
    /// From `open` on.
    kept: Option<Kept<K, A>>,
}

/// The accumulators of all keys of a task.
enum Kept<K, A: WindowAggregate> {
    /// No key is forgotten.
    ForEver(KeyTable<K, A::Accumulator>, KeyGroupCount),
    /// Each has a time to live.
    Mortal(Box<KeyedState<K>>, ValueState<A::Stored>),
}

impl<K, T, F, R: ReduceFunction<T>> KeyedReduce<K, T, F, R>
where
    Reduce<T, R>: WindowAggregate,
{
    /// `reduce(what came of the key's records so far, another one)`.
    pub fn new(key_of: F, reduce: R) -> Self {
        Self { key_of, aggregate: Reduce::new(reduce), ttl: None, kept: None }
    }
}

impl<K, A: AggregateFunction, F> KeyedAggregate<K, A, F> {
    /// Aggregates with `function`.
    pub fn new(key_of: F, function: A) -> Self {
        Self { key_of, aggregate: Aggregate(function), ttl: None, kept: None }
    }
}

impl<K, A: WindowAggregate, F> Rolling<K, A, F> {
    /// A key is forgotten when its last record is that old; another record begins anew.
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    #[inline]
    fn kept(&mut self) -> &mut Kept<K, A> {
        self.kept.as_mut().expect("an operator is opened before anything else")
    }
}

impl<K: Key, A: WindowAggregate, F> Rolling<K, A, F> {
    /// Gives some memory of keys that have expired back.
    fn sweep(&mut self, ctx: &OperatorContext<'_>) {
        if let Kept::Mortal(keyed, _) = self.kept() {
            let (watermark_ms, now_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
            keyed.sweep(StateTime::between_records(watermark_ms, now_ms));
        }
    }
}

/// A clone has seen nothing.
impl<K, A: WindowAggregate, F: Clone> Clone for Rolling<K, A, F> {
    fn clone(&self) -> Self {
        let (key_of, aggregate) = (self.key_of.clone(), self.aggregate.clone());
        Self { key_of, aggregate, ttl: self.ttl, kept: None }
    }
}

impl<K, A, F> Operator for Rolling<K, A, F>
where
    K: Key,
    A: WindowAggregate,
    F: Fn(&A::In) -> K + 'static,
{
    type In = A::In;
    type Out = A::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let is_by_event_time = self.ttl.is_some_and(|ttl| ttl.time() == TtlTime::Event);
        Facts {
            detail: self.ttl.map_or(String::new(), |ttl| ttl.describe()),
            is_keyed: true,
            is_stateful: true,
            needs_watermarks: is_by_event_time.then_some("state with a time to live in event time"),
            unbounded_states: self.ttl.is_none().then(|| STATE.to_string()).into_iter().collect(),
            forgets_by: Some("give it a time to live with .ttl(..) behind it, or use windows"),
            ..Facts::stateless()
        }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        let task = ctx.env().task;
        self.kept = Some(match self.ttl {
            None => Kept::ForEver(KeyTable::new(task.hashes()), task.key_group_count),
            Some(ttl) => {
                let mut columns = StateColumns::default();
                let value = ValueState::declare(&mut columns, STATE, StateSpec::from(ttl));
                let keyed = KeyedState::new(columns, task.key_group_count, task.key_groups());
                Kept::Mortal(Box::new(keyed), value.expect("the only state"))
            }
        });
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        match self.kept() {
            Kept::ForEver(table, _) => table.prefetch(ahead),
            Kept::Mortal(keyed, _) => keyed.prefetch(ahead),
        }
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<A::In>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<A::Out>,
    ) {
        let key = (self.key_of)(&row.value);
        let (hash64, event_time_ms) = (row.hash64, row.event_time_ms);
        let kept = self.kept.as_mut().expect("an operator is opened before anything else");
        let aggregate = &self.aggregate;
        match kept {
            Kept::ForEver(table, _) => {
                let accumulator = table.get_or_insert_with(hash64, key, || aggregate.create());
                out.emit(row.map(|value| {
                    aggregate.add(accumulator, value);
                    aggregate.result(accumulator)
                }));
            }
            Kept::Mortal(keyed, state) => {
                let (watermark_ms, now_ms) = (ctx.watermark_ms(), ctx.processing_time_ms());
                keyed.enter(hash64, key, StateTime::of_record(event_time_ms, watermark_ms, now_ms));
                let row = row.map(|value| {
                    let stored = state.fold(&mut **keyed, |stored| match stored {
                        Some(stored) => aggregate.and(stored, value),
                        None => aggregate.first(value),
                    });
                    aggregate.result_of(stored)
                });
                keyed.leave();
                out.emit(row);
            }
        }
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<A::Out>,
    ) -> Option<i64> {
        self.sweep(ctx);
        None
    }

    fn on_watermark(
        &mut self,
        _watermark_ms: i64,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<A::Out>,
    ) -> Progress {
        self.sweep(ctx);
        Progress::Done
    }

    fn next_time_ms(&self) -> Option<i64> {
        match self.kept.as_ref()? {
            Kept::ForEver(..) => None,
            Kept::Mortal(keyed, _) => keyed.next_time_ms(),
        }
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<A::Out>) -> Progress {
        self.sweep(ctx);
        Progress::Done
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        match &self.kept {
            None => {}
            Some(Kept::Mortal(keyed, _)) => keyed.snapshot(writer),
            Some(Kept::ForEver(table, key_groups)) => {
                writer.declare("state", "accumulators");
                for (hash64, key, accumulator) in table.iter() {
                    let stored = StoredKey {
                        key_group: key_groups.of(hash64).0,
                        state_id: 0,
                        window_bucket: 0,
                        hash64,
                        key: &key.archive(),
                        namespace: &[],
                        map_key: &[],
                    };
                    writer.keyed_state(STORED, &stored, self.aggregate.stored(accumulator));
                }
            }
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let kept = self.kept.as_mut().expect("an operator is opened before anything else");
        match kept {
            Kept::Mortal(keyed, _) => {
                keyed.restore(reader, ctx.watermark_ms(), ctx.processing_time_ms())
            }
            Kept::ForEver(table, _) => {
                let key_groups = ctx.env().task.key_groups();
                for (stored, value) in reader.keyed_state::<A::Stored>(STORED, key_groups)? {
                    let key = reader.unarchive(STORED, stored.key)?;
                    let restored = || self.aggregate.restored(value);
                    table.get_or_insert_with(stored.hash64, key, restored);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::row::Origin;
    use crate::operator::env::TaskPlace;
    use crate::operator::{Chain, Stage, TaskEnv};
    use crate::state::snapshot::Snapshot;

    #[derive(Clone)]
    struct CountAndSum;

    impl AggregateFunction for CountAndSum {
        type In = (u32, u64);
        type Accumulator = (u64, u64);
        type Out = (u64, u64);

        fn create(&self) -> (u64, u64) {
            (0, 0)
        }

        fn add(&self, accumulator: &mut (u64, u64), value: (u32, u64)) {
            accumulator.0 += 1;
            accumulator.1 += value.1;
        }

        fn merge(&self, accumulator: &mut (u64, u64), other: (u64, u64)) {
            accumulator.0 += other.0;
            accumulator.1 += other.1;
        }

        fn result(&self, accumulator: &(u64, u64)) -> (u64, u64) {
            *accumulator
        }
    }

    struct Collect<'a, T>(Vec<T>, &'a TaskEnv);

    impl<T> Output<T> for Collect<'_, T> {
        fn emit(&mut self, row: Row<T>) {
            self.0.push(row.value);
        }
        fn env(&self) -> &TaskEnv {
            self.1
        }
    }

    fn env(task_index: u32, parallelism: u32) -> TaskEnv {
        let key_group_count = KeyGroupCount::new(64).expect("in range");
        TaskEnv::new(TaskPlace { chain_index: 0, task_index, parallelism, key_group_count })
    }

    fn row(key: u32, value: u64) -> Row<(u32, u64)> {
        Row { hash64: key.hash64(), ..Row::new((key, value), 0, Origin::NONE) }
    }

    #[test]
    fn every_record_gives_the_result_so_far() {
        let env = env(0, 1);
        let mut chain =
            Stage::new(KeyedAggregate::new(|r: &(u32, u64)| r.0, CountAndSum), "a", "a");
        chain.open(&env).expect("nothing can fail");
        let mut out = Collect(Vec::new(), &env);
        for (key, value) in [(1, 10), (2, 5), (1, 7)] {
            chain.on_row(row(key, value), &env, &mut out);
        }
        assert_eq!(out.0, [(1, 10), (1, 5), (2, 17)]);
    }

    #[test]
    fn reduce_combines_pair_by_pair() {
        let env = env(0, 1);
        let keep_larger = |a: (u32, u64), b: (u32, u64)| if a.1 < b.1 { b } else { a };
        let mut chain = Stage::new(KeyedReduce::new(|r: &(u32, u64)| r.0, keep_larger), "r", "r");
        chain.open(&env).expect("nothing can fail");
        let mut out = Collect(Vec::new(), &env);
        for (key, value) in [(1, 10), (2, 5), (1, 7), (2, 9)] {
            chain.on_row(row(key, value), &env, &mut out);
        }
        assert_eq!(out.0, [(1, 10), (2, 5), (1, 10), (2, 9)]);
    }

    /// State written by one task is found by three, each its own part.
    #[test]
    fn a_snapshot_is_restored_at_another_parallelism() {
        let whole = env(0, 1);
        let aggregate = KeyedAggregate::new(|r: &(u32, u64)| r.0, CountAndSum);
        let mut chain = Stage::new(aggregate.clone(), "a", "a");
        chain.open(&whole).expect("nothing can fail");
        let mut out = Collect(Vec::new(), &whole);
        (0..200).for_each(|n| chain.on_row(row(n % 50, u64::from(n)), &whole, &mut out));
        let mut snapshot = Snapshot::default();
        chain.snapshot(&mut snapshot);
        assert_eq!(snapshot.keyed_entry_count(), 50);

        let mut merged = Snapshot::default();
        for task_index in 0..3 {
            let env = env(task_index, 3);
            let mut part = Stage::new(aggregate.clone(), "a", "a");
            part.open(&env).expect("nothing can fail");
            part.restore(&snapshot, &env).expect("just written");
            let mut own = Snapshot::default();
            part.snapshot(&mut own);
            assert!(own.keyed_entry_count() < 50, "a part, not the whole");
            merged.merge(own);
        }
        assert_eq!(merged, snapshot);
    }

    /// Checks what a sum of each key's values is, given rows `(key, value, time)` and watermarks
    /// before some of them, with a time to live of 100 ms.
    fn check_ttl(ttl: Ttl, steps: &[(u32, u64, i64)], expected: &[u64], key_count: usize) {
        let sum = |a: (u32, u64), b: (u32, u64)| (a.0, a.1 + b.1);
        let reduce = KeyedReduce::new(|r: &(u32, u64)| r.0, sum).with_ttl(ttl);
        let env = env(0, 1);
        let mut chain = Stage::new(reduce.clone(), "r", "r");
        chain.open(&env).expect("nothing can fail");
        let mut out = Collect(Vec::new(), &env);
        for (key, value, at_ms) in steps {
            // A restart in between changes nothing.
            let mut snapshot = Snapshot::default();
            chain.snapshot(&mut snapshot);
            chain = Stage::new(reduce.clone(), "r", "r");
            chain.open(&env).expect("nothing can fail");
            chain.restore(&snapshot, &env).expect("just written");
            env.processing_time_ms.set(*at_ms);
            chain.on_watermark(at_ms - 10, &env, &mut out);
            chain.on_row(Row { event_time_ms: *at_ms, ..row(*key, *value) }, &env, &mut out);
            chain.on_batch_end(&env, &mut out);
        }
        assert_eq!(out.0.iter().map(|sum| sum.1).collect::<Vec<_>>(), expected);
        let mut snapshot = Snapshot::default();
        chain.snapshot(&mut snapshot);
        let env = &env;
        let reader = SnapshotReader::new(&snapshot, "r");
        let entries = reader.keyed_state::<(u32, u64)>(STORED, env.task.key_groups());
        assert_eq!(entries.expect("just written").len(), key_count);
    }

    /// Counts how often a value of this thread is cloned.
    #[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Counted(u64);

    std::thread_local! {
        static CLONE_COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    impl Clone for Counted {
        fn clone(&self) -> Self {
            CLONE_COUNT.set(CLONE_COUNT.get() + 1);
            Self(self.0)
        }
    }

    /// The value stays, and its clone is the result.
    #[test]
    fn a_record_costs_one_clone_with_a_time_to_live_or_without() {
        let env = env(0, 1);
        let sum =
            KeyedReduce::new(|_: &Counted| 1_u32, |a: Counted, b: Counted| Counted(a.0 + b.0));
        for sum in [sum.clone().with_ttl(Ttl::event_time(LIFE)), sum] {
            let mut chain = Stage::new(sum, "r", "r");
            chain.open(&env).expect("nothing can fail");
            let mut out = Collect(Vec::new(), &env);
            for value in 1..=3 {
                CLONE_COUNT.set(0);
                let row = Row::new(Counted(value), 0, Origin::NONE);
                chain.on_row(Row { hash64: 1_u32.hash64(), ..row }, &env, &mut out);
                assert_eq!(CLONE_COUNT.get(), 1);
            }
            assert!(out.0.iter().map(|sum| sum.0).eq([1, 3, 6]));
        }
    }

    #[test]
    fn with_a_time_to_live_a_silent_key_begins_anew_and_is_forgotten() {
        let steps =
            [(1, 10, 1000), (2, 1, 1000), (1, 5, 1099), (2, 4, 1150), (1, 7, 1250), (3, 1, 1400)];
        check_ttl(Ttl::processing_time(LIFE), &steps, &[10, 1, 15, 4, 7, 1], 1);
        // By event time it is the watermark that counts, and that is 10 ms behind.
        check_ttl(Ttl::event_time(LIFE), &steps, &[10, 1, 15, 4, 7, 1], 1);
        let steps = [(1, 10, 1000), (1, 5, 1105), (1, 7, 1300)];
        check_ttl(Ttl::processing_time(LIFE), &steps, &[10, 5, 7], 1);
        check_ttl(Ttl::event_time(LIFE), &steps, &[10, 15, 7], 1);
    }

    const LIFE: std::time::Duration = std::time::Duration::from_millis(100);

    #[test]
    fn an_operator_may_gain_a_time_to_live() {
        let env = env(0, 1);
        let aggregate = KeyedAggregate::new(|r: &(u32, u64)| r.0, CountAndSum);
        let mut chain = Stage::new(aggregate.clone(), "a", "a");
        chain.open(&env).expect("nothing can fail");
        let mut out = Collect(Vec::new(), &env);
        chain.on_row(row(1, 10), &env, &mut out);
        let mut snapshot = Snapshot::default();
        chain.snapshot(&mut snapshot);
        let mut mortal = Stage::new(aggregate.with_ttl(Ttl::processing_time(LIFE)), "a", "a");
        mortal.open(&env).expect("nothing can fail");
        mortal.restore(&snapshot, &env).expect("just written");
        mortal.on_row(row(1, 7), &env, &mut out);
        assert_eq!(out.0, [(1, 10), (2, 17)]);
    }
}
