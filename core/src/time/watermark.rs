//! One watermark out of many: how far event time has come for a task with several inputs.
//!
//! ```text
//! channel 0  ──────W5──────────W9──►
//! channel 1  ──W3─────────W7───────►     combined: the smallest of those that are not idle
//! combined          3      5    7
//! ```
//!
//! Invariants: the combined watermark never decreases; a channel that has said nothing holds it
//! back, unless it is idle or has ended.

use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME};

/// Combines the watermarks of the input channels of one task.
#[derive(Debug, Clone)]
pub struct WatermarkCombiner {
    channels: Vec<Progress>,
    combined_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    watermark_ms: i64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Idle,
    Ended,
}

impl WatermarkCombiner {
    /// For `channel_count` channels, of which none has said anything.
    pub fn new(channel_count: usize) -> Self {
        let begun = Progress { watermark_ms: NO_EVENT_TIME, state: State::Active };
        Self { channels: vec![begun; channel_count], combined_ms: NO_EVENT_TIME }
    }

    /// `channel` has come to `watermark_ms`. Answers the combined watermark if it rose.
    pub fn on_watermark(&mut self, channel: usize, watermark_ms: i64) -> Option<i64> {
        let progress = &mut self.channels[channel];
        if progress.state == State::Idle {
            progress.state = State::Active;
        }
        progress.watermark_ms = progress.watermark_ms.max(watermark_ms);
        self.combine()
    }

    /// `channel` expects nothing for now. Answers the combined watermark if it rose.
    pub fn on_idle(&mut self, channel: usize) -> Option<i64> {
        if self.channels[channel].state == State::Active {
            self.channels[channel].state = State::Idle;
        }
        self.combine()
    }

    /// `channel` delivers again.
    pub fn on_active(&mut self, channel: usize) {
        if self.channels[channel].state == State::Idle {
            self.channels[channel].state = State::Active;
        }
    }

    /// `channel` will deliver nothing more. Answers the combined watermark if it rose; it is
    /// [`MAX_WATERMARK`] when all have ended.
    pub fn on_end(&mut self, channel: usize) -> Option<i64> {
        self.channels[channel].state = State::Ended;
        self.combine()
    }

    /// Whether no channel is expected to deliver anything for now, and some are expected to later.
    pub fn is_idle(&self) -> bool {
        let mut states = self.channels.iter().map(|channel| channel.state);
        states.clone().all(|state| state != State::Active)
            && states.any(|state| state == State::Idle)
    }

    /// The combined watermark (ms).
    pub fn combined_ms(&self) -> i64 {
        self.combined_ms
    }

    fn combine(&mut self) -> Option<i64> {
        let mut active = self.channels.iter().filter(|channel| channel.state == State::Active);
        let has_ended = self.channels.iter().all(|channel| channel.state == State::Ended);
        let smallest_ms = match active.next() {
            Some(first) => active.fold(first.watermark_ms, |least, c| least.min(c.watermark_ms)),
            None if has_ended => MAX_WATERMARK,
            // All idle: the largest they have promised holds for each of them.
            None => {
                let idle = self.channels.iter().filter(|channel| channel.state == State::Idle);
                idle.map(|channel| channel.watermark_ms).max().unwrap_or(NO_EVENT_TIME)
            }
        };
        let has_risen = self.combined_ms < smallest_ms;
        self.combined_ms = self.combined_ms.max(smallest_ms);
        has_risen.then_some(self.combined_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `script`: `1w5` watermark 5 on channel 1, `0i` idle, `0a` active, `0e` end.
    fn check(channel_count: usize, script: &str, expected: &str) {
        let mut combiner = WatermarkCombiner::new(channel_count);
        let step = |step: &str| {
            let channel = step[..1].parse().expect("a digit");
            let raised = match &step[1..2] {
                "w" => combiner.on_watermark(channel, step[2..].parse().expect("a number")),
                "i" => combiner.on_idle(channel),
                "e" => combiner.on_end(channel),
                _ => {
                    combiner.on_active(channel);
                    None
                }
            };
            match raised {
                Some(MAX_WATERMARK) => "max".to_string(),
                Some(watermark_ms) => watermark_ms.to_string(),
                None => "-".to_string(),
            }
        };
        let steps: Vec<_> = script.split(' ').map(step).collect();
        assert_eq!(steps.join(" "), expected);
    }

    #[test]
    fn the_slowest_channel_counts() {
        check(2, "0w5 1w3 1w7 0w9", "- 3 5 7");
    }

    #[test]
    fn an_idle_channel_does_not_hold_back() {
        check(2, "0w5 1i 0w6 1w3 0w8 1w7", "- 5 6 - - 7");
    }

    #[test]
    fn an_ended_channel_does_not_hold_back() {
        check(2, "0w5 1e 0w6 0e", "- 5 6 max");
    }

    #[test]
    fn all_idle_come_to_the_furthest_of_them() {
        check(2, "0w5 1w3 0i 1i", "- 3 - 5");
    }

    proptest! {
        /// The combined watermark never decreases, and never passes an active channel's own.
        #[test]
        fn no_promise_is_broken(
            steps in proptest::collection::vec((0_usize..3, -5_i64..50, 0_u8..8), 0..60),
        ) {
            let mut combiner = WatermarkCombiner::new(3);
            let mut own = [NO_EVENT_TIME; 3];
            let mut is_active = [true; 3];
            let mut last = NO_EVENT_TIME;
            for (channel, watermark_ms, kind) in steps {
                let raised = if kind == 0 {
                    is_active[channel] = false;
                    combiner.on_idle(channel)
                } else {
                    is_active[channel] = true;
                    own[channel] = own[channel].max(watermark_ms);
                    combiner.on_watermark(channel, watermark_ms)
                };
                if let Some(raised_ms) = raised {
                    prop_assert!(last < raised_ms);
                    last = raised_ms;
                    for (own_ms, is_active) in own.iter().zip(is_active) {
                        prop_assert!(!is_active || raised_ms <= *own_ms);
                    }
                }
                prop_assert_eq!(combiner.combined_ms(), last);
            }
        }
    }
}
