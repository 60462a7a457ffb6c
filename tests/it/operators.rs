//! Every operator cut anywhere: restored after every step, sliced, rescaled, with the same results.

use std::time::Duration;

use millstream::data::either::Either;
use millstream::operator::aggregate::{KeyedAggregate, KeyedReduce};
use millstream::operator::chain::Stage;
use millstream::operator::co::{CoFlatMap, CoMap};
use millstream::operator::join::{IntervalJoin, LateSides, LeftOuterJoin, TemporalJoin};
use millstream::operator::process::KeyedBroadcastProcess;
use millstream::operator::stateless::{Filter, FlatMap, Inspect, KeyBy, Map};
use millstream::operator::watermark::AssignWatermarks;
use millstream::operator::window::{
    Aggregate, Aggregated, CoGrouped, GeneralWindows, Lateness, Listed, Pairs, Reduce, SlicedBy,
    SlidingWindows, TumblingWindows,
};
use millstream::prelude::*;
use millstream::sim::rng::Rng;
use millstream::state::snapshot::Snapshot;
use millstream::testing::{OperatorHarness, Step, conformance};
use millstream::time::evictor::KeepAll;

/// A record: its key and its number.
type Record = (u32, u64);
type Both = Either<Record, Record>;

const LATE: OutputTag<Record> = OutputTag::new("late");
const LEFT: OutputTag<Record> = OutputTag::new("late-left");
const RIGHT: OutputTag<Record> = OutputTag::new("late-right");
const SIDES: LateSides<Record, Record> = LateSides { left: Some(LEFT), right: Some(RIGHT) };

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Records around a time that moves on, some of them late, with both clocks rising in between.
fn script<T>(seed: u64, record: impl Fn(&mut Rng, u32, u64) -> T) -> Vec<Step<T>> {
    let mut rng = Rng::new(seed);
    let (mut now_ms, mut watermark_ms, mut clock_ms) = (1_000_000, 0, 0);
    let mut steps = Vec::new();
    for number in 1..=60 {
        now_ms += rng.below(6) as i64;
        match rng.below(10) {
            0 => {
                watermark_ms = watermark_ms.max(now_ms - rng.below(25) as i64);
                steps.push(Step::Watermark(watermark_ms));
            }
            1 => {
                clock_ms += rng.below(20) as i64;
                steps.push(Step::ProcessingTime(clock_ms));
            }
            _ => {
                let key = rng.below(5) as u32;
                let time_ms = now_ms - rng.below(30) as i64;
                steps.push(Step::record(record(&mut rng, key, number), time_ms));
            }
        }
    }
    steps.push(Step::End);
    steps
}

/// Runs an operator of one keyed input.
fn check<O: Operator<In = Record, Out: std::fmt::Debug>>(make: impl Fn() -> O) {
    for seed in 0..6 {
        let harness = || {
            let harness = OperatorHarness::new(make()).reading(LATE);
            harness.keyed_by(|record: &Record| record.0).keys_in_any_order()
        };
        conformance(harness, script(seed, |_, key, number| (key, number)));
    }
}

/// How often state that left memory was written.
fn flush_count<O: Operator<In = Record>>(make: impl Fn() -> O) -> u64 {
    let mut harness = OperatorHarness::new(make()).keyed_by(key_of).reading(LATE).spilling(1);
    for step in script(1, |_, key, number| (key, number)) {
        match step {
            Step::Record { value, event_time_ms } => harness.push(value, event_time_ms),
            Step::Watermark(watermark_ms) => harness.watermark(watermark_ms),
            Step::ProcessingTime(time_ms) => harness.processing_time(time_ms),
            Step::End => harness.end(),
        }
    }
    harness.store_status().expect("it is spilling").flush_count
}

fn key_of(record: &Record) -> u32 {
    record.0
}

fn key_of_both(record: &Both) -> u32 {
    match record {
        Either::Left(record) | Either::Right(record) => record.0,
    }
}

/// Runs an operator of two keyed inputs.
fn check_both<O: Operator<In = Both, Out: std::fmt::Debug>>(make: impl Fn() -> O) {
    for seed in 0..6 {
        let harness = || {
            let harness = OperatorHarness::new(make()).reading(LEFT).reading(RIGHT);
            harness.keyed_by(key_of_both).keys_in_any_order()
        };
        let record = |rng: &mut Rng, key, number| match rng.below(2) {
            0 => Either::Left((key, number)),
            _ => Either::Right((key, number)),
        };
        conformance(harness, script(seed, record));
    }
}

fn lateness() -> Lateness<Record> {
    Lateness::default().allow(ms(15)).to(LATE)
}

#[derive(Clone)]
struct Sum;

impl AggregateFunction for Sum {
    type In = Record;
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, sum: &mut u64, record: Record) {
        *sum += record.1;
    }

    fn merge(&self, sum: &mut u64, other: u64) {
        *sum += other;
    }

    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn result(key: &u32, window: &Window, sum: u64) -> (u32, i64, i64, u64) {
    (*key, window.start_ms, window.end_ms, sum)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn listed(key: &u32, window: &Window, records: &[Record]) -> (u32, i64, Vec<u64>) {
    (*key, window.end_ms, records.iter().map(|record| record.1).collect())
}

#[test]
fn stateless_operators_may_be_cut_anywhere() {
    check(|| Map::new(|record: Record| record.1 * 2));
    check(|| Filter::new(|record: &Record| record.1.is_multiple_of(3)));
    check(|| FlatMap::new(|record: Record| [record.1, record.1 + 1]));
    check(|| Inspect::new(|_: &Record| {}));
    check(|| KeyBy::new(key_of));
    check_both(|| CoMap::new(|left: Record| left.1, |right: Record| right.1 + 100));
    check_both(|| CoFlatMap::new(|left: Record| vec![left.1], |right: Record| vec![right.1; 2]));
}

#[test]
fn the_assigner_of_watermarks_may_be_cut_anywhere() {
    for seed in 0..6 {
        let strategy = || WatermarkStrategy::new(BoundedOutOfOrderness::new(ms(3)));
        let make = || {
            let time_of = |record: &Record| 1_000_000 + record.1 as i64 * 7 % 50;
            OperatorHarness::new(AssignWatermarks::new(strategy(), time_of)).on_any_task()
        };
        let steps = script(seed, |_, key, number| (key, number)).into_iter();
        conformance(make, steps.filter(|step| !matches!(step, Step::Watermark(_))));
    }
}

#[test]
fn rolling_aggregations_may_be_cut_anywhere() {
    check(|| KeyedReduce::new(key_of, |a: Record, b: Record| (a.0, a.1 + b.1)));
    check(|| KeyedAggregate::new(key_of, Sum));
}

#[test]
fn tumbling_windows_may_be_cut_anywhere() {
    for windows in [Tumbling::new(ms(10)), Tumbling::new(ms(10)).processing_time()] {
        let by = || SlicedBy::new(windows);
        // Without allowed lateness: a late record's window may fire again before an earlier one of
        // its key has fired, and how far firing has come differs from cut to cut. What each window
        // gives is compared in `windows.rs`.
        let lateness = || Lateness::default().to(LATE);
        let sums = || TumblingWindows::new(by(), key_of, Aggregate(Sum), result, lateness());
        assert!(20 < flush_count(sums), "accumulators leave memory, and are written");
        check(sums);
        let sum = |a: Record, b: Record| (a.0, a.1 + b.1);
        check(|| TumblingWindows::new(by(), key_of, Reduce::new(sum), EmitResult, lateness()));
    }
}

#[test]
fn sliding_and_cumulative_windows_may_be_cut_anywhere() {
    let sliding = Sliding::new(ms(20), ms(6));
    for by in [
        SlicedBy::new(sliding),
        SlicedBy::new(sliding.processing_time()),
        SlicedBy::new(Cumulative::new(ms(20), ms(5))),
        SlicedBy::new(Cumulative::new(ms(20), ms(5)).processing_time()),
    ] {
        check(|| SlidingWindows::new(by.clone(), key_of, Aggregate(Sum), result, lateness()));
    }
}

#[test]
fn sessions_and_global_windows_may_be_cut_anywhere() {
    let session = Session::new(ms(8));
    let sums = || Aggregated::new(Aggregate(Sum), result);
    check(|| GeneralWindows::new(session, EventTime, key_of, sums(), lateness()));
    let by_clock = session.processing_time();
    check(|| GeneralWindows::new(by_clock, ProcessingTime, key_of, sums(), lateness()));
    let none = Lateness::default;
    check(|| GeneralWindows::new(Global, Purging::of(Count::of(3)), key_of, sums(), none()));
    let last = || Listed::new(KeepCount::of(3), listed);
    check(|| GeneralWindows::new(Global, Count::of(2), key_of, last(), none()));
}

#[test]
fn triggers_and_evictors_may_be_cut_anywhere() {
    let tumbling = Tumbling::new(ms(20));
    let early = || ContinuousEventTime::of(ms(6));
    let all = || Listed::new(KeepAll, listed);
    check(|| GeneralWindows::new(tumbling, early(), key_of, all(), lateness()));
    let recent = || Listed::new(KeepRecent::of(ms(5)), listed);
    check(|| GeneralWindows::new(tumbling, EventTime, key_of, recent(), lateness()));
    check(|| GeneralWindows::new(tumbling, Count::of(2), key_of, all(), lateness()));
}

#[test]
fn joins_may_be_cut_anywhere() {
    let pair = |left: &Record, right: &Record| (left.1, right.1);
    check_both(|| IntervalJoin::new(-10, 12, key_of_both, pair, SIDES));
    let versioned = |left: Record, right: Option<&Record>| (left.1, right.map(|right| right.1));
    check_both(|| TemporalJoin::new(key_of_both, LeftOuterJoin(versioned), SIDES));
    let pairs = || CoGrouped::new(Pairs(pair));
    let none = Lateness::default;
    let tumbling = Tumbling::new(ms(15));
    check_both(|| GeneralWindows::new(tumbling, EventTime, key_of_both, pairs(), none()));
    let session = Session::new(ms(6));
    check_both(|| GeneralWindows::new(session, EventTime, key_of_both, pairs(), none()));
    let counts = |key: &u32, window: &Window, left: &[Record], right: &[Record]| {
        [(*key, window.end_ms, left.len(), right.len())]
    };
    let groups = || CoGrouped::new(counts);
    let sliding = Sliding::new(ms(20), ms(7));
    check_both(|| GeneralWindows::new(sliding, EventTime, key_of_both, groups(), none()));
}

/// Multiplies by the factor that the broadcast input sets, and says it again by a timer.
#[derive(Clone, Default)]
struct Scale {
    factors: BroadcastState<u32, u64>,
    sum: ValueState<u64>,
}

impl Scale {
    fn factor(&self, ctx: &KeyedContext<'_, u32>) -> u64 {
        self.factors.get(ctx, &(ctx.key() % 2)).copied().unwrap_or(1)
    }
}

impl KeyedBroadcastProcessFunction<u32, Record, Record> for Scale {
    type Out = u64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.factors = ctx.broadcast("factors");
        self.sum = ctx.value("sum", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        record: Record,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<u64>,
    ) {
        let sum = self.sum.get(ctx).copied().unwrap_or(0) + record.1;
        self.sum.set(ctx, sum);
        ctx.register_event_timer(ctx.event_time_ms() + 10);
        out.collect(sum * self.factor(ctx));
    }

    fn process_broadcast(
        &mut self,
        factor: Record,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<u64>,
    ) {
        self.factors.put(ctx, factor.0 % 2, factor.1);
    }

    fn on_timer(
        &mut self,
        _timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<u64>,
    ) {
        if let Some(sum) = self.sum.take(ctx) {
            out.collect(sum * self.factor(ctx));
        }
    }
}

#[test]
fn functions_with_broadcast_may_be_cut_and_rescaled_anywhere() {
    for seed in 0..6 {
        let make = || {
            let operator = KeyedBroadcastProcess::new(key_of, Scale::default());
            OperatorHarness::new(operator).keyed_or_broadcast(|record: &Both| match record {
                Either::Left(record) => Some(record.0),
                Either::Right(_) => None,
            })
        };
        let record = |rng: &mut Rng, key, number| match rng.below(5) {
            0 => Either::Right((key, number)),
            _ => Either::Left((key, number)),
        };
        conformance(make, script(seed, record));
    }
}

/// Holds records back until the watermark has passed them; the least number is everybody's.
#[derive(Clone, Default)]
struct InTime {
    lists: OperatorLists,
    held: OperatorList<(i64, Record)>,
    least: OperatorList<u64>,
}

impl Operator for InTime {
    type In = Record;
    type Out = Record;

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<()> {
        self.lists = ctx.lists();
        self.held = self.lists.list("held");
        self.least = self.lists.union_list("least");
        Ok(())
    }

    fn on_row(
        &mut self,
        row: Row<Record>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<Record>,
    ) {
        let least = self.least.get(&self.lists).iter().copied().chain([row.value.1]).min();
        *self.least.get_mut(&mut self.lists) = least.into_iter().collect();
        if row.event_time_ms <= ctx.watermark_ms() {
            out.emit(row);
        } else {
            self.held.get_mut(&mut self.lists).push((row.event_time_ms, row.value));
        }
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        _ctx: &OperatorContext<'_>,
        out: &mut impl Output<Record>,
    ) -> Progress {
        let held = self.held.get_mut(&mut self.lists);
        for (time_ms, value) in held.extract_if(.., |(time_ms, _)| *time_ms <= watermark_ms) {
            out.collect_at(value, time_ms);
        }
        Progress::Done
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.lists.snapshot(writer);
    }

    fn restore(&mut self, reader: &SnapshotReader<'_>, _ctx: &OperatorContext<'_>) -> Result<()> {
        self.lists.restore(reader)
    }
}

#[test]
fn operators_without_keys_may_be_cut_and_rescaled_anywhere() {
    for seed in 0..6 {
        let steps = || script(seed, |_, key, number| (key, number));
        conformance(|| OperatorHarness::new(InTime::default()).on_any_task(), steps());
        let double = || Map::new(|record: Record| record.1 * 2);
        conformance(|| OperatorHarness::new(double()).on_any_task(), steps());
    }
}

/// From one task to three, from three to two.
#[test]
fn lists_are_dealt_out_by_element_and_union_lists_are_everywhere() {
    let make = |task_index, parallelism| {
        OperatorHarness::new(InTime::default()).task(task_index, parallelism)
    };
    let held = |task: &mut OperatorHarness<Stage<InTime>>| {
        task.operator_state::<(i64, Record)>("list/4:held/").len()
    };
    let mut one = make(0, 1);
    for number in 1..=7 {
        one.push((0, number), number as i64);
    }
    let mut snapshot = one.snapshot();
    for (parallelism, expected) in [(3, vec![3, 2, 2]), (2, vec![4, 3])] {
        let mut merged = Snapshot::default();
        let mut found = Vec::new();
        for task_index in 0..parallelism {
            let mut task = make(task_index, parallelism);
            task.restore(&snapshot).expect("it was written by the same operator");
            found.push(held(&mut task));
            let least = task.operator_state::<u64>("list/5:least/");
            assert!(least.iter().all(|(_, least)| *least == 1) && !least.is_empty());
            merged.merge(task.snapshot());
        }
        assert_eq!(found, expected, "on {parallelism} tasks");
        snapshot = merged;
    }
    let mut last = make(0, 1);
    last.restore(&snapshot).expect("it was written by the same operator");
    last.watermark(4);
    let mut numbers: Vec<u64> = last.take_output().into_iter().map(|record| record.1).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4]);
}
