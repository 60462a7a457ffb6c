//! Joins against their model: shuffled and late records of two inputs, tiny budgets, restarts.

use std::time::Duration;

use millstream::data::either::Either;
use millstream::operator::join::{InnerJoin, IntervalJoin, LateSides, LeftOuterJoin, TemporalJoin};
use millstream::operator::side_output::OutputTag;
use millstream::operator::window::{CoGrouped, GeneralWindows, Lateness, Pairs};
use millstream::operator::{Operator, Stage};
use millstream::testing::OperatorHarness;
use millstream::time::trigger::EventTime;
use millstream::time::window::{TimeDomain, Tumbling};
use millstream_tests::model::join::{From, Outcome, Step, interval, temporal, temporal_with_ttl};
use proptest::prelude::*;

/// A record: its key and its number.
type Record = (u32, u32);
/// Left, right (0 for none).
type Pair = (u32, u32);

const LEFT: OutputTag<Record> = OutputTag::new("late-left");
const RIGHT: OutputTag<Record> = OutputTag::new("late-right");
const SIDES: LateSides<Record, Record> = LateSides { left: Some(LEFT), right: Some(RIGHT) };

#[derive(Debug, Clone)]
enum Move {
    Step(Step),
    Resume(u32),
    Restart,
}

fn key_of(record: &Either<Record, Record>) -> u32 {
    match record {
        Either::Left((key, _)) | Either::Right((key, _)) => *key,
    }
}

/// The operator, with the key of its records and its late ones.
fn harness<O>(operator: &O) -> OperatorHarness<Stage<O>>
where
    O: Operator<In = Either<Record, Record>> + Clone,
{
    OperatorHarness::new(operator.clone()).keyed_by(key_of).reading(LEFT).reading(RIGHT)
}

fn drive<O>(operator: &O, moves: &[Move], units: u32) -> Outcome
where
    O: Operator<In = Either<Record, Record>, Out = Pair> + Clone,
{
    let mut join = harness(operator);
    let mut late = Vec::new();
    for step in moves {
        join.set_budget(units);
        match *step {
            Move::Step(Step::Record { from: From::Left, key, time, id }) => {
                join.push(Either::Left((key, id)), time);
            }
            Move::Step(Step::Record { from: From::Right, key, time, id }) => {
                join.push(Either::Right((key, id)), time);
            }
            Move::Step(Step::Watermark(ms)) => join.watermark(ms),
            Move::Resume(units) => {
                join.set_budget(units);
                join.resume();
            }
            Move::Restart => {
                let before = join.snapshot();
                join.restart(harness(operator));
                assert_eq!(join.snapshot(), before, "a restored operator has another state");
            }
        }
        late.extend(join.take_side_output(LEFT).into_iter().map(|(_, id)| id));
        late.extend(join.take_side_output(RIGHT).into_iter().map(|(_, id)| id));
    }
    join.set_budget(u32::MAX);
    join.end();
    assert_eq!(join.late_count(), late.len() as u64);
    let rows = join.take_rows().into_iter();
    let mut pairs: Vec<_> = rows.map(|row| (row.value.0, row.value.1, row.event_time_ms)).collect();
    pairs.sort_unstable();
    Outcome { pairs, late }
}

fn check<O>(operator: &O, moves: &[Move], model: impl Fn(&[Step]) -> Outcome)
where
    O: Operator<In = Either<Record, Record>, Out = Pair> + Clone,
{
    let steps = moves.iter().filter_map(|step| match step {
        Move::Step(step) => Some(step.clone()),
        Move::Resume(_) | Move::Restart => None,
    });
    let script: Vec<_> = steps.chain([Step::Watermark(i64::MAX)]).collect();
    let expected = model(&script);
    for units in [u32::MAX, 0, 1, 3] {
        assert_eq!(drive(operator, moves, units), expected, "with {units} units");
    }
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        12 => (0_u32..8, -12_i64..30, 0_i64..4).prop_map(|(key, off, by)| (0, key, off, by)),
        3 => (0_u32..1, -15_i64..12, 0_i64..1).prop_map(|(key, off, by)| (1, key, off, by)),
        2 => (0_u32..6).prop_map(|units| (2, units, 0, 0)),
        1 => Just((3, 0, 0, 0)),
    ];
    (prop::collection::vec(step, 0..120), -300_i64..300).prop_map(|(steps, begin)| {
        let (mut now, mut watermark, mut id) = (begin, i64::MIN, 0);
        let mut moves = Vec::new();
        for (what, number, off, by) in steps {
            now += by;
            moves.push(match what {
                0 => {
                    id += 1;
                    let from = if number < 4 { From::Left } else { From::Right };
                    Move::Step(Step::Record { from, key: number % 4, time: now + off, id })
                }
                1 => {
                    watermark = watermark.max(now + off);
                    Move::Step(Step::Watermark(watermark))
                }
                2 => Move::Resume(number),
                _ => Move::Restart,
            });
        }
        moves
    })
}

proptest! {
    #[test]
    fn interval_joins_agree(lower in -30_i64..30, len in 0_i64..100, moves in moves()) {
        let pair = |left: &Record, right: &Record| (left.1, right.1);
        let operator = IntervalJoin::new(lower, lower + len, key_of, pair, SIDES);
        check(&operator, &moves, |script| interval(lower, lower + len, script));
    }

    #[test]
    fn temporal_joins_agree(moves in moves()) {
        let outer = |left: Record, version: Option<&Record>| (left.1, version.map_or(0, |v| v.1));
        check(&TemporalJoin::new(key_of, LeftOuterJoin(outer), SIDES), &moves, temporal);

        let inner = |left: Record, version: &Record| (left.1, version.1);
        check(&TemporalJoin::new(key_of, InnerJoin(inner), SIDES), &moves, |script| {
            let mut outcome = temporal(script);
            outcome.pairs.retain(|(_, version, _)| *version != 0);
            outcome
        });
    }

    #[test]
    fn temporal_joins_with_versions_that_end_agree(ttl in 1_i64..40, moves in moves()) {
        let outer = |left: Record, version: Option<&Record>| (left.1, version.map_or(0, |v| v.1));
        let join = TemporalJoin::new(key_of, LeftOuterJoin(outer), SIDES);
        let join = join.with_version_ttl(Duration::from_millis(ttl as u64));
        check(&join, &moves, |script| temporal_with_ttl(ttl, script));
    }

    /// Without late records, a tumbling join is all pairs that share a window.
    #[test]
    fn window_joins_pair_what_shares_a_window(size_ms in 1_i64..30, moves in moves()) {
        let moves: Vec<_> = moves
            .into_iter()
            .filter(|step| !matches!(step, Move::Step(Step::Watermark(_))))
            .collect();
        let pair = |left: &Record, right: &Record| (left.1, right.1);
        let tumbling = Tumbling { size_ms, offset_ms: 0, domain: TimeDomain::Event };
        let contents = CoGrouped::new(Pairs(pair));
        let operator =
            GeneralWindows::new(tumbling, EventTime, key_of, contents, Lateness::default());
        check(&operator, &moves, |script| {
            let mut outcome = interval(-size_ms, size_ms, script);
            let time_of = |id: u32| {
                script.iter().find_map(|step| match step {
                    Step::Record { id: other, time, .. } if *other == id => Some(*time),
                    _ => None,
                })
            };
            let start_of = |id| time_of(id).expect("a record").div_euclid(size_ms) * size_ms;
            outcome.pairs.retain(|(left, right, _)| start_of(*left) == start_of(*right));
            for (left, _, time) in &mut outcome.pairs {
                *time = start_of(*left) + size_ms - 1;
            }
            outcome.pairs.sort_unstable();
            outcome
        });
    }
}
