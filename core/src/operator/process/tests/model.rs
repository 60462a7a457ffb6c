//! What the interpreter should see: maps and sets without slots, columns, buckets or slices.

use std::collections::BTreeMap;

use crate::data::key::Key;
use crate::data::row::NO_EVENT_TIME;
use crate::operator::process::tests::script::{Act, Order, TTL_MS, TtlChoice, acts_of_timer};
use crate::prelude::*;
use crate::testing::Step;

/// An entry of a state, and when it was last written (ms).
type Entry<V> = (V, i64);

#[derive(Debug, Clone, Default)]
struct States {
    value: Option<Entry<i64>>,
    list: Vec<Entry<i64>>,
    map: BTreeMap<u8, Entry<i64>>,
    sum: Option<Entry<i64>>,
    mean: Option<Entry<(i64, i64)>>,
    /// How far event time has come for the key, ms.
    clock_ms: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Model {
    ttl: TtlChoice,
    states: BTreeMap<u8, States>,
    /// By time and hash: the key, and whether it waits for the next time that the watermark (or
    /// processing time) rises.
    event_timers: BTreeMap<(i64, u64), (u8, bool)>,
    processing_timers: BTreeMap<(i64, u64), (u8, bool)>,
    watermark_ms: i64,
    /// Up to where timers have fired, ms.
    processing_horizon_ms: i64,
    processing_ms: i64,
}

/// What time it is for one call.
#[derive(Debug, Clone, Copy)]
struct Now {
    stamp_ms: i64,
    clock_ms: i64,
    firing: Option<TimerKind>,
}

impl Model {
    pub(super) fn new(ttl: TtlChoice, processing_ms: i64) -> Self {
        Self {
            ttl,
            states: BTreeMap::new(),
            event_timers: BTreeMap::new(),
            processing_timers: BTreeMap::new(),
            watermark_ms: NO_EVENT_TIME,
            processing_horizon_ms: NO_EVENT_TIME,
            processing_ms,
        }
    }

    /// What comes out.
    pub(super) fn step(&mut self, step: &Step<Order>) -> Vec<String> {
        let mut out = Vec::new();
        match step {
            Step::Record { value: Order { key, act }, event_time_ms } => {
                let stamp_ms = (*event_time_ms).max(self.watermark_ms);
                let now = self.now(*key, stamp_ms, self.watermark_ms, None);
                if *act == Act::Show {
                    out.push(self.show(*key, now));
                }
                self.act(*key, act, now);
            }
            Step::Watermark(watermark_ms) if self.watermark_ms < *watermark_ms => {
                self.watermark_ms = *watermark_ms;
                self.event_timers.values_mut().for_each(|(_, is_late)| *is_late = false);
                self.fire(TimerKind::Event, &mut out);
            }
            Step::ProcessingTime(time_ms) => {
                self.processing_ms = *time_ms;
                while self.processing_timers.keys().any(|(due_ms, _)| due_ms <= time_ms) {
                    self.processing_horizon_ms = *time_ms;
                    self.processing_timers.values_mut().for_each(|(_, late)| *late = false);
                    self.fire(TimerKind::Processing, &mut out);
                }
            }
            Step::Watermark(_) | Step::End => {}
        }
        out
    }

    fn now(&mut self, key: u8, stamp_ms: i64, clock_ms: i64, firing: Option<TimerKind>) -> Now {
        let clock = &mut self.states.entry(key).or_default().clock_ms;
        let event_clock_ms = clock_ms.max(clock.unwrap_or(NO_EVENT_TIME));
        *clock = Some(event_clock_ms);
        let event_stamp_ms = stamp_ms.max(event_clock_ms);
        match self.ttl {
            TtlChoice::Processing { .. } => {
                Now { stamp_ms: self.processing_ms, clock_ms: self.processing_ms, firing }
            }
            _ => Now { stamp_ms: event_stamp_ms, clock_ms: event_clock_ms, firing },
        }
    }

    fn fire(&mut self, kind: TimerKind, out: &mut Vec<String>) {
        loop {
            let (timers, horizon_ms) = match kind {
                TimerKind::Event => (&mut self.event_timers, self.watermark_ms),
                TimerKind::Processing => (&mut self.processing_timers, self.processing_horizon_ms),
            };
            let due = timers.iter().find(|((ms, _), (_, late))| *ms <= horizon_ms && !late);
            let Some((&order, &(key, _))) = due else { return };
            timers.remove(&order);
            let timer = FiredTimer { time_ms: order.0, kind };
            let now = match kind {
                TimerKind::Event => self.now(key, order.0, order.0, Some(kind)),
                TimerKind::Processing => {
                    self.now(key, self.watermark_ms, self.watermark_ms, Some(kind))
                }
            };
            out.push(format!("{kind:?} {}: {}", timer.time_ms, self.show(key, now)));
            for act in acts_of_timer(timer) {
                self.act(key, &act, now);
            }
        }
    }

    fn show(&mut self, key: u8, now: Now) -> String {
        let ttl = self.ttl;
        let states = self.states.entry(key).or_default();
        forget_expired(states, ttl, now);
        if ttl.is_refreshed_on_read() {
            refresh(states, now);
        }
        let list: Vec<i64> = states.list.iter().map(|(value, _)| *value).collect();
        let map: Vec<(u8, i64)> = states.map.iter().map(|(k, (v, _))| (*k, *v)).collect();
        let value = states.value.map(|(value, _)| value);
        let sum = states.sum.map(|(sum, _)| sum);
        let mean = states.mean.map(|((sum, count), _)| sum / count);
        format!("{key} {value:?} {list:?} {map:?} {sum:?} {mean:?}")
    }

    fn act(&mut self, key: u8, act: &Act, now: Now) {
        let states = self.states.entry(key).or_default();
        forget_expired(states, self.ttl, now);
        let stamp_ms = now.stamp_ms;
        match act {
            Act::ValueSet(value) => {
                fold(&mut states.value, 0, stamp_ms, |state| *state = *value);
            }
            Act::ValueAdd(value) => {
                fold(&mut states.value, 0, stamp_ms, |state| *state += *value);
            }
            Act::ValueAddIfThere(value) if states.value.is_some() => {
                fold(&mut states.value, 0, stamp_ms, |state| *state += *value);
            }
            Act::ValueTake => states.value = None,
            Act::ListAppend(value) => states.list.push((*value, stamp_ms)),
            Act::ListReplace(values) => {
                states.list = values.iter().map(|value| (*value, stamp_ms)).collect();
            }
            Act::ListClear => states.list.clear(),
            Act::MapPut(map_key, value) => {
                let entry = states.map.entry(*map_key).or_insert((0, stamp_ms));
                *entry = (*value, entry.1.max(stamp_ms));
            }
            Act::MapAdd(map_key, value) => {
                let entry = states.map.entry(*map_key).or_insert((0, stamp_ms));
                *entry = (entry.0 + value, entry.1.max(stamp_ms));
            }
            Act::MapAddIfThere(map_key, value) => {
                if let Some(entry) = states.map.get_mut(map_key) {
                    *entry = (entry.0 + value, entry.1.max(stamp_ms));
                }
            }
            Act::MapRemove(map_key) => {
                states.map.remove(map_key);
            }
            Act::MapClear => states.map.clear(),
            Act::SumAdd(value) => fold(&mut states.sum, 0, stamp_ms, |sum| *sum += *value),
            Act::SumClear => states.sum = None,
            Act::MeanAdd(value) => {
                fold(&mut states.mean, (0, 0), stamp_ms, |mean| {
                    *mean = (mean.0 + *value, mean.1 + 1);
                });
            }
            Act::MeanClear => states.mean = None,
            Act::RegisterEvent(time_ms) => {
                let is_late = *time_ms <= self.watermark_ms && now.firing != Some(TimerKind::Event);
                let order = (*time_ms, key.hash64());
                self.event_timers.entry(order).or_insert((key, is_late));
            }
            Act::DeleteEvent(time_ms) => {
                self.event_timers.remove(&(*time_ms, key.hash64()));
            }
            Act::RegisterProcessing(time_ms) => {
                let is_late = *time_ms <= self.processing_horizon_ms
                    && now.firing != Some(TimerKind::Processing);
                let order = (*time_ms, key.hash64());
                self.processing_timers.entry(order).or_insert((key, is_late));
            }
            Act::DeleteProcessing(time_ms) => {
                self.processing_timers.remove(&(*time_ms, key.hash64()));
            }
            Act::ValueAddIfThere(_) | Act::Show => {}
        }
    }
}

fn fold<V>(state: &mut Option<Entry<V>>, empty: V, stamp_ms: i64, change: impl FnOnce(&mut V)) {
    let (value, written_ms) = state.get_or_insert((empty, stamp_ms));
    change(value);
    *written_ms = stamp_ms.max(*written_ms);
}

fn forget_expired(states: &mut States, ttl: TtlChoice, now: Now) {
    let is_alive = |written_ms: i64| {
        ttl == TtlChoice::None || now.clock_ms < written_ms.saturating_add(TTL_MS)
    };
    states.value = states.value.filter(|entry| is_alive(entry.1));
    states.list.retain(|entry| is_alive(entry.1));
    states.map.retain(|_, entry| is_alive(entry.1));
    states.sum = states.sum.filter(|entry| is_alive(entry.1));
    states.mean = states.mean.filter(|entry| is_alive(entry.1));
}

fn refresh(states: &mut States, now: Now) {
    let refresh = |written_ms: &mut i64| *written_ms = now.stamp_ms.max(*written_ms);
    states.value.iter_mut().for_each(|entry| refresh(&mut entry.1));
    states.list.iter_mut().for_each(|entry| refresh(&mut entry.1));
    states.map.values_mut().for_each(|entry| refresh(&mut entry.1));
    states.sum.iter_mut().for_each(|entry| refresh(&mut entry.1));
    states.mean.iter_mut().for_each(|entry| refresh(&mut entry.1));
}
