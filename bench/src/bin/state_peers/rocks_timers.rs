//! Timers in RocksDB as Flink keeps them: ordered by key group and time, with the first few of each
//! key group in memory as well.
//!
//! ```text
//! key groups by their first timer ──► heads: the first 128 of a key group, ordered
//!                                       │ empty ──► read the next ones, from the last that went
//!                                       ▼
//!                          [key group 2][time 8][hash 8][slot 4]
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use crate::keys::KEY_GROUP_COUNT;
use crate::rocks::Rocks;
use crate::timers::{Timer, Timers};

/// Most timers of a key group that are in memory.
const HEAD_LEN: usize = 128;

/// The first timers of a key group.
#[derive(Debug, Default, Clone)]
struct Head {
    timers: BTreeSet<Timer>,
    /// Where the database is to be read from.
    from: Option<Timer>,
    /// Whether the database has timers that are not in the head.
    has_more: bool,
}

/// See the head of the file.
pub(crate) struct RocksTimers {
    rocks: Rocks,
    heads: Vec<Head>,
    /// The first timer of every key group that has one.
    firsts: BTreeSet<(Timer, usize)>,
}

impl RocksTimers {
    pub(crate) fn new(directory: &Path) -> Self {
        let heads = vec![Head::default(); KEY_GROUP_COUNT as usize];
        Self { rocks: Rocks::new(directory), heads, firsts: BTreeSet::new() }
    }

    fn first_of(&self, group: usize) -> Option<(Timer, usize)> {
        self.heads[group].timers.first().map(|first| (*first, group))
    }

    /// Does `change` to a head, and keeps the order of heads.
    fn change(&mut self, group: usize, change: impl FnOnce(&mut Head, &mut Rocks)) {
        let before = self.first_of(group);
        change(&mut self.heads[group], &mut self.rocks);
        let after = self.first_of(group);
        if before != after {
            if let Some(first) = before {
                self.firsts.remove(&first);
            }
            self.firsts.extend(after);
        }
    }
}

impl Timers for RocksTimers {
    fn register(&mut self, timer: Timer) {
        self.change(group_of(timer), |head, rocks| {
            rocks.db.put(&stored(timer), &[]);
            let is_last = head.timers.last().is_none_or(|last| *last < timer);
            if is_last && (head.has_more || HEAD_LEN <= head.timers.len()) {
                head.has_more = true;
                return;
            }
            head.timers.insert(timer);
            if HEAD_LEN < head.timers.len() {
                head.timers.pop_last();
                head.has_more = true;
            }
        });
    }

    fn pop_and_register(&mut self, delay_ms: i64) -> i64 {
        let (first, group) = *self.firsts.first().expect("one comes for each that goes");
        self.change(group, |head, rocks| {
            head.timers.pop_first();
            rocks.db.remove(&stored(first));
            head.from = Some(first);
            if head.timers.is_empty() && head.has_more {
                head.fill(group, rocks);
            }
        });
        self.register(Timer { time_ms: first.time_ms + delay_ms, ..first });
        first.time_ms
    }
}

impl Head {
    /// Reads the next timers. What has gone is not read again: tombstones are slow to pass.
    fn fill(&mut self, group: usize, rocks: &Rocks) {
        let start = self.from.map(stored).unwrap_or_default();
        self.has_more = false;
        let timers = &mut self.timers;
        let has_more = &mut self.has_more;
        rocks.db.scan(&start, |key, _| {
            let (key_group, timer) = parts_of(key);
            if key_group != group {
                return false;
            }
            *has_more = timers.len() == HEAD_LEN;
            if !*has_more {
                timers.insert(timer);
            }
            !*has_more
        });
    }
}

fn group_of(timer: Timer) -> usize {
    ((u128::from(timer.hash64) * u128::from(KEY_GROUP_COUNT)) >> 64) as usize
}

fn stored(timer: Timer) -> [u8; 22] {
    let mut stored = [0; 22];
    stored[..2].copy_from_slice(&(group_of(timer) as u16).to_be_bytes());
    stored[2..10].copy_from_slice(&timer.time_ms.to_be_bytes());
    stored[10..18].copy_from_slice(&timer.hash64.to_be_bytes());
    stored[18..].copy_from_slice(&timer.slot.to_be_bytes());
    stored
}

/// The key group, and the timer.
fn parts_of(stored: &[u8]) -> (usize, Timer) {
    let stored: &[u8; 22] = stored.try_into().expect("only timers are there");
    let number = |from: usize, to: usize| {
        stored[from..to].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let timer = Timer {
        time_ms: number(2, 10) as i64,
        hash64: number(10, 18),
        slot: number(18, 22) as u32,
    };
    (number(0, 2) as usize, timer)
}
