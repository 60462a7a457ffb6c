//! Jobs that do not end, and jobs that panic before they begin.

use std::time::Duration;

use millstream::data::element::CheckpointId;
use millstream::prelude::*;

use super::assert_same;
use super::ledger::Ledger;

fn endless(job: &Job) {
    let numbers = job.source("numbers", GeneratorSource::new(u64::MAX, |n| n).paced(1_000.0));
    numbers.rebalance().discard();
}

#[test]
fn a_simulation_without_an_end_is_an_error() {
    let job = Job::new("endless");
    endless(&job);
    let config = SimConfig { turn_count_max: 1_000, ..SimConfig::new(1) };
    let report = job.simulate(2, &config).expect("the job has no mistakes");
    let error = report.outcome.expect_err("it has no end");
    assert!(matches!(error, Error::Unending { .. }), "{error}");
    assert!(error.to_string().contains("1000 turns"), "{error}");
}

#[test]
fn a_simulation_that_is_drained_has_an_end() {
    let job = Job::new("endless");
    endless(&job);
    let config = SimConfig { drain_at: Some(Duration::from_millis(200)), ..SimConfig::new(1) };
    let report = job.simulate(2, &config).expect("the job has no mistakes");
    assert!(report.outcome.is_ok(), "{:?}", report.outcome);
    assert!(Duration::from_millis(200) <= report.took, "{:?}", report.took);
}

/// Never takes a record.
#[derive(Clone)]
struct Stuck;

impl Operator for Stuck {
    type In = u64;
    type Out = Nothing;

    fn on_row(&mut self, _: Row<u64>, _: &OperatorContext<'_>, _: &mut impl Output<Nothing>) {}

    fn is_ready(&self) -> bool {
        false
    }
}

#[test]
fn a_simulation_in_which_nothing_happens_any_more_names_who_waits() {
    let job = Job::new("stuck");
    job.source("numbers", GeneratorSource::new(5, |n| n)).rebalance().sink("stuck", Stuck);
    let checkpoint_interval = Some(Duration::from_millis(1));
    let config = SimConfig { checkpoint_interval, ..SimConfig::new(1) };
    let report = job.simulate(1, &config).expect("the job has no mistakes");
    let error = report.outcome.expect_err("it waits for ever").to_string();
    assert!(error.contains("these tasks wait") && error.contains("stuck 0"), "{error}");
}

/// Panics when it is opened.
#[derive(Clone)]
struct Hasty;

impl Operator for Hasty {
    type In = u64;
    type Out = u64;

    fn open(&mut self, _: &OperatorContext<'_>) -> Result<()> {
        panic!("no configuration");
    }

    fn on_row(&mut self, row: Row<u64>, _: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        out.emit(row);
    }
}

#[test]
fn a_panic_while_opening_a_simulation_names_the_operator() {
    let job = Job::new("hasty");
    job.source("numbers", GeneratorSource::new(5, |n| n)).operator("lookup", Hasty).discard();
    let report = job.simulate(2, &SimConfig::new(7)).expect("the job has no mistakes");
    let error = report.outcome.expect_err("it cannot be opened");
    assert!(matches!(error, Error::Panicked { .. }), "{error:?}");
    assert!(error.to_string().starts_with("operator lookup panicked"), "{error}");
    assert!(error.to_string().contains("no configuration"), "{error}");
}

/// Fifty numbers at once, and two thousand that take twenty milliseconds, summed by key.
fn short_and_long(ledger: Ledger<(u64, u64)>) -> Job {
    let job = Job::new("short-and-long");
    let short = job.source("short", GeneratorSource::new(50, |n| n)).parallelism(2);
    let short = short.watermark(Monotonic::new(), |n| *n as i64);
    let long = job.source("long", GeneratorSource::new(2_000, |n| n).paced(100_000.0));
    let long = long.watermark(Monotonic::new(), |n| *n as i64);
    let keyed = short.rebalance().union(long).key_by(|n| n % 7);
    keyed.process("sums", Sums::default()).sink("ledger", ledger);
    job
}

/// The sum per key, at the end of event time.
#[derive(Clone, Default)]
struct Sums {
    sum: ReducingState<u64>,
}

impl KeyedProcessFunction<u64, u64> for Sums {
    type Out = (u64, u64);

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.sum = ctx.reducing("sum", StateSpec::kept_until_cleared(), |a, b| *a += b);
    }

    fn process(
        &mut self,
        n: u64,
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut impl Output<(u64, u64)>,
    ) {
        self.sum.add(ctx, n);
        ctx.register_event_timer(1_000_000);
    }

    fn on_timer(
        &mut self,
        _: FiredTimer,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut impl Output<(u64, u64)>,
    ) {
        let sum = self.sum.get(ctx).copied().expect("a timer has a sum");
        out.collect((*ctx.key(), sum));
    }
}

#[test]
fn checkpoints_go_on_when_a_source_has_ended_and_when_all_have() {
    let mut expected = vec![0; 7];
    (0..50).chain(0..2_000).for_each(|n| expected[n % 7] += n as u64);
    let expected: Vec<_> = (0..7).zip(expected).collect();
    for seed in 0..6 {
        let ledger = Ledger::default();
        let checkpoint_interval = Some(Duration::from_millis(2));
        let config = SimConfig { checkpoint_interval, ..SimConfig::new(seed) };
        let report = short_and_long(ledger.clone()).simulate(1 + seed as u32 % 3, &config);
        let report = report.expect("the job has no mistakes");
        assert!(report.outcome.is_ok(), "seed {seed}: {:?}", report.outcome);
        assert_same(&format!("seed {seed}"), ledger.into_rows(), expected.clone());
        // The generator begins after 200 ms; the last ones may be cut off by the end of the job.
        let last = report.checkpoints.last().expect("some complete");
        assert!(CheckpointId(4) < *last, "seed {seed}: {last:?} is the last that completed");
        for checkpoint in report.checkpoints.iter().rev().take(3) {
            let restore = Some(report.checkpoint(*checkpoint).expect("it is whole"));
            let ledger = Ledger::default();
            let config = SimConfig { restore, ..SimConfig::new(seed + 100) };
            let again = short_and_long(ledger.clone()).simulate(1 + seed as u32 % 4, &config);
            let again = again.expect("the job has no mistakes");
            let about = format!("seed {seed}, restored from {checkpoint:?}");
            assert!(again.outcome.is_ok(), "{about}: {:?}", again.outcome);
            assert_same(&about, ledger.into_rows(), expected.clone());
        }
    }
}
