//! Sliding windows of keys that leave memory.

use std::time::Duration;

use super::*;
use crate::operator::Stage;
use crate::operator::window::{EmitResult, Reduce};
use crate::prelude::Sliding;
use crate::testing::{OperatorHarness, Step, conformance};

/// Key, and text that is on the heap.
type Record = (u32, String);
type Join = Reduce<Record, fn(Record, Record) -> Record>;
type Windows = SlidingWindows<u32, fn(&Record) -> u32, Join, EmitResult>;

fn key_of(record: &Record) -> u32 {
    record.0
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn harness(assigner: Sliding, allowed_ms: u64) -> OperatorHarness<Stage<Windows>> {
    let join: fn(Record, Record) -> Record = |a, b| {
        let mut parts: Vec<&str> = a.1.split(' ').chain(b.1.split(' ')).collect();
        parts.sort_unstable();
        (a.0, parts.join(" "))
    };
    let lateness = Lateness::default().allow(ms(allowed_ms));
    let (by, key_of): (SlicedBy, fn(&Record) -> u32) = (SlicedBy::new(assigner), key_of);
    let windows = SlidingWindows::new(by, key_of, Reduce::new(join), EmitResult, lateness);
    OperatorHarness::new(windows).keyed_by(key_of)
}

fn record(n: i64) -> Record {
    (n as u32 * 7 % 5, format!("record-{n}"))
}

#[test]
fn keys_leave_memory_and_come_back() {
    let sliding = Sliding::new(ms(60), ms(10));
    for (assigner, allowed_ms) in [(sliding, 0), (sliding, 25), (sliding.processing_time(), 0)] {
        let step = |n: i64| Step::record(record(n), n * 4 - n % 3 * 14);
        let script = (0..90).flat_map(|n| match n % 5 {
            2 => vec![step(n), Step::ProcessingTime(n * 4)],
            4 => vec![step(n), Step::Watermark(n * 4 - 10)],
            _ => vec![step(n)],
        });
        let make = || harness(assigner, allowed_ms).keys_in_any_order();
        conformance(make, script.chain([Step::End]));
        let mut harness = harness(assigner, allowed_ms).spilling(1);
        (0..20).for_each(|n| harness.push(record(n), 100 + n));
        let evicted_count = harness.operator().keys.evicted_count();
        assert!(10 <= evicted_count, "{evicted_count} keys have left memory");
    }
}

/// It counts in the windows that a later watermark fires.
#[test]
fn a_row_that_waits_comes_before_the_windows_that_fire_behind_it() {
    let mut harness = harness(Sliding::new(ms(20), ms(10)), 0).spilling_slowly(1);
    harness.push((1, "a".to_string()), 5);
    (0..100).for_each(|_| harness.resume());
    harness.push((1, "b".to_string()), 6);
    harness.watermark(1_000);
    assert!(harness.take_output().is_empty(), "the row waits, and the watermark for the row");
    assert!(harness.released_watermark_ms() < 1_000);
    while harness.is_pending() {
        harness.resume();
    }
    let both = || (1, "a b".to_string());
    assert_eq!(harness.take_output(), [both(), both()]);
    assert_eq!((harness.released_watermark_ms(), harness.late_count()), (1_000, 0));
}
