//! Accumulators that leave memory: what comes of them, and what does not wait for them.

use std::time::Duration;

use proptest::prelude::*;

use crate::operator::Chain;
use crate::operator::window::{Aggregate, EmitResult, Lateness, Reduce, SlicedBy, TumblingWindows};
use crate::state::aggregate::AggregateFunction;
use crate::testing::OperatorHarness;
use crate::time::window::{Tumbling, Window};

/// A record: its key and its number.
type Record = (u8, u32);

/// Gathers numbers in the order in which they came.
#[derive(Clone)]
struct InOrder;

impl AggregateFunction for InOrder {
    type In = Record;
    type Accumulator = Vec<u32>;
    type Out = Vec<u32>;

    fn create(&self) -> Vec<u32> {
        Vec::new()
    }

    fn add(&self, numbers: &mut Vec<u32>, (_, number): Record) {
        numbers.push(number);
    }

    fn merge(&self, numbers: &mut Vec<u32>, other: Vec<u32>) {
        numbers.extend(other);
    }

    fn result(&self, numbers: &Vec<u32>) -> Vec<u32> {
        numbers.clone()
    }
}

/// A result: key, end of the window, numbers.
type Gathered = (u8, i64, Vec<u32>);

fn windows(
    windows: Tumbling,
    allowed_ms: u64,
) -> OperatorHarness<impl Chain<In = Record, Out = Gathered>> {
    let lateness = Lateness::default().allow(Duration::from_millis(allowed_ms));
    let key_of = |record: &Record| record.0;
    let of = |key: &u8, window: &Window, numbers| (*key, window.end_ms, numbers);
    let by = SlicedBy::new(windows);
    let operator = TumblingWindows::new(by, key_of, Aggregate(InOrder), of, lateness);
    OperatorHarness::new(operator).keyed_by(key_of)
}

fn of_ten_ms() -> Tumbling {
    Tumbling::new(Duration::from_millis(10))
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

/// Lets everything go to files, and out of the store's memory.
fn cool<C: Chain>(harness: &mut OperatorHarness<C>) {
    for _ in 0..100 {
        harness.resume();
    }
}

fn flush_count<C: Chain>(harness: &OperatorHarness<C>) -> u64 {
    harness.store_status().expect("it is spilling").flush_count
}

#[test]
fn partials_are_written_and_merged_in_the_order_in_which_they_came() {
    let mut harness = windows(of_ten_ms(), 0).spilling(1);
    for number in 0..20 {
        harness.push(((number % 3) as u8, number), i64::from(number % 2) * 10);
        let status = harness.store_status().expect("it is spilling");
        assert_eq!(status.working_bytes, 0, "what is not in use leaves, with all its memory");
    }
    assert!(20 <= flush_count(&harness), "each of them was written: {}", flush_count(&harness));
    assert!(harness.take_output().is_empty());
    harness.watermark(9);
    let mut fired = resume(&mut harness);
    fired.sort();
    let of = |key: u32| (key as u8, 10, (0..20).filter(|n| n % 3 == key && n % 2 == 0).collect());
    assert_eq!(fired, [of(0), of(1), of(2)]);
    assert_eq!(harness.released_watermark_ms(), 9);
    harness.end();
    assert_eq!(harness.take_output().len(), 3);
}

/// What a reduction makes of values may depend on their order: it is that of arrival.
#[test]
fn a_reduction_keeps_the_first_or_the_last() {
    let key_of = |record: &Record| record.0;
    let reduced = |f: fn(Record, Record) -> Record| {
        let by = SlicedBy::new(of_ten_ms());
        let operator =
            TumblingWindows::new(by, key_of, Reduce::new(f), EmitResult, Lateness::default());
        let mut harness = OperatorHarness::new(operator).keyed_by(key_of).spilling(2);
        for number in 0..7 {
            harness.push((1, number), 0);
        }
        harness.end();
        harness.take_output()
    };
    assert_eq!(reduced(|first, _| first), [(1, 0)]);
    assert_eq!(reduced(|_, last| last), [(1, 6)]);
}

#[test]
fn rows_in_time_wait_for_nothing_and_late_ones_for_their_key() {
    let mut harness = windows(of_ten_ms(), 100).spilling_slowly(3);
    harness.push((1, 1), 0);
    harness.watermark(9);
    assert_eq!(resume(&mut harness), [(1, 10, vec![1])]);
    cool(&mut harness);
    harness.push((1, 2), 5);
    assert!(harness.take_output().is_empty(), "what there is of key 1 is being read");
    harness.push((2, 3), 5);
    assert_eq!(harness.take_output(), [(2, 10, vec![3])], "there is nothing of key 2");
    harness.push((1, 4), 15);
    harness.push((1, 5), 6);
    assert!(harness.take_output().is_empty(), "rows of a key keep their order");
    assert_eq!(resume(&mut harness), [(1, 10, vec![1, 2]), (1, 10, vec![1, 2, 5])]);
    harness.watermark(19);
    assert_eq!(resume(&mut harness), [(1, 20, vec![4])]);
}

/// A window fires behind the late rows that came before it was due.
#[test]
fn a_watermark_waits_for_the_late_rows_before_it() {
    let mut harness = windows(of_ten_ms(), 100).spilling_slowly(4);
    harness.push((1, 1), 0);
    harness.push((1, 2), 15);
    harness.watermark(9);
    assert_eq!(resume(&mut harness), [(1, 10, vec![1])]);
    cool(&mut harness);
    harness.push((1, 3), 0);
    harness.watermark(19);
    assert!(harness.take_output().is_empty());
    assert_eq!(harness.released_watermark_ms(), 9);
    assert_eq!(resume(&mut harness), [(1, 10, vec![1, 3]), (1, 20, vec![2])]);
    assert_eq!(harness.released_watermark_ms(), 19);
}

/// What happens to the operator.
#[derive(Debug, Clone)]
enum Move {
    Record { key: u8, time_ms: i64 },
    Watermark(i64),
    Clock(i64),
    Restart,
}

/// How it keeps what it works with.
#[derive(Debug, Clone, Copy)]
struct Memory {
    working_bytes: usize,
    is_slow: bool,
    budget: u32,
}

/// Everything that comes out, by key, in order.
fn run(by: Tumbling, allowed_ms: u64, moves: &[Move], memory: Option<Memory>) -> Vec<Gathered> {
    let make = || match memory {
        None => windows(by, allowed_ms),
        Some(Memory { working_bytes, is_slow, .. }) => {
            windows(by, allowed_ms).with_spill(5, is_slow, working_bytes)
        }
    };
    let mut harness = make();
    harness.set_budget(memory.map_or(u32::MAX, |memory| memory.budget));
    let mut number = 0;
    for step in moves {
        match *step {
            Move::Record { key, time_ms } => {
                number += 1;
                harness.push((key, number), time_ms);
            }
            Move::Watermark(watermark_ms) => harness.watermark(watermark_ms),
            Move::Clock(clock_ms) => harness.processing_time(clock_ms),
            Move::Restart if harness.is_ready() => harness.restart(make()),
            Move::Restart => {}
        }
    }
    harness.end();
    let mut fired = harness.take_output();
    fired.sort_by_key(|(key, ..)| *key);
    fired
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        16 => (0_u8..20, -25_i64..25, 0_i64..4).prop_map(|(key, off, by)| (0, key, off, by)),
        2 => (-15_i64..5).prop_map(|off| (1, 0, off, 0)),
        2 => (0_i64..12).prop_map(|by| (2, 0, by, 0)),
        1 => Just((3, 0, 0, 0)),
    ];
    prop::collection::vec(step, 0..200).prop_map(|steps| {
        let (mut now_ms, mut watermark_ms, mut clock_ms) = (0, i64::MIN, 0);
        let of = |(what, key, off, by): (u32, u8, i64, i64)| {
            now_ms += by;
            match what {
                0 => Move::Record { key, time_ms: now_ms + off },
                1 => {
                    watermark_ms = watermark_ms.max(now_ms + off);
                    Move::Watermark(watermark_ms)
                }
                2 => {
                    clock_ms += off;
                    Move::Clock(clock_ms)
                }
                _ => Move::Restart,
            }
        };
        steps.into_iter().map(of).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// How much memory there is, how fast the disk, and how much a turn may do cannot be told from
    /// what comes out.
    #[test]
    fn nobody_can_tell_where_accumulators_are(
        moves in moves(), size_ms in 1_u64..40, allowed_ms in prop_oneof![Just(0), 0_u64..60],
        is_by_clock: bool, working_bytes in prop_oneof![Just(0), 0_usize..3_000], is_slow: bool,
        budget in prop_oneof![Just(u32::MAX), 1_u32..20],
    ) {
        let by = Tumbling::new(Duration::from_millis(size_ms));
        let by = if is_by_clock { by.processing_time() } else { by };
        let memory = Memory { working_bytes, is_slow, budget };
        let expected = run(by, allowed_ms, &moves, None);
        prop_assert_eq!(run(by, allowed_ms, &moves, Some(memory)), expected);
    }
}
