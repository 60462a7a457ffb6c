//! [`TimerQueue`]: the timers of all keys of a task, of one kind of time.
//!
//! ```text
//! register / delete ──► timers of the key (by slot) ──first of them──► agenda, by (time, hash)
//! begin(horizon)        fires in the agenda's order, in slices ...
//! pop_of(key)           ... and the timers of one key out of turn, before a record of that key
//! ```
//!
//! As in Flink: a timer is a time and a key, registering it twice is registering it once. A timer
//! that a *record* registers at or before the horizon (the watermark that was reached) fires when
//! the horizon rises next; one that a firing timer registers there fires in the same go.
//!
//! So what a key sees does not depend on slices: all its due timers fire before its next record,
//! and a record's own registrations wait for the next horizon, whether the firing of other keys'
//! timers has finished by then or not.
//!
//! Cost: registering, deleting and popping touch one element by slot and, for the first timer of a
//! key, the agenda; `bench/src/bin/state_peers/timers.rs` measures it beside an ordered set.

mod agenda;
mod key_timers;
#[cfg(test)]
mod tests;

use crate::data::row::NO_EVENT_TIME;
use crate::data::slot::{Pages, Slot};
use agenda::{Agenda, Alarm};
use key_timers::{KeyTimers, Mark};

/// Who registers a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registrant {
    /// A record, or a timer of the other kind of time.
    Record,
    /// A timer of this queue that is firing.
    Timer,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct TimerQueue {
    keys: Pages<KeyEntry>,
    agenda: Agenda,
    /// Timers up to this time (ms) are due.
    horizon_ms: i64,
    /// How often the horizon was set.
    advance: u32,
    /// Alarms at or before the horizon that wait for the next one.
    late: Vec<Alarm>,
    /// Those of earlier horizons, on their way into the agenda.
    joining: Vec<Vec<Alarm>>,
    /// Slots of which nothing is left but what a pop has just removed.
    emptied: Vec<Slot>,
    timer_count: usize,
}

#[derive(Debug, Clone, Default)]
struct KeyEntry {
    timers: KeyTimers,
    /// The advance in which a record of this key registered timers at or before the horizon. Then
    /// all its timers there are of that kind, because those that were due fired before the record.
    late_advance: u32,
}

/// How far a queue had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    horizon_ms: i64,
    advance: u32,
}

/// Alarms that join the agenda in one step of [`TimerQueue::pop`].
const JOIN_LEN: usize = 64;

impl Default for TimerQueue {
    fn default() -> Self {
        Self {
            keys: Pages::default(),
            agenda: Agenda::default(),
            horizon_ms: NO_EVENT_TIME,
            advance: 1,
            late: Vec::new(),
            joining: Vec::new(),
            emptied: Vec::new(),
            timer_count: 0,
        }
    }
}

impl TimerQueue {
    /// How many timers there are.
    pub fn len(&self) -> usize {
        self.timer_count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timer_count == 0
    }

    /// Timers up to this time (ms) are due.
    pub fn horizon_ms(&self) -> i64 {
        self.horizon_ms
    }

    /// Registers a timer. `false` if the key has one at that time already.
    pub fn register(&mut self, slot: Slot, hash64: u64, time_ms: i64, by: Registrant) -> bool {
        if time_ms <= self.horizon_ms && by == Registrant::Record {
            self.keys.get_mut(slot).late_advance = self.advance;
        }
        self.insert(slot, hash64, time_ms)
    }

    /// Registers a timer of a snapshot; `is_late` as [`TimerQueue::timers_of`] gave it. The horizon
    /// has been restored before.
    pub fn restore(&mut self, slot: Slot, hash64: u64, time_ms: i64, is_late: bool) {
        let by = if is_late { Registrant::Record } else { Registrant::Timer };
        self.register(slot, hash64, time_ms, by);
    }

    /// Sets the horizon of a snapshot, before its timers are restored.
    pub fn restore_horizon(&mut self, horizon_ms: i64) {
        assert!(self.is_empty(), "the horizon comes before the timers");
        self.horizon_ms = horizon_ms;
    }

    /// Deletes a timer. `false` if the key has none at that time.
    pub fn delete(&mut self, slot: Slot, time_ms: i64) -> bool {
        let timers = &mut self.keys.get_mut(slot).timers;
        match timers.get(time_ms) {
            None | Some(Mark::Alarm) => return false,
            Some(Mark::Both) => timers.set(time_ms, Mark::Alarm),
            Some(Mark::Timer) => timers.remove(time_ms),
        }
        self.timer_count -= 1;
        true
    }

    /// Makes everything up to `horizon_ms` due, what records registered late included.
    ///
    /// # Panics
    /// If the horizon sinks.
    pub fn begin(&mut self, horizon_ms: i64) {
        assert!(self.horizon_ms <= horizon_ms, "{horizon_ms} is before {}", self.horizon_ms);
        self.horizon_ms = horizon_ms;
        self.advance = self.advance.wrapping_add(1).max(1);
        if !self.late.is_empty() {
            self.joining.push(std::mem::take(&mut self.late));
        }
    }

    /// Whether [`TimerQueue::pop`] has something to do.
    #[inline]
    pub fn has_due(&self) -> bool {
        !self.joining.is_empty()
            || self.agenda.first().is_some_and(|alarm| alarm.time_ms <= self.horizon_ms)
    }

    /// The key, by slot and hash, of the alarm that [`TimerQueue::pop`] will come to `count` alarms
    /// after the next, if that is known: a hint, for what will be read then.
    #[inline]
    pub fn ahead(&self, count: usize) -> Option<(Slot, u64)> {
        self.agenda.ahead(count).map(|alarm| (alarm.slot, alarm.hash64))
    }

    /// One step: the next due timer, by time, then hash; or nothing, if it took bookkeeping to get
    /// closer to it. Every step takes about the same short time.
    pub fn pop(&mut self) -> Option<(Slot, i64)> {
        if let Some(joining) = self.joining.last_mut() {
            let from = joining.len().saturating_sub(JOIN_LEN);
            joining.drain(from..).for_each(|alarm| self.agenda.push(alarm));
            if joining.is_empty() {
                self.joining.pop();
            }
            return None;
        }
        if !self.has_due() {
            return None;
        }
        let alarm = self.agenda.pop()?;
        let entry = self.keys.get_mut(alarm.slot);
        match entry.timers.get(alarm.time_ms) {
            Some(Mark::Both) if entry.late_advance == self.advance => {
                self.late.push(alarm);
                None
            }
            Some(Mark::Both) => {
                self.timer_count -= 1;
                self.remove_first(alarm);
                Some((alarm.slot, alarm.time_ms))
            }
            Some(Mark::Alarm) => {
                if self.remove_first(alarm) {
                    self.emptied.push(alarm.slot);
                }
                None
            }
            other => unreachable!("{alarm:?} rang and there is {other:?}"),
        }
    }

    /// The slot of the key whose timer, or leftover alarm, [`TimerQueue::pop`] will come to next.
    #[inline]
    pub fn next_due(&self) -> Option<Slot> {
        let first = self.agenda.first().filter(|_| self.joining.is_empty())?;
        (first.time_ms <= self.horizon_ms).then_some(first.slot)
    }

    /// The next due timer of one key, out of turn, unless it is of a time after `until_ms`.
    pub fn pop_of(&mut self, slot: Slot, until_ms: i64) -> Option<i64> {
        let entry = self.keys.get_mut(slot);
        if entry.late_advance == self.advance {
            return None;
        }
        let (time_ms, mark) = entry.timers.first_due(self.horizon_ms.min(until_ms))?;
        match mark {
            Mark::Both => entry.timers.set(time_ms, Mark::Alarm),
            Mark::Timer | Mark::Alarm => entry.timers.remove(time_ms),
        }
        self.timer_count -= 1;
        Some(time_ms)
    }

    /// Whether the key's slot may become another key's. A key without timers takes its leftover
    /// alarms with it, but for those that are about to ring: after that the slot is in
    /// [`TimerQueue::take_emptied`].
    pub fn settle(&mut self, slot: Slot, hash64: u64) -> bool {
        let Some(entry) = self.keys.get(slot) else { return true };
        if entry.timers.is_empty() {
            return true;
        }
        if entry.timers.iter().any(|(_, mark)| mark.is_timer()) {
            return false;
        }
        let timers = &mut self.keys.get_mut(slot).timers;
        while let Some(time_ms) = timers.first_after(self.horizon_ms) {
            let was_there = self.agenda.remove(Alarm { time_ms, hash64, slot });
            assert!(was_there, "the alarm at {time_ms} of {slot:?} is not in the agenda");
            timers.remove(time_ms);
        }
        timers.is_empty()
    }

    /// A slot that has come to have neither timers nor alarms by a [`TimerQueue::pop`], unless it
    /// got some since.
    pub fn take_emptied(&mut self) -> Option<Slot> {
        self.emptied.pop()
    }

    /// The earliest time (ms) at which a firing would find something to do.
    pub fn next_time_ms(&self) -> Option<i64> {
        if !self.late.is_empty() || !self.joining.is_empty() {
            return Some(self.horizon_ms);
        }
        self.agenda.first().map(|alarm| alarm.time_ms)
    }

    /// The timers of one key, ascending, and whether each waits for the next horizon although it
    /// is not after the present one.
    pub fn timers_of(&self, slot: Slot) -> impl Iterator<Item = (i64, bool)> {
        self.timers_at(slot, self.moment())
    }

    /// Now, as far as it matters to timers.
    pub fn moment(&self) -> Moment {
        Moment { horizon_ms: self.horizon_ms, advance: self.advance }
    }

    /// As [`TimerQueue::timers_of`], of a key that has not changed since `moment`, as it was then.
    pub fn timers_at(&self, slot: Slot, moment: Moment) -> impl Iterator<Item = (i64, bool)> {
        let entry = self.keys.get(slot);
        entry.into_iter().flat_map(move |entry| {
            let is_late = entry.late_advance == moment.advance;
            let timers = entry.timers.iter().filter(|(_, mark)| mark.is_timer());
            timers.map(move |(time_ms, _)| (time_ms, is_late && time_ms <= moment.horizon_ms))
        })
    }

    /// Asks for what the next calls for `slot` will read.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        self.keys.prefetch(slot);
    }

    fn insert(&mut self, slot: Slot, hash64: u64, time_ms: i64) -> bool {
        let timers = &mut self.keys.get_mut(slot).timers;
        match timers.get(time_ms) {
            Some(Mark::Timer | Mark::Both) => return false,
            Some(Mark::Alarm) => timers.set(time_ms, Mark::Both),
            None if timers.first().is_some_and(|(first_ms, _)| first_ms < time_ms) => {
                timers.set(time_ms, Mark::Timer);
            }
            None => {
                timers.set(time_ms, Mark::Both);
                self.set_alarm(Alarm { time_ms, hash64, slot });
            }
        }
        self.timer_count += 1;
        true
    }

    /// Removes the entry whose alarm rang, and sets the alarm of the one behind it. Answers whether
    /// nothing is left.
    fn remove_first(&mut self, alarm: Alarm) -> bool {
        let timers = &mut self.keys.get_mut(alarm.slot).timers;
        timers.remove(alarm.time_ms);
        match timers.first() {
            None => return true,
            Some((_, Mark::Both | Mark::Alarm)) => {}
            Some((time_ms, Mark::Timer)) => {
                timers.set(time_ms, Mark::Both);
                self.set_alarm(Alarm { time_ms, ..alarm });
            }
        }
        false
    }

    fn set_alarm(&mut self, alarm: Alarm) {
        let is_late = alarm.time_ms <= self.horizon_ms
            && self.keys.get(alarm.slot).is_some_and(|key| key.late_advance == self.advance);
        if is_late { self.late.push(alarm) } else { self.agenda.push(alarm) }
    }
}
