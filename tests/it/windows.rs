//! Windows against their model: shuffled, late and bursty records, tiny budgets with records in
//! between, restarts anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::data::key::Key;
use millstream::data::row::{NO_EVENT_TIME, Row};
use millstream::operator::side_output::OutputTag;
use millstream::operator::window::{
    Aggregate, Aggregated, GeneralWindows, Lateness, Listed, SlicedBy, SlidingWindows,
    TumblingWindows,
};
use millstream::operator::{Operator, Stage};
use millstream::state::aggregate::AggregateFunction;
use millstream::testing::OperatorHarness;
use millstream::time::evictor::{KeepAll, KeepCount};
use millstream::time::trigger::{Count, EventTime, Purging};
use millstream::time::window::{
    Cumulative, Global, Session, Sliding, TimeDomain, Tumbling, Window,
};
use millstream_tests::model::window::{Firing, Kind, Outcome, Step, run};
use proptest::prelude::*;

/// A record: its key and its number.
type Record = (u32, u32);

const LATE: OutputTag<Record> = OutputTag::new("late");

/// Gathers numbers, so that a record that is missing or counted twice is seen.
#[derive(Debug, Clone)]
struct Gather;

impl AggregateFunction for Gather {
    type In = Record;
    type Accumulator = Vec<u32>;
    type Out = Vec<u32>;

    fn create(&self) -> Vec<u32> {
        Vec::new()
    }

    fn add(&self, ids: &mut Vec<u32>, (_, id): Record) {
        ids.push(id);
    }

    fn merge(&self, ids: &mut Vec<u32>, other: Vec<u32>) {
        ids.extend(other);
    }

    fn result(&self, ids: &Vec<u32>) -> Vec<u32> {
        let mut ids = ids.clone();
        ids.sort_unstable();
        ids
    }
}

/// What the engine is told besides the script.
#[derive(Debug, Clone)]
enum Move {
    Step(Step),
    /// Go on with what is due, with this budget.
    Resume(u32),
    /// Snapshot and restore.
    Restart,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn firing_of(key: &u32, window: &Window, ids: Vec<u32>) -> Firing {
    Firing { key: *key, start: window.start_ms, end: window.end_ms, ids }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a key selector")]
fn key_of(record: &Record) -> u32 {
    record.0
}

/// The operator, with the key of its records and its late ones.
fn harness<O: Operator<In = Record> + Clone>(operator: &O) -> OperatorHarness<Stage<O>> {
    OperatorHarness::new(operator.clone()).keyed_by(key_of).reading(LATE)
}

/// Runs the moves through an operator that gives [`Firing`]s, with a budget of `units` for every
/// watermark.
fn drive<O>(operator: &O, kind: Kind, moves: &[Move], units: u32) -> Outcome
where
    O: Operator<In = Record, Out = Firing> + Clone,
{
    let mut windows = harness(operator);
    let (mut rows, mut late) = (Vec::new(), Vec::new());
    // Every watermark released, with the number of rows emitted before it.
    let mut released = Vec::new();
    for step in moves {
        windows.set_budget(units);
        match step {
            Move::Step(Step::Record { key, time, id }) => windows.push((*key, *id), *time),
            Move::Step(Step::Watermark(ms)) => windows.watermark(*ms),
            Move::Resume(units) => {
                windows.set_budget(*units);
                windows.resume();
            }
            Move::Restart => restart(&mut windows, operator),
        }
        rows.extend(windows.take_rows());
        late.extend(windows.take_side_output(LATE).into_iter().map(|(_, id)| id));
        released.push((rows.len(), windows.released_watermark_ms()));
    }
    windows.set_budget(u32::MAX);
    windows.end();
    rows.extend(windows.take_rows());
    assert_eq!(windows.late_count(), late.len() as u64);
    for row in &rows {
        assert_eq!(row.event_time_ms, row.value.end - 1, "a result is as of its window's end");
        assert_eq!(row.hash64, row.value.key.hash64());
    }
    if !matches!(kind, Kind::Session { .. }) {
        check_released(&rows, &released);
    }
    Outcome { firings: rows.into_iter().map(|row| row.value).collect(), late }
}

/// The operator begins again, with the very same state.
fn restart<O>(windows: &mut OperatorHarness<Stage<O>>, operator: &O)
where
    O: Operator<In = Record> + Clone,
{
    let before = windows.snapshot();
    windows.restart(harness(operator));
    assert_eq!(windows.snapshot(), before, "a restored operator has another state");
}

/// A window's first firing comes before the watermark that completed it is released, unless it is
/// new and holds but the late record that made it. (Sessions that late records merge are new too.)
fn check_released(rows: &[Row<Firing>], released: &[(usize, i64)]) {
    let mut seen = std::collections::BTreeSet::new();
    for (index, row) in rows.iter().enumerate() {
        let Firing { key, start, end, .. } = row.value;
        let is_first = seen.insert((key, start, end));
        let reached = released.iter().rev().find(|(at, _)| *at <= index);
        if is_first && row.value.ids.len() > 1 {
            assert!(reached.is_none_or(|(_, ms)| *ms < end - 1), "{row:?} after {reached:?}");
        }
    }
}

/// Firings of each window of each key, in order. Between windows the order is free.
fn by_window(outcome: &Outcome) -> BTreeMap<(u32, i64, i64), Vec<Vec<u32>>> {
    let mut windows = BTreeMap::<_, Vec<_>>::new();
    for Firing { key, start, end, ids } in &outcome.firings {
        windows.entry((*key, *start, *end)).or_default().push(ids.clone());
    }
    windows
}

/// Compares the engine with the model, and the engine with itself under small budgets.
fn check<O>(operator: &O, kind: Kind, lateness: i64, moves: &[Move])
where
    O: Operator<In = Record, Out = Firing> + Clone,
{
    let mut script: Vec<_> = moves
        .iter()
        .filter_map(|step| match step {
            Move::Step(step) => Some(step.clone()),
            Move::Resume(_) | Move::Restart => None,
        })
        .collect();
    script.push(Step::Watermark(i64::MAX));
    let expected = run(kind, lateness, &script);
    for units in [u32::MAX, 0, 1, 3] {
        let found = drive(operator, kind, moves, units);
        assert_eq!(by_window(&found), by_window(&expected), "with {units} units a watermark");
        assert_eq!(found.late, expected.late);
    }
}

/// Bursts of records around a time that moves on, stragglers behind it, and watermarks.
fn moves(len: usize) -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        12 => (0_u32..5, -12_i64..30, 0_i64..4).prop_map(|(key, off, by)| (0, key, off, by)),
        3 => (0_u32..1, -15_i64..12, 0_i64..1).prop_map(|(key, off, by)| (1, key, off, by)),
        2 => (0_u32..6).prop_map(|units| (2, units, 0, 0)),
        1 => Just((3, 0, 0, 0)),
        1 => (0_u32..1, 0_i64..1, 20_i64..200).prop_map(|(key, off, by)| (0, key, off, by)),
    ];
    (prop::collection::vec(step, 0..len), -300_i64..300).prop_map(|(steps, begin)| {
        let (mut now, mut watermark, mut id) = (begin, i64::MIN, 0);
        let mut moves = Vec::new();
        for (what, number, off, by) in steps {
            now += by;
            moves.push(match what {
                0 => {
                    id += 1;
                    Move::Step(Step::Record { key: number, time: now + off, id })
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

fn lateness(ms: i64) -> Lateness<Record> {
    Lateness::default().allow(Duration::from_millis(ms as u64)).to(LATE)
}

const EVENT: TimeDomain = TimeDomain::Event;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn tumbling_windows_agree(
        size in 1_i64..25, gap in 0_i64..8, offset in 0_i64..20, allowed in 0_i64..30,
        moves in moves(120),
    ) {
        let slide = size + gap;
        let offset = offset % slide;
        let sliding = Sliding { size_ms: size, slide_ms: slide, offset_ms: offset, domain: EVENT };
        let operator = TumblingWindows::new(
            SlicedBy::new(sliding), key_of, Aggregate(Gather), firing_of, lateness(allowed),
        );
        check(&operator, Kind::Sliding { size, slide, offset }, allowed, &moves);
    }

    #[test]
    fn sliding_windows_agree(
        size in 1_i64..40, slide in 1_i64..40, offset in 0_i64..20, allowed in 0_i64..60,
        is_strict: bool, moves in moves(120),
    ) {
        let offset = offset % slide;
        let allowed = if is_strict { 0 } else { allowed };
        let sliding = Sliding { size_ms: size, slide_ms: slide, offset_ms: offset, domain: EVENT };
        let operator = SlidingWindows::new(
            SlicedBy::new(sliding), key_of, Aggregate(Gather), firing_of, lateness(allowed),
        );
        check(&operator, Kind::Sliding { size, slide, offset }, allowed, &moves);
    }

    #[test]
    fn cumulative_windows_agree(
        count in 1_i64..8, step in 1_i64..12, offset in 0_i64..20, allowed in 0_i64..40,
        moves in moves(120),
    ) {
        let size = count * step;
        let offset = offset % size;
        let cumulative =
            Cumulative { size_max_ms: size, step_ms: step, offset_ms: offset, domain: EVENT };
        let operator = SlidingWindows::new(
            SlicedBy::new(cumulative), key_of, Aggregate(Gather), firing_of, lateness(allowed),
        );
        check(&operator, Kind::Cumulative { size, step, offset }, allowed, &moves);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn general_windows_agree(
        size in 1_i64..40, slide in 4_i64..40, offset in 0_i64..20, allowed in 0_i64..60,
        moves in moves(120),
    ) {
        let offset = offset % slide;
        let sliding = Sliding { size_ms: size, slide_ms: slide, offset_ms: offset, domain: EVENT };
        let contents = Listed::new(KeepAll, gathered);
        let operator =
            GeneralWindows::new(sliding, EventTime, key_of, contents, lateness(allowed));
        check(&operator, Kind::Sliding { size, slide, offset }, allowed, &moves);
    }

    #[test]
    fn sessions_agree(gap in 1_i64..20, allowed in 0_i64..60, moves in moves(120)) {
        let session = Session { gap_ms: gap, domain: EVENT };
        let contents = Aggregated::new(Aggregate(Gather), firing_of);
        let operator =
            GeneralWindows::new(session, EventTime, key_of, contents, lateness(allowed));
        check(&operator, Kind::Session { gap }, allowed, &moves);
    }
}

/// What [`Gather`] makes of the records.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn gathered(key: &u32, window: &Window, records: &[Record]) -> Firing {
    let mut ids: Vec<u32> = records.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    firing_of(key, window, ids)
}

/// Numbers of the records of each firing, of one key, in order.
fn count_windows<O: Operator<In = Record, Out = Firing> + Clone>(operator: &O) -> Vec<Vec<u32>> {
    let mut windows = harness(operator);
    for id in 1..=7 {
        windows.push((1, id), NO_EVENT_TIME);
        restart(&mut windows, operator);
    }
    windows.end();
    windows.take_output().into_iter().map(|firing| firing.ids).collect()
}

#[test]
fn count_windows_need_no_time() {
    let contents = Aggregated::new(Aggregate(Gather), firing_of);
    let trigger = Purging::of(Count::of(3));
    let tumbling = GeneralWindows::new(Global, trigger, key_of, contents, Lateness::default());
    assert_eq!(count_windows(&tumbling), [[1, 2, 3], [4, 5, 6]]);

    let contents = Listed::new(KeepCount::of(3), gathered);
    let sliding = GeneralWindows::new(Global, Count::of(2), key_of, contents, Lateness::default());
    assert_eq!(count_windows(&sliding), [vec![1, 2], vec![2, 3, 4], vec![4, 5, 6]]);
}

#[test]
fn a_global_window_that_its_evictor_has_emptied_is_gone() {
    let contents = Listed::new(KeepCount::of(0).after(), gathered);
    let windows = GeneralWindows::new(Global, Count::of(2), key_of, contents, Lateness::default());
    assert_eq!(count_windows(&windows), [[1, 2], [3, 4], [5, 6]]);
    let mut windows = harness(&windows);
    for id in 1..=2 {
        windows.push((1, id), NO_EVENT_TIME);
    }
    assert_eq!(windows.snapshot().keyed_entry_count(), 0);
}

#[test]
fn a_tumbling_window_fires_when_the_watermark_reaches_its_last_millisecond() {
    let by = SlicedBy::new(Tumbling::new(Duration::from_millis(10)));
    let lateness = Lateness::default();
    let operator = TumblingWindows::new(by, key_of, Aggregate(Gather), firing_of, lateness);
    let mut windows = harness(&operator);
    windows.push((1, 1), 0);
    windows.push((1, 2), 9);
    windows.watermark(8);
    assert!(windows.take_output().is_empty());
    assert_eq!(windows.released_watermark_ms(), 8);
    windows.watermark(9);
    assert_eq!(windows.take_output(), [Firing { key: 1, start: 0, end: 10, ids: vec![1, 2] }]);
    assert_eq!(windows.released_watermark_ms(), 9);
}
