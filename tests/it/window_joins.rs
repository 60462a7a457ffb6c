//! Joins and groups of windows against the model of windows: what both inputs have in a window.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::data::either::Either;
use millstream::data::key::Key;
use millstream::operator::join::LateSides;
use millstream::operator::window::{CoGrouped, GeneralWindows, Lateness, Pairs};
use millstream::prelude::*;
use millstream::testing::OperatorHarness;
use millstream_tests::model::window::{Firing, Kind, Outcome, Step, run};
use proptest::prelude::*;

use super::scripts::{Move, Timed, drive, moves};

/// A record: its key and its number, which is odd in the second input.
type Record = (u32, u32);
type Both = Either<Record, Record>;
/// What the firings of each window of each key gave, in order.
type Firings = BTreeMap<(u32, i64, i64), Vec<(Vec<u32>, Vec<u32>)>>;
/// Key, start and end of a window, and the records of both inputs.
type Group = (u32, i64, i64, Vec<u32>, Vec<u32>);

const LEFT: OutputTag<Record> = OutputTag::new("late-left");
const RIGHT: OutputTag<Record> = OutputTag::new("late-right");
const SIDES: LateSides<Record, Record> = LateSides { left: Some(LEFT), right: Some(RIGHT) };

fn key_of(record: &Both) -> u32 {
    match record {
        Either::Left((key, _)) | Either::Right((key, _)) => *key,
    }
}

fn record_of(timed: Timed) -> Both {
    let record = (timed.key, timed.id);
    if timed.is_right { Either::Right(record) } else { Either::Left(record) }
}

fn lateness(allowed: i64) -> Lateness<Both, LateSides<Record, Record>> {
    let mut lateness = Lateness::default().allow(Duration::from_millis(allowed as u64));
    *lateness.output_mut() = SIDES;
    lateness
}

fn expected(kind: Kind, allowed: i64, moves: &[Move]) -> Outcome {
    let steps = moves.iter().filter_map(|step| match *step {
        Move::Record(Timed { key, time, id, .. }) => Some(Step::Record { key, time, id }),
        Move::Watermark(watermark) => Some(Step::Watermark(watermark)),
        _ => None,
    });
    run(kind, allowed, &steps.chain([Step::Watermark(i64::MAX)]).collect::<Vec<_>>())
}

/// Runs an operator that keeps late records apart; its rows, and the numbers of late records.
fn found<O: Operator<In = Both> + Clone>(
    operator: &O,
    moves: &[Move],
    cuts: bool,
) -> (Vec<Row<O::Out>>, Vec<u32>) {
    let make = || {
        let harness = OperatorHarness::new(operator.clone()).keyed_by(key_of);
        harness.reading(LEFT).reading(RIGHT)
    };
    let (mut rows, mut late, mut late_count) = (Vec::new(), Vec::new(), 0);
    drive(make, moves, cuts, record_of, |harness| {
        rows.extend(harness.take_rows());
        let (left, right) = (harness.take_side_output(LEFT), harness.take_side_output(RIGHT));
        assert!(
            left.iter().all(|(_, id)| id.is_multiple_of(2))
                && right.iter().all(|(_, id)| !id.is_multiple_of(2))
        );
        late.extend(left.into_iter().chain(right).map(|(_, id)| id));
        late_count = harness.env().late_records.get();
    });
    assert_eq!(late_count, late.len() as u64);
    (rows, late)
}

/// The records of the two inputs.
fn sides(ids: &[u32]) -> (Vec<u32>, Vec<u32>) {
    ids.iter().partition(|id| id.is_multiple_of(2))
}

fn check_groups<W>(assigner: W, kind: Kind, allowed: i64, moves: &[Move])
where
    W: WindowAssigner<Both> + Copy,
{
    // Records of sessions that merged come one session after the other.
    let is_in_order = !matches!(kind, Kind::Session { .. });
    let group = move |key: &u32, window: &Window, left: &[Record], right: &[Record]| {
        let [left, right] = [left, right].map(|side| {
            let mut ids: Vec<u32> = side.iter().map(|(_, id)| *id).collect();
            if !is_in_order {
                ids.sort_unstable();
            }
            ids
        });
        [(*key, window.start_ms, window.end_ms, left, right)]
    };
    let contents = CoGrouped::new(group);
    let operator = GeneralWindows::new(assigner, EventTime, key_of, contents, lateness(allowed));
    let expected = expected(kind, allowed, moves);
    let mut groups = Firings::new();
    for Firing { key, start, end, ids } in &expected.firings {
        groups.entry((*key, *start, *end)).or_default().push(sides(ids));
    }
    for cuts in [false, true] {
        let (rows, late) = found(&operator, moves, cuts);
        let mut found = Firings::new();
        for row in rows {
            let (key, start, end, left, right): Group = row.value;
            assert_eq!((row.event_time_ms, row.hash64), (end - 1, key.hash64()));
            found.entry((key, start, end)).or_default().push((left, right));
        }
        assert_eq!(found, groups, "with cuts: {cuts}");
        assert_eq!(late, expected.late, "with cuts: {cuts}");
    }
}

fn check_pairs<W>(assigner: W, kind: Kind, allowed: i64, moves: &[Move])
where
    W: WindowAssigner<Both> + Copy,
{
    let contents = CoGrouped::new(Pairs(|left: &Record, right: &Record| (left.1, right.1)));
    let operator = GeneralWindows::new(assigner, EventTime, key_of, contents, lateness(allowed));
    let expected = expected(kind, allowed, moves);
    let mut pairs = Vec::new();
    for Firing { end, ids, .. } in &expected.firings {
        let (left, right) = sides(ids);
        let of = |l: u32| right.iter().map(move |r| ((l, *r), end - 1)).collect::<Vec<_>>();
        pairs.extend(left.into_iter().flat_map(of));
    }
    pairs.sort_unstable();
    for cuts in [false, true] {
        let (rows, late) = found(&operator, moves, cuts);
        let mut found: Vec<_> = rows.iter().map(|row| (row.value, row.event_time_ms)).collect();
        found.sort_unstable();
        assert_eq!(found, pairs, "with cuts: {cuts}");
        assert_eq!(late, expected.late, "with cuts: {cuts}");
    }
}

fn sliding(size: i64, slide: i64) -> (Sliding, Kind) {
    let domain = TimeDomain::Event;
    let assigner = Sliding { size_ms: size, slide_ms: slide, offset_ms: 0, domain };
    (assigner, Kind::Sliding { size, slide, offset: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn tumbling_windows(size in 1_i64..30, allowed in 0_i64..40, moves in moves()) {
        let (_, kind) = sliding(size, size);
        let tumbling = Tumbling { size_ms: size, offset_ms: 0, domain: TimeDomain::Event };
        check_groups(tumbling, kind, allowed, &moves);
        check_pairs(tumbling, kind, allowed, &moves);
    }

    #[test]
    fn sliding_windows(
        size in 1_i64..30, slide in 3_i64..30, allowed in 0_i64..40, moves in moves(),
    ) {
        let (sliding, kind) = sliding(size, slide);
        check_groups(sliding, kind, allowed, &moves);
        check_pairs(sliding, kind, allowed, &moves);
    }

    #[test]
    fn sessions(gap in 1_i64..20, allowed in 0_i64..40, moves in moves()) {
        let session = Session { gap_ms: gap, domain: TimeDomain::Event };
        check_groups(session, Kind::Session { gap }, allowed, &moves);
        check_pairs(session, Kind::Session { gap }, allowed, &moves);
    }

    /// The usual case is the strict one: nothing is allowed to be late.
    #[test]
    fn without_allowed_lateness(size in 1_i64..30, gap in 1_i64..20, moves in moves()) {
        let (sliding, kind) = sliding(size, size);
        check_groups(sliding, kind, 0, &moves);
        let session = Session { gap_ms: gap, domain: TimeDomain::Event };
        check_pairs(session, Kind::Session { gap }, 0, &moves);
    }
}
