//! Which keys are due when, for operators with at most one time per key and few distinct times.
//!
//! ```text
//! 10:00:01 ──► slots 4 17 2 9 …      all keys with a window that ends then, in the order in which
//! 10:00:02 ──► slots 3               they were put there
//! ```
//!
//! Nothing is ever removed: an entry counts only if the key still says that it is due at that time,
//! and a key that became due earlier has been put there as well. Compared with an ordered set of
//! (time, key) this costs a push where that costs a search.
//!
//! Not here: timers with many distinct times (`time/timer.rs`).

use std::collections::BTreeMap;

use crate::data::slot::Slot;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(in crate::operator) struct Agenda {
    buckets: BTreeMap<i64, Vec<Slot>>,
    /// The bucket that was last begun by a push, with its time: nearly all pushes go there.
    hot: Vec<Slot>,
    hot_ms: i64,
    /// The bucket being worked off, with its time and how much is done.
    current: Vec<Slot>,
    current_ms: i64,
    done: usize,
}

impl Agenda {
    /// `slot` is due at `time_ms`.
    #[inline]
    pub(in crate::operator) fn push(&mut self, time_ms: i64, slot: Slot) {
        if time_ms != self.hot_ms || self.hot.is_empty() {
            self.heat(time_ms);
        }
        self.hot.push(slot);
    }

    /// Makes the bucket of `time_ms` the hot one.
    fn heat(&mut self, time_ms: i64) {
        let next = self.buckets.remove(&time_ms).unwrap_or_default();
        let before = std::mem::replace(&mut self.hot, next);
        if !before.is_empty() {
            self.buckets.insert(self.hot_ms, before);
        }
        self.hot_ms = time_ms;
    }

    /// The next entry at or before `until_ms`, by time. It stays until [`Agenda::pop`].
    #[inline]
    pub(in crate::operator) fn first(&mut self, until_ms: i64) -> Option<(i64, Slot)> {
        loop {
            if let Some(slot) = self.current.get(self.done) {
                return Some((self.current_ms, *slot));
            }
            self.next_bucket_ms().filter(|time_ms| *time_ms <= until_ms)?;
            self.current.clear();
            self.done = 0;
            if self.is_hot_next() {
                std::mem::swap(&mut self.current, &mut self.hot);
                self.current_ms = self.hot_ms;
            } else {
                let (time_ms, bucket) = self.buckets.pop_first().expect("there is a next one");
                (self.current_ms, self.current) = (time_ms, bucket);
            }
        }
    }

    /// The entry `count` behind the one that [`Agenda::first`] answered, if it is of the same time.
    #[inline]
    pub(in crate::operator) fn ahead(&self, count: usize) -> Option<Slot> {
        self.current.get(self.done + count).copied()
    }

    /// Removes what [`Agenda::first`] answered.
    #[inline]
    pub(in crate::operator) fn pop(&mut self) {
        self.done += 1;
    }

    /// The time (ms) of the next entry.
    pub(in crate::operator) fn next_ms(&self) -> Option<i64> {
        match self.current.get(self.done) {
            Some(_) => Some(self.current_ms),
            None => self.next_bucket_ms(),
        }
    }

    fn next_bucket_ms(&self) -> Option<i64> {
        let cold_ms = self.buckets.first_key_value().map(|(time_ms, _)| *time_ms);
        let hot_ms = (!self.hot.is_empty()).then_some(self.hot_ms);
        cold_ms.into_iter().chain(hot_ms).min()
    }

    /// Whether the hot bucket is the next one.
    fn is_hot_next(&self) -> bool {
        let is_first = |(time_ms, _): (&i64, _)| self.hot_ms < *time_ms;
        !self.hot.is_empty() && self.buckets.first_key_value().is_none_or(is_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_by_time_and_in_their_order() {
        let mut agenda = Agenda::default();
        for (time_ms, slot) in [(20, 1), (10, 5), (20, 0), (10, 2)] {
            agenda.push(time_ms, Slot(slot));
        }
        assert_eq!(agenda.next_ms(), Some(10));
        assert_eq!(agenda.first(15), Some((10, Slot(5))));
        assert_eq!((agenda.ahead(1), agenda.ahead(2)), (Some(Slot(2)), None));
        let mut seen = Vec::new();
        while let Some((time_ms, slot)) = agenda.first(15) {
            seen.push((time_ms, slot.0));
            agenda.pop();
        }
        assert_eq!(seen, [(10, 5), (10, 2)]);
        assert_eq!(agenda.next_ms(), Some(20));
        assert_eq!(agenda.first(20), Some((20, Slot(1))), "and not before its time");
    }
}
