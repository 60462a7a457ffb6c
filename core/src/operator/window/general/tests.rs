//! Windows of keys that leave memory.

use super::*;
use crate::operator::Stage;
use crate::operator::process::OpenContext;
use crate::operator::window::contents::Listed;
use crate::operator::window::function::{ProcessWindowContext, ProcessWindowFunction};
use crate::prelude::{
    Count, EventTime, ProcessingTime, Session, Sliding, StateScope, StateSpec, ValueState,
};
use crate::testing::{OperatorHarness, Step, conformance};
use crate::time::evictor::KeepAll;
use crate::time::window::Global;

/// Key, number, and text that is on the heap.
type Record = (u32, i64, String);
type Windows<W, G> = GeneralWindows<u32, fn(&Record) -> u32, W, G, Listed<Record, KeepAll, Tell>>;

/// Tells the records of a window, how often it has fired, and how often windows of the key have.
#[derive(Clone, Default)]
struct Tell {
    count: ValueState<u64>,
    merges: bool,
}

impl Tell {
    fn count(&self, states: &mut impl StateScope) -> u64 {
        self.count.update(states, |count| {
            *count += 1;
            *count
        })
    }
}

impl ProcessWindowFunction<u32, Record> for Tell {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        key: &u32,
        records: &[Record],
        ctx: &mut ProcessWindowContext<'_>,
        out: &mut impl Output<String>,
    ) {
        let of_window = if self.merges { 0 } else { self.count(ctx.window_state()) };
        let of_key = self.count(ctx.global_state());
        let numbers: Vec<i64> = records.iter().map(|record| record.1).collect();
        let (start_ms, watermark_ms) = (ctx.window().start_ms, ctx.watermark_ms());
        out.collect(format!(
            "{key} at {start_ms} by {watermark_ms}: {numbers:?} {of_window} {of_key}"
        ));
    }
}

fn key_of(record: &Record) -> u32 {
    record.0
}

fn record(key: u32, number: i64) -> Record {
    (key, number, format!("record {number}"))
}

fn harness<W, G>(assigner: W, trigger: G) -> OperatorHarness<Stage<Windows<W, G>>>
where
    W: WindowAssigner<Record>,
    G: Trigger<Record>,
{
    let merges = assigner.is_merging();
    let contents = Listed::new(KeepAll, Tell { count: ValueState::default(), merges });
    let lateness = Lateness::default().allow(ms(7));
    let key: fn(&Record) -> u32 = key_of;
    let windows: Windows<W, G> = GeneralWindows::new(assigner, trigger, key, contents, lateness);
    OperatorHarness::new(windows).keyed_by(key_of)
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn check<W, G>(assigner: &W, trigger: &G)
where
    W: WindowAssigner<Record>,
    G: Trigger<Record>,
{
    let step = |n: i64| Step::record(record(n as u32 * 7 % 5, n), n * 4 - n % 3 * 9);
    let script = (0..80).flat_map(|n| match n % 5 {
        2 => vec![step(n), Step::ProcessingTime(n * 4)],
        4 => vec![step(n), Step::Watermark(n * 4 - 25)],
        _ => vec![step(n)],
    });
    let make = || harness(assigner.clone(), trigger.clone());
    conformance(make, script.chain([Step::End]));
    let mut harness = make().spilling(1);
    (0..20).for_each(|n| harness.push(record(n % 5, 0), 100));
    harness.watermark(100);
    let operator = harness.operator();
    let evicted_count = operator.keys.evicted_count();
    assert!(15 <= evicted_count, "windows of {evicted_count} keys have left memory");
}

#[test]
fn keys_leave_memory_and_come_back() {
    check(&Sliding::new(ms(40), ms(20)), &EventTime);
    check(&Session::new(ms(15)), &EventTime);
    check(&Global, &Count::of(3));
    check(&Sliding::new(ms(40), ms(20)).processing_time(), &ProcessingTime);
}

#[test]
fn states_of_a_function_leave_memory_too() {
    let mut harness = harness(Global, Count::of(2)).spilling(1);
    (0..20).for_each(|n| harness.push(record(n % 5, 0), 100));
    let states = harness.operator().states.as_ref().expect("they are declared");
    assert!(0 < states.evicted_count(), "no state has left memory");
    let counts: Vec<String> = harness.take_output();
    assert!(counts[9].ends_with(" 2 2"), "a key has fired twice: {counts:?}");
}

/// A row sees the watermark that it came behind: it is not late.
#[test]
fn a_row_that_waits_is_as_early_as_when_it_came() {
    let mut harness = harness(Sliding::new(ms(20), ms(20)), EventTime).spilling_slowly(1);
    harness.push(record(1, 1), 10);
    (0..100).for_each(|_| harness.resume());
    harness.push(record(1, 2), 12);
    harness.watermark(1_000);
    assert_eq!(harness.take_output(), [""; 0], "the row waits, and the watermark for the row");
    assert!(harness.released_watermark_ms() < 1_000);
    while harness.is_pending() {
        harness.resume();
    }
    assert_eq!(harness.take_output(), ["1 at 0 by 1000: [1, 2] 1 1"]);
    assert_eq!((harness.released_watermark_ms(), harness.late_count()), (1_000, 0));
}
