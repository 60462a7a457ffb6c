//! A function that does what its records order, and the orders.

use std::time::Duration;

use proptest::prelude::*;

use crate::prelude::*;
use crate::testing::Step;

/// A record: what to do, for which key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) key: u8,
    pub(super) act: Act,
}

/// What to do with the states and timers of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    ValueSet(i64),
    ValueAdd(i64),
    ValueAddIfThere(i64),
    ValueTake,
    ListAppend(i64),
    ListReplace(Vec<i64>),
    ListClear,
    MapPut(u8, i64),
    MapAdd(u8, i64),
    MapAddIfThere(u8, i64),
    MapRemove(u8),
    MapClear,
    SumAdd(i64),
    SumClear,
    MeanAdd(i64),
    MeanClear,
    RegisterEvent(i64),
    DeleteEvent(i64),
    RegisterProcessing(i64),
    DeleteProcessing(i64),
    Show,
}

/// Whether states have a time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TtlChoice {
    None,
    Event { refresh_on_read: bool },
    Processing { refresh_on_read: bool },
}

/// Times to live, ms.
pub(super) const TTL_MS: i64 = 20;

impl TtlChoice {
    pub(super) fn spec(self) -> StateSpec {
        let ttl = Duration::from_millis(TTL_MS as u64);
        let (ttl, refresh_on_read) = match self {
            Self::None => return StateSpec::default(),
            Self::Event { refresh_on_read } => (Ttl::event_time(ttl), refresh_on_read),
            Self::Processing { refresh_on_read } => (Ttl::processing_time(ttl), refresh_on_read),
        };
        StateSpec::from(if refresh_on_read { ttl.refresh_on_read() } else { ttl })
    }

    pub(super) fn is_refreshed_on_read(self) -> bool {
        matches!(
            self,
            Self::Event { refresh_on_read: true } | Self::Processing { refresh_on_read: true }
        )
    }
}

#[derive(Debug, Clone)]
pub(super) struct Mean;

impl AggregateFunction for Mean {
    type In = i64;
    type Accumulator = (i64, i64);
    type Out = i64;

    fn create(&self) -> (i64, i64) {
        (0, 0)
    }

    fn add(&self, accumulator: &mut (i64, i64), value: i64) {
        accumulator.0 += value;
        accumulator.1 += 1;
    }

    fn merge(&self, accumulator: &mut (i64, i64), other: (i64, i64)) {
        accumulator.0 += other.0;
        accumulator.1 += other.1;
    }

    fn result(&self, accumulator: &(i64, i64)) -> i64 {
        accumulator.0 / accumulator.1
    }
}

/// Obeys orders; shows everything on order, and when a timer fires.
#[derive(Clone)]
pub(super) struct Interpreter {
    ttl: TtlChoice,
    value: ValueState<i64>,
    list: ListState<i64>,
    map: MapState<u8, i64>,
    sum: ReducingState<i64>,
    mean: AggregatingState<Mean>,
}

impl Interpreter {
    pub(super) fn new(ttl: TtlChoice) -> Self {
        Self {
            ttl,
            value: ValueState::default(),
            list: ListState::default(),
            map: MapState::default(),
            sum: ReducingState::default(),
            mean: AggregatingState::default(),
        }
    }

    fn show(&self, ctx: &KeyedContext<'_, u8>) -> String {
        let list: Vec<i64> = self.list.iter(ctx).copied().collect();
        let map: Vec<(u8, i64)> = self.map.iter(ctx).map(|(k, v)| (*k, *v)).collect();
        let (value, sum, mean) = (self.value.get(ctx), self.sum.get(ctx), self.mean.get(ctx));
        format!("{} {value:?} {list:?} {map:?} {sum:?} {mean:?}", ctx.key())
    }
}

/// What a firing timer does besides showing everything.
pub(super) fn acts_of_timer(timer: FiredTimer) -> Vec<Act> {
    let FiredTimer { time_ms, kind } = timer;
    let mut acts = vec![Act::ValueAddIfThere(time_ms)];
    if time_ms % 3 == 0 {
        acts.push(Act::RegisterEvent(time_ms + 2));
    }
    if time_ms % 5 == 0 {
        acts.push(Act::ValueTake);
    }
    if time_ms % 7 == 0 && kind == TimerKind::Event {
        acts.push(Act::ListAppend(time_ms));
        acts.push(Act::RegisterProcessing(time_ms + 1_000));
    }
    if time_ms % 7 == 1 {
        acts.push(Act::MapClear);
    }
    acts
}

impl KeyedProcessFunction<u8, Order> for Interpreter {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        let spec = self.ttl.spec();
        self.value = ctx.value("value", spec);
        self.list = ctx.list("list", spec);
        self.map = ctx.map("map", spec);
        self.sum = ctx.reducing("sum", spec, |sum, value| *sum += value);
        self.mean = ctx.aggregating("mean", spec, Mean);
    }

    fn process(
        &mut self,
        order: Order,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<String>,
    ) {
        if order.act == Act::Show {
            out.collect(self.show(ctx));
        }
        self.act(order.act, ctx);
    }

    fn on_timer(
        &mut self,
        timer: FiredTimer,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut impl Output<String>,
    ) {
        out.collect(format!("{:?} {}: {}", timer.kind, timer.time_ms, self.show(ctx)));
        for act in acts_of_timer(timer) {
            self.act(act, ctx);
        }
    }
}

impl Interpreter {
    fn act(&self, act: Act, ctx: &mut KeyedContext<'_, u8>) {
        match act {
            Act::ValueSet(value) => self.value.set(ctx, value),
            Act::ValueAdd(value) => self.value.update(ctx, |sum| *sum += value),
            Act::ValueAddIfThere(value) => {
                if let Some(sum) = self.value.get_mut(ctx) {
                    *sum += value;
                }
            }
            Act::ValueTake => self.value.clear(ctx),
            Act::ListAppend(value) => self.list.append(ctx, value),
            Act::ListReplace(values) => self.list.replace(ctx, values),
            Act::ListClear => self.list.clear(ctx),
            Act::MapPut(map_key, value) => {
                self.map.put(ctx, map_key, value);
            }
            Act::MapAdd(map_key, value) => self.map.update(ctx, map_key, |sum| *sum += value),
            Act::MapAddIfThere(map_key, value) => {
                if let Some(sum) = self.map.get_mut(ctx, &map_key) {
                    *sum += value;
                }
            }
            Act::MapRemove(map_key) => {
                self.map.remove(ctx, &map_key);
            }
            Act::MapClear => self.map.clear(ctx),
            Act::SumAdd(value) => self.sum.add(ctx, value),
            Act::SumClear => self.sum.clear(ctx),
            Act::MeanAdd(value) => self.mean.add(ctx, value),
            Act::MeanClear => self.mean.clear(ctx),
            Act::RegisterEvent(time_ms) => {
                ctx.register_event_timer(time_ms);
            }
            Act::DeleteEvent(time_ms) => {
                ctx.delete_event_timer(time_ms);
            }
            Act::RegisterProcessing(time_ms) => {
                ctx.register_processing_timer(time_ms);
            }
            Act::DeleteProcessing(time_ms) => {
                ctx.delete_processing_timer(time_ms);
            }
            Act::Show => {}
        }
    }
}

pub(super) fn ttl_choice() -> impl Strategy<Value = TtlChoice> {
    prop_oneof![
        Just(TtlChoice::None),
        any::<bool>().prop_map(|refresh_on_read| TtlChoice::Event { refresh_on_read }),
        any::<bool>().prop_map(|refresh_on_read| TtlChoice::Processing { refresh_on_read }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let value = 1_i64..10;
    let map_key = 0_u8..4;
    let event_ms = 0_i64..100;
    let processing_ms = 1_000_i64..1_100;
    let entry = (map_key.clone(), value.clone());
    prop_oneof![
        2 => value.clone().prop_map(Act::ValueSet),
        2 => value.clone().prop_map(Act::ValueAdd),
        1 => value.clone().prop_map(Act::ValueAddIfThere),
        1 => Just(Act::ValueTake),
        2 => value.clone().prop_map(Act::ListAppend),
        1 => prop::collection::vec(value.clone(), 0..3).prop_map(Act::ListReplace),
        1 => Just(Act::ListClear),
        2 => entry.clone().prop_map(|(k, v)| Act::MapPut(k, v)),
        1 => entry.clone().prop_map(|(k, v)| Act::MapAdd(k, v)),
        1 => entry.prop_map(|(k, v)| Act::MapAddIfThere(k, v)),
        1 => map_key.prop_map(Act::MapRemove),
        1 => Just(Act::MapClear),
        1 => value.clone().prop_map(Act::SumAdd),
        1 => Just(Act::SumClear),
        1 => value.prop_map(Act::MeanAdd),
        1 => Just(Act::MeanClear),
        6 => event_ms.clone().prop_map(Act::RegisterEvent),
        3 => event_ms.prop_map(Act::DeleteEvent),
        4 => processing_ms.clone().prop_map(Act::RegisterProcessing),
        2 => processing_ms.prop_map(Act::DeleteProcessing),
        6 => Just(Act::Show),
    ]
}

/// Scripts in which both times only rise, and records are out of order.
pub(super) fn orders() -> impl Strategy<Value = Vec<Step<Order>>> {
    let record = (0_u8..4, act(), 0_i64..100);
    let step = prop_oneof![
        8 => record.prop_map(|(key, act, time_ms)| Step::record(Order { key, act }, time_ms)),
        1 => (0_i64..30).prop_map(Step::Watermark),
        1 => (0_i64..30).prop_map(Step::ProcessingTime),
    ];
    prop::collection::vec(step, 0..60).prop_map(|mut steps| {
        let (mut watermark_ms, mut processing_ms) = (0, 1_000);
        for step in &mut steps {
            match step {
                Step::Watermark(time_ms) => {
                    watermark_ms += *time_ms;
                    *time_ms = watermark_ms;
                }
                Step::ProcessingTime(time_ms) => {
                    processing_ms += *time_ms;
                    *time_ms = processing_ms;
                }
                Step::Record { .. } | Step::End => {}
            }
        }
        steps
    })
}
