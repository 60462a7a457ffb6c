//! Jobs that do not end, and jobs that panic before they begin.

use std::time::Duration;

use millstream::prelude::*;

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
