//! Rolling aggregations, alone and with a shard's store.

use super::*;
use crate::data::row::Origin;
use crate::operator::env::TaskPlace;
use crate::operator::{Chain, Stage, TaskEnv};
use crate::state::snapshot::Snapshot;
use crate::testing::{OperatorHarness, Step, conformance};

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
    let mut chain = Stage::new(KeyedAggregate::new(|r: &(u32, u64)| r.0, CountAndSum), "a", "a");
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
    let sum = KeyedReduce::new(|_: &Counted| 1_u32, |a: Counted, b: Counted| Counted(a.0 + b.0));
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

type Text = (u32, String);
type KeyOf = fn(&Text) -> u32;
type Join = fn(Text, Text) -> Text;

/// A sum per key, in text: it has something on the heap.
fn texts() -> KeyedReduce<u32, Text, KeyOf, Join> {
    let key_of: KeyOf = |text| text.0;
    let join: Join = |a, b| (a.0, a.1 + &b.1);
    KeyedReduce::new(key_of, join)
}

#[test]
fn keys_leave_memory_and_come_back() {
    let ttls = [None, Some(Ttl::event_time(LIFE)), Some(Ttl::processing_time(LIFE))];
    for ttl in ttls {
        let make = || {
            let texts = texts();
            let texts = match ttl {
                Some(ttl) => texts.with_ttl(ttl),
                None => texts,
            };
            OperatorHarness::new(texts).keyed_by(|record: &(u32, String)| record.0)
        };
        let record = |n: i64| Step::record((n as u32 * 7 % 5, n.to_string()), n * 10);
        let script = (0..60).flat_map(|n| match n % 4 {
            2 => vec![record(n), Step::Watermark(n * 10 - 30)],
            3 => vec![record(n), Step::ProcessingTime(n * 10)],
            _ => vec![record(n)],
        });
        conformance(make, script.chain([Step::End]));
        let mut harness = make().spilling(1);
        (0..20).for_each(|n| harness.push((n % 5, n.to_string()), 0));
        let evicted_count = match harness.operator().kept.as_ref().expect("it is open") {
            Kept::ForEver(keys, _) => keys.evicted_count(),
            Kept::Mortal(keyed, _) => keyed.keys().evicted_count(),
        };
        assert!(15 <= evicted_count, "{evicted_count} keys have left memory");
    }
}
