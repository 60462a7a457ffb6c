//! Broadcast records that change what all keys keep.

use std::time::Duration;

use crate::data::either::Either;
use crate::operator::Stage;
use crate::operator::process::KeyedBroadcastProcess;
use crate::prelude::*;
use crate::sim::rng::Rng;
use crate::testing::{OperatorHarness, Step, conformance};

/// Sums numbers per key until the broadcast limit lies below; what is left after 20 ms is given up.
#[derive(Clone, Default)]
struct Limit {
    bound: BroadcastState<(), u64>,
    sum: ValueState<u64>,
    recent: ListState<u64>,
}

impl Limit {
    fn judge(&self, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<Told>) {
        let limit = self.bound.get(ctx, &()).copied().unwrap_or(u64::MAX);
        if self.sum.get(ctx).is_some_and(|sum| limit < *sum) {
            let (sum, recent) = (self.sum.take(ctx), self.recent.iter(ctx).copied().collect());
            out.collect((*ctx.key(), sum, recent));
        }
    }
}

/// Key, sum, and the numbers of late, or the time at which it was given up and the limit then.
type Told = (u32, Option<u64>, Vec<u64>);
type LimitIn = Either<(u32, u64), u64>;

impl KeyedBroadcastProcessFunction<u32, (u32, u64), u64> for Limit {
    type Out = Told;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.bound = ctx.broadcast("limit");
        self.sum = ctx.value("sum", StateSpec::kept_until_cleared());
        self.recent = ctx.list("recent", Ttl::processing_time(Duration::from_millis(15)));
    }

    fn process(
        &mut self,
        (_, number): (u32, u64),
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Told>,
    ) {
        self.sum.update(ctx, |sum| *sum += number);
        self.recent.append(ctx, number);
        ctx.register_event_timer(ctx.event_time_ms() + 20);
        self.judge(ctx, out);
    }

    fn process_broadcast(
        &mut self,
        limit: u64,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<Told>,
    ) {
        self.bound.put(ctx, (), limit);
        if !limit.is_multiple_of(3) {
            ctx.apply_to_keyed_state();
        }
    }

    fn apply_to_key(&mut self, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<Told>) {
        self.judge(ctx, out);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Told>,
    ) {
        if let Some(sum) = self.sum.take(ctx) {
            let limit = self.bound.get(ctx, &()).copied().unwrap_or(u64::MAX);
            out.collect((*ctx.key(), Some(sum), vec![timer.time_ms as u64, limit]));
        }
    }
}

fn limit() -> OperatorHarness<Stage<impl Operator<In = LimitIn, Out = Told>>> {
    let key_of = |record: &(u32, u64)| record.0;
    OperatorHarness::new(KeyedBroadcastProcess::new(key_of, Limit::default())).keyed_or_broadcast(
        |record: &LimitIn| match record {
            Either::Left(record) => Some(record.0),
            Either::Right(_) => None,
        },
    )
}

#[test]
fn a_walk_over_all_keys_may_be_cut_and_rescaled_anywhere() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let (mut now_ms, mut watermark_ms, mut clock_ms) = (100, 0, 0);
        let steps: Vec<_> = (0..80)
            .map(|_| {
                now_ms += rng.below(5) as i64;
                match rng.below(8) {
                    0 => {
                        watermark_ms = watermark_ms.max(now_ms - rng.below(20) as i64);
                        Step::Watermark(watermark_ms)
                    }
                    1 => {
                        clock_ms += rng.below(10) as i64;
                        Step::ProcessingTime(clock_ms)
                    }
                    2 => Step::record(Either::Right(rng.below(30)), now_ms),
                    _ => {
                        let record = (rng.below(6) as u32, rng.below(10));
                        Step::record(Either::Left(record), now_ms - rng.below(15) as i64)
                    }
                }
            })
            .chain([Step::End])
            .collect();
        conformance(limit, steps);
    }
}

#[test]
fn a_walk_meets_every_key_once_by_hash_and_in_slices() {
    let mut limit = limit();
    for key in 0..100 {
        limit.push(Either::Left((key, 10)), 0);
    }
    limit.set_budget(8);
    limit.push(Either::Right(5), 1);
    assert!(!limit.is_ready(), "records behind it wait");
    // What one row before it made of itself may still come.
    limit.push(Either::Left((7, 1)), 2);
    let mut told = limit.take_rows();
    assert!(told.len() <= 8);
    while limit.is_pending() {
        limit.resume();
        let slice = limit.take_rows();
        assert!(slice.len() <= 8, "{} keys in one slice", slice.len());
        told.extend(slice);
    }
    assert!(limit.is_ready());
    let hashes: Vec<u64> = told.iter().map(|row| row.hash64).collect();
    assert!(hashes.is_sorted() && hashes.len() == 100, "each key once, by its hash");
    assert!(told.iter().all(|row| row.event_time_ms == 1), "at the time of the broadcast record");
    limit.push(Either::Right(0), 3);
    assert!(limit.take_output().is_empty(), "nothing asked for a walk");
    limit.push(Either::Left((7, 0)), 4);
    assert_eq!(limit.take_output(), [(7, Some(1), vec![10, 1, 0])]);
}

/// Tells which keys a walk meets.
#[derive(Clone, Default)]
struct Met {
    seen: ValueState<u64>,
}

impl KeyedBroadcastProcessFunction<u32, (u32, u64), u64> for Met {
    type Out = u32;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.seen = ctx.value("seen", Ttl::processing_time(Duration::from_millis(10)));
    }

    fn process(
        &mut self,
        (_, number): (u32, u64),
        ctx: &mut KeyedContext<'_, u32>,
        _out: &mut impl Output<u32>,
    ) {
        ctx.register_event_timer(1_000);
        if 0 < number {
            self.seen.set(ctx, number);
        }
    }

    fn process_broadcast(
        &mut self,
        _value: u64,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<u32>,
    ) {
        ctx.apply_to_keyed_state();
    }

    fn apply_to_key(&mut self, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<u32>) {
        out.collect(*ctx.key());
    }
}

#[test]
fn a_key_without_state_or_whose_state_has_expired_is_not_met() {
    let operator = KeyedBroadcastProcess::new(|record: &(u32, u64)| record.0, Met::default());
    let mut met =
        OperatorHarness::new(operator).keyed_or_broadcast(|record: &LimitIn| match record {
            Either::Left(record) => Some(record.0),
            Either::Right(_) => None,
        });
    met.push(Either::Left((1, 1)), 0);
    met.push(Either::Left((2, 0)), 0);
    met.processing_time(9);
    met.push(Either::Left((3, 1)), 0);
    met.push(Either::Right(0), 0);
    let mut keys = met.take_output();
    keys.sort_unstable();
    assert_eq!(keys, [1, 3]);
    // Nothing has given the memory of the expired value back yet.
    met.env().processing_time_ms.set(10);
    met.push(Either::Right(0), 0);
    assert_eq!(met.take_output(), [3]);
}

/// Tells of every timer that fires, and of the last broadcast record then.
#[derive(Clone, Default)]
struct Fired {
    last: BroadcastState<(), u64>,
}

impl KeyedBroadcastProcessFunction<u32, (u32, u64), u64> for Fired {
    type Out = (TimerKind, u32, Option<u64>);

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.last = ctx.broadcast("last");
    }

    fn process(
        &mut self,
        (_, due_ms): (u32, u64),
        ctx: &mut KeyedContext<'_, u32>,
        _out: &mut impl Output<Self::Out>,
    ) {
        ctx.register_event_timer(due_ms as i64);
        ctx.register_processing_timer(due_ms as i64);
    }

    fn process_broadcast(
        &mut self,
        value: u64,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<Self::Out>,
    ) {
        self.last.put(ctx, (), value);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Self::Out>,
    ) {
        out.collect((timer.kind, *ctx.key(), self.last.get(ctx, &()).copied()));
    }
}

#[test]
fn a_broadcast_record_waits_for_what_is_due_of_all_keys() {
    for kind in TimerKind::ALL {
        let operator = KeyedBroadcastProcess::new(|record: &(u32, u64)| record.0, Fired::default());
        let mut fired =
            OperatorHarness::new(operator).keyed_or_broadcast(|record: &LimitIn| match record {
                Either::Left(record) => Some(record.0),
                Either::Right(_) => None,
            });
        for key in 0..20 {
            fired.push(Either::Left((key, 10)), 0);
            fired.push(Either::Left((key, 20)), 0);
        }
        fired.set_budget(3);
        let reach = |fired: &mut OperatorHarness<_>, time_ms| match kind {
            TimerKind::Event => fired.watermark(time_ms),
            TimerKind::Processing => fired.processing_time(time_ms),
        };
        reach(&mut fired, 10);
        fired.push(Either::Right(1), 0);
        // What one row before it made of itself may still come.
        fired.push(Either::Right(2), 0);
        let mut told = fired.take_output();
        assert!(told.len() <= 6, "{} timers in two calls", told.len());
        assert!(!fired.is_ready(), "records behind it wait");
        while fired.is_pending() {
            fired.resume();
            let slice = fired.take_output();
            // It goes on with the watermark, and then with processing time.
            assert!(slice.len() <= 6, "{} timers in two calls", slice.len());
            told.extend(slice);
        }
        assert!(fired.is_ready());
        let mut keys: Vec<u32> = told.iter().map(|(_, key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..20).collect::<Vec<_>>(), "every key's timer fires once");
        assert!(told.iter().all(|(of, _, last)| *of == kind && last.is_none()), "{told:?}");
        fired.set_budget(u32::MAX);
        reach(&mut fired, 20);
        let told = fired.take_output();
        assert!(told.len() == 20 && told.iter().all(|(.., last)| *last == Some(2)), "{told:?}");
    }
}
