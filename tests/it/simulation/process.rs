//! A function with everything: state of several kinds, a time to live, timers, broadcast state.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::prelude::*;
use millstream::sim::rng::Rng;

use super::input::{BEGIN_MS, Event, Input};
use super::ledger::Ledger;
use super::{Layout, assert_same, check};

/// From this event time (ms) on, buckets are multiplied by this.
type Rule = (i64, u64);
/// Key, end of a bucket (ms), its sum times the factor of the rule as of then.
type Summed = (u32, i64, u64);

const BUCKET_MS: i64 = 100;
const TTL_MS: i64 = 50;

/// Sums numbers in buckets of event time; a timer at a bucket's end gives its sum, multiplied by
/// the rule of then. The watermark that fires it says that all rules up to there have come.
#[derive(Clone, Default)]
struct Buckets {
    rules: BroadcastState<i64, u64>,
    sums: MapState<i64, u64>,
    /// The latest time at which it was written; lives for a while only.
    seen: ValueState<i64>,
    beats: ReducingState<u64>,
}

impl KeyedBroadcastProcessFunction<u32, Event, Rule> for Buckets {
    type Out = Summed;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.rules = ctx.broadcast("rules");
        self.sums = ctx.map("sums", StateSpec::kept_until_cleared());
        self.seen = ctx.value("seen", Ttl::event_time(Duration::from_millis(TTL_MS as u64)));
        self.beats = ctx.reducing("beats", StateSpec::kept_until_cleared(), |a, b| *a += b);
    }

    fn process(
        &mut self,
        (_, time_ms, id): Event,
        ctx: &mut KeyedContext<'_, u32>,
        _out: &mut impl Output<Summed>,
    ) {
        let (seen_ms, watermark_ms) = (self.seen.get(ctx).copied(), ctx.watermark_ms());
        if let Some(seen_ms) = seen_ms {
            assert!(watermark_ms < seen_ms + TTL_MS, "{seen_ms} is seen at {watermark_ms}");
        }
        self.seen.set(ctx, time_ms.max(watermark_ms).max(seen_ms.unwrap_or(0)));
        let end_ms = time_ms.div_euclid(BUCKET_MS) * BUCKET_MS + BUCKET_MS;
        let sum = self.sums.get(ctx, &end_ms).copied().unwrap_or(0);
        self.sums.put(ctx, end_ms, sum + u64::from(id));
        ctx.register_event_timer(end_ms - 1);
        ctx.register_processing_timer(ctx.processing_time_ms() + 1);
    }

    fn process_broadcast(
        &mut self,
        (from_ms, factor): Rule,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<Summed>,
    ) {
        self.rules.put(ctx, from_ms, factor);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Summed>,
    ) {
        if timer.kind == TimerKind::Processing {
            self.beats.add(ctx, 1);
            return;
        }
        let end_ms = timer.time_ms + 1;
        let rules = self.rules.iter(ctx).filter(|(from_ms, _)| **from_ms < end_ms);
        let factor = rules.last().map_or(1, |(_, factor)| *factor);
        let sum = self.sums.remove(ctx, &end_ms).expect("a timer has a bucket");
        out.collect((*ctx.key(), end_ms, sum * factor));
    }
}

#[derive(Debug)]
struct Drawn {
    input: Input,
    rules: Vec<Rule>,
}

impl Drawn {
    fn draw(rng: &mut Rng, _: &mut SimConfig) -> Self {
        let input = Input::draw(rng);
        let from_ms = |rng: &mut Rng| BEGIN_MS + rng.below(10_000) as i64 - 500;
        let mut rules: Vec<_> =
            (0..rng.below(8)).map(|_| (from_ms(rng), 1 + rng.below(100))).collect();
        rules.sort_unstable();
        rules.dedup_by_key(|rule| rule.0);
        Self { input, rules }
    }

    fn expected(&self) -> Vec<Summed> {
        let mut sums: BTreeMap<(u32, i64), u64> = BTreeMap::new();
        for (key, time_ms, id) in &self.input.events {
            let end_ms = time_ms.div_euclid(BUCKET_MS) * BUCKET_MS + BUCKET_MS;
            *sums.entry((*key, end_ms)).or_default() += u64::from(*id);
        }
        let factor = |end_ms| {
            let rule = self.rules.iter().rfind(|(from_ms, _)| *from_ms < end_ms);
            rule.map_or(1, |(_, factor)| *factor)
        };
        sums.into_iter().map(|((key, end_ms), sum)| (key, end_ms, sum * factor(end_ms))).collect()
    }
}

#[test]
fn state_timers_and_rules() {
    let write = |drawn: &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Summed>| {
        let rules = VecSource::from_vec(drawn.rules.clone());
        let rules =
            job.source("rules", rules).parallelism(1).watermark(Monotonic::new(), |rule| rule.0);
        let events = drawn.input.source(job, "events", layout).key_by(|event| event.0);
        events
            .connect_broadcast(rules)
            .process("buckets", Buckets::default())
            .sink("ledger", ledger);
    };
    check(7, Drawn::draw, write, |about, drawn, _, rows| {
        assert_same(about, rows, drawn.expected());
    });
}

/// An operator without keys: holds records back until the watermark has passed them.
#[derive(Clone, Default)]
struct InTime {
    lists: OperatorLists,
    held: OperatorList<Event>,
}

impl Operator for InTime {
    type In = Event;
    type Out = Event;

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<()> {
        self.lists = ctx.lists();
        self.held = self.lists.list("held");
        Ok(())
    }

    fn on_row(&mut self, row: Row<Event>, _: &OperatorContext<'_>, _: &mut impl Output<Event>) {
        self.held.get_mut(&mut self.lists).push(row.value);
    }

    fn on_watermark(
        &mut self,
        watermark_ms: i64,
        _ctx: &OperatorContext<'_>,
        out: &mut impl Output<Event>,
    ) -> Progress {
        let held = self.held.get_mut(&mut self.lists);
        for event in held.extract_if(.., |event| event.1 <= watermark_ms) {
            out.collect(event);
        }
        Progress::Done
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.lists.snapshot(writer);
    }

    fn restore(&mut self, reader: &SnapshotReader<'_>, _ctx: &OperatorContext<'_>) -> Result<()> {
        self.lists.restore(reader)
    }
}

#[test]
fn lists_of_tasks() {
    let write = |drawn: &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Event>| {
        let events = drawn.input.source(job, "events", layout).rebalance();
        events.operator("in time", InTime::default()).sink("ledger", ledger);
    };
    check(15, Drawn::draw, write, |about, drawn, _, rows| {
        assert_same(about, rows, drawn.input.events.clone());
    });
}

/// Holds the records of each key back until it is told to let them go.
#[derive(Clone, Default)]
struct Dam {
    is_open: BroadcastState<(), bool>,
    held: ListState<Event>,
}

impl Dam {
    fn let_go(&self, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<Event>) {
        if self.is_open.get(ctx, &()) == Some(&true) {
            for event in self.held.iter(ctx) {
                out.collect(*event);
            }
            self.held.clear(ctx);
        }
    }
}

impl KeyedBroadcastProcessFunction<u32, Event, bool> for Dam {
    type Out = Event;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.is_open = ctx.broadcast("open");
        self.held = ctx.list("held", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        event: Event,
        ctx: &mut KeyedContext<'_, u32>,
        out: &mut impl Output<Event>,
    ) {
        self.held.append(ctx, event);
        self.let_go(ctx, out);
    }

    fn process_broadcast(
        &mut self,
        is_open: bool,
        ctx: &mut KeyedBroadcastContext<'_>,
        _out: &mut impl Output<Event>,
    ) {
        self.is_open.put(ctx, (), is_open);
        ctx.apply_to_keyed_state();
    }

    fn apply_to_key(&mut self, ctx: &mut KeyedContext<'_, u32>, out: &mut impl Output<Event>) {
        self.let_go(ctx, out);
    }
}

/// Whenever the dam is opened and closed, every record passes it once.
#[test]
fn broadcast_records_for_all_keys() {
    let write = |drawn: &Drawn, job: &Job, layout: &Layout, ledger: Ledger<Event>| {
        let gates = VecSource::from_vec(vec![true, false, true, false, true]).paced(500.0);
        let gates = job.source("gates", gates).parallelism(1).hold_nothing_back();
        let events = drawn.input.source(job, "events", layout).key_by(|event| event.0);
        events.connect_broadcast(gates).process("dam", Dam::default()).sink("ledger", ledger);
    };
    check(19, Drawn::draw, write, |about, drawn, _, rows| {
        assert_same(about, rows, drawn.input.events.clone());
    });
}
