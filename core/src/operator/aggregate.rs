//! Rolling aggregation per key: every record gives the result so far.
//!
//! One lookup a record: the accumulator is changed in place. Keys are kept for ever, so the plan
//! warns; a window, or a process function whose state has a time to live, forgets them.
//!
//! Not here: aggregation of windows (`window/`).

use std::marker::PhantomData;

use millstream_storage::key::StoredKey;

use crate::data::ahead::Ahead;
use crate::data::key::Key;
use crate::data::key_group::KeyGroupCount;
use crate::data::record::Record;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::{Operator, OperatorContext, Output};
use crate::state::aggregate::AggregateFunction;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::state::table::KeyTable;

/// Name of the one state of each operator here.
const STATE: &str = "accumulators";

/// Accumulators by key, with what reading and writing them needs.
struct Accumulators<K, V> {
    /// Until `open`, nobody knows which keys the task owns.
    opened: Option<(KeyTable<K, V>, KeyGroupCount)>,
}

impl<K: Key, V: Record> Accumulators<K, V> {
    fn open(&mut self, ctx: &OperatorContext<'_>) {
        let task = ctx.env().task;
        self.opened = Some((KeyTable::new(task.hashes()), task.key_group_count));
    }

    #[inline]
    fn table(&mut self) -> &mut KeyTable<K, V> {
        &mut self.opened.as_mut().expect("opened before the first row").0
    }

    fn prefetch(&self, ahead: Ahead<'_>) {
        if let Some((table, _)) = &self.opened {
            table.prefetch(ahead);
        }
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        let Some((table, key_groups)) = &self.opened else { return };
        for (hash64, key, value) in table.iter() {
            let stored = StoredKey {
                key_group: key_groups.of(hash64).0,
                state_id: 0,
                window_bucket: 0,
                hash64,
                key: &key.archive(),
                namespace: &[],
                map_key: &[],
            };
            writer.keyed_state(STATE, &stored, value);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        for (stored, value) in reader.keyed_state::<V>(STATE, ctx.env().task.key_groups())? {
            let key = reader.unarchive(STATE, stored.key)?;
            self.table().get_or_insert_with(stored.hash64, key, || value);
        }
        Ok(())
    }
}

/// `reduce`: combines the records of a key pair by pair, and gives what came of it so far.
pub struct KeyedReduce<K, T, F, R> {
    key_of: F,
    reduce: R,
    reduced: Accumulators<K, Option<T>>,
}

impl<K, T, F, R> KeyedReduce<K, T, F, R> {
    /// `reduce(what came of the key's records so far, another one)`.
    pub fn new(key_of: F, reduce: R) -> Self {
        Self { key_of, reduce, reduced: Accumulators { opened: None } }
    }
}

/// A clone has seen nothing.
impl<K, T, F: Clone, R: Clone> Clone for KeyedReduce<K, T, F, R> {
    fn clone(&self) -> Self {
        Self::new(self.key_of.clone(), self.reduce.clone())
    }
}

impl<K, T, F, R> Operator for KeyedReduce<K, T, F, R>
where
    K: Key,
    T: Record,
    Option<T>: Record,
    F: Fn(&T) -> K + 'static,
    R: Fn(T, T) -> T + 'static,
{
    type In = T;
    type Out = T;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        facts()
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.reduced.open(ctx);
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.reduced.prefetch(ahead);
    }

    #[inline]
    fn on_row(&mut self, row: Row<T>, _ctx: &OperatorContext<'_>, out: &mut impl Output<T>) {
        let key = (self.key_of)(&row.value);
        // `None` only within this call.
        let reduced = self.reduced.table().get_or_insert_with(row.hash64, key, || None);
        let row = row.map(|value| match reduced.take() {
            Some(so_far) => (self.reduce)(so_far, value),
            None => value,
        });
        *reduced = Some(row.value.clone());
        out.emit(row);
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.reduced.snapshot(writer);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.reduced.restore(reader, ctx)
    }
}

/// `aggregate`: keeps an accumulator per key, and gives its result after every record.
pub struct KeyedAggregate<K, A: AggregateFunction, F> {
    key_of: F,
    function: A,
    accumulators: Accumulators<K, A::Accumulator>,
    key: PhantomData<fn() -> K>,
}

impl<K, A: AggregateFunction, F> KeyedAggregate<K, A, F> {
    /// Aggregates with `function`.
    pub fn new(key_of: F, function: A) -> Self {
        Self { key_of, function, accumulators: Accumulators { opened: None }, key: PhantomData }
    }
}

/// A clone has seen nothing.
impl<K, A: AggregateFunction, F: Clone> Clone for KeyedAggregate<K, A, F> {
    fn clone(&self) -> Self {
        Self::new(self.key_of.clone(), self.function.clone())
    }
}

impl<K, A, F> Operator for KeyedAggregate<K, A, F>
where
    K: Key,
    A: AggregateFunction,
    F: Fn(&A::In) -> K + 'static,
{
    type In = A::In;
    type Out = A::Out;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        facts()
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.accumulators.open(ctx);
        Ok(())
    }

    #[inline]
    fn prefetch(&mut self, ahead: Ahead<'_>) {
        self.accumulators.prefetch(ahead);
    }

    #[inline]
    fn on_row(
        &mut self,
        row: Row<A::In>,
        _ctx: &OperatorContext<'_>,
        out: &mut impl Output<A::Out>,
    ) {
        let key = (self.key_of)(&row.value);
        let table = self.accumulators.table();
        let accumulator = table.get_or_insert_with(row.hash64, key, || self.function.create());
        out.emit(row.map(|value| {
            self.function.add(accumulator, value);
            self.function.result(accumulator)
        }));
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.accumulators.snapshot(writer);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.accumulators.restore(reader, ctx)
    }
}

fn facts() -> Facts {
    Facts {
        is_keyed: true,
        is_stateful: true,
        unbounded_states: vec![STATE.to_string()],
        ..Facts::stateless()
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
}
