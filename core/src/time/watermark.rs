//! Many watermarks become one: the minimum over everything that may still deliver.
//!
//! ```text
//! channel 0  active  ── 90 ──┐
//! channel 1  active  ── 70 ──┼──► 70
//! channel 2  idle       40   │        expects nothing for now, so it holds nothing back
//! channel 3  ended      50  ─┘        expects nothing ever
//! ```
//!
//! An active channel without a watermark holds everything back: nothing is known about it. A
//! channel at [`MAX_WATERMARK`] counts as ended. A watermark of an idle channel is noted and does
//! not make it active. While *all* that have not ended are idle, the combined watermark is the
//! largest that any channel has had, so that the order in which they fell idle or ended does not
//! matter. The end of a channel alone is not the end of time: idle ones may go on. A channel that
//! becomes active again with a watermark behind the combined one stops it until it has caught up:
//! what it delivers between the two must not be late.
//!
//! The minimum is the root of a tournament tree, so that a watermark costs the logarithm of the
//! number of channels: a keyed task of a large job has one channel per shard, a source task may
//! read thousands of splits.
//!
//! Invariant: the combined watermark never goes back.
//! Not here: where the watermarks come from (`time/strategy.rs`).

use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME};

/// Combines the watermarks of a fixed or growing set of channels (or splits), numbered from 0.
#[derive(Debug, Clone)]
pub struct WatermarkCombiner {
    channels: Vec<Channel>,
    /// `tree[leaf_count + i]` is what channel `i` holds the minimum at: its watermark while it is
    /// active, the maximum otherwise; `tree[i]` is the minimum of `tree[2 * i]` and its sibling.
    tree: Vec<i64>,
    active_count: usize,
    idle_count: usize,
    combined_ms: i64,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    watermark_ms: i64,
    state: ChannelState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChannelState {
    Active,
    Idle,
    Ended,
}

impl WatermarkCombiner {
    /// A combiner of `channel_count` channels, all active and without a watermark.
    pub fn new(channel_count: usize) -> Self {
        let leaf_count = channel_count.next_power_of_two();
        let mut combiner = Self {
            channels: Vec::with_capacity(channel_count),
            tree: vec![MAX_WATERMARK; 2 * leaf_count],
            active_count: 0,
            idle_count: 0,
            combined_ms: NO_EVENT_TIME,
        };
        for _ in 0..channel_count {
            combiner.add();
        }
        combiner
    }

    /// Adds a channel, active and without a watermark; answers its number.
    pub fn add(&mut self) -> usize {
        let channel = self.channels.len();
        self.channels.push(Channel { watermark_ms: NO_EVENT_TIME, state: ChannelState::Active });
        self.active_count += 1;
        if self.tree.len() < 2 * self.channels.len() {
            self.grow();
        }
        self.set_leaf(channel);
        channel
    }

    /// Channel `channel` expects no record at or before `watermark_ms` any more. Answers the
    /// combined watermark if that has risen.
    pub fn on_watermark(&mut self, channel: usize, watermark_ms: i64) -> Option<i64> {
        let known = &mut self.channels[channel];
        if known.state == ChannelState::Ended {
            return None;
        }
        if watermark_ms == MAX_WATERMARK {
            return self.on_end(channel);
        }
        known.watermark_ms = known.watermark_ms.max(watermark_ms);
        let state = known.state;
        self.set_state(channel, state)
    }

    /// Channel `channel` expects nothing for now. Answers the combined watermark if that has risen.
    pub fn on_idle(&mut self, channel: usize) -> Option<i64> {
        match self.channels[channel].state {
            ChannelState::Ended => None,
            ChannelState::Active | ChannelState::Idle => {
                self.set_state(channel, ChannelState::Idle)
            }
        }
    }

    /// Channel `channel` delivers again: if it was idle, it holds the combined watermark back from
    /// now on.
    #[inline]
    pub fn on_active(&mut self, channel: usize) {
        if self.channels[channel].state == ChannelState::Idle {
            let risen = self.set_state(channel, ChannelState::Active);
            assert_eq!(risen, None, "one more active channel cannot raise the minimum");
        }
    }

    /// The number of a channel that has ended stands for another one, active and without a
    /// watermark.
    pub fn reuse(&mut self, channel: usize) {
        let known = &mut self.channels[channel];
        assert_eq!(known.state, ChannelState::Ended, "channel {channel} is in use");
        known.watermark_ms = NO_EVENT_TIME;
        let risen = self.set_state(channel, ChannelState::Active);
        assert_eq!(risen, None, "one more active channel cannot raise the minimum");
    }

    /// Nothing follows in channel `channel`. Answers the combined watermark if that has risen: to
    /// [`MAX_WATERMARK`] when this was the last one.
    pub fn on_end(&mut self, channel: usize) -> Option<i64> {
        self.set_state(channel, ChannelState::Ended)
    }

    /// Whether nothing is expected for now, though not all channels have ended.
    pub fn is_idle(&self) -> bool {
        self.active_count == 0 && self.idle_count > 0
    }

    /// Whether all channels have ended.
    pub fn is_ended(&self) -> bool {
        self.active_count == 0 && self.idle_count == 0
    }

    /// The combined watermark (ms); [`NO_EVENT_TIME`] at first.
    pub fn combined_ms(&self) -> i64 {
        self.combined_ms
    }

    /// The watermark (ms) of one channel; [`NO_EVENT_TIME`] at first.
    pub fn watermark_ms(&self, channel: usize) -> i64 {
        self.channels[channel].watermark_ms
    }

    /// Whether a channel is neither idle nor ended.
    pub fn is_active(&self, channel: usize) -> bool {
        self.channels[channel].state == ChannelState::Active
    }

    /// The smallest watermark (ms) of the active channels, which may be behind the combined one;
    /// [`MAX_WATERMARK`] if none is active.
    pub fn active_min_ms(&self) -> i64 {
        self.tree[1]
    }

    /// Continues from a combined watermark (ms) that has already been sent on.
    pub fn restore(&mut self, combined_ms: i64) {
        self.combined_ms = self.combined_ms.max(combined_ms);
    }

    fn set_state(&mut self, channel: usize, state: ChannelState) -> Option<i64> {
        let before = std::mem::replace(&mut self.channels[channel].state, state);
        for (of, by) in [(before, -1), (state, 1)] {
            let count = match of {
                ChannelState::Active => &mut self.active_count,
                ChannelState::Idle => &mut self.idle_count,
                ChannelState::Ended => continue,
            };
            *count = count.checked_add_signed(by).expect("every channel is counted once");
        }
        self.set_leaf(channel);
        self.raise()
    }

    fn raise(&mut self) -> Option<i64> {
        let combined_ms = if self.is_idle() { self.max_ms() } else { self.tree[1] };
        if combined_ms <= self.combined_ms {
            return None;
        }
        self.combined_ms = combined_ms;
        Some(combined_ms)
    }

    fn max_ms(&self) -> i64 {
        self.channels.iter().map(|channel| channel.watermark_ms).max().unwrap_or(NO_EVENT_TIME)
    }

    fn set_leaf(&mut self, channel: usize) {
        let Channel { watermark_ms, state } = self.channels[channel];
        let held_at_ms = if state == ChannelState::Active { watermark_ms } else { MAX_WATERMARK };
        let mut node = self.tree.len() / 2 + channel;
        self.tree[node] = held_at_ms;
        while node > 1 {
            node /= 2;
            let min_ms = self.tree[2 * node].min(self.tree[2 * node + 1]);
            if self.tree[node] == min_ms {
                return;
            }
            self.tree[node] = min_ms;
        }
    }

    fn grow(&mut self) {
        let leaf_count = self.channels.len().next_power_of_two();
        self.tree = vec![MAX_WATERMARK; 2 * leaf_count];
        for channel in 0..self.channels.len() {
            self.set_leaf(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs words such as `0w90 1i 0a 1e` (channel, then watermark, idle, active or end) and
    /// collects the combined watermarks; `idle` where the combiner becomes idle.
    fn check(channel_count: usize, script: &str, expected: &str) {
        let mut combiner = WatermarkCombiner::new(channel_count);
        let mut seen = Vec::new();
        for word in script.split_whitespace() {
            let (channel, rest) = word.split_at(1);
            let channel = channel.parse().expect("a digit");
            let was_idle = combiner.is_idle();
            let risen = match rest.split_at(1) {
                ("w", ms) => combiner.on_watermark(channel, ms.parse().expect("a number")),
                ("i", _) => combiner.on_idle(channel),
                ("e", _) => combiner.on_end(channel),
                _ => {
                    combiner.on_active(channel);
                    None
                }
            };
            let show =
                |ms: i64| if ms == MAX_WATERMARK { "max".to_string() } else { ms.to_string() };
            seen.extend(risen.map(show));
            if combiner.is_idle() && !was_idle {
                seen.push("idle".to_string());
            }
        }
        assert_eq!(seen.join(" "), expected, "of {script}");
    }

    #[test]
    fn nothing_until_every_channel_has_one() {
        check(2, "0w5 0w9 1w3 1w20", "3 9");
    }

    #[test]
    fn an_idle_channel_holds_nothing_back() {
        check(2, "0w5 1i 0w7 1a 1w6 0w9 1w8", "5 7 8");
    }

    #[test]
    fn the_order_of_falling_idle_does_not_matter() {
        check(2, "0w10 1w5 0i 1i", "5 10 idle");
        check(2, "0w10 1w5 1i 0i", "5 10 idle");
    }

    #[test]
    fn a_watermark_of_an_idle_channel_is_noted() {
        check(2, "0w5 1i 1w20 0w30 0i 1w40", "5 30 idle 40");
    }

    #[test]
    fn a_channel_that_comes_back_behind_stops_the_others_until_it_caught_up() {
        check(2, "0w5 1i 0w100 1a 1w50 0w200 1w120", "5 100 120");
    }

    #[test]
    fn the_last_end_is_the_end_of_time() {
        check(2, "0w5 0e 1w7 1e", "7 max");
        check(1, "0e", "max");
    }

    #[test]
    fn a_bounded_input_does_not_end_the_time_of_an_idle_one() {
        check(2, "0w5 1w6 1i 0w9223372036854775807 0e", "5 6 idle");
    }

    #[test]
    fn what_an_ended_channel_reached_counts_when_the_others_are_idle() {
        check(2, "1w6 1i 0w100 0e", "100 idle");
        check(2, "0w100 1w6 0e 1i", "6 100 idle");
        check(2, "0w100 1w6 1i 0e", "6 100 idle");
        check(3, "0w100 1w6 2w7 0e 1i 2i 1a 1w90 2e 1w120", "6 7 100 idle 120");
    }

    #[test]
    fn channels_can_be_added() {
        let mut combiner = WatermarkCombiner::new(0);
        assert!(combiner.is_ended());
        for i in 0..100 {
            assert_eq!(combiner.add(), i);
        }
        for i in 0..99 {
            assert_eq!(combiner.on_watermark(i, 1000 + i as i64), None);
        }
        assert_eq!(combiner.on_watermark(99, 5000), Some(1000));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Watermark(i64),
        Idle,
        Active,
        End,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (-50_i64..50).prop_map(Step::Watermark),
            2 => Just(Step::Idle),
            1 => Just(Step::Active),
            1 => Just(Step::End),
        ]
    }

    proptest! {
        /// The combined watermark is the largest value so far of the minimum over active channels,
        /// or of the maximum over all if none is active and some are idle.
        #[test]
        fn agrees_with_the_definition(
            channel_count in 1_usize..9,
            steps in prop::collection::vec((0_usize..9, step()), 0..200),
        ) {
            let mut combiner = WatermarkCombiner::new(channel_count);
            let mut channels = vec![(i64::MIN, 'a'); channel_count];
            let mut combined = i64::MIN;
            for (channel, step) in steps {
                let channel = channel % channel_count;
                if channels[channel].1 == 'e' {
                    continue;
                }
                let risen = match step {
                    Step::Watermark(ms) => {
                        channels[channel].0 = channels[channel].0.max(ms);
                        combiner.on_watermark(channel, ms)
                    }
                    Step::Idle => {
                        channels[channel].1 = 'i';
                        combiner.on_idle(channel)
                    }
                    Step::Active => {
                        channels[channel].1 = 'a';
                        combiner.on_active(channel);
                        None
                    }
                    Step::End => {
                        channels[channel].1 = 'e';
                        combiner.on_end(channel)
                    }
                };
                let of = |state| channels.iter().filter(move |c| c.1 == state).map(|c| c.0);
                let all_max = channels.iter().map(|channel| channel.0).max();
                let idle_max = of('i').next().and(all_max);
                let now = of('a').min().or(idle_max).unwrap_or(i64::MAX);
                prop_assert_eq!(risen, (now > combined).then_some(now));
                combined = combined.max(now);
                prop_assert_eq!(combiner.combined_ms(), combined);
                let is_idle = of('a').next().is_none() && of('i').next().is_some();
                prop_assert_eq!(combiner.is_idle(), is_idle);
            }
        }
    }
}
