//! Calls that block, in a simulation: each takes its time, and is made when it is due.
//!
//! ```text
//! submit ──► waiting, in order, each due behind the one before ──make_due──► FileDone
//!                        │
//!                  power goes: never made
//! ```
//!
//! All calls of a shard are in one queue, as if its operators had one thread: which calls of
//! different operators overtake each other is left to the times that are drawn between shards.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_storage::io::{FileDone, OpId};

use super::rng::Rng;
use crate::operator::blocking::BlockingCall;
use crate::shard::panic::catch;

/// A call takes at most this long.
const CALL_MAX: Duration = Duration::from_millis(2);

/// The calls of one shard.
#[derive(Debug)]
pub(super) struct Calls {
    waiting: VecDeque<(Duration, OpId, BlockingCall)>,
    rng: Rng,
}

impl Calls {
    /// None yet, of shard `shard`; `seed` decides how long they take.
    pub(super) fn new(seed: u64, shard: u32) -> Self {
        Self { waiting: VecDeque::new(), rng: Rng::new(seed).fork(3_000 + u64::from(shard)) }
    }

    /// `call` is to be made, behind those that wait.
    pub(super) fn submit(&mut self, now: Duration, op: OpId, call: BlockingCall) {
        let begins = self.waiting.back().map_or(now, |(due, ..)| *due);
        let due = begins + self.rng.duration(&(Duration::ZERO..CALL_MAX));
        self.waiting.push_back((due, op, call));
    }

    /// When the next is due, if one waits.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.waiting.front().map(|(due, ..)| *due)
    }

    /// Makes the next one, if it is due.
    pub(super) fn make_due(&mut self, now: Duration) -> Option<FileDone> {
        let (_, op, call) = self.waiting.pop_front_if(|(due, ..)| *due <= now)?;
        Some(call.make(op, catch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_made_in_order_and_not_before_they_are_due() {
        let mut calls = Calls::new(1, 0);
        for op in 0..3 {
            calls.submit(Duration::ZERO, OpId(op), BlockingCall::new("", || Ok(())));
        }
        let mut now = Duration::ZERO;
        for op in 0..3 {
            let due = calls.next_due().expect("it waits");
            assert!(now <= due && due <= CALL_MAX * 3);
            if now < due {
                assert!(calls.make_due(now).is_none());
            }
            now = due;
            assert_eq!(calls.make_due(now).map(|done| done.op), Some(OpId(op)));
        }
        assert_eq!(calls.next_due(), None);
    }
}
