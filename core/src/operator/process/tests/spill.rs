//! States that leave memory, on a disk that takes its time.

use crate::operator::process::{FiredTimer, KeyedContext, KeyedProcess, KeyedProcessFunction};
use crate::operator::{Chain, Output};
use crate::prelude::{OpenContext, StateSpec, ValueState};
use crate::testing::OperatorHarness;

/// Counts the records of each key; 0 forgets the key. A timer at 10 tells the count.
#[derive(Clone, Default)]
struct Count {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u8, (u8, i64)> for Count {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.count = ctx.value("count", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        (key, what): (u8, i64),
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<String>,
    ) {
        match what {
            0 => self.count.clear(ctx),
            10 => {
                ctx.register_event_timer(10);
            }
            _ => self.count.update(ctx, |count| *count += 1),
        }
        let count = self.count.get(ctx).copied();
        out.collect(format!("{key} at {}: {count:?}", ctx.watermark_ms()));
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<String>,
    ) {
        let count = self.count.get(ctx).copied();
        out.collect(format!("timer {} of {}: {count:?}", timer.time_ms, ctx.key()));
    }
}

fn slow() -> OperatorHarness<impl Chain<In = (u8, i64), Out = String>> {
    let operator = KeyedProcess::new(|record: &(u8, i64)| record.0, Count::default());
    OperatorHarness::new(operator).keyed_by(|record: &(u8, i64)| record.0).spilling_slowly(7)
}

/// Lets the disk answer everything.
fn resume<C: Chain>(harness: &mut OperatorHarness<C>) -> Vec<C::Out> {
    let mut out = harness.take_output();
    while harness.is_pending() {
        harness.resume();
        out.extend(harness.take_output());
    }
    out
}

/// The count of key 1 is 1, and in a file.
fn with_cold_key() -> OperatorHarness<impl Chain<In = (u8, i64), Out = String>> {
    let mut harness = slow();
    harness.push((1, 1), 0);
    for _ in 0..100 {
        harness.resume();
    }
    harness.take_output();
    harness
}

fn texts(out: &[impl std::fmt::Display]) -> Vec<String> {
    out.iter().map(ToString::to_string).collect()
}

#[test]
fn rows_of_other_keys_overtake_one_whose_state_is_read() {
    let mut harness = with_cold_key();
    harness.push((1, 1), 0);
    harness.push((2, 1), 0);
    let first = texts(&harness.take_output());
    assert_eq!(first.len(), 1, "the row of key 1 waits: {first:?}");
    assert!(first[0].starts_with("2 at"), "{first:?}");
    let rest = texts(&resume(&mut harness));
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0].starts_with("1 at") && rest[0].ends_with("Some(2)"), "{rest:?}");
}

#[test]
fn rows_of_a_key_keep_their_order_while_it_is_read() {
    let mut harness = with_cold_key();
    for what in [1, 0, 1] {
        harness.push((1, what), 0);
    }
    assert!(harness.take_output().is_empty(), "all of them wait");
    let counts: Vec<String> = texts(&resume(&mut harness));
    let counts: Vec<&str> = counts.iter().filter_map(|text| text.split(": ").nth(1)).collect();
    assert_eq!(counts, ["Some(2)", "None", "Some(1)"]);
}

#[test]
fn a_watermark_is_done_behind_the_rows_before_it_and_waits_for_no_others() {
    let mut harness = with_cold_key();
    harness.push((1, 10), 0);
    harness.watermark(20);
    // It came later than the watermark, and needs nothing from the disk.
    harness.push((3, 1), 30);
    let first = texts(&harness.take_output());
    assert_eq!(first, ["3 at 20: Some(1)"]);
    assert!(harness.released_watermark_ms() < 20, "a timer of key 1 is due before it");
    let rest = texts(&resume(&mut harness));
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest[0].starts_with("1 at -"), "as of the watermark that it came behind: {rest:?}");
    assert_eq!(rest[1], "timer 10 of 1: Some(1)");
    assert_eq!(harness.released_watermark_ms(), 20);
}

#[test]
fn what_is_forgotten_does_not_come_back_from_a_file() {
    let mut harness = with_cold_key();
    harness.push((1, 0), 0);
    assert_eq!(resume(&mut harness).len(), 1);
    for _ in 0..100 {
        harness.resume();
    }
    harness.push((1, 1), 0);
    let counts = texts(&resume(&mut harness));
    assert!(counts[0].ends_with("Some(1)"), "{counts:?}");
}
