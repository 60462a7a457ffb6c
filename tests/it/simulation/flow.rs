//! Edges of every kind, united streams, rolling reductions, draining.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::rng::Rng;

use super::input::Input;
use super::ledger::Ledger;
use super::{Layout, assert_same, check, draw_config, pick, run, seeds_of};

/// Two sources united, rolled up by key, every intermediate result kept: as many results as
/// records, and the last of each key is its total.
#[test]
fn union_and_reduce() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| (Input::draw(rng), Input::draw(rng));
    let write =
        |(first, second): &(Input, Input), job: &Job, layout: &Layout, ledger: Ledger<_>| {
            let first = first.source(job, "first", layout).map(|e| (e.0, u64::from(e.2)));
            let second = job.source("second", second.vector(layout)).map(|e| (e.0, u64::from(e.2)));
            let united = first.union(second).key_by(|r| r.0);
            united.reduce(|a, b| (a.0, a.1 + b.1)).sink("ledger", ledger);
        };
    check(8, draw, write, |about, (first, second), _, rows: Vec<(u32, u64)>| {
        let mut totals: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (key, _, id) in first.events.iter().chain(&second.events) {
            let (count, sum) = totals.entry(*key).or_default();
            (*count, *sum) = (*count + 1, *sum + u64::from(*id));
        }
        let mut found: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (key, sum) in rows {
            let (count, largest) = found.entry(key).or_default();
            (*count, *largest) = (*count + 1, sum.max(*largest));
        }
        assert_eq!(found, totals, "{about}");
    });
}

const ODD: OutputTag<u64> = OutputTag::new("odd");

/// Puts odd numbers aside.
#[derive(Clone)]
struct Split;

impl Operator for Split {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        if row.value % 2 == 1 {
            ctx.side_output_row(ODD, row);
        } else {
            out.emit(row);
        }
    }
}

/// One stream with four consumers, over every kind of edge; nothing is lost or doubled, and every
/// task has one copy of what is broadcast.
#[test]
fn every_partitioner() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| 50 + rng.below(250);
    let write = |count: &u64, job: &Job, layout: &Layout, ledger: Ledger<(u8, u64)>| {
        let source = GeneratorSource::new(*count, |n| n).batches_of(layout.batch);
        let numbers = job.source("numbers", source).parallelism(layout.parallelism).shared();
        let global = numbers.global().map(|n| (0, n));
        let custom = numbers.partition_by(|n| *n).map(|n| (1, n));
        let broadcast = numbers.broadcast().map(|n| (2, n));
        let even = numbers.rebalance().flat_map(|n| [n, n + 1]).operator("split", Split);
        let odd = even.side_output(ODD).map(|n| (3, n));
        let split = even.map(|n| (3, n)).union(odd);
        global.union(custom).union(broadcast).union(split).sink("ledger", ledger);
    };
    check(9, draw, write, |about, count, layouts, rows| {
        let of = |kind| rows.iter().filter(move |row| row.0 == kind).map(|row| row.1);
        assert_same(about, of(0).collect(), (0..*count).collect());
        assert_same(about, of(1).collect(), (0..*count).collect());
        assert_same(about, of(3).collect(), (0..*count).flat_map(|n| [n, n + 1]).collect());
        let mut copies: BTreeMap<u64, u32> = BTreeMap::new();
        of(2).for_each(|n| *copies.entry(n).or_default() += 1);
        assert_eq!(copies.len() as u64, *count, "{about}");
        let is_right = |copies: &u32| layouts.iter().any(|layout| layout.shards == *copies);
        assert!(copies.values().all(is_right), "{about}: {copies:?}");
    });
}

/// An endless job is drained: of every split a prefix has come through, over a restore as well.
#[test]
fn draining_in_the_middle() {
    for seed in seeds_of(10) {
        let mut rng = Rng::new(seed).fork(10);
        let (mut layout, mut config) = (Layout::draw(&mut rng), draw_config(&mut rng));
        let split_count = u64::from(layout.source_tasks());
        for round in 0..2 {
            config.drain_at = Some(Duration::from_micros(rng.below(1_500)));
            let write = |job: &Job, layout: &Layout, ledger: Ledger<u64>| {
                let source = GeneratorSource::new(u64::MAX, |n| n).batches_of(layout.batch);
                let numbers = job.source("numbers", source).parallelism(layout.parallelism);
                let keyed = numbers.key_by(|n| n % 7);
                keyed.reduce(|_, last| last).sink("ledger", ledger);
            };
            let (mut rows, report) = run(seed, &layout, &config, &write);
            rows.sort_unstable();
            for split in 0..split_count {
                let numbers = rows.iter().filter(|n| *n % split_count == split);
                let expected = (0..).map(|i| i * split_count + split);
                let hole = numbers.zip(expected).find(|(found, expected)| *found != expected);
                assert_eq!(hole, None, "seed {seed}, round {round}, {layout:?}: a hole");
            }
            let Some(restore) = pick(&report, &mut rng) else { break };
            config = SimConfig { restore: Some(restore), seed: rng.next_u64(), ..config };
            layout = Layout::draw(&mut rng);
        }
    }
}

/// Sources that wait for each other: the shard that ends first must not keep the others waiting,
/// though it ends within the time between two words about its source; nor may barriers, which come
/// before rows, make a source forget that it may go on.
#[test]
fn aligned_watermarks_that_end() {
    let draw = |rng: &mut Rng, _: &mut SimConfig| (200 + rng.below(800), rng.below(50));
    let write = |drawn: &(u64, u64), job: &Job, layout: &Layout, ledger: Ledger<u64>| {
        let split_count = u64::from(layout.source_tasks());
        let strategy = Monotonic::new().with_alignment(Duration::from_millis(drawn.1));
        // Each split goes faster through event time than the one before, and has to wait for it.
        job.source("numbers", GeneratorSource::new(drawn.0, |n| n).paced(100_000.0))
            .parallelism(layout.parallelism)
            .watermark(strategy, move |n| 1_700_000_000_000 + (n * (1 + n % split_count)) as i64)
            .sink("ledger", ledger);
    };
    check(14, draw, write, |about, drawn, _, rows| {
        assert_same(about, rows, (0..drawn.0).collect());
    });
}
