//! Interval joins whose keys leave memory.

use super::*;
use crate::operator::Stage;
use crate::testing::{OperatorHarness, Step, conformance};

/// Key, number, and text that is on the heap.
type Record = (u32, i64, String);
type Both = Either<Record, Record>;
type Join = IntervalJoin<u32, Record, Record, fn(&Both) -> u32, fn(&Record, &Record) -> String>;

fn key_of(record: &Both) -> u32 {
    match record {
        Either::Left(record) | Either::Right(record) => record.0,
    }
}

fn pair(left: &Record, right: &Record) -> String {
    format!("{}+{}", left.1, right.1)
}

fn record(key: u32, number: i64) -> Record {
    (key, number, format!("record {number}"))
}

/// A left record at `t` with right ones from `t - 20` to `t + 30`.
fn harness() -> OperatorHarness<Stage<Join>> {
    let join: Join = IntervalJoin::new(-20, 30, key_of, pair, LateSides::default());
    OperatorHarness::new(join).keyed_by(key_of)
}

#[test]
fn keys_leave_memory_and_come_back() {
    let step = |n: i64| {
        let record = record(n as u32 * 7 % 5, n);
        let record = if n % 3 == 0 { Either::Left(record) } else { Either::Right(record) };
        Step::record(record, n * 4)
    };
    let script = (0..80).flat_map(|n| match n % 5 {
        4 => vec![step(n), Step::Watermark(n * 4 - 25)],
        _ => vec![step(n)],
    });
    conformance(harness, script.chain([Step::End]));
    let mut harness = harness().spilling(1);
    (0..20).for_each(|n| harness.push(Either::Left(record(n % 5, 0)), 100));
    let evicted_count = harness.operator().keys.evicted_count();
    assert!(15 <= evicted_count, "{evicted_count} keys have left memory");
}

#[test]
fn a_key_that_is_away_is_forgotten_when_all_of_it_is_past() {
    let mut harness = harness().spilling(1);
    harness.push(Either::Left(record(1, 1)), 100);
    harness.push(Either::Right(record(1, 2)), 100);
    harness.push(Either::Right(record(1, 3)), 110);
    assert!(harness.operator().keys.slots().all(|slot| harness.operator().keys.is_cold(slot)));
    harness.watermark(129);
    assert_eq!(harness.operator().keys.len(), 1, "a left record at 130 would see the one at 110");
    harness.watermark(131);
    assert_eq!(harness.operator().keys.len(), 0);
    harness.push(Either::Left(record(1, 4)), 132);
    assert_eq!(harness.take_output(), ["1+2", "1+3"], "and does not come back");
}

/// A record pairs with all that was there when it came, although a watermark came before its key.
#[test]
fn a_record_that_waits_sees_what_a_later_watermark_makes_past() {
    let mut harness = harness().spilling_slowly(1);
    harness.push(Either::Right(record(1, 1)), 100);
    (0..100).for_each(|_| harness.resume());
    harness.push(Either::Left(record(1, 2)), 110);
    assert_eq!(harness.take_output(), [""; 0], "it waits");
    harness.watermark(1_000);
    assert!(harness.released_watermark_ms() < 1_000, "the record is before it");
    while harness.is_pending() {
        harness.resume();
    }
    assert_eq!(harness.take_output(), ["2+1"]);
    assert_eq!((harness.released_watermark_ms(), harness.late_count()), (1_000, 0));
}
