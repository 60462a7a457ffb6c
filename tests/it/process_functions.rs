//! Functions of two inputs, with keys, without, and with broadcast, against their models, cut
//! anywhere. Functions of one input with keys have theirs beside them.

use std::collections::BTreeMap;

use millstream::data::either::Either;
use millstream::operator::Stage;
use millstream::operator::process::{
    BroadcastProcess, CoProcess, KeyedBroadcastProcess, KeyedCoProcess,
};
use millstream::prelude::*;
use millstream::testing::OperatorHarness;
use millstream_tests::model::process::{Cause, Outcome, Step, allowed, latest, ruled, settle};
use proptest::prelude::*;

use super::scripts::{Move, Timed, drive, moves};

/// A key and a number.
type Record = (u32, u32);
type Both = Either<Record, Record>;

fn record_of(timed: Timed) -> Both {
    let record = (timed.key, timed.id);
    if timed.is_right { Either::Right(record) } else { Either::Left(record) }
}

fn script(moves: &[Move]) -> Vec<Step> {
    let steps = moves.iter().filter_map(|step| match *step {
        Move::Record(Timed { is_right, key, time, id }) => {
            Some(Step::Record { is_right, key, time, id })
        }
        Move::Watermark(watermark) => Some(Step::Watermark(watermark)),
        Move::Clock(now) => Some(Step::Clock(now)),
        Move::Budget(_) | Move::Resume | Move::Restart => None,
    });
    steps.chain([Step::End]).collect()
}

/// Everything that comes out, in order.
fn found<O: Operator<In = Both>>(
    make: impl Fn() -> OperatorHarness<Stage<O>>,
    moves: &[Move],
    cuts: bool,
) -> Vec<O::Out> {
    let mut found = Vec::new();
    drive(make, moves, cuts, record_of, |harness| found.extend(harness.take_output()));
    found
}

/// What came out for each key, in order.
fn by_key(outcomes: Vec<Outcome>) -> BTreeMap<u32, Vec<(Cause, Vec<u32>)>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for (key, cause, ids) in outcomes {
        keys.entry(key).or_default().push((cause, ids));
    }
    keys
}

/// See the model of the same name.
#[derive(Clone)]
struct Settle {
    patience: i64,
    delay: i64,
    open: ListState<u32>,
    due: ValueState<i64>,
    rights: ListState<u32>,
}

impl KeyedCoProcessFunction<u32, Record, Record> for Settle {
    type Out = Outcome;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.open = ctx.list("open", StateSpec::kept_until_cleared());
        self.due = ctx.value("due", StateSpec::kept_until_cleared());
        self.rights = ctx.list("rights", StateSpec::default());
    }

    fn process_left(
        &mut self,
        (_, id): Record,
        ctx: &mut KeyedContext<'_, u32>,
        _out: &mut impl Output<Outcome>,
    ) {
        self.open.append(ctx, id);
        if self.due.get(ctx).is_none() {
            let due = ctx.event_time_ms() + self.patience;
            self.due.set(ctx, due);
            ctx.register_event_timer(due);
        }
    }

    fn process_right(
        &mut self,
        (key, id): Record,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Outcome>,
    ) {
        if let Some(due) = self.due.take(ctx) {
            assert!(ctx.delete_event_timer(due), "it has not fired");
        }
        self.rights.append(ctx, id);
        ctx.register_processing_timer(ctx.processing_time_ms() + self.delay);
        out.collect((key, Cause::Record(id), self.open.take(ctx)));
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Outcome>,
    ) {
        let (cause, ids) = match timer.kind {
            TimerKind::Event => {
                assert_eq!(self.due.take(ctx), Some(timer.time_ms));
                (Cause::EventTimer(timer.time_ms), self.open.take(ctx))
            }
            TimerKind::Processing => {
                let rights = self.rights.iter(ctx).copied().collect();
                (Cause::ProcessingTimer(timer.time_ms), rights)
            }
        };
        out.collect((*ctx.key(), cause, ids));
    }
}

/// See the model of the same name.
#[derive(Clone)]
struct Ruled {
    patience: i64,
    rules: BroadcastState<u32, u32>,
}

impl Ruled {
    fn rule(&self, ctx: &KeyedContext<'_, u32>) -> Vec<u32> {
        self.rules.get(ctx, &(ctx.key() % 2)).copied().into_iter().collect()
    }
}

impl KeyedBroadcastProcessFunction<u32, Record, Record> for Ruled {
    type Out = Outcome;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.rules = ctx.broadcast("rules");
    }

    fn process(
        &mut self,
        (key, id): Record,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Outcome>,
    ) {
        ctx.register_event_timer(ctx.event_time_ms() + self.patience);
        out.collect((key, Cause::Record(id), self.rule(ctx)));
    }

    fn process_broadcast(
        &mut self,
        (key, id): Record,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<Outcome>,
    ) {
        if id.is_multiple_of(3) {
            self.rules.remove(ctx, &(key % 2));
        } else {
            self.rules.put(ctx, key % 2, id);
        }
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Outcome>,
    ) {
        out.collect((*ctx.key(), Cause::EventTimer(timer.time_ms), self.rule(ctx)));
    }
}

/// See the model of the same name.
#[derive(Clone, Default)]
struct Latest {
    /// The last record of each input; odd ones are of the second.
    last: OperatorList<u32>,
}

impl Latest {
    fn meet(&self, id: u32, ctx: &mut ProcessContext<'_>) -> (u32, Option<u32>) {
        let is_other = |known: &&u32| **known % 2 != id % 2;
        let other = self.last.get(ctx).iter().find(is_other).copied();
        let last = self.last.get_mut(ctx);
        last.retain(|known| known % 2 != id % 2);
        last.push(id);
        (id, other)
    }
}

impl CoProcessFunction<Record, Record> for Latest {
    type Out = (u32, Option<u32>);

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.last = ctx.operator_list("last");
    }

    fn process_left(
        &mut self,
        (_, id): Record,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) {
        out.collect(self.meet(id, ctx));
    }

    fn process_right(
        &mut self,
        (_, id): Record,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<Self::Out>,
    ) {
        out.collect(self.meet(id, ctx));
    }
}

/// Records of the first input whose key the broadcast ones have named an even number of times.
#[derive(Clone, Default)]
struct Allowed {
    forbidden: BroadcastState<u32, ()>,
}

impl BroadcastProcessFunction<Record, Record> for Allowed {
    type Out = u32;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.forbidden = ctx.broadcast("forbidden");
    }

    fn process(
        &mut self,
        (key, id): Record,
        ctx: &mut ProcessContext<'_>,
        out: &mut impl Output<u32>,
    ) {
        if !self.forbidden.contains(ctx, &key) {
            out.collect(id);
        }
    }

    fn process_broadcast(
        &mut self,
        (key, _): Record,
        ctx: &mut BroadcastContext<'_>,
        _out: &mut impl Output<u32>,
    ) {
        if self.forbidden.remove(ctx, &key).is_none() {
            self.forbidden.put(ctx, key, ());
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape of a key selector")]
fn key_of(record: &Record) -> u32 {
    record.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn both_inputs_share_states_and_timers_of_their_key(
        patience in 0_i64..40, delay in 1_i64..40, moves in moves(),
    ) {
        let expected = by_key(settle(patience, delay, &script(&moves)));
        for cuts in [false, true] {
            let make = || {
                let (open, rights) = (ListState::default(), ListState::default());
                let settle = Settle { patience, delay, open, due: ValueState::default(), rights };
                let operator = KeyedCoProcess::new(key_of, key_of, settle);
                OperatorHarness::new(operator).keyed_by(|record: &Both| match record {
                    Either::Left(record) | Either::Right(record) => record.0,
                })
            };
            prop_assert_eq!(by_key(found(make, &moves, cuts)), expected.clone(), "cuts: {}", cuts);
        }
    }

    #[test]
    fn rules_hold_from_the_record_that_sets_them(patience in 0_i64..40, moves in moves()) {
        let expected = by_key(ruled(patience, &script(&moves)));
        for cuts in [false, true] {
            let make = || {
                let ruled = Ruled { patience, rules: BroadcastState::default() };
                let operator = KeyedBroadcastProcess::new(key_of, ruled);
                OperatorHarness::new(operator).keyed_or_broadcast(|record: &Both| match record {
                    Either::Left(record) => Some(record.0),
                    Either::Right(_) => None,
                })
            };
            prop_assert_eq!(by_key(found(make, &moves, cuts)), expected.clone(), "cuts: {}", cuts);
        }
    }

    #[test]
    fn functions_without_keys_see_both_inputs_in_order(moves in moves()) {
        let script = script(&moves);
        for cuts in [false, true] {
            let make = || OperatorHarness::new(CoProcess::new(Latest::default()));
            prop_assert_eq!(found(make, &moves, cuts), latest(&script), "cuts: {}", cuts);
            let make = || OperatorHarness::new(BroadcastProcess::new(Allowed::default()));
            prop_assert_eq!(found(make, &moves, cuts), allowed(&script), "cuts: {}", cuts);
        }
    }
}
