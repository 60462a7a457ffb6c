//! Functions with two inputs, with broadcast, without keys; what they may declare; what they leave.

use std::time::Duration;

use crate::data::either::Either;
use crate::operator::process::{
    BroadcastProcess, CoProcess, KeyedBroadcastProcess, KeyedCoProcess, KeyedProcess, Process,
};
use crate::operator::stateless::Map;
use crate::operator::{Stage, Then};
use crate::prelude::*;
use crate::state::snapshot::Snapshot;
use crate::testing::{OperatorHarness, Step, conformance};

/// Pairs (key, order) with (key, payment): whichever comes second completes the pair; an order that
/// is not paid within 10 ms of event time is given up.
#[derive(Clone, Default)]
struct Settle {
    order: ValueState<u32>,
    payment: ValueState<u32>,
}

const UNPAID: OutputTag<u32> = OutputTag::new("unpaid");

impl KeyedCoProcessFunction<u8, (u8, u32), (u8, u32)> for Settle {
    type Out = (u32, u32);

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.order = ctx.value("order", StateSpec::kept_until_cleared());
        self.payment = ctx.value("payment", StateSpec::kept_until_cleared());
    }

    fn process_left(
        &mut self,
        order: (u8, u32),
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<(u32, u32)>,
    ) {
        match self.payment.take(ctx) {
            Some(payment) => out.collect((order.1, payment)),
            None => {
                self.order.set(ctx, order.1);
                ctx.register_event_timer(ctx.event_time_ms() + 10);
            }
        }
    }

    fn process_right(
        &mut self,
        payment: (u8, u32),
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<(u32, u32)>,
    ) {
        match self.order.take(ctx) {
            Some(order) => out.collect((order, payment.1)),
            None => self.payment.set(ctx, payment.1),
        }
    }

    fn on_timer(
        &mut self,
        _timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u8>,
        _out: &mut impl Output<(u32, u32)>,
    ) {
        if let Some(order) = self.order.take(ctx) {
            ctx.side_output(UNPAID, order);
        }
    }
}

type Both = Either<(u8, u32), (u8, u32)>;

fn settle() -> OperatorHarness<Stage<impl Operator<In = Both, Out = (u32, u32)>>> {
    let key_of = |pair: &(u8, u32)| pair.0;
    let operator = KeyedCoProcess::new(key_of, key_of, Settle::default());
    let harness = OperatorHarness::new(operator).reading(UNPAID);
    harness.keyed_by(|record: &Both| match record {
        Either::Left(pair) | Either::Right(pair) => pair.0,
    })
}

#[test]
fn both_inputs_see_the_state_of_their_key() {
    let mut settle = settle();
    settle.push(Either::Left((1, 100)), 5);
    settle.push(Either::Right((2, 201)), 5);
    settle.push(Either::Right((1, 101)), 6);
    settle.push(Either::Left((2, 200)), 6);
    settle.push(Either::Left((3, 300)), 7);
    assert_eq!(settle.take_output(), [(100, 101), (200, 201)]);
    settle.watermark(16);
    assert!(settle.take_side_output(UNPAID).is_empty());
    settle.watermark(17);
    assert_eq!(settle.take_side_output(UNPAID), [300]);
}

#[test]
fn two_inputs_may_be_cut_anywhere() {
    let steps = (0..60_u32).map(|i| match i % 7 {
        6 => Step::Watermark(i64::from(i) / 2),
        _ => {
            let pair = ((i % 5) as u8, i);
            let either = if i % 3 == 0 { Either::Left(pair) } else { Either::Right(pair) };
            Step::record(either, i64::from(i))
        }
    });
    conformance(settle, steps.chain([Step::End]));
}

/// Multiplies by the factor for the key's parity, which the broadcast input sets.
#[derive(Clone, Default)]
struct Scale {
    factors: BroadcastState<bool, u32>,
    seen: ValueState<u32>,
}

impl KeyedBroadcastProcessFunction<u8, u8, (bool, u32)> for Scale {
    type Out = (u8, u32, u32);

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.factors = ctx.broadcast("factors");
        self.seen = ctx.value("seen", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        value: u8,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<Self::Out>,
    ) {
        let seen = self.seen.update(ctx, |seen| {
            *seen += 1;
            *seen
        });
        let factor = self.factors.get(ctx, &value.is_multiple_of(2)).copied().unwrap_or(1);
        out.collect((value, seen, u32::from(value) * factor));
    }

    fn process_broadcast(
        &mut self,
        (is_even, factor): (bool, u32),
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) {
        if factor == 0 {
            self.factors.remove(ctx, &is_even);
        } else {
            self.factors.put(ctx, is_even, factor);
        }
    }
}

type ScaleIn = Either<u8, (bool, u32)>;
type ScaleOut = (u8, u32, u32);

fn scale() -> OperatorHarness<Stage<impl Operator<In = ScaleIn, Out = ScaleOut>>> {
    OperatorHarness::new(KeyedBroadcastProcess::new(|value: &u8| *value, Scale::default()))
}

#[test]
fn a_rule_holds_from_the_record_that_sets_it() {
    let mut scale = scale();
    for record in [
        Either::Left(4),
        Either::Right((true, 10)),
        Either::Left(4),
        Either::Left(5),
        Either::Right((true, 0)),
        Either::Left(4),
    ] {
        let mut row = Row::from(record);
        if let Either::Left(value) = &row.value {
            row.hash64 = value.hash64();
        }
        scale.push_row(row);
    }
    assert_eq!(scale.take_output(), [(4, 1, 4), (4, 2, 40), (5, 1, 5), (4, 3, 4)]);
}

#[test]
fn every_task_finds_the_rules_whoever_wrote_them() {
    let mut merged = Snapshot::default();
    for task_index in 0..2 {
        let mut task = scale().task(task_index, 2);
        task.push(Either::Right((true, 3)), 0);
        task.push(Either::Right((false, 4)), 0);
        merged.merge(task.snapshot());
    }
    for task_index in 0..3 {
        let mut task = scale().task(task_index, 3);
        task.restore(&merged).expect("it was written by the same operator");
        for value in 0..=255_u8 {
            let mut row = Row::from(Either::Left(value));
            row.hash64 = value.hash64();
            if task.owns(row.hash64) {
                task.push_row(row);
                let factor = if value % 2 == 0 { 3 } else { 4 };
                assert_eq!(task.take_output(), [(value, 1, u32::from(value) * factor)]);
            }
        }
    }
}

/// Lets records through that the broadcast input does not forbid.
#[derive(Clone, Default)]
struct Unforbidden {
    forbidden: BroadcastState<u32, ()>,
}

impl BroadcastProcessFunction<u32, u32> for Unforbidden {
    type Out = u32;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.forbidden = ctx.broadcast("forbidden");
    }

    fn process(&mut self, value: u32, ctx: &mut ProcessContext<'_>, out: &mut impl Output<u32>) {
        if !self.forbidden.contains(ctx, &value) {
            out.collect(value);
        }
    }

    fn process_broadcast(
        &mut self,
        value: u32,
        ctx: &mut BroadcastContext<'_>,
        _out: &mut impl Output<u32>,
    ) {
        self.forbidden.put(ctx, value, ());
    }
}

#[test]
fn broadcast_without_keys_may_be_cut_anywhere() {
    let records = [1, 2, 3, 2, 1].map(Either::Left).into_iter();
    let records = records.chain([Either::Right(2)]).chain([1, 2, 3].map(Either::Left));
    let steps: Vec<_> = records.map(|record| Step::record(record, 0)).collect();
    let make = || OperatorHarness::new(BroadcastProcess::new(Unforbidden::default()));
    conformance(make, steps.clone());
    let mut harness = make();
    for step in steps {
        let Step::Record { value, event_time_ms } = step else { continue };
        harness.push(value, event_time_ms);
    }
    assert_eq!(harness.take_output(), [1, 2, 3, 2, 1, 1, 3]);
}

/// Holds records back and lets them go three at a time.
#[derive(Clone, Default)]
struct Threes {
    held: OperatorList<u32>,
}

impl ProcessFunction<u32> for Threes {
    type Out = Vec<u32>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.held = ctx.operator_list("held");
    }

    fn process(
        &mut self,
        value: u32,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Vec<u32>>,
    ) {
        self.held.get_mut(ctx).push(value);
        if self.held.get(ctx).len() == 3 {
            out.collect(std::mem::take(self.held.get_mut(ctx)));
        }
    }
}

#[test]
fn a_list_of_a_task_survives_restarts() {
    let make = || OperatorHarness::new(Process::new(Threes::default()));
    conformance(make, (0..10).map(|i| Step::record(i, 0)));
}

#[test]
fn lists_are_dealt_out_anew() {
    let make = || OperatorHarness::new(Process::new(Threes::default()));
    let mut merged = Snapshot::default();
    for (task_index, values) in [[1, 2], [3, 4]].into_iter().enumerate() {
        let mut task = make().task(task_index as u32, 2);
        for value in values {
            task.push(value, 0);
        }
        merged.merge(task.snapshot());
    }
    let mut completed = Vec::new();
    for task_index in 0..3 {
        let mut task = make().task(task_index, 3);
        task.restore(&merged).expect("it was written by the same operator");
        for value in [90, 91] {
            task.push(value, 0);
        }
        completed.extend(task.take_output());
    }
    assert_eq!(completed, [vec![1, 4, 90], vec![2, 90, 91], vec![3, 90, 91]]);
}

/// Gives the larger of the two inputs' last records.
#[derive(Clone, Default)]
struct Larger {
    last: OperatorList<(u32, u32)>,
}

impl CoProcessFunction<u32, u32> for Larger {
    type Out = u32;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.last = ctx.operator_list("last");
    }

    fn process_left(
        &mut self,
        value: u32,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<u32>,
    ) {
        let (_, right) = self.last.get(ctx).first().copied().unwrap_or_default();
        *self.last.get_mut(ctx) = vec![(value, right)];
        out.collect(value.max(right));
    }

    fn process_right(
        &mut self,
        value: u32,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<u32>,
    ) {
        let (left, _) = self.last.get(ctx).first().copied().unwrap_or_default();
        *self.last.get_mut(ctx) = vec![(left, value)];
        out.collect(value.max(left));
    }
}

#[test]
fn two_inputs_without_keys() {
    let make = || OperatorHarness::new(CoProcess::new(Larger::default()));
    let mut larger = make();
    for record in [Either::Left(5), Either::Right(3), Either::Left(1)] {
        larger.push(record, 0);
    }
    assert_eq!(larger.take_output(), [5, 5, 3]);
    let records = [Either::Left(5), Either::Right(3), Either::Left(1), Either::Right(2)];
    conformance(make, records.map(|record| Step::record(record, 0)));
}

/// Declares what it is told to.
#[derive(Clone)]
struct Declares(fn(&mut OpenContext<'_>));

impl KeyedProcessFunction<u8, u8> for Declares {
    type Out = u8;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        (self.0)(ctx);
    }

    fn process(&mut self, _: u8, _: &mut KeyedContext<'_, u8>, _: &mut impl Output<u8>) {}
}

impl ProcessFunction<u8> for Declares {
    type Out = u8;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        (self.0)(ctx);
    }

    fn process(&mut self, _: u8, _: &mut ProcessContext<'_>, _: &mut impl Output<u8>) {}
}

#[test]
fn the_plan_learns_what_a_function_declares() {
    let facts = KeyedProcess::new(
        |key: &u8| *key,
        Declares(|ctx| {
            ctx.value::<u8>("forever", StateSpec::default());
            ctx.value::<u8>("cleared", StateSpec::kept_until_cleared());
            ctx.map::<u8, u8>("timed", Ttl::event_time(Duration::from_secs(1)));
            ctx.list::<u8>("timed", StateSpec::default());
            ctx.broadcast::<u8, u8>("rules");
        }),
    )
    .facts();
    assert!(facts.is_keyed && facts.is_stateful);
    assert_eq!(facts.unbounded_states, ["forever"]);
    assert_eq!(facts.needs_watermarks, Some("state with a time to live in event time"));
    assert_eq!(facts.problems.len(), 2, "{:?}", facts.problems);
    assert!(facts.problems[0].contains("two states named \"timed\""));
    assert!(facts.problems[1].contains("broadcast"));
}

#[test]
fn a_function_without_keys_has_no_state_per_key() {
    let operator = Process::new(Declares(|ctx| {
        ctx.value::<u8>("count", StateSpec::default());
    }));
    let problems = operator.facts().problems;
    assert!(problems[0].contains("key the stream by something"), "{problems:?}");
    let error = OperatorHarness::new(operator).open().expect_err("it declares state per key");
    assert!(matches!(error, Error::Plan { .. }), "{error}");
}

/// Counts per key with a time to live.
#[derive(Clone, Default)]
struct CountWithTtl {
    count: ValueState<u32>,
    list: ListState<u32>,
    map: MapState<u32, u32>,
}

impl KeyedProcessFunction<u32, u32> for CountWithTtl {
    type Out = u32;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        let ttl = Ttl::processing_time(Duration::from_secs(10));
        self.count = ctx.value("count", ttl);
        self.list = ctx.list("list", ttl);
        self.map = ctx.map("map", ttl);
    }

    fn process(&mut self, value: u32, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<u32>) {
        self.list.extend(ctx, [value; 5]);
        (0..5).for_each(|i| {
            self.map.put(ctx, i, value);
        });
        let count = self.count.update(ctx, |count| {
            *count += 1;
            *count
        });
        out.collect(count);
    }
}

#[test]
fn expired_state_is_given_back_piece_by_piece() {
    const KEYS: u32 = 1_000;
    let operator = KeyedProcess::new(|value: &u32| *value, CountWithTtl::default());
    let mut harness = OperatorHarness::new(operator).keyed_by(|value: &u32| *value);
    (0..KEYS).for_each(|key| harness.push(key, 0));
    harness.processing_time(9_999);
    harness.push(7, 0);
    let state = |harness: &OperatorHarness<Stage<KeyedProcess<u32, u32, _, _>>>| {
        let state = harness.operator().state().expect("it has been opened");
        (state.key_count(), state.columns().expired_count())
    };
    assert_eq!(state(&harness), (KEYS as usize, 0));
    harness.env().processing_time_ms.set(11_000);
    harness.push(7, 0);
    let (_, expired_count) = state(&harness);
    assert!(2_500 < expired_count, "one turn gives back only a part: {expired_count}");
    harness.processing_time(11_000);
    assert_eq!(state(&harness), (1, 0), "and many turns all of it");
    harness.take_output();
    harness.push(7, 0);
    assert_eq!(harness.take_output(), [4], "what was written later lives longer");
}

#[test]
fn a_key_that_keeps_nothing_is_forgotten() {
    #[derive(Clone, Default)]
    struct Once {
        value: ValueState<u8>,
    }

    impl KeyedProcessFunction<u8, u8> for Once {
        type Out = u8;

        fn open(&mut self, ctx: &mut OpenContext<'_>) {
            self.value = ctx.value("value", StateSpec::kept_until_cleared());
        }

        fn process(&mut self, act: u8, ctx: &mut KeyedContext<'_, u8>, _: &mut impl Output<u8>) {
            match act {
                0 => assert_eq!(self.value.get(ctx), None),
                1 => self.value.set(ctx, 1),
                2 => self.value.clear(ctx),
                3 => assert!(ctx.register_event_timer(1_000_000)),
                _ => assert!(ctx.delete_event_timer(1_000_000)),
            }
        }
    }

    let operator = KeyedProcess::new(|_: &u8| 0_u8, Once::default());
    let mut harness = OperatorHarness::new(operator).keyed_by(|_: &u8| 0_u8);
    for (act, key_count) in [(0, 0), (1, 1), (3, 1), (2, 1), (4, 0), (3, 1), (1, 1), (4, 1), (2, 0)]
    {
        harness.push(act, 0);
        let state = harness.operator().state().expect("it has been opened");
        assert_eq!(state.key_count(), key_count, "after {act}");
    }
}

/// Gives three times: of the record, one of its own, of the record again.
#[derive(Clone)]
struct Times;

impl ProcessFunction<i64> for Times {
    type Out = i64;

    fn process(&mut self, _: i64, ctx: &mut ProcessContext<'_>, out: &mut impl Output<i64>) {
        out.collect(1);
        out.collect_at(2, 77);
        out.collect(3);
        ctx.side_output(OutputTag::new("side"), 4_i64);
    }
}

#[test]
fn what_comes_of_a_record_keeps_its_time_whatever_is_behind() {
    let first = Stage::new(Process::new(Times), "times", "times");
    let second = Stage::new(Process::new(Times), "again", "again");
    let third = Stage::new(Map::new(|value: i64| value), "map", "map");
    let chain = Then { first, second: Then { first: second, second: third } };
    let tag = OutputTag::<i64>::new("side");
    let mut harness = OperatorHarness::of_chain(chain).reading(tag);
    harness.push(0, 5);
    let times: Vec<i64> = harness.take_rows().iter().map(|row| row.event_time_ms).collect();
    assert_eq!(times, [5, 77, 5, 77, 77, 77, 5, 77, 5]);
    assert_eq!(harness.take_side_output(tag).len(), 4);
}
