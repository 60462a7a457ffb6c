//! Rows that are in flight when a checkpoint is cut: a job over every kind of edge, whose sink
//! takes nothing for long whiles, loses its power again and again and goes on with other shards.
//! Every record is there once, and those of a key in their order.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::rng::Rng;
use millstream::state::snapshot::Snapshot;

use super::simulation::{lines, seeds};

/// How often the power goes at most before a job may end.
const CRASHES_MAX: u64 = 5;

/// Keys of those that are counted.
const KEYS: u64 = 7;

/// After so many rows the sink takes nothing for so many milliseconds, which is many times the
/// interval of checkpoints.
const SHUT_AFTER: u64 = 40;
const SHUT_MS: i64 = 3;

/// Takes nothing now and then.
#[derive(Clone, Default)]
struct Gate {
    row_count: u64,
    shut_until_ms: Option<i64>,
}

impl Operator for Gate {
    type In = String;
    type Out = String;

    fn facts(&self) -> millstream::graph::Facts {
        millstream::graph::Facts::stateless()
    }

    fn on_row(
        &mut self,
        row: Row<String>,
        ctx: &OperatorContext<'_>,
        out: &mut impl Output<String>,
    ) {
        out.emit(row);
        self.row_count += 1;
        if self.row_count.is_multiple_of(SHUT_AFTER) {
            self.shut_until_ms = Some(ctx.processing_time_ms() + SHUT_MS);
            ctx.env().set_budget(0);
        }
    }

    fn is_ready(&self) -> bool {
        self.shut_until_ms.is_none()
    }

    fn next_time_ms(&self) -> Option<i64> {
        self.shut_until_ms
    }

    fn on_time(&mut self, _: &OperatorContext<'_>, _: &mut impl Output<String>) -> Progress {
        self.shut_until_ms = None;
        Progress::Done
    }
}

/// The numbers of a key, of which none is missing, none comes twice, and none too early.
#[derive(Clone, Default)]
struct InOrder {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64> for InOrder {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        number: u64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<String>,
    ) {
        let before = self.count.update(ctx, |count| std::mem::replace(count, *count + 1));
        assert_eq!(number / KEYS, before, "{number} is not the next of its key");
        out.collect(format!("in order {number}"));
    }
}

/// Numbers beside those that every task gets, of which none may be missing or come twice either.
#[derive(Clone, Default)]
struct Beside {
    seen: BroadcastState<u64, u64>,
}

impl KeyedBroadcastProcessFunction<u64, u64, u64> for Beside {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.seen = ctx.broadcast("seen");
    }

    fn process(
        &mut self,
        number: u64,
        _: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<String>,
    ) {
        out.collect(format!("beside {number}"));
    }

    fn process_broadcast(
        &mut self,
        number: u64,
        ctx: &mut KeyedBroadcastContext<'_>,
        _: &mut impl Output<String>,
    ) {
        let next = self.seen.get(ctx, &0).copied().unwrap_or(0);
        assert_eq!(number, next, "every task gets all of them in order");
        self.seen.put(ctx, 0, number + 1);
    }
}

/// What becomes of every number: one line of each of these.
const WAYS: [&str; 9] =
    ["in order", "beside", "rebalance", "rescale", "global", "custom", "co", "side", "view"];

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

fn write(job: &Job, parallelism: u32, count: u64) {
    let say = |way: &'static str| move |n: u64| format!("{way} {n}");
    // One task sends them in their order.
    let ordered = GeneratorSource::new(count, |n| n).batches_of(3);
    let ordered = job.source("ordered", ordered).parallelism(1);
    let in_order = ordered.key_by(|n| n % KEYS).process("in order", InOrder::default());
    let numbers = GeneratorSource::new(count, |n| n).batches_of(3);
    let numbers = job.source("numbers", numbers).parallelism(parallelism).shared();
    let told = GeneratorSource::new(count, |n| n).batches_of(3);
    let told = job.source("told", told).parallelism(1).broadcast();
    let beside = numbers.key_by(|n| n % KEYS).connect_broadcast(told);
    let beside = beside.process("beside", Beside::default());
    let rebalance = numbers.rebalance().map(say("rebalance")).name("rebalance");
    let rescale = numbers.rescale().map(say("rescale")).name("rescale");
    let global = numbers.global().map(say("global")).name("global");
    let custom = numbers.partition_by(|n| n % 5).map(say("custom")).name("custom");
    let view = numbers.rebalance().map_view(|n| format!("view {n}")).name("view");
    let co = numbers.rebalance().filter(|n| n % 3 == 0).name("thirds").shared();
    let others = numbers.rescale().filter(|n| n % 3 != 0).name("others");
    let co = co.rebalance().connect(others.rebalance()).map(say("co"), say("co")).name("co");
    let even = numbers.rebalance().operator("split", Split);
    let odd = even.side_output(ODD).map(say("side")).name("odd");
    let side = even.map(say("side")).name("even").union(odd);
    let all = in_order.union(beside).union(rebalance).union(rescale).union(global);
    let all = all.union(custom).union(view).union(co).union(side);
    let files = FileSink::text("/out").roll_interval(Duration::from_micros(1_500));
    all.rebalance().operator("gate", Gate::default()).sink("files", files);
}

#[test]
fn every_record_is_there_once_whatever_is_in_flight() {
    let (mut crash_count, mut in_flight_count) = (0, 0);
    for seed in seeds() {
        let mut rng = Rng::new(seed).fork(2);
        let count = 100 + rng.below(400);
        let mut config = SimConfig {
            checkpoint_interval: Some(Duration::from_micros(200 + rng.below(800))),
            unaligned_after: [None, Some(Duration::ZERO), Some(Duration::from_micros(300))]
                [rng.below(3) as usize],
            checkpoints_retained: 1 + rng.below(3) as usize,
            ..SimConfig::new(rng.next_u64())
        };
        for round in 0..=CRASHES_MAX {
            let shards = [1, 2, 5, 3][rng.below(4) as usize];
            let parallelism = 1 + rng.below(4) as u32;
            let crash_at = Duration::from_micros(2_000 + rng.below(80_000));
            config.crash_at = (round < CRASHES_MAX).then_some(crash_at);
            let job = Job::new("simulated");
            write(&job, parallelism, count);
            let about = format!("seed {seed}, round {round}, {shards} shards");
            let report = job.simulate(shards, &config).expect("the job has no mistakes");
            let mut found: BTreeMap<String, u32> = BTreeMap::new();
            for line in lines(&report) {
                *found.entry(line).or_default() += 1;
            }
            assert!(found.values().all(|count| *count == 1), "{about}: some are there twice");
            match &report.outcome {
                Ok(()) => {
                    let expected =
                        WAYS.iter().flat_map(|way| (0..count).map(move |n| format!("{way} {n}")));
                    let missing: Vec<_> = expected.filter(|it| !found.contains_key(it)).collect();
                    assert!(missing.is_empty(), "{about}: {missing:?}");
                    assert_eq!(found.len(), count as usize * WAYS.len(), "{about}");
                    break;
                }
                Err(millstream::error::Error::Crashed { .. }) => crash_count += 1,
                Err(error) => panic!("{about}: {}", error.chain()),
            }
            config = config.after(&report, rng.next_u64()).expect("one is whole, if there are any");
            let begins_with = config.restore.as_ref().map_or(0, Snapshot::in_flight_bytes);
            in_flight_count += u64::from(0 < begins_with);
        }
    }
    assert!(0 < crash_count, "the power went");
    assert!(0 < in_flight_count, "rows were in flight");
}
