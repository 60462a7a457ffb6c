//! What operators remember can be looked at, and outlives a restart.

use crate::data::row::NO_EVENT_TIME;
use crate::operator::process::{KeyedBroadcastProcess, Process};
use crate::operator::window::{Aggregated, GeneralWindows, Lateness, Reduce};
use crate::operator::{Chain, Stage};
use crate::prelude::*;
use crate::testing::OperatorHarness;

/// Keeps a record in a state of every kind.
#[derive(Clone, Default)]
struct Hoard {
    list: ListState<u8>,
    map: MapState<u8, u32>,
    sum: ReducingState<u8>,
    names: BroadcastState<u8, u16>,
}

impl KeyedBroadcastProcessFunction<u8, u8, u16> for Hoard {
    type Out = u8;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.list = ctx.list("list", StateSpec::kept_until_cleared());
        self.map = ctx.map("map", StateSpec::kept_until_cleared());
        self.sum = ctx.reducing("sum", StateSpec::kept_until_cleared(), |sum, value| *sum += value);
        self.names = ctx.broadcast("names");
    }

    fn process(&mut self, value: u8, ctx: &mut KeyedContext<'_, u8>, out: &mut impl Output<u8>) {
        self.list.append(ctx, value);
        self.map.put(ctx, 100 - value, u32::from(value));
        self.sum.add(ctx, value);
        out.collect(value);
    }

    fn process_broadcast(
        &mut self,
        value: u16,
        ctx: &mut KeyedBroadcastContext<'_>,
        _: &mut impl Output<u8>,
    ) {
        self.names.put(ctx, value as u8, value);
    }
}

fn hoard() -> OperatorHarness<impl Chain<In = Either<u8, u16>, Out = u8>> {
    let key_of = |value: &u8| value % 2;
    let operator = KeyedBroadcastProcess::new(key_of, Hoard::default());
    OperatorHarness::new(operator).keyed_or_broadcast(move |value| match value {
        Either::Left(value) => Some(key_of(value)),
        Either::Right(_) => None,
    })
}

#[test]
fn every_kind_of_state_is_seen_before_and_after_a_restart() {
    let mut hoard = hoard();
    for value in [3, 1, 5] {
        hoard.push(Either::Left(value), 0);
    }
    hoard.push(Either::Right(300), 0);
    hoard.push(Either::Right(2), 0);
    for _ in 0..2 {
        assert_eq!(hoard.keyed_state::<u8, u8>("list"), [(1, 3), (1, 1), (1, 5)]);
        assert_eq!(hoard.map_state::<u8, u8, u32>("map"), [(1, 95, 5), (1, 97, 3), (1, 99, 1)]);
        assert_eq!(hoard.keyed_state::<u8, u8>("sum"), [(1, 9)]);
        assert_eq!(hoard.broadcast_state::<u8, u16>("names"), [(2, 2), (44, 300)]);
        hoard.restart(self::hoard());
    }
    assert_eq!(hoard.take_output(), [3, 1, 5], "what came out before is not lost");
}

#[test]
fn a_state_without_entries_is_empty_and_none_of_another_name() {
    let mut hoard = hoard();
    assert_eq!(hoard.keyed_state::<u8, u8>("list"), []);
    assert_eq!(hoard.map_state::<u8, u8, u32>("map"), []);
    assert_eq!(hoard.broadcast_state::<u8, u16>("names"), []);
}

#[test]
#[should_panic(expected = r#"has declared no state "lsit"; there are ["list", "map", "sum"]"#)]
fn an_unknown_state_is_answered_with_those_there_are() {
    hoard().keyed_state::<u8, u8>("lsit");
}

#[test]
#[should_panic(expected = r#"has declared no broadcast "list"; there are ["names"]"#)]
fn an_unknown_broadcast_state_is_answered_with_those_there_are() {
    hoard().broadcast_state::<u8, u16>("list");
}

/// Keeps all records of a task.
#[derive(Clone, Default)]
struct Keep(OperatorList<u32>);

impl ProcessFunction<u32> for Keep {
    type Out = Nothing;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.0 = ctx.operator_list("kept");
    }

    fn process(&mut self, value: u32, ctx: &mut ProcessContext<'_>, _: &mut impl Output<Nothing>) {
        self.0.get_mut(ctx).push(value);
    }
}

#[test]
fn the_list_of_a_task_is_seen() {
    let mut keep = OperatorHarness::new(Process::new(Keep::default()));
    assert!(keep.operator_list::<u32>("kept").is_empty());
    keep.push(4, 0);
    keep.push(2, 0);
    assert_eq!(keep.operator_list::<u32>("kept"), [4, 2]);
}

#[test]
#[should_panic(expected = r#"has declared no list "held"; there are ["kept"]"#)]
fn an_unknown_list_is_answered_with_those_there_are() {
    OperatorHarness::new(Process::new(Keep::default())).operator_list::<u32>("held");
}

const LATE: OutputTag<u32> = OutputTag::new("late");

/// Sums of ten milliseconds, which come when they are complete and whenever two records have come.
fn sums() -> OperatorHarness<Stage<impl Operator<In = u32, Out = u32>>> {
    let key_of = |value: &u32| value % 2;
    let sum = Aggregated::new(Reduce::new(|a: u32, b: u32| a + b), |_: &u32, _: &Window, sum| sum);
    let tumbling = Tumbling { size_ms: 10, offset_ms: 0, domain: TimeDomain::Event };
    let late = Lateness::default().to(LATE);
    let windows = GeneralWindows::new(tumbling, EventTime, key_of, sum, late);
    OperatorHarness::new(windows).keyed_by(key_of).reading(LATE)
}

#[test]
fn what_windows_wait_for_is_seen() {
    let mut sums = sums();
    assert!(sums.window_timers::<u32>().is_empty());
    for (value, time_ms) in [(1, 3), (3, 4), (5, 11)] {
        sums.push(value, time_ms);
    }
    let timer = |start_ms| {
        let window = Window::new(start_ms, start_ms + 10);
        (1, window, TimeDomain::Event, start_ms + 9)
    };
    assert_eq!(sums.window_timers::<u32>(), [timer(0), timer(10)]);
    sums.watermark(9);
    assert_eq!(sums.take_output(), [4]);
    assert_eq!(sums.window_timers::<u32>(), [timer(10)]);
}

#[test]
fn a_restart_loses_nothing_that_was_not_taken() {
    let mut sums = sums();
    sums.push(1, 3);
    sums.push(2, 3);
    sums.set_budget(1);
    sums.watermark(15);
    assert!(sums.is_pending() && sums.released_watermark_ms() == NO_EVENT_TIME);
    sums.restart(self::sums());
    assert!(sums.is_pending(), "one of the two windows has not fired");
    sums.resume();
    let mut fired = sums.take_output();
    fired.sort_unstable();
    assert_eq!(fired, [1, 2]);
    sums.push(4, 5);
    sums.restart(self::sums());
    assert_eq!((sums.take_side_output(LATE), sums.late_count()), (vec![4], 1));
}
