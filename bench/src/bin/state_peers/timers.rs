//! Timers: registered, then the first one fires and is registered again.

use std::collections::BTreeSet;

use millstream::data::key::Key;
use millstream::data::slot::Slot;
use millstream::time::timer::{Registrant, TimerQueue};
use millstream_bench::mix;
use millstream_bench::table::{Gates, Line, Table};
use millstream_bench::watch::Watch;

use crate::Options;
#[cfg(feature = "peers")]
use crate::rocks_timers::RocksTimers;

const PEERS: [&str; 2] = ["BTreeSet", "RocksDB"];

const REGISTER: Gates = Gates { time_at_most: Some(0.13), speed_at_least: Some(14.0) };
const POP: Gates = Gates { time_at_most: Some(0.6), speed_at_least: Some(35.0) };

/// RocksDB pops so many times fewer in a round.
const SLOWER: usize = 20;

const HOUR_MS: u64 = 3_600_000;

/// When, for whom: the hash of a key, and its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) time_ms: i64,
    pub(crate) hash64: u64,
    pub(crate) slot: u32,
}

/// What holds timers.
pub(crate) trait Timers {
    /// Registers one that is not there.
    fn register(&mut self, timer: Timer);

    /// Takes the first one and registers another for its key, `delay_ms` later. Answers the time of
    /// the first.
    fn pop_and_register(&mut self, delay_ms: i64) -> i64;

    fn register_all(&mut self, timers: &[Timer]) {
        for timer in timers {
            self.register(*timer);
        }
    }

    /// Answers the sum of the times.
    fn pop_and_register_all(&mut self, delays_ms: &[i64]) -> i64 {
        delays_ms.iter().map(|delay_ms| self.pop_and_register(*delay_ms)).sum()
    }
}

impl Timers for BTreeSet<Timer> {
    fn register(&mut self, timer: Timer) {
        self.insert(timer);
    }

    fn pop_and_register(&mut self, delay_ms: i64) -> i64 {
        let first = self.pop_first().expect("one comes for each that goes");
        self.insert(Timer { time_ms: first.time_ms + delay_ms, ..first });
        first.time_ms
    }
}

/// The engine's queue, and the hashes of all keys: it wants to be told.
struct Queue {
    timers: TimerQueue,
    hashes: Vec<u64>,
    is_begun: bool,
}

impl Timers for Queue {
    fn register(&mut self, timer: Timer) {
        let Timer { time_ms, hash64, slot } = timer;
        self.timers.register(Slot(slot), hash64, time_ms, Registrant::Record);
    }

    fn pop_and_register(&mut self, delay_ms: i64) -> i64 {
        let (slot, time_ms) = self.timers.pop().expect("nothing was deleted or late");
        let hash64 = self.hashes[slot.0 as usize];
        self.timers.register(slot, hash64, time_ms + delay_ms, Registrant::Timer);
        time_ms
    }

    fn pop_and_register_all(&mut self, delays_ms: &[i64]) -> i64 {
        if !self.is_begun {
            self.is_begun = true;
            self.timers.begin(i64::MAX / 2);
        }
        delays_ms.iter().map(|delay_ms| self.pop_and_register(*delay_ms)).sum()
    }
}

/// Compares the queues with one timer for each of `timer_count` keys, over one hour.
pub(crate) fn compare(timer_count: u64, options: &Options) {
    let within_hour = |i| (mix(i) % HOUR_MS) as i64;
    let timer = |i| Timer { time_ms: within_hour(i), hash64: u64::hash64(&i), slot: i as u32 };
    let timers: Vec<Timer> = (0..timer_count).map(timer).collect();
    let hashes = timers.iter().map(|timer| timer.hash64).collect();
    let queue = Queue { timers: TimerQueue::default(), hashes, is_begun: false };
    let mut sides: Vec<(&str, Box<dyn Timers>)> = vec![
        (PEERS[0], Box::new(BTreeSet::new())),
        ("TimerQueue", Box::new(queue)),
        #[cfg(feature = "peers")]
        (PEERS[1], Box::new(RocksTimers::new(&options.directory))),
    ];
    let lines = |gates| sides.iter().map(|(name, _)| Line::new(*name, gates)).collect();
    let (mut registered, mut popped): (Vec<Line>, Vec<Line>) = (lines(REGISTER), lines(POP));
    for timers in timers.chunks(timers.len().div_ceil(options.rounds)) {
        for ((_, side), line) in sides.iter_mut().zip(&mut registered) {
            let watch = Watch::start();
            side.register_all(timers);
            line.ns.push(watch.ns() / timers.len() as f64);
        }
    }
    for round in 0..options.rounds {
        let from = (round * options.operations) as u64;
        let delays_ms: Vec<i64> =
            (from..from + options.operations as u64).map(|i| 1 + within_hour(!i)).collect();
        let mut sums = Vec::new();
        for ((name, side), line) in sides.iter_mut().zip(&mut popped) {
            let is_slow = *name == PEERS[1];
            let count = if is_slow { delays_ms.len() / SLOWER } else { delays_ms.len() };
            let watch = Watch::start();
            let sum = side.pop_and_register_all(&delays_ms[..count]);
            line.ns.push(watch.ns() / count as f64);
            sums.extend((!is_slow).then_some(sum));
        }
        assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "all popped the same timers");
    }
    for (title, lines) in [("registered", registered), ("popped and registered", popped)] {
        let title = format!("timers, one for each of {timer_count} keys over one hour, {title}");
        crate::print(Table { title, lines: &lines, peers: PEERS });
    }
}
