//! Which row is being processed, while fused operators hand rows to each other.

use crate::data::row::Row;
use crate::operator::chain::{Stage, Then};
use crate::operator::process::{Process, ProcessContext, ProcessFunction};
use crate::operator::side_output::OutputTag;
use crate::operator::watermark::AssignWatermarks;
use crate::operator::window::{EmitResult, WindowContext, WindowFunction};
use crate::operator::window::{Lateness, Reduce, SlicedBy, TumblingWindows};
use crate::operator::{Operator, OperatorContext, Output};
use crate::testing::OperatorHarness;
use crate::time::strategy::{IntoWatermarkStrategy, Monotonic};
use crate::time::window::Tumbling;

/// Emits what it takes at time 1 and then at its own time, and puts it aside.
#[derive(Clone)]
struct Twice;

const ASIDE: OutputTag<u64> = OutputTag::new("aside");

impl Operator for Twice {
    type In = u64;
    type Out = u64;

    fn on_row(&mut self, row: Row<u64>, ctx: &OperatorContext<'_>, out: &mut impl Output<u64>) {
        out.collect_at(row.value, 1);
        out.collect(row.value);
        ctx.side_output(ASIDE, row.value);
    }
}

impl ProcessFunction<u64> for Twice {
    type Out = u64;

    fn process(&mut self, n: u64, ctx: &mut ProcessContext<'_>, out: &mut impl Output<u64>) {
        let event_time_ms = ctx.event_time_ms();
        out.collect_at(n, 1);
        out.collect(n);
        ctx.side_output(ASIDE, n);
        assert_eq!(ctx.event_time_ms(), event_time_ms);
    }
}

impl<K> WindowFunction<K, u64> for Twice {
    type Out = u64;

    fn process(&mut self, _: &K, n: u64, _: &WindowContext<'_>, out: &mut impl Output<u64>) {
        out.collect_at(n, 1);
        out.collect(n);
    }
}

/// Checks the times at which two operators, each of which doubles its input, give a row of time 70.
fn check<A, B>(first: A, second: B, expected: &[i64])
where
    A: Operator<In = u64, Out = u64>,
    B: Operator<In = u64, Out = u64>,
{
    let (first, second) = (Stage::new(first, "a", "a"), Stage::new(second, "b", "b"));
    let mut harness = OperatorHarness::of_chain(Then { first, second }).keyed_by(|n| *n);
    harness.push(5, 70);
    harness.watermark(100);
    let rows = harness.take_rows();
    let times: Vec<i64> = rows.iter().map(|row| row.event_time_ms).collect();
    assert_eq!(times, expected);
}

#[test]
fn an_operator_goes_on_with_its_own_row_whatever_is_behind_it() {
    check(Twice, Twice, &[1, 1, 1, 70]);
    check(Process::new(Twice), Twice, &[1, 1, 1, 70]);
    check(Twice, Process::new(Twice), &[1, 1, 1, 70]);
    check(Process::new(Twice), Process::new(Twice), &[1, 1, 1, 70]);
}

#[test]
fn what_comes_behind_a_watermark_has_the_time_that_was_assigned() {
    let strategy = IntoWatermarkStrategy::<u64>::into_strategy(Monotonic::new());
    check(AssignWatermarks::new(strategy, |n: &u64| 10 * *n as i64), Twice, &[1, 50]);
}

#[test]
fn a_windows_function_goes_on_with_its_window() {
    let by = SlicedBy::new(Tumbling::new(std::time::Duration::from_millis(100)));
    let sum = Reduce::new(|a: u64, b: u64| a + b);
    let late = Lateness::default();
    let windows = TumblingWindows::new(by.clone(), |n: &u64| *n, sum.clone(), Twice, late);
    check(windows, Process::new(Twice), &[1, 1, 1, 99]);
    let windows = TumblingWindows::new(by, |n: &u64| *n, sum, EmitResult, late);
    check(windows, Twice, &[1, 99]);
}

#[test]
fn what_is_put_aside_has_the_time_of_the_operators_own_row() {
    let (first, second) = (Stage::new(Twice, "a", "a"), Stage::new(Twice, "b", "b"));
    let mut harness = OperatorHarness::of_chain(Then { first, second });
    for stage_index in [0, 1] {
        harness.env().side_outputs.borrow_mut().register(stage_index, ASIDE);
    }
    harness.push(5, 70);
    let times = [0, 1].map(|stage_index| {
        let mut sides = harness.env().side_outputs.borrow_mut();
        let rows = sides.rows(stage_index, ASIDE).ok().flatten().expect("registered above");
        rows.iter().map(|row| row.event_time_ms).collect::<Vec<_>>()
    });
    assert_eq!(times, [vec![70], vec![1, 70]]);
}
