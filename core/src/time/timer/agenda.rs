//! All alarms of a task in the order in which they go off, without a tree node per alarm.
//!
//! ```text
//! head  [ t9 t8 t7 t5 ]            sorted, the next one last: popping is `Vec::pop`
//! from (t10, h3)  ─► [ . . . . ]   unsorted, at most a thousand: appended to,
//! from (t10, h9)  ─► [ . . ]       split in two when full, sorted when it becomes the head
//! from (t31, h0)  ─► [ . . . ]
//! ```
//!
//! Buckets are bounded in the pair (time, hash), not in time alone: ten million alarms of one
//! millisecond spread over ten thousand buckets like any others. So the longest stall is one sort
//! or split of [`BUCKET_LEN_MAX`] alarms, whatever there is in the agenda (some 20 µs).
//!
//! Invariant: everything in the head is before everything in the first bucket, that before
//! everything in the second, ...; the head is empty only if everything is.

use std::collections::BTreeMap;

use crate::data::slot::Slot;

/// Alarms of a bucket, unless more than that have the same time and hash.
const BUCKET_LEN_MAX: usize = 1024;

/// One moment at which one key wants attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alarm {
    pub(super) time_ms: i64,
    pub(super) hash64: u64,
    pub(super) slot: Slot,
}

impl Alarm {
    fn order(&self) -> Order {
        (self.time_ms, self.hash64)
    }
}

type Order = (i64, u64);

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Agenda {
    /// Descending.
    head: Vec<Alarm>,
    /// Where the first bucket begins.
    head_end: Option<Order>,
    /// By the least order that may be in it.
    buckets: BTreeMap<Order, Vec<Alarm>>,
}

impl Agenda {
    /// The alarm that goes off first.
    #[inline]
    pub(super) fn first(&self) -> Option<&Alarm> {
        self.head.last()
    }

    /// The alarm that goes off `count` alarms later than the first, if it is in the head.
    #[inline]
    pub(super) fn ahead(&self, count: usize) -> Option<&Alarm> {
        self.head.get(self.head.len().checked_sub(count + 1)?)
    }

    /// Takes the alarm that goes off first.
    pub(super) fn pop(&mut self) -> Option<Alarm> {
        let alarm = self.head.pop()?;
        if self.head.is_empty() {
            self.refill();
        }
        Some(alarm)
    }

    pub(super) fn push(&mut self, alarm: Alarm) {
        let order = alarm.order();
        if self.head_end.is_none_or(|end| order < end) {
            self.push_into_head(alarm);
            return;
        }
        let (_, bucket) =
            self.buckets.range_mut(..=order).next_back().expect("the first bucket begins before");
        bucket.push(alarm);
        if BUCKET_LEN_MAX < bucket.len()
            && let Some((start, upper)) = split(bucket)
        {
            self.buckets.insert(start, upper);
        }
    }

    /// Takes one alarm out. `false` if it is not there.
    pub(super) fn remove(&mut self, alarm: Alarm) -> bool {
        if self.head_end.is_none_or(|end| alarm.order() < end) {
            let Ok(index) = self.head.binary_search_by(|other| alarm.cmp(other)) else {
                return false;
            };
            self.head.remove(index);
            if self.head.is_empty() {
                self.refill();
            }
            return true;
        }
        let (start, bucket) = self
            .buckets
            .range_mut(..=alarm.order())
            .next_back()
            .expect("the first bucket begins before");
        let Some(index) = bucket.iter().position(|other| *other == alarm) else { return false };
        bucket.swap_remove(index);
        if bucket.is_empty() {
            let start = *start;
            self.buckets.remove(&start);
            self.head_end = self.buckets.keys().next().copied();
        }
        true
    }

    fn push_into_head(&mut self, alarm: Alarm) {
        let index = self.head.partition_point(|other| alarm < *other);
        self.head.insert(index, alarm);
        if self.head.len() <= BUCKET_LEN_MAX {
            return;
        }
        let start = self.head[self.head.len() / 2].order();
        let index = self.head.partition_point(|other| start <= other.order());
        if index < self.head.len() {
            self.buckets.insert(start, self.head.drain(..index).collect());
            self.head_end = Some(start);
        }
    }

    /// Makes the first bucket the head.
    fn refill(&mut self) {
        if let Some((_, bucket)) = self.buckets.pop_first() {
            self.head = bucket;
            self.head.sort_unstable_by(|a, b| b.cmp(a));
            self.head_end = self.buckets.keys().next().copied();
        }
    }
}

/// Splits off the upper half, by order; `None` if all have the same.
fn split(bucket: &mut Vec<Alarm>) -> Option<(Order, Vec<Alarm>)> {
    let middle = bucket.len() / 2;
    let median = bucket.select_nth_unstable_by_key(middle, Alarm::order).1.order();
    let least = bucket.iter().map(Alarm::order).min()?;
    let greatest = bucket.iter().map(Alarm::order).max()?;
    let start = if least < median { median } else { next_order(least) };
    if greatest < start {
        return None;
    }
    let upper = bucket.extract_if(.., |alarm| start <= alarm.order()).collect();
    Some((start, upper))
}

/// The order right after `order`.
fn next_order((time_ms, hash64): Order) -> Order {
    match hash64.checked_add(1) {
        Some(hash64) => (time_ms, hash64),
        None => (time_ms.saturating_add(1), 0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Push(i64, u64),
        Remove(i64, u64),
        Pop,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            8 => (0_i64..40, 0_u64..200).prop_map(|(time, hash)| Op::Push(time, hash)),
            1 => (0_i64..40, 0_u64..200).prop_map(|(time, hash)| Op::Remove(time, hash)),
            2 => Just(Op::Pop),
        ];
        prop::collection::vec(op, 0..6_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Alarms come out as from an ordered set, whatever is pushed and removed in between.
        #[test]
        fn an_agenda_is_an_ordered_set(ops in ops()) {
            let mut agenda = Agenda::default();
            let mut model = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Push(time_ms, hash64) => {
                        let alarm = Alarm { time_ms, hash64, slot: Slot(hash64 as u32) };
                        if model.insert(alarm) {
                            agenda.push(alarm);
                        }
                    }
                    Op::Remove(time_ms, hash64) => {
                        let alarm = Alarm { time_ms, hash64, slot: Slot(hash64 as u32) };
                        prop_assert_eq!(agenda.remove(alarm), model.remove(&alarm));
                    }
                    Op::Pop => prop_assert_eq!(agenda.pop(), model.pop_first()),
                }
                prop_assert_eq!(agenda.first(), model.first());
                if let Some(alarm) = agenda.ahead(3) {
                    prop_assert_eq!(Some(alarm), model.iter().nth(3));
                }
            }
            let rest: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
            prop_assert_eq!(rest, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn alarms_of_one_moment_are_many_buckets() {
        let mut agenda = Agenda::default();
        for i in 0..50_000_u32 {
            let hash64 = u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            agenda.push(Alarm { time_ms: 5, hash64, slot: Slot(i) });
        }
        assert!(agenda.buckets.values().all(|bucket| bucket.len() <= BUCKET_LEN_MAX));
        assert!(agenda.buckets.len() < 50_000 / (BUCKET_LEN_MAX / 4));
        let popped: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert!(popped.is_sorted() && popped.len() == 50_000);
    }

    #[test]
    fn equal_orders_stay_together() {
        let mut agenda = Agenda::default();
        for time_ms in [9, 3, 9] {
            for i in 0..2_000 {
                agenda.push(Alarm { time_ms, hash64: 1, slot: Slot(i) });
            }
        }
        let popped: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert!(popped.is_sorted() && popped.len() == 6_000);
    }
}
