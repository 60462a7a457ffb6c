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
    /// The bucket being worked off, with its time and how much is done.
    current: Vec<Slot>,
    current_ms: i64,
    done: usize,
}

impl Agenda {
    /// `slot` is due at `time_ms`.
    #[inline]
    pub(in crate::operator) fn push(&mut self, time_ms: i64, slot: Slot) {
        self.buckets.entry(time_ms).or_default().push(slot);
    }

    /// The next entry at or before `until_ms`, by time. It stays until [`Agenda::pop`].
    #[inline]
    pub(in crate::operator) fn first(&mut self, until_ms: i64) -> Option<(i64, Slot)> {
        loop {
            if let Some(slot) = self.current.get(self.done) {
                return Some((self.current_ms, *slot));
            }
            let bucket = self.buckets.first_entry().filter(|bucket| *bucket.key() <= until_ms)?;
            (self.current_ms, self.current) = bucket.remove_entry();
            self.done = 0;
        }
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
            None => self.buckets.first_key_value().map(|(time_ms, _)| *time_ms),
        }
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
