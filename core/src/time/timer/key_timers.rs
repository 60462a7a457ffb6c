//! The timers of one key: three in place, more in a tree.
//!
//! Not every timer has an alarm in the agenda: one at or before the key's first timer is enough. So
//! a key that keeps moving its timeout ahead costs the agenda nothing.
//!
//! ```text
//! time      10        20        30
//! mark   alarm only  timer   timer with alarm     the first has an alarm, always
//! ```
//!
//! Invariant: every alarm of the key in the agenda has its entry here, and the first entry has one.

use std::collections::BTreeMap;

/// What there is at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A timer, which an earlier alarm will find.
    Timer,
    /// A timer and its alarm.
    Both,
    /// The alarm of a timer that was deleted or has fired.
    Alarm,
}

impl Mark {
    pub(super) fn is_timer(self) -> bool {
        self != Self::Alarm
    }
}

const FEW: usize = 3;

/// See the module.
#[derive(Debug, Clone)]
pub(super) enum KeyTimers {
    /// The first `count` elements count, ascending.
    Few {
        count: u8,
        marks: [Mark; FEW],
        times_ms: [i64; FEW],
    },
    Many(BTreeMap<i64, Mark>),
}

impl Default for KeyTimers {
    fn default() -> Self {
        Self::Few { count: 0, marks: [Mark::Timer; FEW], times_ms: [0; FEW] }
    }
}

impl KeyTimers {
    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    pub(super) fn first(&self) -> Option<(i64, Mark)> {
        self.iter().next()
    }

    /// The first timer at or before `horizon_ms`.
    pub(super) fn first_due(&self, horizon_ms: i64) -> Option<(i64, Mark)> {
        let mut due = self.iter().take_while(|(time_ms, _)| *time_ms <= horizon_ms);
        due.find(|(_, mark)| mark.is_timer())
    }

    /// The first entry after `horizon_ms`.
    pub(super) fn first_after(&self, horizon_ms: i64) -> Option<i64> {
        self.iter().map(|(time_ms, _)| time_ms).find(|time_ms| horizon_ms < *time_ms)
    }

    pub(super) fn get(&self, time_ms: i64) -> Option<Mark> {
        match self {
            Self::Few { .. } => {
                self.iter().find(|(time, _)| *time == time_ms).map(|(_, mark)| mark)
            }
            Self::Many(entries) => entries.get(&time_ms).copied(),
        }
    }

    /// Ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, Mark)> {
        let (times_ms, marks, entries) = match self {
            Self::Few { count, marks, times_ms } => {
                let count = usize::from(*count);
                (&times_ms[..count], &marks[..count], None)
            }
            Self::Many(entries) => (&[][..], &[][..], Some(entries.iter())),
        };
        let few = times_ms.iter().zip(marks);
        few.chain(entries.into_iter().flatten()).map(|(time_ms, mark)| (*time_ms, *mark))
    }

    /// Sets the mark of `time_ms`, whatever was there.
    pub(super) fn set(&mut self, time_ms: i64, mark: Mark) {
        match self {
            Self::Few { count, marks, times_ms } => {
                let len = usize::from(*count);
                let index = times_ms[..len].partition_point(|time| *time < time_ms);
                if index < len && times_ms[index] == time_ms {
                    marks[index] = mark;
                } else if len < FEW {
                    times_ms.copy_within(index..len, index + 1);
                    marks.copy_within(index..len, index + 1);
                    times_ms[index] = time_ms;
                    marks[index] = mark;
                    *count += 1;
                } else {
                    let mut entries: BTreeMap<i64, Mark> = self.iter().collect();
                    entries.insert(time_ms, mark);
                    *self = Self::Many(entries);
                }
            }
            Self::Many(entries) => {
                entries.insert(time_ms, mark);
            }
        }
    }

    /// Removes what there is at `time_ms`.
    pub(super) fn remove(&mut self, time_ms: i64) {
        match self {
            Self::Few { count, marks, times_ms } => {
                let len = usize::from(*count);
                let index = times_ms[..len].partition_point(|time| *time < time_ms);
                if index < len && times_ms[index] == time_ms {
                    times_ms.copy_within(index + 1..len, index);
                    marks.copy_within(index + 1..len, index);
                    *count -= 1;
                }
            }
            Self::Many(entries) => {
                entries.remove(&time_ms);
                if entries.is_empty() {
                    *self = Self::default();
                }
            }
        }
    }
}
