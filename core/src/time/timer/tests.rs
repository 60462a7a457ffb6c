//! The queue against an ordered set of timers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SLOTS: u32 = 12;

#[derive(Debug, Clone, Copy)]
enum Op {
    /// A record of the key: its due timers fire, then it registers one.
    Record(u32, i64),
    /// The key's timer callback registers one.
    FromTimer(u32, i64),
    Delete(u32, i64),
    Begin(i64),
    Pop,
    Settle(u32),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let slot = 0..SLOTS;
    let op = prop_oneof![
        4 => (slot.clone(), 0_i64..60).prop_map(|(slot, time)| Op::Record(slot, time)),
        1 => (slot.clone(), 0_i64..60).prop_map(|(slot, time)| Op::FromTimer(slot, time)),
        3 => (slot.clone(), 0_i64..60).prop_map(|(slot, time)| Op::Delete(slot, time)),
        1 => (0_i64..4).prop_map(Op::Begin),
        4 => Just(Op::Pop),
        2 => slot.prop_map(Op::Settle),
    ];
    prop::collection::vec(op, 0..400)
}

/// Timers by (time, hash, slot), and the advance that each waits out.
#[derive(Debug, Default)]
struct Model {
    timers: BTreeMap<(i64, u64, Slot), Option<u32>>,
    horizon_ms: i64,
    advance: u32,
}

impl Model {
    fn pop(&mut self, of: Option<Slot>) -> Option<(Slot, i64)> {
        let due = self.timers.iter().find(|((time_ms, _, slot), late)| {
            *time_ms <= self.horizon_ms
                && **late != Some(self.advance)
                && of.is_none_or(|of| of == *slot)
        });
        let key = *due?.0;
        self.timers.remove(&key);
        Some((key.2, key.0))
    }

    fn register(&mut self, slot: Slot, hash64: u64, time_ms: i64, by: Registrant) -> bool {
        let is_late = by == Registrant::Record && time_ms <= self.horizon_ms;
        if self.timers.contains_key(&(time_ms, hash64, slot)) {
            return false;
        }
        self.timers.insert((time_ms, hash64, slot), is_late.then_some(self.advance));
        true
    }

    fn has_timers(&self, slot: Slot) -> bool {
        self.timers.keys().any(|(_, _, s)| *s == slot)
    }
}

fn pop(queue: &mut TimerQueue) -> Option<(Slot, i64)> {
    while queue.has_due() {
        if let Some(popped) = queue.pop() {
            return Some(popped);
        }
    }
    None
}

proptest! {
    /// Timers fire in the model's order, each once, late ones at the next horizon; deleted ones
    /// never; a slot that settles has none.
    #[test]
    fn a_queue_is_an_ordered_set(ops in ops()) {
        let mut queue = TimerQueue::default();
        queue.restore_horizon(0);
        let mut model = Model { advance: 1, ..Model::default() };
        let mut hashes: Vec<u64> = (0..u64::from(SLOTS)).map(|i| i / 2 * 100).collect();
        for op in ops {
            match op {
                Op::Record(slot, time_ms) => {
                    let (hash64, slot) = (hashes[slot as usize], Slot(slot));
                    loop {
                        let fired = queue.pop_of(slot, i64::MAX);
                        prop_assert_eq!(fired, model.pop(Some(slot)).map(|(_, time)| time));
                        if fired.is_none() {
                            break;
                        }
                    }
                    let is_new = queue.register(slot, hash64, time_ms, Registrant::Record);
                    let expected = model.register(slot, hash64, time_ms, Registrant::Record);
                    prop_assert_eq!(is_new, expected);
                }
                Op::FromTimer(slot, time_ms) => {
                    let (hash64, slot) = (hashes[slot as usize], Slot(slot));
                    let entry = queue.keys.get(slot);
                    if entry.is_some_and(|entry| entry.late_advance == queue.advance) {
                        // After such a record of the key nothing of it fires in this advance.
                        continue;
                    }
                    let is_new = queue.register(slot, hash64, time_ms, Registrant::Timer);
                    let expected = model.register(slot, hash64, time_ms, Registrant::Timer);
                    prop_assert_eq!(is_new, expected);
                }
                Op::Delete(slot, time_ms) => {
                    let (hash64, slot) = (hashes[slot as usize], Slot(slot));
                    let was_there = model.timers.remove(&(time_ms, hash64, slot)).is_some();
                    prop_assert_eq!(queue.delete(slot, time_ms), was_there);
                }
                Op::Begin(step_ms) => {
                    model.horizon_ms += step_ms;
                    model.advance += 1;
                    queue.begin(model.horizon_ms);
                }
                Op::Pop => {
                    prop_assert_eq!(pop(&mut queue), model.pop(None));
                    while let Some(slot) = queue.take_emptied() {
                        prop_assert!(!model.has_timers(slot));
                        prop_assert!(queue.settle(slot, hashes[slot.0 as usize]));
                    }
                }
                Op::Settle(slot) => {
                    let hash64 = &mut hashes[slot as usize];
                    if queue.settle(Slot(slot), *hash64) {
                        prop_assert!(!model.has_timers(Slot(slot)));
                        *hash64 += 1;
                    } else {
                        let ringing = queue.keys.get(Slot(slot)).is_some_and(|key| {
                            key.timers.iter().any(|(time_ms, _)| time_ms <= queue.horizon_ms)
                        });
                        prop_assert!(ringing || model.has_timers(Slot(slot)));
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.timers.len());
        }
        model.horizon_ms = 100;
        model.advance += 1;
        queue.begin(100);
        loop {
            let popped = pop(&mut queue);
            prop_assert_eq!(popped, model.pop(None));
            if popped.is_none() {
                break;
            }
        }
        prop_assert!(queue.is_empty());
        prop_assert_eq!(queue.next_time_ms(), None);
    }
}

#[test]
fn a_timeout_that_moves_ahead_costs_one_alarm() {
    let mut queue = TimerQueue::default();
    for time_ms in 1_000..2_000 {
        queue.delete(Slot(0), time_ms - 1);
        assert!(queue.register(Slot(0), 7, time_ms, Registrant::Record));
    }
    assert_eq!(queue.len(), 1);
    queue.begin(1_998);
    assert_eq!(pop(&mut queue), None);
    queue.begin(1_999);
    assert_eq!(pop(&mut queue), Some((Slot(0), 1_999)));
    assert_eq!(queue.next_time_ms(), None);
}

#[test]
fn many_timers_of_one_key_need_one_alarm() {
    let mut queue = TimerQueue::default();
    for time_ms in 0..10_000 {
        queue.register(Slot(3), 7, time_ms, Registrant::Record);
    }
    queue.begin(9_999);
    let fired: Vec<i64> =
        std::iter::from_fn(|| pop(&mut queue)).map(|(_, time_ms)| time_ms).collect();
    assert_eq!(fired, (0..10_000).collect::<Vec<_>>());
    assert_eq!(queue.take_emptied(), None, "only leftover alarms are announced");
    assert!(queue.settle(Slot(3), 7));
}

#[test]
fn a_timer_at_the_end_of_time_fires_at_the_final_watermark() {
    let mut queue = TimerQueue::default();
    queue.register(Slot(0), 1, i64::MAX, Registrant::Record);
    queue.begin(i64::MAX - 1);
    assert_eq!(pop(&mut queue), None);
    queue.begin(i64::MAX);
    assert_eq!(pop(&mut queue), Some((Slot(0), i64::MAX)));
}
