//! What turns and their budgets must not change: the order of what a key gives, and the windows a
//! record gets into. And what a turn may do for one key.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::operator::Operator;
use millstream::operator::window::{
    Aggregate, Aggregated, GeneralWindows, Lateness, Listed, SlicedBy, SlidingWindows,
    TumblingWindows,
};
use millstream::state::aggregate::AggregateFunction;
use millstream::testing::OperatorHarness;
use millstream::time::evictor::KeepAll;
use millstream::time::trigger::{
    ContinuousEventTime, EventTime, ProcessingTime, ProcessingTimeout,
};
use millstream::time::window::{
    Cumulative, Global, Session, Sliding, TimeDomain, Tumbling, Window, WindowAssigner,
};
use millstream_tests::model::window::{Firing, Kind, Step, run};
use proptest::prelude::*;

/// A record: its key and its number.
type Record = (u32, u32);

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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn firing_of(key: &u32, window: &Window, ids: Vec<u32>) -> Firing {
    Firing { key: *key, start: window.start_ms, end: window.end_ms, ids }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a key selector")]
fn key_of(record: &Record) -> u32 {
    record.0
}

const EVENT: TimeDomain = TimeDomain::Event;
const CLOCK: TimeDomain = TimeDomain::Processing;

/// What [`Gather`] makes of the records.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a window function")]
fn gathered(key: &u32, window: &Window, records: &[Record]) -> Firing {
    let mut ids: Vec<u32> = records.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    firing_of(key, window, ids)
}

fn lateness(ms: i64) -> Lateness<Record> {
    Lateness::default().allow(Duration::from_millis(ms.unsigned_abs()))
}

/// An operator of windows, without its type.
trait Windows {
    /// Runs the moves with `units` of work a call; everything that comes out.
    fn drive(&self, moves: &[Move], units: u32, memory: Memory) -> Vec<Firing>;
}

/// Where state is.
#[derive(Debug, Clone, Copy)]
enum Memory {
    Enough,
    /// It leaves whenever it is not in use.
    Short,
    /// And comes back late.
    ShortAndSlow,
}

/// What an operator is told.
#[derive(Debug, Clone)]
enum Move {
    Record { key: u32, time_ms: i64 },
    Watermark(i64),
    Clock(i64),
    Resume(u32),
    Restart,
}

impl<O: Operator<In = Record, Out = Firing> + Clone> Windows for O {
    fn drive(&self, moves: &[Move], units: u32, memory: Memory) -> Vec<Firing> {
        let make = |now_ms| {
            let harness = OperatorHarness::new(self.clone()).keyed_by(key_of).starting_at(now_ms);
            match memory {
                Memory::Enough => harness,
                Memory::Short => harness.spilling(7),
                Memory::ShortAndSlow => harness.spilling_slowly(7),
            }
        };
        let (mut now_ms, mut id) = (0, 0);
        let mut harness = make(now_ms);
        let mut firings = Vec::new();
        for step in moves {
            harness.set_budget(units);
            match *step {
                Move::Record { key, time_ms } => {
                    id += 1;
                    harness.push((key, id), time_ms);
                }
                Move::Watermark(watermark_ms) => harness.watermark(watermark_ms),
                Move::Clock(clock_ms) => {
                    now_ms = clock_ms;
                    harness.processing_time(now_ms);
                }
                Move::Resume(units) => {
                    harness.set_budget(units);
                    harness.resume();
                }
                Move::Restart if harness.is_ready() => {
                    let snapshot = harness.snapshot();
                    firings.extend(harness.take_output());
                    harness = make(now_ms);
                    harness.restore(&snapshot).expect("what was written can be read");
                }
                Move::Restart => {}
            }
            firings.extend(harness.take_output());
        }
        harness.set_budget(u32::MAX);
        harness.end();
        firings.extend(harness.take_output());
        firings
    }
}

/// What each key gives, in order.
fn by_key(firings: Vec<Firing>) -> BTreeMap<u32, Vec<Firing>> {
    let mut keys: BTreeMap<u32, Vec<Firing>> = BTreeMap::new();
    for firing in firings {
        keys.entry(firing.key).or_default().push(firing);
    }
    keys
}

/// Compares what comes of each key with the model, whatever the budget.
fn check(windows: &dyn Windows, kind: Kind, allowed_ms: i64, script: &[Step], moves: &[Move]) {
    let expected = by_key(run(kind, allowed_ms, script).firings);
    for units in [u32::MAX, 0, 1, 3, 300] {
        let found = by_key(windows.drive(moves, units, Memory::Enough));
        assert_eq!(found, expected, "with {units} units a call");
    }
}

/// The same, with state that leaves memory.
fn check_spilling(
    windows: &dyn Windows,
    kind: Kind,
    allowed_ms: i64,
    script: &[Step],
    moves: &[Move],
) {
    check(windows, kind, allowed_ms, script, moves);
    let expected = by_key(run(kind, allowed_ms, script).firings);
    for (memory, units) in
        [(Memory::Short, 0), (Memory::ShortAndSlow, 3), (Memory::ShortAndSlow, u32::MAX)]
    {
        let found = by_key(windows.drive(moves, units, memory));
        assert_eq!(found, expected, "with {units} units a call, memory: {memory:?}");
    }
}

/// The model's script for windows of event time.
fn by_event_time(moves: &[Move]) -> Vec<Step> {
    let mut script = Vec::new();
    let mut id = 0;
    for step in moves {
        match *step {
            Move::Record { key, time_ms: time } => {
                id += 1;
                script.push(Step::Record { key, time, id });
            }
            Move::Watermark(watermark_ms) => script.push(Step::Watermark(watermark_ms)),
            Move::Clock(_) | Move::Resume(_) | Move::Restart => {}
        }
    }
    script.push(Step::Watermark(i64::MAX));
    script
}

/// The model's script for windows of processing time: a record counts when it is seen, and a window
/// is complete once the clock is past its last millisecond.
fn by_clock(moves: &[Move]) -> Vec<Step> {
    let mut script = Vec::new();
    let (mut time, mut id) = (0, 0);
    for step in moves {
        match *step {
            Move::Record { key, .. } => {
                id += 1;
                script.push(Step::Record { key, time, id });
            }
            Move::Clock(clock_ms) => {
                time = clock_ms;
                script.push(Step::Watermark(time - 1));
            }
            Move::Watermark(_) | Move::Resume(_) | Move::Restart => {}
        }
    }
    script.push(Step::Watermark(i64::MAX));
    script
}

/// Records of up to `keys` keys around a time that moves on, and both clocks; now and then they
/// jump. With one key these are windows over all keys.
fn moves(keys: u32, jump_ms: i64, len: usize) -> impl Strategy<Value = Vec<Move>> {
    (1..=keys).prop_flat_map(move |keys| moves_of(keys, jump_ms, len))
}

fn moves_of(keys: u32, jump_ms: i64, len: usize) -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        12 => (0..keys, -12_i64..30, 0_i64..4).prop_map(|(key, off, by)| (0, key, off, by)),
        2 => (-15_i64..12).prop_map(|off| (1, 0, off, 0)),
        4 => (0_i64..20).prop_map(|by| (2, 0, by, 0)),
        2 => (0_u32..9).prop_map(|units| (3, units, 0, 0)),
        1 => Just((4, 0, 0, 0)),
        1 => (0_i64..jump_ms).prop_map(|by| (1, 0, 0, by)),
    ];
    prop::collection::vec(step, 0..len).prop_map(|steps| {
        let (mut now_ms, mut watermark_ms, mut clock_ms) = (0, i64::MIN, 0);
        let mut moves = Vec::new();
        for (what, number, off, by) in steps {
            now_ms += by;
            moves.push(match what {
                0 => Move::Record { key: number, time_ms: now_ms + off },
                1 => {
                    watermark_ms = watermark_ms.max(now_ms + off);
                    Move::Watermark(watermark_ms)
                }
                2 => {
                    clock_ms += off;
                    Move::Clock(clock_ms)
                }
                3 => Move::Resume(number),
                _ => Move::Restart,
            });
        }
        moves
    })
}

fn sliced<W>(windows: W, allowed_ms: i64) -> impl Windows
where
    W: WindowAssigner<()> + Copy + Into<millstream::time::slices::Slices>,
{
    let (by, late) = (SlicedBy::new(windows), lateness(allowed_ms));
    SlidingWindows::new(by, key_of, Aggregate(Gather), firing_of, late)
}

fn tumbling(size_ms: i64, offset_ms: i64, domain: TimeDomain, allowed_ms: i64) -> impl Windows {
    let by = SlicedBy::new(Tumbling { size_ms, offset_ms, domain });
    TumblingWindows::new(by, key_of, Aggregate(Gather), firing_of, lateness(allowed_ms))
}

fn general(windows: impl WindowAssigner<Record>, allowed_ms: i64) -> impl Windows {
    let contents = Listed::new(KeepAll, gathered);
    GeneralWindows::new(windows, EventTime, key_of, contents, lateness(allowed_ms))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Records' event times and the watermarks are noise.
    #[test]
    fn windows_by_the_clock_agree(
        size in 1_i64..30, slide in 1_i64..30, offset in 0_i64..20, moves in moves(4, 50, 100),
    ) {
        let script = by_clock(&moves);
        let (size_ms, slide_ms, offset_ms) = (size, slide, offset % slide);
        let windows = sliced(Sliding { size_ms, slide_ms, offset_ms, domain: CLOCK }, 0);
        check(&windows, Kind::Sliding { size, slide, offset: offset_ms }, 0, &script, &moves);

        let offset_ms = offset % size;
        let kind = Kind::Sliding { size, slide: size, offset: offset_ms };
        check_spilling(&tumbling(size, offset_ms, CLOCK, 0), kind, 0, &script, &moves);

        let size_max_ms = 3 * size;
        let windows = Cumulative { size_max_ms, step_ms: size, offset_ms, domain: CLOCK };
        let kind = Kind::Cumulative { size: size_max_ms, step: size, offset: offset_ms };
        check(&sliced(windows, 0), kind, 0, &script, &moves);

        let session = Session { gap_ms: size, domain: CLOCK };
        let contents = Aggregated::new(Aggregate(Gather), firing_of);
        let windows = GeneralWindows::new(session, ProcessingTime, key_of, contents, lateness(0));
        check(&windows, Kind::Session { gap: size }, 0, &script, &moves);
    }

    /// A key's windows fire in the order of their ends, each before it fires again, although most
    /// of them are left over from earlier turns.
    #[test]
    fn keys_keep_their_order(
        size in 1_i64..30, slide in 1_i64..30, offset in 0_i64..20, allowed in 0_i64..80,
        moves in moves(3, 100, 80),
    ) {
        let script = by_event_time(&moves);
        let (size_ms, slide_ms, offset_ms) = (size, slide, offset % slide);
        let windows = Sliding { size_ms, slide_ms, offset_ms, domain: EVENT };
        let kind = Kind::Sliding { size, slide, offset: offset_ms };
        check(&sliced(windows, allowed), kind, allowed, &script, &moves);
        check(&general(windows, allowed), kind, allowed, &script, &moves);

        let offset_ms = offset % size;
        let kind = Kind::Sliding { size, slide: size, offset: offset_ms };
        check_spilling(&tumbling(size, offset_ms, EVENT, allowed), kind, allowed, &script, &moves);

        let session = Session { gap_ms: size, domain: EVENT };
        check(&general(session, allowed), Kind::Session { gap: size }, allowed, &script, &moves);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// As above, for keys that owe more than they fire in one go.
    #[test]
    fn keys_that_owe_much_keep_their_order(
        size in 250_i64..900, allowed in 0_i64..400, moves in moves(2, 900, 24),
    ) {
        let script = by_event_time(&moves);
        let windows = Sliding { size_ms: size, slide_ms: 1, offset_ms: 0, domain: EVENT };
        let kind = Kind::Sliding { size, slide: 1, offset: 0 };
        check(&sliced(windows, allowed), kind, allowed, &script, &moves);
        check(&general(windows, allowed), kind, allowed, &script, &moves);
    }
}

/// A key that owes `owed_count` results when its next record comes fires some and lets the record
/// wait.
fn check_bound(operator: impl Operator<In = Record, Out = Firing>, times_ms: &[i64], next_ms: i64) {
    let mut harness = OperatorHarness::new(operator).keyed_by(key_of);
    for time_ms in times_ms {
        harness.push((1, 1), *time_ms);
    }
    harness.push((2, 2), 0);
    harness.set_budget(0);
    harness.watermark(3_000);
    assert_eq!(harness.take_output(), []);
    harness.set_budget(100);
    harness.push((1, 3), next_ms);
    let first = harness.take_output();
    assert!(first.len() == 256 && first.iter().all(|firing| firing.key == 1));
    assert!(!harness.is_ready(), "the record waits");
    harness.push((2, 4), next_ms);
    harness.push((1, 5), next_ms);
    assert_eq!(harness.take_output(), [], "and so do those behind it");
    let (mut all, mut turn_count) = (first, 0);
    while harness.is_pending() {
        assert!(harness.released_watermark_ms() < 3_000 && turn_count < 100);
        turn_count += 1;
        harness.resume();
        let some = harness.take_output();
        assert!(some.len() <= 2 * 256 + 100, "{} results in one turn", some.len());
        all.extend(some);
    }
    assert!(harness.is_ready());
    harness.set_budget(u32::MAX);
    harness.end();
    all.extend(harness.take_output());
    for (key, ids) in [(1, [3, 5]), (2, [4, 4])] {
        let ends: Vec<i64> =
            all.iter().filter(|firing| firing.key == key).map(|firing| firing.end).collect();
        assert!(ends.is_sorted(), "the order of a key's windows");
        let last = all.iter().rfind(|firing| firing.key == key).expect("it has windows");
        assert!(last.ids.contains(&ids[0]) && last.ids.contains(&ids[1]), "{last:?}");
    }
}

#[test]
fn a_key_that_owes_much_lets_its_next_record_wait() {
    let windows = Sliding { size_ms: 1_000, slide_ms: 1, offset_ms: 0, domain: EVENT };
    let (by, late) = (SlicedBy::new(windows), lateness(0));
    let sliding = SlidingWindows::new(by, key_of, Aggregate(Gather), firing_of, late);
    check_bound(sliding, &[0], 3_001);
    let contents = Listed::new(KeepAll, gathered);
    check_bound(GeneralWindows::new(windows, EventTime, key_of, contents, late), &[0], 3_001);

    let by = SlicedBy::new(Tumbling { size_ms: 1, offset_ms: 0, domain: EVENT });
    let late = lateness(10_000);
    let tumbling = TumblingWindows::new(by, key_of, Aggregate(Gather), firing_of, late);
    let times_ms: Vec<i64> = (0..1_000).collect();
    check_bound(tumbling, &times_ms, 2_999);
}

fn firing(start: i64, end: i64, ids: &[u32]) -> Firing {
    Firing { key: 1, start, end, ids: ids.to_vec() }
}

#[test]
fn a_late_record_does_not_let_its_window_overtake_those_before_it() {
    let by = SlicedBy::new(Tumbling { size_ms: 10, offset_ms: 0, domain: EVENT });
    let windows = TumblingWindows::new(by, key_of, Aggregate(Gather), firing_of, lateness(100));
    let mut harness = OperatorHarness::new(windows).keyed_by(key_of);
    harness.push((1, 1), 5);
    harness.push((1, 2), 15);
    harness.set_budget(0);
    harness.watermark(40);
    harness.push((1, 3), 16);
    let expected = [firing(0, 10, &[1]), firing(10, 20, &[2]), firing(10, 20, &[2, 3])];
    assert_eq!(harness.take_output(), expected);
    harness.push((1, 4), 35);
    assert_eq!(harness.take_output(), [firing(30, 40, &[4])]);
    harness.set_budget(u32::MAX);
    harness.resume();
    assert_eq!(harness.take_output(), [], "everything has fired");
}

#[test]
fn a_session_that_is_over_does_not_grow_because_the_turn_was_short() {
    let contents = Aggregated::new(Aggregate(Gather), firing_of);
    let session = Session { gap_ms: 3, domain: CLOCK };
    let windows = GeneralWindows::new(session, ProcessingTime, key_of, contents, lateness(0));
    let mut harness = OperatorHarness::new(windows.clone()).keyed_by(key_of).starting_at(89);
    harness.push((1, 1), 0);
    let snapshot = harness.snapshot();
    let mut restored = OperatorHarness::new(windows).keyed_by(key_of).starting_at(92);
    restored.restore(&snapshot).expect("what was written can be read");
    restored.push((1, 2), 0);
    assert_eq!(restored.take_output(), [firing(89, 92, &[1])], "it fires before the record");
    restored.end();
    assert_eq!(restored.take_output(), [firing(92, 95, &[2])]);
}

#[test]
fn a_window_whose_time_by_the_clock_is_long_over_fires_in_the_next_millisecond() {
    let contents = Aggregated::new(Aggregate(Gather), firing_of);
    let tumbling = Tumbling::new(Duration::from_millis(10));
    let windows = GeneralWindows::new(tumbling, ProcessingTime, key_of, contents, lateness(0));
    let mut harness = OperatorHarness::new(windows).keyed_by(key_of).starting_at(1_000);
    harness.push((1, 1), 5);
    harness.processing_time(1_000);
    harness.push((1, 2), 6);
    assert_eq!(harness.next_time_ms(), Some(1_001));
    harness.processing_time(1_000);
    assert_eq!(harness.take_output(), []);
    harness.processing_time(1_001);
    assert_eq!(harness.take_output(), [firing(0, 10, &[1, 2])]);
}

#[test]
fn timers_of_two_clocks_fire_in_the_order_in_which_they_came_due() {
    let contents = Aggregated::new(Aggregate(Gather), firing_of);
    let tumbling = Tumbling::new(Duration::from_millis(10));
    let trigger = ProcessingTimeout::of(EventTime, Duration::from_millis(50));
    let windows = GeneralWindows::new(tumbling, trigger, key_of, contents, lateness(100));
    let run = |is_clock_first| {
        let mut harness = OperatorHarness::new(windows.clone()).keyed_by(key_of);
        harness.push((1, 1), 5);
        harness.set_budget(0);
        if is_clock_first {
            harness.processing_time(60);
            harness.watermark(9);
            assert!(!harness.is_ready(), "records that come now come after the watermark");
        } else {
            harness.watermark(9);
            harness.processing_time(60);
        }
        harness.push((1, 2), 5);
        harness.set_budget(u32::MAX);
        harness.resume();
        harness.end();
        harness.take_output()
    };
    assert_eq!(run(true), [firing(0, 10, &[1]), firing(0, 10, &[2])], "the timeout empties it");
    assert_eq!(run(false), [firing(0, 10, &[1]), firing(0, 10, &[1, 2])]);
}

#[test]
fn a_window_without_an_end_ends_with_event_time() {
    let contents = Aggregated::new(Aggregate(Gather), firing_of);
    let trigger = ContinuousEventTime::of(Duration::from_millis(10));
    let windows = GeneralWindows::new(Global, trigger, key_of, contents, lateness(0));
    let mut harness = OperatorHarness::new(windows).keyed_by(key_of);
    harness.push((1, 1), 5);
    harness.watermark(20);
    let window = firing(i64::MIN, i64::MAX, &[1]);
    assert_eq!(harness.take_output(), [window.clone(), window.clone()], "at 10 and at 20");
    harness.end();
    assert_eq!(harness.take_output(), [window.clone(), window], "at 30, and at the end");
}
