//! What a sliding window costs beside a tumbling one that gives as many results.
//!
//! Both get the same records: every key several times a second. The sliding window covers a day and
//! slides by a second, the tumbling one covers a second, so both give one result per key and
//! second. A day is run through before the clock starts, so that the sliding window is full;
//! what is
//! measured then is another day, so that everything that happens once in a window is in it. The two
//! take turns, an hour each. Time in which others had the core does not count, but for the longest
//! second.
//!
//! `cargo run --release -p millstream-bench --bin sliding_window [-- --keys 100 --records 1,4,16]`

#![expect(clippy::print_stdout, reason = "a report is for reading")]

use std::time::{Duration, Instant};

use clap::Parser;
use millstream::data::ahead::{Ahead, HashGroup};
use millstream::data::key::Key;
use millstream::data::key_group::KeyGroupCount;
use millstream::data::row::Row;
use millstream::limits::PREFETCH_GROUP;
use millstream::operator::env::TaskPlace;
use millstream::operator::window::{
    Aggregate, EmitResult, Lateness, SlicedBy, SlidingWindows, TumblingWindows,
};
use millstream::operator::{Chain, Operator, Output, Stage, TaskEnv};
use millstream::prelude::AggregateFunction;
use millstream::time::window::{Sliding, Tumbling};
use millstream_bench::{mix, process};

/// Compares a sliding with a tumbling window.
#[derive(Debug, Parser)]
struct Options {
    /// Keys. A key takes about 3 MB when the sliding window is full.
    #[arg(long, default_value_t = 100)]
    keys: u64,
    /// Records of each key in a second, one run for each number.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    records: Vec<u64>,
    /// Length of the sliding window, s.
    #[arg(long, default_value_t = 86_400)]
    size: i64,
    /// Core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Turns that the measured part is cut into.
const TURNS: i64 = 24;

/// Adds up.
#[derive(Debug, Clone)]
struct Sum;

impl AggregateFunction for Sum {
    type In = (u64, u64);
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, sum: &mut u64, (_, value): (u64, u64)) {
        *sum = sum.wrapping_add(value);
    }

    fn merge(&self, sum: &mut u64, other: u64) {
        *sum = sum.wrapping_add(other);
    }

    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

/// Counts results.
struct Results<'a> {
    env: &'a TaskEnv,
    count: &'a mut u64,
    sum: &'a mut u64,
}

impl Output<u64> for Results<'_> {
    fn emit(&mut self, row: Row<u64>) {
        *self.count += 1;
        *self.sum = self.sum.wrapping_add(row.value);
    }

    fn env(&self) -> &TaskEnv {
        self.env
    }
}

/// One operator, how long it took, and what came out.
struct Runner<O> {
    stage: Stage<O>,
    env: TaskEnv,
    took: Duration,
    turns: Vec<Duration>,
    longest_second: Duration,
    count: u64,
    sum: u64,
}

impl<O: Operator<In = (u64, u64), Out = u64>> Runner<O> {
    fn new(operator: O) -> Self {
        let env = TaskEnv::new(TaskPlace {
            chain_index: 0,
            task_index: 0,
            parallelism: 1,
            key_group_count: KeyGroupCount::new(1024).expect("in range"),
        });
        let mut stage = Stage::new(operator, "window", "window");
        stage.open(&env).expect("it opens");
        Self {
            stage,
            env,
            took: Duration::ZERO,
            turns: Vec::new(),
            longest_second: Duration::ZERO,
            count: 0,
            sum: 0,
        }
    }

    /// Takes the records of the seconds from `from` up to, not including, `to`.
    fn run(&mut self, records: &[(u64, u64)], from: i64, to: i64) {
        let (begun, waited) = (Instant::now(), process::waited());
        let mut out = Results { env: &self.env, count: &mut self.count, sum: &mut self.sum };
        for second in from..to {
            let second_begun = Instant::now();
            let hashes = |group: &[(u64, u64)]| HashGroup::of(group.iter().map(|record| record.0));
            let mut groups = records.chunks(PREFETCH_GROUP).map(hashes);
            let mut near = HashGroup::default();
            let mut far = groups.next().unwrap_or_default();
            self.stage.prefetch(Ahead { near: near.as_slice(), far: far.as_slice() });
            (near, far) = (far, groups.next().unwrap_or_default());
            self.stage.prefetch(Ahead { near: near.as_slice(), far: far.as_slice() });
            for group in records.chunks(PREFETCH_GROUP) {
                (near, far) = (far, groups.next().unwrap_or_default());
                self.stage.prefetch(Ahead { near: near.as_slice(), far: far.as_slice() });
                for (i, (hash64, key)) in group.iter().enumerate() {
                    let event_time_ms = second * 1000 + i as i64;
                    let row = Row::from((*key, second as u64));
                    self.stage.on_row(
                        Row { hash64: *hash64, event_time_ms, ..row },
                        &self.env,
                        &mut out,
                    );
                }
            }
            self.env.set_budget(u32::MAX);
            let released = self.stage.on_watermark(second * 1000 + 999, &self.env, &mut out);
            assert!(released.is_some(), "the budget is enough");
            self.longest_second = self.longest_second.max(second_begun.elapsed());
        }
        let took = begun.elapsed().saturating_sub(process::waited().saturating_sub(waited));
        self.took += took;
        self.turns.push(took);
    }

    /// Forgets what was measured.
    fn begin(&mut self) {
        self.took = Duration::ZERO;
        self.turns.clear();
        self.longest_second = Duration::ZERO;
        self.count = 0;
    }
}

fn main() {
    let options = Options::parse();
    core_affinity::set_for_current(core_affinity::CoreId { id: options.core });
    for per_second in &options.records {
        compare(&options, *per_second);
    }
}

fn compare(options: &Options, per_second: u64) {
    let mut records: Vec<(u64, u64)> = (0..options.keys * per_second)
        .map(|i| i % options.keys)
        .map(|key| (key.hash64(), key))
        .collect();
    for i in (1..records.len()).rev() {
        records.swap(i, (mix(i as u64) % (i as u64 + 1)) as usize);
    }
    let second = Duration::from_secs(1);
    let size = Duration::from_secs(options.size as u64);
    let key_of = |record: &(u64, u64)| record.0;
    let sliding = SlicedBy::new(Sliding::new(size, second));
    let tumbling = SlicedBy::new(Tumbling::new(second));
    let lateness = Lateness::default;
    let mut sliding =
        Runner::new(SlidingWindows::new(sliding, key_of, Aggregate(Sum), EmitResult, lateness()));
    let mut tumbling =
        Runner::new(TumblingWindows::new(tumbling, key_of, Aggregate(Sum), EmitResult, lateness()));
    sliding.run(&records, 0, options.size);
    tumbling.run(&records, 0, options.size);
    sliding.begin();
    tumbling.begin();
    let turn = options.size / TURNS;
    for i in 0..TURNS {
        let from = options.size + i * turn;
        sliding.run(&records, from, from + turn);
        tumbling.run(&records, from, from + turn);
    }
    assert_eq!(sliding.count, tumbling.count, "both give as many results");
    report(per_second, records.len() as i64 * turn * TURNS, &sliding, &tumbling);
}

fn report<A, B>(per_second: u64, record_count: i64, sliding: &Runner<A>, tumbling: &Runner<B>) {
    let ns = |took: Duration| took.as_nanos() as f64 / record_count as f64;
    let mut ratios: Vec<f64> = sliding
        .turns
        .iter()
        .zip(&tumbling.turns)
        .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{per_second:>3} records per key and second: sliding {:.1} ns a record, tumbling {:.1}; \
         ratio {:.2} over the whole window, {:.2} at the median of its turns; longest second {:?} \
         and {:?}",
        ns(sliding.took),
        ns(tumbling.took),
        sliding.took.as_secs_f64() / tumbling.took.as_secs_f64(),
        ratios[ratios.len() / 2],
        sliding.longest_second,
        tumbling.longest_second,
    );
}
