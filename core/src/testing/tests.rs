//! The kit finds what it is made to find.

mod state;
mod world;

use crate::data::row::Row;
use crate::operator::aggregate::{KeyedAggregate, KeyedReduce};
use crate::operator::process::KeyedProcess;
use crate::operator::{Chain, Stage, Then};
use crate::prelude::*;
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
use crate::testing::{OperatorHarness, Step, conformance};

/// Numbers its records, and errs where it is told to.
#[derive(Debug, Clone, Default)]
struct Number {
    count: u64,
    forgets: bool,
    fails: bool,
}

impl Operator for Number {
    type In = u8;
    type Out = u64;

    fn on_row(&mut self, row: Row<u8>, ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        self.count += 1;
        if self.fails {
            ctx.fail(Error::bug(ctx.name(), "told to fail"));
        }
        out.emit(row.with(self.count));
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        if !self.forgets {
            writer.operator_state("count", &self.count);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        _ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.count = reader.operator_state::<u64>("count")?.first().map_or(0, |(_, count)| *count);
        Ok(())
    }
}

fn steps(keys: &[u8]) -> Vec<Step<u8>> {
    keys.iter().map(|key| Step::record(*key, i64::from(*key))).collect()
}

#[test]
fn an_operator_that_keeps_its_state_passes() {
    conformance(|| OperatorHarness::new(Number::default()), steps(&[1, 2, 3]));
}

#[test]
#[should_panic(expected = "step 1 (Record { value: 2, event_time_ms: 2 }), restored after every")]
fn an_operator_that_forgets_is_found() {
    let forgets = Number { forgets: true, ..Number::default() };
    conformance(|| OperatorHarness::new(forgets.clone()), steps(&[1, 2, 3]));
}

#[test]
#[should_panic(expected = "tasks: expected first, found second")]
fn an_operator_whose_state_belongs_to_no_key_is_found() {
    let make = || OperatorHarness::new(Number::default()).keyed_by(|key: &u8| *key);
    conformance(make, steps(&[1, 2, 3, 4, 5, 6]));
}

#[test]
#[should_panic(expected = "told to fail")]
fn a_failure_ends_the_test() {
    OperatorHarness::new(Number { fails: true, ..Number::default() }).push(1, 0);
}

#[test]
fn a_failure_may_be_what_is_tested() {
    let fails = Number { fails: true, ..Number::default() };
    let mut harness = OperatorHarness::new(fails).may_fail();
    harness.push(1, 0);
    assert!(harness.take_failure().is_some_and(|error| error.to_string().contains("told to fail")));
}

#[derive(Clone)]
struct Sum;

impl AggregateFunction for Sum {
    type In = u8;
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, sum: &mut u64, value: u8) {
        *sum += u64::from(value);
    }

    fn merge(&self, sum: &mut u64, other: u64) {
        *sum += other;
    }

    fn result(&self, sum: &u64) -> u64 {
        *sum
    }
}

#[test]
fn rolling_aggregations_pass() {
    let key_of = |value: &u8| value % 3;
    let keys = steps(&[1, 4, 2, 7, 9, 250, 1, 1]);
    conformance(
        || OperatorHarness::new(KeyedAggregate::new(key_of, Sum)).keyed_by(key_of),
        keys.clone(),
    );
    let larger = |a: u8, b: u8| a.max(b);
    conformance(|| OperatorHarness::new(KeyedReduce::new(key_of, larger)).keyed_by(key_of), keys);
}

/// Registers a timer for each record, and shows which fire.
#[derive(Clone)]
struct Echo;

impl KeyedProcessFunction<u8, u8> for Echo {
    type Out = i64;

    fn process(&mut self, value: u8, ctx: &mut KeyedContext<'_, u8>, _: &mut impl Output<i64>) {
        ctx.register_event_timer(i64::from(value));
        ctx.register_processing_timer(i64::from(value) * 1_000);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        _: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<i64>,
    ) {
        out.collect(timer.time_ms);
    }
}

fn echo() -> OperatorHarness<impl crate::operator::Chain<In = u8, Out = i64>> {
    OperatorHarness::new(KeyedProcess::new(|value: &u8| *value, Echo)).keyed_by(|value: &u8| *value)
}

#[test]
fn a_budget_cuts_a_firing_and_holds_the_watermark_back() {
    let mut echo = echo();
    for value in [3, 1, 2] {
        echo.push(value, 0);
    }
    echo.set_budget(2);
    echo.watermark(10);
    assert_eq!(echo.take_output(), [1, 2]);
    assert!(echo.is_pending());
    assert_eq!(echo.released_watermark_ms(), crate::data::row::NO_EVENT_TIME);
    echo.resume();
    assert_eq!(echo.take_output(), [3]);
    assert!(!echo.is_pending());
    assert_eq!(echo.released_watermark_ms(), 10);
}

#[test]
fn a_record_fires_the_timers_of_its_key_first() {
    let mut echo = echo();
    for value in [3, 1, 2] {
        echo.push(value, 0);
    }
    echo.set_budget(0);
    echo.watermark(10);
    assert!(echo.take_output().is_empty());
    echo.push(3, 11);
    assert_eq!(echo.take_output(), [3], "the timer of key 3 goes before the record of key 3");
    assert_eq!(echo.timers::<u8>(TimerKind::Event).len(), 3, "and the record sets it again");
    echo.set_budget(10);
    echo.resume();
    assert_eq!(echo.take_output(), [1, 2]);
    echo.watermark(11);
    assert_eq!(echo.take_output(), [3], "to fire when the watermark rises next");
}

#[test]
fn processing_time_fires_and_says_when_next() {
    let mut echo = echo();
    for value in [3, 1, 2] {
        echo.push(value, 0);
    }
    assert_eq!(echo.next_time_ms(), Some(1_000));
    echo.processing_time(2_000);
    assert_eq!(echo.take_output(), [1_000, 2_000]);
    assert_eq!(echo.next_time_ms(), Some(3_000));
    conformance(
        self::echo,
        (0..20_u8).flat_map(|i| {
            let time = Step::ProcessingTime(i64::from(i) * 900);
            [Step::record(i.wrapping_mul(7), 0), time, Step::Watermark(i64::from(i) * 6)]
        }),
    );
}

/// Fires once a second for every key.
#[derive(Clone)]
struct Heartbeat;

impl KeyedProcessFunction<u8, u8> for Heartbeat {
    type Out = (u8, bool);

    fn process(&mut self, _: u8, ctx: &mut KeyedContext<'_, u8>, _: &mut impl Output<Self::Out>) {
        ctx.register_processing_timer(ctx.processing_time_ms() + 1_000);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<Self::Out>,
    ) {
        let goes_on = ctx.register_processing_timer(timer.time_ms + 1_000);
        out.collect((*ctx.key(), goes_on));
    }
}

#[test]
fn the_end_of_the_input_fires_every_processing_time_timer_once() {
    let operator = KeyedProcess::new(|value: &u8| *value, Heartbeat);
    let mut heartbeat = OperatorHarness::new(operator).keyed_by(|value: &u8| *value);
    heartbeat.push(1, 0);
    heartbeat.push(2, 0);
    heartbeat.watermark(500);
    heartbeat.processing_time(1_000);
    assert_eq!(heartbeat.take_output().len(), 2);
    heartbeat.set_budget(1);
    heartbeat.watermark(crate::data::row::MAX_WATERMARK);
    assert_eq!(heartbeat.take_output().len(), 1);
    assert_eq!(heartbeat.released_watermark_ms(), 500, "event time goes on until all have fired");
    heartbeat.end();
    assert_eq!(heartbeat.take_output().len(), 1);
    assert_eq!(heartbeat.next_time_ms(), None);
}

/// Registers as many timers as a record says; shows records as -1.
#[derive(Clone)]
struct Many;

impl KeyedProcessFunction<u8, (u8, i64)> for Many {
    type Out = i64;

    fn process(
        &mut self,
        (_, timer_count): (u8, i64),
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<i64>,
    ) {
        for time_ms in 0..timer_count {
            ctx.register_event_timer(time_ms);
        }
        out.collect(-1);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        _: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<i64>,
    ) {
        out.collect(timer.time_ms);
    }
}

#[test]
fn a_record_whose_key_has_very_many_timers_due_waits_and_keeps_its_place() {
    let key_of = |value: &(u8, i64)| value.0;
    let mut many = OperatorHarness::new(KeyedProcess::new(key_of, Many)).keyed_by(key_of);
    many.push((1, 1_000), 0);
    assert_eq!(many.take_output(), [-1]);
    many.set_budget(0);
    many.watermark(2_000);
    assert!(many.take_output().is_empty() && many.is_pending());
    many.push((1, 0), 3_000);
    let fired = many.take_output();
    assert!(fired.iter().copied().eq(0..256), "one budget's worth: {fired:?}");
    many.push((2, 0), 3_000);
    assert!(many.take_output().is_empty(), "whoever comes next waits behind it");
    many.set_budget(100);
    let mut all = fired;
    while many.is_pending() {
        many.resume();
        let fired = many.take_output();
        assert!(fired.len() <= 256 + 100, "{} in one turn", fired.len());
        all.extend(fired);
    }
    assert!(all.iter().copied().eq((0..1_000).chain([-1, -1])), "in order: {all:?}");
    assert_eq!(many.released_watermark_ms(), 2_000);
}

#[test]
fn names_of_state_are_listed() {
    let key_of = |value: &u8| value % 3;
    let mut sums = OperatorHarness::new(KeyedAggregate::new(key_of, Sum)).keyed_by(key_of);
    sums.push(4, 0);
    sums.push(7, 0);
    assert_eq!(sums.state_names(), ["state/accumulators"]);
}

fn two_stages() -> OperatorHarness<impl Chain<In = u8>> {
    let count = Stage::new(Number::default(), "count", "count-uid");
    let key_of = |value: &u64| value % 3;
    let sum = Stage::new(KeyedReduce::new(key_of, |a: u64, b: u64| a + b), "sum", "sum-uid");
    OperatorHarness::of_chain(Then { first: count, second: sum })
}

#[test]
fn operators_of_a_chain_are_looked_at_by_uid() {
    let mut chain = two_stages();
    chain.push(1, 0);
    chain.look_at("count-uid");
    assert_eq!(chain.operator_state::<u64>("count"), [("count".to_string(), 1)]);
}

#[test]
#[should_panic(expected = r#"there are ["count-uid", "sum-uid"]"#)]
fn an_unknown_uid_is_answered_with_those_there_are() {
    let mut chain = two_stages();
    chain.look_at("operator");
    chain.state_names();
}

#[test]
#[should_panic(expected = "without a budget the input never ends")]
fn an_input_does_not_end_without_a_budget() {
    let mut echo = echo();
    echo.push(1, 0);
    echo.set_budget(0);
    echo.end();
}

#[test]
#[should_panic(expected = "call `look_at`")]
fn one_of_several_operators_must_be_named() {
    two_stages().timers::<u64>(TimerKind::Event);
}
