//! Scripts for operators of one or two inputs: shuffled, late and bursty records of several keys,
//! inputs that interleave at random, a watermark of each input, cuts anywhere.

use millstream::operator::{Operator, Stage};
use millstream::testing::OperatorHarness;
use proptest::prelude::*;

/// A record. Ids ascend in the order of arrival, and are odd in the second input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) is_right: bool,
    pub(crate) key: u32,
    pub(crate) time: i64,
    pub(crate) id: u32,
}

/// One thing that happens to an operator.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Move {
    Record(Timed),
    /// The smaller of the inputs' watermarks has risen to this.
    Watermark(i64),
    /// Processing time rises to this.
    Clock(i64),
    /// From now on no call does more work than this.
    Budget(u32),
    /// Goes on with what a budget has cut short.
    Resume,
    /// Goes on from a snapshot.
    Restart,
}

/// What is drawn; times are relative to a time that moves on.
#[derive(Debug, Clone)]
enum Draw {
    Record {
        is_right: bool,
        key: u32,
        off: i64,
        by: i64,
    },
    /// Records of one time.
    Burst {
        of: Vec<(bool, u32)>,
        off: i64,
    },
    Watermark {
        is_right: bool,
        off: i64,
    },
    Clock(i64),
    Cut(Move),
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    let record = |off: std::ops::Range<i64>, by: std::ops::Range<i64>| {
        (any::<bool>(), 0_u32..4, off, by).prop_map(|(is_right, key, off, by)| Draw::Record {
            is_right,
            key,
            off,
            by,
        })
    };
    let burst = prop::collection::vec((any::<bool>(), 0_u32..4), 2..7);
    let draw = prop_oneof![
        10 => record(-12..30, 0..4),
        1 => record(-90..-12, 0..1),
        1 => record(0..1, 20..200),
        2 => (burst, -12_i64..12).prop_map(|(of, off)| Draw::Burst { of, off }),
        5 => (any::<bool>(), -15_i64..12)
            .prop_map(|(is_right, off)| Draw::Watermark { is_right, off }),
        1 => (1_i64..30).prop_map(Draw::Clock),
        1 => prop_oneof![Just(0), Just(1), Just(3), Just(u32::MAX)]
            .prop_map(|units| Draw::Cut(Move::Budget(units))),
        2 => Just(Draw::Cut(Move::Resume)),
        1 => Just(Draw::Cut(Move::Restart)),
    ];
    (prop::collection::vec(draw, 0..100), -300_i64..300)
        .prop_map(|(draws, begin)| moved(draws, begin))
}

fn moved(draws: Vec<Draw>, begin: i64) -> Vec<Move> {
    let (mut now, mut clock, mut count) = (begin, 0, 0);
    let (mut watermarks, mut combined) = ([i64::MIN; 2], i64::MIN);
    let mut record = |is_right: bool, key: u32, time: i64| {
        count += 1;
        Move::Record(Timed { is_right, key, time, id: 2 * count + u32::from(is_right) })
    };
    let mut moves = Vec::new();
    for draw in draws {
        match draw {
            Draw::Record { is_right, key, off, by } => {
                now += by;
                moves.push(record(is_right, key, now + off));
            }
            Draw::Burst { of, off } => {
                moves.extend(of.iter().map(|(is_right, key)| record(*is_right, *key, now + off)));
            }
            Draw::Watermark { is_right, off } => {
                let known = &mut watermarks[usize::from(is_right)];
                *known = (*known).max(now + off);
                let min = watermarks[0].min(watermarks[1]);
                if combined < min {
                    combined = min;
                    moves.push(Move::Watermark(min));
                }
            }
            Draw::Clock(by) => {
                clock += by;
                moves.push(Move::Clock(clock));
            }
            Draw::Cut(cut) => moves.push(cut),
        }
    }
    moves
}

/// Runs the moves and ends the input; with `cuts`, also those that cut. Calls `take` after each.
pub(crate) fn drive<O: Operator>(
    make: impl Fn() -> OperatorHarness<Stage<O>>,
    moves: &[Move],
    cuts: bool,
    record: impl Fn(Timed) -> O::In,
    mut take: impl FnMut(&mut OperatorHarness<Stage<O>>),
) {
    let mut harness = make();
    let mut budget = u32::MAX;
    for step in moves {
        // As a task does: an operator that is not ready is neither cut nor given anything.
        harness.set_budget(budget.max(1));
        while !harness.is_ready() {
            harness.resume();
            take(&mut harness);
        }
        harness.set_budget(budget);
        match *step {
            Move::Record(timed) => harness.push(record(timed), timed.time),
            Move::Watermark(watermark) => harness.watermark(watermark),
            // The two kinds of time do not overtake each other.
            Move::Clock(now) => {
                harness.set_budget(u32::MAX);
                while harness.is_pending() {
                    harness.resume();
                }
                harness.processing_time(now);
            }
            Move::Budget(units) if cuts => budget = units,
            Move::Resume if cuts => {
                harness.set_budget(budget.max(1));
                harness.resume();
            }
            Move::Restart if cuts => {
                let snapshot = harness.snapshot();
                let fresh = make().starting_at(harness.env().processing_time_ms.get());
                let old = std::mem::replace(&mut harness, fresh);
                harness.restore(&snapshot).expect("it has written it itself");
                harness.env().late_records.set(old.env().late_records.get());
                assert_eq!(harness.snapshot(), snapshot, "a restored operator has another state");
            }
            Move::Budget(_) | Move::Resume | Move::Restart => {}
        }
        take(&mut harness);
    }
    harness.set_budget(u32::MAX);
    harness.end();
    take(&mut harness);
}
